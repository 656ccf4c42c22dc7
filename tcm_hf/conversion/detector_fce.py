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
"""How official weights of the FCE detector are converted, and what its released models were tested with."""

from ..model.detectors import ConversionRules
from .layouts import MASKED_BY_BATCH


def _settings(weights) -> dict:
    return {
        "neck_channels": weights.shape("neck.lateral_convs.0.conv.weight", 4)[0],
        "fourier_degree": (weights.shape("bbox_head.out_conv_reg.weight", 4)[0] // 2 - 1) // 2,
    }


RULES = ConversionRules(
    prefixes=("bbox_head.out_conv_cls.", "bbox_head.out_conv_reg."),
    weights=[
        (r"neck\.lateral_convs\.(\d)\.(.+)", r"neck.lateral_convs.\1.conv.\2", "same"),
        (r"neck\.smooth_convs\.(\d)\.(.+)", r"neck.fpn_convs.\1.conv.\2", "same"),
        (r"head\.classifier\.(.+)", r"bbox_head.out_conv_cls.\1", "same"),
        (r"head\.regressor\.(.+)", r"bbox_head.out_conv_reg.\1", "same"),
    ],
    settings=_settings,
    # The size for CTW1500 is that of MMOCR 0.4's configuration, on which the official code builds.
    presets={
        "ic15": {"size": {"longest_edge": 2260}, "decoding": {"shape": "polygon", "alpha": 1.2, "beta": 1.0}},
        "ctw1500": {
            "size": {"shortest_edge": 736, "longest_edge": 1080},
            "decoding": {"shape": "polygon", "alpha": 1.0, "beta": 2.0},
        },
    },
    limits=(MASKED_BY_BATCH,),
)
