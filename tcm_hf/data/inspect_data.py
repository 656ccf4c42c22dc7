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
"""`tcm-hf inspect`: counts of a data set, warnings, and drawings of samples with their training targets."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..model.detectors import detector_of
from ..model.polygons import minimum_area_quad
from ..output_files import printable
from ..targets.views import map_views
from ..visualization import draw_detections
from .cleaning import NO_AREA, OUTSIDE, clean_instances
from .formats import DatasetImage, TextRecord, load_record
from .prepare import picture_size


TEXT_COLOR = (0, 200, 80)
IGNORED_COLOR = (255, 60, 0)
CAPTION_HEIGHT = 18
MAX_EXAMPLES = 5
# Below this shorter side, in pixels, a text is hardly readable and the detectors' targets leave it out.
SMALL_TEXT = 8.0


# Counts -------------------------------------------------------------------------------------------------------------


@dataclass
class Inspection:
    """
    What is in a data set.

    Args:
        counts (`Counter`): Numbers of images, instances and so on, by name.
        problems (`dict[str, list[str]]`): Places of what is wrong, by kind; the first five each.
        problem_counts (`Counter`): How many there are of each kind.
        heights (`list[float]`): Shorter side of every readable text's minimum-area rectangle, in pixels.
        points (`Counter`): Number of outlines by their number of points.
        languages (`Counter`): Number of instances by language.
        samples (`list[TextRecord]`): The drawn sample, in the order of the data set.
    """

    counts: Counter = field(default_factory=Counter)
    problems: dict[str, list[str]] = field(default_factory=dict)
    problem_counts: Counter = field(default_factory=Counter)
    heights: list[float] = field(default_factory=list)
    points: Counter = field(default_factory=Counter)
    languages: Counter = field(default_factory=Counter)
    samples: list[TextRecord] = field(default_factory=list)

    def note(self, kind: str, place: str) -> None:
        """Counts a problem and keeps its place, if it is among the first."""
        self.problem_counts[kind] += 1
        places = self.problems.setdefault(kind, [])
        if len(places) < MAX_EXAMPLES:
            places.append(place)

    def warnings(self) -> list[str]:
        """What a training would fail on, or should be looked at."""
        warnings = []
        if not self.counts["instances"]:
            warnings.append("no text: no image has an instance, so that there is nothing to learn")
        elif self.counts["ignored"] == self.counts["instances"]:
            warnings.append("all ignored: every instance is marked unreadable, so that there is nothing to learn")
        for kind, count in self.problem_counts.items():
            places = ", ".join(self.problems[kind]) + (", ..." if count > len(self.problems[kind]) else "")
            warnings.append(f"{kind}: {count} ({places})")
        return warnings


def inspect_records(records: Iterable[TextRecord], shots: int = 16, seed: int = 0) -> Inspection:
    """
    Counts what is in a data set, and draws a sample of it.

    Args:
        records (`Iterable[TextRecord]`): The data set; it is walked through once.
        shots (`int`, *optional*, defaults to 16): Size of the sample; every image has the same chance.
        seed (`int`, *optional*, defaults to 0): Seed of the sample.

    Returns:
        `Inspection`: counts, problems and the sample.
    """
    result = Inspection()
    rng = random.Random(seed)
    chosen: list[tuple[int, TextRecord]] = []
    for number, record in enumerate(records):
        _count(record, result)
        # Reservoir sampling: the number of images is not known before.
        if number < shots:
            chosen.append((number, record))
        elif (place := rng.randrange(number + 1)) < shots:
            chosen[place] = (number, record)
    result.samples = [record for _, record in sorted(chosen, key=lambda pair: pair[0])]
    return result


def _count(record: TextRecord, result: Inspection) -> None:
    result.counts["images"] += 1
    count = len(record.polygons)
    result.counts["instances"] += count
    result.counts["ignored"] += sum(record.ignore)
    result.counts["with transcription"] += sum(text is not None for text in record.texts)
    result.points.update(len(polygon) for polygon in record.polygons)
    result.languages.update(name for name in record.languages or [] if name)
    if not count:
        result.counts["images without text"] += 1
    elif all(record.ignore):
        result.counts["images with ignored text only"] += 1
    try:
        image = record.image.load() if isinstance(record.image, DatasetImage) else record.image
        stored = picture_size(image)
        height, width = record.size or stored
    except (OSError, ValueError) as error:
        result.note("images that cannot be read", f"{record.name} ({error})")
        return
    clean = clean_instances(record.polygons, height, width)
    for index, reason in clean.dropped:
        kind = {OUTSIDE: "boxes out of the image", NO_AREA: "degenerate polygons (no area)"}[reason]
        result.note(kind, f"{record.name}: instance {index + 1}")
    for index, repair in clean.repaired:
        result.note(f"polygons to repair ({repair})", f"{record.name}: instance {index + 1}")
    if clean.partly_outside:
        result.counts["partly outside"] += clean.partly_outside
        if clean.partly_outside * 2 > count:
            result.note("images with most text reaching over the border (a resized or turned copy?)", record.name)
    for index, polygon in zip(clean.kept, clean.polygons):
        if not record.ignore[index]:
            quad = minimum_area_quad(polygon)
            sides = np.linalg.norm(quad[1:3] - quad[:2], axis=1)
            result.heights.append(float(sides.min()))


def format_inspection(result: Inspection) -> str:
    """Counts and warnings as lines of text."""
    names = (
        "images",
        "images without text",
        "images with ignored text only",
        "instances",
        "ignored",
        "with transcription",
        "partly outside",
    )
    lines = [f"{name:30} {result.counts[name]}" for name in names]
    if result.points:
        common = ", ".join(f"{points}: {count}" for points, count in sorted(result.points.items())[:12])
        lines.append(f"{'points of outlines':30} {common}")
    if result.heights:
        low, middle, high = np.percentile(result.heights, [5, 50, 95])
        small = np.mean(np.asarray(result.heights) < SMALL_TEXT)
        lines.append(
            f"{'height of readable text':30} {low:.1f}, {middle:.1f}, {high:.1f} pixels (5, 50, 95 %); "
            f"{100 * small:.1f} % below {SMALL_TEXT:g}"
        )
    if result.languages:
        lines.append(f"{'languages':30} {', '.join(f'{name}: {n}' for name, n in result.languages.most_common(12))}")
    return "\n".join([*lines, *(printable(f"warning: {warning}") for warning in result.warnings())])


# Drawings -----------------------------------------------------------------------------------------------------------


def draw_sample(record: TextRecord, targets: str | None = None, size: int = 640) -> Image.Image:
    """
    Draws a record: readable text green, ignored text orange with a cross, and beside it the training targets.

    Args:
        record (`TextRecord`): The record.
        targets (`str`, *optional*): the detector whose targets are drawn, see [`target_views`]; none by default.
        size (`int`, *optional*, defaults to 640): Longest edge of the image, in pixels; smaller ones stay as they are.

    Returns:
        `PIL.Image.Image`: RGB; with targets several images of that size side by side.

    Raises:
        OSError: if the image cannot be read.
    """
    pixels = load_record(record)
    scale = min(1.0, size / max(pixels.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    factor = np.array([width / pixels.shape[1], height / pixels.shape[0]], dtype=np.float32)
    polygons = [polygon * factor for polygon in record.polygons]
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    for flag, color in ((False, TEXT_COLOR), (True, IGNORED_COLOR)):
        marked = [{"polygon": polygon} for polygon, ignored in zip(polygons, record.ignore) if ignored is flag]
        image = draw_detections(image, marked, color=color, fill_opacity=0.15)
    pen = ImageDraw.Draw(image)
    for polygon, ignored in zip(polygons, record.ignore):
        if ignored:
            quad = [tuple(point) for point in minimum_area_quad(polygon).tolist()]
            pen.line([quad[0], quad[2]], fill=IGNORED_COLOR)
            pen.line([quad[1], quad[3]], fill=IGNORED_COLOR)
    if targets is None:
        return image
    # At full size, as in training: text that is too small for a detector depends on it.
    views = target_views(record.polygons, record.ignore, pixels.shape[0], pixels.shape[1], targets)
    shrunk = [np.asarray(Image.fromarray(view).resize((width, height), Image.Resampling.BOX)) for view in views]
    return Image.fromarray(np.concatenate([np.asarray(image), *shrunk], axis=1))


def target_views(
    polygons: list[np.ndarray], ignore: list[bool], height: int, width: int, detector: str
) -> list[np.ndarray]:
    """
    Images of the training targets of a detector.

    Args:
        polygons (`list[np.ndarray]`): Outlines in pixels of the image.
        ignore (`list[bool]`): One flag for each.
        height (`int`): Height of the image.
        width (`int`): Width of the image.
        detector (`str`):
            Name of a detector, such as `"db"`, or the Python file of one's own. Its declaration says what is drawn, see
            `target_views` of [`Detector`].

    Returns:
        `list[np.ndarray]`: RGB uint8 of shape (height, width, 3).

    Raises:
        ValueError: if there is no such detector, or it declares no targets.
    """
    declared = detector_of(detector)
    maps = declared.part("targets")(polygons, ignore, height, width)
    draw = declared.part("target_views") if declared.has("target_views") else map_views
    return draw(maps, height, width)


def contact_sheet(drawings: list[tuple[str, Image.Image]], columns: int | None = None) -> Image.Image:
    """
    Puts drawings with their captions on one sheet.

    Args:
        drawings (`list[tuple[str, PIL.Image.Image]]`): Caption and drawing.
        columns (`int`, *optional*): Drawings in a row; by default the sheet becomes about square.

    Returns:
        `PIL.Image.Image`: RGB.
    """
    cell_width = max(image.width for _, image in drawings)
    cell_height = max(image.height for _, image in drawings) + CAPTION_HEIGHT
    if columns is None:
        columns = max(1, min(len(drawings), round((len(drawings) * cell_height / cell_width) ** 0.5)))
    rows = -(-len(drawings) // columns)
    sheet = Image.new("RGB", (columns * cell_width, rows * cell_height), (32, 32, 32))
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=12)
    for index, (caption, image) in enumerate(drawings):
        caption = printable(caption)
        x, y = index % columns * cell_width, index // columns * cell_height
        while pen.textlength(caption, font=font) > cell_width - 8 and len(caption) > 8:
            caption = f"...{caption[8:]}"
        pen.text((x + 4, y + 2), caption, fill=(235, 235, 235), font=font)
        sheet.paste(image, (x, y + CAPTION_HEIGHT))
    return sheet
