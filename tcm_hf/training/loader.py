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
"""The order of training samples, and the loader of their batches."""

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from .data import TrainingSamples, TrainingStream


class EpochSampler(Sampler):
    """
    Order of the samples as a function of the seed and of the data set's epoch only.

    Args:
        dataset ([`TextDetectionDataset`]): has an `epoch` and `set_epoch`.
        seed (`int`, *optional*, defaults to 0): another seed gives another order.
    """

    def __init__(self, dataset: TrainingSamples, seed: int = 0):
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[int]:
        # The -1 keeps it apart from the samples' own (seed, epoch, index).
        rng = np.random.default_rng([self.seed, self.dataset.epoch, len(self.dataset), 2**32 - 1])
        yield from rng.permutation(len(self.dataset)).tolist()

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch, of the data set too."""
        self.dataset.set_epoch(epoch)


def build_train_dataloader(
    dataset: TrainingSamples | TrainingStream, accelerator, batch_size: int, seed: int = 0, **settings
) -> DataLoader:
    """
    The loader of training batches, prepared for accelerate; [`TCMTrainer`] uses it too.

    Args:
        dataset ([`TextDetectionDataset`] or [`StreamingTextDetectionDataset`]): the samples.
        accelerator (`accelerate.Accelerator`): tells the processes apart.
        batch_size (`int`): samples of one process's batch.
        seed (`int`, *optional*, defaults to 0): seed of the order.
        settings: further arguments of `torch.utils.data.DataLoader`, for example `num_workers`.

    Returns:
        `DataLoader`: process r of n has the r-th part of every joint batch of n times `batch_size` samples. Call
        `set_epoch` before each epoch.
    """
    from accelerate.data_loader import prepare_data_loader

    from ..data.collate import text_detection_collate

    # A generator of its own: starting an epoch takes a number from it, which would otherwise be the model's next one.
    settings = {"collate_fn": text_detection_collate, "generator": torch.Generator().manual_seed(seed), **settings}
    if isinstance(dataset, torch.utils.data.IterableDataset):
        # It shares out its rows among processes and workers itself.
        dataset.set_processes(accelerator.process_index, accelerator.num_processes)
        if hasattr(dataset, "check_workers"):
            dataset.check_workers(settings.get("num_workers", 0))
        loader: DataLoader = DataLoader(dataset, batch_size=batch_size, **settings)
        return prepare_data_loader(
            loader, accelerator.device, num_processes=1, process_index=0, put_on_device=True, dispatch_batches=False
        )
    loader = DataLoader(dataset, batch_size=batch_size, sampler=EpochSampler(dataset, seed), **settings)
    return accelerator.prepare_data_loader(loader)
