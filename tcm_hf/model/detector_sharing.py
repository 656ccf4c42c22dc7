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
How the file of one's own detector travels with a checkpoint.

It is saved beside the code of this package, and `own_detectors.py` there imports it. What it imports from `tcm_hf` it
imports from those files then, so that the checkpoint works where this package is not installed.
"""

import ast
import dataclasses
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from transformers.configuration_utils import PreTrainedConfig
from transformers.dynamic_module_utils import get_class_from_dynamic_module, get_relative_imports

from .detector_registry import Detector, adopt_detector, find_detector, knows_detector


logger = logging.getLogger(__name__)

PACKAGE = "tcm_hf"
#: In `auto_map` of a checkpoint that brings its detector: where it is found.
AUTO_MAP_KEY = "TCMDetector"
AUTO_MAP_ENTRY = "detectors.find_detector"
HERE = Path(__file__).parent

# In pieces, because transformers looks for imports in the text of this file, too.
_OWN_DETECTORS = (
    '"""The detector that this checkpoint brings along."""\n\n\n'
    "def load_own_detectors() -> None:\n"
    '    """Registers it."""\n'
    "    from .{module} import __name__ as _  # noqa: F401\n"
)


def own_file(name: str) -> Path | None:
    """
    The file that registers a detector and has to travel with it.

    Args:
        name (`str`): the detector's name.

    Returns:
        `Path` or `None`: `None` for those of this package, whose files travel anyway, and for those that are registered
        within a function or a notebook, which no file registers.
    """
    detector = find_detector(name) if knows_detector(name, "name") else None
    module = sys.modules.get(detector.source) if detector is not None and detector.source is not None else None
    file = getattr(module, "__file__", None)
    if detector is None or file is None or Path(file).parent == HERE:
        return None
    if detector.source == "__main__":
        logger.warning(
            "the detector %r is registered by the script that runs, which cannot be saved with the checkpoint; move it to a "
            "file that the script imports",
            name,
        )
        return None
    return Path(file)


def save_own_detector(directory: str | os.PathLike, name: str | None) -> None:
    """
    Puts the file of a detector beside the code that is saved with a checkpoint.

    Args:
        directory (`str` or `os.PathLike`): of the checkpoint.
        name (`str`, *optional*): the detector's name.

    Raises:
        ValueError: if the file has the name of one of this package's files.
    """
    folder = Path(directory)
    file = own_file(name) if name is not None and (folder / "detectors.py").is_file() else None
    if file is None:
        return
    if (HERE / file.name).exists():
        raise ValueError(
            f"{file}: a file of tcm_hf has this name, too; give the file of the detector {name!r} another name"
        )
    (folder / file.name).write_text(_with_relative_imports(file.read_text(encoding="utf-8")), encoding="utf-8")
    (folder / "own_detectors.py").write_text(_OWN_DETECTORS.format(module=file.stem), encoding="utf-8")
    waiting = get_relative_imports(folder / file.name)
    seen = {"own_detectors"}
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        source = next((path for path in (HERE / f"{module}.py", file.parent / f"{module}.py") if path.is_file()), None)
        if source is not None:
            shutil.copyfile(source, folder / source.name)
            waiting += get_relative_imports(source)


def _with_relative_imports(text: str) -> str:
    """A module's source with the files beside it in place of this package, as far as those files have what it imports."""
    replaced = text.encode()
    starts = [0]
    for line in replaced.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom) and not node.level]
    for node in sorted(nodes, key=lambda node: (node.lineno, node.col_offset), reverse=True):
        statements = _relative_import(node)
        if statements is not None:
            begin = starts[node.lineno - 1] + node.col_offset
            end = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
            indented = f"\n{' ' * node.col_offset}".join(statements)
            replaced = replaced[:begin] + indented.encode() + replaced[end:]
    return replaced.decode()


def _relative_import(node: ast.ImportFrom) -> list[str] | None:
    """The statements in place of an import from this package; `None` where it stays."""
    prefix = f"{PACKAGE}.model."
    if node.module is None or not (node.module == PACKAGE or node.module.startswith(prefix)):
        return None
    public = sys.modules.get(PACKAGE)
    names: dict[str, list[str]] = {}
    for alias in node.names:
        if node.module == PACKAGE:
            module = getattr(getattr(public, alias.name, None), "__module__", None) or PACKAGE
            module = f".{module.removeprefix(prefix)}" if module.startswith(prefix) else PACKAGE
        else:
            module = f".{node.module.removeprefix(prefix)}"
        names.setdefault(module, []).append(f"{alias.name} as {alias.asname}" if alias.asname else alias.name)
    return [f"from {module} import {', '.join(each)}" for module, each in names.items()]


def load_own_detector(source: str | os.PathLike, arguments: dict[str, Any]) -> None:
    """
    Makes the detector that a checkpoint brings along known, where its code is trusted and the detector is not known yet.

    Args:
        source (`str` or `os.PathLike`): directory or Hub id of the checkpoint.
        arguments (`dict`): of `from_pretrained`; among them `trust_remote_code` and, where it is loaded already, `config`.
    """
    if not arguments.get("trust_remote_code"):
        return
    names = ("cache_dir", "force_download", "local_files_only", "revision", "token")
    hub_arguments = {name: arguments[name] for name in names if arguments.get(name) is not None}
    config = arguments.get("config")
    if not isinstance(config, PreTrainedConfig):
        config, _ = PreTrainedConfig.get_config_dict(source, **hub_arguments)
    values = config if isinstance(config, dict) else vars(config)
    name, auto_map = values.get("detector"), values.get("auto_map") or {}
    if not isinstance(name, str) or AUTO_MAP_KEY not in auto_map:
        return
    if not knows_detector(name, "name"):
        found = get_class_from_dynamic_module(auto_map[AUTO_MAP_KEY], source, **hub_arguments)(name)
        # The classes of its declaration are those of the files beside it.
        parts = {field.name: getattr(found, field.name) for field in dataclasses.fields(Detector)}
        relative = [part for part, value in parts.items() if isinstance(value, str) and value.startswith(".")]
        adopt_detector(Detector(**{**parts, **{part: found.part(part) for part in relative}}))
    if isinstance(config, PreTrainedConfig):
        config.complete_detector_config()
