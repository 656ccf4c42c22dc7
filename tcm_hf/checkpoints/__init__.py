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

"""The checkpoints that come with the package, by name."""

import os
from pathlib import Path


DEFAULT = "tcm-small"


def checkpoint_names() -> list[str]:
    """Names of the checkpoints that come with the package, sorted."""
    return sorted(file.parent.name for file in Path(__file__).parent.glob("*/config.json"))


def checkpoint_path(name: str = DEFAULT) -> str:
    """
    Directory of a checkpoint that comes with the package, for `from_pretrained` and `pipeline`.

    Args:
        name (`str`, *optional*, defaults to `"tcm-small"`): One of [`checkpoint_names`].

    Returns:
        `str`: its path.

    Raises:
        ValueError: if there is no such checkpoint.

    Example:

    >>> from tcm_hf import TCMForTextDetection, checkpoint_path

    >>> model = TCMForTextDetection.from_pretrained(checkpoint_path("tcm-tiny"))
    """
    if name not in checkpoint_names():
        raise ValueError(f"no checkpoint {name!r} comes with the package; there are {', '.join(checkpoint_names())}")
    return str(Path(__file__).parent / name)


def find_checkpoint(name_or_path: str | os.PathLike) -> str:
    """
    What a user's name of a model stands for.

    Args:
        name_or_path (`str` or `os.PathLike`): A directory, a Hub id, or the name of a checkpoint of the package; a
            directory of that name comes first.

    Returns:
        `str`: the path of the package's checkpoint where it is one, else the argument.
    """
    text = os.fspath(name_or_path)
    return checkpoint_path(text) if text in checkpoint_names() and not os.path.isdir(text) else text
