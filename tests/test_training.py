"""Learning rates, schedules, averaged weights, data order and the Trainer."""

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import shared_path
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file
from tiny_model import tiny_config
from torch import nn
from toy_photos import toy_records
from transformers import CLIPConfig, CLIPModel, TrainerCallback

from tcm_hf import TCMForTextDetection, TCMImageProcessor
from tcm_hf.data.augment import TextAugmentation
from tcm_hf.data.collate import TextDetectionDataset, text_detection_collate
from tcm_hf.targets import build_db_targets
from tcm_hf.training.setup import (
    DataArguments,
    ModelArguments,
    build_train_dataset,
    choose_subset,
    load_model,
    load_processor,
    target_builder,
    without_text_side,
)
from tcm_hf.training.sources import read_sources
from tcm_hf.training.trainer import (
    EpochSampler,
    ExponentialMovingAverage,
    TCMTrainer,
    TCMTrainingArguments,
    build_scheduler,
    build_train_dataloader,
    freeze_batch_norm,
    last_complete_checkpoint,
    parameter_groups,
    polynomial_lr,
)


def tiny_model(**changes) -> TCMForTextDetection:
    torch.manual_seed(0)
    config = tiny_config()
    for name, value in {"decoder_dropout": 0.0, **changes}.items():
        setattr(config, name, value)
    return TCMForTextDetection(config)


def toy_dataset(length=8, seed=0) -> TextDetectionDataset:
    return TextDetectionDataset(
        toy_records(4), build_db_targets, TextAugmentation(64, scale=(0.4, 0.6)), length=length, seed=seed
    )


def arguments(tmp_path, **settings) -> TCMTrainingArguments:
    settings = {
        "output_dir": str(tmp_path),
        "per_device_train_batch_size": 2,
        "logging_steps": 1,
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
        "report_to": "none",
        "save_strategy": "no",
        "learning_rate": 1e-3,
        **settings,
    }
    return TCMTrainingArguments(**settings)


def small_processor() -> TCMImageProcessor:
    return TCMImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})


# ---------------------------------------------------------------------------------------- learning rates


def test_groups_cover_every_trainable_parameter_once():
    model = tiny_model()
    model.freeze_text_tower()
    groups = parameter_groups(model, 1e-3, 0.01, {"model.vision_tower": 0.1, "detector": 2, "detector.neck": 3})
    by_parameter = {id(p): group for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(by_parameter)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert name.startswith("model.text_tower.text_") and id(parameter) not in by_parameter
            continue
        group = by_parameter[id(parameter)]
        factor = 1.0
        if name.startswith("model.vision_tower."):
            factor = 0.1
        elif name.startswith("detector.neck."):
            factor = 3
        elif name.startswith("detector."):
            factor = 2
        assert group["lr"] == pytest.approx(1e-3 * factor), name
        vector = name.endswith("bias") or "norm" in name.lower() or "scale" in name or parameter.dim() < 2
        assert group["weight_decay"] == (0.0 if vector else 0.01), name
    assert "model.text_tower.context_vectors" in {n for n, p in model.named_parameters() if id(p) in by_parameter}


def test_groups_of_a_model_without_text_side_and_by_default():
    model = tiny_model(text_side=False)
    rates = {group["lr"] for group in parameter_groups(model, 1.0)}
    assert rates == {0.1, 1.0}
    assert {group["lr"] for group in parameter_groups(model, 1.0, multipliers={})} == {1.0}


def test_bad_multipliers_are_named():
    model = tiny_model(text_side=False)
    with pytest.raises(ValueError, match="'model.text_tower'; the model has"):
        parameter_groups(model, 1.0, multipliers={"model.text_tower": 1})
    with pytest.raises(ValueError, match="no parameter's name starts with 'detect'"):
        parameter_groups(model, 1.0, multipliers={"detect": 1})
    with pytest.raises(ValueError, match="freeze it instead"):
        parameter_groups(model, 1.0, multipliers={"detector": 0})
    with pytest.raises(ValueError, match="all of the model is frozen"):
        parameter_groups(model.requires_grad_(False), 1.0)


def test_polynomial_schedule_is_the_official_one():
    expected = json.loads(shared_path("parity/poly_lr.json").read_text(encoding="utf-8"))
    for base, by_epoch in expected["lr_by_base_and_epoch"].items():
        for epoch, rate in by_epoch.items():
            ours = polynomial_lr(
                float(base), int(epoch), expected["max_epochs"], expected["power"], expected["min_lr"]
            )
            assert ours == pytest.approx(rate, rel=1e-9)


@pytest.mark.parametrize("name", ["polynomial", "cosine"])
def test_schedules_warm_up_and_end_low(name):
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [parameters[0]], "lr": 1e-2}, {"params": [parameters[1]], "lr": 1e-3}])
    scheduler = build_scheduler(optimizer, name, num_training_steps=14, num_warmup_steps=4)
    rates = []
    for _ in range(15):
        rates.append(scheduler.get_last_lr())
        optimizer.step()
        scheduler.step()
    assert rates[0] == [0, 0] and rates[2] == pytest.approx([5e-3, 5e-4]) and rates[4] == pytest.approx([1e-2, 1e-3])
    if name == "polynomial":
        assert rates[9] == pytest.approx([polynomial_lr(1e-2, 5, 10), polynomial_lr(1e-3, 5, 10)])
        assert rates[14] == pytest.approx([1e-7, 1e-7])
    else:
        assert rates[9] == pytest.approx([5e-3, 5e-4]) and rates[14] == pytest.approx([0, 0], abs=1e-12)
    with pytest.raises((ValueError, TypeError), match="wings|unexpected"):
        build_scheduler(optimizer, name, num_training_steps=3, wings=2)


# ---------------------------------------------------------------------------------------- averaged weights


def small_network() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1))
    network[2].requires_grad_(False)
    return network


def test_average_follows_its_formula():
    network = small_network()
    average = ExponentialMovingAverage(network, decay=0.5)
    expected = {name: tensor.clone().double() for name, tensor in network.state_dict().items()}
    for step in range(1, 12):
        network.train()(torch.randn(4, 1, 3, 3))
        with torch.no_grad():
            for parameter in network[:2].parameters():
                parameter += torch.randn_like(parameter)
        average.update(network, step)
        decay = min(0.5, (1 + step) / (10 + step))
        for name, tensor in network.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * tensor.double()
    assert set(average.values) == {n for n in expected if not n.startswith("2.")}
    trained = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with average.applied(network):
        for name, tensor in network.state_dict().items():
            if name == "1.num_batches_tracked":
                assert tensor == 11
            elif name not in ("2.weight", "2.bias"):
                assert torch.allclose(tensor.double(), expected[name], atol=1e-6), name
                assert not torch.allclose(tensor, trained[name], atol=1e-3), name
    assert all(torch.equal(tensor, trained[name]) for name, tensor in network.state_dict().items())
    average.copy_to(network)
    assert torch.allclose(network[1].running_var.double(), expected["1.running_var"], atol=1e-6)


def test_average_travels_in_checkpoints_of_accelerate(tmp_path):
    network = small_network()
    average = ExponentialMovingAverage(network, decay=0.9)
    with torch.no_grad():
        network[0].weight += 1
    average.update(network, 5)
    accelerator = Accelerator(cpu=True)
    accelerator.register_for_checkpointing(average)
    accelerator.save_state(str(tmp_path))
    stored = {name: value.clone() for name, value in average.values.items()}
    average.update(network, 6)
    assert not torch.equal(average.values["0.weight"], stored["0.weight"])
    accelerator.load_state(str(tmp_path))
    assert all(torch.equal(average.values[name], value) for name, value in stored.items())
    with pytest.raises(ValueError, match="another model"):
        average.load_state_dict({"decay": 0.9, "values": {"x": torch.zeros(1)}})
    with pytest.raises(ValueError, match="between 0 and 1"):
        ExponentialMovingAverage(network, 1.0)


def test_frozen_batch_norm_keeps_its_statistics():
    network = small_network()
    freeze_batch_norm(network)
    network.train()
    network(torch.randn(4, 1, 3, 3))
    assert torch.equal(network[1].running_mean, torch.zeros(2)) and not network[1].training
    assert network[0].training and network[1].weight.requires_grad


# ---------------------------------------------------------------------------------------- data order


def test_order_depends_on_seed_and_epoch_only():
    dataset = toy_dataset(length=50)
    first = list(EpochSampler(dataset, 1))
    assert sorted(first) == list(range(50)) and first != sorted(first)
    torch.manual_seed(99)
    np.random.seed(99)
    assert list(EpochSampler(toy_dataset(length=50), 1)) == first
    assert list(EpochSampler(dataset, 2)) != first
    EpochSampler(dataset, 1).set_epoch(3)
    assert dataset.epoch == 3 and list(EpochSampler(dataset, 1)) != first


def test_loader_gives_the_same_batches_with_any_number_of_workers():
    accelerator = Accelerator(cpu=True)
    batches = []
    for workers in (0, 2):
        loader = build_train_dataloader(toy_dataset(), accelerator, 2, seed=5, num_workers=workers)
        state = torch.get_rng_state()
        loader.set_epoch(2)
        batches.append(list(loader))
        assert torch.equal(torch.get_rng_state(), state)  # an epoch takes nothing from the model's random numbers
    assert len(batches[0]) == 4
    for one, two in zip(*batches):
        assert torch.equal(one["pixel_values"], two["pixel_values"])
        assert torch.equal(one["labels"]["threshold_map"], two["labels"]["threshold_map"])


# ---------------------------------------------------------------------------------------- the Trainer


def test_trainer_logs_evaluates_and_keeps_the_average(tmp_path):
    model, start = tiny_model(), None
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    seen = []

    class Watch(TrainerCallback):
        def on_optimizer_step(self, args, state, control, model=None, **kwargs):
            seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})

    trainer = TCMTrainer(
        model=model,
        args=arguments(
            tmp_path,
            max_steps=4,
            save_strategy="steps",
            save_steps=2,
            eval_strategy="steps",
            eval_steps=2,
            ema_decay=0.6,
        ),
        train_dataset=toy_dataset(),
        eval_dataset=toy_records(2),
        data_collator=text_detection_collate,
        processing_class=small_processor(),
        callbacks=[Watch()],
    )
    assert trainer.args.load_best_model_at_end and trainer.args.metric_for_best_model == "hmean"
    trainer.train()
    log = trainer.state.log_history
    losses = [entry for entry in log if "loss" in entry]
    assert len(losses) == 4
    for entry in losses:
        terms = [entry[f"loss_{name}"] for name in ("probability", "threshold", "binary", "auxiliary")]
        assert sum(terms) == pytest.approx(entry["loss"], rel=1e-4)
    rates = {group["name"]: group["initial_lr"] for group in trainer.optimizer.param_groups}
    assert rates["model.vision_tower"] == pytest.approx(1e-4) and rates["rest"] == pytest.approx(1e-3)
    measured = [entry for entry in log if "eval_hmean" in entry]
    assert [entry["step"] for entry in measured] == [2, 4] and measured[0]["eval_num_images"] == 2

    name = "detector.probability_branch.0.weight"
    average = start[name].clone()
    for step in range(1, 3):
        decay = min(0.6, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * seen[step - 1][name]
    checkpoint = tmp_path / "checkpoint-2"
    assert torch.allclose(load_file(checkpoint / "model.safetensors")[name], average, atol=1e-7)
    assert torch.equal(load_file(checkpoint / "training_weights.safetensors")[name], seen[1][name])
    best = load_file(f"{trainer.state.best_model_checkpoint}/model.safetensors")
    assert torch.equal(trainer.model.state_dict()[name], best[name])

    # A checkpoint that was cut short is passed over.
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-4")
    (tmp_path / "checkpoint-4" / "trainer_state.json").write_text('{"epoch": 1', encoding="utf-8")
    assert last_complete_checkpoint(tmp_path) == str(checkpoint)
    shutil.rmtree(checkpoint)
    assert last_complete_checkpoint(tmp_path) is None and last_complete_checkpoint(tmp_path / "none") is None

    trainer.card_facts = {"dataset": "someone/words", "start": "someone/start"}
    trainer.create_model_card()
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "base_model: someone/start" in card and "type: someone/words" in card and "| steps | 4 |" in card


def test_accumulated_gradient_is_the_mean_of_its_batches(tmp_path):
    model = tiny_model()
    reference = copy.deepcopy(model).train()
    caught = {}

    class Catch(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
            caught.update({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})

    trainer = TCMTrainer(
        model=model,
        args=arguments(tmp_path, max_steps=1, gradient_accumulation_steps=2, max_grad_norm=0.0, ema_decay=0),
        train_dataset=toy_dataset(),
        data_collator=text_detection_collate,
        callbacks=[Catch()],
    )
    result = trainer.train()
    batches = list(build_train_dataloader(toy_dataset(), Accelerator(cpu=True), 2, seed=42))[:2]
    losses = [reference(**batch).loss for batch in batches]
    (sum(losses) / 2).backward()
    assert result.training_loss == pytest.approx(float(sum(losses).detach() / 2), rel=1e-5)
    assert len(caught) > 50
    for name, parameter in reference.named_parameters():
        if parameter.grad is not None:
            assert torch.allclose(caught[name], parameter.grad, atol=1e-4 * float(parameter.grad.norm()) + 1e-7), name


def test_accumulation_is_the_larger_batch(tmp_path, monkeypatch):
    """With a loss that is a mean over samples, as the detectors' own are not, and without BatchNorm's statistics."""

    def mean_loss(self, maps, labels):
        logits = maps["logits"].squeeze(1)
        target = labels["shrink_map"].to(logits.dtype)
        return {"mean": nn.functional.binary_cross_entropy_with_logits(logits, target)}

    start = tiny_model(auxiliary_loss_weight=0.0)
    monkeypatch.setattr(type(start.detector), "loss", mean_loss)
    runs = []
    for size, accumulation in ((4, 1), (2, 2)):
        trainer = TCMTrainer(
            model=copy.deepcopy(start),
            args=arguments(
                tmp_path,
                max_steps=3,
                per_device_train_batch_size=size,
                gradient_accumulation_steps=accumulation,
                freeze_batch_norm=True,
                # In proportion to the gradient, so that a wrong factor shows, as it would not with Adam.
                optim="sgd",
                max_grad_norm=0.0,
                learning_rate=0.1,
            ),
            train_dataset=toy_dataset(),
            data_collator=text_detection_collate,
        )
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        runs.append((losses, {n: p.detach() for n, p in trainer.model.named_parameters()}))
    assert len(runs[0][0]) == 3 and runs[0][0] == pytest.approx(runs[1][0], rel=1e-4)
    moved = 0.0
    for name, parameter in start.named_parameters():
        step, other = (run[1][name] - parameter.detach() for run in runs)
        assert torch.allclose(step, other, atol=1e-3 * float(step.norm()) + 1e-7), name
        moved += float(step.norm())
    assert moved > 0.01


def test_the_best_checkpoint_is_chosen_by_the_validation_pictures(tmp_path, monkeypatch):
    measured, name = [], "detector.probability_branch.0.weight"

    def figures(model, processor, records, **settings):
        measured.append(model.state_dict()[name].clone())
        hmean = (0.2, 0.7, 0.5)[len(measured) - 1]
        return {"hmean": hmean, "precision": hmean, "recall": hmean, "num_images": len(records)}

    monkeypatch.setattr("tcm_hf.training.trainer.evaluate_records", figures)
    strategy = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1}
    trainer = TCMTrainer(
        model=tiny_model(),
        args=arguments(tmp_path, max_steps=3, save_total_limit=1, ema_decay=0.6, **strategy),
        train_dataset=toy_dataset(),
        eval_dataset=toy_records(2),
        data_collator=text_detection_collate,
        processing_class=small_processor(),
    )
    trainer.train()
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-2")
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-2"}
    # What was measured is the average, and it is what is left and saved; training itself went on with other weights.
    assert torch.equal(trainer.model.state_dict()[name], measured[1])
    assert not torch.equal(load_file(tmp_path / "checkpoint-2" / "training_weights.safetensors")[name], measured[1])
    trainer.save_model()
    assert torch.equal(load_file(tmp_path / "model.safetensors")[name], measured[1])
    saved = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert "text-detection" in saved["custom_pipelines"] and (tmp_path / "pipeline_text_detection.py").is_file()


def test_several_sets_of_pictures_choose_by_their_mean(tmp_path, monkeypatch):
    hmeans = iter((0.2, 0.6, 0.9, 0.1, 0.3, 0.4))

    def figures(model, processor, records, **settings):
        hmean = next(hmeans)
        return {"hmean": hmean, "precision": hmean, "recall": hmean, "num_images": len(records)}

    monkeypatch.setattr("tcm_hf.training.trainer.evaluate_records", figures)
    strategy = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1}
    trainer = TCMTrainer(
        model=tiny_model(),
        args=arguments(tmp_path, max_steps=3, **strategy),
        train_dataset=toy_dataset(),
        eval_dataset={"near": toy_records(2), "far": toy_records(1)},
        data_collator=text_detection_collate,
        processing_class=small_processor(),
    )
    trainer.train()
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-2")
    assert trainer.state.best_metric == pytest.approx(0.5)
    log = [entry for entry in trainer.state.log_history if "eval_far_hmean" in entry]
    assert [entry["eval_far_hmean"] for entry in log] == [0.6, 0.1, 0.4]


@pytest.mark.parametrize("save_strategy", ["steps", "epoch", "no"])
def test_a_diverged_run_ends_before_it_replaces_the_last_good_checkpoint(tmp_path, save_strategy):
    class Diverge(TrainerCallback):
        def on_step_begin(self, args, state, control, model=None, **kwargs):
            if state.global_step == 5:
                model.detector.probability_branch[0].weight.data.fill_(torch.nan)

    trainer = TCMTrainer(
        model=tiny_model(),
        args=arguments(
            tmp_path, max_steps=10, logging_steps=100, save_strategy=save_strategy, save_steps=1, save_total_limit=1
        ),
        train_dataset=toy_dataset(),  # four steps an epoch
        data_collator=text_detection_collate,
        callbacks=[Diverge()],
    )
    step, kept = {"steps": (6, {"checkpoint-5"}), "epoch": (8, {"checkpoint-4"}), "no": (10, set())}[save_strategy]
    with pytest.raises(RuntimeError, match=f"at step {step}: training has diverged"):
        trainer.train()
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == kept


def test_reports_are_off_and_what_is_not_installed_is_named(tmp_path, monkeypatch):
    assert TCMTrainingArguments(output_dir=str(tmp_path), use_cpu=True).report_to == []
    monkeypatch.setattr("transformers.integrations.integration_utils.is_tensorboard_available", lambda: False)
    with pytest.raises(RuntimeError, match="requires tensorboard to be installed"):
        TCMTrainer(model=tiny_model(), args=arguments(tmp_path, report_to="tensorboard"))


def test_activation_checkpointing_trains_the_same(tmp_path):
    losses = []
    for checkpointing in (False, True):
        trainer = TCMTrainer(
            model=tiny_model(),
            args=arguments(tmp_path, max_steps=3, activation_checkpointing=checkpointing),
            train_dataset=toy_dataset(),
            data_collator=text_detection_collate,
        )
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_bfloat16_is_used_where_the_hardware_has_it(tmp_path, monkeypatch):
    for supported in (True, False):
        monkeypatch.setattr("tcm_hf.training.arguments.bf16_is_supported", lambda use_cpu, value=supported: value)
        assert arguments(tmp_path, bf16=None).bf16 is supported
    assert arguments(tmp_path, bf16=True).bf16 and not arguments(tmp_path, bf16=False).bf16
    assert arguments(tmp_path).lr_scheduler_type == "polynomial" and arguments(tmp_path).max_grad_norm == 1.0


# ---------------------------------------------------------------------------------------- setup


@pytest.mark.parametrize("detector", ["db", "pan", "fce"])
def test_baseline_keeps_image_tower_and_detector(detector):
    torch.manual_seed(0)
    config = tiny_config().to_dict()
    config.pop("detector_config")
    model = TCMForTextDetection(type(tiny_config())(**{**config, "detector": detector})).eval()
    baseline = without_text_side(model).eval()
    assert model.config.text_side and not baseline.config.text_side
    assert not any("text" in name or "prompt" in name for name in baseline.state_dict())
    # With a matching map of zeros, the model computes what the baseline does.
    match = model.model._match
    model.model._match = lambda *inputs: (*(out := match(*inputs))[:2], torch.zeros_like(out[2]), out[3])
    pixel_values = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        ours, theirs = model(pixel_values).logits, baseline(pixel_values).logits
    for one, two in zip(*(x if isinstance(x, tuple) else (x,) for x in (ours, theirs))):
        assert torch.allclose(one, two, atol=1e-5 * float(one.abs().max()))


def test_models_start_from_the_source_that_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(tiny_config().to_dict()), encoding="utf-8")
    scratch = load_model(ModelArguments(config_name=str(tmp_path), detector="pan", text_side=False))
    assert scratch.config.detector == "pan" and not scratch.config.text_side
    assert "embedding_channels" in scratch.config.detector_config
    model = load_model(ModelArguments(config_name=str(tmp_path / "config.json")))
    assert all(parameter.requires_grad for parameter in model.parameters())
    model.half().save_pretrained(tmp_path / "model")
    small_processor().save_pretrained(tmp_path / "model")
    source = ModelArguments(model_name_or_path=str(tmp_path / "model"), detector="fce")
    tuned = load_model(source)
    assert tuned.dtype == torch.float32 and tuned.config.detector == "fce"
    frozen = {name for name, parameter in tuned.named_parameters() if not parameter.requires_grad}
    assert frozen and all(name.startswith("model.text_tower.text_") for name in frozen)
    processor = load_processor(source, DataArguments(image_size=[128, 256]), tuned.config)
    assert processor.detector == "fce" and "threshold" in processor.decoding
    assert dict(processor.size) == {"shortest_edge": 128, "longest_edge": 256}
    with pytest.raises(ValueError, match="exactly one of --model_name_or_path"):
        load_model(ModelArguments())
    baseline = load_model(ModelArguments(model_name_or_path=str(tmp_path / "model"), text_side=False))
    baseline.save_pretrained(tmp_path / "baseline")
    with pytest.raises(ValueError, match="has no text side"):
        load_model(ModelArguments(model_name_or_path=str(tmp_path / "baseline"), text_side=True))


@pytest.mark.parametrize("source", ["clip", "model", "config"])
@pytest.mark.parametrize("freeze", [None, True, False])
def test_the_text_encoder_learns_where_it_is_asked_to(clip_directory, tmp_path, source, freeze):
    if source == "clip":
        config = CLIPConfig.from_pretrained(clip_directory)
        config.text_config.vocab_size, config.text_config.eos_token_id = 49408, 49407  # of the prompt's words
        CLIPModel(config).save_pretrained(clip_directory)
        arguments = {"clip_name_or_path": str(clip_directory)}
    else:
        tiny_model().save_pretrained(tmp_path / "model")
        arguments = {{"model": "model_name_or_path", "config": "config_name"}[source]: str(tmp_path / "model")}
    model = load_model(ModelArguments(**arguments, freeze_text_tower=freeze))
    encoder = [p for n, p in model.named_parameters() if n.startswith("model.text_tower.text_")]
    frozen = source != "config" if freeze is None else freeze
    assert len(encoder) > 15 and all(parameter.requires_grad is not frozen for parameter in encoder)
    trained = {id(p) for group in parameter_groups(model, 1.0) for p in group["params"]}
    assert all((id(parameter) in trained) is not frozen for parameter in encoder)
    assert all(p.requires_grad for n, p in model.named_parameters() if not n.startswith("model.text_tower.text_"))


def test_targets_are_those_of_the_detector():
    config = tiny_config()
    assert set(target_builder(config)([], [], 64, 64)) == {
        "shrink_map",
        "shrink_mask",
        "threshold_map",
        "threshold_mask",
    }
    fce = type(config)(detector="fce", detector_config={"fourier_degree": 3})
    assert target_builder(fce)([], [], 64, 64)["level_maps_8"].shape[0] == 3 + 2 * 7
    limited = type(config)(detector_config={"max_shrink": 0.2})
    word = [[[10, 20], [50, 20], [50, 40], [10, 40]]]
    kernels = [target_builder(x)(word, [False], 64, 64)["shrink_map"].sum() for x in (config, limited)]
    assert kernels[0] < kernels[1]
    pan = target_builder(type(config)(detector="pan"), '{"shrink_ratio": [1.0, 0.7]}')
    assert set(pan([], [], 64, 64)) == {"text_map", "kernel_map", "text_mask"}
    with pytest.raises(ValueError, match="--target_settings.*wings"):
        target_builder(config, {"wings": 2})


def test_detector_settings_change_the_new_detector(tmp_path):
    path = tmp_path / "config.json"
    fields = {
        **tiny_config().to_dict(),
        "detector": "db",
        "detector_config": {"neck_channels": 16, "head_channels": 8},
    }
    path.write_text(json.dumps(fields), encoding="utf-8")

    def settings(**options):
        return load_model(ModelArguments(config_name=str(path), **options)).config.detector_config

    assert settings(detector_settings='{"head_channels": 4}') == {**settings(), "head_channels": 4}
    fce = settings(detector="fce", detector_settings='{"neck_channels": 12}')
    assert fce["neck_channels"] == 12 and "head_channels" not in fce
    with pytest.raises(ValueError, match="--detector_settings must be a JSON object"):
        settings(detector_settings="[]")
    with pytest.raises(StrictDataclassError, match="wings"):
        settings(detector_settings='{"wings": 2}')
    with pytest.raises(ValueError, match="--detector_settings.*--detector"):
        load_model(ModelArguments(model_name_or_path=str(tmp_path), detector_settings="{}"))


def test_settings_of_augmentation_and_rendering_are_passed_on(monkeypatch):
    monkeypatch.setattr("tcm_hf.data.synthesis.generator.find_fonts", lambda: [])

    def build(**options):
        arguments = DataArguments(crop_size=64, synthetic_fraction=0.5, **options)
        return build_train_dataset(toy_records(2), arguments, tiny_config(), TCMImageProcessor())

    dataset = build(
        augmentation_settings='{"motion_blur": 0.25, "scale": [1.0, 1.5]}',
        synthetic_settings='{"curved": 0.4, "bend": [40, 80]}',
    )
    assert dataset.augmentation.motion_blur == 0.25 and dataset.augmentation.scale == (1.0, 1.5)
    assert dataset.augmentation.crop_size == 64
    layouter = dataset.synthetic.layouter
    assert (layouter.curved, layouter.bend, dataset.synthetic.size) == (0.4, (40.0, 80.0), 64)
    mixed = build(
        synthetic_settings='{"styles": {"scene": 1, "screen": 2}, "scripts": {"latin": 1}, "text_free": 0.1}'
    )
    assert mixed.synthetic.styles.names == ["scene", "screen"] and mixed.synthetic.text_free == 0.1
    assert all(len(mixed[number]["pixel_values"]) == 3 for number in range(2))
    for option in ("augmentation_settings", "synthetic_settings"):
        for value, message in (("{wings: 2}", "not JSON"), ('{"wings": 2}', "wings"), ("[1]", "JSON object")):
            with pytest.raises(ValueError, match=f"--{option}.*{message}"):
                build(**{option: value})
    with pytest.raises(ValueError, match="--augmentation_settings.*motion_blur"):
        build(augmentation_settings='{"motion_blur": 2}')
    with pytest.raises(ValueError, match="^`scale`"):  # no fault of the JSON options
        build(scale=[2.0, 1.0])
    other = build(augmentation_settings='{"crop_size": 96}')
    assert other.augmentation.crop_size == other.synthetic.size == 96


def test_records_are_split_and_limited(tmp_path):
    from toy_photos import write_toy_photos

    def read(arguments):
        [group], validation = read_sources(arguments)
        return group.records, next(iter(validation.values()), None)

    folder = write_toy_photos(tmp_path, 12)
    here = {"image_dir": str(folder / "images"), "gt_dir": str(folder / "gt")}
    train, validation = read(DataArguments(**here, holdout_last_digit=1))
    assert len(train) == 10 and [r.image.name for r in validation] == ["img_1.jpg", "img_11.jpg"]
    train, validation = read(DataArguments(**here, train_val_split=0.25, max_eval_samples=2))
    assert len(train) == 9 and len(validation) == 2
    assert not {r.image.name for r in train} & {r.image.name for r in validation}
    chosen = choose_subset(train, DataArguments(shots=3, subset_seed=7), tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "subset.json").read_text(encoding="utf-8"))
    assert [r.image.name for r in chosen] == stored["images"] and stored["seed"] == 7 and stored["total"] == 9
    again = choose_subset(train, DataArguments(subset_file=str(tmp_path / "run" / "subset.json")))
    assert [r.image.name for r in again] == stored["images"]
    assert len(choose_subset(train, DataArguments(max_train_samples=4))) == 4
    hub, none = read(DataArguments(train_dir=str(folder / "hub")))
    assert len(hub) == 12 and none is None
    by_alias = DataArguments(train_dir=str(folder / "hub"), train_format="imagefolder", frame_size=[128, 160])
    assert len(read(by_alias)[0]) == 12
    for wrong, message in (
        ({}, "nothing to train on: give --train_dir"),
        ({**here, "train_dir": "x"}, "x: no such folder"),
        ({"image_dir": "x"}, "belong together"),
        ({**here, "streaming": True}, "--streaming needs"),
        ({"train_dir": "x", "streaming": True, "shots": 3}, "--shots needs to know all images"),
        ({**here, "train_val_split": 1.5}, "between 0 and 1"),
    ):
        with pytest.raises((ValueError, OSError), match=message):
            read(DataArguments(**wrong))
    with pytest.raises(ValueError, match="only one of --train_fraction"):
        choose_subset(train, DataArguments(shots=1, train_fraction=0.5))
