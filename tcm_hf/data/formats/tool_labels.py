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
"""What the labels and attributes of labeling tools mean: which shapes are text, which are ignored, and what they say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .files import as_names, shortened
from .json_sets import warn_of_categories
from .records import warn


IGNORE_LABELS = ("###", "ignore", "ignored", "difficult", "illegible", "unreadable", "don't care", "dontcare")
# Names of the attributes in which tools keep a transcription.
TEXT_ATTRIBUTES = ("text", "transcription", "transcript", "utf8_string", "caption", "value", "word", "ocr")
_NO = ("", "0", "false", "no", "off", "none")


class ToolLabels:
    """
    Decides what the shapes of a labeling tool are.

    Args:
        categories (`Sequence[str]`, *optional*): Labels that are text; shapes with others are left out. By default all are text.
        ignore_labels (`Sequence[str]`, *optional*, defaults to `IGNORE_LABELS`):
            Labels, and names of attributes that are set, of text to be ignored. Case never matters.
    """

    def __init__(self, categories: Sequence[str] | None = None, ignore_labels: Sequence[str] = IGNORE_LABELS):
        names = None if categories is None else as_names(categories, "categories")
        self.wanted = None if names is None else {name.casefold() for name in names}
        self.ignored = {name.casefold() for name in ignore_labels}
        self.seen: Counter[str | None] = Counter()

    def keeps(self, *labels: str | None) -> bool:
        """Whether a shape of these labels is text, ignored or not."""
        for label in labels or (None,):
            self.seen[label] += 1
        if self.wanted is None:
            return True
        return any(label is not None and label.casefold() in self.wanted | self.ignored for label in labels)

    def ignores(self, *labels: str | None, attributes: Mapping[str, Any] | None = None) -> bool:
        """Whether a label, or an attribute that is set, says that the text is to be ignored."""
        if any(label is not None and label.casefold() in self.ignored for label in labels):
            return True
        return any(name.casefold() in self.ignored and is_set(value) for name, value in (attributes or {}).items())

    def warn(self, place: Path | str) -> None:
        """Warns at the end when what became text is probably not all text, or nothing is."""
        counts = {label: count for label, count in self.seen.items() if label is not None}
        if self.wanted is None:
            text = {name: count for name, count in counts.items() if name.casefold() not in self.ignored}
            # The number of a class says nothing.
            warn_of_categories(place, text, [name for name in text if not name.isdecimal()])
        elif counts and not any(label.casefold() in self.wanted for label in counts):
            listed = ", ".join(f"{shortened(name)} ({count})" for name, count in list(counts.items())[:8])
            warn(f"{place}: no shape has a label of `categories` (--categories); there are {listed}")


def is_set(value: Any) -> bool:
    """Whether the value of an attribute means yes; a tag without value does."""
    return value is None or str(value).strip().casefold() not in _NO


def text_of(attributes: Mapping[str, Any]) -> str | None:
    """The transcription among some attributes; `None` if there is none."""
    by_name = {name.casefold(): value for name, value in attributes.items() if isinstance(value, str) and value}
    return next((by_name[name] for name in TEXT_ATTRIBUTES if name in by_name), None)
