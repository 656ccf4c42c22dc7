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
MODULES = {"pillow": "PIL", "pyyaml": "yaml", "opencv-python-headless": "cv2"}

# What a published checkpoint names; transformers copies these files and all that they import relatively.
TRAVELLING_ENTRIES = (
    "model/configuration_tcm.py",
    "model/modeling_tcm.py",
    "model/image_processing_tcm.py",
    "model/pipeline_text_detection.py",
)
# Every wing imports from itself and from those above it only. `__init__.py` gives out the public names.
WINGS = (
    ("_version.py", "cores.py", "output_files.py", "output_folders.py", "checkpoints/", "model/"),
    ("registration.py",),
    ("targets/", "visualization.py", "outputs/", "explanation/"),
    ("conversion/", "data/", "export/", "metrics/"),
    ("training/", "inputs/"),
    ("commands/",),
    ("cli.py",),
    ("__main__.py",),
)
# Inside of model/.
LAYERS = (
    (
        "sharing.py",
        "model_card.py",
        "detector_*.py",
        "detectors.py",
        "own_detectors.py",
        "configuration_tcm.py",
        "configuration_towers.py",
        "modeling_attention.py",
        "modeling_dense_attention.py",
        "modeling_fused_convolution.py",
        "modeling_masks.py",
        "modeling_outputs.py",
        "modeling_clip_tower.py",
        "losses.py",
        "outlines.py",
        "polygons.py",
        "image_loading.py",
        "image_arrays.py",
        "image_processing_settings.py",
    ),
    ("modeling_folded.py", "modeling_clip_resnet.py", "decoding_*.py", "post_processing.py", "tiling.py"),
    (
        "modeling_vit_tower.py",
        "modeling_cnn_towers.py",
        "modeling_text_towers.py",
        "modeling_tcm_prompts.py",
        "modeling_tcm_*.py",
    ),
    ("modeling_clip_vit.py", "modeling_siglip_vit.py", "modeling_dinov3_vit.py"),
    ("modeling_clip_folded.py", "modeling_tcm_db_folded.py"),
    ("modeling_tcm.py", "image_processing_tcm.py"),
    ("pipeline_text_detection.py",),
)


def imports(name: str) -> list[tuple[str, int]]:
    """Everything a file imports, wherever it stands in it: (module, level), level 0 = not relative."""
    found = []
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
            base = f"{node.module}." if node.module else ""
            if not node.level:
                found.append((node.module, 0))
            elif not node.module or all(_file(name, node.level, base + each) for each in names):
                found += [(base + each, node.level) for each in names]  # modules of a folder
            else:
                found.append((node.module, node.level))
    return found


def _file(name: str, level: int, module: str) -> str | None:
    """The file that a relative import in another file means."""
    path = (Path(name).parents[level - 1] / module.replace(".", "/")).as_posix()
    return next((file for file in (f"{path}.py", f"{path}/__init__.py") if file in FILES), None)


def relative_files(name: str) -> set[str]:
    """Files of the package that a file imports directly."""
    return {_file(name, level, module) or "__init__.py" for module, level in imports(name) if level}


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


def wing(name: str) -> int:
    """The place of a file's wing; the package's own `__init__.py` is none."""
    return next(i for i, parts in enumerate(WINGS) if any(name == part or name.startswith(part) for part in parts))


def layer(name: str) -> int | None:
    for rank, patterns in enumerate(LAYERS):
        if any(Path(name).match(f"model/{pattern}") for pattern in patterns):
            return rank
    return None


def test_the_package_is_seen():
    assert {*TRAVELLING_ENTRIES, "targets/db.py", "data/formats/__init__.py"} <= set(FILES)
    assert ("torch", 0) in imports("model/modeling_tcm.py")
    assert "model/losses.py" in closure("model/modeling_tcm.py")
    assert len([name for name in FILES if "/" not in name]) <= 9


@pytest.mark.parametrize("name", sorted(closure(*TRAVELLING_ENTRIES)))
def test_travelling_files_are_flat(name):
    assert Path(name).parent == Path("model")
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1 and node.module and "." not in node.module, ast.unparse(node)
    assert "tcm_hf" not in third_party({name})


def test_only_what_travels_lives_in_model():
    inside = {name for name in FILES if name.startswith("model/")}
    assert inside == closure(*TRAVELLING_ENTRIES) | {"model/__init__.py"}


def test_travelling_files_need_what_a_user_has():
    # What transformers itself asks for before it runs them: everything that is not imported in a `try`.
    needed = {module for name in closure(*TRAVELLING_ENTRIES) for module in get_imports(str(FILES[name]))}
    allowed = {"torch", "transformers", "huggingface_hub", "safetensors", "numpy", "PIL", "cv2", "shapely"}
    # Imported where a model's settings ask for whole pixels, and nowhere else.
    allowed |= {"pyclipper"}
    assert needed - sys.stdlib_module_names <= allowed


MODELING = ("model/modeling_", "model/configuration_", "model/losses", "model/detector", "model/own_detectors")


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith(MODELING)])
def test_modeling_has_no_pictures_and_no_files(name):
    files = closure(name) - {"model/sharing.py", "model/model_card.py"}  # every class can be published
    assert all(file.startswith(MODELING) for file in files)
    assert not third_party(files) & {"cv2", "PIL", "shapely", "numpy", "datasets"}


WITHOUT_TORCH = (
    "model/decoding_",
    "model/outlines",
    "model/polygons",
    "model/post_processing",
    "model/image_arrays",
    "model/image_loading",
    "model/image_processing_settings",
    "export/runtime",
    "targets/",
    "metrics/",
)


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith(WITHOUT_TORCH)])
def test_geometry_has_no_torch(name):
    assert not third_party(closure(name)) & {"torch", "transformers"}


@pytest.mark.parametrize("name", [name for name in FILES if name != "__init__.py"])
def test_no_import_runs_back_up(name):
    for other in relative_files(name) - {"__init__.py"}:
        assert wing(other) <= wing(name), f"{name} imports {other}"
        assert (
            wing(other) < wing(name) or name not in closure(other) - {"__init__.py"} or other.endswith("/__init__.py")
        ), f"{name} and {other} import each other"
        if layer(other) is not None and layer(name) is not None:
            assert layer(other) <= layer(name), f"{name} imports {other}"


LOADED = """
import sys, importlib
importlib.import_module(sys.argv[1])
print(*(name for name in sys.modules if name.startswith("tcm_hf.")))
"""


@pytest.mark.parametrize(
    "module, absent",
    [
        ("tcm_hf", ("commands", "data", "training", "conversion", "metrics", "targets", "cli")),
        ("tcm_hf.data", ("commands", "training", "conversion", "metrics", "cli")),
        ("tcm_hf.inputs", ("commands", "training", "conversion", "metrics", "targets", "cli")),
        ("tcm_hf.metrics", ("commands", "training", "conversion", "data", "targets", "cli")),
        ("tcm_hf.training.setup", ("commands", "conversion", "cli")),
        ("tcm_hf.conversion.convert", ("commands", "training", "data", "metrics", "targets", "cli")),
    ],
)
def test_what_a_module_loads_is_not_above_it(module, absent):
    """What is loaded, whatever the sources say: an import through importlib would be seen here."""
    output = subprocess.run(
        [sys.executable, "-c", LOADED, module], check=True, cwd=PACKAGE.parent, capture_output=True, text=True
    ).stdout
    loaded = {name.split(".")[1] for name in output.split()}
    assert not loaded & set(absent)


def declared(option: str, section: str = "options") -> set[str]:
    """Modules of the requirements of setup.cfg."""
    setup = configparser.ConfigParser()
    setup.read_string((PACKAGE.parent / "setup.cfg").read_text(encoding="utf-8"))
    names = re.findall(r"^[\w.-]+", setup[section][option], re.MULTILINE)
    return {MODULES.get(name, name) for name in names}


def optional() -> set[str]:
    """Modules of all extras that users install."""
    setup = configparser.ConfigParser()
    setup.read_string((PACKAGE.parent / "setup.cfg").read_text(encoding="utf-8"))
    extras = set(setup["options.extras_require"]) - {"test", "docs"}
    return {module for extra in extras for module in declared(extra, "options.extras_require")}


def test_what_is_imported_is_declared():
    imported = third_party(set(FILES)) - sys.stdlib_module_names - {"tcm_hf"}
    always = declared("install_requires")
    assert imported <= always | optional()
    assert always <= imported, "required, but imported nowhere"


def test_the_package_imports_without_its_extras_and_without_warnings():
    code = "import sys\nfor name in sys.argv[1:]: sys.modules[name] = None\nimport tcm_hf.cli, tcm_hf.training.trainer"
    extra = sorted(optional() - declared("install_requires"))
    subprocess.run([sys.executable, "-W", "error", "-c", code, *extra], check=True, cwd=PACKAGE.parent)
