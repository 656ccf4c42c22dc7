# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""What the documents say: examples run, commands and options exist, links lead somewhere, modules have the names given."""

import configparser
import contextlib
import doctest
import importlib
import re
import shlex
import unittest
from pathlib import Path

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

from tcm_hf.cli import build_parser, main
from tcm_hf.data.formats import registry as formats
from tcm_hf.metrics import protocols
from tcm_hf.model import detector_registry, detectors


ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tcm_hf"
PAGES = sorted([ROOT / "README.md", ROOT / "examples" / "README.md", *(ROOT / "docs").glob("*.md")])
# The documents whose commands are looked at: those above, and some that tell what was done, and where.
DOCUMENTS = [*PAGES, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "model_cards").glob("*.md"))]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


@pytest.fixture(autouse=True)
def _registries_are_put_back():
    """Examples add detectors, formats and protocols."""
    assert detectors.detector_names()  # those of the package are there before
    registries = (
        detector_registry._REGISTRY,
        formats.FORMATS,
        formats._NAMES,
        protocols.PROTOCOLS,
        protocols.ALIASES,
        protocols._ALIASES,
    )
    before = [dict(each) for each in registries]
    yield
    for each, content in zip(registries, before):
        each.clear()
        each.update(content)


# --------------------------------------------------------------------------------------- examples


def modules_with_examples() -> list[str]:
    files = (file for file in sorted(PACKAGE.rglob("*.py")) if ">>>" in file.read_text(encoding="utf-8"))
    return [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_of_docstrings(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = doctest.testmod(importlib.import_module(name), optionflags=OPTIONS)
    assert found.attempted and not found.failed


def commands(text: str) -> list[list[str]]:
    """The commands of a shell block, in words, without their comments."""
    lines = text.replace("\\\n", " ").splitlines()
    pieces = [shlex.split(piece, comments=True) for line in lines for piece in line.split("&&")]
    return [words for words in pieces if words]


def run_commands(example: Example) -> None:
    for words in commands(example.parsed):
        if words[0] in ("pip", "pytest"):  # the test runs in what they make
            continue
        assert words[0] == "tcm-hf", f"{shlex.join(words)}: a block with other commands than tcm-hf is to be skipped"
        assert main(words[1:]) == 0, shlex.join(words)


PARSERS = [
    CodeBlockParser("bash", run_commands),
    PythonCodeBlockParser(doctest_optionflags=OPTIONS),
    SkipParser(),
]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_examples_of_pages(page, tmp_path, monkeypatch):
    """In order, in a folder of their own; what needs data, downloads or hours is marked `<!-- skip: next "reason" -->`."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    for example in Sybil(parsers=PARSERS, path=str(ROOT)).parse(page).examples():
        with contextlib.suppress(unittest.SkipTest):  # of a block that is marked so; the others still have to run
            example.evaluate()


# --------------------------------------------------------------------------------------- commands


def shell_commands(file: Path) -> list[list[str]]:
    blocks = re.findall(r"^```bash\n(.*?)^```", file.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [words for block in blocks for words in commands(block)]


def options_of_training() -> set[str]:
    from transformers import HfArgumentParser

    from tcm_hf.training import DataArguments, ModelArguments, TCMTrainingArguments
    from tcm_hf.training.options import LoopArguments

    kinds = (ModelArguments, DataArguments, TCMTrainingArguments), (LoopArguments,)
    return {option for each in kinds for option in HfArgumentParser(each)._option_string_actions}


@pytest.mark.parametrize("file", DOCUMENTS, ids=name_of)
def test_commands_of_documents_exist(file):
    """Those that are not run, too."""
    training = options_of_training()
    for words in shell_commands(file):
        if words[0] == "tcm-hf":
            build_parser().parse_args(words[1:])
            options = {word.split("=")[0] for word in words if re.match("--[a-z]", word)}
            assert words[1] != "train" or options <= training, f"{shlex.join(words)}: {options - training}"
        for script in (word for word in words if re.fullmatch(r"(examples|benchmarks)/\S+\.(py|sh)", word)):
            assert (ROOT / script).is_file(), shlex.join(words)
            source = (ROOT / script).read_text(encoding="utf-8")
            options = {word.split("=")[0] for word in words[words.index(script) :] if re.match("--[a-z]", word)}
            unknown = {each for each in options - training if not re.search(rf"\b{each[2:]}\b", source)}
            assert not unknown, f"{shlex.join(words)}: {unknown}"


# ------------------------------------------------------------------------------------------ links


def project_url() -> str:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return setup["metadata"]["url"]


def links(file: Path) -> list[str]:
    text = re.sub(r"^(```+).*?^\1", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text))


def test_readme_works_on_its_own():
    """As the description of the package elsewhere: short, and with links that need no repository around them."""
    readme = ROOT / "README.md"
    assert len(readme.read_text(encoding="utf-8").splitlines()) < 200
    found = links(readme)
    assert found and all(link.startswith("https://") for link in found)
    inside = [link.removeprefix(project_url()) for link in found if link.startswith(project_url())]
    assert len(inside) > 5
    for link in inside:
        kind, branch, path = re.fullmatch(r"/(\w+)/(\w+)/([^#?]+)(?:#.*)?", link).groups()
        assert branch == "main" and kind in ("blob", "raw", "tree") and (ROOT / path).exists(), link


@pytest.mark.parametrize(
    "file", [page for page in DOCUMENTS if page.name != "README.md" or "examples" in page.parts], ids=name_of
)
def test_links_of_documents_lead_somewhere(file):
    for link in links(file):
        if not re.match(r"(https?|mailto):", link):
            path, _, anchor = link.partition("#")
            target = file.parent / path if path else file
            assert target.is_file(), f"{name_of(file)}: {link}"
            if anchor:
                headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
                assert anchor in {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}, link


# ----------------------------------------------------------------------------------- CONTRIBUTING


def test_the_walk_names_what_exists():
    """Every module once, in the order of the walk."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for title in ("An image, from its path to polygons", "A label, from its file to the loss"):
        walk = text.split(f"## {title}\n")[1].split("\n## ")[0]
        steps = re.findall(r"^\d+\. `([\w/]+\.py)`(?:, `(\w+(?:\.\w+)*)`)?", walk, re.MULTILINE)
        assert len(steps) > 5 and len(steps) == len({file for file, _ in steps}) == len(
            re.findall(r"^\d+\.", walk, re.M)
        )
        for file, name in steps:
            assert (PACKAGE / file).is_file(), file
            module = importlib.import_module("tcm_hf." + file.removesuffix(".py").replace("/", "."))
            value = module
            for part in filter(None, name.split(".")):
                value = getattr(value, part)
            assert getattr(value, "__module__", module.__name__) == module.__name__, f"{name} is not of {file}"


@pytest.mark.parametrize("file", [*DOCUMENTS, ROOT / "CHANGELOG.md"], ids=name_of)
def test_paths_that_are_named_exist(file):
    if file.name == "CHANGELOG.md":
        text = re.sub(
            r"\|[^|\n]*\|(?=[^|\n]*\|)", "|", file.read_text(encoding="utf-8")
        )  # the old names of what moved
    else:
        text = re.sub(r"^(```+).*?^\1", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for path in re.findall(r"`((?:tcm_hf|examples|tests|docs|benchmarks|model_cards|\.ci)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), f"{name_of(file)}: {path}"
