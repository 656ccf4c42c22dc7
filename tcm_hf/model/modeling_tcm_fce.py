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

"""The FCE detector: neck, head and loss of "Fourier Contour Embedding for Arbitrary-Shaped Text Detection" (Zhu et al.,
CVPR 2021) on the feature maps of TCM."""

import math

import torch
from torch import nn

from .losses import balanced_cross_entropy, per_image_balanced_cross_entropy
from .modeling_masks import crop_map, round_up, stride_mask


# Pixels per cell of the three levels.
STRIDES = (8, 16, 32)

# Two logits (no, yes) for the text region, two for the center region; the Fourier coefficients follow.
CLASS_CHANNELS = 4

# A level of a batch without text learns from this many of its hardest cells.
NEGATIVES_WITHOUT_TEXT = 100


class FCENeck(nn.Module):
    """
    Feature pyramid at strides 8, 16 and 32.

    Args:
        in_channels (`list[int]`): channels of the feature maps of the three strides.
        channels (`int`): channels of each level of the result.
    """

    def __init__(self, in_channels: list[int], channels: int):
        super().__init__()
        self.lateral_convs = nn.ModuleList(nn.Conv2d(n, channels, 1) for n in in_channels)
        self.smooth_convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)

    def forward(self, feature_maps: tuple[torch.Tensor, ...], masks: list[torch.Tensor | None]) -> list[torch.Tensor]:
        levels = [conv(x) for conv, x in zip(self.lateral_convs, feature_maps)]
        for i in range(len(levels) - 2, -1, -1):
            levels[i] = levels[i] + nn.functional.interpolate(levels[i + 1], scale_factor=2, mode="nearest")
        levels = [conv(_masked(x, mask)) for conv, x, mask in zip(self.smooth_convs, levels, masks)]
        return [_masked(x, mask) for x, mask in zip(levels, masks)]


def _masked(x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return x if mask is None else x * mask


class FCEHead(nn.Module):
    """
    One convolution for the classes and one for the Fourier coefficients, shared by all levels.

    Args:
        in_channels (`int`): channels of the neck's levels.
        fourier_degree (`int`): K, the highest frequency of the contours.
    """

    def __init__(self, in_channels: int, fourier_degree: int):
        super().__init__()
        self.classifier = nn.Conv2d(in_channels, CLASS_CHANNELS, 3, padding=1)
        self.regressor = nn.Conv2d(in_channels, 2 * (2 * fourier_degree + 1), 3, padding=1)
        # Contours of a few cells instead of wild ones at the start of training.
        for conv in (self.classifier, self.regressor):
            conv.init_std = 0.01  # type: ignore[assignment]  # a mark for `_init_weights`; torch.nn's are modules

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.classifier(x), self.regressor(x)], dim=1)


def fourier_contours(coefficients: torch.Tensor, num_points: int) -> torch.Tensor:
    """
    Points of contours from their Fourier coefficients (FCE, eq. 1).

    Args:
        coefficients (`torch.Tensor`): (contours, 2 * (2 * K + 1)): the real and then the imaginary parts, from
            frequency -K to K.
        num_points (`int`): points of each contour.

    Returns:
        `torch.Tensor`: (contours, 2, num_points), x and y in the unit of the coefficients.
    """
    real, imaginary = coefficients.chunk(2, dim=1)
    degree = real.shape[1] // 2
    frequencies = torch.arange(-degree, degree + 1, device=real.device, dtype=real.dtype)
    time = torch.arange(num_points, device=real.device, dtype=real.dtype) / num_points
    phase = 2 * math.pi * frequencies[:, None] * time
    cos, sin = phase.cos(), phase.sin()
    return torch.stack([real @ cos - imaginary @ sin, real @ sin + imaginary @ cos], dim=1)


class FCEDetector(nn.Module):
    """
    FCE's neck, head and losses.

    Args:
        config (`TCMConfig`): the model's configuration; `config.detector_config` holds FCE's settings.
        in_channels (`list[int]`): channels of the feature maps, from stride 4 to stride 32; the first is not used.
    """

    def __init__(self, config, in_channels: list[int]):
        super().__init__()
        self.settings = dict(config.detector_config)
        self.auxiliary_negative_ratio = config.auxiliary_negative_ratio
        self.neck = FCENeck(in_channels[1:], self.settings["neck_channels"])
        self.head = FCEHead(self.settings["neck_channels"], self.settings["fourier_degree"])

    def forward(
        self,
        feature_maps: tuple[torch.Tensor, ...],
        image_sizes: torch.Tensor | None = None,
        training_maps: bool = False,
    ) -> dict[str, tuple[torch.Tensor, ...]]:
        """
        Args:
            feature_maps (`tuple[torch.Tensor, ...]`): at strides 4, 8, 16 and 32.
            image_sizes (`torch.Tensor`, *optional*): (batch, 2) sizes without padding, in pixels.
            training_maps (`bool`, *optional*, defaults to `False`): no effect; the loss reads the same maps.

        Returns:
            `dict`: `"logits"`, a tuple of maps at strides 8, 16 and 32, (batch, 4 + 2 * (2 * K + 1), H/stride,
            W/stride) each: two logits (no, yes) for the text region, two for the center region, the real and then the
            imaginary parts of the contour's Fourier coefficients from frequency -K to K, in cells. The contour is
            relative to the cell.
        """
        feature_maps = feature_maps[1:]
        masks: list[torch.Tensor | None] = [None] * len(feature_maps)
        if image_sizes is not None:
            masks = [
                stride_mask(image_sizes, x.shape[-2], x.shape[-1], stride, x.dtype)
                for stride, x in zip(STRIDES, feature_maps)
            ]
        return {"logits": tuple(self.head(x) for x in self.neck(feature_maps, masks))}

    def loss(self, maps: dict, labels: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """
        FCE's loss terms, already weighted and summed over the levels (FCE, section 3.4; the weights are settings).

        Args:
            maps (`dict`): what `forward` gave.
            labels (`dict`): what `prepare_labels` gave.

        Returns:
            `dict`: `text`, `center`, `regression_x` and `regression_y`, fp32 scalars.
        """
        levels = [
            self._level_loss(logits.float(), labels[f"level_maps_{stride}"].float(), labels[f"inside_{stride}"])
            for stride, logits in zip(STRIDES, maps["logits"])
        ]
        text, center, regression = (torch.stack(terms).sum(0) for terms in zip(*levels))
        regression = self.settings["regression_loss_weight"] * regression
        return {
            "text": self.settings["text_loss_weight"] * text,
            "center": self.settings["center_loss_weight"] * center,
            "regression_x": regression[0],
            "regression_y": regression[1],
        }

    def _level_loss(self, logits, target, inside):
        """Text term, center term and the two regression terms (2,) of one level, without weights."""
        settings = self.settings
        text_region, center_region, mask = target[:, 0], target[:, 1], target[:, 2]
        # Softmax over two classes is the sigmoid of their difference.
        text_logits, center_logits = logits[:, 1] - logits[:, 0], logits[:, 3] - logits[:, 2]
        text_loss = balanced_cross_entropy(
            text_logits, text_region, mask, settings["negative_ratio"], negatives_without_text=NEGATIVES_WITHOUT_TEXT
        )

        text_cells = text_region * mask > 0
        # Cells of ignored texts count as background here, as in the released models; only padding does not count.
        other_cells = ~text_cells & (inside > 0)
        center_losses = nn.functional.binary_cross_entropy_with_logits(center_logits, center_region, reduction="none")
        center_loss = _mean(center_losses, text_cells) + 0.5 * _mean(center_losses, other_cells)
        center_loss = center_loss * text_cells.any()

        # Cells outside of the center region count half.
        weights = text_cells * (1 + center_region) / 2
        predicted, wanted = logits[:, CLASS_CHANNELS:].movedim(1, -1), target[:, 3:].movedim(1, -1)
        if torch.compiler.is_compiling():
            # All cells, so that it is one graph: how many of them have text is known only when it runs.
            predicted, wanted, weights = predicted.flatten(0, 2), wanted.flatten(0, 2), weights.flatten()
            num_cells = text_cells.sum().clamp(min=1)
        else:
            predicted, wanted, weights = predicted[text_cells], wanted[text_cells], weights[text_cells]
            num_cells = max(len(weights), 1)
        distances = nn.functional.smooth_l1_loss(
            fourier_contours(predicted, settings["num_points"]),
            fourier_contours(wanted, settings["num_points"]),
            reduction="none",
        )
        regression_loss = (weights[:, None] * distances.mean(2)).sum(0) / num_cells
        return text_loss, center_loss, regression_loss

    def auxiliary_loss(self, matching_logits: torch.Tensor, labels: dict[str, torch.Tensor]) -> torch.Tensor:
        """
        Loss of the instance-language matching map against the text regions, at its own stride of 32.

        Args:
            matching_logits (`torch.Tensor`): (batch, 1, H/32, W/32) cosine over temperature.
            labels (`dict`): as in `loss`.

        Returns:
            `torch.Tensor`: an fp32 scalar.
        """
        region, mask = labels["matching_maps"].unbind(1)
        return per_image_balanced_cross_entropy(matching_logits[:, 0], region, mask, self.auxiliary_negative_ratio)

    def prepare_labels(
        self, labels: dict[str, torch.Tensor], pixel_mask: torch.Tensor | None, height: int, width: int
    ) -> dict[str, torch.Tensor]:
        """
        Brings the labels to the size of the maps and takes padding out of their masks.

        Args:
            labels (`dict`):
                `level_maps_8`, `level_maps_16` and `level_maps_32`, (batch, 3 + 2 * (2 * K + 1), H/stride, W/stride)
                each: text region, center region, mask of the cells that count, Fourier coefficients. `matching_maps`,
                (batch, 2, H/32, W/32): text region and mask. Sizes are rounded up; H and W are those of
                `pixel_values`.
            pixel_mask (`torch.Tensor`, *optional*): (batch, H, W), 0 = padding.
            height (`int`): height of the input in pixels.
            width (`int`): width of the input in pixels.

        Returns:
            `dict`: the labels of the maps' sizes, for the input's rounded up to multiples of 32, and `inside_8`, `inside_16` and `inside_32`,
            (batch, H/stride, W/stride) with 0 where a cell is padding.

        Raises:
            ValueError: if one of the labels is missing or of another size than the input or the settings ask for.
        """
        coefficients = 2 * (2 * self.settings["fourier_degree"] + 1)
        # Name, stride, number of channels, and which of them is the mask.
        expected = [(f"level_maps_{stride}", stride, 3 + coefficients, 2) for stride in STRIDES]
        prepared = {}
        for name, stride, channels, mask_channel in (*expected, ("matching_maps", STRIDES[-1], 2, 1)):
            if name not in labels:
                raise ValueError(f"`labels` of FCE lacks {name!r}; make it with `tcm_hf.targets.build_fce_targets`.")
            maps = labels[name]
            cells = maps.shape[-2:]
            needed = (channels, round_up(height, stride) // stride, round_up(width, stride) // stride)
            if maps.shape[1:] != needed:
                raise ValueError(
                    f"`labels[{name!r}]` has shape {tuple(maps.shape[1:])} for each image, but `pixel_values` of "
                    f"{(height, width)} and `fourier_degree`={self.settings['fourier_degree']} need {needed}."
                )
            # Zeros in the masks keep what is added out of the loss.
            padding = (0, round_up(width) // stride - cells[1], 0, round_up(height) // stride - cells[0])
            inside = nn.functional.pad(torch.ones_like(maps[:, mask_channel]), padding)
            if pixel_mask is not None:
                # Padding is at the right and at the bottom: a cell's first pixel tells whether it holds any image.
                mask = nn.functional.pad(pixel_mask, (0, round_up(width) - width, 0, round_up(height) - height))
                inside = inside * mask[:, ::stride, ::stride].to(inside.dtype)
            maps = nn.functional.pad(maps, padding).clone()
            maps[:, mask_channel] *= inside
            prepared[name] = maps
            if name != "matching_maps":
                prepared[f"inside_{stride}"] = inside
        return prepared

    def crop(self, logits: tuple[torch.Tensor, ...], height: int, width: int) -> tuple[torch.Tensor, ...]:
        """Cuts the logits to the cells that the input's own height and width in pixels touch."""
        return tuple(
            crop_map(x, round_up(height, stride) // stride, round_up(width, stride) // stride)
            for x, stride in zip(logits, STRIDES)
        )


def _mean(values: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Mean over the chosen cells, 0 where there are none."""
    return (values * chosen).sum() / chosen.sum().clamp(min=1)
