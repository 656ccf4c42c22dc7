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

"""Evaluation during training: maps become polygons at once, on one or several processes."""

import contextlib
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from ..data.formats import TextRecord, load_record


FIGURES = ("hmean", "precision", "recall")


def mean_figures(parts: Sequence[dict], prefixes: Sequence[str], prefix: str) -> dict[str, float]:
    """
    The means of several sets' figures.

    Args:
        parts (`Sequence[dict]`): figures of each set.
        prefixes (`Sequence[str]`): what the names of the figures begin with, for each set.
        prefix (`str`): what the names of the means begin with.

    Returns:
        `dict[str, float]`: hmean, precision and recall.
    """
    return {
        f"{prefix}_{name}": sum(part[f"{own}_{name}"] for part, own in zip(parts, prefixes)) / len(parts)
        for name in FIGURES
    }


def check_metric(metric: str, sets: Iterable[str] = ()) -> None:
    """
    Looks whether a figure that is to choose the best checkpoint is measured.

    Args:
        metric (`str`): its name.
        sets (`Iterable[str]`, *optional*): names of the sets that are measured on, where there are several.

    Raises:
        ValueError: if it is not measured.
    """
    known = [*FIGURES, *(f"{key}_{name}" for key in sets for name in FIGURES)]
    if metric.removeprefix("eval_") not in known:
        raise ValueError(f"`metric_for_best_model` is {metric!r}, which is not measured; there are {', '.join(known)}")


def build_evaluator(protocol: str = "icdar2015"):
    """
    The scorer that evaluation during training uses.

    Args:
        protocol (`str`, *optional*, defaults to `"icdar2015"`): name of the protocol in `tcm_hf.metrics`.

    Returns:
        [`~tcm_hf.metrics.TextDetectionEvaluator`]
    """
    from ..metrics import TextDetectionEvaluator

    return TextDetectionEvaluator(protocol)


class _EvaluationImages(Dataset):
    """Images as the image processor gives them, one by one."""

    def __init__(self, records: Sequence[TextRecord], processor, indices: Sequence[int]):
        self.records = records
        self.processor = processor
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[int, tuple[int, int], dict]:
        index = self.indices[position]
        image = load_record(self.records[index])
        return index, image.shape[:2], dict(self.processor(image, return_tensors="pt"))


@torch.no_grad()
def detect_records(
    model: nn.Module,
    processor,
    records: Sequence[TextRecord],
    *,
    shape: str | None = None,
    accelerator=None,
    num_workers: int = 0,
    progress: bool = False,
    **decoding,
) -> list[dict]:
    """
    Detects text in images, one by one: maps become polygons at once, and only polygons are kept.

    Args:
        see `evaluate_records`.

    Returns:
        `list[dict]`: `polygons`, a list of arrays of shape (n, 2) in pixels of the image, and `scores`, a list of floats, for
        every record; the same in all processes.
    """
    if not len(records):
        raise ValueError("there are no images to evaluate on")
    if shape is None:
        quads = all(len(polygon) == 4 for record in records for polygon in record.polygons)
        shape = "quad" if quads else "polygon"
    rank, world = (0, 1) if accelerator is None else (accelerator.process_index, accelerator.num_processes)
    indices = list(range(rank, len(records), world))
    # Where each has a part of the weights, all processes take part in every forward pass: equally many for all of them.
    indices += [0] * (-(-len(records) // world) - len(indices))
    # With a generator of its own: a run's random numbers must not depend on how often it is measured.
    images = DataLoader(
        _EvaluationImages(records, processor, indices),
        batch_size=None,
        num_workers=num_workers,
        generator=torch.Generator(),
    )
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    found = {}
    for index, size, inputs in tqdm(images, desc="Evaluation", disable=not (progress and rank == 0), leave=False):
        inputs = {name: value.to(device) for name, value in inputs.items()}
        with contextlib.nullcontext() if accelerator is None else accelerator.autocast():
            outputs = model(**inputs)
        result = processor.post_process_text_detection(outputs, target_sizes=[size], shape=shape, **decoding)[0]
        polygons = [np.asarray(polygon) for polygon in result["polygons"]]
        found[index] = {"polygons": polygons, "scores": np.asarray(result["scores"]).tolist()}
    model.train(was_training)
    if world > 1:
        from accelerate.utils import gather_object

        found = dict(gather_object(list(found.items())))
    return [found[index] for index in range(len(records))]


def score_records(detections: Sequence[dict], records: Sequence[TextRecord], protocol: str = "icdar2015") -> dict:
    """
    Figures of what `detect_records` found.

    Args:
        detections (`Sequence[dict]`): one for each record.
        records (`Sequence[TextRecord]`): the annotated images.
        protocol (`str`, *optional*, defaults to `"icdar2015"`): see [`build_evaluator`].

    Returns:
        `dict[str, float]`: `hmean`, `precision`, `recall` and `num_images`.
    """
    evaluator = build_evaluator(protocol)
    for index, (found, record) in enumerate(zip(detections, records, strict=True)):
        evaluator.add(found, record, image_id=index)
    result = evaluator.compute()
    figures = {name: float(result[name]) for name in FIGURES}
    return {**figures, "num_images": len(records)}


def evaluate_records(
    model: nn.Module,
    processor,
    records: Sequence[TextRecord],
    *,
    protocol: str = "icdar2015",
    **settings,
) -> dict[str, float]:
    """
    Measures a model image by image: maps become polygons at once, and only polygons are kept.

    Args:
        model ([`TCMForTextDetection`]): the model, not wrapped.
        processor ([`TCMImageProcessor`]): prepares images and decodes maps.
        records (`Sequence[TextRecord]`): the annotated images.
        protocol (`str`, *optional*, defaults to `"icdar2015"`): see [`build_evaluator`].
        shape (`str`, *optional*):
            `"auto"`, `"polygon"`, `"quad"` or `"box"`; by default quads where all annotated outlines have four
            points, and otherwise polygons.
        accelerator (`accelerate.Accelerator`, *optional*): shares the images among its processes.
        num_workers (`int`, *optional*, defaults to 0): processes that read images.
        progress (`bool`, *optional*, defaults to `False`): whether to show a progress bar.
        decoding: further arguments of `post_process_text_detection`.

    Returns:
        `dict[str, float]`: `hmean`, `precision`, `recall` and `num_images`, the same in all processes.
    """
    return score_records(detect_records(model, processor, records, **settings), records, protocol)
