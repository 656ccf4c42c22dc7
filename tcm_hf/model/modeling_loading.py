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
"""Loading of checkpoints that never runs code from a pickle file unasked."""

import os

from safetensors import SafetensorError
from torch import nn
from transformers import CLIPConfig, CLIPModel
from transformers.configuration_utils import PreTrainedConfig
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_INDEX_NAME, WEIGHTS_NAME, has_file


def load_safetensors(load, source, *args, use_safetensors: bool | None = None, **kwargs):
    """
    Calls a `from_pretrained` so that no pickle is ever loaded unasked.

    Args:
        load (`Callable`): a bound `from_pretrained`.
        source (`str` or `os.PathLike`): directory or Hub id of the checkpoint.
        use_safetensors (`bool`, *optional*, defaults to `True`): `False` allows weights in a pickle file.
        args, kwargs: passed on.

    Returns:
        `tuple`: the model and the loading information.

    Raises:
        OSError: if there is no such checkpoint, or its weights are damaged or in a pickle file only.
        RuntimeError: if the weights have other sizes than the configuration.
    """
    name = str(source)
    try:
        return load(source, *args, use_safetensors=use_safetensors is not False, output_loading_info=True, **kwargs)
    except SafetensorError as error:
        raise OSError(f"The weights of {name} are damaged ({error}). Get a complete copy of them.") from error
    except RuntimeError as error:
        if "overflow" in str(error):
            raise ValueError(f"The sizes in {CONFIG_NAME} of {name} are beyond all measure.") from error
        if "ignore_mismatched_sizes" not in str(error):
            raise
        raise RuntimeError(
            f"The weights of {name} have other sizes than its {CONFIG_NAME}, or the arguments given beside it, say; the log has "
            "them. `ignore_mismatched_sizes=True` gives those weights random values, to be trained."
        ) from error
    except OSError as error:
        if use_safetensors is False or "safetensors" not in str(error):
            raise
        pickle_file = _find_pickle(name, kwargs)
        if pickle_file is None:
            raise OSError(f"{name} holds no weights: it has no {SAFE_WEIGHTS_NAME}.") from error
        raise OSError(
            f"{name} has its weights in {pickle_file} only. A pickle file can run any code when it is loaded, so it is not. "
            f"If you trust its source, convert it once: `{load.__self__.__name__}.from_pretrained({name!r}, "
            f"use_safetensors=False).save_pretrained(directory)` writes {SAFE_WEIGHTS_NAME}."
        ) from None


def load_clip(source: "str | os.PathLike | CLIPModel") -> CLIPModel:
    """
    Loads a CLIP model of transformers; nothing that is merely like one is taken for it.

    Args:
        source (`str`, `os.PathLike` or `CLIPModel`): the model, or its directory or Hub id.

    Returns:
        `CLIPModel`

    Raises:
        ValueError: if it is another model, or weights are missing.
        OSError: if there is no such checkpoint, or its weights are damaged or in a pickle file only.
    """
    if isinstance(source, CLIPModel):
        return source
    if isinstance(source, nn.Module):
        raise ValueError(f"`from_clip` takes a `CLIPModel` of transformers, got a {type(source).__name__}.")
    model_type = PreTrainedConfig.get_config_dict(source)[0].get("model_type")
    if model_type != CLIPConfig.model_type:
        # transformers would load it with a warning: with another tokenizer's vocabulary, or another architecture.
        raise ValueError(
            f"{source} holds a model of type {model_type!r}; `from_clip` takes CLIP models of transformers (type 'clip') only. "
            "CLIP in the layouts of OpenAI, open_clip and timm is converted by `tcm-hf convert`."
        )
    clip, loading = load_safetensors(CLIPModel.from_pretrained, source)
    if loading["missing_keys"]:
        raise ValueError(
            f"The checkpoint lacks weights of a CLIP model: {sorted(loading['missing_keys'])[:5]} and others. "
            "`from_clip` needs a CLIP model in transformers' layout."
        )
    return clip


def _find_pickle(name: str, load_kwargs: dict) -> str | None:
    """Name of the pickle file with weights that a checkpoint holds, if any."""
    arguments = ("revision", "proxies", "token", "local_files_only", "cache_dir")
    hub_kwargs = {key: load_kwargs[key] for key in arguments if key in load_kwargs}
    subfolder = load_kwargs.get("subfolder") or ""
    for file in (WEIGHTS_NAME, WEIGHTS_INDEX_NAME):
        path = os.path.join(subfolder, file)
        try:
            if has_file(name, path, **hub_kwargs):
                return path
        except OSError:
            return None
    return None
