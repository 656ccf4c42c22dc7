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
The protocols by name: which rule, with which settings, of whose script.

A name is the one of the script it follows: `rrc` is the Robust Reading Competition (ICDAR), `tt` Total-Text, `db` the
authors of DB, `adet` AdelaiDet. [`ALIASES`] maps the names of the benchmarks to the protocol that is authoritative there.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from .best_overlap import (
    match_ctw1500,
    match_old_pascal,
    match_pascal,
    match_psenet_ctw,
    match_psenet_msra,
    voc_average_precision,
)
from .characters import match_cleval, match_tedeval
from .deteval import match_deteval, match_total_text
from .matching import ImageScore, ImageView, average_precision, match_iou
from .overlaps import BUFFER, EVEN_ODD, ZERO


@dataclass(frozen=True)
class ScoreSweep:
    """
    Score thresholds of which the best is reported.

    Args:
        thresholds (`tuple[float, ...]`): In the order in which they are tried; the first of equals wins.
        keep (`Callable`): `(scores, threshold)` -> which detections stay.
    """

    thresholds: tuple[float, ...]
    keep: Callable[[np.ndarray, float], np.ndarray]


@dataclass(frozen=True)
class Protocol:
    """
    A way to score detections.

    Args:
        name (`str`): Its key in [`PROTOCOLS`].
        title (`str`): One line for a list.
        match (`Callable[[ImageView], ImageScore]`): The rule for one image.
        invalid (`str`, *optional*, defaults to `"even-odd"`): What becomes of contours that cross or touch themselves:
            `"even-odd"`, `"buffer"`, `"zero"` (see `overlaps.py`), `"drop"` (removed from both sides) or `"refuse"`.
        regions (`str`, *optional*, defaults to `"polygon"`): What is compared: the `"polygon"` as given, the upright
            `"pixel-box"` around it including the last pixel, or the `"upright"` form of a rotated box.
        dtype (`numpy.dtype`, *optional*, defaults to `np.float64`): Precision of the coordinates.
        empty_image, empty_total (`str`, *optional*, default to `"zero"`): Ratios of an image, or of the data set, that
            has nothing to divide by: `"zero"`, `"perfect"` (recall 1 without regions; then precision 1 without
            detections), `"deteval"` (the same for an image without any region, ignored ones included, but hmean 0),
            `"undefined"`, `"undefined-all"` (all three if one is: the script stops with a division by zero) or
            `"undefined-ratios"` (the same, but without a match hmean is 0).
        uses_ignore (`bool`, *optional*, defaults to `True`): Whether ignored regions exist in this protocol.
        needs_scores, needs_corners, needs_angles, needs_texts (`bool`, *optional*, default to `False`): What `match`
            needs.
        sweep (`ScoreSweep`, *optional*): Score thresholds of which the best counts.
        average_precision (`Callable`, *optional*): `(ranking, number of regions)` -> average precision, also reported.
        language (`str`, *optional*): Script (writing system) that is asked for; regions of others are ignored.
    """

    name: str
    title: str
    match: Callable[[ImageView], ImageScore]
    invalid: str = EVEN_ODD
    regions: str = "polygon"
    dtype: type = np.float64
    empty_image: str = "zero"
    empty_total: str = "zero"
    uses_ignore: bool = True
    needs_scores: bool = False
    needs_corners: bool = False
    needs_angles: bool = False
    needs_texts: bool = False
    sweep: ScoreSweep | None = None
    average_precision: Callable[[list, int], float] | None = None
    language: str | None = None


def _mmocr0_keep(scores: np.ndarray, threshold: float) -> np.ndarray:
    return (scores > 0.3) & (scores >= threshold)


def _mmocr1_keep(scores: np.ndarray, threshold: float) -> np.ndarray:
    # NumPy 1 compares a float32 score with a Python number in float32.
    return scores.astype(np.float32) >= np.float32(threshold)


def _mmocr1_keep_numpy2(scores: np.ndarray, threshold: float) -> np.ndarray:
    return scores.astype(np.float32).astype(np.float64) >= threshold


# Products and sums in floating point, as the scripts make them: 3 * 0.1 is 0.30000000000000004, and the range that
# should end before 0.9 has a seventh step.
_MMOCR0_SWEEP = ScoreSweep(tuple(step * 0.1 for step in range(3, 10)), _mmocr0_keep)
_MMOCR06_SWEEP = ScoreSweep(tuple(np.arange(0.3, 1.0, 0.1).tolist()), _mmocr0_keep)
_MMOCR1_SWEEP = ScoreSweep(tuple(np.arange(0.3, 0.9, 0.1).tolist()), _mmocr1_keep)
_MMOCR1_NUMPY2_SWEEP = ScoreSweep(_MMOCR1_SWEEP.thresholds, _mmocr1_keep_numpy2)

_DETEVAL = partial(match_deteval, count_overlaps=True, round_sums=True, lenient_single=True)
_DETEVAL_2013 = partial(match_deteval)
_DETEVAL_2013_DB = partial(match_deteval, round_sums=True, lenient_single=True)
_MTWI = partial(
    match_deteval,
    recall_threshold=0.7,
    precision_threshold=0.7,
    ignore_threshold=0.5,
    round_sums=True,
    split_penalty=None,
)
_PSENET_TT = partial(match_total_text, digits=None, guard=0.0, check_columns=False)

# What the protocols of one script share.
_perfect_if_empty = partial(Protocol, empty_image="perfect")
_deteval_per_image = partial(Protocol, empty_image="deteval", needs_corners=True)
_mmocr = partial(Protocol, empty_image="perfect", empty_total="perfect", needs_scores=True)
_mmocr0 = partial(_mmocr, sweep=_MMOCR0_SWEEP)
_mmocr1 = partial(_mmocr, invalid=BUFFER, dtype=np.float32)

_ALL = [
    _perfect_if_empty("rrc_iou", "ICDAR 2015 (RRC): IoU above 0.5, one to one, in file order", match_iou),
    _perfect_if_empty(
        "rrc_iou_conf",
        "ICDAR 2015 (RRC) with confidences: detections by falling score, and average precision",
        partial(match_iou, by_score=True, ranked=True),
        needs_scores=True,
        average_precision=average_precision,
    ),
    _perfect_if_empty(
        "mlt_iou",
        "ICDAR 2017 / 2019 MLT: as ICDAR 2015, and average precision",
        partial(match_iou, ranked=True),
        needs_scores=True,
        average_precision=average_precision,
    ),
    _perfect_if_empty(
        "mlt_iou_latin",
        "ICDAR 2017 / 2019 MLT, only words in Latin script",
        partial(match_iou, ranked=True),
        needs_scores=True,
        average_precision=average_precision,
        language="Latin",
    ),
    _perfect_if_empty(
        "db_iou",
        "DB's evaluator: as ICDAR 2015 on any polygon; invalid ones dropped",
        match_iou,
        "drop",
    ),
    _perfect_if_empty(
        "adet_det_only",
        "AdelaiDet's text script, detection part: as ICDAR 2015 on any valid polygon",
        match_iou,
        "refuse",
        dtype=np.float32,
    ),
    _perfect_if_empty(
        "td500_angle",
        "MSRA-TD500: IoU of the boxes turned upright above 0.5, angles within pi / 8",
        partial(match_iou, max_angle=math.pi / 8),
        regions="upright",
        needs_angles=True,
    ),
    _deteval_per_image("ic13_deteval", "ICDAR 2013 (RRC), column DetEval", _DETEVAL, regions="pixel-box"),
    _deteval_per_image(
        "ic13_icdar2013",
        "ICDAR 2013 (RRC), column ICDAR2013",
        _DETEVAL_2013,
        regions="pixel-box",
    ),
    _deteval_per_image("ic13_icdar2013_db", "ICDAR 2013, DB's version", _DETEVAL_2013_DB, regions="pixel-box"),
    _deteval_per_image("db_deteval_poly", "DB's DetEval on polygons", _DETEVAL, "drop"),
    _deteval_per_image("db_icdar2013_poly", "DB's ICDAR 2013 rule on polygons", _DETEVAL_2013_DB, "drop"),
    _deteval_per_image("db_mtwi2018", "ICPR MTWI 2018, DB's version", _MTWI, "drop"),
    Protocol("tt_deteval_0.7_0.6", "Total-Text DetEval, recall 0.7 and precision 0.6", match_total_text, BUFFER),
    Protocol(
        "tt_deteval_0.8_0.4",
        "Total-Text DetEval, recall 0.8 and precision 0.4 (papers before 2019)",
        partial(match_total_text, recall_threshold=0.8, precision_threshold=0.4),
        BUFFER,
    ),
    Protocol(
        "tt_pascal",
        "Total-Text Pascal: best region of each detection, IoU at least 0.5",
        match_pascal,
        BUFFER,
        empty_image="undefined-all",
        empty_total="undefined-all",
    ),
    Protocol(
        "tt_pascal_old_art",
        "ArT, and Total-Text's earlier Pascal script: best detection of each region",
        match_old_pascal,
        BUFFER,
        empty_image="undefined",
        empty_total="undefined",
    ),
    Protocol(
        "psenet_tt_deteval_0.7_0.6",
        "Total-Text DetEval, PSENet's version",
        _PSENET_TT,
        empty_image="undefined-all",
        empty_total="undefined-all",
    ),
    Protocol(
        "ctw1500_official",
        "CTW1500: best region of each detection, IoU above 0.5, no ignored regions",
        match_ctw1500,
        uses_ignore=False,
        average_precision=voc_average_precision,
    ),
    Protocol("psenet_ctw", "CTW1500, PSENet's version", match_psenet_ctw, uses_ignore=False),
    Protocol(
        "psenet_msra",
        "MSRA-TD500, PSENet's version: IoU at least 0.5, no angles",
        match_psenet_msra,
        empty_image="undefined-ratios",
        empty_total="undefined-ratios",
    ),
    _mmocr0(
        "mmocr0_hmean_iou",
        "mmocr 0.4 (the official TCM's figures): IoU above 0.5, best score threshold of 0.3 ... 0.9",
        partial(match_iou, raw_areas=True),
        BUFFER,
    ),
    _mmocr0("mmocr0.2_hmean_iou", "mmocr 0.2: as 0.4, invalid polygons by the even-odd rule", match_iou),
    _mmocr0("mmocr0.3_hmean_iou", "mmocr 0.3: as 0.4, invalid polygons overlap nothing", match_iou, ZERO),
    _mmocr(
        "mmocr0.6.3_hmean_iou",
        "mmocr 0.6: as 0.4, thresholds rounded differently",
        partial(match_iou, raw_areas=True),
        BUFFER,
        sweep=_MMOCR06_SWEEP,
    ),
    _mmocr0(
        "mmocr0_hmean_ic13",
        "mmocr 0.4's ICDAR 2013 rule; equals none of the official ones",
        partial(match_deteval, strict=True, diagonal_of_box=False, raw_areas=True),
        BUFFER,
        needs_corners=True,
    ),
    *(
        _mmocr1(
            f"mmocr1_hmean_iou{suffix}{version}",
            f"mmocr 1.x: IoU above 0.5, {what}best score threshold of 0.3 ... 0.9{note}",
            partial(match_iou, raw_areas=True, guard=1e-5, maximum=bool(suffix)),
            sweep=sweep,
        )
        for suffix, what in (("", ""), ("_max", "maximum matching, "))
        for version, note, sweep in (
            ("", "", _MMOCR1_SWEEP),
            ("_numpy2", " (scores on a threshold as NumPy 2 compares them)", _MMOCR1_NUMPY2_SWEEP),
        )
    ),
    Protocol(
        "tedeval",
        "TedEval: characters inside matched detections",
        match_tedeval,
        empty_image="perfect",
        needs_corners=True,
        needs_texts=True,
    ),
    Protocol(
        "cleval",
        "CLEval, detection only: characters found, less splits and merges",
        match_cleval,
        needs_corners=True,
        needs_texts=True,
    ),
]

PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _ALL}

# The name of a benchmark stands for the protocol that its authors or its leaderboard use.
ALIASES: dict[str, str] = {
    "icdar2015": "rrc_iou",
    "ic15": "rrc_iou",
    "iou": "rrc_iou",
    "icdar2013": "ic13_deteval",
    "ic13": "ic13_deteval",
    "deteval": "ic13_deteval",
    "icdar2013_iou": "rrc_iou",
    "totaltext": "tt_deteval_0.7_0.6",
    "totaltext_deteval": "tt_deteval_0.7_0.6",
    "totaltext_pascal": "tt_pascal",
    "ctw1500": "ctw1500_official",
    "td500": "td500_angle",
    "msra_td500": "td500_angle",
    "mlt": "mlt_iou",
    "mlt17": "mlt_iou",
    "mlt19": "mlt_iou",
    "art": "tt_pascal_old_art",
    "mtwi": "db_mtwi2018",
    "mmocr": "mmocr0_hmean_iou",
    "tcm": "mmocr0_hmean_iou",
    "mmocr0": "mmocr0_hmean_iou",
    "mmocr1": "mmocr1_hmean_iou",
}


def get_protocol(protocol: str | Protocol) -> Protocol:
    """
    The protocol of a name.

    Args:
        protocol (`str` or `Protocol`): A key of [`PROTOCOLS`] or of [`ALIASES`]; case, spaces, "-" and "_" of the latter
            do not matter.

    Raises:
        ValueError: if there is no such protocol.
    """
    if isinstance(protocol, Protocol):
        return protocol
    name = str(protocol)
    name = name if name in PROTOCOLS else _ALIASES.get(plain_name(name), name)
    if name not in PROTOCOLS:
        raise ValueError(
            f"unknown protocol {protocol!r}; benchmarks: {', '.join(ALIASES)}; by script: {', '.join(PROTOCOLS)}"
        )
    return PROTOCOLS[name]


def register_protocol(protocol: Protocol, *aliases: str, exist_ok: bool = False) -> None:
    """
    Adds a protocol, which evaluation and the commands of this process know by its names from then on.

    Args:
        protocol ([`Protocol`]): The protocol.
        aliases (`str`): Further names, such as that of the benchmark.
        exist_ok (`bool`, *optional*, defaults to `False`): Whether it may take the place of a protocol of that name.

    Raises:
        ValueError: if there is a protocol of one of its names.

    Example:

    >>> from dataclasses import replace
    >>> from functools import partial
    >>> from tcm_hf.metrics import PROTOCOLS, get_protocol, register_protocol
    >>> from tcm_hf.metrics.matching import match_iou

    >>> rule = partial(match_iou, threshold=0.7)
    >>> register_protocol(replace(PROTOCOLS["rrc_iou"], name="iou_70", title="IoU above 0.7", match=rule), "strict")
    >>> get_protocol("strict").title
    'IoU above 0.7'
    """
    known = {**{plain_name(name): name for name in PROTOCOLS}, **_ALIASES}
    taken = [name for name in (protocol.name, *aliases) if plain_name(name) in known]
    if taken and not exist_ok:
        raise ValueError(
            f"the name {taken[0]!r} is that of the protocol {known[plain_name(taken[0])]!r}; choose another one"
        )
    PROTOCOLS[protocol.name] = protocol
    ALIASES.update(dict.fromkeys(aliases, protocol.name))
    _ALIASES.update({plain_name(alias): protocol.name for alias in aliases})


def plain_name(name: str) -> str:
    """A name without case, spaces, "-" and "_"."""
    return re.sub(r"[\s_-]", "", name).lower()


_ALIASES = {plain_name(alias): name for alias, name in ALIASES.items()}
