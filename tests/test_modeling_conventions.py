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
"""What transformers asks of every model: attention that is chosen for each part, refused arguments, documented ones."""

import inspect
import re

import pytest
import torch
from tiny_model import VIT, tiny_config
from transformers import AutoBackbone, AutoModel, PreTrainedModel
from transformers.utils import TransformersKwargs

from tcm_hf import CLIPResNetBackbone, CLIPResNetConfig, CLIPResNetModel, TCMConfig, TCMForTextDetection, TCMModel
from tcm_hf.model.modeling_clip_vit import CLIPViTModel


TOWERS = {"resnet": {}, "vit": {"vision_config": VIT, "pyramid_channels": 16}}
everywhere = pytest.mark.parametrize("tower", TOWERS)
every_class = pytest.mark.parametrize("model_class", [TCMModel, TCMForTextDetection])
IMPLEMENTATIONS = [
    {"": "eager", "vision_config": "sdpa", "text_config": "sdpa"},
    {"": "sdpa", "vision_config": "eager", "text_config": "sdpa"},
    {"": "sdpa", "vision_config": "sdpa", "text_config": "eager"},
]


def config(tower: str = "resnet") -> TCMConfig:
    return TCMConfig(**{**tiny_config().to_dict(), **TOWERS[tower]})


def implementations(model) -> dict[str, str]:
    """What each part's models compute attention with, which has to be what their configurations say."""
    model = model.base_model
    parts = {"": model, "vision_config": model.vision_tower, "text_config": model.text_model}
    for name, part in parts.items():
        assert isinstance(part, PreTrainedModel) and part._supports_sdpa
        assert part.config is (getattr(model.config, name) if name else model.config)
    return {name: part.config._attn_implementation for name, part in parts.items()}


def everything(implementation: str) -> dict[str, str]:
    return dict.fromkeys(("", "vision_config", "text_config"), implementation)


# Attention functions of the parts


@everywhere
@every_class
def test_attention_function_of_a_loaded_model(model_class, tower, tmp_path):
    model_class(config(tower)).save_pretrained(tmp_path)
    assert implementations(model_class.from_pretrained(tmp_path)) == everything("sdpa")
    model = model_class.from_pretrained(tmp_path, attn_implementation="eager")
    assert implementations(model) == everything("eager")
    # Also those that a part has inside of itself.
    attention = [module for module in model.modules() if type(module).__name__.endswith("Attention")]
    assert attention and all(module.config._attn_implementation == "eager" for module in attention)
    for wanted in IMPLEMENTATIONS:
        assert implementations(model_class.from_pretrained(tmp_path, attn_implementation=wanted)) == wanted


@everywhere
@every_class
def test_attention_function_of_a_new_model(model_class, tower):
    for wanted in IMPLEMENTATIONS:
        tcm_config = config(tower)
        tcm_config._attn_implementation = wanted
        assert implementations(model_class(tcm_config)) == wanted
        assert implementations(model_class._from_config(config(tower), attn_implementation=wanted)) == wanted


@everywhere
@every_class
def test_attention_function_is_changed(model_class, tower):
    model = model_class(config(tower))
    model.set_attn_implementation("eager")
    assert implementations(model) == everything("eager")
    for part in ("", "vision_config", "text_config"):
        model.set_attn_implementation({part: "sdpa"})
        assert implementations(model) == {**everything("eager"), part: "sdpa"}
        model.set_attn_implementation({part: "eager"})
    with pytest.raises(ValueError, match="attn_implementation"):
        model.set_attn_implementation("no_such_attention")


@everywhere
def test_part_with_its_own_attention_function_gives_the_same(tower):
    torch.manual_seed(0)
    model = TCMForTextDetection(config(tower)).eval()
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = model(x).logits
        for wanted in IMPLEMENTATIONS:
            model.set_attn_implementation(wanted)
            outputs = model(x, output_attentions=True)
            torch.testing.assert_close(outputs.logits, expected, rtol=1e-4, atol=1e-5)
            # Each part gives the weights that it has.
            assert bool(outputs.attentions) == (wanted["vision_config"] == "eager")
            assert bool(outputs.visual_prompt_attentions) == (wanted[""] == "eager")


# Lengths of what is returned


@everywhere
@every_class
def test_hidden_states_and_attentions_are_the_image_towers(model_class, tower):
    torch.manual_seed(0)
    tcm_config = config(tower)
    model = model_class._from_config(tcm_config, attn_implementation="eager").eval()
    x, asked = torch.randn(1, 3, 64, 64), {"output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        outputs, plain = model(x, **asked), model(x)
        expected = model.base_model.vision_tower(x, **asked)
        for name in ("hidden_states", "attentions"):
            torch.testing.assert_close(outputs[name], expected[name], rtol=0, atol=0)
            assert name not in plain
        # The ViT attends in each layer; the ResNet in the pooling of its last map.
        layers = tcm_config.vision_config.num_hidden_layers if tower == "vit" else 4
        assert len(outputs.hidden_states) == layers + 1
        assert len(outputs.attentions) == (layers if tower == "vit" else 1)
        model.config.output_hidden_states = model.config.output_attentions = True
        assert [len(model(x)[name]) for name in ("hidden_states", "attentions")] == [
            len(outputs[name]) for name in ("hidden_states", "attentions")
        ]


# Arguments


def models():
    tcm_config, tower_config = config(), CLIPResNetConfig(width=8, depths=[1, 1, 1, 1], projection_dim=12)
    vit_config = config("vit").vision_config
    return {
        "TCMModel": TCMModel(tcm_config),
        "TCMForTextDetection": TCMForTextDetection(tcm_config),
        "CLIPResNetModel": AutoModel.from_config(tower_config),
        "CLIPResNetBackbone": AutoBackbone.from_config(tower_config),
        "CLIPViTModel": CLIPViTModel(vit_config, pyramid_channels=16),
    }


def test_arguments_are_known_or_refused():
    x = torch.randn(1, 3, 64, 64)
    for name, model in models().items():
        assert type(model).__name__ == name
        with pytest.raises(
            TypeError, match=rf"{name}\.forward\(\) got an unexpected keyword argument 'pixel_value'; did you mean"
        ):
            model(x, pixel_value=x)
        with pytest.raises(
            TypeError, match=rf"{name}\.forward\(\) .* keyword argument 'zzz'; it takes pixel_values, "
        ):
            model(x, zzz=None)
        # What transformers may pass to every model is no error, and has no effect.
        ignored = set(TransformersKwargs.__annotations__) - set(inspect.signature(model.forward).parameters)
        assert ignored
        with torch.no_grad():
            expected = model.eval()(x)
            for argument in sorted(ignored):
                outputs = model(x, **{argument: None})
                assert list(outputs) == list(expected), argument


@pytest.mark.parametrize(
    "model_class", [TCMModel, TCMForTextDetection, CLIPResNetModel, CLIPResNetBackbone, CLIPViTModel]
)
def test_every_argument_is_documented(model_class):
    """In the form of transformers' docstrings: the names of the signature, in its order, each with its type."""
    for function in (model_class.forward, model_class):
        text = inspect.cleandoc(function.__doc__)
        documented = re.search(r"^Args:\n(.*?)(?:\n\n\w|\Z)", text, re.DOTALL | re.MULTILINE)[1]
        names = re.findall(r"^    (\w+)(?: \(`[^)]+\))?:", documented, re.MULTILINE)
        signature = inspect.signature(function.__init__ if isinstance(function, type) else function)
        assert names == list(signature.parameters)[1:]
    kwargs = inspect.signature(model_class.forward).parameters["kwargs"]
    assert "TransformersKwargs" in str(kwargs.annotation)
