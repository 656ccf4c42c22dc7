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
"""The fast path of inference on CPUs: folded versions of modules, which stand in for the plain ones.

The folded versions themselves are in the files `modeling_*_folded.py`. Parameters stay as they are. What is folded, such as
a convolution with batch normalization, is computed from them when it is first needed, is no part of the state dict, and is
computed anew when a parameter has changed.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .modeling_fused_convolution import convolution, pack


# The layers that can be folded; not their subclasses, such as quantized ones, which may compute something else.
_PLAIN_LAYERS = frozenset((nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d))


class DerivedWeights:
    """
    Tensors that are computed from a module's parameters, and kept until one of these changes. Changes by way of `.data`
    do not show.

    Copies and pickles are empty: they belong to other parameters. Several threads may use one instance.
    """

    def __init__(self):
        # All that is kept, in one attribute, so that no thread sees the state of one result and another result.
        self._kept: tuple[tuple | None, Any, tuple | None] = (None, None, None)

    def __reduce__(self):
        return DerivedWeights, ()

    def get(self, parameters: tuple, compute: Callable):
        """
        Args:
            parameters (`tuple`): the tensors, and other values, that the result depends on.
            compute (`Callable`): gives the result.

        Returns:
            What `compute` gave for the present values of the parameters.
        """
        # Tensors made in inference mode do not count their changes: a new object, which equals nothing, says so.
        state = tuple(
            (p.data_ptr(), p.dtype, object() if p.is_inference() else p._version) if isinstance(p, torch.Tensor) else p
            for p in parameters
        )
        kept_state, value, _ = self._kept
        if state != kept_state:
            with torch.no_grad():
                value = compute()
            # With the parameters, so that no other tensor gets the address of one that is gone.
            self._kept = (state, value, parameters)
        return value


class FoldedModule(nn.Module):
    """
    Base of the modules that stand in for others on the fast path of inference, next to the class that they stand in for:
    `class FoldedLayer(FoldedModule, Layer)`. They have the same parameters, buffers and submodules, and what they compute in
    another way only saves time.

    [`fold_modules`] turns a module into its folded version where it stands, as PyTorch's lazy modules become what they are
    going to be: everybody who holds the module, its weights or its hooks holds them still.
    """

    #: What is derived from the weights; it is no part of the state dict.
    folded: Any

    def derive(self) -> Any:
        """A new, empty place for what is derived from the weights, which becomes `folded`."""
        return None

    def is_fast(self, x: torch.Tensor) -> bool:
        """
        Whether the fast path is taken for an input: the module is in evaluation mode, nothing is differentiated, autocast,
        recorded or compiled, and all is on the CPU. Otherwise the plain version has to be called, by `super()`.
        """
        return (
            not self.training
            and not torch.is_grad_enabled()
            and not torch.compiler.is_compiling()
            and not torch.jit.is_tracing()
            and x.device.type == "cpu"
            and x.dtype in (torch.float32, torch.bfloat16)
            and not torch.is_autocast_enabled("cpu")
        )


# Classes of modules, and the folded version of each.
FoldedVersions = Mapping[type[nn.Module], type[FoldedModule]]


def fold_modules(model: nn.Module, versions: FoldedVersions) -> None:
    """
    Turns modules of a model into their folded versions; those that are folded stay as they are.

    Args:
        model (`nn.Module`): the model, whose own class stays what it is.
        versions (`Mapping`): the folded version of each class that has one. Subclasses may compute something else, and so
            are not meant.
    """
    for module in model.modules():
        folded_class = versions.get(type(module))
        if folded_class is not None:
            module.__class__ = folded_class
            module.folded = module.derive()  # type: ignore[operator]  # its class has just become a folded one


def unfold_modules(model: nn.Module, versions: FoldedVersions) -> None:
    """Turns the folded modules of a model into the plain ones again, and forgets what was derived from the weights."""
    plain_classes: dict[type[nn.Module], type[nn.Module]] = {folded: plain for plain, folded in versions.items()}
    for module in model.modules():
        plain_class = plain_classes.get(type(module))
        if plain_class is not None:
            module.__class__ = plain_class
            del module.folded


def is_plain(*layers: nn.Module) -> bool:
    """
    Whether layers can be folded: PyTorch's own convolutions, linear layers and normalizations, in evaluation mode and
    with ordinary parameters. Quantized, wrapped and parametrized layers have to be called, and weights made in inference
    mode, whose changes do not show, would be folded every time. Layers may be replaced, so it is asked at every call.
    """
    # A loop, and no attributes that a module has to search for: it takes a hundred of these answers for one image.
    for layer in layers:
        if type(layer) not in _PLAIN_LAYERS or layer.training:
            return False
        weight = layer._parameters.get("weight")
        if type(weight) is not nn.Parameter or weight.is_inference():
            return False
    return True


class FoldedConvolution:
    """
    A convolution with the batch normalization that follows it, or a linear layer, as one convolution; or the sum of two
    such layers.

    The weights are also kept as the convolution wants them for inputs of the latest size. All layers have to be plain,
    see [`is_plain`].
    """

    def __init__(self):
        self.weights = DerivedWeights()

    def __call__(
        self,
        x: torch.Tensor,
        conv: nn.Conv2d | nn.Linear,
        norm: nn.BatchNorm2d | None = None,
        plus: tuple[nn.Conv2d, nn.BatchNorm2d] | None = None,
        **epilogue,
    ) -> torch.Tensor:
        """
        Args:
            x (`torch.Tensor`): (batch, channels, h, w).
            conv (`nn.Conv2d` or `nn.Linear`): the layer; a convolution has equal stride and padding on both axes and no
                groups.
            norm (`nn.BatchNorm2d`, *optional*): the normalization.
            plus (`tuple`, *optional*): another convolution, of the same geometry, and its normalization, the result of
                which is added. Its input are the channels of `x` behind those of the first.
            epilogue: `relu`, `residual` and `overwrite` of [`convolution`].
        """
        # What is packed goes with the weight that it is packed from.
        if plus is None:
            tensors = _tensors(conv, norm)
            weight, bias, packed = self.weights.get(tensors, lambda: (*fold(conv, norm), DerivedWeights()))
        else:
            tensors = _tensors(conv, norm) + _tensors(*plus)
            weight, bias, packed = self.weights.get(tensors, lambda: (*fold_sum(conv, norm, *plus), DerivedWeights()))
        stride, padding = (conv.stride[0], int(conv.padding[0])) if isinstance(conv, nn.Conv2d) else (1, 0)
        weight = packed.get((x.shape,), lambda: pack(weight, x.shape, stride, padding))
        return convolution(x, weight, bias, stride, padding, **epilogue)


def _tensors(conv: nn.Conv2d | nn.Linear, norm: nn.BatchNorm2d | None) -> tuple[torch.Tensor | None, ...]:
    """What the folded weights depend on."""
    if norm is None:
        return conv.weight, conv.bias
    return conv.weight, conv.bias, norm.weight, norm.bias, norm.running_mean, norm.running_var


def fold(
    conv: nn.Conv2d | nn.ConvTranspose2d | nn.Linear, norm: nn.BatchNorm2d | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """
    Weight, in channels-last format, and bias of a convolution that does the normalization too.

    Folded in fp32, whatever the weights' precision is.
    """
    if norm is None:
        plain: torch.Tensor = conv.weight.detach()
        plain = plain[:, :, None, None] if plain.dim() == 2 else plain
        return plain.contiguous(memory_format=torch.channels_last), conv.bias
    tensors = (conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    weight, bias, mean, variance, scale, shift = (None if t is None else t.detach().float() for t in tensors)
    assert weight is not None and mean is not None and variance is not None, (
        "plain layers, which keep their statistics"
    )
    transposed = isinstance(conv, nn.ConvTranspose2d)
    folded: torch.Tensor
    folded, shifted = fuse_conv_bn_weights(weight, bias, mean, variance, norm.eps, scale, shift, transpose=transposed)
    folded = folded.detach().to(conv.weight.dtype).contiguous(memory_format=torch.channels_last)
    return folded, shifted.detach().to(conv.weight.dtype)


def fold_sum(
    conv: nn.Conv2d | nn.Linear, norm: nn.BatchNorm2d | None, other: nn.Conv2d, other_norm: nn.BatchNorm2d
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of one convolution that adds up two, whose inputs lie behind each other."""
    (weight, bias), (other_weight, other_bias) = fold(conv, norm), fold(other, other_norm)
    assert bias is not None and other_bias is not None, "normalizations have one"
    weight = torch.cat([weight, other_weight], dim=1).contiguous(memory_format=torch.channels_last)
    return weight, bias + other_bias
