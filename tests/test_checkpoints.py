# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
import json

import pytest

import tcm_hf
from tcm_hf.checkpoints import DEFAULT, checkpoint_names, checkpoint_path, find_checkpoint
from tcm_hf.cli import main
from tcm_hf.training.setup import DataArguments, ModelArguments, load_model, load_processor


def test_checkpoints_of_the_package_have_names():
    assert DEFAULT in checkpoint_names() and "tcm-tiny" in checkpoint_names()
    assert tcm_hf.DEFAULT_CHECKPOINT == checkpoint_path() == checkpoint_path(DEFAULT)
    for name in checkpoint_names():
        assert tcm_hf.TCMConfig.from_pretrained(checkpoint_path(name)).model_type == "tcm"
        tcm_hf.TCMImageProcessor.from_pretrained(checkpoint_path(name))
    for wrong in ("tcm-huge", "../tcm-tiny", "", "__pycache__"):
        with pytest.raises(ValueError, match="tcm-tiny"):
            checkpoint_path(wrong)


def test_a_directory_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint("tcm-tiny") == checkpoint_path("tcm-tiny")
    assert find_checkpoint("me/my-detector") == "me/my-detector"
    (tmp_path / "tcm-tiny").mkdir()
    assert find_checkpoint("tcm-tiny") == "tcm-tiny"


@pytest.mark.parametrize("name", checkpoint_names())
def test_commands_and_training_take_the_name(name, tmp_path, capsys):
    from PIL import Image

    Image.new("RGB", (64, 32)).save(tmp_path / "a.png")
    assert main(["detect", str(tmp_path / "a.png"), "--model", name]) == 0
    assert json.loads(capsys.readouterr().out)[0]["detections"] == []
    arguments = ModelArguments(model_name_or_path=name)
    model = load_model(arguments)
    assert load_processor(arguments, DataArguments(), model.config).detector == model.config.detector


def test_a_wrong_name_is_told_the_right_ones(tmp_path, capsys):
    from PIL import Image

    Image.new("RGB", (64, 32)).save(tmp_path / "a.png")
    assert main(["detect", str(tmp_path / "a.png"), "--model", "no such/model/here"]) == 2
    message = capsys.readouterr().err
    assert len(message.splitlines()) == 1 and "tcm-tiny" in message
