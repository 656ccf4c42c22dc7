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
"""What pages say of commands, formats and protocols, written from the code while the site is built: it cannot go stale."""

import argparse
import inspect
import re
import textwrap

from tcm_hf.cli import build_parser
from tcm_hf.commands.parser import CommandParser
from tcm_hf.data.formats import FORMATS
from tcm_hf.metrics import ALIASES, PROTOCOLS


def setup(app) -> None:
    app.connect("source-read", _write)


def _write(app, name: str, source: list[str]) -> None:
    for mark, write in {"commands": _commands, "formats": _formats, "protocols": _protocols}.items():
        mark = f"<!-- {mark} -->"
        if mark in source[0]:
            source[0] = source[0].replace(mark, write())


def _formats() -> str:
    rows = [(f"`{each.name}`", _escape(each.title), _escape(each.layout)) for each in FORMATS.values()]
    return _table(("name", "data set", "files"), rows)


def _protocols() -> str:
    rows = []
    for protocol in PROTOCOLS.values():
        names = [alias for alias, name in ALIASES.items() if name == protocol.name]
        rows.append((f"`{protocol.name}`", ", ".join(f"`{name}`" for name in names), _escape(protocol.title)))
    return _table(("protocol", "names of the benchmark", "rule"), rows)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _commands() -> str:
    return "\n\n".join(map(_page, commands().values()))


def commands() -> dict[str, CommandParser]:
    """The parser of every command, by its name."""
    parser = build_parser()
    (choice,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return choice.choices


def _page(parser: CommandParser) -> str:
    parts = [f"## {parser.prog}", _text(parser.description)]
    for group in parser._action_groups:
        entries = [_option(parser, action) for action in group._group_actions if action.help is not argparse.SUPPRESS]
        if entries:
            parts += [
                f"**{_escape(group.title)}**",
                *([_text(group.description)] if group.description else []),
                *entries,
            ]
    if parser.delegate is not None:
        full, own = parser.delegate(), set(parser._option_string_actions)
        entries = [_option(full, each) for each in full._actions if not set(each.option_strings) & own]
        parts += ["**all others, most of which are transformers' own**", *entries]
    epilog = parser.full_epilog or parser.epilog
    if epilog:
        parts.append(_literal(epilog))
    return "\n\n".join(parts)


def _option(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """A definition: the option as it is typed, and its help."""
    formatter = parser._get_formatter()
    text = formatter._expand_help(action).replace(" (default: None)", "") if action.help else ""
    typed = formatter._format_action_invocation(action)
    return f"`{typed}`\n: {_escape(' '.join(text.split()))}"


def _text(text: str) -> str:
    """Paragraphs, of which indented ones are commands and stay as they are."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text))
    return "\n\n".join(_literal(each) if each.startswith("  ") else _escape(each) for each in paragraphs)


def _literal(text: str) -> str:
    return f"```text\n{textwrap.dedent(text).strip()}\n```"


def _escape(text: str) -> str:
    """Text in which nothing is Markdown except for code in backticks."""
    parts = re.split(r"(`[^`\n]+`)", text)
    return "".join(part if i % 2 else re.sub(r"([\\*_<>\[\]{}#|~$`])", r"\\\1", part) for i, part in enumerate(parts))
