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
"""Readers of benchmark annotation files: every format becomes `TextRecord`s.

[`read_dataset`] is the front door, `FORMATS` says what it reads. A reader parses and checks; it neither decodes
images nor repairs outlines, so an annotation reaches training exactly as it was published.
"""

from .access import ReadOptions, SourceFolders
from .curved import parse_ctw1500, parse_totaltext, read_ctw1500, read_totaltext
from .cvat import read_cvat
from .errors import AnnotationError, AnnotationWarning
from .hub import image_roots, load_hub_dataset, read_hub, records_from_dataset
from .json_sets import read_art, read_coco, read_cocotext, read_mmocr, read_textocr
from .label_studio import read_label_studio
from .labels import read_labelme, read_paddleocr
from .lines import (
    parse_icdar2013,
    parse_icdar2015,
    parse_mlt,
    parse_td500,
    read_icdar2013,
    read_icdar2015,
    read_icdar2015_folder,
    read_mlt,
    read_td500,
)
from .paired import Instances
from .recognition import Contents
from .records import (
    IGNORE_TRANSCRIPTION,
    IMAGE_SUFFIXES,
    DatasetImage,
    ImageSource,
    TextRecord,
    load_image,
    load_record,
)
from .registry import FORMATS, DatasetFormat, find_format, read_dataset, recognize_format, register_format
from .synthtext import read_synthtext
from .tables import read_csv
from .tool_json import read_doctr, read_supervisely
from .via import read_via
from .voc import read_voc
from .yolo import parse_yolo, read_yolo


__all__ = [
    "FORMATS",
    "IGNORE_TRANSCRIPTION",
    "IMAGE_SUFFIXES",
    "AnnotationError",
    "AnnotationWarning",
    "Contents",
    "DatasetFormat",
    "DatasetImage",
    "ImageSource",
    "Instances",
    "ReadOptions",
    "SourceFolders",
    "TextRecord",
    "find_format",
    "image_roots",
    "load_hub_dataset",
    "load_image",
    "load_record",
    "parse_ctw1500",
    "parse_icdar2013",
    "parse_icdar2015",
    "parse_mlt",
    "parse_td500",
    "parse_totaltext",
    "parse_yolo",
    "read_art",
    "read_coco",
    "read_cocotext",
    "read_csv",
    "read_ctw1500",
    "read_cvat",
    "read_dataset",
    "read_doctr",
    "read_hub",
    "read_icdar2013",
    "read_icdar2015",
    "read_icdar2015_folder",
    "read_label_studio",
    "read_labelme",
    "read_mlt",
    "read_mmocr",
    "read_paddleocr",
    "read_supervisely",
    "read_synthtext",
    "read_td500",
    "read_textocr",
    "read_totaltext",
    "read_via",
    "read_voc",
    "read_yolo",
    "recognize_format",
    "records_from_dataset",
    "register_format",
]
