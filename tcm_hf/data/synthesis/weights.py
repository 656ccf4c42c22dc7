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
"""Names drawn by weight: styles and scripts."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from typing import TYPE_CHECKING


if TYPE_CHECKING:  # the command reads its options without NumPy
    import numpy as np


class Weights:
    """
    Names to draw by weight.

    Args:
        option (`str`): what the setting is called in messages.
        weights (`Mapping[str, float]`): the names, and how often each is drawn beside the others.
        known (`tuple[str, ...]`): the names that there are.

    Raises:
        ValueError: if there is no such name, a weight is no number of at least 0, or none is above 0.
    """

    def __init__(self, option: str, weights: Mapping[str, float], known: tuple[str, ...]):
        if not isinstance(weights, Mapping) or not weights:
            raise ValueError(f"{option} must map names to weights, got {weights!r}")
        for name, weight in weights.items():
            if name not in known:
                raise ValueError(f"{option}: unknown name {name!r}; choose from {', '.join(known)}")
            if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
                raise ValueError(f"{option}: the weight of {name!r} must be a number of at least 0, got {weight!r}")
        self.names = [name for name, weight in weights.items() if weight > 0]
        if not self.names:
            raise ValueError(f"{option}: one of the weights must be above 0, got {dict(weights)}")
        self._cumulative = list(accumulate(float(weights[name]) for name in self.names))

    def draw(self, rng: np.random.Generator) -> str:
        """One of the names; a single one takes nothing from the source of randomness."""
        if len(self.names) == 1:
            return self.names[0]
        index = bisect_right(self._cumulative, rng.random() * self._cumulative[-1])
        return self.names[min(index, len(self.names) - 1)]


def parse_weights(option: str, value: str) -> dict[str, float]:
    """
    Reads `"scene=5,document=1"`, or names alone, which weigh 1 each.

    Args:
        option (`str`): what the setting is called in messages.
        value (`str`): the text.

    Returns:
        `dict[str, float]`: weights by name.

    Raises:
        ValueError: if a weight is no number, or a name comes twice.
    """
    weights: dict[str, float] = {}
    for part in value.split(","):
        name, _, weight = part.partition("=")
        name = name.strip()
        if name in weights:
            raise ValueError(f"{option}: {name!r} is there twice in {value!r}")
        try:
            weights[name] = float(weight) if "=" in part else 1.0
        except ValueError:
            raise ValueError(
                f"{option}: the weight of {name!r} is no number: {weight!r}; write NAME=WEIGHT,..."
            ) from None
    return weights
