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
"""The declaration of the FCE detector: "Fourier Contour Embedding for Arbitrary-Shaped Text Detection", CVPR 2021."""

from dataclasses import dataclass

from .detector_registry import Detector, DetectorSettings, register_detector, setting


@dataclass
class FCESettings(DetectorSettings):
    """
    Settings of the FCE detector.

    Args:
        neck_channels (`int`, *optional*, defaults to 256):
            Channels of the three levels.
        fourier_degree (`int`, *optional*, defaults to 5):
            K: a contour has the frequencies -K to K.
        num_points (`int`, *optional*, defaults to 50):
            Points at which the loss compares contours. At least 3.
        text_loss_weight (`float`, *optional*, defaults to 1.0):
            Weight of the text regions' loss.
        center_loss_weight (`float`, *optional*, defaults to 1.0):
            Weight of the center regions' loss.
        regression_loss_weight (`float`, *optional*, defaults to 1.0):
            Weight of the contours' loss.
        negative_ratio (`float`, *optional*, defaults to 3.0):
            Hard negatives for every positive cell in the text regions' balanced cross-entropy.
    """

    neck_channels: int = setting(256, least=1)
    fourier_degree: int = setting(5, least=1)
    num_points: int = setting(50, least=3)
    text_loss_weight: float = 1.0
    center_loss_weight: float = 1.0
    regression_loss_weight: float = 1.0
    negative_ratio: float = 3.0


register_detector(
    Detector(
        name="fce",
        settings=FCESettings,
        module=".modeling_tcm_fce:FCEDetector",
        decoder=".decoding_fce:DECODER",
        targets="tcm_hf.targets.fce:build_fce_targets",
        target_settings=("fourier_degree",),
        target_views="tcm_hf.targets.fce:draw_fce_targets",
        conversion="tcm_hf.conversion.detector_fce:RULES",
    )
)
