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

"""The command `tcm-hf`."""

# `--help` is quick: only the chosen command is imported, and torch and transformers by its `run`.
import argparse
import importlib
import inspect
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress

from ._version import __version__
from .commands.errors import UsageError, one_line
from .commands.interruption import interruptible
from .commands.parser import CommandParser
from .output_files import naming


# Each is a module of `commands/` with `add_arguments(parser)` and `run(arguments) -> int`; its docstring is the command's
# description, and a ValueError or OSError of `run` is a mistake of the user. What takes long to import is imported in `run`.
COMMANDS = {
    "detect": "find text in images",
    "train": "train or fine-tune a model",
    "convert": "convert CLIP weights or an official TCM checkpoint",
    "prepare": "turn a benchmark's files into a dataset folder",
    "inspect": "draw samples of a dataset and their training targets",
    "synthesize": "render images with text for pre-training",
    "evaluate": "measure detections by a benchmark's protocol",
    "explain": "show what a model sees in an image",
    "demo": "try a model on a page in the browser",
    "export": "make a folder that detects without PyTorch",
}


def main(argv: list[str] | None = None) -> int:
    """
    Runs `tcm-hf`.

    Args:
        argv (`list[str]`, *optional*): arguments after the program's name; those of the process by default.

    Returns:
        `int`: 0 when all went well, 1 when some input could not be read or some result not be written, 2 for a wrong
        command line or model, 128 + the signal's number after one (130 for Ctrl-C, 143 for SIGTERM).
    """
    try:
        argv = sys.argv[1:] if argv is None else argv
        # No option before the command has a value, so that the first word is its name.
        chosen = next((word for word in argv if not word.startswith("-")), None)
        arguments = build_parser([name for name in COMMANDS if name == chosen]).parse_args(argv)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # File names can hold what the terminal's encoding cannot.
            stream.reconfigure(errors="backslashreplace")
    try:
        with interruptible():
            code = arguments.run(arguments)
            with naming("/dev/stdout"):
                sys.stdout.flush()
            return code
    except UsageError as error:
        print(f"tcm-hf {arguments.command}: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of stdout, such as `head`, has seen enough
        _drop_stdout()
        return 1
    except OSError as error:
        print(f"tcm-hf {arguments.command}: error: {one_line(error)}", file=sys.stderr)
        _drop_stdout()
        return 1
    except KeyboardInterrupt as error:
        notes = "".join(getattr(error, "__notes__", ()))
        print(f"tcm-hf {arguments.command}: interrupted{notes}", file=sys.stderr)
        return 128 + getattr(error, "number", signal.SIGINT)


def _drop_stdout() -> None:
    """What could not be written would be tried again when the interpreter ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def build_parser(names: Iterable[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """
    The parser of `tcm-hf`.

    Args:
        names (`Iterable[str]`, *optional*, defaults to all):
            Commands whose arguments it knows; of the others it knows the name. Each one costs its imports.
    """
    parser = argparse.ArgumentParser(prog="tcm-hf", description="Scene text detection with TCM.")
    parser.add_argument("--version", action="version", version=f"tcm-hf {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=CommandParser)
    for name, summary in COMMANDS.items():
        if name not in names:
            commands.add_parser(name, help=summary)
            continue
        module = importlib.import_module(f".commands.{name}", __package__)
        command = commands.add_parser(name, help=summary, description=inspect.cleandoc(str(module.__doc__)))
        module.add_arguments(command)
        command.set_defaults(run=_run_module(name, module))
    return parser


def _run_module(name: str, module) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        from .data.formats import AnnotationWarning

        def show(message, category, *place, **keywords) -> None:
            if issubclass(category, AnnotationWarning):
                print(f"tcm-hf {name}: warning: {message}", file=sys.stderr)
            else:
                other(message, category, *place, **keywords)

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always", AnnotationWarning)
                other, warnings.showwarning = warnings.showwarning, show
                return module.run(arguments)
        except (ValueError, OSError, ImportError) as error:
            print(f"tcm-hf {name}: error: {one_line(error)}", file=sys.stderr)
            return 1

    return run


if __name__ == "__main__":
    sys.exit(main())
