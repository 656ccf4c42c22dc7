# Copyright 2026 The tcm_hf authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Training of TCM with the Trainer of transformers, or with bare accelerate: what both ways share.

Learning rates by module, learning-rate schedules, averaged weights, checkpoints, evaluation that streams polygons, and exact
training on several processes. `examples/train_text_detection.py` and `examples/train_text_detection_no_trainer.py` show both ways.
"""

import contextlib
import json
import logging
import math
import os
import time
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from safetensors import safe_open
from torch.utils.data import DataLoader
from transformers import EvalPrediction, PreTrainedModel, Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, PredictionOutput, speed_metrics
from transformers.utils import SAFE_WEIGHTS_NAME

from ..model.image_processing_tcm import TCMImageProcessor
from ..model.model_card import write_model_card
from ..model.pipeline_text_detection import TextDetectionPipeline
from .arguments import TCMTrainingArguments, bf16_is_supported, complete_arguments
from .checkpoint import (
    CheckpointError,
    check_checkpoint,
    find_damage,
    last_complete_checkpoint,
    recover,
    resuming,
    rotate_checkpoints,
    run_lock,
    staged_checkpoint,
    staged_files,
)
from .data import TrainingSamples, TrainingStream, to_records, to_train_dataset
from .distributed import freeze_batch_norm, synchronize_batch_norm, use_joint_loss
from .ema import (
    TRAINING_WEIGHTS_NAME,
    EMACallback,
    ExponentialMovingAverage,
    load_training_weights,
    save_training_weights,
)
from .evaluation import (
    build_evaluator,
    check_metric,
    detect_records,
    evaluate_records,
    mean_figures,
    score_records,
)
from .loader import EpochSampler, build_train_dataloader
from .optimizer import (
    IMAGE_ENCODER_MULTIPLIER,
    IMAGE_ENCODER_PREFIX,
    OPTIMIZERS,
    build_scheduler,
    parameter_groups,
    polynomial_lr,
)


logger = logging.getLogger(__name__)


# ---------------------------------------------------------------------------------------- the Trainer


class _RunCallback(TrainerCallback):
    """Tells the data set its epoch, and logs with every checkpoint, so that a resumed run's log is the unbroken one's."""

    def __init__(self, trainer: "TCMTrainer"):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        # The stored path may lead to another run's directory; a run's own checkpoints lie in its own.
        if state.best_global_step:
            best = os.path.join(args.output_dir, f"{PREFIX_CHECKPOINT_DIR}-{state.best_global_step}")
            state.best_model_checkpoint = best if os.path.isdir(best) else None

    def on_epoch_begin(self, args, state, control, **kwargs):
        dataset = self.trainer.train_dataset
        if dataset is not None and not isinstance(dataset, torch.utils.data.IterableDataset):
            dataset.set_epoch(int(state.epoch + 1e-6))

    def on_step_end(self, args, state, control, **kwargs):
        if control.should_save:
            control.should_log = True
        return control

    on_epoch_end = on_step_end


class TCMTrainer(Trainer):
    """
    Trainer of [`TCMForTextDetection`].

    - every term of the loss is logged;
    - the image encoder learns at a tenth of the rate, see [`TCMTrainingArguments`] and `parameter_groups`;
    - evaluation takes a list of [`TextRecord`] and gives `eval_hmean`, `eval_precision` and `eval_recall`;
    - weights are averaged: evaluation, `model.safetensors` of each checkpoint and the final model have the average,
      `training_weights.safetensors` of a checkpoint has what training goes on with;
    - a checkpoint appears when it is complete, with the digests of its files; a damaged one is passed over or refused;
    - saved and uploaded models come with the code that loads them where this package is not installed;
    - a run on several processes is the run of one with the joint batch (but for dropout's random numbers).

    Args:
        model ([`TCMForTextDetection`]): the model; or give `model_init`.
        args ([`TCMTrainingArguments`] or [`~transformers.TrainingArguments`], *optional*):
            The settings. Plain ones are kept as they are; what only the former has is set to its defaults.
        train_dataset (*optional*):
            Training samples: [`TextDetectionDataset`], [`StreamingTextDetectionDataset`], or a data set whose items have
            `pixel_values` and `labels`. Also what they are made from: a list of [`TextRecord`], or a list, a `datasets.Dataset`
            or a stream of rows with `image` and `polygons`, which are augmented with the defaults.
        eval_dataset (*optional*): images to measure on: records or rows, as above, or a `dict` of such.
        processing_class ([`TCMImageProcessor`], *optional*):
            Needed for evaluation, and for training on records and rows; saved with the model.
        compute_metrics (`Callable`, *optional*):
            Further figures: is given an `EvalPrediction` whose `predictions` are dicts of `polygons` and `scores`, and whose
            `label_ids` are dicts of `polygons` and `ignore`.
        kwargs: see [`~transformers.Trainer`].

    Raises:
        ValueError: if something is given that cannot be used; the message says what to pass.
    """

    args: TCMTrainingArguments
    model: PreTrainedModel
    train_dataset: TrainingSamples | TrainingStream | None

    def __init__(self, model=None, args: TrainingArguments | None = None, **kwargs):
        settings = TCMTrainingArguments(output_dir="tmp_trainer") if args is None else complete_arguments(args)
        for name in ("compute_loss_func", "preprocess_logits_for_metrics"):
            if kwargs.get(name) is not None:
                raise ValueError(
                    f"`{name}` has no effect here: the detector has its own loss and decoding; leave it out"
                )
        if settings.label_smoothing_factor:
            raise ValueError("`label_smoothing_factor` has no effect here: labels are maps; leave it out")
        if kwargs.get("data_collator") is None:
            from ..data.collate import text_detection_collate

            kwargs["data_collator"] = text_detection_collate
        self._staging: str | None = None
        super().__init__(model=model, args=settings, **kwargs)
        if self.is_fsdp_enabled:
            raise ValueError(
                "the Trainer does not split weights (FSDP): train with `examples/train_text_detection_no_trainer.py`, which "
                "does, or launch with `examples/accelerate/ddp.yaml`"
            )
        if self.is_deepspeed_enabled and self.args.ema_decay:
            raise ValueError("averaged weights need whole models: set `ema_decay=0` with DeepSpeed")
        self._term_sums: dict[str, torch.Tensor] = {}
        self._term_count = 0
        # What the model card should say that the trainer does not know: `start`, `dataset`, `num_photos`, ...
        self.card_facts: dict = {}
        self.ema_callback = EMACallback(self.args.ema_decay) if self.args.ema_decay else None
        if self.train_dataset is not None:
            self.train_dataset = to_train_dataset(
                self.train_dataset,
                self.model.config,
                self.processing_class,
                seed=self.args.seed if self.args.data_seed is None else self.args.data_seed,
                total_batch_size=settings.train_batch_size
                * settings.gradient_accumulation_steps
                * settings.world_size,
            )
        if self.eval_dataset is not None:
            self.eval_dataset = self._to_measure_on(self.eval_dataset)
        self.add_callback(_RunCallback(self))
        if self.ema_callback is not None:
            self.add_callback(self.ema_callback)
        if self.model_init is None:
            self.model = self.model_wrapped = self._adapt(self.model)

    def _adapt(self, model):
        """What a run's settings change about the model."""
        if self.args.freeze_batch_norm:
            freeze_batch_norm(model)
        if self.args.world_size > 1:
            if self.args.joint_loss:
                use_joint_loss(model)
            if self.args.sync_batch_norm and not self.args.freeze_batch_norm:
                model = synchronize_batch_norm(model, self.args.device)
        return model

    def call_model_init(self, trial=None):
        return self._adapt(super().call_model_init(trial))

    @property
    def _run_dir(self) -> str:
        assert self.args.output_dir is not None, "the arguments have a default"
        return self.args.output_dir

    # ------------------------------------------------------------------ optimizer

    def create_optimizer(self, model=None):
        if self.optimizer is None:
            plain = self.model if model is None else model
            given: str | dict = self.args.lr_multipliers or {}
            multipliers = json.loads(given) if isinstance(given, str) else dict(given)
            factor = self.args.image_encoder_lr_multiplier
            multipliers.setdefault(IMAGE_ENCODER_PREFIX, IMAGE_ENCODER_MULTIPLIER if factor is None else factor)
            args = self.args
            groups = parameter_groups(plain, args.learning_rate, args.weight_decay, multipliers, args.no_decay)
            chosen = self.optimizer_cls_and_kwargs
            if chosen is None and args.optimizer is not None:
                chosen = OPTIMIZERS[args.optimizer], {"lr": args.learning_rate}
            optimizer_class, settings = chosen or self.get_optimizer_cls_and_kwargs(args, plain)
            self.optimizer = optimizer_class(groups, **settings)
        return super().create_optimizer(model)

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        if self.lr_scheduler is None:
            optimizer = self.optimizer if optimizer is None else optimizer
            settings = self.args.lr_scheduler_kwargs or {}
            assert optimizer is not None and isinstance(settings, dict), "made, and parsed, before"
            settings = dict(settings)
            if settings.pop("by_epoch", False):
                settings["steps_per_epoch"] = self._steps_per_epoch()
            self.lr_scheduler = build_scheduler(  # type: ignore[assignment]  # the Trainer names one of many classes
                optimizer,
                self.args.lr_scheduler_type,
                num_training_steps,
                self.args.get_warmup_steps(num_training_steps),
                **settings,
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _steps_per_epoch(self) -> int:
        if self.train_dataset is None or isinstance(self.train_dataset, torch.utils.data.IterableDataset):
            raise ValueError("`by_epoch` of the schedule needs epochs, which a stream does not have")
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return math.ceil(len(self.train_dataset) / batch)

    # ------------------------------------------------------------------ data and loss

    def get_train_dataloader(self) -> DataLoader:
        if self.train_dataset is None:
            raise ValueError("training needs a `train_dataset`")
        args, workers = self.args, self.args.dataloader_num_workers
        return build_train_dataloader(
            self.train_dataset,
            self.accelerator,
            self._train_batch_size,
            seed=args.seed if args.data_seed is None else args.data_seed,
            collate_fn=self.data_collator,
            num_workers=workers,
            pin_memory=args.dataloader_pin_memory and self.accelerator.device.type == "cuda",
            persistent_workers=args.dataloader_persistent_workers and workers > 0,
            prefetch_factor=args.dataloader_prefetch_factor if workers else None,
            drop_last=args.dataloader_drop_last,
        )

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        for name, value in outputs.loss_dict.items():
            self._term_sums[name] = self._term_sums.get(name, 0) + value.detach()
        self._term_count += 1
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def log(self, logs, start_time=None):
        loss = logs.get("loss", logs.get("train_loss", 0.0))
        if not math.isfinite(float(loss)):
            # Before the checkpoint of this step, which might replace the last good one, or before the final model is saved.
            raise RuntimeError(
                f"the loss is {loss} at step {self.state.global_step}: training has diverged; lower the learning "
                "rate and go on from the last checkpoint"
            )
        if "loss" in logs and self._term_count:
            logs.update({f"loss_{name}": float(x) / self._term_count for name, x in self._term_sums.items()})
            self._term_sums, self._term_count = {}, 0
        super().log(logs, start_time)

    # ------------------------------------------------------------------ evaluation

    def _averaged(self):
        return contextlib.nullcontext() if self.ema_callback is None else self.ema_callback.applied(self.model)

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """
        Measures the averaged weights.

        Args:
            eval_dataset (`list[TextRecord]`, or a `dict` of them, *optional*, defaults to `self.eval_dataset`):
                The images; with a dictionary, its keys become part of the figures' names, and `eval_hmean`,
                `eval_precision` and `eval_recall` are the means of its entries.
            ignore_keys: without meaning here.
            metric_key_prefix (`str`, *optional*, defaults to `"eval"`): start of the figures' names.

        Returns:
            `dict[str, float]`: `eval_hmean`, `eval_precision`, `eval_recall`, `eval_num_images` and the time taken.
        """
        records = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(records, str) and isinstance(self.eval_dataset, dict):
            records = self.eval_dataset.get(records, records)
        records = self._to_measure_on(records)
        if isinstance(records, dict):
            prefixes = [f"{metric_key_prefix}_{key}" for key in records]
            parts = [self.evaluate(part, ignore_keys, prefix) for part, prefix in zip(records.values(), prefixes)]
            means = mean_figures(parts, prefixes, metric_key_prefix)
            self.log(means)
            return {name: value for part in (*parts, means) for name, value in part.items()}
        start = time.time()
        settings = self._evaluation_settings()
        with self._averaged():
            if self.compute_metrics is None:
                figures = evaluate_records(self.model, self.processing_class, records, **settings)
            else:
                figures, _ = self._detect_and_score(records, **settings)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}
        metrics.update(speed_metrics(metric_key_prefix, start, num_samples=len(records), num_steps=len(records)))
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def predict(self, test_dataset, ignore_keys=None, metric_key_prefix: str = "test") -> PredictionOutput:
        """
        Detects text with the averaged weights, and measures it.

        Args:
            test_dataset: images with annotation, as `eval_dataset`; for images without there is the pipeline.
            ignore_keys: without meaning here.
            metric_key_prefix (`str`, *optional*, defaults to `"test"`): start of the figures' names.

        Returns:
            `PredictionOutput`: `predictions`, a list of dicts with `polygons` and `scores`; `label_ids`, a list of dicts with
            `polygons` and `ignore`; and `metrics`, named as those of `evaluate`.
        """
        records = self._to_measure_on(test_dataset, "test_dataset")
        if isinstance(records, dict):
            raise ValueError(f"`test_dataset` is a dict of {', '.join(map(repr, records))}: pass one of its entries")
        start = time.time()
        with self._averaged():
            figures, found = self._detect_and_score(records, **self._evaluation_settings())
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}
        metrics.update(speed_metrics(metric_key_prefix, start, num_samples=len(records), num_steps=len(records)))
        self.control = self.callback_handler.on_predict(self.args, self.state, self.control, metrics)
        truth = self._annotation(records)
        return PredictionOutput(predictions=found, label_ids=truth, metrics=metrics)  # type: ignore[arg-type]  # no arrays

    def _evaluation_settings(self) -> dict:
        return {
            "protocol": self.args.protocol,
            "shape": self.args.eval_shape,
            "accelerator": self.accelerator,
            "num_workers": self.args.dataloader_num_workers,
            "progress": not self.args.disable_tqdm,
        }

    @staticmethod
    def _annotation(records) -> list[dict]:
        return [{"polygons": record.polygons, "ignore": record.ignore} for record in records]

    def _detect_and_score(self, records, protocol, **settings) -> tuple[dict, list[dict]]:
        found = detect_records(self.model, self.processing_class, records, **settings)
        figures = score_records(found, records, protocol)
        if self.compute_metrics is not None:
            truth = self._annotation(records)
            pair = EvalPrediction(predictions=found, label_ids=truth)  # type: ignore[arg-type]  # no arrays
            figures.update(self.compute_metrics(pair))
        return figures, found

    def _to_measure_on(self, data, name: str = "eval_dataset"):
        """Records, or a dict of them."""
        if data is None:
            raise ValueError(f"evaluation needs `{name}`, a list of TextRecord or rows with `image` and `polygons`")
        if not isinstance(self.processing_class, TCMImageProcessor):
            raise ValueError(
                "evaluation needs a `processing_class`, such as `TCMImageProcessor.from_pretrained(...)`, which prepares "
                "images and decodes maps"
            )
        detector = getattr(self.model.config, "detector", None)
        if self.processing_class.detector != detector:
            raise ValueError(
                f"`processing_class` decodes maps of the detector {self.processing_class.detector!r}, but the model has "
                f"{detector!r}: pass `TCMImageProcessor(detector={detector!r})`"
            )
        if not isinstance(data, dict):
            return to_records(data, name)
        if not data:
            raise ValueError(f"`{name}` is an empty dict: there is nothing to measure on")
        return {key: to_records(part, f"{name}[{key!r}]") for key, part in data.items()}

    def check_arguments(self) -> None:
        """
        Looks at what training will need only after hours; `train` does so at its start.

        Raises:
            ValueError: if `metric_for_best_model` is not measured.
        """
        metric = self.args.metric_for_best_model
        if metric is None or str(getattr(self.args.eval_strategy, "value", self.args.eval_strategy)) == "no":
            return
        if self.compute_metrics is None:
            check_metric(metric, self.eval_dataset if isinstance(self.eval_dataset, dict) else ())

    def hyperparameter_search(
        self,
        hp_space=None,
        compute_objective=None,
        n_trials=20,
        direction=None,
        *args,
        **kwargs,
    ):
        """As the Trainer's; by default the trial of the greatest `eval_hmean` is sought."""
        if compute_objective is None:
            if direction not in (None, "maximize"):
                raise ValueError(
                    f"hmean is to be maximized, not {direction!r}d; give a `compute_objective` of your own"
                )
            compute_objective, direction = (lambda metrics: metrics["eval_hmean"]), "maximize"
        direction = direction or "minimize"
        return super().hyperparameter_search(hp_space, compute_objective, n_trials, direction, *args, **kwargs)

    # ------------------------------------------------------------------ checkpoints and card

    def create_model_card(self, *ignored: Any, **kwargs: Any) -> None:
        """
        Writes the card of `model_card.write_model_card`, with `self.card_facts` and the last measured figures. A Trainer
        that has not trained knows nothing to write, and keeps a card that is there.
        """
        if not self.is_world_process_zero():
            return
        if not self.state.global_step and os.path.isfile(os.path.join(self._run_dir, "README.md")):
            return
        args, facts = self.args, self.card_facts
        measured = [entry for entry in self.state.log_history if "eval_hmean" in entry]
        training = {
            "images": facts.get("num_photos"),
            "sources": facts.get("sources"),
            "rendered words": {True: "mixed in", False: "none", None: None}[facts.get("rendered_words")],
            "steps": self.state.global_step,
            "batch": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
            "learning rate": f"{args.learning_rate:g}, {str(getattr(args.lr_scheduler_type, 'value', args.lr_scheduler_type))}",
            "precision": "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32",
            "averaged weights": f"decay {args.ema_decay:g}" if args.ema_decay else "none",
            "seed": args.seed,
        }
        write_model_card(
            self._run_dir,
            self.model.config,
            training=training,
            metrics=facts.get("metrics", measured[-1] if measured else None),
            protocol=args.protocol,
            start=facts.get("start"),
            dataset=facts.get("dataset"),
            # The full name: without a user in the argument it is the account's own.
            repository=getattr(self, "hub_model_id", None) or args.hub_model_id,
        )

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        running = self.ema_callback is not None and self.ema_callback.average is not None
        target = self._run_dir if output_dir is None else output_dir
        checkpoint = os.path.basename(os.path.normpath(target)).startswith(PREFIX_CHECKPOINT_DIR)
        if running and checkpoint and self.args.should_save:
            # First, so that no checkpoint lacks them that has the rest.
            os.makedirs(target, exist_ok=True)
            save_training_weights(self.model, target)
        with self._averaged():
            if checkpoint or self.is_deepspeed_enabled or not self.args.should_save:
                return super().save_model(output_dir, _internal_call=_internal_call)
            with staged_files(target) as folder:
                super().save_model(folder, _internal_call=True)
                if self.processing_class is not None:
                    # A model to use, and to upload, also has the pipeline's code and tells where it is.
                    TextDetectionPipeline(
                        model=self.accelerator.unwrap_model(self.model),
                        image_processor=self.processing_class,
                        task="text-detection",
                        device=self.args.device,
                    ).save_pretrained(folder)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def _get_output_dir(self, trial):
        return super()._get_output_dir(trial) if self._staging is None else self._staging

    def _save_checkpoint(self, model, trial):
        run_dir, step = self._get_output_dir(trial), self.state.global_step
        with staged_checkpoint(self.accelerator, run_dir, step, writes=self.args.should_save) as directory:
            self._staging = os.path.dirname(directory)
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._staging = None
            final = os.path.join(run_dir, os.path.basename(directory))
            if self.state.best_global_step == step:
                self.state.best_model_checkpoint = final
            if self.args.should_save:
                self.state.save_to_json(os.path.join(directory, TRAINER_STATE_NAME))
        if self.args.push_to_hub:
            self._push_from_checkpoint(final)
        if self.args.should_save:
            rotate_checkpoints(run_dir, self.args.save_total_limit, self.state.best_global_step)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self._staging is None:  # otherwise it is not complete yet
            super()._push_from_checkpoint(checkpoint_folder)

    def train(self, resume_from_checkpoint: str | bool | None = None, trial=None, ignore_keys_for_eval=None):
        """
        Trains, see [`~transformers.Trainer.train`].

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*):
                A checkpoint, which must be intact; `"last"` for the newest one that is, or the start where there is none; or
                `True`, which is an error where there is none.
            trial: a trial of a hyperparameter search.
            ignore_keys_for_eval: without meaning here.

        Returns:
            `TrainOutput`

        Raises:
            CheckpointError: if the checkpoint cannot be resumed, or one cannot be written.
            BlockingIOError: if another process trains into the same directory.
            ValueError: if `metric_for_best_model` is not measured.
        """
        self.check_arguments()
        run_dir = self._run_dir
        if trial is not None and self.hp_search_backend is not None:
            run_dir = self._get_output_dir(trial)
        with contextlib.ExitStack() as stack:
            if self.args.should_save:
                stack.enter_context(run_lock(run_dir))
                recover(run_dir)
            checkpoint = self._checkpoint_to_resume(resume_from_checkpoint)
            return super().train(
                resume_from_checkpoint=checkpoint, trial=trial, ignore_keys_for_eval=ignore_keys_for_eval
            )

    def _checkpoint_to_resume(self, wanted: str | bool | None) -> str | None:
        if not wanted:
            return None
        chosen: list[str | None] = [None, None]
        if self.is_world_process_zero():  # looked at by one process, for all
            try:
                if wanted is True or str(wanted).lower() in ("last", "true"):
                    chosen[0] = last_complete_checkpoint(self._run_dir)
                    if wanted is True and chosen[0] is None:
                        raise CheckpointError(f"there is no intact checkpoint in {self._run_dir}")
                else:
                    chosen[0] = os.fspath(wanted)
                    check_checkpoint(wanted)
            except CheckpointError as error:
                chosen[1] = str(error)
        checkpoint, problem = broadcast_object_list(chosen)
        if problem is not None:
            raise CheckpointError(problem)
        if checkpoint is not None:
            with resuming(checkpoint, TRAINER_STATE_NAME):
                state = TrainerState.load_from_json(os.path.join(checkpoint, TRAINER_STATE_NAME))
                if not (isinstance(state.global_step, int) and isinstance(state.log_history, list)):
                    raise ValueError("its fields have the wrong types")
        if self.is_world_process_zero():
            logger.info("resuming from %s", checkpoint or "the start: there is no intact checkpoint")
        return checkpoint

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        plain = self.model if model is None else model
        path = os.path.join(resume_from_checkpoint, SAFE_WEIGHTS_NAME)
        with resuming(resume_from_checkpoint, SAFE_WEIGHTS_NAME):
            if os.path.isfile(path) and hasattr(plain, "config"):
                # Others would be passed over with a warning.
                with safe_open(path, framework="pt") as file:
                    differing = sorted(set(file.keys()) ^ set(plain.state_dict()))
                if differing:
                    raise ValueError(f"it is that of another model: {differing[:3]} and others differ")
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        if os.path.isfile(os.path.join(resume_from_checkpoint, TRAINING_WEIGHTS_NAME)):
            with resuming(resume_from_checkpoint, TRAINING_WEIGHTS_NAME):
                if self.ema_callback is not None:
                    self.ema_callback.start(plain)
                load_training_weights(plain, resume_from_checkpoint)
        elif self.ema_callback is not None:
            logger.warning("%s has no averaged weights apart: the average starts anew", resume_from_checkpoint)

    def _load_optimizer_and_scheduler(self, checkpoint):
        with resuming(checkpoint, "optimizer or scheduler"):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_scaler(self, checkpoint):
        if getattr(self.accelerator, "scaler", None) is not None:
            with resuming(checkpoint, "scaler"):
                super()._load_scaler(checkpoint)

    def _load_rng_state(self, checkpoint):
        with resuming(checkpoint, "random state"):
            super()._load_rng_state(checkpoint)

    def _load_best_model(self):
        damage = find_damage(str(self.state.best_model_checkpoint))
        if damage is None:
            return super()._load_best_model()
        logger.warning(
            "the best checkpoint %s is damaged (%s): the last weights are kept",
            self.state.best_model_checkpoint,
            damage,
        )
        self.state.best_model_checkpoint = None


__all__ = [
    "IMAGE_ENCODER_MULTIPLIER",
    "IMAGE_ENCODER_PREFIX",
    "CheckpointError",
    "EMACallback",
    "EpochSampler",
    "ExponentialMovingAverage",
    "TCMTrainer",
    "TCMTrainingArguments",
    "bf16_is_supported",
    "build_evaluator",
    "build_scheduler",
    "build_train_dataloader",
    "check_checkpoint",
    "detect_records",
    "evaluate_records",
    "freeze_batch_norm",
    "last_complete_checkpoint",
    "parameter_groups",
    "polynomial_lr",
    "synchronize_batch_norm",
    "use_joint_loss",
]
