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

"""Images in a column of a table: parquet shards, and data sets on the Hub."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..data.formats.access import MEMORY_LIMIT, SourceFolders, check_memory
from ..data.formats.errors import AnnotationError
from ..data.formats.hub import load_hub_dataset, read_rows
from ..data.formats.records import stored_picture
from ..model.image_loading import ImageReadError
from .frames import read_frames
from .items import READ_ERRORS, InputFile, InputImage, import_extra


# Rows that are decoded at a time: an image may have hundreds of megabytes.
BATCH_ROWS = 4
_HUB_ADDRESS = re.compile(r"hf://(?:datasets/)?([^/@?]+/[^/@?]+)(?:@([^/?]+))?/?")


def read_parquet(file: InputFile, source: str | bytes) -> Iterator[InputImage]:
    """
    Yields the images of a parquet file, row by row.

    Args:
        file ([`InputFile`]): The file.
        source (`str` or `bytes`): Its path or content.
    """
    pyarrow = import_extra("pyarrow", "train", "pyarrow")
    parquet = import_extra("pyarrow.parquet", "train", "pyarrow")
    # What rows only name is opened beside the file, and nowhere else.
    folders = SourceFolders(*([os.path.dirname(os.path.abspath(source))] if isinstance(source, str) else []))
    try:
        with parquet.ParquetFile(source if isinstance(source, str) else pyarrow.BufferReader(source)) as table:
            yield from _table_images(file, table, folders)
    except pyarrow.ArrowException as error:
        yield file.error(error)


def _table_images(file: InputFile, table: Any, folders: SourceFolders) -> Iterator[InputImage]:
    row = 0
    column = _image_column({field.name: _holds_images(field.type) for field in table.schema_arrow}, file)
    for index in range(table.metadata.num_row_groups):
        group = table.metadata.row_group(index)
        for number in range(group.num_columns):
            chunk = group.column(number)
            if chunk.path_in_schema.partition(".")[0] == column:
                check_memory(chunk.total_uncompressed_size, MEMORY_LIMIT, f"{file.name}, row group {index}")
    for batch in table.iter_batches(BATCH_ROWS, columns=[column]):
        for value in batch.column(0):
            facts = {"row": row}
            siblings = table.metadata.num_rows if row == 0 else None
            row += 1
            if file.is_done(**facts):
                yield file.image(None, siblings, **facts)
            else:
                yield from _images(file, value.as_py(), siblings, folders, facts)


def _holds_images(kind: Any) -> bool:
    """Whether a column's type can be that of images: bytes, or bytes beside a name, as `datasets` stores them."""
    import pyarrow

    if pyarrow.types.is_struct(kind):
        return {"bytes", "path"} <= {kind.field(index).name for index in range(kind.num_fields)}
    return pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)


def _image_column(columns: Mapping[str, bool], file: InputFile) -> str:
    wanted = file.options.image_column
    if wanted is None and "image" in columns:
        return "image"
    fitting = [name for name, fits in columns.items() if fits]
    if wanted is None and len(fitting) == 1:
        return fitting[0]
    if wanted in columns:
        return str(wanted)
    names = ", ".join(map(repr, columns))
    problem = f"has no column {wanted!r}" if wanted else "has no column 'image'"
    raise ValueError(f"{file.name!r} {problem}, but {names}; name that of the images (image_column, --image-column)")


def read_hub_dataset(file: InputFile, source: str) -> Iterator[InputImage]:
    """
    Yields the images of a data set on the Hub, streamed.

    Args:
        file ([`InputFile`]): The input.
        source (`str`): `hf://datasets/OWNER/NAME` or `hf://OWNER/NAME`, with `@REVISION` or without.
    """
    match = _HUB_ADDRESS.fullmatch(source)
    if match is None:
        yield file.error("is no address of a data set; it has the form hf://datasets/OWNER/NAME[@REVISION]")
        return
    datasets = import_extra("datasets", "train", "datasets")
    revision = {"revision": match[2]} if match[2] else {}
    table = load_hub_dataset(match[1], file.options.split, True, revision)
    features = table.features
    if features is None:  # of files that do not tell, such as JSON Lines
        table = table._resolve_features()
        features = table.features
    column = _image_column({name: isinstance(kind, datasets.Image) for name, kind in features.items()}, file)
    table = table.select_columns([column])
    if isinstance(features[column], datasets.Image):
        # Decoded by this package, with its limits.
        table = table.cast_column(column, datasets.Image(decode=False))
    folders = SourceFolders(f"hf://datasets/{match[1]}")
    split: dict[str, Any] = {} if file.options.split is None else {"split": file.options.split}
    for row, values in enumerate(read_rows(table)):
        facts = {**split, "row": row}
        if file.is_done(**facts):
            yield file.image(None, **facts)
        else:
            yield from _images(file, values[column], None, folders, facts)


def _images(
    file: InputFile, value: Any, siblings: int | None, folders: SourceFolders, facts: dict[str, Any]
) -> Iterator[InputImage]:
    try:
        picture = stored_picture(value, file.image(None, **facts).where, folders)
        if isinstance(picture, os.PathLike):
            picture = os.fspath(picture)
        if file.options.all_frames and isinstance(picture, (str, bytes)):
            yield from read_frames(file, picture, **facts)
        else:
            yield file.image(picture, siblings, **facts)
    except AnnotationError as error:  # it names the row, and an option of reading annotations
        yield file.error(ImageReadError(str(error).partition(", or pass allow_outside")[0]), **facts)
    except READ_ERRORS as error:  # of this row; the others may be whole
        yield file.error(error, **facts)
