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
"""The declaration of the DB detector: "Real-time Scene Text Detection with Differentiable Binarization", AAAI 2020."""

from dataclasses import dataclass

from .detector_registry import Detector, DetectorSettings, register_detector, setting


@dataclass
class DBSettings(DetectorSettings):
    """
    Settings of the DB detector.

    Args:
        neck_channels (`int`, *optional*, defaults to 256):
            Channels of the lateral convolutions; the four smoothed maps have a quarter each. At least 4.
        head_channels (`int`, *optional*, defaults to 64):
            Channels inside of the head.
        smoothing_channels (`int`, *optional*):
            Channels to which a 1x1 convolution brings each level before its smoothing; by default there is none and all
            channels are smoothed, as in DB.
        context_kernel (`int`, *optional*):
            Cells along a side, an odd number, that each cell of the levels at strides 8, 16 and 32 sees beside its own
            features before its smoothing, by a depthwise convolution: large words need more of it than small ones. By
            default there is none, as in DB.
        binarization_steepness (`float`, *optional*, defaults to 50):
            k of the differentiable binarization, DB eq. 2.
        max_shrink (`float`, *optional*):
            Of the targets that it is trained with, see `build_db_targets`.
        probability_loss_weight (`float`, *optional*, defaults to 5.0):
            Weight of the probability map's loss.
        threshold_loss_weight (`float`, *optional*, defaults to 10.0):
            Weight of the threshold map's loss.
        binary_loss_weight (`float`, *optional*, defaults to 1.0):
            Weight of the binary map's loss.
        negative_ratio (`float`, *optional*, defaults to 3.0):
            Hard negatives for every positive pixel in the balanced cross-entropy.
    """

    neck_channels: int = setting(256, least=4)
    head_channels: int = setting(64, least=1)
    smoothing_channels: int | None = setting(None, least=1)
    context_kernel: int | None = setting(None, least=1)
    binarization_steepness: float = 50
    max_shrink: float | None = None
    probability_loss_weight: float = 5.0
    threshold_loss_weight: float = 10.0
    binary_loss_weight: float = 1.0
    negative_ratio: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.context_kernel is not None and self.context_kernel % 2 == 0:
            raise ValueError(f"`context_kernel` has to be an odd number of cells, got {self.context_kernel}.")


register_detector(
    Detector(
        name="db",
        settings=DBSettings,
        module=".modeling_tcm_db:DBDetector",
        decoder=".decoding_db:DECODER",
        targets="tcm_hf.targets.db:build_db_targets",
        target_settings=("max_shrink",),
        target_views="tcm_hf.targets.db:draw_db_targets",
        conversion="tcm_hf.conversion.detector_db:RULES",
    )
)
