# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""`--help`, `--help-all` and `--version`: quick, short, and complete."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import tcm_hf
from tcm_hf import cli


ROOT = Path(tcm_hf.__file__).parents[1]
# Prints what the command prints, then what it has loaded.
RUN = """
import json, sys
from tcm_hf.cli import main
code = main(sys.argv[1:])
print(json.dumps([code, sorted({name.split(".")[0] for name in sys.modules})]))
"""


def run(*argv):
    """What a fresh `tcm-hf` prints, and the packages that it loads."""
    output = subprocess.run(
        [sys.executable, "-c", RUN, *argv], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    text, _, last = output.rstrip("\n").rpartition("\n")
    code, modules = json.loads(last)
    assert code == 0
    return text, set(modules)


@pytest.mark.parametrize("argv", [("--help",), ("--version",), *((name, "--help") for name in cli.COMMANDS)])
def test_help_loads_nothing_heavy(argv):
    text, modules = run(*argv)
    assert not modules & {"torch", "transformers", "datasets", "accelerate", "huggingface_hub", "scipy"}
    # The commands that read data sets list the formats and protocols, which are arrays' work.
    if argv[0] not in ("prepare", "inspect", "evaluate"):
        assert not modules & {"numpy", "cv2", "PIL", "shapely"}
    if argv[0] == "--version":
        assert text == f"tcm-hf {tcm_hf.__version__}"
    else:
        assert text.startswith("usage: tcm-hf")


def test_the_package_runs_as_a_module():
    command = [sys.executable, "-m", "tcm_hf", "--version"]
    assert subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout == (
        f"tcm-hf {tcm_hf.__version__}\n"
    )


def processor_time(*command: str) -> float:
    """Seconds of user and system time of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.skipif(os.name == "nt", reason="needs the resource usage of Unix")
def test_help_is_quick():
    slowest = min(processor_time("-m", "tcm_hf", "evaluate", "--help") for _ in range(3))
    assert slowest < 0.3 * min(processor_time("-c", "import torch") for _ in range(2))


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_is_short_and_help_all_is_complete(name, capsys):
    parser = cli.build_parser([name])
    command = parser._subparsers._group_actions[0].choices[name]
    short, full = command.format_help(), command.format_full_help()
    assert len(short) < len(full)
    for action in command._actions:
        options = [option for option in action.option_strings[-1:] if option != "--help-all"]
        assert all(option in full for option in options)
        assert all((option in short) is not getattr(action, "advanced", False) for option in options)
        # Whatever the help says, every option works, and is not lost after the help was shown.
        assert action.help not in (None, "==SUPPRESS==")
    assert cli.main([name, "--help-all"]) == 0
    assert capsys.readouterr().out.split() == full.split()


def test_unknown_options_and_commands(capsys):
    assert cli.main(["detect", "photo.jpg", "--no-such-option"]) == 2
    assert "error: unrecognized arguments: --no-such-option" in capsys.readouterr().err
    assert cli.main(["no-such-command"]) == 2
    assert "invalid choice: 'no-such-command'" in capsys.readouterr().err
    assert cli.main([]) == 2
    assert "COMMAND" in capsys.readouterr().err
