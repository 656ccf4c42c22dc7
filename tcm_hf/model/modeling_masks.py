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
"""Padding and its masks: what of a batch is image, at each stride; and positional tables for images of any size."""

from collections.abc import Sequence

import torch
from torch import nn


# PyTorch 2.6 does not tell export and compilation apart; a compiled graph with masks is right, too.
_is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


def is_exporting() -> bool:
    """
    Whether the forward pass is being recorded, for other inputs than the one at hand: `torch.export`, `torch.onnx.export`
    and `torch.jit.trace`. What is decided in Python now holds for all of them.
    """
    return torch.jit.is_tracing() or _is_exporting()


def crop_map(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The first rows and columns of a map (..., h, w)."""
    if not is_exporting():
        return x[..., :height, :width]
    # A copy: `torch.export` asks of a slice whether it is the whole map, and refuses sizes with another answer.
    rows, columns = (torch.arange(n, device=x.device) for n in (height, width))
    return x.index_select(-2, rows).index_select(-1, columns)


def round_up(length: int, stride: int = 32) -> int:
    """The next multiple of the stride, in operations that `torch.compile` and `torch.export` follow symbolically."""
    return (length + stride - 1) // stride * stride


def stride_mask(image_sizes: torch.Tensor, height: int, width: int, stride: int, dtype: torch.dtype) -> torch.Tensor:
    """
    Mask of the cells of a feature map that see any pixel of the image.

    Args:
        image_sizes (`torch.Tensor`): (batch, 2) height and width of each image without padding, in pixels.
        height (`int`): height of the feature map, in cells.
        width (`int`): width of the feature map, in cells.
        stride (`int`): pixels for each cell.
        dtype (`torch.dtype`): of the result.

    Returns:
        `torch.Tensor`: (batch, 1, height, width) with 1 where the cell holds image and 0 where it is padding.
    """
    cells = (image_sizes + stride - 1) // stride
    rows = torch.arange(height, device=image_sizes.device)[None] < cells[:, :1]
    columns = torch.arange(width, device=image_sizes.device)[None] < cells[:, 1:]
    return (rows[:, None, :, None] & columns[:, None, None, :]).to(dtype)


class CellMask:
    """
    What `stride_mask` tells, in numbers: on the fast path of inference padding is set to zero in place.

    Args:
        cells (`list[tuple[int, int]]`): rows and columns of each image's map that hold image.
        height (`int`): height of the feature map, in cells.
        width (`int`): width of the feature map, in cells.
    """

    def __init__(self, cells: list[tuple[int, int]], height: int, width: int):
        self.cells, self.height, self.width = cells, height, width

    def zero_(self, x: torch.Tensor) -> torch.Tensor:
        """Sets the padding of a map (batch, channels, height, width) to zero, in place."""
        for image, (rows, columns) in zip(x, self.cells):
            image[:, rows:] = 0
            image[:, :rows, columns:] = 0
        return x

    def fits(self, factor: int) -> bool:
        """Whether padding begins where a cell `factor` times as large begins."""
        return all(length % factor == 0 for cells in self.cells for length in cells)

    def coarser(self, factor: int) -> "CellMask":
        """The mask of a map with cells `factor` times as large, which have to fit the image."""
        cells = [(rows // factor, columns // factor) for rows, columns in self.cells]
        return CellMask(cells, self.height // factor, self.width // factor)

    def tensor(self, like: torch.Tensor) -> torch.Tensor:
        """The same as (batch, 1, height, width) with 1 for image, of another tensor's dtype."""
        return self.zero_(like.new_ones(len(self.cells), 1, self.height, self.width))


def cell_mask(image_sizes: list[list[int]], height: int, width: int, stride: int) -> CellMask | None:
    """
    The `CellMask` of a feature map, or `None` where no cell is padding.

    Args:
        image_sizes (`list[list[int]]`): height and width of each image without padding, in pixels.
        height (`int`): height of the feature map, in cells.
        width (`int`): width of the feature map, in cells.
        stride (`int`): pixels for each cell.
    """
    cells = [(-(-rows // stride), -(-columns // stride)) for rows, columns in image_sizes]
    return CellMask(cells, height, width) if any(size != (height, width) for size in cells) else None


# What the layers take: a mask, the same in numbers, or nothing where nothing is padded.
Mask = torch.Tensor | CellMask | None


def masked(x: torch.Tensor, mask: Mask) -> torch.Tensor:
    """A map with zeros where there is padding; a `CellMask` changes `x` itself."""
    if mask is None:
        return x
    return mask.zero_(x) if isinstance(mask, CellMask) else x * mask


def mask_tensor(mask: Mask, like: torch.Tensor) -> torch.Tensor | None:
    """A mask as the tensor that attention needs, of another tensor's dtype."""
    return mask.tensor(like) if isinstance(mask, CellMask) else mask


class StrideMasks(nn.Module):
    """
    The masks of maps of several strides.

    Args:
        strides (`tuple[int, ...]`): pixels for each cell of each map.
    """

    def __init__(self, *strides: int):
        super().__init__()
        self.strides = strides

    def forward(
        self, image_sizes: torch.Tensor | None, map_sizes: Sequence[Sequence[int]], like: torch.Tensor
    ) -> list[Mask]:
        """
        Args:
            image_sizes (`torch.Tensor`, *optional*): (batch, 2) sizes without padding, in pixels; `None`: no padding.
            map_sizes (`Sequence[Sequence[int]]`): height and width of each map, in cells.
            like (`torch.Tensor`): has the dtype of the masks.

        Returns:
            `list`: for each map a mask as `stride_mask` gives it, or `None` where nothing is padded.
        """
        if image_sizes is None:
            return [None for _ in self.strides]
        return [
            stride_mask(image_sizes, height, width, stride, like.dtype)
            for stride, (height, width) in zip(self.strides, map_sizes)
        ]


class ImagePadding(nn.Module):
    """Zeros around the images: where the mask tells padding, and up to multiples of the largest stride."""

    def forward(
        self,
        pixel_values: torch.Tensor,
        pixel_mask: torch.Tensor | None,
        image_sizes: torch.Tensor | None,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        """
        Args:
            pixel_values (`torch.Tensor`): (batch, channels, H, W), anything in the padding.
            pixel_mask (`torch.Tensor`, *optional*): (batch, H, W), 1 = image.
            image_sizes (`torch.Tensor`, *optional*): (batch, 2) sizes without padding, in pixels: the mask in numbers.
            dtype (`torch.dtype`): of the result.

        Returns:
            `torch.Tensor`: (batch, channels, H, W), both sides rounded up to multiples of 32.
        """
        height, width = pixel_values.shape[-2:]
        if pixel_mask is not None:
            # Whatever the padding holds must not reach the image.
            pixel_values = pixel_values * pixel_mask[:, None].to(pixel_values.dtype)
        padding = (0, round_up(width) - width, 0, round_up(height) - height)
        return nn.functional.pad(pixel_values.to(dtype), padding)


def linear_resampling_matrix(
    cells: torch.Tensor, length: int, table_length: int, antialias: bool = False
) -> torch.Tensor:
    """
    Matrix that resamples a table to a given number of cells, as bilinear interpolation with `align_corners=False` does. Rows
    past an image's own cells repeat the last entry.

    Args:
        cells (`torch.Tensor`): (batch,) cells of each image along this axis, without padding.
        length (`int`): cells with padding.
        table_length (`int`): entries of the table.
        antialias (`bool`, *optional*, defaults to `False`): whether fewer cells than entries are means over more of them.

    Returns:
        `torch.Tensor`: (batch, length, table_length), fp32.
    """
    position = torch.arange(length, device=cells.device, dtype=torch.float32)[None] + 0.5
    source = position * (table_length / cells.to(torch.float32))[:, None] - 0.5
    source = source.clamp(0, table_length - 1)
    entries = torch.arange(table_length, device=cells.device, dtype=torch.float32)
    distance = (source[..., None] - entries).abs()
    if not antialias:
        return (1 - distance).clamp(min=0)
    weights = (1 - distance / (table_length / cells.to(torch.float32)).clamp(min=1)[:, None, None]).clamp(min=0)
    return weights / weights.sum(-1, keepdim=True)


def resample_positions(
    table: torch.Tensor,
    image_sizes: torch.Tensor | None,
    height: int,
    width: int,
    stride: int,
    antialias: bool = False,
) -> torch.Tensor:
    """
    Resamples the spatial part of a positional table to each image's own cells, so that an image gets the same
    positions however much padding its batch adds.

    Args:
        table (`torch.Tensor`): (side * side, channels).
        image_sizes (`torch.Tensor`, *optional*): (batch, 2) sizes without padding in pixels; `None`: all cells.
        height (`int`): rows of cells with padding.
        width (`int`): columns of cells with padding.
        stride (`int`): pixels for each cell.
        antialias (`bool`, *optional*, defaults to `False`): see `linear_resampling_matrix`.

    Returns:
        `torch.Tensor`: (batch or 1, height * width, channels) in the table's dtype.
    """
    side = round(int(table.shape[0]) ** 0.5)
    if image_sizes is None:
        cells = torch.tensor([[height, width]], device=table.device)
    else:
        cells = (image_sizes + stride - 1) // stride
    rows = linear_resampling_matrix(cells[:, 0], height, side, antialias)
    columns = linear_resampling_matrix(cells[:, 1], width, side, antialias)
    grid = table.to(torch.float32).view(side, side, -1)
    # In two steps, rows first: the table is small beside the images' maps.
    grid = torch.einsum("bhi,ijc->bhjc", rows, grid)
    grid = torch.einsum("bwj,bhjc->bhwc", columns, grid)
    return grid.flatten(1, 2).to(table.dtype)
