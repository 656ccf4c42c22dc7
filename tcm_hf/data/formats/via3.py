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
"""VIA 3: projects of its image and video annotators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .files import checked, image_in_address, json_number, member, shortened
from .json_sets import ID
from .records import AnnotationError


# The numbers of shapes, the first number of `xy` (https://gitlab.com/vgg/via: via-3.x.y/src/js/_via_metadata.js).
_SHAPES = {
    1: "point",
    2: "rect",
    3: "circle",
    4: "ellipse",
    5: "line",
    6: "polyline",
    7: "polygon",
    8: "extreme rectangle",
    9: "extreme circle",
}
_CHECKBOX, _OPTIONS = 2, (2, 3, 4, 5)  # kinds of attributes: text, checkbox, radio, select, image
_IMAGE = 2  # kinds of files: image, video 4, audio 8


def is_via3(content: Mapping[str, Any]) -> bool:
    """Whether the content of a JSON file is a project of VIA 3."""
    return "metadata" in content and "view" in content


def via3_items(
    path: Path, content: Mapping[str, Any]
) -> Iterator[tuple[list[str], str, list[tuple[str, Any, Any]]] | AnnotationError]:
    """
    The images of a project, in the order in which they are shown: the names that the file may have, its place, and the
    place, shape and attributes of every region in the form of version 2; or the error of a view.

    A view shows an image, a video or a sound. Videos and sounds without regions are left out.
    """
    views, files = (member(content, name, dict, str(path)) for name in ("view", "file"))
    attributes = member(content, "attribute", dict, str(path), {})
    regions: dict[str, list[tuple[str, Any]]] = {}
    for key, entry in member(content, "metadata", dict, str(path)).items():
        where = f"{path}: metadata[{shortened(key)}]"
        # What is said of the whole file, or of some seconds of it, has no `xy`.
        if member(entry, "xy", list, where, []):
            regions.setdefault(str(member(entry, "vid", ID, where)), []).append((where, entry))
    project = member(content, "project", dict, str(path), {})
    shown = member(project, "vid_list", list, f"{path}: project", list(views))
    names = [str(checked(name, ID, f"{path}: project.vid_list")) for name in shown]
    for name in dict.fromkeys([*names, *regions]):
        try:
            item = _view(path, name, views, files, attributes, regions.get(name, []))
        except AnnotationError as error:
            yield error
        else:
            if item is not None:
                yield item


def _view(
    path: Path,
    name: str,
    views: Mapping[str, Any],
    files: Mapping[str, Any],
    attributes: Mapping[str, Any],
    regions: list[tuple[str, Any]],
) -> tuple[list[str], str, list[tuple[str, Any, Any]]] | None:
    where = f"{path}: view[{shortened(name)}]"
    fids = member(member(views, name, dict, f"{path}: view"), "fid_list", list, where)
    if len(fids) != 1:
        raise AnnotationError(
            f"{where}: {len(fids)} files in one view, so that regions cannot be told apart; annotate each image in a view of its "
            "own"
        )
    fid = str(checked(fids[0], ID, f"{where}.fid_list"))
    place = f"{path}: file[{shortened(fid)}]"
    file = member(files, fid, dict, f"{path}: file")
    title = member(file, "fname", str, place, "")
    if member(file, "type", int, place, _IMAGE) != _IMAGE:
        if not regions:
            return None
        raise AnnotationError(
            f"{where}: {shortened(title)} is no image, and the moments of its regions have no files; annotate frames as images"
        )
    source = member(file, "src", str, place, "")
    # An address, a path on the annotator's computer, nothing, or the image itself.
    names = [image_in_address(source) or "", image_in_address(title) or title]
    names = [each for each in names if each]
    if not names:
        raise AnnotationError(f"{place}: neither `src` nor `fname` names an image; add the name of its file")
    found = []
    for region, entry in regions:
        said = member(entry, "av", dict, region, {})
        found.append((region, _shape(entry["xy"], f"{region}.xy"), _named_attributes(said, attributes, path, region)))
    return names, where, found


def _shape(xy: list[Any], where: str) -> dict[str, Any]:
    """A shape in the form of version 2."""
    kind = _SHAPES.get(checked(xy[0], int, f"{where}[0]"))
    if kind is None:
        raise AnnotationError(f"{where}[0]: {xy[0]} is the number of no shape, 1 to {max(_SHAPES)}; correct it")
    numbers = [json_number(value, f"{where}[{index}]") for index, value in enumerate(xy[1:], start=1)]
    if kind == "rect":
        if len(numbers) != 4:
            raise AnnotationError(f"{where}: {len(numbers)} numbers behind the shape; a rectangle has 4; redraw it")
        return {"name": kind, **dict(zip(("x", "y", "width", "height"), numbers))}
    if kind == "extreme rectangle":
        if len(numbers) != 8:
            raise AnnotationError(f"{where}: {len(numbers)} numbers behind the shape; 4 points have 8; redraw it")
        left, top = min(numbers[::2]), min(numbers[1::2])
        size = {"width": max(numbers[::2]) - left, "height": max(numbers[1::2]) - top}
        return {"name": "rect", "x": left, "y": top, **size}
    return {"name": kind, "all_points_x": numbers[::2], "all_points_y": numbers[1::2]}


def _named_attributes(
    values: Mapping[str, Any], attributes: Mapping[str, Any], path: Path, where: str
) -> dict[str, Any]:
    """The attributes of a region by their names, with the options that were chosen instead of their numbers."""
    named: dict[str, Any] = {}
    for key, value in values.items():
        place = f"{where}.av[{shortened(key)}]"
        if key not in attributes:
            named[key] = value
            continue
        declared = f"{path}: attribute[{shortened(key)}]"
        name = member(attributes[key], "aname", str, declared)
        kind = member(attributes[key], "type", int, declared, 1)
        options = member(attributes[key], "options", dict, declared, {})
        if kind not in _OPTIONS:
            named[name] = value
            continue
        text = checked(value, str, place)
        chosen = [part for part in (text.split(",") if kind == _CHECKBOX else [text]) if part]
        for part in chosen:
            if part not in options:
                raise AnnotationError(
                    f"{place}: {shortened(part)} is no option of the attribute {shortened(name)}; choose one, or remove it"
                )
        texts = [checked(options[part], str, f"{declared}.options") for part in chosen]
        named[name] = dict.fromkeys(texts, True) if kind == _CHECKBOX else "".join(texts)
    return named
