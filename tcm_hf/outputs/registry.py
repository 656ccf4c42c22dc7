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
"""The formats that results can be written in, by name."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .writers import CocoWriter, Entry, FolderWriter, StreamForm


@dataclass(frozen=True)
class OutputFormat:
    """
    A format of results.

    Args:
        name (`str`): Its name.
        files (`str`): What is written.
        folder (`Callable[[Path, Iterable[str]], FolderWriter]`, *optional*): Makes the writer of a format of a folder.
        stream (`Callable[[Path], StreamForm]`, *optional*): Makes the form of one file that grows, in a folder.
        suffixes (`tuple[str, ...]`, *optional*): Names of files that end in one of them are in this format.
    """

    name: str
    files: str
    folder: Callable[[Path, Iterable[str]], FolderWriter] | None = None
    stream: Callable[[Path], StreamForm] | None = None
    suffixes: tuple[str, ...] = ()


def _icdar(folder: Path, inputs: Iterable[str]) -> FolderWriter:
    from .annotations import as_icdar

    return FolderWriter(folder, as_icdar, ".txt", "gt_", inputs=inputs)


def _labelme(folder: Path, inputs: Iterable[str]) -> FolderWriter:
    from .annotations import as_labelme

    return FolderWriter(folder, as_labelme, ".json", inputs=inputs)


def _alto(folder: Path, inputs: Iterable[str]) -> FolderWriter:
    from .annotations import as_alto

    return FolderWriter(folder, as_alto, ".xml", inputs=inputs)


def _yolo(folder: Path, inputs: Iterable[str], corners: bool) -> FolderWriter:
    from .annotations import as_yolo

    def render(entry: Entry, place: Path) -> str:
        return as_yolo(entry, corners)

    names = "# images/1.jpg belongs to labels/1.txt\npath: .\ntrain: images\nval: images\nnames:\n  0: text\n"
    return FolderWriter(folder, render, ".txt", below="labels", extra={"data.yaml": names}, inputs=inputs)


def _rendered(render: Callable[[Entry], str]) -> Callable[[Entry, object], str]:
    """Entries without detections, whose image could not be read, are left out."""
    return lambda entry, image: render(entry) if "detections" in entry else ""


def _csv(folder: Path) -> StreamForm:
    from .annotations import as_csv, csv_header

    return StreamForm(csv_header(), "", _rendered(partial(as_csv, folder=folder)))


def _paddleocr(folder: Path) -> StreamForm:
    from .annotations import as_paddleocr

    return StreamForm("", "", _rendered(partial(as_paddleocr, folder=folder)))


def _hocr(folder: Path) -> StreamForm:
    from .annotations import HOCR_CLOSING, HOCR_OPENING, as_hocr

    pages = iter(range(10**9))
    return StreamForm(HOCR_OPENING, HOCR_CLOSING, _rendered(lambda entry: as_hocr(entry, folder, next(pages))))


OUTPUT_FORMATS: dict[str, OutputFormat] = {
    entry.name: entry
    for entry in (
        OutputFormat("json", "a file: a list with an entry for each image", suffixes=(".json",)),
        OutputFormat("jsonl", "a file: an entry on each line", suffixes=(".jsonl",)),
        OutputFormat("coco", "a file: COCO's detection form with polygons and scores"),
        OutputFormat("icdar", "a folder: gt_NAME.txt, x1,y1,...,x4,y4 a line, in whole pixels", _icdar),
        OutputFormat("labelme", "a folder: NAME.json with polygons", _labelme),
        OutputFormat("yolo-seg", "a folder: labels/NAME.txt with polygons, data.yaml", partial(_yolo, corners=False)),
        OutputFormat(
            "yolo-obb", "a folder: labels/NAME.txt with four corners, data.yaml", partial(_yolo, corners=True)
        ),
        OutputFormat("paddleocr", "a file: image, tab, JSON list of points a line", stream=_paddleocr),
        OutputFormat("csv", "a file: a text a line", stream=_csv, suffixes=(".csv",)),
        OutputFormat("hocr", "a file: a page for each image", stream=_hocr, suffixes=(".hocr",)),
        OutputFormat("alto", "a folder: NAME.xml, ALTO 4", _alto),
    )
}


def format_of(path: Path | None) -> str:
    """The format that the name of a file says; `"json"` where it says nothing."""
    suffix = "" if path is None else path.suffix.lower()
    return next((entry.name for entry in OUTPUT_FORMATS.values() if suffix in entry.suffixes), "json")


__all__ = ["OUTPUT_FORMATS", "CocoWriter", "FolderWriter", "OutputFormat", "StreamForm", "format_of"]
