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
"""
Convolutions with an epilogue: addition and ReLU while the results are in the cache.

PyTorch's own compiler uses oneDNN's through operators that are private, and that not every build has. They are called in this
file alone; where they are missing, public operations give the same.
"""

from typing import Any

import torch
from torch import nn


_POINTWISE: Any = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
_POINTWISE_IN_PLACE: Any = getattr(torch.ops.mkldnn, "_convolution_pointwise_", None)
_PACK: Any = getattr(torch.ops.mkldnn, "_reorder_convolution_weight", None)
_HAS_BFLOAT16 = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)


def has_fused_convolution(dtype: torch.dtype) -> bool:
    """
    Whether there are convolutions with an epilogue in a precision; without them all else is still folded.

    This build of PyTorch has to have them, and in bfloat16 the processor too: without its instructions, such as AVX-512, they
    raise errors, while PyTorch's public convolution computes in another way.
    """
    is_built = None not in (_POINTWISE, _POINTWISE_IN_PLACE, _PACK) and torch.backends.mkldnn.is_available()
    return is_built and (dtype != torch.bfloat16 or computes_in_bfloat16())


def computes_in_bfloat16() -> bool:
    """Whether the processor computes in bfloat16, as far as this build of PyTorch can tell."""
    return _HAS_BFLOAT16 is not None and bool(_HAS_BFLOAT16())


def pack(weight: torch.Tensor, input_shape: torch.Size, stride: int = 1, padding: int = 0) -> torch.Tensor:
    """
    A weight as [`convolution`] likes it best for inputs of one size, and takes it with the same stride and padding.

    Args:
        weight (`torch.Tensor`): (out channels, channels, k, k), in channels-last format.
        input_shape (`torch.Size`): of the inputs.
        stride (`int`, *optional*, defaults to 1): of the convolution.
        padding (`int`, *optional*, defaults to 0): zeros at each border.

    Returns:
        `torch.Tensor`: the values in oneDNN's own order, or the weight itself where there is no fused convolution.
    """
    if not has_fused_convolution(weight.dtype):
        return weight
    return _PACK(weight, [padding] * 2, [stride] * 2, [1, 1], 1, list(input_shape))


def convolution(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: int = 1,
    padding: int = 0,
    relu: bool = False,
    residual: torch.Tensor | None = None,
    overwrite: bool = False,
) -> torch.Tensor:
    """
    Convolution, addition and ReLU in one go.

    Args:
        x (`torch.Tensor`): (batch, channels, h, w).
        weight (`torch.Tensor`): (out channels, channels, k, k), in channels-last format, or packed.
        bias (`torch.Tensor`, *optional*): (out channels,).
        stride (`int`, *optional*, defaults to 1): of the convolution.
        padding (`int`, *optional*, defaults to 0): zeros at each border.
        relu (`bool`, *optional*, defaults to `False`): whether negative values become 0, after the addition.
        residual (`torch.Tensor`, *optional*): is added to the convolution's result.
        overwrite (`bool`, *optional*, defaults to `False`): whether the result may take the place of `residual`.

    Returns:
        `torch.Tensor`: (batch, out channels, h / stride, w / stride).
    """
    x = x.contiguous(memory_format=torch.channels_last)
    if has_fused_convolution(x.dtype):
        geometry = ([padding] * 2, [stride] * 2, [1, 1], 1)
        if residual is None:
            return _POINTWISE(x, weight, bias, *geometry, "relu" if relu else "none", [], "")
        residual = residual.contiguous(memory_format=torch.channels_last)
        epilogue: tuple = ("add", 1.0, "relu" if relu else None, [], None)
        if overwrite:
            return _POINTWISE_IN_PLACE.binary(residual, x, weight, bias, *geometry, *epilogue)
        return _POINTWISE.binary(x, residual, weight, bias, *geometry, *epilogue)
    y = nn.functional.conv2d(x, weight, bias, stride=stride, padding=padding)
    if residual is not None:
        y = y.add_(residual)
    return y.relu_() if relu else y
