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

"""The DB detector: neck, head and loss of "Real-time Scene Text Detection with Differentiable Binarization" (Liao et
al., AAAI 2020) on the feature maps of TCM."""

import torch
from torch import nn

from .losses import balanced_cross_entropy, dice_loss, masked_l1_loss, per_image_balanced_cross_entropy
from .modeling_masks import Mask, StrideMasks, crop_map, masked, round_up


# Pixels for each cell of the feature maps.
STRIDES = (4, 8, 16, 32)


class DBContext(nn.Module):
    """
    Adds to every cell what a depthwise convolution sees around it; at first nothing.

    Args:
        channels (`int`): channels of the map.
        kernel_size (`int`): cells along a side of what is seen, an odd number.
    """

    def __init__(self, channels: int, kernel_size: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.norm.zero_init = True  # type: ignore[assignment]  # a mark for `_init_weights`

    def forward(self, x: torch.Tensor, mask: Mask = None) -> torch.Tensor:
        return masked(x + self.norm(self.conv(x)), mask)


class DBNeck(nn.Module):
    """
    Feature pyramid whose four levels are smoothed to a quarter of the channels each and concatenated at stride 4.

    Args:
        in_channels (`list[int]`): channels of the feature maps, from stride 4 to stride 32.
        channels (`int`): channels of the lateral convolutions and of the result.
        smoothing_channels (`int`, *optional*): to how many channels a 1x1 convolution brings each level before it is
            smoothed; all of them by default, as in DB. The smoothing is most of what the neck costs.
        context_kernel (`int`, *optional*): cells along a side that each cell of the coarser levels sees before it is
            smoothed; by default only its own.
    """

    def __init__(
        self,
        in_channels: list[int],
        channels: int,
        smoothing_channels: int | None = None,
        context_kernel: int | None = None,
    ):
        super().__init__()
        self.lateral_convs = nn.ModuleList(nn.Conv2d(n, channels, 1, bias=False) for n in in_channels)
        self.reduce_convs = None
        width = channels if smoothing_channels is None else smoothing_channels
        if smoothing_channels is not None:
            self.reduce_convs = nn.ModuleList(nn.Conv2d(channels, width, 1, bias=False) for _ in in_channels)
        self.contexts = None
        if context_kernel is not None:
            self.contexts = nn.ModuleList(DBContext(width, context_kernel) for _ in in_channels[1:])
        self.smooth_convs = nn.ModuleList(
            nn.Conv2d(width, channels // 4, 3, padding=1, bias=False) for _ in in_channels
        )

    def forward(self, feature_maps: tuple[torch.Tensor, ...], masks: list[Mask]) -> torch.Tensor:
        """
        Args:
            feature_maps (`tuple[torch.Tensor, ...]`): at strides 4, 8, 16 and 32.
            masks (`list`): of these maps.

        Returns:
            `torch.Tensor`: (batch, channels, H/4, W/4).
        """
        levels = [enlarge(x, 2**i) if i > 0 else x for i, x in enumerate(self.smooth_levels(feature_maps, masks))]
        return masked(torch.cat(levels, dim=1), masks[0])

    def smooth_levels(self, feature_maps: tuple[torch.Tensor, ...], masks: list[Mask]) -> list[torch.Tensor]:
        """The four smoothed levels, each at its own stride and with whatever in the padding."""
        levels = [conv(x) for conv, x in zip(self.lateral_convs, feature_maps)]
        for i in range(len(levels) - 2, -1, -1):
            levels[i] = levels[i] + enlarge(levels[i + 1], 2)
        levels = [masked(x, mask) for x, mask in zip(levels, masks)]
        levels = [self.prepare_level(x, i, mask) for i, (x, mask) in enumerate(zip(levels, masks))]
        return [conv(x) for conv, x in zip(self.smooth_convs, levels)]

    def prepare_level(self, x: torch.Tensor, level: int, mask: Mask) -> torch.Tensor:
        """A level, zero in its padding, with the channels that its smoothing wants, and what is around each cell."""
        x = self.reduce_level(x, level)
        return x if self.contexts is None or level == 0 else self.contexts[level - 1](x, mask)

    def reduce_level(self, x: torch.Tensor, level: int) -> torch.Tensor:
        """A level with the channels that its smoothing wants."""
        return x if self.reduce_convs is None else self.reduce_convs[level](x)


def enlarge(x: torch.Tensor, factor: int) -> torch.Tensor:
    """Repeats every cell of a map `factor` times along both axes."""
    return nn.functional.interpolate(x, scale_factor=factor, mode="nearest")


class DBBranch(nn.Sequential):
    """Brings the neck's map from stride 4 to one logit for each pixel."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__(
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.ConvTranspose2d(channels, channels, 2, stride=2),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.ConvTranspose2d(channels, 1, 2, stride=2),
        )


class DBDetector(nn.Module):
    """
    DB's neck, head and losses.

    Args:
        config (`TCMConfig`): the model's configuration; `config.detector_config` holds DB's settings.
        in_channels (`list[int]`): channels of the feature maps, from stride 4 to stride 32.
    """

    def __init__(self, config, in_channels: list[int]):
        super().__init__()
        self.settings = dict(config.detector_config)
        self.auxiliary_negative_ratio = config.auxiliary_negative_ratio
        self.neck = DBNeck(
            in_channels,
            self.settings["neck_channels"],
            self.settings["smoothing_channels"],
            self.settings["context_kernel"],
        )
        self.masks = StrideMasks(*STRIDES)
        neck_channels = self.settings["neck_channels"] // 4 * len(in_channels)
        self.probability_branch = DBBranch(neck_channels, self.settings["head_channels"])
        self.threshold_branch = DBBranch(neck_channels, self.settings["head_channels"])

    def forward(
        self,
        feature_maps: tuple[torch.Tensor, ...],
        image_sizes: torch.Tensor | None = None,
        training_maps: bool = False,
    ) -> dict[str, torch.Tensor]:
        """
        Args:
            feature_maps (`tuple[torch.Tensor, ...]`): at strides 4, 8, 16 and 32.
            image_sizes (`torch.Tensor`, *optional*): (batch, 2) sizes without padding, in pixels.
            training_maps (`bool`, *optional*, defaults to `False`):
                Whether to compute what only the loss reads: the threshold branch.

        Returns:
            `dict`: `"logits"` (batch, 1, H, W) of the probability map, and with `training_maps` also
            `"threshold_logits"` of the same shape.
        """
        masks = self.masks(image_sizes, [x.shape[-2:] for x in feature_maps], feature_maps[0])
        x = self.neck(feature_maps, masks)
        maps = {"logits": self.probability_branch(x)}
        if training_maps:
            maps["threshold_logits"] = self.threshold_branch(x)
        return maps

    def loss(self, maps: dict[str, torch.Tensor], labels: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """
        DB's three loss terms, already weighted (DB, eq. 7; the weights are settings).

        Args:
            maps (`dict`): what `forward` gave with `training_maps=True`.
            labels (`dict`): `shrink_map`, `shrink_mask`, `threshold_map` and `threshold_mask`, (batch, H, W) each, and
                optionally `shrink_weight`, which weighs the pixels of the probability loss.

        Returns:
            `dict`: `probability`, `threshold` and `binary`, fp32 scalars.
        """
        settings = self.settings
        logits = maps["logits"][:, 0].float()
        threshold = maps["threshold_logits"][:, 0].float().sigmoid()
        shrink_map, shrink_mask = labels["shrink_map"], labels["shrink_mask"]
        # sigmoid(k (P - T)) is eq. 2 of DB without an exp() that could overflow.
        binary = (settings["binarization_steepness"] * (logits.sigmoid() - threshold)).sigmoid()
        probability_loss = balanced_cross_entropy(
            logits, shrink_map, shrink_mask, settings["negative_ratio"], weight=labels.get("shrink_weight")
        )
        threshold_loss = masked_l1_loss(threshold, labels["threshold_map"], labels["threshold_mask"])
        binary_loss = dice_loss(binary, shrink_map, shrink_mask)
        return {
            "probability": settings["probability_loss_weight"] * probability_loss,
            "threshold": settings["threshold_loss_weight"] * threshold_loss,
            "binary": settings["binary_loss_weight"] * binary_loss,
        }

    def auxiliary_loss(self, matching_logits: torch.Tensor, labels: dict[str, torch.Tensor]) -> torch.Tensor:
        """
        Loss of the instance-language matching map against the shrunk text regions.

        Args:
            matching_logits (`torch.Tensor`): (batch, 1, H/32, W/32) cosine over temperature.
            labels (`dict`): as in `loss`.

        Returns:
            `torch.Tensor`: an fp32 scalar.
        """
        target = labels["shrink_map"]
        logits = nn.functional.interpolate(
            matching_logits.float(), size=target.shape[-2:], mode="bilinear", align_corners=False
        )
        return per_image_balanced_cross_entropy(
            logits[:, 0], target, labels["shrink_mask"], self.auxiliary_negative_ratio
        )

    def prepare_labels(
        self, labels: dict[str, torch.Tensor], pixel_mask: torch.Tensor | None, height: int, width: int
    ) -> dict[str, torch.Tensor]:
        """
        Brings the labels to the size of the maps and takes padding out of their masks.

        Args:
            labels (`dict`): as in `loss`, at the size of `pixel_values`.
            pixel_mask (`torch.Tensor`, *optional*): (batch, H, W), 0 = padding.
            height (`int`): height of the input in pixels.
            width (`int`): width of the input in pixels.

        Returns:
            `dict`: labels of the maps' size, which is the input's rounded up to multiples of 32.

        Raises:
            ValueError: if one of the labels is missing or of another size than the input.
        """
        labels = dict(labels)
        for name in ("shrink_map", "shrink_mask", "threshold_map", "threshold_mask"):
            if name not in labels:
                raise ValueError(f"`labels` of DB lacks {name!r}; make it with `tcm_hf.targets.build_db_targets`.")
        for name, value in labels.items():
            if value.shape[-2:] != (height, width):
                size = tuple(value.shape[-2:])
                raise ValueError(f"`labels[{name!r}]` has size {size}, but `pixel_values` {(height, width)}.")
        if pixel_mask is not None:
            for name in ("shrink_mask", "threshold_mask"):
                labels[name] = labels[name] * pixel_mask.to(labels[name].dtype)
        # Zeros in the masks keep what is added out of the loss.
        padding = (0, round_up(width) - width, 0, round_up(height) - height)
        return {name: nn.functional.pad(x, padding) for name, x in labels.items()}

    def crop(self, logits: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Cuts the logits to the input's own height and width in pixels."""
        return crop_map(logits, height, width)
