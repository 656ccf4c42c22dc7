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
"""Annotations given to the image processor become the labels that the model's detector is trained on."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_model import tiny_config, tiny_detector
from transformers import Trainer, TrainingArguments

from tcm_hf import TCMForTextDetection, TCMImageProcessor, TextDetectionPipeline
from tcm_hf.data.formats import TextRecord
from tcm_hf.targets import build_db_targets, build_fce_targets, build_pan_targets


BUILDERS = {"db": build_db_targets, "fce": build_fce_targets, "pan": build_pan_targets}
WORD = [[20, 16], [120, 20], [118, 60], [18, 56]]
SPECK = [[140, 70], [190, 70], [190, 95], [140, 95]]


def picture(height: int = 100, width: int = 200) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def processor(**settings) -> TCMImageProcessor:
    return TCMImageProcessor(**{"size": {"shortest_edge": 50, "longest_edge": 200}, **settings})


@pytest.mark.parametrize("detector", sorted(BUILDERS))
def test_geometry_follows_resizing_and_padding(detector):
    images = [picture(), picture(40, 150)]  # reduced to half; left as it is, and so padded
    annotations = [
        {"polygons": [WORD, SPECK], "ignore": [False, True]},
        {"polygons": [[[10, 5], [90, 5], [90, 35], [10, 35]]]},
    ]
    features = processor(detector=detector)(images, annotations=annotations, return_tensors="pt")
    height, width = features["pixel_values"].shape[-2:]
    assert (height, width) == (64, 160) and features["pixel_mask"][0].sum() == 50 * 100
    build = BUILDERS[detector]
    expected = [
        build([np.array(WORD) / 2, np.array(SPECK) / 2], [False, True], height, width),
        build([np.array(annotations[1]["polygons"][0])], [False], height, width),
    ]
    assert set(features["labels"]) == set(expected[0])
    for name, maps in features["labels"].items():
        assert torch.equal(maps, torch.from_numpy(np.stack([each[name] for each in expected]))), name
    model = tiny_detector(detector=detector)
    loss = model.train()(**features).loss
    loss.backward()
    assert loss.isfinite() and loss > 0
    moved = features.to(torch.float16)
    assert moved["pixel_values"].dtype == torch.float16


def test_forms_of_annotations_agree():
    coco = [
        {"segmentation": [np.ravel(WORD).tolist()], "bbox": [0, 0, 1, 1], "iscrowd": 0, "category_id": 1, "area": 1},
        {"bbox": [140, 70, 50, 25], "segmentation": {"counts": [1], "size": [1, 1]}, "iscrowd": 1},
    ]
    forms = [
        {"image_id": 3, "annotations": coco},
        {
            "image_id": 3,
            "annotations": [
                {**coco[0], "segmentation": np.ravel(WORD).tolist()},
                {"bbox": (140, 70, 50, 25), "ignore": True},
            ],
        },
        {"polygons": [WORD, SPECK], "ignore": [0, 1]},
        {"polygons": [np.ravel(WORD), np.array(SPECK)], "ignore": np.array([False, True])},
        {"polygons": [np.array(WORD) * 2, np.array(SPECK) * 2], "ignore": [False, True], "size": (200, 400)},
        TextRecord(picture(), [np.array(WORD, np.float32), np.array(SPECK, np.float32)], [False, True]),
    ]
    labels = [processor()(picture(), annotations=form, return_tensors="np")["labels"] for form in forms]
    assert labels[0]["shrink_map"].sum() > 100 and (labels[0]["shrink_mask"] == 0).sum() > 100
    for other in labels[1:]:
        for name, maps in labels[0].items():
            np.testing.assert_array_equal(other[name], maps)
    two_parts = {"image_id": 1, "annotations": [{"segmentation": [np.ravel(WORD).tolist(), np.ravel(SPECK).tolist()]}]}
    both = {"polygons": [WORD, SPECK]}
    for name, maps in processor()(picture(), annotations=[both], return_tensors="np")["labels"].items():
        np.testing.assert_array_equal(processor()(picture(), two_parts, return_tensors="np")["labels"][name], maps)


def test_pictures_without_text():
    features = processor()(
        [picture()] * 2, annotations=[None, {"annotations": [], "image_id": 0}], return_tensors="pt"
    )
    assert features["labels"]["shrink_map"].sum() == 0 and features["labels"]["shrink_mask"].all()
    assert "labels" not in processor()(picture(), return_tensors="pt")


@pytest.mark.parametrize(
    "annotations, message",
    [
        ([{"polygons": []}] * 2, "there are 2 annotations for 1 images; give one for each"),
        ("text", "annotations has to be a list, got 'text'"),
        ([{"boxes": []}], r"annotations\[0\]: an annotation has to be .*got {'boxes'"),
        ([3], r"annotations\[0\]: an annotation has to be"),
        ([{"polygons": [[[1, 2], [3, 4]]]}], r"annotations\[0\].polygons\[0\] has to be at least 3 points"),
        ([{"polygons": [[[1, 2], [3, 4], [5, float("nan")]]]}], r"polygons\[0\] has to be finite numbers"),
        ([{"polygons": [[["a", 2], [3, 4], [5, 6]]]}], r"polygons\[0\] has to be numbers"),
        ([{"polygons": [WORD], "ignore": []}], "`ignore` has 0 flags for 1 polygons"),
        ([{"polygons": [WORD], "size": [3]}], r"annotations\[0\].size has to be 2 numbers"),
        ([{"polygons": [WORD], "size": [0, 3]}], r"annotations\[0\].size has to be at least 1 pixel"),
        ([{"annotations": [3]}], r"annotations\[0\].annotations\[0\] has to be an object"),
        ([{"annotations": [{"image_id": 1}]}], r"annotations\[0\]: neither a `segmentation` nor a `bbox`"),
        ([{"annotations": [{"bbox": [1, 2, 3]}]}], r"bbox has to be 4 numbers"),
        ([{"annotations": [{"bbox": [1, 2, -3, 4]}]}], r"bbox: \[1, 2, -3, 4\] is no box"),
        ([{"annotations": [{"segmentation": {"counts": []}, "bbox": [1, 2, 3, 4]}]}], "run-length masks are not read"),
    ],
)
def test_wrong_annotations_are_named(annotations, message):
    with pytest.raises(ValueError, match=message):
        processor()(picture(), annotations=annotations)


def test_labels_need_padding_and_known_settings():
    given = {"annotations": {"polygons": [WORD]}, "return_tensors": "pt"}
    with pytest.raises(ValueError, match="annotations need do_pad=True"):
        processor()(picture(), do_pad=False, **given)
    with pytest.raises(ValueError, match="target_settings: .*shrinkage"):
        processor(target_settings={"shrinkage": 1})(picture(), **given)
    with pytest.raises(ValueError, match="target_settings: `shrink_ratio` must be in"):
        processor()(picture(), target_settings={"shrink_ratio": 2}, **given)
    with pytest.raises(ValueError, match="target_settings must be an object"):
        processor(target_settings=[1])
    small = processor(target_settings={"shrink_ratio": 0.1})(picture(), **given)["labels"]["shrink_map"].sum()
    assert 0 < small < processor()(picture(), **given)["labels"]["shrink_map"].sum()


def test_settings_of_the_model_are_those_of_its_labels(tmp_path):
    values = {
        **tiny_config().to_dict(),
        "detector_config": {"neck_channels": 32, "head_channels": 16, "max_shrink": 0.1},
    }
    model = TCMForTextDetection(type(tiny_config())(**values))
    TextDetectionPipeline(model=model, image_processor=processor(), task="text-detection").save_pretrained(tmp_path)
    loaded = TCMImageProcessor.from_pretrained(tmp_path)
    assert loaded.target_builder().keywords == {"max_shrink": 0.1}
    assert loaded.target_builder({"max_shrink": 0.2}).keywords == {"max_shrink": 0.2}
    assert "config_source" not in loaded.to_dict() and "target_settings" not in loaded.to_dict()
    assert TCMImageProcessor.from_pretrained(tmp_path, detector="fce", decoding=None).target_builder().keywords == {}
    loaded.save_pretrained(tmp_path / "alone")
    assert TCMImageProcessor.from_pretrained(tmp_path / "alone").target_builder().keywords == {}


def test_a_trainer_needs_no_class_of_ours(tmp_path):
    torch.manual_seed(0)
    model, prepare = TCMForTextDetection(tiny_config()), processor()
    rows = [{"image": Image.fromarray(picture(100 + 10 * i)), "polygons": [WORD], "ignore": [False]} for i in range(4)]
    arguments = TrainingArguments(
        tmp_path, max_steps=1, per_device_train_batch_size=2, remove_unused_columns=False, report_to=[], use_cpu=True
    )
    before = model.detector.probability_branch[0].weight.clone()
    trainer = Trainer(
        model,
        arguments,
        train_dataset=rows,
        data_collator=lambda rows: prepare([row["image"] for row in rows], annotations=rows, return_tensors="pt"),
    )
    assert trainer.train().training_loss > 0
    assert not torch.equal(before, model.detector.probability_branch[0].weight)


# Boxes, as transformers' tools for object detection want them ----------------------------------------------------------


class Elsewhere(torch.Tensor):
    """A tensor that says that it is on another device."""

    @property
    def device(self):
        return torch.device("meta")


def blobs() -> torch.Tensor:
    logits = torch.full((1, 1, 64, 96), -9.0)
    logits[0, 0, 10:20, 10:60] = 3.0
    logits[0, 0, 40:50, 20:40] = 0.6
    return logits


def test_boxes_take_every_argument_of_decoding():
    ours = TCMImageProcessor()
    for arguments in (
        {},
        {"mask_threshold": 0.7},
        {"unclip_ratio": 0.5, "shape": "quad"},
        {"min_size": 20.0, "max_candidates": 5, "epsilon_ratio": 0.01},
        {"reading_order": True, "seed_threshold": 0.9},
    ):
        (expected,) = ours.post_process_text_detection({"logits": blobs()}, [(128, 192)], threshold=0.6, **arguments)
        (found,) = ours.post_process_object_detection({"logits": blobs()}, 0.6, [(128, 192)], **arguments)
        assert set(found) == {"scores", "labels", "boxes"}
        assert all(torch.equal(found[key], expected[key]) for key in found)
    with pytest.raises(TypeError, match="no argument blur"):
        ours.post_process_object_detection({"logits": blobs()}, blur=1)


def test_boxes_are_where_the_outputs_are():
    (found,) = TCMImageProcessor().post_process_object_detection({"logits": blobs()})
    assert {key: value.device.type for key, value in found.items()} == dict.fromkeys(found, "cpu")
    (found,) = TCMImageProcessor().post_process_object_detection({"logits": blobs().as_subclass(Elsewhere)})
    assert {key: value.device.type for key, value in found.items()} == dict.fromkeys(found, "meta")
    assert found["boxes"].shape == (2, 4) and found["labels"].dtype == torch.int64
