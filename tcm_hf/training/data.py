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

"""What a Trainer is given as data: records, rows with polygons, data sets of the `datasets` library, streams, or samples."""

import itertools
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch.utils.data import Dataset, IterableDataset

from ..data.collate import MixedTextDetectionStream, StreamingTextDetectionDataset, TextDetectionDataset
from ..data.formats import TextRecord, records_from_dataset
from ..model.image_processing_tcm import TCMImageProcessor


_KINDS = (
    "a list of TextRecord (`list(read_dataset(...))`), rows with `image` and `polygons`, or a data set of the library "
    "`datasets` with such columns"
)


def _is_transformed(data) -> bool:
    """Whether rows of a data set of `datasets` go through a function of the user's."""
    return getattr(data, "format", None) is not None and dict(data.format).get("type") == "custom"


def _refuse(data, name: str) -> None:
    """What cannot be meant."""
    if isinstance(data, (str, bytes)) or hasattr(data, "__fspath__"):
        raise ValueError(
            f"`{name}` is a name ({str(data)!r}): pass `list(read_dataset(format, folder))`, which reads it"
        )
    if isinstance(data, Mapping):
        raise ValueError(f"`{name}` is a dict of {', '.join(map(repr, data)) or 'nothing'}: pass one of its entries")
    if not isinstance(data, Iterable) and not hasattr(data, "__getitem__"):
        raise ValueError(f"`{name}` is a {type(data).__name__}: pass {_KINDS}")


def to_records(data, name: str = "eval_dataset") -> list[TextRecord]:
    """
    Images to measure on.

    Args:
        data: records, rows with `image` and `polygons` (and `ignore`, `text`), a data set or a stream of such rows. A stream
            is read to its end.
        name (`str`, *optional*, defaults to `"eval_dataset"`): the argument, for messages.

    Returns:
        `list[TextRecord]`

    Raises:
        ValueError: if it is none of these, or empty; the message says what to pass.
    """
    if isinstance(data, (TextDetectionDataset, StreamingTextDetectionDataset, MixedTextDetectionStream)):
        raise ValueError(f"`{name}` has samples for training, which are crops: pass the records that it was made from")
    _refuse(data, name)
    if _is_transformed(data):
        raise ValueError(
            f"`{name}` has a transform, but evaluation prepares images itself: pass it without (`with_format(None)`)"
        )
    if isinstance(data, list) and data and all(isinstance(record, TextRecord) for record in data):
        return data
    records = list(_records(data, name))
    if not records:
        raise ValueError(f"there are no images to evaluate on: `{name}` is empty")
    return records


def _records(data, name: str) -> Iterator[TextRecord]:
    columns = getattr(data, "column_names", None)
    if columns is not None:
        missing = [column for column in ("image", "polygons") if column not in columns]
        if missing:
            raise ValueError(
                f"`{name}` has no column {missing[0]!r}, but {', '.join(map(repr, columns))}: rename one (`rename_column`), or "
                "pass the records of `records_from_dataset`, which takes the columns' names"
            )
        return records_from_dataset(data)
    rows = iter(data) if isinstance(data, Iterable) else (data[index] for index in range(len(data)))
    first = next(rows, None)
    if first is None:
        return iter(())
    rows = itertools.chain([first], rows)
    if isinstance(first, TextRecord):
        return rows
    if isinstance(first, Mapping) and "image" in first and "polygons" in first:
        return records_from_dataset(rows)
    what = f"rows of {', '.join(map(repr, first))}" if isinstance(first, Mapping) else f"a {type(first).__name__}"
    raise ValueError(f"`{name}` has {what}: pass {_KINDS}")


class _Samples(Dataset):
    """Samples of a data set of the user's, with an epoch as the order of training needs it."""

    def __init__(self, samples):
        self.samples = samples
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int):
        return self.samples[index]

    @property
    def epoch(self) -> int:
        return int(self._epoch.item())

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(int(epoch))
        if hasattr(self.samples, "set_epoch"):
            self.samples.set_epoch(epoch)


class _SampleStream(IterableDataset):
    """The same of a stream; each process and worker keeps its part."""

    def __init__(self, samples):
        self.samples = samples
        self.rank, self.world = 0, 1

    def set_processes(self, rank: int, world: int) -> None:
        self.rank, self.world = int(rank), int(world)

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        if hasattr(self.samples, "n_shards") or hasattr(self.samples, "num_shards"):
            number, workers = 0, 1  # streams of `datasets` share themselves out among workers
        return itertools.islice(self.samples, self.rank * workers + number, None, self.world * workers)


TrainingSamples = TextDetectionDataset | _Samples
TrainingStream = StreamingTextDetectionDataset | MixedTextDetectionStream | _SampleStream


def pixel_statistics(processor: TCMImageProcessor) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation by which an image processor normalizes, in levels of 0..255."""
    (mean_r, mean_g, mean_b), (std_r, std_g, std_b) = processor.image_mean, processor.image_std
    return (255 * mean_r, 255 * mean_g, 255 * mean_b), (255 * std_r, 255 * std_g, 255 * std_b)


def to_train_dataset(
    data, config, processor, seed: int = 0, total_batch_size: int = 1
) -> TrainingSamples | TrainingStream:
    """
    Training samples, from whatever a Trainer is given.

    Args:
        data:
            [`TextDetectionDataset`], [`StreamingTextDetectionDataset`] and [`MixedTextDetectionStream`] are returned as they
            are; records and rows with `image` and `polygons`, also of data sets and streams, are augmented with the defaults of
            [`~training_setup.DataArguments`]; a data set whose items have `pixel_values` and `labels` gives the batches.
        config (`TCMConfig`): of the model; its detector's maps are made.
        processor ([`TCMImageProcessor`], *optional*): its statistics normalize the images of records and rows.
        seed (`int`, *optional*, defaults to 0): seed of every random choice.
        total_batch_size (`int`, *optional*, defaults to 1): samples between two steps of the optimizer.

    Returns:
        `Dataset`

    Raises:
        ValueError: if it is none of these, or empty; the message says what to pass.
    """
    if isinstance(data, (TrainingSamples, TrainingStream)):
        return data
    _refuse(data, "train_dataset")
    if isinstance(data, Iterator):
        raise ValueError("`train_dataset` can be read only once: pass a list of what it gives")
    stream = isinstance(data, IterableDataset) or (hasattr(data, "set_epoch") and not hasattr(data, "__len__"))
    if not stream and not len(data):
        raise ValueError("`train_dataset` is empty: there is nothing to train on")
    columns = getattr(data, "column_names", None)
    plain_rows = columns is not None and {"image", "polygons"} <= set(columns) and not _is_transformed(data)
    first = None if plain_rows else next(iter(data), None) if stream else data[0]
    if first is None and not plain_rows:
        raise ValueError("`train_dataset` is empty: there is nothing to train on")
    if isinstance(first, Mapping) and "pixel_values" in first:
        if not isinstance(first.get("labels"), Mapping):
            raise ValueError(
                "`train_dataset` has items without `labels`, a dict of the detector's maps: see `tcm_hf.targets`, or pass rows "
                "with `image` and `polygons`"
            )
        return _SampleStream(data) if stream else _Samples(data)
    if _is_transformed(data):
        raise ValueError("`train_dataset` has a transform that gives no `pixel_values` and `labels`: pass it without")
    from .setup import DataArguments, build_train_dataset, target_builder

    if not isinstance(processor, TCMImageProcessor):
        raise ValueError(
            "images are normalized as `processing_class` says: pass one, such as `TCMImageProcessor.from_pretrained(...)`"
        )
    if not stream:
        records = list(_records(data, "train_dataset"))
        return build_train_dataset(records, DataArguments(), config, processor, seed, total_batch_size)
    if (
        not plain_rows
        and not (isinstance(first, Mapping) and "polygons" in first)
        and not isinstance(first, TextRecord)
    ):
        next(_records([first], "train_dataset"))  # says what is wrong
    mean, std = pixel_statistics(processor)
    return StreamingTextDetectionDataset(data, target_builder(config), seed=seed, image_mean=mean, image_std=std)
