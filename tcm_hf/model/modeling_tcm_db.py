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
from .modeling_clip_resnet import CellMask, cell_mask, crop_map, masked, round_up, stride_mask
from .modeling_folded import DerivedWeights, FoldedConvolution, convolution, fold, is_fast, is_plain


# Rows of the map at stride 4 that the head enlarges at a time.
BAND_ROWS = 32


class DBNeck(nn.Module):
    """
    Feature pyramid whose four levels are smoothed to a quarter of the channels each and concatenated at stride 4.

    Args:
        in_channels (`list[int]`): channels of the feature maps, from stride 4 to stride 32.
        channels (`int`): channels of the lateral convolutions and of the result.
        smoothing_channels (`int`, *optional*): to how many channels a 1x1 convolution brings each level before it is
            smoothed; all of them by default, as in DB. The smoothing is most of what the neck costs.
    """

    def __init__(self, in_channels: list[int], channels: int, smoothing_channels: int | None = None):
        super().__init__()
        self.lateral_convs = nn.ModuleList(nn.Conv2d(n, channels, 1, bias=False) for n in in_channels)
        self.reduce_convs = None
        width = channels if smoothing_channels is None else smoothing_channels
        if smoothing_channels is not None:
            self.reduce_convs = nn.ModuleList(nn.Conv2d(channels, width, 1, bias=False) for _ in in_channels)
        self.smooth_convs = nn.ModuleList(
            nn.Conv2d(width, channels // 4, 3, padding=1, bias=False) for _ in in_channels
        )
        self.folded = None

    def prepare_inference(self) -> None:
        """See [`TCMForTextDetection.optimize_for_inference`]."""
        self.folded = [FoldedConvolution() for _ in self.lateral_convs]
        self._smooth = [FoldedConvolution() for _ in self.smooth_convs]
        self._reduce = [FoldedConvolution() for _ in self.smooth_convs]
        self._finest = DerivedWeights()

    def forward(
        self, feature_maps: tuple[torch.Tensor, ...], masks: list[torch.Tensor | CellMask | None]
    ) -> torch.Tensor:
        levels = [enlarge(x, 2**i) if i > 0 else x for i, x in enumerate(self.smooth_levels(feature_maps, masks))]
        return masked(torch.cat(levels, dim=1), masks[0])

    def smooth_levels(
        self, feature_maps: tuple[torch.Tensor, ...], masks: list[torch.Tensor | CellMask | None]
    ) -> list[torch.Tensor]:
        """The four smoothed levels, each at its own stride and with whatever in the padding."""
        fast = is_fast(self, feature_maps[0]) and is_plain(
            *self.lateral_convs, *self.smooth_convs, *(self.reduce_convs or ())
        )
        levels = list(feature_maps)
        last = len(levels) - 1
        # On the fast path the largest level is made at the end, if its padding begins where the next one's does.
        lengths = [length for cells in masks[0].cells for length in cells] if fast and masks[0] else []
        first = 1 if fast and all(length % 2 == 0 for length in lengths) else 0
        for i in range(last, first - 1, -1):
            conv = self.lateral_convs[i]
            coarser = enlarge(levels[i + 1], 2) if i < last else None
            if fast:
                levels[i] = self.folded[i](levels[i], conv, residual=coarser, overwrite=True)
            else:
                levels[i] = conv(levels[i]) if coarser is None else conv(levels[i]) + coarser
        levels[first:] = [masked(x, mask) for x, mask in zip(levels[first:], masks[first:])]
        if not fast:
            if self.reduce_convs is not None:
                levels = [conv(x) for conv, x in zip(self.reduce_convs, levels)]
            return [conv(x) for conv, x in zip(self.smooth_convs, levels)]
        smoothed = [self._smooth[i](self._reduced(levels[i], i), self.smooth_convs[i]) for i in range(first, last + 1)]
        return smoothed if first == 0 else [self._smooth_finest(*levels[:2]), *smoothed]

    def _reduced(self, x: torch.Tensor, level: int) -> torch.Tensor:
        """A map with the channels that the level's smoothing wants."""
        return x if self.reduce_convs is None else self._reduce[level](x, self.reduce_convs[level])

    def _smooth_finest(self, feature_map: torch.Tensor, coarser: torch.Tensor) -> torch.Tensor:
        """
        The smoothed level at stride 4 from its feature map and the next level, both with zeros in their padding.

        The lateral convolution has neither bias nor activation, and so what comes after it goes over both terms of its
        sum by itself, and the sum, which is the largest map of the neck, is never made. The smoothing goes over the
        feature map as one convolution with the lateral's, and over the repeated cells of the next level as a transposed
        one. With fewer channels for the smoothing only their reduction is taken apart.
        """
        if self.reduce_convs is not None:
            parameters = (self.lateral_convs[0].weight, self.reduce_convs[0].weight)
            direct = self._finest.get(parameters, lambda: composed_weight(*parameters))
            coarser = enlarge(self._reduced(coarser, 0), 2)
            return self._smooth[0](
                convolution(feature_map, direct, None, residual=coarser, overwrite=True), self.smooth_convs[0]
            )
        parameters = (self.lateral_convs[0].weight, self.smooth_convs[0].weight)
        direct, transposed = self._finest.get(
            parameters, lambda: (composed_weight(*parameters), transposed_weight(parameters[1], 2))
        )
        x = nn.functional.conv_transpose2d(coarser, transposed, stride=2, padding=1)
        return convolution(feature_map, direct, None, padding=1, residual=x, overwrite=True)


def composed_weight(pointwise: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weight, in channels-last format, of one convolution in place of a 1x1 convolution and another, without biases."""
    composed = torch.einsum("omhw,mi->oihw", weight.float(), pointwise[:, :, 0, 0].float())
    return composed.to(weight.dtype).contiguous(memory_format=torch.channels_last)


def enlarge(x: torch.Tensor, factor: int) -> torch.Tensor:
    """Repeats every cell of a map `factor` times along both axes."""
    return nn.functional.interpolate(x, scale_factor=factor, mode="nearest")


def transposed_weight(weight: torch.Tensor, factor: int) -> torch.Tensor:
    """
    Weight of the transposed convolution, with stride `factor` and padding 1, that gives for a map what a 3x3
    convolution gives for the same map when it is enlarged by `factor`.

    Args:
        weight (`torch.Tensor`): (out channels, channels, 3, 3) of the convolution.
        factor (`int`): how often each cell is repeated along each axis.

    Returns:
        `torch.Tensor`: (channels, out channels, factor + 2, factor + 2).
    """
    # A repeated cell counts wherever the window meets one of its copies.
    copies = weight.new_ones(1, 1, factor, factor)
    taps = nn.functional.conv_transpose2d(weight.flip(2, 3).flatten(0, 1)[:, None].contiguous(), copies)
    taps = taps.unflatten(0, weight.shape[:2])[:, :, 0].transpose(0, 1)
    return taps.contiguous(memory_format=torch.channels_last)


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
        self.folded = None

    def prepare_inference(self) -> None:
        """See [`TCMForTextDetection.optimize_for_inference`]."""
        # One for each number of levels that are enlarged by transposed convolutions.
        self.folded = [DerivedWeights() for _ in range(4)]
        self._upsampling = DerivedWeights()

    def is_folded(self, x: torch.Tensor) -> bool:
        """Whether `from_levels` can stand in for `forward`, for levels like `x`."""
        return is_fast(self, x) and is_plain(self[0], self[1], self[3], self[4], self[6])

    def from_levels(self, levels: list[torch.Tensor], mask: CellMask | None) -> torch.Tensor:
        """
        What `forward` gives for the levels when they are enlarged to stride 4 and concatenated, but without doing so:
        a convolution of a map whose cells are repeated is a transposed one of the map itself, with fewer operations.

        Args:
            levels (`list[torch.Tensor]`): maps at strides 4, 8, 16 and 32, which are changed where they are padding.
            mask (`CellMask`, *optional*): of stride 4.
        """
        # Padding has to begin where a cell does: levels with coarser cells are enlarged until it does.
        lengths = [] if mask is None else [length for cells in mask.cells for length in cells]
        depth = max(i for i in range(len(levels)) if all(length % 2**i == 0 for length in lengths))
        coarse = [x if i == 0 else enlarge(x, 2**i) for i, x in enumerate(levels[depth:])]
        groups = [*levels[:depth], coarse[0] if len(coarse) == 1 else torch.cat(coarse, dim=1)]
        parameters = (*self[0].parameters(), *self[1].parameters(), *self[1].buffers())
        kernels, bias = self.folded[depth].get(parameters, lambda: self._kernels([x.shape[1] for x in groups]))
        total = None
        for i in range(depth, -1, -1):
            x, factor = groups[i], 2**i
            if mask is not None:
                x = mask.coarser(factor).zero_(x)
            if i > 0:
                x = nn.functional.conv_transpose2d(x, kernels[i], stride=factor, padding=1)
                total = x if total is None else total.add_(x)
            else:
                total = convolution(x, kernels[0], bias, padding=1, relu=True, residual=total, overwrite=True)
        return self._upsample(total)

    def _kernels(self, channels: list[int]) -> tuple[list[torch.Tensor], torch.Tensor]:
        """The first convolution's weights for each group of levels: from the second on those of the transposed one."""
        weight, bias = fold(self[0], self[1])
        finest, *coarser = weight.split(channels, dim=1)
        kernels = [finest.contiguous(memory_format=torch.channels_last)]
        kernels += [transposed_weight(part, 2**i) for i, part in enumerate(coarser, start=1)]
        return kernels, bias

    def _upsample(self, x: torch.Tensor) -> torch.Tensor:
        """
        From stride 4 to stride 1. The windows of the two transposed convolutions do not overlap, so both are 1x1
        convolutions from each cell to its 2x2 and its 4x4 pixels, which are put in their places at the end.
        """
        norm = self[4]
        parameters = (*self[3].parameters(), *norm.parameters(), *norm.buffers(), *self[6].parameters())
        first, first_bias, second, second_bias = self._upsampling.get(parameters, self._upsampling_weights)
        batch, _, height, width = x.shape
        logits = x.new_empty(batch, height, 4, width, 4)
        # The four pixels of a cell that lie side by side are moved as one number of their size.
        four = torch.int64 if x.element_size() == 2 else torch.complex128
        # In bands, so that what is between the two convolutions, four times as large as the map, stays in the cache.
        for rows, band in zip(logits.view(four).split(BAND_ROWS, dim=1), x.split(BAND_ROWS, dim=2)):
            band = convolution(convolution(band, first, first_bias, relu=True), second, second_bias)
            rows[..., 0].copy_(band.permute(0, 2, 3, 1).contiguous().view(four).transpose(2, 3))
        return logits.flatten(3, 4).flatten(1, 2)[:, None]

    def _upsampling_weights(self) -> tuple[torch.Tensor, ...]:
        weight, bias = fold(self[3], self[4])
        # (in, out, row, column) of the transposed convolution to (row, column, out) x in.
        first = weight.permute(2, 3, 1, 0).flatten(0, 2)[:, :, None, None]
        # Each of the four places has its own channels, of which it makes four again.
        last = self[6].weight.permute(2, 3, 1, 0).flatten(0, 1)[:, 0]
        second = torch.block_diag(*[last] * 4)
        # (row, column, row in the half, column in the half) to (row, row in the half, column, column in the half).
        second = second.unflatten(0, (2, 2, 2, 2)).transpose(1, 2).flatten(0, 3)[:, :, None, None]
        layout = {"memory_format": torch.channels_last}
        return first.contiguous(**layout), bias.repeat(4), second.contiguous(**layout), self[6].bias.repeat(16)


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
        self.neck = DBNeck(in_channels, self.settings["neck_channels"], self.settings["smoothing_channels"])
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
        fast = is_fast(self.neck, feature_maps[0])
        masks = [None] * len(feature_maps)
        if image_sizes is not None and fast:
            sizes = image_sizes.tolist()
            masks = [cell_mask(sizes, *x.shape[-2:], 4 * 2**i) for i, x in enumerate(feature_maps)]
        elif image_sizes is not None:
            masks = [stride_mask(image_sizes, *x.shape[-2:], 4 * 2**i, x.dtype) for i, x in enumerate(feature_maps)]
        branch = self.probability_branch
        if fast and not training_maps and type(branch) is DBBranch and branch.is_folded(feature_maps[0]):
            levels = self.neck.smooth_levels(feature_maps, masks)
            return {"logits": branch.from_levels(levels, masks[0])}
        x = self.neck(feature_maps, masks)
        maps = {"logits": branch(x)}
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
