"""Runs of the example scripts, in a process of their own or in this one."""

import contextlib
import io
import json
import logging
import os
import runpy
import subprocess
import sys
from pathlib import Path

from accelerate.state import AcceleratorState


EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SMALL = ("--crop_size", 64, "--image_size", 64, 96, "--use_cpu", "--learning_rate", 1e-3, "--logging_steps", 1)


def photos(toy_data):
    return ("--image_dir", toy_data / "images", "--gt_dir", toy_data / "gt", "--holdout_last_digit", 4)


def run(script, *arguments, **environment):
    """In a process of its own, as a user starts it."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        [sys.executable, str(EXAMPLES / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )


def run_here(monkeypatch, script, *arguments):
    """In this process, which saves the time of all imports; returns what it wrote to stdout."""
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    AcceleratorState._reset_state(reset_partial_state=True)  # what earlier tests set for the whole process
    monkeypatch.syspath_prepend(str(EXAMPLES))  # where Python looks for a script's neighbors
    monkeypatch.setattr(logging, "basicConfig", lambda **settings: None)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    return output.getvalue()


def logged_losses(directory):
    """Of a run of either script."""
    if (directory / "trainer_state.json").is_file():
        log = json.loads((directory / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    else:
        log = json.loads((directory / "all_results.json").read_text(encoding="utf-8"))["log"]
    return [entry["loss"] for entry in log if "loss" in entry]
