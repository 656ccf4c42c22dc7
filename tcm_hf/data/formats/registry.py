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
"""The formats that are read, and the one function that reads them all."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from .access import ReadOptions
from .curved import read_ctw1500, read_totaltext
from .cvat import read_cvat
from .hub import read_hub
from .json_sets import read_art, read_coco, read_cocotext, read_mmocr, read_textocr
from .label_studio import read_label_studio
from .labels import read_labelme, read_paddleocr
from .lines import read_icdar2013, read_icdar2015_folder, read_mlt, read_td500
from .recognition import (
    Contents,
    is_art,
    is_coco,
    is_cocotext,
    is_ctw1500,
    is_cvat,
    is_doctr,
    is_hub,
    is_label_studio,
    is_labelme,
    is_mmocr,
    is_supervisely,
    is_table,
    is_textocr,
    is_totaltext,
    is_via,
    is_via_table,
    is_voc,
    recognized,
)
from .records import AnnotationError, TextRecord
from .synthtext import read_synthtext
from .tables import read_csv
from .tool_json import read_doctr, read_supervisely
from .via import read_via
from .voc import read_voc
from .yolo import read_yolo


@dataclass(frozen=True)
class DatasetFormat:
    """
    A format that [`read_dataset`] reads.

    Args:
        name (`str`): Its name.
        title (`str`): What it is.
        layout (`str`): The files that are expected.
        reader (`Callable`): `reader(source, **options) -> Iterator[TextRecord]`; usable on its own.
        aliases (`tuple[str, ...]`, *optional*): Other names; case, spaces, `-` and `_` never matter.
        languages (`bool`, *optional*, defaults to `False`): Whether it names the language of every instance.
        recognize (`Callable`, *optional*):
            Tells from what the files of a data set begin with ([`Contents`]) whether it has this format; `"auto"` asks it.
    """

    name: str
    title: str
    layout: str
    reader: Callable[..., Iterator[TextRecord]]
    aliases: tuple[str, ...] = ()
    languages: bool = False
    recognize: Callable[[Contents], bool] | None = None

    @property
    def options(self) -> list[str]:
        """Names of the options of [`read_dataset`] with this format."""
        names = [name for name in inspect.signature(self.reader).parameters if name not in ("source", "options")]
        return [*names, *_COMMON]


_COMMON = tuple(field.name for field in fields(ReadOptions))
_JSON_PICTURES = "images beside it or in the folders `images`"

FORMATS: dict[str, DatasetFormat] = {
    entry.name: entry
    for entry in (
        DatasetFormat(
            "icdar2013",
            "ICDAR 2013 Focused Scene Text",
            '100.jpg with gt_100.txt, img_1.jpg with gt_img_1.txt: left, top, right, bottom, "transcription" a line, with '
            "commas or spaces between",
            read_icdar2013,
            ("ic13", "icdar13"),
            recognize=lambda files: files.mostly("icdar2013"),
        ),
        DatasetFormat(
            "icdar2015",
            "ICDAR 2015 Incidental Scene Text, and anything with its lines",
            "img_1.jpg with gt_img_1.txt (or img_1.txt, img_1.jpg.txt): x1,y1,x2,y2,x3,y3,x4,y4,transcription a line, "
            "### for an unreadable word",
            read_icdar2015_folder,
            ("ic15", "icdar15"),
            recognize=lambda files: files.mostly("icdar2015") and not is_totaltext(files),
        ),
        DatasetFormat(
            "mlt2017",
            "ICDAR 2017-MLT",
            "img_1.jpg with gt_img_1.txt: x1,y1,...,x4,y4,script,transcription a line",
            read_mlt,
            ("icdar2017", "icdar2017mlt", "mlt17", "mlt"),
            True,
            recognize=lambda files: files.mostly("mlt"),
        ),
        DatasetFormat(
            "mlt2019",
            "ICDAR 2019-MLT",
            "tr_img_00001.jpg with tr_img_00001.txt: x1,y1,...,x4,y4,script,transcription a line",
            read_mlt,
            ("icdar2019mlt", "mlt19"),
            True,
            recognize=lambda files: files.mostly("mlt"),
        ),
        DatasetFormat(
            "art",
            "ICDAR 2019-ArT",
            f"train_labels.json with gt_0.jpg, ...; {_JSON_PICTURES}",
            read_art,
            ("icdar2019art", "art2019"),
            True,
            recognize=lambda files: files.any_json(is_art),
        ),
        DatasetFormat(
            "lsvt",
            "ICDAR 2019-LSVT",
            f"train_full_labels.json with gt_0.jpg, ...; {_JSON_PICTURES}",
            read_art,
            ("icdar2019lsvt", "lsvt2019"),
            recognize=lambda files: files.any_json(is_art),
        ),
        DatasetFormat(
            "td500",
            "MSRA-TD500",
            "IMG_0030.JPG with IMG_0030.gt: index difficult x y width height angle a line (or .txt: "
            "xmin,ymin,xmax,ymax,angle,transcription)",
            read_td500,
            ("msratd500", "msra"),
            recognize=lambda files: files.mostly("td500"),
        ),
        DatasetFormat(
            "tr400",
            "HUST-TR400",
            "an image with a .gt file of its name: index difficult x y width height angle a line",
            read_td500,
            ("husttr400",),
            recognize=lambda files: files.mostly("td500"),
        ),
        DatasetFormat(
            "totaltext",
            "Total-Text",
            "img1.jpg with poly_gt_img1.txt (x: [[...]], y: [[...]], ...), poly_gt_img1.mat, or gt_img1.txt "
            "(x1,y1,...,transcription a line)",
            read_totaltext,
            recognize=is_totaltext,
        ),
        DatasetFormat(
            "ctw1500",
            "CTW1500 (SCUT-CTW1500)",
            "0001.jpg with 0001.xml (training), 1001.jpg with 0001001.txt: x1,y1,...,x14,y14,####transcription a line (test)",
            read_ctw1500,
            ("ctw", "scutctw1500"),
            recognize=is_ctw1500,
        ),
        DatasetFormat(
            "cocotext",
            "COCO-Text, version 1 and 2",
            f"cocotext.v2.json with COCO's train2014; {_JSON_PICTURES}",
            read_cocotext,
            (),
            True,
            recognize=lambda files: files.any_json(is_cocotext),
        ),
        DatasetFormat(
            "textocr",
            "TextOCR",
            f"TextOCR_0.1_train.json with train_images; {_JSON_PICTURES}",
            read_textocr,
            recognize=lambda files: files.any_json(is_textocr),
        ),
        DatasetFormat(
            "synthtext",
            "SynthText in the Wild",
            "gt.mat with the folders 1 to 200 of images beside it or below `images`",
            read_synthtext,
            recognize=lambda files: files.has_variable("wordBB"),
        ),
        DatasetFormat(
            "paddleocr",
            "PaddleOCR and PPOCRLabel",
            "Label.txt: image, tab, JSON list of transcription and points a line; " + _JSON_PICTURES,
            read_paddleocr,
            ("ppocrlabel", "ppocr", "paddle"),
            recognize=lambda files: files.mostly("paddleocr"),
        ),
        DatasetFormat(
            "labelme",
            "LabelMe",
            "one .json file an image, with polygons and rectangles; images where imagePath says, in `images`, or inside",
            read_labelme,
            recognize=lambda files: files.any_json(is_labelme),
        ),
        DatasetFormat(
            "coco",
            "the COCO detection form, with polygons or boxes",
            f"a JSON file of images, annotations and categories; {_JSON_PICTURES}",
            read_coco,
            recognize=lambda files: files.any_json(is_coco),
        ),
        DatasetFormat(
            "mmocr",
            "the text-detection form of mmocr 1.x",
            f"textdet_train.json with data_list; {_JSON_PICTURES}",
            read_mmocr,
            recognize=lambda files: files.any_json(is_mmocr),
        ),
        DatasetFormat(
            "yolo",
            "YOLO: boxes, oriented boxes, segments",
            "images/train/1.jpg with labels/train/1.txt: class and fractions of the size a line; names of the classes in "
            "data.yaml, classes.txt or obj.names",
            read_yolo,
            ("yolobox", "yoloobb", "yoloseg", "ultralytics", "yolov5", "yolov8"),
            recognize=lambda files: files.mostly("yolo"),
        ),
        DatasetFormat(
            "csv",
            "tables of text instances",
            f"a file whose first line names the columns: image, polygon (or x1, y1, ..., or xmin, ymin, xmax, ymax, or x, y, "
            f"width, height), text, ignore, label; {_JSON_PICTURES}",
            read_csv,
            ("tsv", "table"),
            True,
            recognize=is_table,
        ),
        DatasetFormat(
            "cvat",
            "CVAT for images and for video 1.1",
            f"annotations.xml: boxes, rotated boxes, polygons; {_JSON_PICTURES}; frames of tracks are frame_000000.png, ...",
            read_cvat,
            ("cvatxml", "cvatforimages", "cvatforvideo"),
            recognize=is_cvat,
        ),
        DatasetFormat(
            "labelstudio",
            "Label Studio, exported as JSON or JSON-MIN",
            f"a JSON list of tasks: polygons and rotated rectangles in percent, text areas; {_JSON_PICTURES}",
            read_label_studio,
            recognize=lambda files: files.any_json(is_label_studio),
        ),
        DatasetFormat(
            "via",
            "VGG Image Annotator 1, 2 and 3",
            f"a project, or annotations as JSON or CSV; {_JSON_PICTURES}",
            read_via,
            ("vgg", "vggimageannotator", "via2", "via3"),
            recognize=lambda files: files.any_json(is_via) or is_via_table(files),
        ),
        DatasetFormat(
            "voc",
            "Pascal VOC, with rotated boxes and polygons",
            "one XML file an image with <object> and <bndbox> (or <robndbox>, <polygon>, <quad>), beside the images or in folders "
            "such as Annotations and JPEGImages",
            read_voc,
            ("pascalvoc", "pascal", "labelimg"),
            recognize=is_voc,
        ),
        DatasetFormat(
            "supervisely",
            "Supervisely",
            "ann/1.jpg.json with img/1.jpg, in one folder for each data set",
            read_supervisely,
            recognize=lambda files: files.any_json(is_supervisely),
        ),
        DatasetFormat(
            "doctr",
            "docTR's detection labels",
            f"labels.json with the folder images; {_JSON_PICTURES}",
            read_doctr,
            recognize=lambda files: files.any_json(is_doctr),
        ),
        DatasetFormat(
            "hub",
            "the Hub form: imagefolder or parquet",
            "a folder with metadata.jsonl (file_name, and polygons, ignore, text, or objects.bbox: x, y, width, height; also "
            "one folder for each split), a folder of parquet files, one parquet file, or the id of a data set on the Hub",
            read_hub,
            ("imagefolder", "parquet", "datasets"),
            True,
            recognize=is_hub,
        ),
    )
}


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


_NAMES = {_plain(name): entry for entry in FORMATS.values() for name in (entry.name, *entry.aliases)}


def register_format(entry: DatasetFormat, *, exist_ok: bool = False) -> None:
    """
    Adds a format, which [`read_dataset`] and the commands of this process know by its names from then on.

    Args:
        entry ([`DatasetFormat`]): The format.
        exist_ok (`bool`, *optional*, defaults to `False`): Whether it may take the place of a format of that name.

    Raises:
        ValueError: if there is a format of one of its names.

    Example:

    >>> import numpy as np
    >>> from tcm_hf.data.formats import FORMATS, DatasetFormat, TextRecord, read_dataset, register_format

    >>> def read_pages(source, *, options=None):
    ...     word = np.array([[10, 10], [80, 10], [80, 30], [10, 30]], dtype=np.float32)
    ...     yield TextRecord(f"{source}/1.jpg", polygons=[word], texts=["Cafe"])

    >>> register_format(DatasetFormat("pages", "Scanned pages", "a folder of 1.jpg, ...", read_pages))
    >>> next(read_dataset("pages", "scans")).texts
    ['Cafe']
    """
    names = [_plain(name) for name in (entry.name, *entry.aliases)]
    taken = [name for name in names if name in _NAMES]
    if taken and not exist_ok:
        raise ValueError(f"the name {taken[0]!r} is that of the format {_NAMES[taken[0]].name!r}; choose another one")
    FORMATS[entry.name] = entry
    _NAMES.update(dict.fromkeys(names, entry))


def recognize_format(*sources: str | Path) -> DatasetFormat:
    """
    The format of a data set, by what its files begin with.

    Args:
        sources (`str` or `Path`): Folders, or an annotation file; together they are one data set.

    Raises:
        FileNotFoundError: if a source is missing.
        ValueError: if the format is none of those known, or could be several; the message names them.
    """
    for source in sources:
        if not Path(source).exists():
            if re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)) and not str(source).startswith("."):
                return FORMATS["hub"]
            raise FileNotFoundError(f"{source}: no such folder or file; check the path")
    contents = Contents(*sources)
    found = recognized(list(FORMATS.values()), contents)
    names = " or ".join(entry.name for entry in found)
    if len(found) > 1:
        raise ValueError(
            f"{sources[0]} has files of several formats: name one, {names}, or pass the annotation file itself"
        )
    if not found:
        raise ValueError(
            f"{sources[0]}: no known format in its files ({contents.described()}); name the one that is meant: {', '.join(FORMATS)}"
        )
    return found[0]


def find_format(name: str, *sources: str | Path | None) -> DatasetFormat:
    """
    The format of a name or alias.

    Args:
        name (`str`): The name; `"auto"` recognizes the format by what is in the files.
        sources (`str` or `Path`, *optional*): The data set, and the folder of its annotations, for `"auto"`.

    Raises:
        FileNotFoundError: if a source is missing.
        ValueError: if there is none, or several could be meant.
    """
    if name == "auto" and sources:
        return recognize_format(*(source for source in sources if source is not None))
    entry = _NAMES.get(_plain(str(name)))
    if entry is None:
        close = difflib.get_close_matches(_plain(str(name)), _NAMES, n=1)
        hint = f"; did you mean {_NAMES[close[0]].name!r}?" if close else "."
        raise ValueError(f"unknown format {name!r}{hint} Known are {', '.join(FORMATS)}")
    return entry


def read_dataset(format: str, source: str | Path, **options) -> Iterator[TextRecord]:
    """
    Reads a data set in any of the known formats, record by record.

    Args:
        format (`str`):
            Key or alias of `FORMATS`, such as `"icdar2015"`, `"totaltext"` or `"hub"`, or `"auto"`, which recognizes the
            format by what is in the files.
        source (`str` or `Path`): Folder or file, as `FORMATS[format].layout` says.
        options: Those of the format's reader, `FORMATS[format].options`. Where a format has them, their meaning is

            - `images` (`str`, `Path` or list of them): folders of images, when they are not below `source`;
            - `annotations` (`str` or `Path`): folder of annotation files, likewise;
            - `split` (`str`): `"train"`, `"validation"` or `"test"`, when the folder holds several;
            - `missing` (`str`, defaults to `"error"`): what becomes of an annotation without image: `"error"`,
              `"skip"` (it is left out) or `"keep"` (the record has the path where the image would be, so that
              annotations can be read without images). An image without annotation is left out by both;
            - `record_size` (`tuple[int, int]`): (height, width) of the annotated frame, when images are resized copies;
            - `orientation` (`str`): `"stored"` when the annotations refer to the images as stored, `"upright"` when
              they refer to the images as shown with EXIF applied, `"auto"` to let the annotated size decide.
              Records always refer to the upright image; the default is that of the benchmark;
            - `encoding` (`str`): encoding of text files that are neither UTF-8 nor UTF-16 with a byte order mark;
            - `on_error` (`Callable[[AnnotationError], None]`): called with the error of an image's annotation, which is
              then left out; by default it is raised.

            and for all formats those of [`ReadOptions`]: `allow_outside`, `memory_limit`, `normalized`, `merge_duplicates`.
            Readers that are called by themselves take these as `options=ReadOptions(...)`.

    Returns:
        `Iterator[TextRecord]`: lazily.

    Raises:
        FileNotFoundError: if a folder or file is missing.
        AnnotationError: if an annotation cannot be meant, or names a file outside of the source; the message names the file,
            the place and a remedy.
        ValueError: if the format or an option is unknown.

    Example:

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from tcm_hf.data.formats import read_dataset

    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "gt_img_1.txt").write_text("0,0,40,0,40,10,0,10,Cafe")
    ...     records = list(read_dataset("icdar2015", folder, missing="keep"))
    >>> records[0].texts
    ['Cafe']
    """
    entry = find_format(format, source, options.get("annotations"))
    parameters = inspect.signature(entry.reader).parameters
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    common = {name: options.pop(name) for name in _COMMON if name in options}
    unknown = [name for name in options if name not in parameters and not open_ended]
    if unknown:
        raise ValueError(f"{entry.name}: unknown option {unknown[0]!r}; it has {', '.join(entry.options)}")
    if not isinstance(options.get("options", ReadOptions()), ReadOptions) or (common and "options" in options):
        raise ValueError(f"{entry.name}: `options` must be a `ReadOptions`; or pass its fields by their own names")
    if common:
        options["options"] = ReadOptions(**common)
    return _with_hints(entry, source, options)


def _with_hints(entry: DatasetFormat, source: str | Path, options: dict) -> Iterator[TextRecord]:
    """The records of a reader; an error before the first one says so when the files look like another format."""
    fits: list[str] = []
    state = {"read": False}

    def hinted(error: Exception) -> Exception:
        if state["read"] or type(error) not in (AnnotationError, FileNotFoundError, ValueError):
            return error
        if not fits:
            fits.append(_fitting(entry, source, options.get("annotations")))
        return type(error)(f"{error}{fits[0]}") if fits[0] else error

    if options.get("on_error") is not None:
        report = options["on_error"]
        options = {**options, "on_error": lambda error: report(hinted(error))}
    try:
        records = entry.reader(source, **options)
    except (ValueError, FileNotFoundError) as error:
        raise hinted(error) from error.__cause__

    def passed_on() -> Iterator[TextRecord]:
        try:
            for record in records:
                state["read"] = True
                yield record
        except (ValueError, FileNotFoundError) as error:
            raise hinted(error) from error.__cause__

    return passed_on()


def _fitting(entry: DatasetFormat, source: str | Path, annotations: str | Path | None) -> str:
    """What an error of a reader adds: the format that the files have, where it is another one."""
    try:
        other = find_format("auto", source, annotations)
    except (OSError, ValueError):
        return ""
    if other.reader is entry.reader or other.recognize is None or not Path(source).exists():
        return ""
    return f"; {source} looks like the format {other.name}"
