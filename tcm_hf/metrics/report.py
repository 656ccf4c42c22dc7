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
"""Writes the result of an evaluation: JSON with every image, and a page that shows the worst ones."""

import base64
import html
import io
import json
import math
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path

import numpy as np

from ..output_files import output_file


FIGURES = ("precision", "recall", "hmean")
GALLERY_PAGE = "index.html"

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1100px; padding: 0 1rem; color: #222; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1rem; margin: 2rem 0 .3rem; overflow-wrap: anywhere }
p { margin: .2rem 0 } table { border-collapse: collapse } td, th { padding: .1rem .8rem .1rem 0; text-align: left }
.image { position: relative; background: #ddd } .image img { display: block; width: 100%; height: auto }
.image svg { position: absolute; inset: 0; width: 100%; height: 100% }
polygon { fill: none; stroke-width: 2; vector-effect: non-scaling-stroke }
.truth { stroke: #00c853 } .missed { stroke: #00c853; stroke-dasharray: 6 4; fill: #ffab0088 }
.ignored { stroke: #9e9e9e; stroke-dasharray: 2 3 } .found { stroke: #ff1744 } .wrong { stroke: #ff1744; fill: #ff174455 }
.key { display: inline-block; width: 1.2rem; height: .8rem; border: 2px solid; margin: 0 .3rem 0 1rem; vertical-align: baseline }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } }
"""


def json_ready(value):
    """A value as JSON can hold it: NaN becomes `null`, arrays lists, keys text."""
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return json_ready(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_report(path: str | Path, result: dict, **extra) -> None:
    """
    Writes a result with one entry for each image.

    Args:
        path (`str` or `Path`): The JSON file; it appears only when it is complete.
        result (`dict`): What [`TextDetectionEvaluator.compute`] returns.
        extra: Further fields, such as the settings of the run.

    Raises:
        OSError: if the file cannot be written.
    """
    report = {**extra, **{key: value for key, value in result.items() if key != "per_image"}}
    # The figures without threshold need no second list of images.
    if "no_score_filter" in report:
        report["no_score_filter"] = {k: v for k, v in report["no_score_filter"].items() if k != "per_image"}
    report["images"] = [{"image": name, **image} for name, image in result["per_image"].items()]
    with output_file(path) as file:
        file.write(json.dumps(json_ready(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def worst_images(result: dict, count: int) -> list[Hashable]:
    """
    Images with the lowest hmean; of equals, those with more errors come first. Images without any error are left out.

    Args:
        result (`dict`): What [`TextDetectionEvaluator.compute`] returns.
        count (`int`): How many at most.
    """

    def errors(image: dict) -> int:
        uneven = sum(len(regions) != 1 or len(detections) != 1 for _, regions, detections in image["pairs"])
        return len(image["missed"]) + len(image["false_positives"]) + uneven

    def badness(entry):
        hmean = entry[1]["hmean"]
        return (0.0 if math.isnan(hmean) else hmean, -errors(entry[1]))

    wrong = [entry for entry in result["per_image"].items() if errors(entry[1])]
    return [name for name, _ in sorted(wrong, key=badness)[:count]]


def write_gallery(
    directory: str | Path,
    result: dict,
    load: Callable[[Hashable], tuple],
    *,
    count: int = 24,
    title: str = "Worst images",
    max_edge: int = 1000,
    quality: int = 80,
) -> Path:
    """
    Writes a page with the images that were scored worst, their outlines drawn over them.

    The page is one file: images are inside it as small JPEGs, and it loads nothing from anywhere.

    Args:
        directory (`str` or `Path`): Folder for the page, `index.html`.
        result (`dict`): What [`TextDetectionEvaluator.compute`] returns.
        load (`Callable`): `load(image_id) -> (picture, ground truth polygons, ignore flags, detected polygons, scores)`:
            a `PIL.Image.Image`, or `None` if there is none, and outlines in its pixels; scores may be `None`.
        count (`int`, *optional*, defaults to 24): How many images at most.
        title (`str`, *optional*): Heading.
        max_edge (`int`, *optional*, defaults to 1000): Longest edge of the images, in pixels.
        quality (`int`, *optional*, defaults to 80): Quality of the JPEGs.

    Returns:
        `Path`: the page.

    Raises:
        OSError: if it cannot be written.
    """
    figures = "".join(f"<tr><th>{name}</th><td>{_percent(result[name])}</td></tr>" for name in FIGURES)
    names = worst_images(result, count)
    parts = [
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>"
        f"<p>Protocol {html.escape(str(result['protocol']))}, {len(result['per_image'])} images</p><table>{figures}</table>"
        '<p><span class="key" style="border-color:#00c853"></span>ground truth'
        '<span class="key" style="border-color:#00c853;border-style:dashed;background:#ffab0088"></span>missed'
        '<span class="key" style="border-color:#9e9e9e;border-style:dotted"></span>ignored'
        '<span class="key" style="border-color:#ff1744"></span>detection'
        '<span class="key" style="border-color:#ff1744;background:#ff174455"></span>false detection</p>\n'
    ]
    if not names:
        parts.append("<p>No image has an error.</p>")
    parts += [_image_section(name, result["per_image"][name], load(name), max_edge, quality) for name in names]
    page = Path(directory) / GALLERY_PAGE
    with output_file(page) as file:
        file.write("".join([*parts, "</body></html>\n"]))
    return page


def _image_section(name: Hashable, image: dict, loaded: tuple, max_edge: int, quality: int) -> str:
    picture, truth, ignore, found, scores = loaded
    missed, wrong = set(image["missed"]), set(image["false_positives"])
    shapes = []
    for index, polygon in enumerate(truth):
        kind = "ignored" if ignore[index] else "missed" if index in missed else "truth"
        shapes.append(_shape(polygon, kind, f"{kind} {index}"))
    # Detections below the score threshold are in none of these.
    counted = {*wrong, *image["ignored_detections"], *image["left_out"]["detections"]}
    counted.update(index for _, _, detections in image["pairs"] for index in detections)
    for index, polygon in enumerate(found):
        if index not in counted:
            continue
        kind = "wrong" if index in wrong else "found"
        score = "" if scores is None else f", score {scores[index]:.2f}"
        shapes.append(_shape(polygon, kind, f"detection {index}{score}"))
    if picture is None:
        points = np.concatenate(
            [np.asarray(p, dtype=float).reshape(-1, 2) for p in [*truth, *found]] or [np.ones((1, 2))]
        )
        width, height = (max(1, math.ceil(edge)) for edge in points.max(axis=0))
        background = f'<img alt="" style="aspect-ratio:{width}/{height}">'
    else:
        width, height = picture.size
        background = f'<img alt="" src="data:image/jpeg;base64,{_jpeg(picture, max_edge, quality)}">'
    summary = ", ".join(f"{key} {_percent(image[key])}" for key in FIGURES)
    return (
        f"<h2>{html.escape(str(name))}</h2><p>{summary}; {len(missed)} missed, {len(wrong)} false</p>"
        f'<div class="image" style="max-width:{max(width, 320)}px">{background}'
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none">{"".join(shapes)}</svg></div>\n'
    )


def _shape(polygon, kind: str, label: str) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in np.asarray(polygon, dtype=float).reshape(-1, 2))
    return f'<polygon class="{kind}" points="{points}"><title>{html.escape(label)}</title></polygon>'


def _jpeg(picture, max_edge: int, quality: int) -> str:
    picture = picture.convert("RGB")
    picture.thumbnail((max_edge, max_edge))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=quality)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _percent(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{100 * value:.2f} %"
