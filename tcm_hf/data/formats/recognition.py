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
"""Which format a data set has, from what is in its files: `auto`."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard

from .access import PathLike, SourceFolders, walk
from .errors import AnnotationError
from .files import NUMBER
from .matlab import mat_variables
from .records import IMAGE_SUFFIXES
from .tables import BOX_COLUMNS, CORNER_COLUMNS, IMAGE_COLUMNS, POLYGON_COLUMNS, VIA3_HEADER


# Of a data set of a million files, these many beside the images show what it is.
MAX_FILES = 20_000
MAX_LISTED = 1_000_000
MAX_SAMPLES = 20
HEAD_BYTES = 2**20
_LINES = 50
_ANNOTATION_SUFFIXES = (".txt", ".gt", ".json", ".jsonl", ".xml", ".csv", ".tsv", ".mat", ".parquet", ".yaml", ".yml")
_SCRIPTS = (
    "arabic",
    "latin",
    "chinese",
    "japanese",
    "korean",
    "bangla",
    "bengali",
    "hindi",
    "devanagari",
    "symbols",
    "mixed",
)
# Text files that lie beside annotations.
_OTHER_TEXT = re.compile(
    r"readme.*|licen[cs]e.*|classes|train|val|valid|test|.*_list|list|requirements", re.IGNORECASE
)


class Contents:
    """
    What the files of a data set begin with; nothing outside of it is opened, and no file is read as a whole.

    Args:
        sources (`Sequence[str or Path]`): Folders, or annotation files.
    """

    def __init__(self, *sources: PathLike):
        self.files: list[Path] = []  # all but the images
        self.counts: Counter[str] = Counter()
        for source in map(Path, sources):
            for path in [source] if source.is_file() else _listed(source):
                self.counts[path.suffix.lower() or "no suffix"] += 1
                if path.suffix.lower() not in IMAGE_SUFFIXES:
                    self.files.append(path)
                if len(self.files) >= MAX_FILES or self.counts.total() >= MAX_LISTED:
                    break

    @cached_property
    def by_suffix(self) -> dict[str, list[Path]]:
        """The annotation files by suffix."""
        found: dict[str, list[Path]] = {}
        for path in self.files:
            if path.suffix.lower() in _ANNOTATION_SUFFIXES:
                found.setdefault(path.suffix.lower(), []).append(path)
        return found

    def heads(self, *suffixes: str) -> Iterator[tuple[Path, str]]:
        """The beginning of some files that are not empty, as text."""
        count = 0
        for suffix in suffixes:
            for path in self.by_suffix.get(suffix, ()):
                if _OTHER_TEXT.fullmatch(path.stem) and suffix == ".txt":
                    continue
                text = _head(path)
                if text.strip():
                    yield path, text
                    count += 1
                if count >= MAX_SAMPLES:
                    return

    @cached_property
    def json(self) -> list[Any]:
        """What JSON files begin with: values that are cut off have the entries that came before."""
        return [value for _, text in self.heads(".json") if (value := json_beginning(text)) is not None]

    @cached_property
    def xml(self) -> list[str]:
        """What XML files begin with."""
        return [text for _, text in self.heads(".xml")]

    @cached_property
    def lines(self) -> Counter[str]:
        """How many lines of text files look like those of which format."""
        kinds: Counter[str] = Counter()
        for path, text in self.heads(".gt", ".txt"):
            if line_kind(text.partition("\n")[0]) == "totaltext" and text.startswith("x:"):
                kinds["totaltext"] += 1  # whose lists go on in lines of their own
                continue
            for line in text.split("\n")[:_LINES]:
                if line.strip():
                    kinds[line_kind(line, path.suffix.lower())] += 1
        return kinds

    @cached_property
    def columns(self) -> list[set[str]]:
        """The names of the columns of tables, in lower case."""
        found = []
        for _, text in self.heads(".csv", ".tsv"):
            head = text.partition("\n")[0]
            delimiter = max(",;\t", key=head.count)
            found.append({name.strip(' "#\r').casefold() for name in head.split(delimiter)})
        return found

    def has_variable(self, *names: str) -> bool:
        """Whether a MATLAB file has one of some variables."""
        for path in self.by_suffix.get(".mat", ())[:3]:
            try:
                if not mat_variables(path).keys().isdisjoint(names):
                    return True
            except (AnnotationError, OSError):  # whoever reads the data set says so
                continue
        return False

    def any_json(self, test: Callable[[Any], bool]) -> bool:
        """Whether what a JSON file begins with passes a test."""
        return any(test(value) for value in self.json)

    def mostly(self, *kinds: str) -> bool:
        """Whether most lines of text files are of some kinds."""
        return 2 * sum(self.lines[kind] for kind in kinds) > self.lines.total()

    def described(self) -> str:
        """The annotation files, for messages."""
        return ", ".join(f"{count} {suffix}" for suffix, count in self.counts.most_common(6)) or "no file"


def _listed(root: Path) -> Iterator[Path]:
    """The files below a folder, without links."""
    try:
        for entry in walk(root, SourceFolders(root)):
            if not entry.is_symlink() and entry.is_file():
                yield Path(entry.path)
    except (AnnotationError, OSError):  # whoever reads the data set says so
        return


def _head(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(HEAD_BYTES)
    except OSError:
        return ""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    return data.decode(encoding, errors="replace").replace("\r\n", "\n").replace("\r", "\n")


_JSON_PART = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{},]', re.DOTALL)
_CLOSING = {"[": "]", "{": "}"}


def json_beginning(text: str) -> Any:
    """
    The value of JSON that may be cut off: lists and objects have the entries that are complete.

    Returns:
        the value; `None` if the text is no JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    open_brackets: list[str] = []
    # The text up to a comma, and the brackets that are open there, is a complete value.
    complete: tuple[int, str] | None = None
    for match in _JSON_PART.finditer(text):
        sign = match[0]
        if sign in "[{":
            open_brackets.append(_CLOSING[sign])
        elif sign in "]}":
            if not open_brackets or open_brackets.pop() != sign:
                return None
        elif sign == ",":
            complete = match.start(), "".join(reversed(open_brackets))
        if len(open_brackets) > 100:
            return None
    if complete is None:
        return None
    try:
        return json.loads(text[: complete[0]] + complete[1])
    except (ValueError, RecursionError):
        return None


def line_kind(line: str, suffix: str = ".txt") -> str:
    """
    The format whose lines look like this one: `icdar2013`, `icdar2015`, `mlt`, `td500`, `totaltext`, `ctw1500`, `yolo` or
    `paddleocr`; an empty text if it is none.
    """
    line = line.strip("\ufeff \n")[:5000]
    if line.startswith("x: [["):
        return "totaltext"
    if re.match(r"[^\t]+\t\s*\[", line):
        return "paddleocr"
    commas = "," in line
    fields = [field.strip() for field in (line.split(",") if commas else line.split())]
    count = next((i for i, field in enumerate(fields) if not NUMBER.fullmatch(field)), len(fields))
    if not commas and count == len(fields):
        values = [float(field) for field in fields]
        if suffix == ".gt":
            return "td500" if count == 7 else ""
        fractions = all(-1 <= value <= 2 for value in values[1:])
        return (
            "yolo" if fields[0].isdecimal() and fractions and (count in (5, 6) or (count >= 7 and count % 2)) else ""
        )
    if count == 4:
        return "icdar2013"
    if not commas:
        return ""
    if count == 5 and abs(float(fields[4])) < 7 and suffix == ".txt":
        return "td500"
    if count >= 28 and (count == 32 or (len(fields) > 28 and fields[28].startswith("####"))):
        return "ctw1500"
    if count == 8 and len(fields) >= 10 and fields[8].casefold() in _SCRIPTS:
        return "mlt"
    if count in (8, 9) or (count == 10 and len(fields) == 10):
        return "icdar2015"
    return "totaltext" if count >= 6 else ""


# What the formats of the package are recognized by ------------------------------------------------------------------


def first_value(value: Any) -> Any:
    """The first value of an object, or the first entry of a list, that is not empty."""
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((each for each in values if each), None)


def has_fields(value: Any, *names: str) -> TypeGuard[dict[str, Any]]:
    """Whether a value is an object with these fields."""
    return isinstance(value, dict) and all(name in value for name in names)


def is_art(value: Any) -> bool:
    entry = first_value(first_value(value)) if isinstance(value, dict) else None
    return has_fields(entry, "points") and ("transcription" in entry or "illegibility" in entry)


def is_image_table(value: Any) -> bool:
    return isinstance(value, dict) and ("imgs" in value or "anns" in value) and not is_coco(value)


def is_cocotext(value: Any) -> bool:
    if not is_image_table(value):
        return False
    annotation, image = first_value(value.get("anns")), first_value(value.get("imgs"))
    if annotation is None:  # a long table of images comes first
        return has_fields(image, "file_name") and str(image["file_name"]).startswith("COCO_")
    return any(name in annotation for name in ("legibility", "mask", "polygon"))


def is_textocr(value: Any) -> bool:
    return is_image_table(value) and not is_cocotext(value)


def is_coco(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    image, annotation = (
        first_value(value[name]) if isinstance(value.get(name), list) else None for name in ("images", "annotations")
    )
    return has_fields(image, "id", "file_name") or has_fields(annotation, "image_id")


def is_label_studio(value: Any) -> bool:
    task = first_value(value) if isinstance(value, list) else None
    if has_fields(task, "data") and isinstance(task["data"], dict):
        return "annotations" in task or "predictions" in task
    return has_fields(task, "annotation_id", "annotator", "lead_time")  # JSON-MIN


def is_via(value: Any) -> bool:
    if has_fields(value, "project", "attribute", "file"):  # version 3
        return has_fields(value["project"], "pid")
    return has_fields(value, "_via_img_metadata") or (
        isinstance(value, dict) and has_fields(first_value(value), "filename", "regions")
    )


def is_supervisely(value: Any) -> bool:
    return has_fields(value, "objects", "size") and has_fields(value["size"], "height", "width")


def is_doctr(value: Any) -> bool:
    return isinstance(value, dict) and has_fields(first_value(value), "polygons")


def is_labelme(value: Any) -> bool:
    return has_fields(value, "shapes") and ("imagePath" in value or "version" in value)


def is_mmocr(value: Any) -> bool:
    return has_fields(value, "data_list")


def is_hub(contents: Contents) -> bool:
    """A `metadata.jsonl`, or parquet."""
    names = {path.name for path in contents.by_suffix.get(".jsonl", ())}
    return "metadata.jsonl" in names or ".parquet" in contents.by_suffix


def is_cvat(contents: Contents) -> bool:
    return any(
        re.search(r"<annotations[\s>]", text) and re.search(r"<(?:image|track)\s", text) for text in contents.xml
    )


def is_ctw1500(contents: Contents) -> bool:
    xml = any("<segs" in text or re.search(r"<image\s+file=", text) for text in contents.xml)
    return xml or contents.mostly("ctw1500")


def is_voc(contents: Contents) -> bool:
    return any(
        re.search(r"<annotation[\s>]", text) and re.search(r"<(?:object|filename|size)\s*/?>", text)
        for text in contents.xml
    )


def is_via_table(contents: Contents) -> bool:
    """The CSV of VIA; that of version 3, too, which its reader refuses with the remedy."""
    is_of_version_3 = any(VIA3_HEADER in text for _, text in contents.heads(".csv"))
    return is_of_version_3 or any("region_shape_attributes" in columns for columns in contents.columns)


def is_table(contents: Contents) -> bool:
    """A table of ours: a column of images, and those of an outline; not VIA's."""
    outlines = [{name} for name in POLYGON_COLUMNS] + [set(names) for names in (*CORNER_COLUMNS, BOX_COLUMNS)]
    return any(
        not columns.isdisjoint(IMAGE_COLUMNS) and any(names <= columns for names in outlines)
        for columns in contents.columns
    )


def is_totaltext(contents: Contents) -> bool:
    # Its lines have from 3 points on, and many of them 4, as those of ICDAR 2015.
    lines = contents.lines["totaltext"] and contents.mostly("totaltext", "icdar2015")
    return bool(lines) or contents.has_variable("polygt")


def recognized(formats: Sequence[Any], contents: Contents) -> list[Any]:
    """The formats whose files are in a data set; of several that one reader reads, the first."""
    found: list[Any] = []
    for entry in formats:
        if (
            entry.recognize is not None
            and entry.recognize(contents)
            and all(each.reader is not entry.reader for each in found)
        ):
            found.append(entry)
    return found
