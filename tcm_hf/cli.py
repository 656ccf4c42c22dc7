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

# Only the standard library here: torch and transformers are imported by the command that needs them.
import argparse
import importlib
import inspect
import os
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress

from .commands.errors import UsageError, one_line
from .commands.interruption import interruptible
from .output_files import naming


# Each module has `add_arguments(parser)` and `run(arguments) -> int`, its docstring is the command's description, and a
# ValueError or OSError of `run` is a mistake of the user.
COMMANDS = {
    "detect": ("commands.detect", "find text in pictures"),
    "convert": ("commands.convert", "convert CLIP weights or an official TCM checkpoint"),
    "prepare": ("data.prepare", "turn a benchmark's files into a dataset folder"),
    "inspect": ("data.inspect_data", "draw samples of a dataset and their training targets"),
    "synthesize": ("data.synthesis.folder", "render pictures with text for pre-training"),
    "evaluate": ("commands.evaluate", "measure detections by a benchmark's protocol"),
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
        arguments = build_parser().parse_args(argv)
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


def build_parser() -> argparse.ArgumentParser:
    """The parser of `tcm-hf` with all its commands."""
    parser = argparse.ArgumentParser(prog="tcm-hf", description="Scene text detection with TCM.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module_name, summary) in COMMANDS.items():
        module = importlib.import_module(f"tcm_hf.{module_name}")
        command = commands.add_parser(
            name,
            help=summary,
            description=inspect.cleandoc(module.__doc__),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
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
