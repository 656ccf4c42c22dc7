# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""`tcm-hf train`: the training script as a command."""

import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from example_runs import SMALL, photos
from toy_photos import write_toy_photos

import tcm_hf
from tcm_hf import TCMForTextDetection, cli
from tcm_hf.commands import train as command
from tcm_hf.training import ModelArguments, TCMTrainingArguments
from tcm_hf.training.options import LoopArguments, OptionError
from tcm_hf.training.setup import load_model


@pytest.fixture(scope="module")
def toy_data(tmp_path_factory):
    return write_toy_photos(tmp_path_factory.mktemp("toy"), 5)


def run(*arguments):
    return cli.main(["train", *map(str, arguments)])


def start(toy_data):
    return ("--config_name", toy_data / "config.json", *photos(toy_data), *SMALL)


def test_a_run(toy_data, tmp_path, monkeypatch):
    monkeypatch.setattr("logging.basicConfig", lambda **settings: None)
    options = ("--max_steps", 1, "--per_device_train_batch_size", 2, "--report_to", "none")
    assert run(*start(toy_data), *options, "--output_dir", tmp_path / "out") == 0
    assert isinstance(TCMForTextDetection.from_pretrained(tmp_path / "out"), TCMForTextDetection)
    assert "eval_hmean" in json.loads((tmp_path / "out" / "eval_results.json").read_text())


def test_settings_of_a_file_in_processes_of_accelerate(toy_data, tmp_path):
    settings = {
        "config_name": str(toy_data / "config.json"),
        "image_dir": str(toy_data / "images"),
        "gt_dir": str(toy_data / "gt"),
        "output_dir": str(tmp_path / "out"),
        "crop_size": 64,
        "max_steps": 1,
        "per_device_train_batch_size": 2,
        "use_cpu": True,
        "report_to": "none",
    }
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1"]
    result = subprocess.run(
        [*launch, "-m", "tcm_hf", "train", str(tmp_path / "settings.json")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(tcm_hf.__file__).parents[1]), "HF_HUB_OFFLINE": "1"},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_mistakes(toy_data, tmp_path, capsys):
    output = ("--output_dir", tmp_path / "out", "--use_cpu")
    assert run(*start(toy_data), *output, "--no_such_option", 1) == 2
    error = capsys.readouterr().err
    assert (
        error.startswith("usage: tcm-hf train [CONFIG] [options]")
        and "unrecognized arguments: --no_such_option 1" in error
    )
    assert len(error.splitlines()) < 5
    assert run(*start(toy_data), *output, "--model_name_or_path", "tcm-tiny") == 1
    assert "tcm-hf train: error: give exactly one of --model_name_or_path" in capsys.readouterr().err
    assert run(tmp_path / "absent.json") == 1
    assert "tcm-hf train: error: " in capsys.readouterr().err
    (tmp_path / "unknown.json").write_text(json.dumps({"output_dir": "out", "no_such_option": 1}))
    assert run(tmp_path / "unknown.json") == 1
    assert "no_such_option" in capsys.readouterr().err
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_the_short_help_names_options_that_there_are(capsys):
    names = {item.name for item in fields(TCMTrainingArguments)}
    assert set(command._TRAINING_OPTIONS) <= names
    assert run("--help") == 0
    short = capsys.readouterr().out
    assert run("--output_dir", "out", "--help-all") == 0
    full = capsys.readouterr().out
    for name in names - {"warmup_ratio"}:
        assert f"--{name}" in full
    assert "--resume_from_checkpoint" in short and "--adam_beta1" not in short


def test_a_checkpoint_of_the_package_by_name():
    model = load_model(ModelArguments(model_name_or_path="tcm-tiny"))
    new = load_model(ModelArguments(config_name="tcm-tiny"))
    assert model.num_parameters() == new.num_parameters()


def parsed(*words):
    return command._parse(command._option_parser(TCMTrainingArguments, prog="tcm-hf train"), [*map(str, words)])


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_the_command_line_overrides_a_file(tmp_path, suffix):
    text = {
        "json": '{"output_dir": "file", "max_steps": 7, "scale": [0.5, 1.5], "synthetic_settings": {"curved": 0.3}, "seed": null}',
        "yaml": "output_dir: file\nmax_steps: 7\nscale: [0.5, 1.5]\nsynthetic_settings: {curved: 0.3}\nlearning_rate: 1e-3\n",
    }
    path = tmp_path / f"mine.{suffix}"
    path.write_text(text[suffix])
    _, data, training = parsed(path, "--max_steps", 9, "--use_cpu")
    assert (training.output_dir, training.max_steps, training.use_cpu, training.seed) == ("file", 9, True, 42)
    assert data.scale == [0.5, 1.5] and data.synthetic_settings == {"curved": 0.3}
    assert training.learning_rate == (1e-3 if suffix == "yaml" else 1e-4)
    # What is not said anywhere is the default, not what another call left behind.
    assert parsed("--output_dir", "out", "--use_cpu")[1].scale == [0.5, 3.0]


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.json", '{"max_step": 3}', "a.json: unknown option 'max_step'; did you mean 'max_steps'?"),
        ("a.json", "[1]", "must be an object of options"),
        ("a.json", "{", "is no JSON"),
        ("a.yaml", "a: [", "is no YAML"),
        ("a.yaml", "eval_strategy: no", r"'eval_strategy' cannot be false; there are no, steps.*in quotes"),
        ("a.yaml", "max_steps: few", "'max_steps' cannot be 'few'"),
        ("a.json", '{"scale": ["a", 1]}', "'scale' cannot be 'a'"),
    ],
)
def test_files_of_options_that_cannot_be_meant(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(OptionError, match=message):
        parsed(tmp_path / name, "--output_dir", "out", "--use_cpu")


def test_a_required_option_may_stand_in_the_file(tmp_path, capsys):
    parser = command._option_parser(LoopArguments, prog="train")
    (tmp_path / "a.json").write_text('{"output_dir": "out"}')
    assert command._parse(parser, [str(tmp_path / "a.json")])[2].output_dir == "out"
    with pytest.raises(SystemExit):
        command._parse(parser, ["--seed", "3"])
    assert "the following arguments are required: --output_dir" in capsys.readouterr().err
