# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
import sys
from pathlib import Path

import pytest
import torch
from tiny_model import tiny_config

from tcm_hf import TCMConfig, TCMForTextDetection, TCMImageProcessor


EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def widen(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import widen_checkpoint

    return widen_checkpoint


def lively(config) -> TCMForTextDetection:
    """A random model whose normalizations and scales do something, as those of a trained one."""
    torch.manual_seed(0)
    model = TCMForTextDetection(config).eval()
    with torch.no_grad():
        for name, x in model.state_dict().items():
            if name.endswith("running_var"):
                x.uniform_(0.5, 2)
            elif name.endswith(("running_mean", "bias")) or "norm.weight" in name:
                x.add_(0.3 * torch.randn_like(x))
            elif name.endswith(("context_scale", "visual_prompt_scale", "position_embedding")):
                x.normal_(std=0.5)
    return model


@pytest.mark.parametrize("smoothing_channels", [None, 8])
def test_the_wider_detector_gives_the_same_maps_and_its_copies_learn_apart(widen, smoothing_channels):
    settings = tiny_config().to_dict()
    settings["detector_config"]["smoothing_channels"] = smoothing_channels
    model = lively(TCMConfig(**settings))
    changes = {"neck_channels": 48, "head_channels": 24}
    if smoothing_channels:
        changes["smoothing_channels"] = 12
    wide = widen.widen(model, 12, changes)
    assert wide.config.vision_config.width == 12 and wide.config.detector_config["neck_channels"] == 48
    pixel_values = torch.randn(2, 3, 96, 160)
    with torch.no_grad():
        expected, got = model(pixel_values=pixel_values), wide(pixel_values=pixel_values)
    torch.testing.assert_close(got.logits, expected.logits, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(got.score_map, expected.score_map, rtol=1e-3, atol=1e-4)

    wide.train()
    wide(pixel_values=pixel_values).logits.square().mean().backward()
    gradients = wide.model.vision_tower.stages[1].blocks[0].conv2.conv.weight.grad.flatten(1)
    assert len(gradients.unique(dim=0)) == len(gradients) == 24


def test_the_deeper_detector_gives_the_same_maps(widen):
    model = lively(tiny_config())
    deep = widen.widen(
        model, model.config.vision_config.width, {"context_kernel": 5}, tower_changes={"depths": [1, 2, 3, 2]}
    )
    assert [len(stage.blocks) for stage in deep.model.vision_tower.stages] == [1, 2, 3, 2]
    assert deep.detector.neck.contexts is not None
    pixel_values = torch.randn(2, 3, 96, 160)
    with torch.no_grad():
        expected, got = model(pixel_values=pixel_values), deep(pixel_values=pixel_values)
    torch.testing.assert_close(got.logits, expected.logits, rtol=1e-3, atol=1e-4)


def test_the_script_writes_a_checkpoint_to_train_on(widen, monkeypatch, tmp_path, capsys):
    lively(tiny_config()).save_pretrained(tmp_path / "narrow")
    TCMImageProcessor().save_pretrained(tmp_path / "narrow")
    monkeypatch.setattr(sys, "argv", ["widen", str(tmp_path / "narrow"), str(tmp_path / "wide"), "--width", "16"])
    widen.main()
    assert "million parameters" in capsys.readouterr().out
    assert TCMForTextDetection.from_pretrained(tmp_path / "wide").config.vision_config.width == 16
    TCMImageProcessor.from_pretrained(tmp_path / "wide")


@pytest.mark.parametrize(
    "changes, arguments, message",
    [
        ({}, ["--width", "4"], "fewer"),
        (
            {"vision_config": {**tiny_config().vision_config.to_dict(), "depths": [1, 1, 2, 1]}},
            ["--width", "8", "--depths", "1", "1", "1", "1"],
            "fewer",
        ),
        ({"detector": "pan", "detector_config": {}}, ["--width", "16"], "'pan'"),
    ],
)
def test_what_cannot_be_widened_is_refused(widen, monkeypatch, tmp_path, changes, arguments, message):
    TCMForTextDetection(TCMConfig(**{**tiny_config().to_dict(), **changes})).save_pretrained(tmp_path / "narrow")
    TCMImageProcessor(detector=changes.get("detector", "db")).save_pretrained(tmp_path / "narrow")
    monkeypatch.setattr(sys, "argv", ["widen", str(tmp_path / "narrow"), str(tmp_path / "wide"), *arguments])
    with pytest.raises(SystemExit, match=message):
        widen.main()
    assert not (tmp_path / "wide").exists()
