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
"""The sources of a run's images: what the options name, and how it is read."""

import json
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..data.formats import (
    ReadOptions,
    TextRecord,
    find_format,
    image_roots,
    load_hub_dataset,
    read_dataset,
    read_icdar2015,
    records_from_dataset,
)
from ..data.subsets import record_ids, select_subset
from .options import DataArguments


logger = logging.getLogger(__name__)

# Names of folders that do not tell one data set from another.
_COMMON_NAMES = re.compile(
    r"images?|imgs?|photos?|gt|annotations?|labels?|data|train(ing)?|val(id|idation)?|test", re.IGNORECASE
)


@dataclass(frozen=True)
class Source:
    """
    One source of images, as a JSON object of `--train_sources` describes it.

    Args:
        path (`str`): Folder, file, or id of a data set on the Hub.
        format (`str`, *optional*, defaults to `"hub"`): A format of [`read_dataset`].
        name (`str`, *optional*, defaults to one from the path): What its figures are called.
        weight (`float`, *optional*): Share of the samples, beside the weights of the other sources.
        frame_size (`tuple[int, int]`, *optional*): Height and width of the annotated frame of resized copies.
        split (`str`, *optional*): The split.
        config_name (`str`, *optional*): Configuration of a data set on the Hub.
        streaming (`bool`, *optional*): Whether its rows are read as they come; by default as `--streaming` says.
        reader (`dict`, *optional*): Further options of the format's reader.
        annotations (`str`, *optional*): Folder of the annotations of a pair of folders, `--image_dir` and `--gt_dir`.
        library (`bool`, *optional*, defaults to `False`): Whether `datasets` reads it, as it does `--dataset_name`.
    """

    path: str
    format: str = "hub"
    name: str = ""
    weight: float | None = None
    frame_size: tuple[int, int] | None = None
    split: str | None = None
    config_name: str | None = None
    streaming: bool | None = None
    reader: dict[str, Any] = field(default_factory=dict)
    annotations: str | None = None
    library: bool = False

    @property
    def is_hub_form(self) -> bool:
        """Whether it is in the Hub's form, which can be streamed."""
        return self.format != "auto" and find_format(self.format).name == "hub"


@dataclass
class SourceRecords:
    """
    A source and what was read of it.

    Args:
        source ([`Source`]): The source.
        records (`list[TextRecord]`, *optional*): Its images; `None` where they are streamed.
    """

    source: Source
    records: list[TextRecord] | None


# ---------------------------------------------------------------------------------------- options to sources


def listed(value: Any) -> list:
    """An option that takes several values, also where it was given one."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


_KEYS = [item.name for item in fields(Source) if item.name not in ("reader", "annotations", "library")]


def parse_source(value: str | dict, option: str) -> Source:
    """
    Reads a source of `--train_sources`.

    Args:
        value (`str` or `dict`): A path, or an object of the fields of [`Source`]; what it has besides are options of the format's
            reader. As text it is JSON.
        option (`str`): Name of the option, for messages.

    Returns:
        [`Source`]

    Raises:
        ValueError: if it is no such object, or a field has a value that cannot be meant.
    """
    if isinstance(value, str) and not value.lstrip().startswith("{"):
        return Source(value)
    try:
        settings = dict(json.loads(value)) if isinstance(value, str) else dict(value)
    except ValueError as error:
        raise ValueError(f"--{option}: {value} is no JSON object ({error})") from error
    known = {name: settings.pop(name) for name in _KEYS if settings.get(name) is not None}
    where = f"--{option} {known.get('path', value)}"
    kinds: dict[str, Any] = {"weight": (int, float), "streaming": bool, "frame_size": (list, tuple)}
    for name, entry in known.items():
        if not isinstance(entry, kinds.get(name, str)) or (name == "weight" and isinstance(entry, bool)):
            raise ValueError(f"{where}: `{name}` cannot be {json.dumps(entry)}")
    if "path" not in known:
        raise ValueError(f'{where}: a source needs a `path`, such as {{"path": "prepared"}}')
    if "frame_size" in known:
        known["frame_size"] = _frame_size(known["frame_size"], where)
    source = Source(**known, reader={name: entry for name, entry in settings.items() if entry is not None})
    if source.frame_size is not None and source.is_hub_form:
        raise ValueError(f"{where}: `frame_size` is not for the Hub's form, whose columns `width` and `height` say it")
    # What is to be recognized is known where it lies, below `--data_root`; its reader refuses unknown options too.
    options = find_format(source.format).options if source.format != "auto" else list(source.reader)
    for name in source.reader:
        if name not in options and not source.is_hub_form:
            raise ValueError(f"{where}: unknown `{name}`; there are {', '.join(dict.fromkeys([*_KEYS, *options]))}")
    return source


def _frame_size(value: Sequence, where: str) -> tuple[int, int]:
    if len(value) != 2 or not all(isinstance(side, int) and side > 0 for side in value):
        raise ValueError(f"{where}: `frame_size` must be height and width in pixels, got {list(value)}")
    return value[0], value[1]


def train_sources(arguments: DataArguments) -> list[Source]:
    """
    The sources to train on, in the order of their weights.

    Args:
        arguments ([`DataArguments`]): The options.

    Returns:
        `list[Source]`: with names, of which no two are the same.

    Raises:
        ValueError: if options contradict each other.
    """
    sources = _sources(arguments, "")
    weights = listed(arguments.train_weights)
    if weights:
        if any(source.weight is not None for source in sources):
            raise ValueError("give the weights of sources either by --train_weights or in --train_sources")
        if len(weights) != len(sources):
            names = ", ".join(source.name for source in sources) or "none"
            raise ValueError(
                f"--train_weights has {len(weights)} numbers for {len(sources)} sources ({names}): give one for each"
            )
        sources = [replace(source, weight=weight) for source, weight in zip(sources, weights)]
    without = [source.name for source in sources if source.weight is None]
    if 0 < len(without) < len(sources):
        raise ValueError(f"the source {without[0]!r} has no `weight`, but others have: give one to all, or to none")
    return sources


def validation_sources(arguments: DataArguments) -> list[Source]:
    """The sources to measure on, likewise; those to train on where only a split is named."""
    sources = _sources(arguments, "validation_")
    if sources or arguments.validation_split is None:
        return sources
    return [
        replace(source, split=arguments.validation_split, streaming=False)
        for source in train_sources(arguments)
        if source.annotations is None
    ]


def _sources(arguments: DataArguments, kind: str) -> list[Source]:
    """What the options say, whose names begin with `kind`, or of training where it is empty."""
    option = "validation_sources" if kind else "train_sources"
    sources = [parse_source(value, option) for value in listed(getattr(arguments, option))]
    folders = listed(arguments.validation_dir if kind else arguments.train_dir)
    formats = (listed(arguments.validation_format) if kind else []) or listed(arguments.train_format)
    formats = formats * len(folders) if len(formats) == 1 else formats
    if folders and len(formats) != len(folders):
        name = "validation" if kind else "train"
        raise ValueError(
            f"--{name}_format has {len(formats)} formats for {len(folders)} folders of --{name}_dir: give one, or one for each"
        )
    sources += [Source(path, format) for path, format in zip(folders, formats)]
    if not kind:
        configuration = arguments.dataset_config_name
        sources += [Source(path, config_name=configuration, library=True) for path in listed(arguments.dataset_name)]
    sources += _pairs(arguments, kind)
    return _named([_completed(source, arguments, kind) for source in sources])


def _completed(source: Source, arguments: DataArguments, kind: str) -> Source:
    """With what the options say of all sources."""
    source = _placed(source, arguments.data_root)
    if source.format == "auto":  # from here on it has the name of what it is
        source = replace(source, format=find_format("auto", source.path, source.reader.get("annotations")).name)
    split = source.split or (arguments.validation_split if kind else arguments.train_split)
    if split is None and source.is_hub_form and not kind:
        split = "train"
    frame = source.frame_size
    if frame is None and arguments.frame_size and not source.is_hub_form:
        frame = _frame_size(arguments.frame_size, "--frame_size")
    return replace(source, split=split, frame_size=frame)


def _pairs(arguments: DataArguments, kind: str) -> list[Source]:
    """The folders of `--image_dir` and `--gt_dir`."""
    images, annotations = (listed(getattr(arguments, f"{kind}{name}")) for name in ("image_dir", "gt_dir"))
    if len(images) != len(annotations):
        raise ValueError(
            f"--{kind}image_dir and --{kind}gt_dir belong together: give both, as many of the one as of the other"
        )
    return [Source(image, "icdar2015", annotations=gt) for image, gt in zip(images, annotations)]


def _placed(source: Source, root: str | None) -> Source:
    """With paths that begin in `--data_root`; ids of the Hub stay."""
    if root is None:
        return source
    if not Path(root).is_dir():
        raise ValueError(f"--data_root {root}: there is no such folder")
    path = os.path.join(root, source.path)
    if source.is_hub_form and not os.path.exists(path):
        path = source.path
    reader = dict(source.reader)
    for name in ("images", "annotations"):
        if name in reader:
            reader[name] = [os.path.join(root, folder) for folder in listed(reader[name])]
            reader[name] = reader[name] if name == "images" else reader[name][0]
    annotations = source.annotations and os.path.join(root, source.annotations)
    return replace(source, path=path, reader=reader, annotations=annotations)


def _named(sources: list[Source]) -> list[Source]:
    """With names that are told apart, and can be part of a figure's name."""
    named: list[Source] = []
    taken: set[str] = set()
    for source in sources:
        parts = [part for part in Path(source.path).parts if part not in (os.sep, "..")]
        parts[-1:] = [Path(part).stem for part in parts[-1:]]
        own = next((part for part in reversed(parts) if not _COMMON_NAMES.fullmatch(part)), "".join(parts[-1:]))
        name = re.sub(r"\W+", "_", source.name or own).strip("_") or "source"
        if source.name and name in taken:
            raise ValueError(f"two sources have the name {source.name!r}: give each its own")
        number, unique = 1, name
        while unique in taken:
            number += 1
            unique = f"{name}_{number}"
        taken.add(unique)
        named.append(replace(source, name=unique))
    return named


# ---------------------------------------------------------------------------------------- sources to records


def read_options(arguments: DataArguments) -> ReadOptions:
    """What all readers of a run have in common."""
    return ReadOptions(allow_outside=arguments.allow_outside)


def read_source(source: Source, arguments: DataArguments) -> list[TextRecord]:
    """
    All records of a source.

    Args:
        source ([`Source`]): The source.
        arguments ([`DataArguments`]): Has `allow_outside`.

    Returns:
        `list[TextRecord]`

    Raises:
        AnnotationError: if an annotation cannot be meant.
        FileNotFoundError: if something is missing.
        ValueError: if an option is unknown.
    """
    if source.annotations is not None:
        return read_icdar2015(
            source.path, source.annotations, record_size=source.frame_size, options=read_options(arguments)
        )
    if source.is_hub_form and (source.library or source.config_name or not os.path.exists(source.path)):
        rows = load_rows(source, arguments, streaming=False)
        return list(records_from_dataset(rows, image_root=image_roots(source.path), options=read_options(arguments)))
    options: dict[str, Any] = {"allow_outside": arguments.allow_outside, **source.reader}
    if source.split is not None:
        options["split"] = source.split
    if source.frame_size is not None and not source.is_hub_form:
        options["record_size"] = source.frame_size
    return list(read_dataset(source.format, source.path, **options))


def load_rows(source: Source, arguments: DataArguments, streaming: bool):
    """The rows of a source in the Hub's form, as a data set of `datasets`."""
    settings = {**source.reader, **({"name": source.config_name} if source.config_name else {})}
    return load_hub_dataset(source.path, source.split or "train", streaming, settings, read_options(arguments))


def is_streamed(source: Source, arguments: DataArguments) -> bool:
    """Whether its rows are read as they come."""
    return source.is_hub_form and (arguments.streaming if source.streaming is None else source.streaming)


def read_sources(arguments: DataArguments) -> tuple[list[SourceRecords], dict[str, list[TextRecord]]]:
    """
    Reads what the arguments name.

    Args:
        arguments ([`DataArguments`]): The sources.

    Returns:
        `tuple`: sources to train on with their records, and sets to measure on by their names, none of them empty.

    Raises:
        ValueError: if there is no source, or options contradict each other.
    """
    sources = train_sources(arguments)
    if not sources and arguments.synthetic_fraction < 1:
        raise ValueError(
            "there is nothing to train on: give --train_dir, --dataset_name, --image_dir with --gt_dir, --train_sources, or "
            "--synthetic_fraction 1"
        )
    streamed = [source for source in sources if is_streamed(source, arguments)]
    asked = [source for source in sources if source.streaming and not source.is_hub_form]
    if asked or (arguments.streaming and not streamed):
        what = f"; {asked[0].path!r} is {asked[0].format}" if asked else ""
        raise ValueError(f"--streaming needs --dataset_name or --train_dir of the Hub's form{what}")
    if streamed:
        names = ("holdout_last_digit", "train_val_split", "train_fraction", "shots", "subset_file")
        unused = [name for name in names if getattr(arguments, name) is not None]
        if unused:
            raise ValueError(
                f"--{unused[0]} needs to know all images, which --streaming does not: leave one of them out"
            )
    train = [
        SourceRecords(source, None if source in streamed else read_source(source, arguments)) for source in sources
    ]
    validation = {source.name: read_source(source, arguments) for source in validation_sources(arguments)}
    for name, records in validation.items():
        if not records:
            raise ValueError(f"there are no images to measure on in {name!r}")
    held_out = _hold_out(train, arguments)
    for group in train:
        if group.records is not None and not group.records:
            raise ValueError(f"the source {group.source.path!r} has no images to train on")
    validation = validation or held_out
    return train, {name: records[: arguments.max_eval_samples] for name, records in validation.items()}


def _hold_out(train: list[SourceRecords], arguments: DataArguments) -> dict[str, list[TextRecord]]:
    """Takes the images to measure on away from those to train on."""
    held_out: dict[str, list[TextRecord]] = {}
    digit, share = arguments.holdout_last_digit, arguments.train_val_split
    if share is not None and not 0 < share < 1:
        raise ValueError(f"--train_val_split must lie between 0 and 1, got {share}")
    if digit is not None:
        for group in train:
            _take_out(group, [number_ends_in(record, digit) for record in group.records or ()], held_out)
    others = arguments.validation_split is not None or _sources(arguments, "validation_")
    for group in train if share is not None and not others and not held_out else ():
        names = record_ids(group.records or ())
        # Always the same images, whatever the subset's seed.
        chosen = set(select_subset(names, fraction=share, seed=0)) if names else set()
        _take_out(group, [name in chosen for name in names], held_out)
    return held_out


def _take_out(group: SourceRecords, flags: list[bool], held_out: dict[str, list[TextRecord]]) -> None:
    if any(flags) and group.records is not None:
        held_out[group.source.name] = [record for record, flag in zip(group.records, flags) if flag]
        group.records = [record for record, flag in zip(group.records, flags) if not flag]


def number_ends_in(record: TextRecord, digit: int) -> bool:
    """Whether the number in an image's name ends in a digit."""
    return re.sub(r"\.[^.]*$", "", record.name).endswith(str(digit))
