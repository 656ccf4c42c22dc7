# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""The rules of the papers' configurations: `--official`, and the recipes of examples/recipes."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import shared_path
from tiny_model import tiny_config
from torch import nn
from toy_photos import toy_records
from transformers import TrainerCallback

from tcm_hf import TCMConfig, TCMForTextDetection, TCMImageProcessor
from tcm_hf.commands.train import OFFICIAL, _option_parser, _parse
from tcm_hf.data.augment import TextAugmentation
from tcm_hf.data.collate import TextDetectionDataset
from tcm_hf.targets import build_db_targets
from tcm_hf.training import TCMTrainingArguments
from tcm_hf.training.optimizer import Ranger, build_scheduler, parameter_groups
from tcm_hf.training.options import DataArguments, LoopArguments, ModelArguments, OptionError
from tcm_hf.training.setup import load_processor
from tcm_hf.training.sources import train_sources
from tcm_hf.training.trainer import TCMTrainer


RECIPES = Path(__file__).resolve().parents[1] / "examples" / "recipes"
FILES = sorted(path.name for path in RECIPES.glob("*.json"))
PAGE = RECIPES.parents[1] / "docs" / "experiments.md"
# By the names of the official configurations that these recipes follow.
CONFIGURATIONS = {
    "icdar2015.json": "IC15(released)",
    "td500.json": "TD(released)",
    "ctw1500.json": "CTW(config only)",
    "totaltext.json": "TT(config only)",
    "pretrain.json": "pretrain 4ctx ST150k",
    "pretrain-union.json": "pretrain 32ctx ST+ST150k",
    "icdar2015-pan.json": "PAN IC15",
    "ctw1500-pan.json": "PAN CTW",
    "icdar2015-dbnet.json": "plain CLIP-R50 DBNet IC15",
}


def options(*words, kind=TCMTrainingArguments):
    return _parse(_option_parser(kind, prog="train"), [*map(str, words)])


def recipe(name, *words):
    return options(RECIPES / name, "--use_cpu", *words)


def hyperparameters(name):
    return json.loads(shared_path("parity/hyperparameters.json").read_text(encoding="utf-8"))[CONFIGURATIONS[name]]


# ---------------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize("name", FILES)
def test_every_recipe_is_read_and_documented(name):
    model, data, training = recipe(name)
    assert model.freeze_text_tower and training.resume_from_checkpoint == "last"
    assert (training.ema_decay, training.max_grad_norm, training.joint_loss) == (0, 0, False)
    assert training.lr_scheduler_kwargs == {"by_epoch": True}
    data.data_root = None
    assert all(source.weight is None for source in train_sources(data))  # every image equally often
    assert f"examples/recipes/{name}" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_recipes_have_the_published_settings(name):
    facts, (model, data, training) = hyperparameters(name), recipe(name)
    optimizer = facts["optimizer"]
    assert (training.optimizer or training.optim.value.split("_")[0]) == optimizer["type"].lower()
    assert (training.learning_rate, training.weight_decay) == (optimizer["lr"], optimizer["weight_decay"])
    multiplier = optimizer["paramwise_cfg"]["custom_keys"]["backbone"]["lr_mult"]
    assert training.image_encoder_lr_multiplier == multiplier
    assert training.num_train_epochs == facts["epochs"]
    assert training.per_device_train_batch_size == facts["samples_per_gpu"]
    assert ("pretrained" in str(model.model_name_or_path)) == facts["init_from_pretrained_detector"]
    data.data_root = None
    same = {"ctw1500": "ctw1500", "total_text": "totaltext", "syntext150k": "syntext150k"}
    same.update(icdar2017_train="mlt2017_train", icdar2017_val="mlt2017_validation")
    assert [source.name for source in train_sources(data)] == [same.get(x, x) for x in facts["train_datasets"]]
    crops = [step["target_size"] for step in facts["train_pipeline"] if "Crop" in step["type"]]
    assert crops == [[data.crop_size] * 2]


@pytest.mark.parametrize("name", ["icdar2015.json", "td500.json", "ctw1500.json", "totaltext.json"])
def test_presets_are_those_of_the_test_settings(name):
    facts, (model, data, _) = hyperparameters(name), recipe(name)
    processor = load_processor(model, data, TCMConfig())
    post = facts["model"]["bbox_head"]["postprocessor"]
    longest, shortest = facts["test"]["img_scale_used"]
    assert dict(processor.size) == {"shortest_edge": shortest, "longest_edge": longest}
    decoding = processor.decoding
    assert (decoding["mask_threshold"], decoding["threshold"]) == (post["mask_thr"], post["min_text_score"])
    assert decoding["unclip_ratio"] == post["unclip_ratio"] and decoding["min_size"] == post["min_text_width"]
    data.image_size = [64, 96]
    assert dict(load_processor(model, data, TCMConfig()).size) == {"shortest_edge": 64, "longest_edge": 96}
    model.image_processor_name = "tcm-tiny"
    with pytest.raises(ValueError, match="--preset and --image_processor_name"):
        load_processor(model, data, TCMConfig())
    with pytest.raises(ValueError, match="no preset 'icdar'"):
        load_processor(ModelArguments(preset="icdar"), DataArguments(), TCMConfig())


def test_the_preset_gives_way_to_what_is_said(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        f"official: true\noutput_dir: {tmp_path}\nema_decay: 0.5\nlearning_rate: 1e-3\n"
    )
    _, _, training = options(tmp_path / "mine.yaml", "--max_grad_norm", 2, "--use_cpu")
    assert (training.ema_decay, training.max_grad_norm, training.learning_rate) == (0.5, 2, 1e-3)
    assert training.no_decay == OFFICIAL["no_decay"] and training.num_train_epochs == 1200
    _, _, plain = options("--output_dir", tmp_path, "--use_cpu")
    assert (plain.ema_decay, plain.max_grad_norm, plain.no_decay) == (0.999, 1.0, None)
    with pytest.raises(SystemExit):
        options("--official", "--output_dir", tmp_path, kind=LoopArguments)
    with pytest.raises(OptionError, match="--optimizer must be one of adam, ranger"):
        options("--output_dir", tmp_path, "--optimizer", "wings", "--use_cpu")


# ---------------------------------------------------------------------------------------- parameter groups


def meta_model(**fields):
    configuration = RECIPES.parent / "configs" / "tcm-db-rn50.json"
    with torch.device("meta"):
        model = TCMForTextDetection(TCMConfig(**{**json.loads(configuration.read_text()), **fields}))
    model.freeze_text_tower()
    return model


@pytest.mark.parametrize("name", ["icdar2015.json", "ctw1500.json"])
def test_groups_are_those_of_the_official_configuration(name):
    facts = hyperparameters(name)
    rest, backbone, text, norms = facts["param_groups"]
    contexts = facts["model"]["text_encoder"]["context_length"] - facts["model"]["context_length"]
    model = meta_model(num_context_vectors=contexts)
    multipliers = {"model.vision_tower": OFFICIAL["image_encoder_lr_multiplier"]}
    groups = parameter_groups(model, 1e-4, 1e-4, multipliers, OFFICIAL["no_decay"])
    found = {}
    for group in groups:
        size = len(group["params"]), sum(p.numel() for p in group["params"])
        found[(group["lr"], group["weight_decay"])] = size
    assert found.keys() == {(group["lr"], group["weight_decay"]) for group in (rest, backbone, norms)}
    assert found[(1e-5, 1e-4)] == (backbone["tensors"], backbone["numel"])
    # A softmax over the single text embedding is 1: where it is all keys, or all queries and keys, the queries, keys and the
    # norm in front have no influence and are not there. In three layers each, of width 256:
    width, layers = 256, 3
    projections, norm = 2 * width * width, 2 * width
    assert found[(1e-4, 1e-4)] == (rest["tensors"] - 12, rest["numel"] - 2 * layers * projections)
    assert found[(1e-4, 0.0)] == (norms["tensors"] - 2 * layers, norms["numel"] - layers * norm)
    frozen = [p for p in model.parameters() if not p.requires_grad]
    # The text tower's queries, keys and values are apart: 4 tensors more in each of 12 layers.
    assert len(frozen) == text["tensors"] + 4 * 12
    assert text["lr"] == 0
    with pytest.raises(ValueError, match="--no_decay is no regular expression"):
        parameter_groups(model, 1e-4, no_decay="(")


def test_context_vectors_begin_as_the_papers():
    torch.manual_seed(0)
    fields = {**tiny_config().to_dict(), "num_context_vectors": 12}
    plain, official = (
        TCMForTextDetection(TCMConfig(**{**fields, **more})) for more in ({}, {"context_init_std": 1.0})
    )
    ours, theirs = (model.model.text_tower.context_vectors for model in (plain, official))
    assert ours.std().item() == pytest.approx(0.02, rel=0.15)
    # A normal distribution of deviation 1 that is cut off at 2 has a deviation of 0.88.
    assert theirs.std().item() == pytest.approx(0.88, rel=0.15) and theirs.abs().max() <= 2
    with pytest.raises(Exception, match="context_init_std"):
        TCMConfig(context_init_std=-1.0)


# ---------------------------------------------------------------------------------------- schedule and optimizer


class _Watch(TrainerCallback):
    """Notes the rates of the first steps, and ends the run."""

    def __init__(self, steps):
        self.steps, self.rates = steps, []

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        self.rates.append([group["lr"] for group in optimizer.param_groups])
        control.should_training_stop = len(self.rates) == self.steps
        return control


@pytest.mark.parametrize(
    "name, kind", [("icdar2015.json", torch.optim.Adam), ("td500.json", Ranger), ("ctw1500.json", torch.optim.AdamW)]
)
def test_the_first_steps_of_a_recipe_have_the_published_rates(tmp_path, name, kind):
    _, _, training = recipe(
        name, "--output_dir", tmp_path, "--per_device_train_batch_size", 2, "--disable_tqdm", "true"
    )
    training.save_strategy, training.dataloader_num_workers = "no", 0
    training.dataloader_persistent_workers = False
    torch.manual_seed(0)
    model = TCMForTextDetection(tiny_config())
    model.freeze_text_tower()
    # Two steps an epoch.
    data = TextDetectionDataset(toy_records(4), build_db_targets, TextAugmentation(64))
    watch = _Watch(5)
    trainer = TCMTrainer(
        model=model, args=training, train_dataset=data, callbacks=[watch], processing_class=TCMImageProcessor()
    )
    trainer.train()
    assert type(trainer.optimizer.optimizer) is kind
    published = json.loads(shared_path("parity/poly_lr.json").read_text(encoding="utf-8"))["lr_by_base_and_epoch"]
    decaying = training.weight_decay > 0
    bases = {group["initial_lr"] for group in trainer.optimizer.param_groups}
    assert sorted(bases) == pytest.approx([0.1 * training.learning_rate, training.learning_rate])
    assert any(group["weight_decay"] == 0 for group in trainer.optimizer.param_groups) or not decaying
    for step, epoch in ((0, "0"), (1, "0"), (2, "1"), (3, "1")):
        for group, rate in zip(trainer.optimizer.param_groups, watch.rates[step]):
            base = min(published, key=lambda text: abs(float(text) - group["initial_lr"]))
            assert rate == pytest.approx(published[base][epoch], rel=1e-9)
    assert watch.rates[4] < watch.rates[3]


def test_the_schedule_by_epochs_ends_with_the_last_epoch():
    published = json.loads(shared_path("parity/poly_lr.json").read_text(encoding="utf-8"))["lr_by_base_and_epoch"]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-3)
    schedule = build_scheduler(optimizer, "polynomial", num_training_steps=1200 * 7 - 3, steps_per_epoch=7)
    rates = []
    for _ in range(1200 * 7 - 3):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    for epoch in (0, 1, 300, 600, 1199):
        steps = rates[7 * epoch : 7 * epoch + 7]
        assert steps == pytest.approx([published["0.001"][str(epoch)]] * len(steps), rel=1e-9) and len(steps) >= 4


def ranger_by_hand(start, gradients, lr, betas=(0.95, 0.999), eps=1e-5, alpha=0.5, k=6):
    """RAdam (arXiv 1908.03265, algorithm 2) and Lookahead (arXiv 1907.08610, algorithm 1), in NumPy."""
    fast, slow = start.copy(), start.copy()
    mean, square = np.zeros_like(start), np.zeros_like(start)
    longest = 2 / (1 - betas[1]) - 1
    for t, gradient in enumerate(gradients, 1):
        mean = betas[0] * mean + (1 - betas[0]) * gradient
        square = betas[1] * square + (1 - betas[1]) * gradient**2
        corrected = mean / (1 - betas[0] ** t)
        length = longest - 2 * t * betas[1] ** t / (1 - betas[1] ** t)
        if length > 5:
            ratio = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
            step = np.sqrt(ratio) * np.sqrt(1 - betas[1] ** t) * corrected / (np.sqrt(square) + eps)
        else:
            step = corrected
        fast = fast - lr * step
        if t % k == 0:
            slow = slow + alpha * (fast - slow)
            fast = slow.copy()
    return fast


def test_ranger_is_its_formula_and_goes_on_from_its_state():
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=5), rng.normal(size=(20, 5))
    parameter = nn.Parameter(torch.tensor(start))
    optimizer = Ranger([parameter], lr=0.02)
    for number, gradient in enumerate(gradients):
        if number == 8:  # between two returns
            stored = {"weights": parameter.detach().clone(), "state": optimizer.state_dict()}
            parameter = nn.Parameter(stored["weights"])
            optimizer = Ranger([parameter], lr=0.5)
            optimizer.load_state_dict(stored["state"])
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
    assert parameter.detach().numpy() == pytest.approx(ranger_by_hand(start, gradients, 0.02), rel=1e-9)


def test_the_page_says_of_every_published_figure_where_it_is_from():
    rows = [
        line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ") and "recipes/" in line
    ]
    assert len(rows) >= len(FILES)
    assert all(re.search(r"not run here|–", row) for row in rows)
