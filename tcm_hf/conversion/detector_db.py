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
"""How official weights of the DB detector are converted, and what its released models were tested with."""

from ..model.detectors import ConversionRules
from ..model.image_processing_settings import IMAGE_MEAN
from .layouts import MASKED_BY_BATCH


def _settings(weights) -> dict:
    return {
        "neck_channels": weights.shape("neck.lateral_convs.0.conv.weight", 4)[0],
        "head_channels": weights.shape("bbox_head.binarize.0.weight", 4)[0],
    }


def _preset(shortest_edge: int, longest_edge: int, **decoding) -> dict:
    return {
        "size": {"shortest_edge": shortest_edge, "longest_edge": longest_edge},
        "decoding": {**decoding, "whole_pixels": True},
    }


RULES = ConversionRules(
    prefixes=("bbox_head.binarize.", "bbox_head.threshold."),
    weights=[
        (r"neck\.(lateral|smooth)_convs\.(\d)\.(.+)", r"neck.\1_convs.\2.conv.\3", "same"),
        (r"probability_branch\.(.+)", r"bbox_head.binarize.\1", "same"),
        (r"threshold_branch\.(.+)", r"bbox_head.threshold.\1", "same"),
    ],
    settings=_settings,
    presets={
        "ic15": _preset(
            1024,
            4068,
            mask_threshold=0.28,
            threshold=0.2,
            min_size=2.0,
            unclip_ratio=1.6,
            epsilon_ratio=0.001,
            max_candidates=3000,
            shape="quad",
        ),
        "td500": _preset(
            736,
            4068,
            mask_threshold=0.08,
            threshold=0.17,
            min_size=3.0,
            unclip_ratio=1.9,
            epsilon_ratio=0.0,
            max_candidates=1000,
            shape="quad",
        ),
        "ctw1500": _preset(
            1024,
            4068,
            mask_threshold=0.08,
            threshold=0.3,
            min_size=3.0,
            unclip_ratio=2.0,
            epsilon_ratio=0.0001,
            max_candidates=3000,
            shape="polygon",
        ),
        "totaltext": _preset(
            800,
            2944,
            mask_threshold=0.347,
            threshold=0.3,
            min_size=5.0,
            unclip_ratio=1.95,
            epsilon_ratio=0.004,
            max_candidates=3000,
            shape="polygon",
        ),
    },
    image_mean=IMAGE_MEAN,
    baseline="DBNet",
    limits=(MASKED_BY_BATCH,),
)
