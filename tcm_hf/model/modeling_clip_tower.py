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
"""What the image towers share: their output, their base class and the initialization of their layers."""

import difflib
import importlib
import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import ModelOutput, TransformersKwargs


# What transformers may pass to every model.
IGNORED_ARGUMENTS = frozenset(TransformersKwargs.__annotations__) | {"return_dict", "return_loss", "use_cache"}


@dataclass
class CLIPTowerOutput(ModelOutput):
    """
    What every image tower gives.

    Args:
        last_hidden_state (`torch.FloatTensor`):
            (batch, channels, H/32, W/32) the last of the feature maps.
        feature_maps (`tuple[torch.FloatTensor, ...]`):
            Four maps at strides 4, 8, 16 and 32, each (batch, channels, h, w).
        global_embedding (`torch.FloatTensor`, *optional*):
            (batch, projection_dim); `None` where the tower has no embeddings.
        dense_embeddings (`torch.FloatTensor`, *optional*):
            (batch, projection_dim, H/32, W/32); likewise.
        hidden_states (`tuple[torch.FloatTensor, ...]`, *optional*):
            With `output_hidden_states=True`: the outputs of the stem and the stages, or of the ViT's layers.
        attentions (`tuple[torch.FloatTensor, ...]`, *optional*):
            With `output_attentions=True` and `attn_implementation="eager"`: the attention weights of the attention pooling,
            or of the ViT's layers.
    """

    last_hidden_state: torch.Tensor | None = None
    feature_maps: tuple[torch.Tensor, ...] | None = None
    global_embedding: torch.Tensor | None = None
    dense_embeddings: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class CLIPTowerPreTrainedModel(PreTrainedModel):
    """Weights initialization, loading and saving of the image towers."""

    main_input_name = "pixel_values"
    input_modalities = ("image",)  # type: ignore[assignment]  # a tuple, as in transformers
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    def __init__(self, config: PreTrainedConfig, initializes: bool = True):
        super().__init__(config)
        self.initializes = initializes

    def init_weights(self) -> None:
        # The detector that a tower is part of gives all weights in one pass, from one order of random numbers.
        if self.initializes:
            super().init_weights()

    @classmethod
    def of_model(cls, config: Any) -> "CLIPTowerPreTrainedModel":
        """
        The tower as a part of a detector, which initializes it.

        Args:
            config (`TCMConfig`): the model's configuration. Without text side nothing reads embeddings, so there are none: what
                they are made by would have no gradient, which stops plain distributed training.
        """
        raise NotImplementedError

    def copy_encoder(self, encoder: nn.Module) -> None:
        """
        Takes over the weights of transformers' model of the same kind, but for what this tower does without.

        Args:
            encoder (`nn.Module`): e.g. a `CLIPVisionModel`.
        """
        own = self.encoder.state_dict()
        self.encoder.load_state_dict({name: value for name, value in encoder.state_dict().items() if name in own})

    @property
    def encoder(self) -> nn.Module:
        """transformers' model in it."""
        # An `AttributeError`, because tracing asks modules for all names that they list.
        raise AttributeError(f"{type(self).__name__} has no model of transformers in it")

    @property
    def input_layer(self) -> nn.Module:
        """The layer that reads the image."""
        raise AttributeError(f"{type(self).__name__} does not tell which layer reads the image")

    def get_input_embeddings(self) -> nn.Module:
        """The layer that reads `pixel_values`."""
        return self.input_layer

    @classmethod
    def is_custom_code(cls) -> bool:
        # See `TCMPreTrainedModel.is_custom_code`.
        return False

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        # transformers looks for the call of its attention functions in the sources of this file alone.
        return True

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        initialize_convolution(module)


def load_module(reference: str) -> Any:
    """A class beside this file by its reference `".file:Class"`, wherever transformers has copied both."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module, __package__), name)


def initialize_convolution(module: nn.Module) -> None:
    """
    Gives a convolution its random weights, and the last normalization of a residual block its zeros; nothing happens to other
    modules, and to weights that were loaded.
    """
    if isinstance(module, nn.Conv2d) and hasattr(module, "init_std"):
        init.normal_(module.weight, std=float(module.init_std))  # type: ignore[arg-type]  # a number on a module
    elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.BatchNorm2d) and getattr(module, "zero_init", False):
        init.zeros_(module.weight)


def refuse_unknown(model: PreTrainedModel, arguments: dict) -> None:
    """Raises a TypeError for what is no argument of a model's forward pass: a misspelt mask would have no effect."""
    for name in arguments:
        if name not in IGNORED_ARGUMENTS:
            known = list(inspect.signature(type(model).forward).parameters)[1:-1]
            close = difflib.get_close_matches(name, known, n=1)
            raise TypeError(
                f"{type(model).__name__}.forward() got an unexpected keyword argument {name!r}; "
                + (f"did you mean {close[0]!r}?" if close else f"it takes {', '.join(known)}.")
            )
