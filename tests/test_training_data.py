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

"""The Trainer's API, given what Trainers are given: it works, or says what to pass before it trains."""

import logging
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import tiny_config
from toy_photos import toy_picture, toy_quad, toy_records
from transformers import TrainerCallback, TrainingArguments

from tcm_hf import TCMForTextDetection, TCMImageProcessor
from tcm_hf.data.augment import TextAugmentation
from tcm_hf.data.collate import TextDetectionDataset
from tcm_hf.targets import build_db_targets
from tcm_hf.training.data import to_records, to_train_dataset
from tcm_hf.training.trainer import TCMTrainer, TCMTrainingArguments


def tiny_model():
    torch.manual_seed(0)
    return TCMForTextDetection(tiny_config())


def processor(**settings) -> TCMImageProcessor:
    return TCMImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}, **settings)


def settings(tmp_path, kind=TCMTrainingArguments, **changes):
    changes = {
        "output_dir": str(tmp_path),
        "per_device_train_batch_size": 2,
        "max_steps": 2,
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        **changes,
    }
    return kind(**changes)


def trainer_of(tmp_path, model=None, args=None, **kwargs):
    model = tiny_model() if model is None and "model_init" not in kwargs else model
    kwargs = {"processing_class": processor(), **kwargs}
    return TCMTrainer(model=model, args=settings(tmp_path) if args is None else args, **kwargs)


def rows(count=4):
    return [
        {"image": toy_picture(n), "polygons": [toy_quad(n).tolist()], "ignore": [False]} for n in range(1, count + 1)
    ]


def samples(count=4):
    return TextDetectionDataset(toy_records(count), build_db_targets, TextAugmentation(64, scale=(0.4, 0.6)))


def hub(count=4):
    datasets = pytest.importorskip("datasets")
    return datasets.Dataset.from_list(rows(count)).cast_column("image", datasets.Image())


@pytest.fixture(autouse=True)
def small_crops(monkeypatch):
    """The default of 640 pixels would take its time here."""
    from tcm_hf.training.setup import DataArguments

    defaults = DataArguments.__init__.__defaults__
    place = list(DataArguments.__dataclass_fields__).index("crop_size")
    monkeypatch.setattr(DataArguments.__init__, "__defaults__", (*defaults[:place], 64, *defaults[place + 1 :]))
    monkeypatch.setattr("tcm_hf.data.collate.TextAugmentation", lambda: TextAugmentation(64))


# ---------------------------------------------------------------------------------------- training


TRAINING = {
    "samples": samples,
    "records": lambda: toy_records(4),
    "rows": rows,
    "tuple of rows": lambda: tuple(rows()),
    "data set": hub,
    "chosen rows": lambda: hub(8).select([1, 3, 5, 7]),
    "stream": lambda: hub().to_iterable_dataset(),
    "finished samples": lambda: [samples()[n] for n in range(4)],
    "transform": lambda: hub().with_transform(transform),
}


def transform(batch):
    items = [samples()[n] for n in range(len(batch["image"]))]
    return {name: [item[name] for item in items] for name in ("pixel_values", "labels")}


@pytest.mark.parametrize("kind", TRAINING)
def test_whatever_has_pictures_and_outlines_trains(tmp_path, kind):
    trainer = trainer_of(tmp_path, train_dataset=TRAINING[kind]())
    assert torch.isfinite(torch.tensor(trainer.train().training_loss))
    assert len([entry for entry in trainer.state.log_history if "loss_probability" in entry]) == 2


@pytest.mark.parametrize("kind", ["rows", "data set", "stream", "transform"])
def test_workers_read_it_too(tmp_path, kind):
    data = {"transform": lambda: [samples()[n] for n in range(4)]}.get(kind, TRAINING[kind])()
    args = settings(tmp_path, dataloader_num_workers=1, max_steps=1)
    assert trainer_of(tmp_path, args=args, train_dataset=data).train().global_step == 1


def test_epochs_of_finished_samples_have_different_orders(tmp_path):
    order = []

    class Samples(torch.utils.data.Dataset):
        def __len__(self):
            return 12

        def __getitem__(self, index):
            order.append(index)
            return samples()[index % 4]

    data = Samples()
    trainer = trainer_of(tmp_path, args=settings(tmp_path, max_steps=12), train_dataset=data)
    order.clear()
    trainer.train()
    assert sorted(order) == sorted([*range(12)] * 2) and order[:12] != order[12:]


@pytest.mark.parametrize(
    "data, message",
    [
        (lambda: "somewhere", "is a name .*read_dataset"),
        (dict, "dict of nothing"),
        (lambda: {"train": rows()}, "dict of 'train': pass one"),
        (list, "is empty"),
        (lambda: iter(toy_records(2)), "only once"),
        (lambda: 3, "is a int"),
        (lambda: [1, 2], "has a int"),
        (lambda: [{"picture": 1}], "rows of 'picture'"),
        (lambda: [{"pixel_values": torch.zeros(3, 64, 64)}], "without `labels`"),
        (lambda: hub().rename_column("polygons", "quads"), "no column 'polygons'.*rename_column"),
        (lambda: hub().rename_column("polygons", "quads").to_iterable_dataset(), "rows of|no column"),
        (lambda: hub().with_transform(lambda batch: batch), "transform that gives no `pixel_values`"),
    ],
)
def test_what_cannot_be_trained_on_is_said_first(tmp_path, data, message):
    with pytest.raises(ValueError, match=message) as caught:
        trainer_of(tmp_path, train_dataset=data())
    assert "\n" not in str(caught.value)


def test_rows_need_a_processor_and_samples_do_not(tmp_path):
    with pytest.raises(ValueError, match="processing_class"):
        trainer_of(tmp_path, train_dataset=rows(), processing_class=None)
    trainer_of(tmp_path, train_dataset=samples(), processing_class=None).train()
    with pytest.raises(ValueError, match="needs a `train_dataset`"):
        trainer_of(tmp_path).train()
    with pytest.raises(ValueError, match="max_steps"):
        trainer_of(tmp_path, args=settings(tmp_path, max_steps=-1), train_dataset=hub().to_iterable_dataset())


def test_rows_are_the_samples_of_the_script():
    config, normalise = tiny_config(), processor(image_mean=[0.1, 0.2, 0.3])
    one, two = (to_train_dataset(data, config, normalise, seed=3, total_batch_size=3) for data in (rows(), hub()))
    assert len(one) == len(two) == 6  # filled up to whole batches
    assert np.allclose(one.image_mean, [25.5, 51, 76.5])
    for index in range(4):
        assert torch.equal(one[index]["pixel_values"], two[index]["pixel_values"])
        assert torch.equal(one[index]["labels"]["shrink_map"], two[index]["labels"]["shrink_map"])


# ---------------------------------------------------------------------------------------- settings


def test_plain_arguments_are_kept_and_completed(tmp_path):
    args = settings(tmp_path, TrainingArguments, learning_rate=3e-4)
    trainer = trainer_of(tmp_path, args=args, train_dataset=samples(), eval_dataset=toy_records(2))
    assert trainer.args is args and args.learning_rate == 3e-4 and args.ema_decay == 0.999
    trainer.train()
    rates = {group["name"].split()[0]: group["initial_lr"] for group in trainer.optimizer.param_groups}
    assert rates["model.vision_tower"] == pytest.approx(3e-5) and rates["rest"] == pytest.approx(3e-4)
    assert trainer.evaluate()["eval_num_images"] == 2
    assert TCMTrainer(model=tiny_model()).args.lr_scheduler_type == "polynomial"


@pytest.mark.parametrize("metric", ["loss", "f1", "eval_accuracy", "far_recall"])
def test_a_metric_that_is_not_measured_is_named_before_training(tmp_path, metric):
    strategy = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1}
    args = settings(tmp_path, metric_for_best_model=metric, **strategy)
    trainer = trainer_of(tmp_path, args=args, train_dataset=samples(), eval_dataset=toy_records(2))
    with pytest.raises(ValueError, match=f"is '{metric}', which is not measured; there are hmean, precision, recall$"):
        trainer.train()
    assert trainer.state.global_step == 0
    sets = {"near": toy_records(2), "far": toy_records(1)}
    trainer = trainer_of(tmp_path, args=args, train_dataset=samples(), eval_dataset=sets)
    if metric == "far_recall":
        trainer.check_arguments()
    else:
        with pytest.raises(ValueError, match="there are .*near_precision.*far_hmean"):
            trainer.train()


@pytest.mark.parametrize("metric", ["recall", "eval_precision"])
def test_another_figure_chooses_the_best_checkpoint(tmp_path, metric):
    strategy = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1}
    args = settings(tmp_path, metric_for_best_model=metric, **strategy)
    trainer = trainer_of(tmp_path, args=args, train_dataset=samples(), eval_dataset=rows(2))
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "eval_hmean" in entry]
    assert trainer.state.best_metric == max(entry[f"eval_{metric.removeprefix('eval_')}"] for entry in log)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"compute_loss_func": print}, "compute_loss_func"),
        ({"preprocess_logits_for_metrics": print}, "preprocess_logits_for_metrics"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor"),
    ],
)
def test_what_would_have_no_effect_is_refused(tmp_path, options, message):
    args = settings(tmp_path, **{k: v for k, v in options.items() if k == "label_smoothing_factor"})
    kwargs = {k: v for k, v in options.items() if k != "label_smoothing_factor"}
    with pytest.raises(ValueError, match=message):
        trainer_of(tmp_path, args=args, **kwargs)


def test_an_optimizer_of_ones_own_is_used(tmp_path):
    choice = (torch.optim.SGD, {"lr": 0.5, "momentum": 0.3})
    trainer = trainer_of(tmp_path, train_dataset=samples(), optimizer_cls_and_kwargs=choice)
    trainer.train()
    optimizer = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
    assert type(optimizer) is torch.optim.SGD and optimizer.param_groups[0]["momentum"] == 0.3
    model = tiny_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = trainer_of(tmp_path, model=model, train_dataset=samples(), optimizers=(optimizer, None))
    trainer.train()
    assert getattr(trainer.optimizer, "optimizer", trainer.optimizer) is optimizer


def test_models_are_made_anew_for_every_run(tmp_path):
    made = []

    def model_init():
        made.append(tiny_model())
        return made[-1]

    args = settings(tmp_path, freeze_batch_norm=True)
    trainer = trainer_of(tmp_path, args=args, model_init=model_init, train_dataset=samples())
    losses = []
    for _ in range(2):
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
        norms = [module for module in made[-1].modules() if isinstance(module, torch.nn.BatchNorm2d)]
        assert norms and not any(int(norm.num_batches_tracked) for norm in norms)  # they stayed frozen
    assert losses[0] == losses[1] and len(made) == 3


def test_hyperparameters_are_sought_for_the_greatest_hmean(tmp_path, monkeypatch):
    asked = {}

    def search(self, hp_space, compute_objective, n_trials, direction, **kwargs):
        asked.update(direction=direction, objective=compute_objective({"eval_hmean": 0.5, "eval_num_images": 500}))

    monkeypatch.setattr("transformers.Trainer.hyperparameter_search", search)
    trainer = trainer_of(tmp_path, model_init=lambda: tiny_model(), eval_dataset=toy_records(2))
    trainer.hyperparameter_search(n_trials=3)
    assert asked == {"direction": "maximize", "objective": 0.5}
    with pytest.raises(ValueError, match="to be maximized"):
        trainer.hyperparameter_search(direction="minimize")
    trainer.hyperparameter_search(compute_objective=lambda metrics: 7, direction="minimize")
    assert asked == {"direction": "minimize", "objective": 7}


# ---------------------------------------------------------------------------------------- evaluation


MEASURING = {
    "records": lambda: toy_records(3),
    "rows": lambda: rows(3),
    "generator": lambda: iter(toy_records(3)),
    "data set": lambda: hub(3),
    "stream": lambda: hub(3).to_iterable_dataset(),
}


@pytest.mark.parametrize("kind", MEASURING)
def test_whatever_has_pictures_and_outlines_is_measured(tmp_path, kind):
    expected = trainer_of(tmp_path, eval_dataset=toy_records(3)).evaluate()
    for given in (True, False):
        data = MEASURING[kind]()
        trainer = trainer_of(tmp_path, eval_dataset=data if given else None)
        figures = trainer.evaluate(*([] if given else [data]))
        for name in ("hmean", "precision", "recall", "num_images"):
            assert figures[f"eval_{name}"] == expected[f"eval_{name}"]


def test_sets_have_names(tmp_path):
    trainer = trainer_of(tmp_path, eval_dataset={"near": toy_records(2), "far": hub(1)})
    figures = trainer.evaluate()
    assert {"eval_near_hmean", "eval_far_hmean", "eval_hmean"} <= set(figures)
    assert trainer.evaluate("far")["eval_num_images"] == 1
    with pytest.raises(ValueError, match="is a name"):
        trainer.evaluate("else")


@pytest.mark.parametrize(
    "data, message",
    [
        (lambda: {}, "empty dict"),
        (lambda: [], "no images to evaluate on"),
        (lambda: {"a": toy_records(1), "b": []}, r"eval_dataset\['b'\]` is empty"),
        (lambda: "somewhere", "is a name"),
        (samples, "pass the records"),
        (lambda: [toy_picture(1)], "has a Image"),
        (lambda: hub().remove_columns("polygons"), "no column 'polygons'"),
        (lambda: hub().with_transform(transform), "has a transform"),
        (lambda: 5, "is a int"),
    ],
)
def test_what_cannot_be_measured_is_said_first(tmp_path, data, message):
    with pytest.raises(ValueError, match=message) as caught:
        trainer_of(tmp_path, eval_dataset=data())
    assert "\n" not in str(caught.value)
    if data().__class__ is not dict:
        with pytest.raises(ValueError, match=message.replace("eval_dataset", ".*")):
            trainer_of(tmp_path).predict(data())


def test_evaluation_needs_pictures_and_their_processor(tmp_path):
    with pytest.raises(ValueError, match="needs `eval_dataset`"):
        trainer_of(tmp_path).evaluate()
    with pytest.raises(ValueError, match="processing_class"):
        trainer_of(tmp_path, processing_class=None).evaluate(toy_records(1))
    with pytest.raises(ValueError, match="'pan', but the model has 'db'"):
        trainer_of(tmp_path, processing_class=processor(detector="pan"), eval_dataset=toy_records(1))
    with pytest.raises(ValueError, match="eval_dataset"):
        trainer_of(tmp_path, args=settings(tmp_path, eval_strategy="steps", eval_steps=1))


def test_prediction_gives_outlines_and_figures(tmp_path):
    predicted = []

    class Watch(TrainerCallback):
        def on_predict(self, args, state, control, metrics, **kwargs):
            predicted.append(metrics)

    trainer = trainer_of(tmp_path, callbacks=[Watch()])
    for data in (toy_records(3), hub(3)):
        output = trainer.predict(data)
        assert len(output.predictions) == len(output.label_ids) == 3
        for found, annotated, record in zip(output.predictions, output.label_ids, toy_records(3)):
            assert len(found["polygons"]) == len(found["scores"])
            assert np.allclose(annotated["polygons"][0], record.polygons[0]) and annotated["ignore"] == [False]
        expected = trainer.evaluate(data)
        assert output.metrics["test_hmean"] == expected["eval_hmean"] and output.metrics["test_num_images"] == 3
    assert len(predicted) == 2
    with pytest.raises(ValueError, match="pass one of its entries"):
        trainer.predict({"a": toy_records(1)})


def test_figures_of_ones_own_are_added(tmp_path):
    def count(prediction):
        assert len(prediction.predictions) == len(prediction.label_ids)
        return {"words": sum(len(found["polygons"]) for found in prediction.label_ids)}

    strategy = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1}
    args = settings(tmp_path, metric_for_best_model="words", **strategy)
    trainer = trainer_of(
        tmp_path, args=args, train_dataset=samples(), eval_dataset=toy_records(3), compute_metrics=count
    )
    trainer.train()
    assert trainer.state.best_metric == 3 and trainer.evaluate()["eval_words"] == 3
    assert trainer.predict(toy_records(2)).metrics["test_words"] == 2


def test_a_list_of_records_is_not_copied():
    records = toy_records(2)
    assert to_records(records) is records


# ---------------------------------------------------------------------------------------- card and upload


def test_a_card_that_somebody_wrote_or_edited_is_kept(tmp_path, caplog):
    trainer = trainer_of(tmp_path, train_dataset=samples())
    trainer.train()
    trainer.create_model_card()
    card = tmp_path / "README.md"
    written = card.read_text(encoding="utf-8")
    assert "| steps | 2 |" in written
    # As it was written, it is written anew.
    trainer.card_facts = {"start": "someone/start"}
    trainer.create_model_card()
    assert "someone/start" in card.read_text(encoding="utf-8")
    edited = card.read_text(encoding="utf-8").replace("## Training", "## Limitations\n\nNone known.\n\n## Training")
    for content in (edited, "# My own card\n", "", "\ufeff# x"):
        card.write_text(content, encoding="utf-8")
        with caplog.at_level(logging.WARNING):
            trainer.create_model_card()
        assert card.read_text(encoding="utf-8") == content and "written or edited by hand" in caplog.text
    # A Trainer that has not trained has nothing to tell.
    card.write_text(written, encoding="utf-8")
    trainer_of(tmp_path).create_model_card()
    assert card.read_text(encoding="utf-8") == written


def test_an_upload_without_token_ends_before_training(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(OSError):
        trainer_of(tmp_path, args=settings(tmp_path, push_to_hub=True), train_dataset=samples())


@pytest.mark.parametrize("strategy", ["every_save", "all_checkpoints"])
def test_what_is_uploaded_while_it_trains_is_complete(tmp_path, monkeypatch, strategy):
    import huggingface_hub

    pushed = []

    def upload_folder(self, *, repo_id, folder_path, run_as_future=False, **settings):
        names = {path.name for path in Path(folder_path).iterdir()}
        pushed.append((Path(folder_path).name, settings.get("path_in_repo"), names))
        job = Future()
        job.set_result(None)
        return job if run_as_future else None

    def create_repo(self, repo_id, **settings):
        return huggingface_hub.RepoUrl(f"https://huggingface.co/tester/{repo_id}")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
    args = settings(tmp_path, save_strategy="steps", save_steps=1, push_to_hub=True, hub_strategy=strategy)
    trainer_of(tmp_path, args=args, train_dataset=samples()).train()
    checkpoints = [entry for entry in pushed if entry[1] is not None]
    assert len(pushed) - len(checkpoints) == 2 and len(checkpoints) == (2 if strategy == "all_checkpoints" else 0)
    for name, place, names in checkpoints:
        assert name == place and {"checkpoint_manifest.json", "trainer_state.json", "optimizer.pt"} <= names
    assert all("model.safetensors" in names for _, _, names in pushed)
