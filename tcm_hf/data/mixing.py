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
"""Several sources of samples: in which order they take turns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

from .formats import TextRecord


class SourceMix:
    """
    The order in which sources take turns: each comes as evenly as its share allows, and walks through its own images.

    What comes at a place depends on that place only, so a resumed run goes on where it was. Among the first `n` samples each
    source has its share of `n`, give or take as many samples as there are sources. With the default shares, the first
    samples, as many as there are images, have every image once, and so have the following ones.

    Args:
        counts (`Sequence[int]`): Images of each source.
        weights (`Sequence[float]`, *optional*, defaults to `counts`): Shares of the samples, in any unit.

    Raises:
        ValueError: if a source is empty, or the weights are not as many positive numbers.

    Example:

    >>> from tcm_hf.data.mixing import SourceMix

    >>> mix = SourceMix([100, 2], weights=[2, 1])
    >>> [mix(number) for number in range(6)]
    [0, 100, 1, 2, 101, 3]
    """

    def __init__(self, counts: Sequence[int], weights: Sequence[float] | None = None):
        self.counts = [int(count) for count in counts]
        if not self.counts or min(self.counts) < 1:
            raise ValueError(f"every source needs images, got sources of {self.counts}")
        self.turns = Turns(self.counts if weights is None else weights)
        if len(self.turns) != len(self.counts):
            raise ValueError(
                f"there are {len(self.counts)} sources, but {len(self.turns)} weights: give one for each source"
            )

    def __call__(self, number: int) -> int:
        """
        The image of a sample.

        Args:
            number (`int`): Running number of the sample, from 0.

        Returns:
            `int`: place among the images of all sources, one source after the other.
        """
        source, turn = self.turns(number)
        return sum(self.counts[:source]) + turn % self.counts[source]


class Turns:
    """
    Whose turn it is, where sources take turns by weight.

    Args:
        weights (`Sequence[float]`): One for each source.

    Raises:
        ValueError: if one of them is no positive number.
    """

    def __init__(self, weights: Sequence[float]):
        try:
            exact = [Fraction(str(weight)) for weight in weights]  # as it is written: 0.1 is a tenth
        except (ValueError, ZeroDivisionError):
            exact = []
        if not exact or min(exact) <= 0:
            raise ValueError(f"the weights of sources must be positive numbers, got {list(weights)}")
        # Whole numbers of the same proportions, so that nothing is rounded.
        common = math.lcm(*(weight.denominator for weight in exact))
        self.shares = [int(weight * common) for weight in exact]

    def __len__(self) -> int:
        return len(self.shares)

    def __call__(self, number: int) -> tuple[int, int]:
        """
        Args:
            number (`int`): Running number of a sample, from 0.

        Returns:
            `tuple[int, int]`: the source, and how many turns it has had.
        """
        # Turn k of a source of share s is due at time (k + 1/2) / s; number n is the n-th of all turns by that time. At
        # the time t a source has had round(t s) turns, and all together t, give or take half of one for each source.
        total, sources = sum(self.shares), len(self.shares)
        twice = max(2 * number - sources, 0)
        had = [(twice * share + total) // (2 * total) for share in self.shares]
        while True:
            due = [Fraction(2 * turn + 1, share) for turn, share in zip(had, self.shares)]
            source = due.index(min(due))
            if sum(had) == number:
                return source, had[source]
            had[source] += 1


class ShuffledRecords:
    """
    Records in another order in every pass, for a stream of samples that mixes them with others.

    Args:
        records (`Sequence[TextRecord]`): The records.
        seed (`int`, *optional*, defaults to 0): Of the orders.
    """

    def __init__(self, records: Sequence[TextRecord], seed: int = 0):
        self.records, self.seed, self.epoch = list(records), int(seed), 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the pass."""
        self.epoch = int(epoch)

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[TextRecord]:
        order = np.random.default_rng([self.seed, self.epoch, len(self.records)]).permutation(len(self.records))
        return (self.records[index] for index in order)
