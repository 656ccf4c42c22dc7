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
from .errors import AnnotationError, AnnotationWarning
from .hub import image_roots, load_hub_dataset, read_hub, records_from_dataset
from .json_sets import read_art, read_coco, read_cocotext, read_mmocr, read_textocr
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
from .records import (
    IGNORE_TRANSCRIPTION,
    IMAGE_SUFFIXES,
    DatasetImage,
    ImageSource,
    TextRecord,
    load_image,
    load_record,
)
from .registry import FORMATS, DatasetFormat, find_format, read_dataset, register_format
from .synthtext import read_synthtext


__all__ = [
    "FORMATS",
    "IGNORE_TRANSCRIPTION",
    "IMAGE_SUFFIXES",
    "AnnotationError",
    "AnnotationWarning",
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
    "read_art",
    "read_coco",
    "read_cocotext",
    "read_ctw1500",
    "read_dataset",
    "read_hub",
    "read_icdar2013",
    "read_icdar2015",
    "read_icdar2015_folder",
    "read_labelme",
    "read_mlt",
    "read_mmocr",
    "read_paddleocr",
    "read_synthtext",
    "read_td500",
    "read_textocr",
    "read_totaltext",
    "records_from_dataset",
    "register_format",
]
