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
"""The training dataset: records and rendered words -> augmented crops -> detector targets -> batches of tensors."""

from __future__ import annotations

import itertools
import logging
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from ..model.image_processing_settings import IMAGE_MEAN, IMAGE_STD
from .augment import TextAugmentation
from .formats import ReadOptions, TextRecord, load_image, records_from_dataset
from .mixing import SourceMix, Turns
from .synthesis.generator import SyntheticTextGenerator


try:
    import cv2
except ImportError as error:  # pragma: no cover
    raise ImportError("The training dataset needs OpenCV: pip install opencv-python-headless") from error


logger = logging.getLogger(__name__)


class TextDetectionDataset(Dataset):
    """
    Training samples as a function of (seed, epoch, index) only, so that a resumed run sees the samples it would have seen.

    Args:
        records (`Sequence[TextRecord]`):
            Annotated images; may be empty when `synthetic_fraction` is 1.
        build_targets (`Callable`):
            `build_targets(polygons, ignore, height, width) -> dict[str, np.ndarray]`, for example
            `tcm_hf.targets.db.build_db_targets`.
        augmentation (`TextAugmentation`, *optional*, defaults to `TextAugmentation()`):
            Turns image and polygons into the training crop.
        synthetic (`SyntheticTextGenerator`, *optional*):
            Source of rendered words; needed if one of the next two is above 0. Its `size` must equal the crop size.
        synthetic_fraction (`float`, *optional*, defaults to 0.0):
            Share of the samples that show rendered words only.
        paste_probability (`float`, *optional*, defaults to 0.0):
            Chance that rendered words are pasted on an image before its augmentation.
        length (`int`, *optional*, defaults to the number of records):
            Samples an epoch. Successive epochs walk on through the records.
        seed (`int`, *optional*, defaults to 0):
            Seed of every random choice.
        keep_images (`bool`, *optional*, defaults to `True`):
            Keep decoded images in memory (height x width x 3 bytes each, at their stored size).
        image_mean (`tuple[float, float, float]`, *optional*, defaults to `(122.679, 116.669, 104.007)`):
            RGB mean on 0..255.
        image_std (`tuple[float, float, float]`, *optional*, defaults to `(58.395, 57.12, 57.375)`):
            RGB standard deviation on 0..255.
        mix ([`SourceMix`], *optional*):
            The order in which records come, where they are those of several sources, one after the other.

    Each item is `{"pixel_values": FloatTensor (3, height, width), "labels": dict[str, Tensor]}`. Call `set_epoch` before
    each epoch; it also reaches persistent workers. Call `preload` before the workers start, so that they share one copy of
    the decoded images.

    Raises:
        ValueError: if there is nothing to draw samples from, or a probability lies outside 0..1.
    """

    def __init__(
        self,
        records: Sequence[TextRecord],
        build_targets: Callable[..., dict[str, np.ndarray]],
        augmentation: TextAugmentation | None = None,
        synthetic: SyntheticTextGenerator | None = None,
        synthetic_fraction: float = 0.0,
        paste_probability: float = 0.0,
        length: int | None = None,
        seed: int = 0,
        keep_images: bool = True,
        image_mean: tuple[float, float, float] = IMAGE_MEAN,
        image_std: tuple[float, float, float] = IMAGE_STD,
        mix: SourceMix | None = None,
    ):
        for name, value in (("synthetic_fraction", synthetic_fraction), ("paste_probability", paste_probability)):
            if not 0 <= value <= 1:
                raise ValueError(f"`{name}` must lie between 0 and 1, got {value}")
            if value > 0 and synthetic is None:
                raise ValueError(f"`{name}`={value} needs a `synthetic` generator (SyntheticTextGenerator)")
        if not len(records) and synthetic_fraction < 1:
            raise ValueError("`records` is empty: give annotated images, or a generator with `synthetic_fraction`=1")
        if not len(records) and length is None:
            raise ValueError("`length` is needed when there are no records to count")
        if mix is not None and sum(mix.counts) != len(records):
            raise ValueError(f"`mix` is one of {sum(mix.counts)} records, but there are {len(records)}")
        self.records = list(records)
        self.build_targets = build_targets
        self.augmentation = augmentation if augmentation is not None else TextAugmentation()
        self.synthetic = synthetic
        self.synthetic_fraction = synthetic_fraction
        self.paste_probability = paste_probability
        self.length = int(length) if length is not None else len(self.records)
        self.seed = int(seed)
        self.keep_images = keep_images
        self.mix = mix
        self.image_mean = np.asarray(image_mean, dtype=np.float32)
        self.image_std = np.asarray(image_std, dtype=np.float32)
        crop_size = self.augmentation.crop_size
        if synthetic is not None and synthetic_fraction > 0 and synthetic.size != crop_size:
            raise ValueError(
                f"the generator's size {synthetic.size} must equal the augmentation's crop size {crop_size}"
            )
        # In shared memory, so that workers that outlive an epoch see the next one's number.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._images: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self.length

    @property
    def epoch(self) -> int:
        return int(self._epoch.item())

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose samples `__getitem__` returns (0-based)."""
        self._epoch.fill_(int(epoch))

    def preload(self) -> None:
        """Decodes every image now; worker processes forked later share the memory."""
        for index in range(len(self.records)):
            self._load(index)

    def _load(self, index: int) -> np.ndarray:
        image = self._images.get(index)
        if image is None:
            image = load_image(self.records[index].image)
            if self.keep_images:
                self._images[index] = image
        return image

    def sample(self, index: int) -> tuple[np.ndarray, list[np.ndarray], list[bool]]:
        """
        The augmented crop before targets and normalization, for display and checks.

        Args:
            index (`int`): position within the epoch.

        Returns:
            `tuple[np.ndarray, list[np.ndarray], list[bool]]`: RGB uint8 (crop_size, crop_size, 3), polygons, ignore flags.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"index {index} out of range for an epoch of {self.length} samples")
        epoch = self.epoch
        rng = np.random.default_rng([self.seed, epoch, index])
        if rng.random() < self.synthetic_fraction and self.synthetic is not None:
            image, polygons, ignore, _ = self.synthetic.generate(rng)
            return self.augmentation.photometric(image, rng), polygons, ignore
        number = epoch * self.length + index
        number = number % len(self.records) if self.mix is None else self.mix(number)
        record = self.records[number]
        image = self._load(number)
        polygons, ignore = record.polygons, record.ignore
        height, width = record.size if record.size is not None else image.shape[:2]
        if rng.random() < self.paste_probability and self.synthetic is not None:
            # Words are drawn into the stored image; its frame may be stretched, which only adds variety of shapes.
            stretch = np.array([image.shape[1] / width, image.shape[0] / height], dtype=np.float32)
            pasted = self.synthetic.paste_words(image, [polygon * stretch for polygon in polygons], rng, ignore=ignore)
            image, ignore = pasted[0], pasted[2]
            polygons = [polygon / stretch for polygon in pasted[1]]
        return self.augmentation(image, polygons, ignore, rng, frame_size=(height, width))

    def __getitem__(self, index: int) -> dict:
        _leave_the_cores_to_the_workers()
        return _make_item(*self.sample(index), self.build_targets, self.image_mean, self.image_std)

    def __getstate__(self) -> dict:
        # Decoded images are a cache; a spawned worker must not receive gigabytes through a pipe.
        return {**self.__dict__, "_images": {}}


class StreamingTextDetectionDataset(IterableDataset):
    """
    Training samples from rows that are read as they come: data sets too large for the disk, or on the Hub.

    The stream never ends, so a run needs a number of steps. The rows' order depends on the seed and the number of
    processes and workers; what is done to a row depends on the seed, the epoch and the row only. A resumed run reads again,
    and drops, what the first one had.

    Args:
        rows (`datasets.IterableDataset`, or an iterable of `dict` or [`TextRecord`]):
            Rows in the Hub form: `image`, `polygons`, `ignore`, `text`. A streaming data set shares its files out among
            processes and workers, whose rows come equally often where the files are a multiple of the workers; of any
            other iterable each reads all rows and keeps its own.
        build_targets (`Callable`): as in [`TextDetectionDataset`].
        augmentation (`TextAugmentation`, *optional*, defaults to `TextAugmentation()`): as in [`TextDetectionDataset`].
        seed (`int`, *optional*, defaults to 0): seed of every random choice.
        shuffle_buffer (`int`, *optional*, defaults to 1000):
            Rows among which the next one is drawn; 0 keeps the order. Only for a streaming data set.
        image_mean, image_std (`tuple[float, float, float]`, *optional*): as in [`TextDetectionDataset`].
        image_root (`str`, `Path` or list of them, *optional*): as in [`records_from_dataset`].
        options (`ReadOptions`, *optional*): as in [`records_from_dataset`].
    """

    def __init__(
        self,
        rows: Iterable,
        build_targets: Callable[..., dict[str, np.ndarray]],
        augmentation: TextAugmentation | None = None,
        seed: int = 0,
        shuffle_buffer: int = 1000,
        image_mean: tuple[float, float, float] = IMAGE_MEAN,
        image_std: tuple[float, float, float] = IMAGE_STD,
        image_root: str | Path | Sequence[str | Path] | None = None,
        options: ReadOptions | None = None,
    ):
        self.rows = rows
        self.build_targets = build_targets
        self.augmentation = augmentation if augmentation is not None else TextAugmentation()
        self.seed = int(seed)
        self.shuffle_buffer = int(shuffle_buffer)
        self.image_root, self.options = image_root, options or ReadOptions()
        self.image_mean = np.asarray(image_mean, dtype=np.float32)
        self.image_std = np.asarray(image_std, dtype=np.float32)
        self.rank, self.world = 0, 1

    def set_processes(self, rank: int, world: int) -> None:
        """Says which of how many processes this one is."""
        self.rank, self.world = int(rank), int(world)

    def _records(self, epoch: int) -> Iterator[TextRecord]:
        """This worker's records of one pass over the rows."""
        rows: Any = self.rows
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        if hasattr(rows, "shuffle") and hasattr(rows, "set_epoch"):
            from datasets.distributed import split_dataset_by_node

            # Files that cannot be dealt out evenly to the processes are read by all of them.
            files = rows.num_shards if rows.num_shards % self.world else rows.num_shards // self.world
            if epoch == 0 and number == 0 and files % max(min(workers, files), 1):
                logger.warning(
                    "%d files are unevenly shared by %d workers: rows of those that have fewer come more often. Take a "
                    "number of workers that divides the number of files.",
                    files,
                    workers,
                )
            if self.shuffle_buffer:
                rows = rows.shuffle(seed=self.seed, buffer_size=self.shuffle_buffer)
            if self.world > 1:
                rows = split_dataset_by_node(rows, self.rank, self.world)
            rows.set_epoch(epoch)  # last: sharing out forgets it
        else:
            if hasattr(rows, "set_epoch"):
                rows.set_epoch(epoch)
            rows = itertools.islice(rows, self.rank * workers + number, None, self.world * workers)
            rows = iter(rows)
            first = next(rows, None)
            rows = itertools.chain([first], rows) if first is not None else iter(())
            if isinstance(first, TextRecord):
                return rows
        return records_from_dataset(rows, image_root=self.image_root, options=self.options)

    def __iter__(self) -> Iterator[dict]:
        _leave_the_cores_to_the_workers()
        for epoch in itertools.count():
            empty = True
            for record in self._records(epoch):
                empty = False
                yield self._item(record, epoch)
            if empty:
                if get_worker_info() is None:
                    raise ValueError(
                        "the stream of training rows is empty, or has fewer rows than there are processes"
                    )
                return  # there are more workers than files

    def _item(self, record: TextRecord, epoch: int) -> dict:
        content = record.image if isinstance(record.image, bytes) else record.name.encode()
        outlines = b"".join(np.ascontiguousarray(polygon).tobytes() for polygon in record.polygons)
        rng = np.random.default_rng([self.seed, epoch, zlib.crc32(outlines, zlib.crc32(content))])
        image = load_image(record.image)
        height, width = record.size if record.size is not None else image.shape[:2]
        sample = self.augmentation(image, record.polygons, record.ignore, rng, frame_size=(height, width))
        return _make_item(*sample, self.build_targets, self.image_mean, self.image_std)


class MixedTextDetectionStream(IterableDataset):
    """
    Samples of several streams, which take turns by weight; each begins again when it has ended.

    `datasets.interleave_datasets` is not used: its streams must have the same columns, are shared out among as many workers as the
    one of the fewest files has files, and know one folder of images.

    Args:
        streams (`Sequence[StreamingTextDetectionDataset]`): The streams.
        weights (`Sequence[float]`): Shares of the samples, in any unit; every process and worker keeps to them.
        names (`Sequence[str]`, *optional*, defaults to their numbers): Names of the streams, for messages.

    Raises:
        ValueError: if there are not as many positive weights as streams.
    """

    def __init__(
        self,
        streams: Sequence[StreamingTextDetectionDataset],
        weights: Sequence[float],
        names: Sequence[str] | None = None,
    ):
        self.streams, self.turns = list(streams), Turns(weights)
        self.names = [str(number) for number in range(1, 1 + len(self.streams))] if names is None else list(names)
        if len(self.turns) != len(self.streams):
            raise ValueError(
                f"there are {len(self.streams)} streams, but {len(self.turns)} weights: give one for each"
            )

    def set_processes(self, rank: int, world: int) -> None:
        """Says which of how many processes this one is."""
        for stream in self.streams:
            stream.set_processes(rank, world)

    def check_workers(self, workers: int) -> None:
        """
        Sees to it that every worker has something of every stream, without which the shares would be others.

        Args:
            workers (`int`): Workers of the loader of each process.

        Raises:
            ValueError: if a stream has too few files or images.
        """
        for name, stream in zip(self.names, self.streams):
            rows: Any = stream.rows
            files = getattr(rows, "num_shards", None)
            if files is None:
                parts, what = len(rows) // stream.world, "images"
            else:  # files that cannot be dealt out evenly to the processes are read by all of them
                parts, what = files if files % stream.world else files // stream.world, "files"
            if parts < max(workers, 1):
                raise ValueError(
                    f"the source {name!r} has {parts} {what} for {workers} loader workers of each process: take at most {parts} "
                    "workers, or read it without streaming"
                )

    def __iter__(self) -> Iterator[dict]:
        worker = get_worker_info()
        workers = 1 if worker is None else worker.num_workers
        # Each process and worker begins elsewhere, so that a rare source does not come to all of them at once.
        first = self.streams[0].rank * workers + (0 if worker is None else worker.id)
        running = [iter(stream) for stream in self.streams]
        for number in itertools.count(first):
            source, _ = self.turns(number)
            item = next(running[source], None)
            if item is None:
                raise ValueError(f"the source {self.names[source]!r} has nothing for this worker: take fewer workers")
            yield item


def _leave_the_cores_to_the_workers() -> None:
    if get_worker_info() is not None and cv2.getNumThreads() != 1:
        # Workers are the parallelism; OpenCV's threads on top would fight over the same cores. Zero, not one: with
        # one OpenCV first ends the threads that it had before the fork, and waits forever for them.
        cv2.setNumThreads(0)


def _make_item(image, polygons, ignore, build_targets, mean, std) -> dict:
    targets = build_targets(polygons, ignore, *image.shape[:2])
    return {
        "pixel_values": torch.from_numpy(normalize_image(image, mean, std)),
        "labels": {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in targets.items()},
    }


def normalize_image(image: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """
    (image - mean) / std, channels first.

    Args:
        image (`np.ndarray`): RGB uint8 of shape (height, width, 3).
        mean (`np.ndarray` of shape (3,)): on 0..255.
        std (`np.ndarray` of shape (3,)): on 0..255.

    Returns:
        `np.ndarray`: float32 of shape (3, height, width).
    """
    result = np.empty((3, *image.shape[:2]), dtype=np.float32)
    for channel, plane in enumerate(cv2.split(image)):
        np.multiply(plane, np.float32(1 / std[channel]), out=result[channel])
        result[channel] -= np.float32(mean[channel] / std[channel])
    return result


def text_detection_collate(batch: Sequence[dict]) -> dict:
    """
    Stacks samples into a batch; pass it as `collate_fn` of a `DataLoader` or `data_collator` of a `Trainer`.

    Args:
        batch (`Sequence[dict]`): items of [`TextDetectionDataset`].

    Returns:
        `dict`: `pixel_values` FloatTensor (batch, 3, height, width) and `labels`, a dict of the targets' tensors, each with
        a leading batch dimension.

    Raises:
        ValueError: if the samples differ in size or in their targets' names.
    """
    shapes = {tuple(item["pixel_values"].shape) for item in batch}
    if len(shapes) != 1:
        raise ValueError(f"samples of one batch must have one size, got {sorted(shapes)}: use one crop size")
    names = set(batch[0]["labels"])
    for item in batch:
        if set(item["labels"]) != names:
            raise ValueError(
                f"samples of one batch have different labels: {sorted(names)} and {sorted(item['labels'])}"
            )
    return {
        "pixel_values": _stack([item["pixel_values"] for item in batch]),
        "labels": {name: _stack([item["labels"][name] for item in batch]) for name in batch[0]["labels"]},
    }


def _stack(tensors: list[torch.Tensor]) -> torch.Tensor:
    """`torch.stack`; in a loader's worker straight into the shared memory that hands the batch over."""
    out = None
    if get_worker_info() is not None:
        first = tensors[0]
        storage = first._typed_storage()._new_shared(first.numel() * len(tensors), device=first.device)
        out = first.new(storage).resize_(len(tensors), *first.shape)
    return torch.stack(tensors, out=out)
