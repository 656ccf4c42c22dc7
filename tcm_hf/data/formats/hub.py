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
"""The Hub form: images with the columns `polygons`, `ignore` and `text`, as files or as a `datasets` data set."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .access import DEFAULT_OPTIONS, PathLike, ReadOptions, SourceFolders, check_memory, walk
from .files import (
    ImageIndex,
    checked,
    iterate_lines,
    json_outline,
    json_size,
    member,
    named_splits,
    parse_json,
    shortened,
)
from .frames import picture_header, scale_fractions
from .json_sets import box_outline
from .records import (
    IGNORE_TRANSCRIPTION,
    IMAGE_SUFFIXES,
    AnnotationError,
    DatasetImage,
    TextRecord,
    build_records,
    stored_picture,
)


METADATA_NAME = "metadata.jsonl"
# Boxes by the convention of the Hub's object detection data sets.
OBJECTS_COLUMN = "objects"
PARQUET_BATCH = 64
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
    options: ReadOptions = DEFAULT_OPTIONS,
    **load_options,
) -> Iterator[TextRecord]:
    """
    Reads the Hub form, from files or from the Hub.

    Where a row has no outlines, but the column `objects` of the Hub's object detection data sets, its `bbox` become
    outlines: `{"bbox": [[x, y, width, height], ...]}` in pixels, as COCO has them, all of them text whatever their
    categories; `text` and `ignore` in `objects` count, where there are some.

    Args:
        source (`str` or `Path`):
            A folder with `metadata.jsonl` (the `imagefolder` form, one sub-folder for each split or none; read without
            `datasets`), a folder of parquet files, one parquet file, or the id of a data set on the Hub.
        split (`str`, *optional*): The split; needed when there are several.
        streaming (`bool`, *optional*, defaults to `False`): Whether `datasets` streams instead of preparing files.
        missing (`str`, *optional*, defaults to `"error"`):
            What becomes of a line of `metadata.jsonl` whose image is not there: `"error"`, `"skip"` or `"keep"`.
        image_column (`str`, *optional*, defaults to `"image"`): Column of images.
        polygons_column (`str`, *optional*, defaults to `"polygons"`):
            Column of outlines: a list of `[[x, y], ...]`, or of `[x1, y1, x2, y2, ...]`, in pixels.
        ignore_column (`str`, *optional*, defaults to `"ignore"`):
            Column of flags, one for each outline. Where it is absent, words transcribed `###` are ignored.
        text_column (`str`, *optional*, defaults to `"text"`): Column of transcriptions; an empty one is none.
        on_error (`Callable`, *optional*): Called with the error of a bad row, which is left out; raised by default.
        options (`ReadOptions`, *optional*): What all readers have in common.
        load_options: Further arguments of `datasets.load_dataset`, such as `revision` or `name`.

    Returns:
        `Iterator[TextRecord]`: lazily. `width` and `height`, where given, become the record's `size`.

    Raises:
        FileNotFoundError: if there is no such folder, or an image is missing.
        AnnotationError: if a row cannot be meant, or names an image outside of the folder; the message names the file and
            the line, or the row and the column.
        ValueError: if there are several splits and none is named.
    """
    columns = (polygons_column, ignore_column, text_column)
    root = Path(source)
    metadata = _metadata_file(root, split) if root.is_dir() else None
    if metadata is not None and not streaming and not load_options:
        folders = SourceFolders(root, allow_outside=options.allow_outside)
        return _read_metadata(folders.check(metadata), columns, missing, on_error, options, folders)
    return records_from_dataset(
        load_hub_dataset(source, split, streaming, load_options, options),
        image_column=image_column,
        polygons_column=polygons_column,
        ignore_column=ignore_column,
        text_column=text_column,
        image_root=image_roots(source),
        on_error=on_error,
        options=options,
    )


def image_roots(source: PathLike) -> list[PathLike]:
    """Where the images of a folder, a file or a data set on the Hub may lie; for `records_from_dataset`."""
    root = Path(source)
    if not root.exists():
        return [f"hf://datasets/{source}"]
    import datasets

    # Where `datasets` unpacks the archives of a folder.
    unpacked = Path(datasets.config.HF_DATASETS_CACHE) / "downloads"
    return [root if root.is_dir() else root.parent, unpacked]


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


def _read_metadata(
    path: Path,
    columns: tuple[str, str, str],
    missing: str,
    on_error: OnError | None,
    options: ReadOptions,
    folders: SourceFolders,
) -> Iterator[TextRecord]:
    images = ImageIndex([path.parent], missing, None, folders)

    def build(numbered: tuple[int, str]) -> TextRecord | None:
        where = f"{path}, line {numbered[0]}"
        row = parse_json(numbered[1], where, options.memory_limit)
        name = member(row, "file_name", str, where)
        image = images.find(name, where)
        return None if image is None else record_from_row(row, image, where, columns, None, options)

    return build_records(iterate_lines(path, None, options.memory_limit), build, on_error, options)


def load_hub_dataset(
    source: PathLike,
    split: str | None = None,
    streaming: bool = False,
    load_options: Mapping[str, Any] | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> Any:
    """
    Loads a data set with `datasets`, which opens nothing outside of a folder.

    Args:
        source (`str` or `Path`): A folder, a parquet file, or the id of a data set on the Hub.
        split (`str`, *optional*): The split; needed when there are several.
        streaming (`bool`, *optional*, defaults to `False`): Whether rows are read as they come.
        load_options (`Mapping`, *optional*): Further arguments of `datasets.load_dataset`.
        options (`ReadOptions`, *optional*): What all readers have in common.

    Returns:
        `datasets.Dataset` or `datasets.IterableDataset`

    Raises:
        FileNotFoundError: if there is no such source.
        AnnotationError: if it cannot be loaded, is too large, or a link leads outside.
        ValueError: if there are several splits and none is named.
    """
    load_options = dict(load_options or {})
    try:
        import datasets
    except ImportError as error:
        raise ImportError("Reading parquet files and Hub data sets needs `pip install datasets`") from error
    path = Path(source)
    if path.is_dir():
        # `datasets` opens all of these but images, which are checked when they are needed.
        folders = SourceFolders(path, allow_outside=options.allow_outside)
        files = [Path(entry.path) for entry in walk(path, folders) if entry.is_file()]
        files = [file if file.suffix.lower() in IMAGE_SUFFIXES else folders.check(file) for file in files]
    else:
        files = [path] if path.is_file() else []
    for file in files:
        if file.suffix == ".parquet":
            check_parquet(file, options.memory_limit)
    if path.suffix == ".parquet" and path.is_file():
        load_options = {"path": "parquet", "data_files": str(path), **load_options}
    elif not path.is_dir():
        if str(source).count("/") != 1 or str(source).startswith((".", "/", "~")):
            raise FileNotFoundError(f"{source}: no such folder or file, and no Hub id (OWNER/NAME); check the path")
        load_options = {"path": str(source), **load_options}
    elif any(file.suffix == ".parquet" for file in files):
        # Not the folder: then `datasets` would take every file in it for parquet.
        load_options = {"path": "parquet", "data_files": _parquet_splits(path, files), **load_options}
    elif any(file.stem == "metadata" for file in files):
        load_options = {"path": "imagefolder", "data_dir": str(path), **load_options}
    else:
        raise FileNotFoundError(f"{path}: neither a {METADATA_NAME} nor a parquet file in this folder; check the path")
    try:
        loaded = datasets.load_dataset(split=split, streaming=streaming, **load_options)
    except Exception as error:  # whatever its parsers raise on damaged files
        if isinstance(error, OSError) and str(source) in str(error):
            raise
        reason = f"{error.__cause__ or error}".splitlines()[0][:200]
        raise AnnotationError(
            f"{source}: `datasets` cannot load it ({reason}); get a complete copy, or check `split` and the other options"
        ) from error
    if isinstance(loaded, dict):
        if len(loaded) != 1:
            raise ValueError(f"{source} has the splits {', '.join(map(repr, loaded))}: name one (`split=`)")
        loaded = next(iter(loaded.values()))
    return loaded


_SHARD_NAME = re.compile(r"(\w+)-\d{5}-of-\d{5}")


def _parquet_splits(root: Path, files: list[Path]) -> dict[str, list[str]]:
    """The parquet files of a folder by their split, which their names or those of their folders say."""
    splits: dict[str, list[str]] = {}
    for file in files:
        if file.suffix == ".parquet":
            shard = _SHARD_NAME.fullmatch(file.stem)
            named = {shard[1]} if shard else named_splits(file.relative_to(root).with_suffix("").parts)
            splits.setdefault(min(named, default="train"), []).append(str(file))
    return splits


def records_from_dataset(
    dataset: Iterable[Mapping[str, Any]],
    *,
    image_column: str = "image",
    polygons_column: str = "polygons",
    ignore_column: str = "ignore",
    text_column: str = "text",
    image_root: PathLike | Sequence[PathLike] | None = None,
    on_error: OnError | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> Iterator[TextRecord]:
    """
    Turns a data set of the `datasets` library into records.

    Args:
        dataset (`datasets.Dataset`, `datasets.IterableDataset` or an iterable of `dict`):
            One row an image. The images of a `Dataset` stay in it until they are needed ([`DatasetImage`]), so that
            a list of its records is small; those of an `IterableDataset` come with their records, still encoded.
        image_column (`str`, *optional*, defaults to `"image"`): Column of images.
        polygons_column (`str`, *optional*, defaults to `"polygons"`):
            Column of outlines: a list of `[[x, y], ...]`, or of `[x1, y1, x2, y2, ...]`, in pixels of the upright
            image, or of the frame that the columns `width` and `height` give.
        ignore_column (`str`, *optional*, defaults to `"ignore"`):
            Column of flags, one for each outline. Where it is absent, words transcribed `###` are ignored.
        text_column (`str`, *optional*, defaults to `"text"`):
            Column of transcriptions, one for each outline; may be absent. An empty one is none.
        image_root (`str`, `Path` or list of them, *optional*):
            Folders of images that rows only name. By default these are opened where the rows come from the caller's own
            code (a list, `Dataset.from_dict`, `from_list`, `from_generator`) or from the `imagefolder` loader of
            `datasets`, which lists them itself. Files like parquet could name any file of this computer, and any address:
            what they name is opened in these folders only. Images that are stored as bytes need nothing of this.
        on_error (`Callable`, *optional*): Called with the error of a bad row, which is left out; raised by default.
        options (`ReadOptions`, *optional*): What all readers have in common; `allow_outside` opens what rows name.

    Returns:
        `Iterator[TextRecord]`: lazily, in the data set's order.

    Raises:
        AnnotationError: if a row cannot be meant; the message names the row and the column.
        ValueError: if there is no column of images or of outlines.
    """
    names = getattr(dataset, "column_names", None)
    if isinstance(names, dict):
        raise ValueError(f"this is a dict of the splits {', '.join(map(repr, names))}: pass one of them")
    for column in (image_column, polygons_column):
        if names is not None and column not in names and not (column == polygons_column and OBJECTS_COLUMN in names):
            raise ValueError(f"the data set has no column {column!r}, but {', '.join(map(repr, names))}; name it")
    columns = (polygons_column, ignore_column, text_column)
    folders = _picture_folders(dataset, image_root, options)
    features = getattr(dataset, "features", None)
    if features is not None:
        dataset = _undecoded(dataset, features, image_column, columns)
    if hasattr(dataset, "num_rows"):  # an IterableDataset has no rows to come back to
        return _lazy_records(dataset, image_column, columns, folders, on_error, options)

    def build(numbered: tuple[int, Mapping[str, Any]]) -> TextRecord:
        number, row = numbered
        where = f"row {number}"
        checked(row, Mapping, where)
        if image_column not in row:
            raise AnnotationError(f"{where}: there is no column {image_column!r}; name it (`image_column=`)")
        value = row[image_column]
        name = value.get("path") if isinstance(value, dict) else None
        return record_from_row(row, stored_picture(value, where, folders), where, columns, name, options)

    return build_records(enumerate(read_rows(dataset)), build, on_error, options)


def _picture_folders(
    dataset: Any, image_root: PathLike | Sequence[PathLike] | None, options: ReadOptions
) -> SourceFolders:
    """What images that are only named may be."""
    roots = [image_root] if isinstance(image_root, (str, Path)) else list(image_root or ())
    hub = [root for root in roots if str(root).startswith("hf://")]
    listed = (not roots or bool(hub)) and all(map(_is_listed, _origins(dataset)))
    return SourceFolders(*roots, allow_outside=options.allow_outside, listed=listed)


def _is_listed(dataset: Any) -> bool:
    """Whether the images that rows only name were named by the caller's own code, or by the loader of folders."""
    info = getattr(dataset, "info", None)
    if info is None:  # rows that the caller made
        return True
    if info.builder_name is None:
        # Made in memory. What was saved to disk has no builder either, but files.
        return hasattr(dataset, "num_rows") and not dataset.cache_files
    # The loader of folders takes the files that it found itself; a saved data set could only claim to be its work.
    saved = any((Path(file["filename"]).parent / "state.json").exists() for file in _cache_files(dataset))
    return info.builder_name in ("imagefolder", "generator") and not saved


def _origins(dataset: Any) -> list[Any]:
    """The data sets that a stream of `to_iterable_dataset` was made of, which it does not tell itself; else the data set."""
    examples = getattr(dataset, "_ex_iterable", None)
    while examples is not None:
        shards = (getattr(examples, "kwargs", None) or {}).get("shards")
        if shards and all(hasattr(shard, "num_rows") for shard in shards):
            return list(shards)
        examples = getattr(examples, "ex_iterable", None)
    return [dataset]


def _cache_files(dataset: Any) -> list[dict]:
    return getattr(dataset, "cache_files", None) or []


def _undecoded(dataset: Any, features: Any, image_column: str, columns: tuple[str, str, str]) -> Any:
    """The columns that are read, without anything that `datasets` would decode, for which it opens files and addresses."""
    epoch = getattr(dataset, "epoch", 0)
    wanted = [
        name for name in (image_column, *columns, OBJECTS_COLUMN, "language", "width", "height") if name in features
    ]
    if columns[0] in wanted and OBJECTS_COLUMN in wanted:
        wanted.remove(OBJECTS_COLUMN)
    for name in wanted:
        feature = features[name]
        if name == image_column and type(feature).__name__ == "Image":
            continue
        if _decodes(feature):
            raise ValueError(
                f"column {name!r} holds {type(feature).__name__}, which is not what a data set of text detection has there; "
                "name the column that is meant"
            )
    dataset = dataset.select_columns(wanted)
    if type(features.get(image_column)).__name__ == "Image":
        import datasets

        dataset = dataset.cast_column(image_column, datasets.Image(decode=False))
    if epoch:
        dataset.set_epoch(epoch)  # which a new stream forgets, so that every pass would have one order
    return dataset


def _decodes(feature: Any) -> bool:
    """Whether a feature, or one inside of it, is decoded when a row is read."""
    if isinstance(feature, Mapping):
        return any(map(_decodes, feature.values()))
    if isinstance(feature, (list, tuple)):
        return any(map(_decodes, feature))
    inner = getattr(feature, "feature", None)
    return hasattr(feature, "decode_example") or (inner is not None and _decodes(inner))


def read_rows(dataset: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """
    The rows of a stream, which reads its files only now.

    Raises:
        AnnotationError, OSError: if one cannot be read; the message has its number.
    """
    rows = iter(dataset)
    number = 0
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except AnnotationError:
            raise
        except OSError as error:
            raise OSError(f"row {number}: cannot be read ({error}); check the file or the connection") from error
        except Exception as error:  # whatever the parsers of `datasets` raise on damaged files
            reason = f"{error.__cause__ or error}".splitlines()[0][:200]
            raise AnnotationError(f"row {number}: cannot be read ({reason}); get a complete copy") from error
        yield row
        number += 1


def _lazy_records(
    dataset: Any,
    image_column: str,
    columns: tuple[str, str, str],
    folders: SourceFolders,
    on_error: OnError | None,
    options: ReadOptions,
) -> Iterator[TextRecord]:
    dataset = dataset.with_format(None)
    rows = dataset.select_columns([name for name in dataset.column_names if name != image_column])
    pictures = dataset.select_columns([image_column])
    paths = _picture_paths(pictures, image_column)

    def build(numbered: tuple[int, dict]) -> TextRecord:
        number, row = numbered
        path = paths[number] if paths is not None else None
        image = DatasetImage(pictures, number, image_column, path, folders)
        return record_from_row(row, image, f"row {number}", columns, None, options)

    return build_records(enumerate(rows), build, on_error, options)


def _picture_paths(pictures: Any, column: str) -> list[str | None] | None:
    """The file names of a data set's images, without reading these; `None` if that is not possible."""
    # Rows that were chosen or shuffled are views of the table; taking their names would copy every image.
    if getattr(pictures, "_indices", ...) is not None:
        return None
    import pyarrow

    values = pictures.data.column(column)
    if not pyarrow.types.is_struct(values.type) or values.type.get_field_index("path") < 0:
        return None
    return [name for chunk in values.chunks for name in chunk.field("path").to_pylist()]


def check_parquet(path: Path, memory_limit: int) -> None:
    """
    Looks at what a parquet file declares, before anything is read.

    Raises:
        AnnotationError: if it is damaged, or a group of its rows, which is read at once, would take more memory than is
            allowed.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for index in range(file.metadata.num_row_groups):
                group = file.metadata.row_group(index)
                where = f"{path}, row group {index}"
                check_memory(group.total_byte_size, memory_limit, where)
                # A value that is stored once may stand in every row; only reading them tells how many bytes that makes.
                repeated = sorted(
                    {
                        group.column(number).path_in_schema.partition(".")[0]
                        for number in range(group.num_columns)
                        if group.column(number).has_dictionary_page
                    }
                )
                size = 0
                for batch in file.iter_batches(PARQUET_BATCH, [index], repeated) if repeated else ():
                    size += batch.nbytes
                    check_memory(size, memory_limit, where)
    except (pyarrow.ArrowException, OSError) as error:  # some of Arrow's errors are those of the system by their type
        reason = str(error).splitlines()[0][:200]
        raise AnnotationError(f"{path}: no parquet file that can be read ({reason}); get a complete copy") from error


def record_from_row(
    row: Mapping[str, Any],
    image: Any,
    where: str,
    columns: tuple[str, str, str],
    image_name: str | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> TextRecord:
    """The record of a row; `columns` are those of outlines, flags and transcriptions."""
    row = dict(checked(row, Mapping, where))
    polygons_column, ignore_column, text_column = columns
    if polygons_column not in row and row.get(OBJECTS_COLUMN) is not None:
        objects = _objects(row[OBJECTS_COLUMN], f"{where}.{OBJECTS_COLUMN}")
        row = {**row, polygons_column: objects["bbox"], ignore_column: objects["ignore"], text_column: objects["text"]}
    polygons = [
        json_outline(_as_list(polygon), f"{where}.{polygons_column}[{index}]")
        for index, polygon in enumerate(member(_as_lists(row), polygons_column, list, where))
    ]
    ignore = _per_outline(row, ignore_column, (bool, int), where, polygons_column, len(polygons), spread=True)
    for index, flag in enumerate(ignore or []):
        if flag is None or flag not in (0, 1):
            raise AnnotationError(f"{where}.{ignore_column}[{index}]: {shortened(flag)} is neither true nor false")
    texts = _per_outline(row, text_column, str, where, polygons_column, len(polygons), spread=len(polygons) == 1)
    texts = [text or None for text in texts or [None] * len(polygons)]
    languages = _per_outline(row, "language", str, where, polygons_column, len(polygons), spread=True)
    if ignore is None:
        ignore = [text is not None and text.strip() == IGNORE_TRANSCRIPTION for text in texts]
    size = json_size(row, where)
    if options.normalized:
        polygons = scale_fractions(polygons, size or _frame_of(image, where), where)
    return TextRecord(
        image,
        polygons,
        ignore,
        texts,
        size,
        None if languages is None else [name or None for name in languages],
        image_name,
    )


def _objects(value: Any, where: str) -> dict[str, list | None]:
    """The boxes of a row as outlines, with their flags and transcriptions: a list for each field, or a list of objects."""
    value = checked(_as_list(value), (dict, list), where)
    if isinstance(value, list):
        entries = [checked(entry, dict, f"{where}[{index}]") for index, entry in enumerate(value)]
        # An object without a field has none.
        value = {key: [entry.get(key) for entry in entries] for key in ("bbox", "ignore", "text")}
        for key in ("ignore", "text"):
            if all(each is None for each in value[key]):
                value[key] = None
        value["ignore"] = value["ignore"] and [flag or False for flag in value["ignore"]]
    boxes = member(_as_lists(value), "bbox", list, where)
    outlines = [box_outline(_as_list(box), f"{where}.bbox[{index}]").tolist() for index, box in enumerate(boxes)]
    return {"bbox": outlines, "ignore": value.get("ignore"), "text": value.get("text")}


def _per_outline(
    row: dict, column: str, kind: type | tuple[type, ...], where: str, polygons_column: str, count: int, spread: bool
) -> list | None:
    """A column with one value for each outline; with `spread`, a single value stands for all of them."""
    value = _as_list(row.get(column))
    if value is None:
        return None
    if spread and not isinstance(value, list):
        return [checked(value, kind, f"{where}.{column}")] * count
    checked(value, list, f"{where}.{column}")
    if len(value) != count:
        raise AnnotationError(
            f"{where}.{column}: {len(value)} entries for {count} outlines in {polygons_column!r}; give one of each"
        )
    for index, entry in enumerate(value):
        if entry is not None:
            checked(entry, kind, f"{where}.{column}[{index}]")
    return value


def _frame_of(image: Any, where: str) -> tuple[int, int]:
    """(height, width) of the upright image."""
    image = image.load() if isinstance(image, DatasetImage) else image
    if isinstance(image, (str, Path, bytes)):
        try:
            height, width, tag = picture_header(io.BytesIO(image) if isinstance(image, bytes) else image)
        except OSError as error:
            raise AnnotationError(f"{where}: the image's size is not known ({error})") from error
        return (width, height) if tag >= 5 else (height, width)
    return np.asarray(image).shape[:2]


def _as_lists(row: dict) -> dict:
    return {name: _as_list(value) for name, value in row.items()}


def _as_list(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value
