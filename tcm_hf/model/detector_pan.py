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
"""The declaration of the PAN detector: "Efficient and Accurate Arbitrary-Shaped Text Detection with Pixel Aggregation
Network", ICCV 2019."""

from dataclasses import dataclass

from .detector_registry import Detector, DetectorSettings, register_detector, setting


@dataclass
class PANSettings(DetectorSettings):
    """
    Settings of the PAN detector.

    Args:
        neck_channels (`int`, *optional*, defaults to 128):
            Channels of each of the four levels.
        num_enhancements (`int`, *optional*, defaults to 2):
            Feature pyramid enhancement modules in a row.
        embedding_channels (`int`, *optional*, defaults to 4):
            Length of the embedding that tells instances apart.
        aggregation_margin (`float`, *optional*, defaults to 0.5):
            Distance of a pixel to its kernel that costs nothing.
        discrimination_margin (`float`, *optional*, defaults to 3.0):
            Distance of two kernels from which on they cost nothing.
        text_loss_weight (`float`, *optional*, defaults to 1.0):
            Weight of the text map's loss.
        kernel_loss_weight (`float`, *optional*, defaults to 0.5):
            Weight of the kernel map's loss.
        aggregation_loss_weight (`float`, *optional*, defaults to 0.25):
            Weight of the loss that draws pixels to their kernel.
        discrimination_loss_weight (`float`, *optional*, defaults to 0.25):
            Weight of the loss that keeps kernels apart.
        negative_ratio (`float`, *optional*, defaults to 3.0):
            Hard negatives for every positive pixel in the text map's dice loss.
    """

    neck_channels: int = setting(128, least=1)
    num_enhancements: int = setting(2, least=1)
    embedding_channels: int = setting(4, least=1)
    aggregation_margin: float = 0.5
    discrimination_margin: float = 3.0
    text_loss_weight: float = 1.0
    kernel_loss_weight: float = 0.5
    aggregation_loss_weight: float = 0.25
    discrimination_loss_weight: float = 0.25
    negative_ratio: float = 3.0


register_detector(
    Detector(
        name="pan",
        settings=PANSettings,
        module=".modeling_tcm_pan:PANDetector",
        decoder=".decoding_pan:DECODER",
        targets="tcm_hf.targets.pan:build_pan_targets",
        target_views="tcm_hf.targets.pan:draw_pan_targets",
        conversion="tcm_hf.conversion.detector_pan:RULES",
    )
)
