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
"""Which words CLIP's text side finds most like the pixels of an image."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch


# What scenes show, and what detectors take for text.
WORDS = (
    "text letters word number sign poster billboard label logo advertisement book newspaper document screen menu graffiti "
    "building house shop window door wall brick roof street road sidewalk bridge fence stairs pole tree grass flower "
    "sky cloud water mountain sand snow person face hand crowd dog cat bird car bus truck bicycle train boat airplane "
    "table chair bottle cup food fruit clothes shoe bag box machine keyboard wheel lamp metal wood glass shadow light"
).split()
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "tokenizer_config.json")


def load_tokenizer(pipeline, source: str | None = None) -> Any:
    """
    The tokenizer of a model's text tower.

    Args:
        pipeline ([`TextDetectionPipeline`]): of the model.
        source (`str`, *optional*): directory or Hub id; by default the model's own directory, where it has one.

    Returns:
        the tokenizer of transformers; `None` without `source` where the model's directory has none.

    Raises:
        ValueError, OSError: if `source` has none.
    """
    from transformers import AutoTokenizer

    own = Path(str(pipeline.model.name_or_path))
    if source is None and not any((own / name).is_file() for name in TOKENIZER_FILES):
        return None
    return AutoTokenizer.from_pretrained(str(own) if source is None else source, trust_remote_code=False)


def embed_words(model, tokenizer, words: Sequence[str]) -> torch.Tensor:
    """
    Embeddings of words by a model's text tower, each in the place of the prompt, after the learned context vectors.

    Args:
        model ([`TCMForTextDetection`]): with its text tower. What its prompt generator adds is left out.
        tokenizer: of that tower.
        words (`Sequence[str]`): words or phrases.

    Returns:
        `torch.Tensor`: (words, embedding_dim), on the CPU, not normalized.

    Raises:
        ValueError: if the model has no text tower, a word is too long, or the tokenizer is that of another vocabulary.
    """
    config, tower = model.config, getattr(model.model, "text_tower", None)
    if tower is None:
        reason = "keeps one text embedding instead of" if config.text_side else "has no text side, and so lacks"
        raise ValueError(f"the model {reason} the text tower that words need")
    longest = config.text_tower.positions(config.text_config) - config.num_context_vectors
    by_length: dict[int, list[int]] = defaultdict(list)
    ids = tokenizer(list(words))["input_ids"]
    for index, tokens in enumerate(ids):
        if max(tokens) >= config.text_config.vocab_size or not 2 <= len(tokens) <= longest:
            raise ValueError(
                f"{words[index]!r} becomes {len(tokens)} tokens up to number {max(tokens)}; the text tower takes {longest} "
                f"tokens below {config.text_config.vocab_size}: choose its own tokenizer, or shorter words"
            )
        by_length[len(tokens)].append(index)
    embeddings = torch.zeros(len(ids), config.embedding_dim)
    with torch.inference_mode():
        for members in by_length.values():
            tokens = torch.tensor([ids[index] for index in members], device=model.device)
            embeddings[members] = tower(prompt_token_ids=tokens)[0].float().cpu()
    return embeddings


def similar_words(
    maps, words: Sequence[str], embeddings: torch.Tensor, cells: np.ndarray | None = None, top: int = 5
) -> list[tuple[str, float]]:
    """
    The words that are most like an image, or a part of it.

    Args:
        maps ([`ImageMaps`]): of the image.
        words (`Sequence[str]`): the words.
        embeddings (`torch.Tensor`): of [`embed_words`].
        cells (`np.ndarray`, *optional*): bool of the matching map's shape: the part that counts; by default the whole image.
        top (`int`, *optional*, defaults to 5): how many words.

    Returns:
        `list[tuple[str, float]]`: words and their mean cosine with the pixels' embeddings, highest first; none where the part
        is empty.
    """
    shape = maps.matching().shape
    cells = np.ones(shape, dtype=bool) if cells is None else cells
    if not cells.any():
        return []
    rows, columns = shape
    pixels = maps.outputs.visual_embeddings[0, :, :rows, :columns].float()[:, torch.from_numpy(cells)]
    normalize = torch.nn.functional.normalize
    cosines = (normalize(embeddings, dim=1) @ normalize(pixels, dim=0)).mean(1)
    best = cosines.argsort(descending=True)[:top].tolist()
    return [(words[index], float(cosines[index])) for index in best]
