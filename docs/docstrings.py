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
"""
Docstrings to reStructuredText, which Sphinx reads.

The docstrings have the form of transformers' own: sections `Args:`, `Returns:`, `Raises:` and so on, arguments as
``name (`type`, *optional*, defaults to `x`): ...``, code in single backticks, and ``[`Name`]`` for a link.
"""

import ast
import inspect
import re
import textwrap
from pathlib import Path

import tcm_hf


SECTIONS = {
    "Args": "Parameters",
    "Attributes": "Attributes",
    "Returns": "Returns",
    "Yields": "Yields",
    "Raises": "Raises",
    "Example": "Example",
}
# A signature of more arguments says less than the list below it.
MOST_ARGUMENTS = 12
# `name (...): text`, `name, name: text` or `ValueError: text`; the colon may end the line.
ITEM = re.compile(
    r"^(\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*|see [^:]+)( \(.*?\)(?:, [\w, ]+\(.*?\))*)?:(?: (.*))?$", re.DOTALL
)


def setup(app) -> None:
    app.connect("autodoc-process-docstring", _process)
    app.connect("autodoc-process-signature", _signature)
    app.connect("missing-reference", _resolve)


def _process(app, what, name, object, options, lines: list[str]) -> None:
    lines[:] = convert("\n".join(lines)).split("\n")


def _signature(app, what, name, object, options, signature, annotation):
    try:
        count = len(inspect.signature(object).parameters)
    except (TypeError, ValueError):
        return None
    return ("(...)", annotation) if count > MOST_ARGUMENTS else None


# ------------------------------------------------------------------------------------------ text


def convert(text: str) -> str:
    """A docstring as reStructuredText."""
    parts = re.split(rf"^({'|'.join(SECTIONS)}):[ ]*\n", inspect.cleandoc(text), flags=re.MULTILINE)
    converted = [_prose(parts[0])]
    for title, rest in zip(parts[1::2], parts[2::2]):
        inside, after = _indented(rest)
        body = _items(inside) if title in ("Args", "Attributes", "Raises") else _prose(inside)
        converted += [f".. rubric:: {SECTIONS[title]}", body, _prose(after)]
    return "\n\n".join(part for part in converted if part.strip()) + "\n"


def _indented(text: str) -> tuple[str, str]:
    """The indented lines at the start of a text, and the rest."""
    lines = text.split("\n")
    count = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith(" ")), len(lines))
    return textwrap.dedent("\n".join(lines[:count])).strip("\n"), "\n".join(lines[count:]).strip("\n")


def _items(text: str) -> str:
    """Arguments or exceptions as a list of definitions; what has no such form stays text."""
    entries: list[list[str]] = []
    for line in text.split("\n"):
        if line.startswith(" ") or not line.strip():
            entries and entries[-1].append(line)
        elif entries and not _complete(entries[-1]):
            entries[-1].append(line)
        else:
            entries.append([line])
    return "\n\n".join(map(_item, entries))


def _complete(entry: list[str]) -> bool:
    """Whether the brackets of an argument's types, which may go on in the next line, are closed."""
    text = " ".join(line.strip() for line in entry)
    return bool(ITEM.match(text)) or text.count("(") <= text.count(")")


def _item(lines: list[str]) -> str:
    head, rest = lines[0], lines[1:]
    while rest and not ITEM.match(head):
        head, rest = f"{head} {rest[0].strip()}", rest[1:]
    match = ITEM.match(head)
    if not match:
        return _prose("\n".join(lines))
    names, types, first = match.groups()
    body = textwrap.dedent("\n".join(rest)).strip("\n")
    body = f"{first}\n{body}" if first else body
    names = (
        re.sub(r"[\w.]+", lambda name: f"**{name[0]}**", names.replace("*", "\\*")) if "see " not in names else names
    )
    return f"{names}{_inline(types or '')}\n{textwrap.indent(_prose(body) or '..', '    ')}"


def _prose(text: str) -> str:
    """Paragraphs, lists and code."""
    done, pending, fence = [], [], None
    for line in text.split("\n"):
        start = re.match(r"^\s*```(\w*)$", line)
        if start and fence is None:
            done.append(_paragraphs("\n".join(pending)))
            pending, fence = [], start[1] or "text"
        elif start:
            code = textwrap.indent(textwrap.dedent("\n".join(pending)).strip("\n"), "    ")
            done.append(f".. code-block:: {fence}\n\n{code}")
            pending, fence = [], None
        else:
            pending.append(line)
    return "\n\n".join(part for part in [*done, _paragraphs("\n".join(pending))] if part.strip())


def _paragraphs(text: str) -> str:
    lines: list[str] = []
    for line in _inline(text).split("\n"):
        # A list begins after an empty line.
        begins = re.match(r"^\s*- ", line) and lines and lines[-1].strip()
        if begins and not re.match(r"^\s*- ", lines[-1]) and _depth(lines[-1]) <= _depth(line):
            lines.append("")
        lines.append(line)
    return "\n".join(lines)


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


def _inline(text: str) -> str:
    """Code and links; doctests stay as they are."""
    parts = re.split(r"((?:^ *>>>.*\n?(?:^ *\S.*\n?)*)+)", text, flags=re.MULTILINE)
    return "".join(part if i % 2 else _markup(part) for i, part in enumerate(parts))


def _markup(text: str) -> str:
    def code(match: re.Match) -> str:
        link, code = match[1], match[2]
        inside = f":py:obj:`{link}`" if link else f"``{code}``"
        before = "\\ " if re.search(r"[\w)]$", text[: match.start()]) else ""
        after = "\\ " if re.match(r"\w", text[match.end() :]) else ""
        return before + inside + after

    text = re.sub(r"\[`([^`]+)`\]|(?<!`)`([^`]+)`(?!`)", code, text)
    return re.sub(r"(?<![\w`\\*])\*(?=[\w*]+[,)\s])(?![^*\n]*\*)", r"\\*", text)


# ----------------------------------------------------------------------------------------- links


def _resolve(app, env, node, contnode):
    """
    Links are by a name's end, as [`TCMConfig`]. What the site does not describe is code, if there is such a name at all;
    otherwise Sphinx warns.
    """
    target = node["reftarget"].lstrip("~")
    domain = env.domains["py"]
    found = sorted((name for name in domain.objects if f".{name}".endswith(f".{target}")), key=len)
    if found:
        entry = domain.objects[found[0]]
        contnode = contnode.deepcopy()
        contnode.children = [type(contnode.children[0])(target.rsplit("/")[-1])]
        from sphinx.util.nodes import make_refnode

        return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, found[0])
    if target.startswith("transformers.") or target.split(".")[-1] in _names():
        return contnode
    return None


def _names(known: set[str] = set()) -> set[str]:  # noqa: B006
    """Every name that is defined somewhere in the package."""
    if not known:
        for file in Path(tcm_hf.__file__).parent.rglob("*.py"):
            known.add(file.stem)
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    known.add(node.name)
                elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    known.add(node.id)
    return known
