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

"""CLIP's ModifiedResNet image tower: a pyramid of four maps, a global and dense embeddings, for pictures of any size.

The tower of "Learning Transferable Visual Models From Natural Language Supervision" (Radford et al. 2021, section 2.4)
with the changes that TCM needs: all spatial tokens of the attention pooling are kept, the positional table is resampled
to the picture, and padding neither leaks into the maps nor into the pooling.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .modeling_folded import DerivedWeights, FoldedConvolution, has_fused_convolution, is_fast, is_plain


# Queries of one head whose attention weights `plain_attention` holds.
QUERIES_AT_A_TIME = 1024
# PyTorch 2.6 does not tell export and compilation apart; a compiled graph with masks is right, too.
_is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


@dataclass
class TowerOutput:
    """What every image tower gives.

    Args:
        feature_maps (`tuple[torch.Tensor, ...]`): four maps at strides 4, 8, 16 and 32, each (batch, channels, h, w).
        global_embedding (`torch.Tensor` or `None`): (batch, projection_dim); `None` without attention pooling.
        dense_embeddings (`torch.Tensor` or `None`): (batch, projection_dim, H/32, W/32).
        hidden_states (`tuple[torch.Tensor, ...]`): outputs of the stem and the stages, or of the ViT's layers.
        attentions (`tuple[torch.Tensor or None, ...]`):
            Attention weights of the attention pooling, or of the ViT's layers, where they are asked for.
    """

    feature_maps: tuple[torch.Tensor, ...]
    global_embedding: torch.Tensor | None
    dense_embeddings: torch.Tensor | None
    hidden_states: tuple[torch.Tensor, ...]
    attentions: tuple[torch.Tensor | None, ...] = ()


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
    Mask of the cells of a feature map that see any pixel of the picture.

    Args:
        image_sizes (`torch.Tensor`): (batch, 2) height and width of each picture without padding, in pixels.
        height (`int`): height of the feature map, in cells.
        width (`int`): width of the feature map, in cells.
        stride (`int`): pixels for each cell.
        dtype (`torch.dtype`): of the result.

    Returns:
        `torch.Tensor`: (batch, 1, height, width) with 1 where the cell holds picture and 0 where it is padding.
    """
    cells = (image_sizes + stride - 1) // stride
    rows = torch.arange(height, device=image_sizes.device)[None] < cells[:, :1]
    columns = torch.arange(width, device=image_sizes.device)[None] < cells[:, 1:]
    return (rows[:, None, :, None] & columns[:, None, None, :]).to(dtype)


class CellMask:
    """
    What `stride_mask` tells, in numbers: on the fast path of inference padding is set to zero in place.

    Args:
        cells (`list[tuple[int, int]]`): rows and columns of each image's map that hold picture.
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

    def coarser(self, factor: int) -> "CellMask":
        """The mask of a map with cells `factor` times as large, which have to fit the picture."""
        cells = [(rows // factor, columns // factor) for rows, columns in self.cells]
        return CellMask(cells, self.height // factor, self.width // factor)

    def tensor(self, like: torch.Tensor) -> torch.Tensor:
        """The same as (batch, 1, height, width) with 1 for picture, of another tensor's dtype."""
        return self.zero_(like.new_ones(len(self.cells), 1, self.height, self.width))


def cell_mask(image_sizes: list[list[int]], height: int, width: int, stride: int) -> CellMask | None:
    """
    The `CellMask` of a feature map, or `None` where no cell is padding.

    Args:
        image_sizes (`list[list[int]]`): height and width of each picture without padding, in pixels.
        height (`int`): height of the feature map, in cells.
        width (`int`): width of the feature map, in cells.
        stride (`int`): pixels for each cell.
    """
    cells = [(-(-rows // stride), -(-columns // stride)) for rows, columns in image_sizes]
    return CellMask(cells, height, width) if any(size != (height, width) for size in cells) else None


def masked(x: torch.Tensor, mask: torch.Tensor | CellMask | None) -> torch.Tensor:
    """A map with zeros where there is padding; a `CellMask` changes `x` itself."""
    if mask is None:
        return x
    return mask.zero_(x) if isinstance(mask, CellMask) else x * mask


def linear_resampling_matrix(cells: torch.Tensor, length: int, table_length: int) -> torch.Tensor:
    """
    Matrix that resamples a table to a given number of cells, as bilinear interpolation with `align_corners=False` and
    without antialiasing does. Rows past an image's own cells repeat the last entry.

    Args:
        cells (`torch.Tensor`): (batch,) cells of each image along this axis, without padding.
        length (`int`): cells with padding.
        table_length (`int`): entries of the table.

    Returns:
        `torch.Tensor`: (batch, length, table_length), fp32.
    """
    position = torch.arange(length, device=cells.device, dtype=torch.float32)[None] + 0.5
    source = position * (table_length / cells.to(torch.float32))[:, None] - 0.5
    source = source.clamp(0, table_length - 1)
    entries = torch.arange(table_length, device=cells.device, dtype=torch.float32)
    return (1 - (source[..., None] - entries).abs()).clamp(min=0)


def resample_positions(
    table: torch.Tensor, image_sizes: torch.Tensor | None, height: int, width: int, stride: int
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

    Returns:
        `torch.Tensor`: (batch or 1, height * width, channels) in the table's dtype.
    """
    side = round(int(table.shape[0]) ** 0.5)
    if image_sizes is None:
        cells = torch.tensor([[height, width]], device=table.device)
    else:
        cells = (image_sizes + stride - 1) // stride
    rows = linear_resampling_matrix(cells[:, 0], height, side)
    columns = linear_resampling_matrix(cells[:, 1], width, side)
    grid = table.to(torch.float32).view(side, side, -1)
    # In two steps, rows first: the table is small beside the pictures' maps.
    grid = torch.einsum("bhi,ijc->bhjc", rows, grid)
    grid = torch.einsum("bwj,bhjc->bhwc", columns, grid)
    return grid.flatten(1, 2).to(table.dtype)


def eager_attention(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
    """Plain attention, (batch, heads, tokens, channels) each; used where `attn_implementation="eager"` is asked for."""
    weights = torch.matmul(query, key.transpose(-1, -2)) * scaling
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = nn.functional.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2), weights


def plain_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    num_heads: int,
    attention_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    The tokens of `multi_head_attention`, by products in the inputs' own precision and without gradients: PyTorch's fused
    attention is slower for bfloat16 on CPUs. The mask is one for all heads, (batch, 1, 1, keys).
    """
    tokens = torch.empty_like(query)
    query = query * (query.shape[-1] // num_heads) ** -0.5
    for image in range(query.shape[0]):
        heads = zip(*(x[image].chunk(num_heads, dim=-1) for x in (query, key, value, tokens)))
        # One head and a number of its queries at a time: their weights stay in the cache, and fit into memory.
        for all_queries, k, v, results in heads:
            for q, result in zip(all_queries.split(QUERIES_AT_A_TIME), results.split(QUERIES_AT_A_TIME)):
                weights = q @ k.T
                if attention_mask is not None:
                    weights += attention_mask[image, 0]
                result.copy_(torch.softmax(weights, dim=-1, out=weights) @ v)
    return tokens


def multi_head_attention(
    module: nn.Module,
    implementation: str | None,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    num_heads: int,
    attention_mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """
    Multi-head attention on projected tokens.

    Args:
        module (`nn.Module`): the calling module.
        implementation (`str`): name of transformers' attention function, e.g. `"sdpa"` or `"eager"`.
        query (`torch.Tensor`): (batch, queries, channels).
        key (`torch.Tensor`): (batch, keys, channels).
        value (`torch.Tensor`): (batch, keys, channels).
        num_heads (`int`): attention heads.
        attention_mask (`torch.Tensor`, *optional*): additive, broadcast to (batch, heads, queries, keys).

    Returns:
        `tuple`: tokens (batch, queries, channels), and the weights (batch, heads, queries, keys) where the
        implementation gives them.
    """
    if is_fast(module, query) and query.dtype == torch.bfloat16 and implementation in (None, "sdpa"):
        return plain_attention(query, key, value, num_heads, attention_mask), None
    head_dim = query.shape[-1] // num_heads
    query, key, value = (x.unflatten(-1, (num_heads, head_dim)).transpose(1, 2) for x in (query, key, value))
    function = ALL_ATTENTION_FUNCTIONS.get_interface(implementation or "sdpa", eager_attention)
    tokens, weights = function(
        module, query, key, value, attention_mask, dropout=0.0, scaling=head_dim**-0.5, is_causal=False
    )
    return tokens.flatten(2), weights


def as_map(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """
    Tokens (batch, height * width, channels) as a map (batch, channels, height, width), a view that PyTorch takes for
    one with the channels last. After `transpose` and `unflatten` it does not when the batch is 1, whose stride then says
    otherwise, and operations copy the map.
    """
    return tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2)


def padding_bias(mask: torch.Tensor | None, dtype: torch.dtype, leading: int = 0) -> torch.Tensor | None:
    """
    Additive attention mask that hides the padding.

    Args:
        mask (`torch.Tensor`, *optional*): (batch, 1, h, w), 1 = picture.
        dtype (`torch.dtype`): of the attention.
        leading (`int`, *optional*, defaults to 0): keys before the spatial ones, never hidden.

    Returns:
        `torch.Tensor` or `None`: (batch, 1, 1, leading + h * w).
    """
    if mask is None:
        return None
    bias = (1 - mask.flatten(2)[:, :, None].to(dtype)) * torch.finfo(dtype).min
    return nn.functional.pad(bias, (leading, 0))


class MaskedConvNorm(nn.Module):
    """Convolution, batch normalisation, optionally ReLU, and zeros where there is padding."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, relu: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels)
        self.relu = relu
        self.folded = None

    def prepare_inference(self) -> None:
        """See [`TCMForTextDetection.optimize_for_inference`]."""
        self.folded = FoldedConvolution()

    def forward(self, x: torch.Tensor, mask: torch.Tensor | CellMask | None = None) -> torch.Tensor:
        conv, norm = self.conv, self.norm
        if is_fast(self, x) and is_plain(conv, norm):
            return masked(self.folded(x, conv, norm, relu=self.relu), mask)
        x = norm(conv(x))
        if self.relu:
            x = nn.functional.relu(x)
        return masked(x, mask)


class HalvingPool(nn.AvgPool2d):
    """Means of 2x2 cells."""

    def __init__(self):
        super().__init__(2)
        self.folded = None

    def prepare_inference(self) -> None:
        """See [`TCMForTextDetection.optimize_for_inference`]."""
        self.folded = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not is_fast(self, x) or not has_fused_convolution():
            return super().forward(x)
        # Of the stem's large map PyTorch's pooling takes up to five times as long as oneDNN's convolution of each channel
        # by itself (measured on an AMD EPYC, Zen 4), which gives the same means.
        channels = x.shape[1]
        return nn.functional.conv2d(x, x.new_full((channels, 1, 2, 2), 0.25), stride=2, groups=channels)


class CLIPResNetBottleneck(GradientCheckpointingLayer):
    """
    CLIP's bottleneck: all convolutions have stride 1, an average pooling in front of the last one halves the map.

    Under activation checkpointing the forward pass runs twice, and so the batch statistics enter the running ones
    twice; gradients are the same.
    """

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = MaskedConvNorm(in_channels, channels, 1)
        self.conv2 = MaskedConvNorm(channels, channels, 3)
        self.pool = HalvingPool() if stride > 1 else nn.Identity()
        self.conv3 = MaskedConvNorm(channels, channels * 4, 1, relu=False)
        # A block starts as its shortcut, which CLIP does too.
        self.conv3.norm.zero_init = True
        self.shortcut = None
        if stride > 1 or in_channels != channels * 4:
            self.shortcut = MaskedConvNorm(in_channels, channels * 4, 1, relu=False)

    def forward(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | CellMask | None = None,
        pooled_mask: torch.Tensor | CellMask | None = None,
    ) -> torch.Tensor:
        identity = self.pool(x)
        x = self.pool(self.conv2(self.conv1(x, mask), mask))
        conv3, shortcut = self.conv3, self.shortcut
        fast = type(conv3) is MaskedConvNorm and is_fast(conv3, x) and is_plain(conv3.conv, conv3.norm)
        if fast and shortcut is None:
            x = conv3.folded(x, conv3.conv, conv3.norm, relu=True, residual=identity)
        elif fast and type(shortcut) is MaskedConvNorm and is_plain(shortcut.conv, shortcut.norm):
            # The two are one convolution of the joint channels: the shortcut's result, the largest map there is, is
            # neither written nor read again.
            plus = (shortcut.conv, shortcut.norm)
            x = conv3.folded(torch.cat([x, identity], dim=1), conv3.conv, conv3.norm, plus, relu=True)
        else:
            identity = identity if shortcut is None else shortcut(identity)
            x = nn.functional.relu(conv3(x) + identity)
        return masked(x, pooled_mask)


class CLIPResNetStage(nn.Module):
    """Bottlenecks of one stride."""

    def __init__(self, in_channels: int, channels: int, depth: int, stride: int):
        super().__init__()
        blocks = [CLIPResNetBottleneck(in_channels, channels, stride)]
        blocks += [CLIPResNetBottleneck(channels * 4, channels, 1) for _ in range(depth - 1)]
        self.blocks = nn.ModuleList(blocks)

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor | CellMask | None, pooled_mask: torch.Tensor | CellMask | None
    ) -> torch.Tensor:
        for block in self.blocks:
            x = block(x, mask, pooled_mask)
            mask = pooled_mask
        return x


class CLIPResNetAttentionPool(nn.Module):
    """
    CLIP's attention pooling over the mean token and all spatial tokens, all of which are kept: the first is the global
    embedding, the others are the dense ones.

    Args:
        config (`CLIPResNetConfig`): the tower's configuration.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        channels = config.width * 32
        self.num_heads = config.num_attention_heads
        self.position_embedding = nn.Parameter(torch.zeros((config.image_size // 32) ** 2 + 1, channels))
        self.q_proj = nn.Linear(channels, channels)
        self.k_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)
        self.c_proj = nn.Linear(channels, config.projection_dim)
        self.folded = None

    def prepare_inference(self) -> None:
        """See [`TCMForTextDetection.optimize_for_inference`]."""
        self.folded = {name: FoldedConvolution() for name in ("q_proj", "k_proj", "v_proj", "c_proj")}
        self._positions = DerivedWeights()

    def _reduce(
        self, tokens: torch.Tensor, mask: torch.Tensor | None, height: int, width: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The mean token and the means over squares of the spatial ones, and which squares are not all padding."""
        pool = partial(nn.functional.avg_pool2d, kernel_size=self.config.attention_reduction, ceil_mode=True)
        grid = as_map(tokens[:, 1:], height, width)
        if mask is None:
            grid = pool(grid)
        else:
            if is_exporting():
                # One more square of padding, which nothing attends to: `torch.export` takes maps of one square for a
                # case of its own, and would refuse them.
                grow = [0, self.config.attention_reduction] * 2
                grid, mask = nn.functional.pad(grid, grow), nn.functional.pad(mask, grow)
            # Means of the picture's cells alone: padding must not change them.
            share = pool(mask)
            grid, mask = pool(grid * mask) / share.clamp(min=1e-6), (share > 0).to(mask.dtype)
        return torch.cat([tokens[:, :1], grid.flatten(2).transpose(1, 2)], dim=1), mask

    def _project(self, name: str, tokens: torch.Tensor) -> torch.Tensor:
        """A projection of (batch, tokens, channels), on the fast path as the convolution of a map one cell wide."""
        layer = getattr(self, name)
        if is_fast(self, tokens) and is_plain(layer):
            x = tokens.transpose(1, 2)[..., None]
            return self.folded[name](x, layer)[..., 0].transpose(1, 2)
        return layer(tokens)

    def forward(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None = None,
        image_sizes: torch.Tensor | None = None,
        output_attentions: bool = False,
    ) -> tuple[torch.Tensor, ...]:
        """
        Args:
            x (`torch.Tensor`): (batch, channels, h, w), zero where there is padding.
            mask (`torch.Tensor`, *optional*): (batch, 1, h, w), 1 = picture.
            image_sizes (`torch.Tensor`, *optional*): (batch, 2) sizes without padding, in pixels.
            output_attentions (`bool`, *optional*, defaults to `False`): whether to return attention weights.

        Returns:
            `tuple`: global embedding (batch, projection_dim) and dense embeddings (batch, projection_dim, h, w); with
            `output_attentions` also the attention weights, or `None` where the implementation gives none.
        """
        height, width = x.shape[-2:]
        tokens = x.flatten(2).transpose(1, 2)
        if mask is None:
            mean = tokens.mean(1, keepdim=True)
        else:
            mean = tokens.sum(1, keepdim=True) / mask.sum((2, 3)).clamp(min=1)[:, :, None]
        if is_fast(self, tokens):
            sizes = None if image_sizes is None else image_sizes.tolist()
            positions = self._positions.get(
                (self.position_embedding, height, width, sizes),
                lambda: resample_positions(self.position_embedding[1:], image_sizes, height, width, 32),
            )
        else:
            positions = resample_positions(self.position_embedding[1:], image_sizes, height, width, 32)
        tokens = torch.cat([mean + self.position_embedding[:1], tokens + positions], dim=1)
        memory, memory_mask = tokens, mask
        if self.config.attention_reduction > 1:
            memory, memory_mask = self._reduce(tokens, mask, height, width)
        bias = padding_bias(memory_mask, tokens.dtype, leading=1)
        projected = [self._project("q_proj", tokens), self._project("k_proj", memory), self._project("v_proj", memory)]
        implementation = self.config._attn_implementation
        tokens, weights = multi_head_attention(self, implementation, *projected, self.num_heads, bias)
        tokens = self._project("c_proj", tokens)
        dense = as_map(tokens[:, 1:], height, width)
        outputs = tokens[:, 0], dense if mask is None else dense * mask
        return (*outputs, weights) if output_attentions else outputs


class CLIPResNetTower(nn.Module):
    """
    CLIP's image tower of the ResNet kind. Picture sides have to be multiples of 32.

    Args:
        config (`CLIPResNetConfig`): the tower's configuration.
        embeds (`bool`, *optional*, defaults to `True`):
            Whether there is an attention pooling. Without it the tower has feature maps but no embeddings.
    """

    def __init__(self, config, embeds: bool = True):
        super().__init__()
        width = config.width
        self.channels = list(config.channels)
        self.stem = nn.ModuleList(
            [
                MaskedConvNorm(config.num_channels, width // 2, 3, stride=2),
                MaskedConvNorm(width // 2, width // 2, 3),
                MaskedConvNorm(width // 2, width, 3),
            ]
        )
        self.stem_pool = HalvingPool()
        in_channels = [width, *self.channels[:3]]
        self.stages = nn.ModuleList(
            CLIPResNetStage(in_channels[i], width * 2**i, config.depths[i], stride=1 if i == 0 else 2)
            for i in range(4)
        )
        self.attention_pool = CLIPResNetAttentionPool(config) if embeds else None

    @property
    def input_layer(self) -> nn.Module:
        """The layer that reads the picture."""
        return self.stem[0].conv

    def forward(
        self, pixel_values: torch.Tensor, image_sizes: torch.Tensor | None = None, output_attentions: bool = False
    ) -> TowerOutput:
        """
        Args:
            pixel_values (`torch.Tensor`): (batch, 3, H, W) normalised pictures, H and W multiples of 32.
            image_sizes (`torch.Tensor`, *optional*): (batch, 2) height and width without padding, in pixels.
            output_attentions (`bool`, *optional*, defaults to `False`): whether to return attention weights.

        Returns:
            `TowerOutput`
        """
        height, width = pixel_values.shape[-2:]
        masks = [None] * 5
        if image_sizes is not None:
            strides = (2, 4, 8, 16, 32)
            if is_fast(self.stem[0], pixel_values):
                sizes = image_sizes.tolist()
                masks = [cell_mask(sizes, height // stride, width // stride, stride) for stride in strides]
            else:
                masks = [
                    stride_mask(image_sizes, height // stride, width // stride, stride, pixel_values.dtype)
                    for stride in strides
                ]
        x = pixel_values
        for layer in self.stem:
            x = layer(x, masks[0])
        x = self.stem_pool(x)
        hidden_states = [x]
        feature_maps = []
        for i, stage in enumerate(self.stages):
            x = stage(x, masks[max(i, 1)], masks[i + 1])
            feature_maps.append(x)
        hidden_states += feature_maps
        global_embedding = dense_embeddings = None
        attentions = ()
        if self.attention_pool is not None:
            mask = masks[4].tensor(x) if isinstance(masks[4], CellMask) else masks[4]
            sizes = None if mask is None else image_sizes
            global_embedding, dense_embeddings, *attentions = self.attention_pool(x, mask, sizes, output_attentions)
        return TowerOutput(
            tuple(feature_maps), global_embedding, dense_embeddings, tuple(hidden_states), tuple(attentions)
        )
