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
"""The text towers: transformers' own encoders, fed with embeddings, between which are learned context vectors."""

from typing import Any

import torch
import transformers
from torch import nn
from transformers.masking_utils import create_causal_mask


class TCMTextTower(nn.Module):
    """
    A text tower fed with embeddings: `[start, learned context vectors, prompt, end]`, to each of which the language prompt
    generator's vector is added (eq. 3 to 5 of TCM). Each family says how its encoder reads them, and where the embedding is.

    Args:
        config (`TCMConfig`): the model's configuration.
    """

    prompt_token_ids: torch.Tensor

    def __init__(self, config):
        super().__init__()
        text_config = config.text_config
        self.text_config = text_config
        self.kind = config.text_tower
        # Not saved: the configuration has them.
        self.register_buffer(
            "prompt_token_ids", torch.tensor([config.prompt_token_ids], dtype=torch.long), persistent=False
        )
        self.text_model = self.make_encoder(getattr(transformers, self.kind.encoder), text_config)
        self.text_projection = self.make_projection(text_config)
        self.context_vectors = None
        if config.num_context_vectors > 0:
            self.context_vectors = nn.Parameter(torch.zeros(config.num_context_vectors, text_config.hidden_size))

    def make_encoder(self, encoder_class: Any, text_config: Any) -> Any:
        """The encoder, without any layer that is not used."""
        return encoder_class(text_config)

    def make_projection(self, text_config: Any) -> nn.Module:
        """The layer from what `encode` gives to the embedding."""
        return nn.Linear(text_config.hidden_size, self.kind.embedding_dim(text_config), bias=False)

    @property
    def token_embedding(self) -> nn.Module:
        """The table of the tokens' embeddings."""
        return self.text_model.embeddings.token_embedding

    def encode(self, tokens: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, hidden size) without positions to the (batch, length) that is projected."""
        raise NotImplementedError

    def forward(
        self, prompt_offset: torch.Tensor | None = None, prompt_token_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Args:
            prompt_offset (`torch.Tensor`, *optional*): (batch, text hidden size), added to every token of the prompt.
            prompt_token_ids (`torch.Tensor`, *optional*): (prompts, tokens) ids of other prompts than the configured
                one, each with its end token last and all of one length.

        Returns:
            `torch.Tensor`: (batch, prompts, embedding_dim) text embeddings; batch is 1 without `prompt_offset`.
        """
        if prompt_token_ids is None:
            prompt_token_ids = self.prompt_token_ids
        tokens = self.token_embedding(prompt_token_ids)
        prompts, start = tokens.shape[0], self.kind.start_tokens
        if self.context_vectors is not None:
            context = self.context_vectors.expand(prompts, -1, -1)
            tokens = torch.cat([tokens[:, :start], context, tokens[:, start:]], dim=1)
        if prompt_offset is not None:
            tokens = (tokens[None] + prompt_offset[:, None, None]).flatten(0, 1)
        embeddings = self.text_projection(self.encode(tokens))
        return embeddings.unflatten(0, (-1, prompts))


class CLIPTextTower(TCMTextTower):
    """The text tower of CLIP and of MetaCLIP 2: each token sees those before it, and the end token is the embedding."""

    def encode(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = self.text_model.embeddings(inputs_embeds=tokens)
        # By position: the name of the last argument, the cache, differs between releases of transformers.
        attention_mask = create_causal_mask(self.text_config, tokens, None, None)
        tokens = self.text_model.encoder(
            inputs_embeds=tokens, attention_mask=attention_mask, is_causal=True
        ).last_hidden_state
        # The end token is the last one: nothing is padded, since a causal tower's end token sees no position after it.
        return self.text_model.final_layer_norm(tokens[:, -1])


class SiglipTextTower(TCMTextTower):
    """
    The text tower of SigLIP and SigLIP 2: every token sees every other, the padding up to the last position included, where the
    embedding is; so it was trained.
    """

    def make_projection(self, text_config: Any) -> nn.Module:
        return nn.Identity()  # the encoder has its own

    def encode(self, tokens: torch.Tensor) -> torch.Tensor:
        missing = self.kind.positions(self.text_config) - tokens.shape[1]
        padding = self.token_embedding(torch.full((1,), self.text_config.pad_token_id, device=tokens.device))
        tokens = torch.cat([tokens, padding.expand(tokens.shape[0], missing, -1)], dim=1)
        tokens = self.text_model.embeddings(inputs_embeds=tokens)
        tokens = self.text_model.encoder(inputs_embeds=tokens, attention_mask=None).last_hidden_state
        return self.text_model.head(self.text_model.final_layer_norm(tokens)[:, -1])


class ChineseCLIPTextTower(TCMTextTower):
    """The text tower of Chinese-CLIP: BERT, whose first token is the embedding."""

    def make_encoder(self, encoder_class: Any, text_config: Any) -> Any:
        return encoder_class(text_config, add_pooling_layer=False)

    @property
    def token_embedding(self) -> nn.Module:
        return self.text_model.embeddings.word_embeddings

    def encode(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.text_model(inputs_embeds=tokens).last_hidden_state[:, 0]


class AltCLIPTextTower(TCMTextTower):
    """The text tower of AltCLIP: XLM-RoBERTa, whose first token passes a layer of its own before the projection."""

    def make_projection(self, text_config: Any) -> nn.Module:
        return nn.Linear(text_config.project_dim, self.kind.embedding_dim(text_config), bias=False)

    @property
    def token_embedding(self) -> nn.Module:
        return self.text_model.roberta.embeddings.word_embeddings

    def encode(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.text_model(inputs_embeds=tokens).pooler_output


__all__ = ["AltCLIPTextTower", "CLIPTextTower", "ChineseCLIPTextTower", "SiglipTextTower", "TCMTextTower"]
