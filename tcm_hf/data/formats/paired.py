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
"""Formats with one annotation file an image: pairing by name, and the reader that every one of them is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .access import DEFAULT_OPTIONS, PathLike, ReadOptions, SourceFolders
from .files import (
    MISSING_CHOICES,
    ORIENTATION_CHOICES,
    as_folders,
    check_choice,
    find_files,
    folder,
    natural_key,
    strip_image_suffix,
)
from .frames import upright_frame
from .records import IGNORE_TRANSCRIPTION, IMAGE_SUFFIXES, AnnotationError, TextRecord, build_records


# Files that lie beside annotations, but are none.
_OTHER_TEXT = re.compile(r"readme|licen[cs]e|classes|.*_list|list", re.IGNORECASE)

OnError = Callable[[AnnotationError], None]


@dataclass
class Instances:
    """The text instances of one image, as they are parsed."""

    polygons: list[np.ndarray] = field(default_factory=list)
    ignore: list[bool] = field(default_factory=list)
    texts: list[str | None] = field(default_factory=list)
    languages: list[str | None] = field(default_factory=list)

    def add(self, polygon: np.ndarray, text: str | None, ignore: bool = False, language: str | None = None) -> None:
        """Adds an instance; the transcription `###` says that it is unreadable."""
        self.polygons.append(polygon)
        self.texts.append(text)
        self.ignore.append(bool(ignore) or (text is not None and text.strip() == IGNORE_TRANSCRIPTION))
        self.languages.append(language)

    def record(
        self,
        image,
        orientation: str = "upright",
        size: tuple[int, int] | None = None,
        annotated_size: tuple[int, int] | None = None,
        where: str = "",
        image_name: str | None = None,
        normalized: bool = False,
    ) -> TextRecord:
        """The record of an image; see [`upright_frame`] for the arguments."""
        polygons, size = upright_frame(image, self.polygons, orientation, size, annotated_size, where, normalized)
        languages = self.languages if any(name is not None for name in self.languages) else None
        return TextRecord(image, polygons, self.ignore, self.texts, size, languages, image_name)


def pair_files(
    source: PathLike,
    images: PathLike | Sequence[PathLike] | None,
    annotations: PathLike | None,
    *,
    suffixes: Sequence[str],
    key: Callable[[str], str | None],
    split: str | None = None,
    missing: str = "error",
    allow_outside: bool = False,
) -> list[tuple[Path, Path]]:
    """
    Pairs images with their annotation files by name.

    Args:
        source (`str` or `Path`): Folder that holds both.
        images (`str`, `Path` or list of them, *optional*): Folders of images, when they are not below `source`.
        annotations (`str` or `Path`, *optional*): Folder of annotation files, when it is not below `source`.
        suffixes (`Sequence[str]`): Suffixes of annotation files; of two files for one image, the earlier counts.
        key (`Callable[[str], str]`): Takes an annotation's stem to the image's, and other files' to `None`.
        split (`str`, *optional*): `"train"`, `"validation"` or `"test"`: only folders of this split count.
        missing (`str`, *optional*, defaults to `"error"`):
            What becomes of an image or an annotation that has no counterpart: `"error"`, `"skip"`, or `"keep"`
            (an annotation without image is kept, an image without annotation is left out).
        allow_outside (`bool`, *optional*, defaults to `False`): Whether links may lead out of these folders.

    Returns:
        `list[tuple[Path, Path]]`: image and annotation, in natural order.

    Raises:
        FileNotFoundError: if a folder, or with `missing="error"` a counterpart, is missing.
        AnnotationError: if several files of one name cannot be told apart, or a link leads outside.
    """
    check_choice("missing", missing, MISSING_CHOICES)
    root = folder(source, "Source")
    image_roots = as_folders(images, root)
    annotation_root = folder(annotations, "Annotation") if annotations is not None else root
    folders = SourceFolders(root, annotation_root, *image_roots, allow_outside=allow_outside)
    annotation_of: dict[str, Path] = {}
    for path in find_files([annotation_root], suffixes, split, folders):
        name = key(strip_image_suffix(path.stem))
        if name is None or _OTHER_TEXT.fullmatch(path.stem):
            continue
        name = name.casefold()
        other = annotation_of.get(name)
        if other is not None and other.suffix.lower() == path.suffix.lower():
            raise AnnotationError(
                f"two annotation files for the image {name!r}: {other} and {path}; name the folder that is meant "
                "(`annotations=`) or the `split`"
            )
        if other is None or suffixes.index(path.suffix.lower()) < suffixes.index(other.suffix.lower()):
            annotation_of[name] = path
    pairs: list[tuple[Path, Path]] = []
    seen: dict[Path, Path] = {}
    for path in find_files(image_roots, IMAGE_SUFFIXES, split, folders):
        name = path.stem.casefold()
        annotation = annotation_of.get(name) or annotation_of.get((key(path.stem) or name).casefold())
        if annotation is None:
            if missing == "error":
                raise FileNotFoundError(
                    f"Annotation file not found for the image {path} below {annotation_root}; add it (an empty file for "
                    "an image without text), or pass missing='skip'"
                )
            continue
        if annotation in seen:
            raise AnnotationError(
                f"two images for the annotation {annotation}: {seen[annotation]} and {path}; name the folder that is "
                "meant (`images=`) or the `split`"
            )
        seen[annotation] = path
        pairs.append((path, annotation))
    for annotation in annotation_of.values():
        if annotation in seen:
            continue
        if missing == "error":
            raise FileNotFoundError(
                f"Image not found for the annotation {annotation} in {', '.join(map(str, image_roots))}; name its folder "
                "(`images=`), or pass missing='skip' (or 'keep', to read annotations only)"
            )
        if missing == "keep":
            pairs.append((image_roots[0] / f"{key(strip_image_suffix(annotation.stem))}.jpg", annotation))
    if not pairs:
        raise AnnotationError(
            f"{root}: no image with an annotation file ({', '.join(suffixes)})"
            f"{f' in the split {split!r}' if split else ''}; check the folder and its layout"
        )
    return sorted(pairs, key=lambda pair: natural_key(str(pair[0])))


def file_reader(
    name: str,
    title: str,
    parse: Callable[[Path, str | None, int], Instances],
    *,
    suffixes: Sequence[str],
    key: Callable[[str], str | None],
    orientation: str = "stored",
) -> Callable[..., Iterator[TextRecord]]:
    """
    Makes the reader of a format with one annotation file an image.

    Args:
        name (`str`): Name of the reader.
        title (`str`): What it reads, for its documentation.
        parse (`Callable`): `parse(path, encoding, memory_limit)` reads one annotation file.
        suffixes (`Sequence[str]`): Suffixes of annotation files.
        key (`Callable[[str], str]`): Takes an annotation's stem to the image's.
        orientation (`str`, *optional*, defaults to `"stored"`): What the benchmark's annotations refer to.

    Returns:
        `Callable`: `reader(source, images=None, annotations=None, ...) -> Iterator[TextRecord]`.
    """
    default = orientation

    def reader(
        source: PathLike,
        images: PathLike | Sequence[PathLike] | None = None,
        annotations: PathLike | None = None,
        *,
        split: str | None = None,
        missing: str = "error",
        record_size: tuple[int, int] | None = None,
        orientation: str = default,
        encoding: str | None = None,
        on_error: OnError | None = None,
        options: ReadOptions = DEFAULT_OPTIONS,
    ) -> Iterator[TextRecord]:
        check_choice("orientation", orientation, ORIENTATION_CHOICES)
        pairs = pair_files(
            source,
            images,
            annotations,
            suffixes=suffixes,
            key=key,
            split=split,
            missing=missing,
            allow_outside=options.allow_outside,
        )

        def build(pair: tuple[Path, Path]) -> TextRecord:
            image, annotation = pair
            instances = parse(annotation, encoding, options.memory_limit)
            return instances.record(
                image, orientation, record_size, where=str(annotation), normalized=options.normalized
            )

        return build_records(pairs, build, on_error, options)

    reader.__name__ = reader.__qualname__ = name
    reader.__doc__ = f"""Reads {title}.

        See [`read_dataset`] for the arguments and the errors; `orientation` is {default!r} by default.
        """
    return reader
