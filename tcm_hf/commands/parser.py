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
"""The parser of a command: its help shows what most users need, and `--help-all` the rest."""

import argparse
from collections.abc import Callable
from typing import Any


def advanced(*actions: argparse.Action) -> None:
    """Leaves options, as `add_argument` returns them, to `--help-all`."""
    for action in actions:
        action.advanced = True  # type: ignore[attr-defined]


class CommandParser(argparse.ArgumentParser):
    """
    A parser with two helps.

    Args:
        full_epilog (`str`, *optional*): What ends the help of all options, instead of `epilog`.
        arguments: Those of `argparse.ArgumentParser`.
    """

    def __init__(self, *arguments, full_epilog: str | None = None, **options):
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*arguments, **options)
        self.full_epilog = full_epilog
        # Builds the parser of all options, where that takes long: this one then only shows the short help, and hands on the
        # words of the command line, as `words`.
        self.delegate: Callable[[], argparse.ArgumentParser] | None = None
        self.add_argument("--help-all", action=_FullHelp, nargs=0, help="show all options and exit")

    def parse_known_args(self, args=None, namespace=None):
        if self.delegate is None:
            return super().parse_known_args(self._with_values(list(args)), namespace)
        words = list(args)
        asked = [word for word in words if word in ("-h", "--help", "--help-all")]
        namespace, _ = super().parse_known_args(asked[:1], namespace)
        namespace.words = words
        return namespace, []

    def _with_values(self, words: list[str]) -> list[str]:
        """
        The words of the command line, where an option whose value may be left out takes the next word only if it is one:
        argparse would take the first input of `--tile a.jpg` for the size of the tiles.
        """
        optional = {name: action for action in self._actions if action.nargs == "?" for name in action.option_strings}
        for index, word in enumerate(words[:-1]):
            if word == "--":
                break
            if word in optional and not _accepts(optional[word].type, words[index + 1]):
                words[index] = f"{word}={optional[word].const}"
        return words

    def format_full_help(self) -> str:
        """The help with every option."""
        if self.delegate is not None:
            return self.delegate().format_help()
        short, self.epilog = self.epilog, self.full_epilog or self.epilog
        try:
            return super().format_help()
        finally:
            self.epilog = short

    def format_help(self) -> str:
        """The help without the advanced options."""
        with _Hidden(self):
            return super().format_help()

    def format_usage(self) -> str:
        """The usage without the advanced options."""
        with _Hidden(self):
            return super().format_usage()


def _accepts(kind: Any, word: str) -> bool:
    try:
        kind(word)
    except argparse.ArgumentTypeError:
        return False
    return True


class _Hidden:
    """The advanced options of a parser, left out meanwhile."""

    def __init__(self, parser: argparse.ArgumentParser):
        self.parser, self.groups = parser, parser._mutually_exclusive_groups
        self.actions = [action for action in parser._actions if getattr(action, "advanced", False)]

    def __enter__(self) -> None:
        self.help = [action.help for action in self.actions]
        for action in self.actions:
            action.help = argparse.SUPPRESS
        # argparse cannot write the usage of such a group that has no visible option.
        self.parser._mutually_exclusive_groups = [
            group for group in self.groups if not all(action in self.actions for action in group._group_actions)
        ]

    def __exit__(self, *exception) -> None:
        self.parser._mutually_exclusive_groups = self.groups
        for action, text in zip(self.actions, self.help):
            action.help = text


class _FullHelp(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None) -> None:
        print(parser.format_full_help(), end="")
        parser.exit()
