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
"""Pascal VOC, with its extensions to rotated boxes and polygons."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from .access import DEFAULT_OPTIONS, PathLike, ReadOptions, SourceFolders
from .files import (
    ORIENTATION_CHOICES,
    ImageIndex,
    as_folders,
    check_choice,
    checked_size,
    find_files,
    folder,
    parse_numbers,
    strip_image_suffix,
)
from .json_sets import box_outline
from .lines import rotated_rectangle
from .paired import Instances, OnError
from .records import AnnotationError, TextRecord, build_records, then
from .tool_labels import IGNORE_LABELS, TEXT_ATTRIBUTES, ToolLabels, is_set, text_of
from .xml_files import parse_xml, point_list


_VOC_OUTLINES = ("polygon", "quad", "quadrilateral", "segmentation")


def read_voc(
    source: PathLike,
    images: PathLike | Sequence[PathLike] | None = None,
    annotations: PathLike | None = None,
    *,
    categories: Sequence[str] | None = None,
    ignore_labels: Sequence[str] = IGNORE_LABELS,
    split: str | None = None,
    missing: str = "error",
    orientation: str = "auto",
    encoding: str | None = None,
    on_error: OnError | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> Iterator[TextRecord]:
    """
    Reads Pascal VOC (http://host.robots.ox.ac.uk/pascal/VOC), as labelImg and others write it: one XML file an image.

    An `<object>` is a `<bndbox>` (`xmin`, `ymin`, `xmax`, `ymax`), or what tools have put in its place: a `<robndbox>`
    (`cx`, `cy`, `w`, `h`, and `angle` in radians, clockwise), or a `<polygon>` or `<quad>` (`x1`, `y1`, `x2`, `y2` and so
    on, also inside of `<bndbox>`, or `<pt>` with `<x>` and `<y>`, or a list of numbers). Coordinates are taken as they
    stand: the original benchmark counts from 1, labeling tools count from 0. `<difficult>` text is ignored. The
    transcription is the element or attribute `text` or `transcription`; `<name>` is the class.

    Args:
        source (`str` or `Path`): Folder of XML files (`Annotations`, with `JPEGImages` beside it, or both below it), or one.
        images (`str`, `Path` or list of them, *optional*): Folders of images, when they are not below `source`.
        annotations (`str` or `Path`, *optional*): Folder of XML files, likewise.
        categories (`Sequence[str]`, *optional*): Classes that are text; objects of others are left out.
        ignore_labels (`Sequence[str]`, *optional*): Classes, and names of attributes, of text to be ignored.
        split (`str`, *optional*): See [`read_dataset`], as for the following.
        missing (`str`, *optional*, defaults to `"error"`): What becomes of a file whose image is not there.
        orientation (`str`, *optional*, defaults to `"auto"`): `<size>` decides.
        encoding (`str`, *optional*): Encoding of the files.
        on_error (`Callable`, *optional*): Called with the error of a file, which is left out.
        options (`ReadOptions`, *optional*): What all readers have in common.

    Returns:
        `Iterator[TextRecord]`: lazily.
    """
    check_choice("orientation", orientation, ORIENTATION_CHOICES)
    path = Path(source)
    root = path.parent if path.is_file() else folder(path, "Source")
    label_root = root if annotations is None else folder(annotations, "Annotation")
    image_roots = as_folders(images, root)
    folders = SourceFolders(root, label_root, *image_roots, allow_outside=options.allow_outside)
    files = [path] if path.is_file() else find_files([label_root], (".xml",), split, folders)
    if not files:
        raise AnnotationError(f"{label_root}: no Pascal VOC file (*.xml) in this folder; check the path")
    pictures = ImageIndex(image_roots, missing, split, folders, encoding)
    labels = ToolLabels(categories, ignore_labels)

    def build(file: Path) -> TextRecord | None:
        tree = parse_xml(file, encoding, options.memory_limit)
        if tree.tag != "annotation":
            raise AnnotationError(
                f"{file}: <{tree.tag[:40]}> instead of <annotation>; check that this is Pascal VOC's XML"
            )
        instances = Instances()
        for number, element in enumerate(tree.findall("object"), start=1):
            where = f"{file}: object {number}"
            label = (element.findtext("name") or "").strip() or None
            if not labels.keeps(label):
                continue
            attributes = {child.tag: child.text or "" for child in element if child.tag in TEXT_ATTRIBUTES}
            for each in element.iter("attribute"):
                attributes[each.findtext("name") or each.get("name") or ""] = each.findtext("value") or ""
            ignore = labels.ignores(label, attributes=attributes) or is_set(element.findtext("difficult") or "")
            instances.add(_voc_outline(element, where), text_of(attributes), ignore)
        size = _voc_size(tree, str(file))
        # Whoever renames an image forgets what is inside of the file.
        names = [(tree.findtext("filename") or "").strip(), strip_image_suffix(file.stem)]
        image = pictures.find_any([name for name in names if name], str(file), [file.parent])
        if image is None:
            return None
        return instances.record(image, orientation, None, size, str(file), normalized=options.normalized)

    return then(build_records(files, build, on_error, options), lambda: labels.warn(root))


def _voc_size(tree: Element, where: str) -> tuple[int, int] | None:
    fields = [(tree.findtext(f"size/{name}") or "").strip() for name in ("height", "width")]
    if not all(fields):
        return None
    height, width = parse_numbers(fields, f"{where}: size")
    # Some tools that do not open the image write zeros.
    return None if height == width == 0 else checked_size(height, width, f"{where}: size")


def _voc_outline(element: Element, where: str) -> np.ndarray:
    outlines = [child for name in _VOC_OUTLINES if (child := element.find(name)) is not None]
    box, rotated = element.find("bndbox"), element.find("robndbox")
    if rotated is not None:
        names = ("cx", "cy", "w", "h", "angle")
        x, y, width, height, angle = parse_numbers(
            [rotated.findtext(name) or "" for name in names], f"{where}: robndbox"
        )
        if width < 0 or height < 0:
            raise AnnotationError(f"{where}: robndbox: a negative width or height; correct it")
        return rotated_rectangle(x - width / 2, y - height / 2, width, height, angle)
    if outlines:
        return _voc_points(outlines[0], f"{where}: {outlines[0].tag}")
    if box is None:
        raise AnnotationError(f"{where}: neither a <bndbox> nor a <polygon>; add one or remove the object")
    if box.find("xmin") is None:
        return _voc_points(box, f"{where}: bndbox")
    values = [box.findtext(name) or "" for name in ("xmin", "ymin", "xmax", "ymax")]
    return box_outline(parse_numbers(values, f"{where}: bndbox"), f"{where}: bndbox", corners=True)


def _voc_points(element: Element, where: str) -> np.ndarray:
    """The outline of `<x1>`, `<y1>`, ..., of points with `<x>` and `<y>`, or of a list of numbers."""
    points = [child for child in element if child.find("x") is not None]
    if points:
        fields = [point.findtext(axis) or "" for point in points for axis in ("x", "y")]
    elif len(element):
        texts = {child.tag: child.text or "" for child in element}
        numbers = sorted(int(match[1]) for tag in texts if (match := re.fullmatch(r"x(\d{1,4})", tag)))
        fields = [texts.get(f"{axis}{number}", "") for number in numbers for axis in ("x", "y")]
    else:
        return point_list((element.text or "").replace(";", ","), where)
    return point_list(" ".join(field.strip() or "-" for field in fields), where)
