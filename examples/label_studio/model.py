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
"""An ML backend of Label Studio: text regions as polygons, before anybody draws one. See README.md."""

from __future__ import annotations

import inspect
import os
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from defusedxml.ElementTree import fromstring

from tcm_hf.checkpoints import find_checkpoint
from tcm_hf.data.formats.label_studio import label_studio_names


try:
    from label_studio_ml.model import LabelStudioMLBase
except ImportError:  # without the server, `predict` works on images of IMAGE_ROOT

    class LabelStudioMLBase:  # type: ignore[no-redef]
        def __init__(self, label_config: str | None = None, **settings):
            self.label_config = label_config


TEXT_LABELS = ("text", "word", "line")


@dataclass(frozen=True)
class Control:
    """
    Where a labeling configuration wants its polygons.

    Args:
        name (`str`): Name of the tag `PolygonLabels` or `Polygon`.
        to_name (`str`): Name of the `Image`.
        image_key (`str`): Field of a task's `data` that names the image.
        label (`str`, *optional*): The label that text gets.
        labels_name (`str`, *optional*): Name of the tag `Labels`, which goes with `Polygon`.
    """

    name: str
    to_name: str
    image_key: str
    label: str | None
    labels_name: str | None = None


def find_control(label_config: str) -> Control:
    """
    The tags of a labeling configuration that polygons of text belong to.

    Raises:
        ValueError: if it has no `PolygonLabels` or `Polygon` for an `Image`.
    """
    root = fromstring(label_config, forbid_dtd=True)
    images = {tag.get("name"): (tag.get("value") or "").lstrip("$") for tag in root.iter("Image")}
    for tag in (*root.iter("PolygonLabels"), *root.iter("Polygon")):
        to_name = tag.get("toName")
        if not images.get(to_name):
            continue
        own = tag.tag == "PolygonLabels"
        lists = [tag] if own else [each for each in root.iter("Labels") if each.get("toName") == to_name]
        labels = [label.get("value") for each in lists for label in each.iter("Label") if label.get("value")]
        label = next((name for name in labels if name.casefold() in TEXT_LABELS), next(iter(labels), None))
        labels_name = lists[0].get("name") if lists and not own else None
        return Control(tag.get("name") or "", to_name, images[to_name], label, labels_name)
    raise ValueError(
        "the labeling configuration has no <PolygonLabels> (or <Polygon>) for an <Image>: add one, see README.md of this backend"
    )


def as_results(detections: list[dict[str, Any]], width: int, height: int, control: Control) -> list[dict[str, Any]]:
    """
    Detections as Label Studio has them: polygons in percent of the image's size.

    Args:
        detections (`list[dict]`): What the pipeline gives for an image.
        width (`int`): Width of the upright image in pixels.
        height (`int`): Height of the upright image in pixels.
        control ([`Control`]): Where they belong.

    Returns:
        `list[dict]`: the entries of a prediction's `result`.
    """
    results = []
    for detection in detections:
        points = [[100 * x / width, 100 * y / height] for x, y in detection["polygon"]]
        common = {
            "id": uuid.uuid4().hex[:10],
            "to_name": control.to_name,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "score": float(detection["score"]),
        }
        value: dict[str, Any] = {"points": points, "closed": True}
        labels = [control.label] if control.label else []
        if control.labels_name is None and labels:
            entries = [("polygonlabels", control.name, {**value, "polygonlabels": labels})]
        else:
            entries = [("polygon", control.name, value)]
            if control.labels_name is not None and labels:
                entries.append(("labels", control.labels_name, {**value, "labels": labels}))
        results += [{**common, "type": kind, "from_name": name, "value": each} for kind, name, each in entries]
    return results


@cache
def load_detector(model: str):
    """The pipeline of a checkpoint: a name of the package, a folder, or an id of the Hub."""
    from transformers import pipeline

    import tcm_hf  # noqa: F401  # registers the pipeline

    return pipeline("text-detection", model=find_checkpoint(model))


class TextDetector(LabelStudioMLBase):
    """
    Pre-labels the images of tasks.

    Environment variables: `MODEL` (by default `tcm-small`), `THRESHOLD` (lowest score; by default that of the model), `SHAPE`
    (`auto` by default, `polygon`, `quad` or `box`), `IMAGE_ROOT` (folder of images that are found by name, which saves their download).
    """

    def predict(self, tasks: list[dict[str, Any]], context: Any = None, **settings) -> list[dict[str, Any]]:
        """
        Args:
            tasks (`list[dict]`): Tasks of Label Studio.
            context (*optional*): What the annotator does; not used.
            settings: Not used.

        Returns:
            `list[dict]`: a prediction for each task, with `result`, `score` (the lowest of its regions, so that uncertain images
            come first) and `model_version`.

        Raises:
            ValueError, OSError: if the labeling configuration has no polygons, or an image cannot be read.
        """
        from tcm_hf.model.image_loading import load_rgb_image

        control = find_control(self.label_config or "<View/>")
        model = os.environ.get("MODEL", "tcm-small")
        options: dict[str, Any] = {"shape": os.environ.get("SHAPE", "auto")}
        if os.environ.get("THRESHOLD"):
            options["threshold"] = float(os.environ["THRESHOLD"])
        predictions = []
        for task in tasks:
            image = load_rgb_image(self.image_path(task, control))
            detections = load_detector(model)(image, **options)
            results = as_results(detections, image.width, image.height, control)
            score = min((detection["score"] for detection in detections), default=0.0)
            predictions.append({"result": results, "score": float(score), "model_version": model})
        return predictions

    def image_path(self, task: dict[str, Any], control: Control) -> str:
        """
        The file of a task's image: one of IMAGE_ROOT with its name, or what Label Studio gives for its address.

        Raises:
            ValueError: if the address is neither one of Label Studio's nor of the web; files of this machine are not opened.
            FileNotFoundError: if it is not in IMAGE_ROOT, and there is no server.
        """
        address = str(task.get("data", {}).get(control.image_key) or "")
        root = os.environ.get("IMAGE_ROOT")
        if root:
            from tcm_hf.data.formats.files import ImageIndex

            names = label_studio_names(task, control.image_key, f"task {task.get('id')}")
            found = ImageIndex([Path(root)], "skip").find_any(names, f"task {task.get('id')}")
            if found is not None:
                return str(found)
        if not address.startswith(("/data/", "http://", "https://", "s3://", "gs://", "azure-blob://")):
            raise ValueError(
                f"task {task.get('id')}: {address[:200]!r} is no address of an image; see IMAGE_ROOT in README.md"
            )
        if not hasattr(self, "get_local_path"):
            raise FileNotFoundError(
                f"task {task.get('id')}: {address[:200]!r} is not in IMAGE_ROOT, and there is no server"
            )
        # Version 1 of label-studio-ml knows no task.
        known = "task_id" in inspect.signature(self.get_local_path).parameters
        return self.get_local_path(address, **({"task_id": task.get("id")} if known else {}))
