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
"""Types of command-line arguments, with messages for whoever typed them."""

# Only the standard library here: every start of `tcm-hf` imports this file.
import argparse
import math


def fraction(text: str) -> float:
    """
    A number from 0 to 1.

    Raises:
        argparse.ArgumentTypeError: if the text is none.
    """
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def nonnegative(text: str) -> float:
    """
    A finite number of at least 0.

    Raises:
        argparse.ArgumentTypeError: if the text is none.
    """
    value = _number(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not at least 0 and finite")
    return value


def positive(text: str) -> float:
    """
    A finite number above 0.

    Raises:
        argparse.ArgumentTypeError: if the text is none.
    """
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and finite")
    return value


def positive_int(text: str) -> int:
    """
    A whole number of at least 1.

    Raises:
        argparse.ArgumentTypeError: if the text is none.
    """
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return value


def nonnegative_int(text: str) -> int:
    """
    A whole number of at least 0.

    Raises:
        argparse.ArgumentTypeError: if the text is none.
    """
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 0")
    return int(text)


def size(text: str) -> dict[str, int]:
    """
    Edges to which images are made to fit, in pixels: `N`, which stands for `N,2N`, or `SHORTEST,LONGEST`.

    Returns:
        `dict[str, int]`: with the keys `shortest_edge` and `longest_edge`.

    Raises:
        argparse.ArgumentTypeError: if the text is neither.
    """
    try:
        edges = [positive_int(edge) for edge in text.split(",")]
    except argparse.ArgumentTypeError:
        edges = []
    if not 1 <= len(edges) <= 2 or edges[0] > edges[-1]:
        raise argparse.ArgumentTypeError(f"{text} is neither N nor SHORTEST,LONGEST in whole pixels")
    return {"shortest_edge": edges[0], "longest_edge": edges[1] if len(edges) == 2 else 2 * edges[0]}


def tile(text: str) -> bool | tuple[int, int]:
    """
    Size of tiles in pixels: `N` or `HEIGHT,WIDTH`, or `auto` for the largest that are not reduced.

    Returns:
        `bool` or `tuple[int, int]`: `True`, or height and width.

    Raises:
        argparse.ArgumentTypeError: if the text is none of these.
    """
    if text == "auto":
        return True
    try:
        sides = [positive_int(side) for side in text.split(",")]
    except argparse.ArgumentTypeError:
        sides = []
    if not 1 <= len(sides) <= 2:
        raise argparse.ArgumentTypeError(f"{text} is neither auto nor N nor HEIGHT,WIDTH in whole pixels")
    return sides[0], sides[-1]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is not a number") from error
