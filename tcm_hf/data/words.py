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
"""Random words for rendering: listed or invented words, numbers, prices, telephone numbers, addresses of the web."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


_SIGN_TEXT = """
open closed exit entrance push pull sale new free food drink coffee tea bar cafe hotel shop store market bank station
street road avenue lane park parking garden school office police fire hospital clinic pharmacy museum library theatre
cinema music sport city town house home centre north south east west left right up down stop slow danger warning caution
keep clear no smoking entry private public please thank you welcome the and of for to in at on with from your our all
best fresh hot cold big small super special offer only today now here more less than one two three four five six seven
day night week month year hour time price gift card books fashion beauty hair salon travel tours tickets bus train
taxi airport gate platform level floor lift toilet men women water milk bread pizza burger chicken fish rice noodle
restaurant kitchen bakery wine beer juice summer winter spring love life happy world international company limited
service repair phone mobile computer electric power light gas oil car auto motor tyre wash rent sold property estate
design studio art gallery photo print black white red blue green yellow gold silver star sun moon king queen royal
"""
SIGN_WORDS = _SIGN_TEXT.split()
_CLUSTERS = "bl br ch cl cr dr fl fr gl gr pl pr sh sl sp st th tr"
_ONSETS = (*"bcdfghjklmnprstvwyz", *_CLUSTERS.split())
_VOWELS = (*"aeiouaeio", "ai", "ea", "ee", "oo", "ou", "y")
_CODAS = ("", "", "", *"nrstlmdx", "ng", "st", "rt", "nd", "ck", "ll")


def random_word(rng: np.random.Generator, words: Sequence[str] | None = None) -> str:
    """
    Draws one word as it could stand on a sign.

    Args:
        rng (`np.random.Generator`): the source of randomness.
        words (`Sequence[str]`, *optional*):
            Words to choose from most of the time; `None`: a short built-in list and invented pronounceable words.

    Returns:
        `str`: a word without spaces, with at least one letter or digit.
    """
    kind = rng.random()
    if kind < 0.10:
        return _number(rng)
    if kind < 0.14:
        return "".join(rng.choice(list("ABCDEFGHJKLMNPRSTUVWXYZ0123456789"), size=rng.integers(2, 8)))
    if kind < 0.16:
        name = _invented(rng).lower()
        return (
            ("www." if rng.random() < 0.6 else "") + name + str(rng.choice([".com", ".org", ".net", ".sg", ".co.uk"]))
        )
    pool = words if words is not None else SIGN_WORDS if rng.random() < 0.5 else None
    word = str(pool[rng.integers(len(pool))]) if pool is not None else _invented(rng)
    case = rng.random()
    word = word.upper() if case < 0.3 else word.capitalize() if case < 0.65 else word
    if rng.random() < 0.06:
        word += str(rng.choice(list("!?.,:")))
    elif rng.random() < 0.02:
        word += "'s"
    return word


def _invented(rng: np.random.Generator) -> str:
    syllables = int(rng.choice([1, 2, 3, 4], p=[0.2, 0.45, 0.25, 0.1]))
    parts = []
    for _ in range(syllables):
        parts += [_ONSETS[rng.integers(len(_ONSETS))], _VOWELS[rng.integers(len(_VOWELS))]]
    return "".join(parts) + _CODAS[rng.integers(len(_CODAS))]


def _digits(rng: np.random.Generator, count: int) -> str:
    return "".join(str(digit) for digit in rng.integers(0, 10, size=count))


def _number(rng: np.random.Generator) -> str:
    kind = int(rng.integers(6))
    if kind == 0:
        return (
            str(rng.choice(["$", "£", "€", "$"]))
            + f"{rng.integers(1, 200)}"
            + (f".{_digits(rng, 2)}" if rng.random() < 0.6 else "")
        )
    if kind == 1:
        return f"{_digits(rng, int(rng.integers(3, 5)))}-{_digits(rng, 4)}"
    if kind == 2:
        return f"{rng.integers(0, 24):02d}:{rng.integers(0, 60):02d}"
    if kind == 3:
        return f"{rng.integers(1, 100)}%"
    if kind == 4:
        return f"#{_digits(rng, 2)}-{_digits(rng, 2)}"
    return _digits(rng, int(rng.integers(1, 7)))
