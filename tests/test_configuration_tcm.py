# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
import dataclasses
import json
import re

import pytest
from tiny_model import tiny_config
from transformers import (
    AutoConfig,
    AutoModelForObjectDetection,
    CLIPSegTextConfig,
    CLIPTextConfig,
    CLIPVisionConfig,
    GroupViTTextConfig,
    ViTConfig,
)
from transformers.configuration_utils import PreTrainedConfig

from tcm_hf import TCMForTextDetection
from tcm_hf.model.configuration_tcm import CLIPResNetConfig, TCMConfig
from tcm_hf.model.configuration_towers import PROMPT_TOKEN_IDS
from tcm_hf.model.detectors import DBSettings, PANSettings


VIT = {
    "model_type": "clip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 16,
    "projection_dim": 32,
}


def config(**fields) -> TCMConfig:
    return TCMConfig(**{**tiny_config().to_dict(), **fields})


@pytest.mark.parametrize("config_class", [CLIPResNetConfig, TCMConfig])
def test_documented_defaults_are_the_real_ones(config_class):
    documented = dict(
        re.findall(r"^        (\w+) \(.*\*optional\*(?:, defaults to `?(.*?)`?)?\):$", config_class.__doc__, re.M)
    )
    inherited = {field.name for field in dataclasses.fields(PreTrainedConfig)} - {"text_config"}
    own = {field.name: field.default for field in dataclasses.fields(config_class) if field.name not in inherited}
    assert set(documented) >= set(own) and len(own) >= 7
    for name in documented:
        # What a backbone gives out is no field.
        default = own[name] if name in own else getattr(config_class(), name)
        assert (eval(documented[name]) if documented[name] else None) == default, name


def test_default_is_the_released_model():
    tcm = TCMConfig()
    assert isinstance(tcm.vision_config, CLIPResNetConfig) and isinstance(tcm.text_config, CLIPTextConfig)
    assert tcm.vision_config.channels == [256, 512, 1024, 2048]
    assert tcm.vision_config.num_attention_heads == 32
    assert tcm.text_config.projection_dim == tcm.vision_config.projection_dim == 1024
    assert tcm.detector_config == DBSettings.defaults()
    assert tcm.id2label == {0: "text"} and tcm.num_labels == 1


@pytest.mark.parametrize("vision", [tiny_config().vision_config.to_dict(), VIT], ids=["resnet", "vit"])
def test_round_trip_through_json(vision, tmp_path):
    tcm = config(
        vision_config=vision, detector_config={"neck_channels": 32}, prompt_generator="meta_query", temperature=1
    )
    tcm.save_pretrained(tmp_path)
    again = TCMConfig.from_pretrained(tmp_path)
    assert again.to_dict() == tcm.to_dict()
    assert type(again.vision_config) is type(tcm.vision_config)
    assert again.detector_config["head_channels"] == 64  # filled in
    written = json.loads((tmp_path / "config.json").read_text())
    assert (written["model_type"], written["vision_config"]["model_type"]) == ("tcm", vision["model_type"])
    # The towers' configurations can be had by themselves.
    for part in (tcm.vision_config, tcm.text_config):
        assert type(part).from_pretrained(tmp_path).to_dict() == part.to_dict()


def test_fields_can_be_changed_on_loading(tmp_path):
    config(detector_config={"neck_channels": 32}).save_pretrained(tmp_path)

    def load(**fields):
        return TCMConfig.from_pretrained(tmp_path, **fields)

    assert not load(text_side=False).text_side
    wide = load(text_config={"vocab_size": 200})
    assert (wide.text_config.vocab_size, wide.text_config.hidden_size) == (200, 32)
    # What is left out stays as it was saved, ...
    settings = load(detector_config={"head_channels": 8}).detector_config
    assert (settings["neck_channels"], settings["head_channels"], settings["negative_ratio"]) == (32, 8, 3.0)
    # ... but not where it belongs to what has changed.
    assert load(detector="pan").detector_config == PANSettings.defaults()
    with pytest.raises(Exception, match="`prompt` 'signs'"):
        load(prompt="signs")
    assert load(prompt="signs", prompt_token_ids=[0, 7, 99]).prompt_token_ids == [0, 7, 99]
    assert load(prompt=config().prompt).prompt_token_ids == config().prompt_token_ids
    with pytest.raises(Exception, match="`prompt_generator`"):
        load(prompt_generator="prefix")
    for wrong in ({"num_labels": 5}, {"id2label": {0: "text", 1: "logo"}}):
        with pytest.raises(Exception, match="`num_labels`"):
            load(**wrong)
    assert load(num_labels=1).id2label == {0: "text"} and load(id2label={0: "word"}).id2label == {0: "word"}
    changed, unused = load(temperature=0.1, return_unused_kwargs=True, colour="red")
    assert (changed.temperature, unused) == (0.1, {"colour": "red"})


def test_configurations_of_the_towers_may_be_objects():
    vit = CLIPVisionConfig(**VIT)
    assert config(vision_config=vit).vision_config is vit
    text = CLIPTextConfig(projection_dim=32)
    assert config(text_config=text).text_config is text


def test_classes_of_the_towers():
    assert TCMConfig.sub_configs == {"vision_config": CLIPResNetConfig, "text_config": CLIPTextConfig}
    for vision, expected in ((None, CLIPResNetConfig), (VIT, CLIPVisionConfig)):
        tcm = config(**({"vision_config": vision} if vision else {}))
        assert tcm.sub_configs == {"vision_config": expected, "text_config": CLIPTextConfig}
        assert all(type(getattr(tcm, name)) is cls for name, cls in tcm.sub_configs.items())
        assert TCMConfig.from_dict(tcm.to_dict()).sub_configs["vision_config"] is expected


@pytest.mark.parametrize("as_object", [True, False])
@pytest.mark.parametrize(
    "name, tower",
    [("text_config", CLIPSegTextConfig), ("text_config", GroupViTTextConfig), ("vision_config", ViTConfig)],
)
def test_other_towers_are_refused(name, tower, as_object):
    tower = tower() if as_object else tower().to_dict()
    model_type = tower.model_type if as_object else tower["model_type"]
    with pytest.raises(ValueError, match=rf"Unknown `{name}.model_type` '{model_type}'; known types: .*clip_"):
        config(**{name: tower})


def test_ids_are_of_their_vocabulary():
    text = {"projection_dim": 1024}
    assert TCMConfig(text_config=text).prompt_token_ids[0] == 49406
    with pytest.raises(Exception, match="No token ids are known.*vocabulary of 901629.*`prompt_token_ids`"):
        TCMConfig(text_config={**text, "vocab_size": 901629})
    assert TCMConfig(text_config={**text, "vocab_size": 901629}, prompt_token_ids=[0, 7, 2]).prompt_token_ids == [
        0,
        7,
        2,
    ]
    assert not TCMConfig(text_config={**text, "vocab_size": 901629}, text_side=False).text_side


@pytest.mark.parametrize("auto", [AutoConfig, AutoModelForObjectDetection, TCMConfig])
def test_number_of_labels(auto, tmp_path):
    TCMForTextDetection(config()).save_pretrained(tmp_path)
    for wrong in ({"num_labels": 5}, {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}}):
        with pytest.raises(ValueError, match="one class, text: `num_labels` has to be 1, got [25]"):
            auto.from_pretrained(tmp_path, **wrong)
    named = auto.from_pretrained(tmp_path, num_labels=1, id2label={0: "word"}, label2id={"word": 0})
    named = getattr(named, "config", named)
    assert (named.id2label, named.label2id, named.num_labels) == ({0: "word"}, {"word": 0}, 1)


def test_instances_share_nothing():
    first, second = config(), config()
    first.detector_config["neck_channels"] = 1
    first.vision_config.width = 2
    assert (second.detector_config["neck_channels"], second.vision_config.width) == (32, 8)
    assert DBSettings().neck_channels == 256


def test_attention_implementation_reaches_the_towers():
    tcm = config(vision_config=VIT, attn_implementation="eager")
    parts = (tcm, tcm.text_config, tcm.vision_config)
    assert [part._attn_implementation for part in parts] == ["eager"] * 3
    tcm._attn_implementation = "sdpa"
    assert [part._attn_implementation for part in parts] == ["sdpa"] * 3
    tcm._attn_implementation = {"text_config": "eager"}
    assert [part._attn_implementation for part in parts] == ["sdpa", "eager", "sdpa"]


def test_prompts():
    for prompt, ids in PROMPT_TOKEN_IDS.items():
        assert TCMConfig(prompt=prompt).prompt_token_ids == ids
        assert (ids[0], ids[-1]) == (49406, 49407)  # CLIP's start and end
    assert TCMConfig(prompt="signs", prompt_token_ids=[49406, 7, 49407]).prompt_token_ids == [49406, 7, 49407]


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"detector": "east"}, "Unknown `detector` 'east'.*'db'"),
        ({"detector_config": {"neck_chanels": 1}}, r"\['neck_chanels'\].*neck_channels"),
        ({"detector_config": {"smoothing_channels": 0}}, "`smoothing_channels`.*0"),
        ({"detector_config": {"context_kernel": 4}}, "`context_kernel`.*odd.*4"),
        ({"vision_config": {"downsampling": "stride"}}, "`downsampling`.*'stride'"),
        ({"prompt_generator": "prefix"}, "`prompt_generator`.*'prefix'"),
        ({"prompt": "signs", "prompt_token_ids": None}, "`prompt` 'signs'.*`prompt_token_ids`"),
        ({"prompt_token_ids": [0, 100]}, "`prompt_token_ids`.*`text_config.vocab_size`=100"),
        ({"prompt_token_ids": [0]}, "start and an end"),
        ({"prompt_token_ids": [0, 7, 99, 99]}, "go on after their end token.*without padding"),
        ({"num_context_vectors": 13}, "`num_context_vectors`=13.*together 17.*=16"),
        ({"vision_config": {"projection_dim": 64}}, "`text_config.projection_dim`=32.*=64"),
        ({"vision_config": {"model_type": "swin"}}, "`vision_config.model_type` 'swin'.*clip_resnet"),
        ({"vision_config": {"depths": [1, 1, 1]}}, "`depths` needs four"),
        ({"vision_config": {"width": 7}}, "`width`.*7"),
        ({"vision_config": {"width": 8, "num_attention_heads": 3}}, "`num_attention_heads`=3"),
        ({"vision_config": {"attention_reduction": 0}}, "`attention_reduction`.*0"),
        ({"vision_config": {"image_size": 31}}, "`image_size`.*31"),
        ({"decoder_attention_heads": 3}, "`decoder_hidden_size`=32.*=3"),
        ({"decoder_layers": 0}, "`decoder_layers`"),
        ({"num_context_vectors": -1}, "`num_context_vectors`"),
        ({"temperature": 0}, "`temperature`"),
        ({"fused_text": True}, "`fused_text`.*conditional"),
        ({"decoder_layers": "three"}, "decoder_layers"),
        ({"decoder_attention_heads": 0}, "`decoder_attention_heads`.*0"),
        ({"decoder_hidden_size": 0}, "`decoder_hidden_size`.*0"),
        ({"decoder_ffn_dim": 0}, "`decoder_ffn_dim`.*0"),
        ({"decoder_dropout": 1.0}, "`decoder_dropout`.*1.0"),
        ({"prompt_generator_act": "nope"}, "`prompt_generator_act` 'nope'.*'relu'"),
        ({"pyramid_channels": 0}, "`pyramid_channels`.*0"),
        ({"vision_config": {"num_attention_heads": 0}}, "`num_attention_heads`.*0"),
        ({"vision_config": {"num_channels": 0}}, "`num_channels`.*0"),
        ({"detector_config": {"neck_channels": "64"}}, "`neck_channels` of `detector_config`.*at least 4, got '64'"),
        ({"detector_config": {"neck_channels": 3}}, "`neck_channels`.*3"),
        ({"detector_config": {"head_channels": None}}, "`head_channels`.*None"),
        ({"detector": "fce", "detector_config": {"fourier_degree": 0}}, "`fourier_degree`.*0"),
        ({"detector": "pan", "detector_config": {"embedding_channels": 0}}, "`embedding_channels`.*0"),
        ({"detector": "pan", "detector_config": {"num_enhancements": 1.5}}, "`num_enhancements`.*1.5"),
        ({"num_labels": 5}, "`num_labels` has to be 1, got 5"),
    ],
)
def test_wrong_settings_are_named(fields, message):
    with pytest.raises(Exception, match="(?s)" + message):
        config(**fields)


def test_without_text_side_its_settings_do_not_matter():
    tcm = config(text_side=False, prompt="signs", prompt_token_ids=None, decoder_attention_heads=3)
    assert not tcm.text_side
