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
"""How official weights of the PAN detector are converted, and what its released models were tested with."""

from ..model.detectors import ConversionRules


def _settings(weights) -> dict:
    return {
        "neck_channels": weights.shape("neck.reduce_conv_c2.0.weight", 4)[0],
        "num_enhancements": weights.count(r"neck\.fpems\.(\d+)\."),
        "embedding_channels": weights.shape("bbox_head.out_conv.weight", 4)[0] - 2,
    }


RULES = ConversionRules(
    prefixes=("bbox_head.out_conv.",),
    weights=[
        (r"neck\.reduce_convs\.(\d)\.(.+)", lambda m: f"neck.reduce_conv_c{int(m[1]) + 2}.{m[2]}", "same"),
        *(
            (
                rf"neck\.enhancements\.(\d+)\.(up|down)_convs\.(\d)\.{ours}\.(.+)",
                lambda m, theirs=theirs: f"neck.fpems.{m[1]}.{m[2]}_add{int(m[3]) + 1}.{theirs}.{m[4]}",
                "same",
            )
            for ours, theirs in (("depthwise", "depthwise_conv"), ("pointwise", "pointwise_conv"), ("norm", "bn"))
        ),
        *(
            (rf"head\.level_convs\.{level}\.weight", "bbox_head.out_conv.weight", f"level {level}")
            for level in range(4)
        ),
        (r"head\.level_convs\.0\.bias", "bbox_head.out_conv.bias", "same"),
    ],
    settings=_settings,
    # The size for CTW1500 is that of MMOCR 0.4's configuration, on which the official code builds.
    presets={
        "ic15": {"size": {"shortest_edge": 736, "longest_edge": 1333}, "decoding": {"shape": "quad"}},
        "ctw1500": {"size": {"shortest_edge": 640, "longest_edge": 3000}, "decoding": {"shape": "polygon"}},
    },
)
