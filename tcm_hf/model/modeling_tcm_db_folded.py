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
"""Folded versions of DB's neck and head, see modeling_folded.py."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from .modeling_folded import DerivedWeights, FoldedConvolution, FoldedModule, FoldedVersions, fold, is_plain
from .modeling_fused_convolution import convolution
from .modeling_masks import CellMask, Mask, masked
from .modeling_tcm_db import DBBranch, DBDetector, DBNeck, enlarge


# Rows of the map at stride 4 that the head enlarges at a time.
BAND_ROWS = 32


class FoldedDBNeck(FoldedModule, DBNeck):
    """Additions are part of the lateral convolutions, and the largest level is smoothed without being made."""

    def derive(self) -> SimpleNamespace:
        levels = range(len(self.lateral_convs))
        lateral, smooth, reduce = ([FoldedConvolution() for _ in levels] for _ in range(3))
        return SimpleNamespace(lateral=lateral, smooth=smooth, reduce=reduce, finest=DerivedWeights())

    def smooth_levels(self, feature_maps: tuple[torch.Tensor, ...], masks: list[Mask]) -> list[torch.Tensor]:
        layers = (*self.lateral_convs, *self.smooth_convs, *(self.reduce_convs or ()))
        if not (self.is_fast(feature_maps[0]) and is_plain(*layers)):
            return super().smooth_levels(feature_maps, masks)
        levels = list(feature_maps)
        last = len(levels) - 1
        # The largest level is made at the end, if its padding begins where the next one's does.
        first = 1 if masks[0] is None or (isinstance(masks[0], CellMask) and masks[0].fits(2)) else 0
        for i in range(last, first - 1, -1):
            coarser = enlarge(levels[i + 1], 2) if i < last else None
            levels[i] = self.folded.lateral[i](levels[i], self.lateral_convs[i], residual=coarser, overwrite=True)
        levels[first:] = [masked(x, mask) for x, mask in zip(levels[first:], masks[first:])]
        smoothed = [
            self.folded.smooth[i](self.prepare_level(levels[i], i, masks[i]), self.smooth_convs[i])
            for i in range(first, last + 1)
        ]
        return smoothed if first == 0 else [self._smooth_finest(levels[0], levels[1]), *smoothed]

    def reduce_level(self, x: torch.Tensor, level: int) -> torch.Tensor:
        if self.reduce_convs is None or not (self.is_fast(x) and is_plain(self.reduce_convs[level])):
            return super().reduce_level(x, level)
        return self.folded.reduce[level](x, self.reduce_convs[level])

    def _smooth_finest(self, feature_map: torch.Tensor, coarser: torch.Tensor) -> torch.Tensor:
        """
        The smoothed level at stride 4 from its feature map and the next level, both with zeros in their padding.

        The lateral convolution has neither bias nor activation, and so what comes after it goes over both terms of its
        sum by itself, and the sum, which is the largest map of the neck, is never made. The smoothing goes over the
        feature map as one convolution with the lateral's, and over the repeated cells of the next level as a transposed
        one. With fewer channels for the smoothing only their reduction is taken apart.
        """
        if self.reduce_convs is not None:
            parameters: Any = (self.lateral_convs[0].weight, self.reduce_convs[0].weight)
            direct = self.folded.finest.get(parameters, lambda: composed_weight(*parameters))
            coarser = enlarge(self.reduce_level(coarser, 0), 2)
            return self.folded.smooth[0](
                convolution(feature_map, direct, None, residual=coarser, overwrite=True), self.smooth_convs[0]
            )
        parameters = (self.lateral_convs[0].weight, self.smooth_convs[0].weight)
        direct, transposed = self.folded.finest.get(
            parameters, lambda: (composed_weight(*parameters), transposed_weight(parameters[1], 2))
        )
        x = nn.functional.conv_transpose2d(coarser, transposed, stride=2, padding=1)
        return convolution(feature_map, direct, None, padding=1, residual=x, overwrite=True)


def composed_weight(pointwise: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weight, in channels-last format, of one convolution in place of a 1x1 convolution and another, without biases."""
    composed = torch.einsum("omhw,mi->oihw", weight.float(), pointwise[:, :, 0, 0].float())
    return composed.to(weight.dtype).contiguous(memory_format=torch.channels_last)


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


class FoldedDBBranch(FoldedModule, DBBranch):
    """Works on the neck's levels where the detector has them, see `from_levels`."""

    def derive(self) -> SimpleNamespace:
        # One for each number of levels that are enlarged by transposed convolutions.
        return SimpleNamespace(levels=[DerivedWeights() for _ in range(4)], upsampling=DerivedWeights())

    def _plain_layers(self, *numbers: int) -> tuple[Any, ...]:
        """Layers of whose kinds [`is_plain`] has made sure."""
        return tuple(self[number] for number in numbers)

    def takes_levels(self, x: torch.Tensor) -> bool:
        """Whether `from_levels` can stand in for `forward`, for levels like `x`."""
        return self.is_fast(x) and is_plain(self[0], self[1], self[3], self[4], self[6])

    def from_levels(self, levels: list[torch.Tensor], mask: CellMask | None) -> torch.Tensor:
        """
        What `forward` gives for the levels when they are enlarged to stride 4 and concatenated, but without doing so:
        a convolution of a map whose cells are repeated is a transposed one of the map itself, with fewer operations.

        Args:
            levels (`list[torch.Tensor]`): maps at strides 4, 8, 16 and 32, which are changed where they are padding.
            mask (`CellMask`, *optional*): of stride 4.
        """
        # Padding has to begin where a cell does: levels with coarser cells are enlarged until it does.
        depth = max(i for i in range(len(levels)) if mask is None or mask.fits(2**i))
        coarse = [x if i == 0 else enlarge(x, 2**i) for i, x in enumerate(levels[depth:])]
        groups = [*levels[:depth], coarse[0] if len(coarse) == 1 else torch.cat(coarse, dim=1)]
        parameters = (*self[0].parameters(), *self[1].parameters(), *self[1].buffers())
        kernels, bias = self.folded.levels[depth].get(parameters, lambda: self._kernels([x.shape[1] for x in groups]))
        total: torch.Tensor | None = None
        for i in range(depth, -1, -1):
            x, factor = groups[i], 2**i
            if mask is not None:
                x = mask.coarser(factor).zero_(x)
            if i > 0:
                x = nn.functional.conv_transpose2d(x, kernels[i], stride=factor, padding=1)
                total = x if total is None else total.add_(x)
            else:
                total = convolution(x, kernels[0], bias, padding=1, relu=True, residual=total, overwrite=True)
        assert total is not None, "there is a level"
        return self._upsample(total)

    def _kernels(self, channels: list[int]) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        """The first convolution's weights for each group of levels: from the second on those of the transposed one."""
        conv, norm = self._plain_layers(0, 1)
        weight, bias = fold(conv, norm)
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
        first, first_bias, second, second_bias = self.folded.upsampling.get(parameters, self._upsampling_weights)
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
        conv, norm, last_conv = self._plain_layers(3, 4, 6)
        weight, bias = fold(conv, norm)
        assert bias is not None, "a normalization has one"
        # (in, out, row, column) of the transposed convolution to (row, column, out) x in.
        first = weight.permute(2, 3, 1, 0).flatten(0, 2)[:, :, None, None]
        # Each of the four places has its own channels, of which it makes four again.
        last = last_conv.weight.permute(2, 3, 1, 0).flatten(0, 1)[:, 0]
        second = torch.block_diag(*[last] * 4)
        # (row, column, row in the half, column in the half) to (row, row in the half, column, column in the half).
        second = second.unflatten(0, (2, 2, 2, 2)).transpose(1, 2).flatten(0, 3)[:, :, None, None]
        first, second = (x.contiguous(memory_format=torch.channels_last) for x in (first, second))
        return first, bias.repeat(4), second, last_conv.bias.repeat(16)


class FoldedDBDetector(FoldedModule, DBDetector):
    """The neck's levels are not enlarged and concatenated."""

    def forward(
        self,
        feature_maps: tuple[torch.Tensor, ...],
        image_sizes: torch.Tensor | None = None,
        training_maps: bool = False,
    ) -> dict[str, torch.Tensor]:
        neck, branch, finest = self.neck, self.probability_branch, feature_maps[0]
        if training_maps or not (isinstance(neck, FoldedDBNeck) and isinstance(branch, FoldedDBBranch)):
            return super().forward(feature_maps, image_sizes, training_maps)
        if not (self.is_fast(finest) and branch.takes_levels(finest)):
            return super().forward(feature_maps, image_sizes, training_maps)
        masks = self.masks(image_sizes, [x.shape[-2:] for x in feature_maps], finest)
        return {"logits": branch.from_levels(neck.smooth_levels(feature_maps, masks), masks[0])}


FOLDED_DB_MODULES: FoldedVersions = {
    DBNeck: FoldedDBNeck,
    DBBranch: FoldedDBBranch,
    DBDetector: FoldedDBDetector,
}
