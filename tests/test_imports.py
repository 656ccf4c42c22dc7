# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""Who may import whom, read from the sources: the files that travel with a checkpoint, and the ones without torch."""

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_imports


PACKAGE = Path(__file__).resolve().parents[1] / "tcm_hf"
FILES = {file.relative_to(PACKAGE).as_posix(): file for file in sorted(PACKAGE.rglob("*.py"))}

# Distributions whose modules are named otherwise.
MODULES = {"pillow": "PIL", "opencv-python-headless": "cv2"}

# What a published checkpoint names; transformers copies these files and all that they import relatively.
TRAVELLING_ENTRIES = (
    "configuration_tcm.py",
    "modeling_tcm.py",
    "image_processing_tcm.py",
    "pipeline_text_detection.py",
)
# Every file imports from files further left only.
LAYERS = (
    (
        "configuration_tcm.py",
        "modeling_clip_resnet.py",
        "losses.py",
        "polygons.py",
        "image_loading.py",
        "image_arrays.py",
        "image_processing_settings.py",
    ),
    ("modeling_tcm_prompts.py", "modeling_tcm_*.py", "decoding_*.py"),
    ("modeling_tcm.py", "image_processing_tcm.py"),
    ("pipeline_text_detection.py", "visualization.py"),
    ("convert*.py", "cli.py"),
)


def imports(name: str) -> list[tuple[str, int]]:
    """Everything a file imports, wherever it stands in it: (module, level), level 0 = not relative."""
    found = []
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.module, node.level)] if node.module else [(alias.name, node.level) for alias in node.names]
    return found


def relative_files(name: str) -> set[str]:
    """Files of the package that a file imports directly."""
    files = set()
    for module, level in imports(name):
        if level:
            folder = Path(name).parents[level - 1]
            path = (folder / module.replace(".", "/")).as_posix()
            files.add(f"{path}.py" if f"{path}.py" in FILES else f"{path}/__init__.py")
    return files


def closure(*names: str) -> set[str]:
    found, waiting = set(), list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += relative_files(name)
    return found


def third_party(names: set[str]) -> set[str]:
    return {module.split(".")[0] for name in names for module, level in imports(name) if not level}


def layer(name: str) -> int | None:
    for rank, patterns in enumerate(LAYERS):
        if any(Path(name).match(pattern) for pattern in patterns) and "/" not in name:
            return rank
    return None


def test_the_package_is_seen():
    assert {*TRAVELLING_ENTRIES, "targets/db.py", "data/formats/__init__.py"} <= set(FILES)
    assert ("torch", 0) in imports("modeling_tcm.py")
    assert "losses.py" in closure("modeling_tcm.py")


@pytest.mark.parametrize("name", sorted(closure(*TRAVELLING_ENTRIES)))
def test_travelling_files_are_flat(name):
    assert "/" not in name
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1 and node.module and "." not in node.module, ast.unparse(node)
    assert "tcm_hf" not in third_party({name})


def test_travelling_files_need_what_a_user_has():
    # What transformers itself asks for before it runs them: everything that is not imported in a `try`.
    needed = {module for name in closure(*TRAVELLING_ENTRIES) for module in get_imports(str(FILES[name]))}
    allowed = {"torch", "transformers", "huggingface_hub", "safetensors", "numpy", "PIL", "cv2", "shapely"}
    # Imported where a model's settings ask for whole pixels, and nowhere else.
    allowed |= {"pyclipper"}
    assert needed - sys.stdlib_module_names <= allowed


@pytest.mark.parametrize(
    "name", [name for name in FILES if name.startswith(("modeling_", "configuration_", "losses"))]
)
def test_modeling_has_no_pictures_and_no_files(name):
    files = closure(name) - {"sharing.py", "training_card.py"}  # every class can be published
    assert all(file.startswith(("modeling_", "configuration_", "losses")) for file in files)
    assert not third_party(files) & {"cv2", "PIL", "shapely", "numpy", "datasets"}


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in FILES
        # The command runs the pipeline; the metrics themselves do not.
        if name.startswith(("decoding_", "polygons", "targets/", "metrics/")) and name != "metrics/command.py"
    ],
)
def test_geometry_has_no_torch(name):
    assert not third_party(closure(name)) & {"torch", "transformers"}


@pytest.mark.parametrize("name", [name for name in FILES if layer(name) is not None])
def test_imports_go_one_way(name):
    for other in relative_files(name):
        if layer(other) is not None:
            assert layer(other) <= layer(name), f"{name} imports {other}"
            assert name not in closure(other), f"{name} and {other} import each other"


def declared(option: str, section: str = "options") -> set[str]:
    """Modules of the requirements of setup.cfg."""
    setup = configparser.ConfigParser()
    setup.read_string((PACKAGE.parent / "setup.cfg").read_text(encoding="utf-8"))
    names = re.findall(r"^[\w.-]+", setup[section][option], re.MULTILINE)
    return {MODULES.get(name, name) for name in names}


def test_what_is_imported_is_declared():
    imported = third_party(set(FILES)) - sys.stdlib_module_names - {"tcm_hf"}
    always, extra = declared("install_requires"), declared("train", "options.extras_require")
    assert imported <= always | extra
    assert always <= imported, "required, but imported nowhere"


def test_the_package_imports_without_its_extras_and_without_warnings():
    code = "import sys\nfor name in sys.argv[1:]: sys.modules[name] = None\nimport tcm_hf.cli, tcm_hf.training"
    extra = sorted(declared("train", "options.extras_require") - declared("install_requires"))
    subprocess.run([sys.executable, "-W", "error", "-c", code, *extra], check=True, cwd=PACKAGE.parent)
