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
"""The Hub form: pictures with the columns `polygons`, `ignore` and `text`, as files or as a `datasets` data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .files import ImageIndex, PathLike, checked, json_outline, json_size, member, parse_json, read_lines, shortened
from .records import IGNORE_TRANSCRIPTION, AnnotationError, DatasetImage, TextRecord, build_records, stored_picture


METADATA_NAME = "metadata.jsonl"
OnError = Callable[[AnnotationError], None]


def read_hub(
    source: PathLike,
    split: str | None = None,
    *,
    streaming: bool = False,
    missing: str = "error",
    image_column: str = "image",
    polygons_column: str = "polygons",
    ignore_column: str = "ignore",
    text_column: str = "text",
    on_error: OnError | None = None,
    **load_options,
) -> Iterator[TextRecord]:
    """
    Reads the Hub form, from files or from the Hub.

    Args:
        source (`str` or `Path`):
            A folder with `metadata.jsonl` (the `imagefolder` form, one sub-folder for each split or none; read without
            `datasets`), a folder of parquet files, one parquet file, or the id of a data set on the Hub.
        split (`str`, *optional*): The split; needed when there are several.
        streaming (`bool`, *optional*, defaults to `False`): Whether `datasets` streams instead of preparing files.
        missing (`str`, *optional*, defaults to `"error"`):
            What becomes of a line of `metadata.jsonl` whose picture is not there: `"error"`, `"skip"` or `"keep"`.
        image_column (`str`, *optional*, defaults to `"image"`): Column of pictures.
        polygons_column (`str`, *optional*, defaults to `"polygons"`):
            Column of outlines: a list of `[[x, y], ...]`, or of `[x1, y1, x2, y2, ...]`, in pixels.
        ignore_column (`str`, *optional*, defaults to `"ignore"`):
            Column of flags, one for each outline. Where it is absent, words transcribed `###` are ignored.
        text_column (`str`, *optional*, defaults to `"text"`): Column of transcriptions; an empty one is none.
        on_error (`Callable`, *optional*): Called with the error of a bad row, which is left out; raised by default.
        load_options: Further arguments of `datasets.load_dataset`, such as `revision` or `name`.

    Returns:
        `Iterator[TextRecord]`: lazily. `width` and `height`, where given, become the record's `size`.

    Raises:
        FileNotFoundError: if there is no such folder, or a picture is missing.
        AnnotationError: if a row cannot be meant; the message names the file and the line, or the row and the column.
        ValueError: if there are several splits and none is named.
    """
    columns = (polygons_column, ignore_column, text_column)
    root = Path(source)
    metadata = _metadata_file(root, split) if root.is_dir() else None
    if metadata is not None and not streaming and not load_options:
        return _read_metadata(metadata, columns, missing, on_error)
    dataset = _load_dataset(source, split, streaming, load_options)
    return records_from_dataset(
        dataset,
        image_column=image_column,
        polygons_column=polygons_column,
        ignore_column=ignore_column,
        text_column=text_column,
        on_error=on_error,
    )


def _metadata_file(root: Path, split: str | None) -> Path | None:
    """The `metadata.jsonl` of a folder or of one of its splits."""
    if split is not None and (root / split / METADATA_NAME).is_file():
        return root / split / METADATA_NAME
    if (root / METADATA_NAME).is_file():
        if split not in (None, "train", root.name):
            raise ValueError(f"{root} has no split {split!r}: its {METADATA_NAME} is the only one, leave `split` out")
        return root / METADATA_NAME
    found = sorted(root.glob(f"*/{METADATA_NAME}"))
    names = ", ".join(repr(path.parent.name) for path in found)
    if found and split is not None:
        raise ValueError(f"{root} has no split {split!r}; it has {names}")
    if len(found) > 1:
        raise ValueError(f"{root} has the splits {names}: name one (`split=`)")
    return found[0] if found else None


def _read_metadata(path: Path, columns: tuple[str, str, str], missing: str, on_error: OnError | None):
    images = ImageIndex([path.parent], missing)

    def build(numbered: tuple[int, str]) -> TextRecord | None:
        where = f"{path}, line {numbered[0]}"
        row = parse_json(numbered[1], where)
        name = member(row, "file_name", str, where)
        image = images.find(name, where)
        return None if image is None else record_from_row(row, image, where, columns)

    return build_records(read_lines(path), build, on_error)


def _load_dataset(source: PathLike, split: str | None, streaming: bool, load_options: dict) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ImportError("Reading parquet files and Hub data sets needs `pip install datasets`") from error
    path = Path(source)
    if path.suffix == ".parquet" and path.is_file():
        load_options = {"path": "parquet", "data_files": str(path), **load_options}
    elif not path.is_dir():
        if str(source).count("/") != 1 or str(source).startswith((".", "/", "~")):
            raise FileNotFoundError(f"{source}: no such folder or file, and no Hub id (OWNER/NAME); check the path")
        load_options = {"path": str(source), **load_options}
    elif next(path.rglob("*.parquet"), None) is not None:
        load_options = {"path": "parquet", "data_dir": str(path), **load_options}
    elif next(path.rglob("metadata.*"), None) is not None:
        load_options = {"path": "imagefolder", "data_dir": str(path), **load_options}
    else:
        raise FileNotFoundError(f"{path}: neither a {METADATA_NAME} nor a parquet file in this folder; check the path")
    try:
        loaded = datasets.load_dataset(split=split, streaming=streaming, **load_options)
    except OSError:
        raise
    except Exception as error:  # whatever its parsers raise on damaged files
        reason = f"{error.__cause__ or error}".splitlines()[0][:200]
        raise AnnotationError(
            f"{source}: `datasets` cannot load it ({reason}); get a complete copy, or check `split` and the other options"
        ) from error
    if isinstance(loaded, dict):
        if len(loaded) != 1:
            raise ValueError(f"{source} has the splits {', '.join(map(repr, loaded))}: name one (`split=`)")
        loaded = next(iter(loaded.values()))
    return loaded


def records_from_dataset(
    dataset: Iterable[Mapping[str, Any]],
    *,
    image_column: str = "image",
    polygons_column: str = "polygons",
    ignore_column: str = "ignore",
    text_column: str = "text",
    on_error: OnError | None = None,
) -> Iterator[TextRecord]:
    """
    Turns a data set of the `datasets` library into records.

    Args:
        dataset (`datasets.Dataset`, `datasets.IterableDataset` or an iterable of `dict`):
            One row a picture. The pictures of a `Dataset` stay in it until they are needed ([`DatasetImage`]), so that
            a list of its records is small; those of an `IterableDataset` come with their records, still encoded.
        image_column (`str`, *optional*, defaults to `"image"`): Column of pictures.
        polygons_column (`str`, *optional*, defaults to `"polygons"`):
            Column of outlines: a list of `[[x, y], ...]`, or of `[x1, y1, x2, y2, ...]`, in pixels of the upright
            picture, or of the frame that the columns `width` and `height` give.
        ignore_column (`str`, *optional*, defaults to `"ignore"`):
            Column of flags, one for each outline. Where it is absent, words transcribed `###` are ignored.
        text_column (`str`, *optional*, defaults to `"text"`):
            Column of transcriptions, one for each outline; may be absent. An empty one is none.
        on_error (`Callable`, *optional*): Called with the error of a bad row, which is left out; raised by default.

    Returns:
        `Iterator[TextRecord]`: lazily, in the data set's order.

    Raises:
        AnnotationError: if a row cannot be meant; the message names the row and the column.
        ValueError: if there is no column of pictures or of outlines.
    """
    names = getattr(dataset, "column_names", None)
    if isinstance(names, dict):
        raise ValueError(f"this is a dict of the splits {', '.join(map(repr, names))}: pass one of them")
    for column in (image_column, polygons_column):
        if names is not None and column not in names:
            raise ValueError(f"the data set has no column {column!r}, but {', '.join(map(repr, names))}; name it")
    columns = (polygons_column, ignore_column, text_column)
    features = getattr(dataset, "features", None)
    if features is not None and type(features.get(image_column)).__name__ == "Image":
        import datasets

        epoch = getattr(dataset, "epoch", 0)
        dataset = dataset.cast_column(image_column, datasets.Image(decode=False))
        if epoch:
            dataset.set_epoch(epoch)  # which the cast of a stream forgets, so that every pass would have one order
    if hasattr(dataset, "num_rows"):  # an IterableDataset has no rows to come back to
        return _lazy_records(dataset, image_column, columns, on_error)

    def build(numbered: tuple[int, Mapping[str, Any]]) -> TextRecord:
        number, row = numbered
        where = f"row {number}"
        if image_column not in row:
            raise AnnotationError(f"{where}: there is no column {image_column!r}; name it (`image_column=`)")
        value = row[image_column]
        name = value.get("path") if isinstance(value, dict) else None
        return record_from_row(row, stored_picture(value, where), where, columns, name)

    return build_records(enumerate(_rows(dataset)), build, on_error)


def _rows(dataset: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The rows of a stream, which reads its files only now."""
    rows = iter(dataset)
    number = 0
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except (AnnotationError, OSError):
            raise
        except Exception as error:  # whatever the parsers of `datasets` raise on damaged files
            reason = f"{error.__cause__ or error}".splitlines()[0][:200]
            raise AnnotationError(f"row {number}: cannot be read ({reason}); get a complete copy") from error
        yield row
        number += 1


def _lazy_records(dataset: Any, image_column: str, columns: tuple[str, str, str], on_error: OnError | None):
    dataset = dataset.with_format(None)
    rows = dataset.select_columns([name for name in dataset.column_names if name != image_column])
    pictures = dataset.select_columns([image_column])
    paths = _picture_paths(pictures, image_column)

    def build(numbered: tuple[int, dict]) -> TextRecord:
        number, row = numbered
        path = paths[number] if paths is not None else None
        return record_from_row(row, DatasetImage(pictures, number, image_column, path), f"row {number}", columns)

    return build_records(enumerate(rows), build, on_error)


def _picture_paths(pictures: Any, column: str) -> list[str | None] | None:
    """The file names of a data set's pictures, without reading these; `None` if that is not possible."""
    # Rows that were chosen or shuffled are views of the table; taking their names would copy every picture.
    if getattr(pictures, "_indices", ...) is not None:
        return None
    import pyarrow

    values = pictures.data.column(column)
    if not pyarrow.types.is_struct(values.type) or values.type.get_field_index("path") < 0:
        return None
    return [name for chunk in values.chunks for name in chunk.field("path").to_pylist()]


def record_from_row(
    row: Mapping[str, Any], image: Any, where: str, columns: tuple[str, str, str], image_name: str | None = None
) -> TextRecord:
    """The record of a row; `columns` are those of outlines, flags and transcriptions."""
    row = dict(checked(row, Mapping, where))
    polygons_column, ignore_column, text_column = columns
    polygons = [
        json_outline(_as_list(polygon), f"{where}.{polygons_column}[{index}]")
        for index, polygon in enumerate(_as_list(member(row, polygons_column, (list, np.ndarray), where)))
    ]
    count = len(polygons)
    lists = {}
    for column, kind in ((ignore_column, (bool, int)), (text_column, str), ("language", str)):
        values = _as_list(member(row, column, (list, np.ndarray), where, None))
        if values is None:
            continue
        if len(values) != count:
            raise AnnotationError(
                f"{where}.{column}: {len(values)} entries for {count} outlines in {polygons_column!r}; give one of each"
            )
        for index, value in enumerate(values):
            if value is not None:
                checked(value, kind, f"{where}.{column}[{index}]")
        lists[column] = values
    ignore = lists.get(ignore_column)
    for index, flag in enumerate(ignore or []):
        if flag is None or flag not in (0, 1):
            raise AnnotationError(f"{where}.{ignore_column}[{index}]: {shortened(flag)} is neither true nor false")
    texts = [text or None for text in lists.get(text_column, [None] * count)]
    if ignore is None:
        ignore = [text is not None and text.strip() == IGNORE_TRANSCRIPTION for text in texts]
    languages = lists.get("language")
    size = json_size(row, where)
    return TextRecord(
        image,
        polygons,
        ignore,
        texts,
        size,
        None if languages is None else [name or None for name in languages],
        image_name,
    )


def _as_list(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value
