# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
import copy
import math
import re

import pytest
import torch
from tiny_model import VIT, tiny_config
from torch import nn
from torch.nn import functional as F
from transformers import (
    CLIPTextModelWithProjection,
    CLIPVisionModelWithProjection,
)
from transformers.modeling_layers import GradientCheckpointingLayer

from tcm_hf import TCMForTextDetection, TCMModel, register_detector
from tcm_hf.model.configuration_tcm import TCMConfig
from tcm_hf.model.detectors import DBSettings, unregister_detector
from tcm_hf.model.modeling_tcm import TCMTextDetectionOutput
from tcm_hf.model.modeling_tcm_db import DBDetector
from tcm_hf.model.modeling_tcm_prompts import PromptAttention


TOWERS = {"resnet": {}, "vit": {"vision_config": VIT, "pyramid_channels": 16}}
ABLATIONS = {
    "tcm": {},
    "fast_tcm": {"prompt_generator": "meta_query"},
    "no_prompt_generator": {"prompt_generator": None},
    "no_context_decoder": {"context_decoder": False},
    "no_visual_prompt": {"visual_prompt": False},
    "matching_only": {
        "prompt_generator": None,
        "context_decoder": False,
        "visual_prompt": False,
        "num_context_vectors": 0,
    },
    "no_auxiliary_loss": {"auxiliary_loss_weight": 0},
    "no_text_side": {"text_side": False},
}
everywhere = pytest.mark.parametrize("tower", TOWERS)
every_ablation = pytest.mark.parametrize("ablation", ABLATIONS)


def config(**fields) -> TCMConfig:
    return TCMConfig(**{**tiny_config().to_dict(), **fields})


def random_model(tower="resnet", seed=0, model_class=TCMForTextDetection, **fields):
    """A model whose every weight, scale and running statistic matters."""
    torch.manual_seed(seed)
    model = model_class(
        config(**{"context_scale_init": 0.8, "visual_prompt_scale_init": 0.7, **TOWERS[tower], **fields})
    )
    for tensor in model.state_dict().values():
        if tensor.is_floating_point() and tensor.dim() == 1:
            tensor.add_(0.2 * torch.rand_like(tensor))
    return model.eval()


def random_labels(batch_size, height, width):
    def random(probability=None):
        values = torch.rand(batch_size, height, width)
        return values if probability is None else (values < probability).to(torch.uint8)

    return {
        "shrink_map": random(0.2),
        "shrink_mask": random(0.9),
        "threshold_map": random(),
        "threshold_mask": random(0.3),
    }


def masked(canvas, *sizes):
    """Pixel mask of images of the given (height, width) on a canvas."""
    mask = torch.zeros(len(sizes), *canvas, dtype=torch.long)
    for i, (height, width) in enumerate(sizes):
        mask[i, :height, :width] = 1
    return mask


# Outputs


@everywhere
@pytest.mark.parametrize("height, width", [(64, 96), (50, 75)])
def test_shapes(tower, height, width):
    model = random_model(tower)
    with torch.no_grad():
        outputs = model(torch.randn(2, 3, height, width), output_hidden_states=True)
        features = model.model(torch.randn(2, 3, height, width))
    assert outputs.logits.shape == (2, 1, height, width)
    assert outputs.score_map.shape == (2, 1, 2, 3)
    assert outputs.text_embeddings.shape == (2, 1, 32)
    assert outputs.visual_embeddings.shape == (2, 32, 2, 3)
    assert outputs.loss is None and outputs.image_sizes is None and outputs.attentions is None
    assert len(outputs.hidden_states) == (5 if tower == "resnet" else 3)
    channels = [32, 64, 128, 257] if tower == "resnet" else [16, 16, 16, 17]
    assert [tuple(x.shape) for x in features.feature_maps] == [
        (2, c, 64 // s, 96 // s) for c, s in zip(channels, (4, 8, 16, 32))
    ]
    assert model.model.channels == channels
    assert torch.equal(features.last_hidden_state, features.feature_maps[-1])
    assert torch.equal(features.last_hidden_state[:, -1:], features.score_map)
    assert model(torch.randn(1, 3, 32, 32), return_dict=False)[0].shape == (1, 1, 32, 32)


def test_sizes_of_the_pictures():
    mask = masked((64, 96), (64, 96), (33, 1), (50, 70))
    outputs = random_model()(torch.randn(3, 3, 64, 96), pixel_mask=mask)
    assert outputs.image_sizes.tolist() == [[64, 96], [33, 1], [50, 70]]
    assert outputs.image_sizes.dtype == torch.long


@everywhere
def test_matching_map_is_a_cosine(tower):
    outputs = random_model(tower)(torch.randn(2, 3, 64, 96))
    text = outputs.text_embeddings[:, 0, :, None, None].expand_as(outputs.visual_embeddings)
    expected = torch.cosine_similarity(outputs.visual_embeddings, text, dim=1)
    torch.testing.assert_close(outputs.score_map[:, 0], expected)
    assert outputs.score_map.abs().max() <= 1


def test_a_seed_gives_the_weights_that_it_always_gave():
    """All weights come from one pass over the whole model, in which the tower takes its turn."""
    torch.manual_seed(0)
    model = TCMForTextDetection(tiny_config())
    first = model.model.vision_tower.stem[0].conv.weight.flatten()[:4]
    last = model.detector.probability_branch[0].weight.flatten()[:4]
    assert torch.allclose(first, torch.tensor([-0.0474, 0.1368, -0.0081, -0.0210]), atol=1e-4)
    assert torch.allclose(last, torch.tensor([-0.1181, -0.0194, 0.1437, 0.0905]), atol=1e-4)


def test_hidden_states_by_index():
    model, x = random_model(), torch.randn(1, 3, 64, 64)
    everything = model(x, output_hidden_states=True).hidden_states
    for selection, kept in (([0, -1], {0, 4}), (2, {2}), ([7], set())):
        chosen = model(x, output_hidden_states=selection).hidden_states
        assert [i for i, state in enumerate(chosen) if state is not None] == sorted(kept)
        assert all(torch.equal(chosen[i], everything[i]) for i in kept)
    model.config.output_hidden_states = True
    assert len(model(x).hidden_states) == 5 and model(x, output_hidden_states=False).hidden_states is None


@everywhere
def test_attention_weights(tower):
    model = random_model(tower, attn_implementation="eager", decoder_layers=2)
    x, mask = torch.randn(2, 3, 64, 96), masked((64, 96), (64, 96), (64, 40))
    outputs = model(x, mask, output_attentions=True, output_hidden_states=True)
    prompts = outputs.visual_prompt_attentions
    assert [tuple(weights.shape) for weights in prompts] == [(2, 2, 6, 6)] * 2
    # The image tower's: a ViT has them in every layer, a ResNet in its attention pooling alone.
    shape, columns = ((2, 4, 7, 7), 3) if tower == "resnet" else ((2, 2, 25, 25), 6)
    assert [tuple(weights.shape) for weights in outputs.attentions] == [shape] * (1 if tower == "resnet" else 2)
    if tower == "vit":
        assert (
            len(outputs.attentions) == len(outputs.hidden_states) - 1 == model.config.vision_config.num_hidden_layers
        )
        assert {len(state[0]) for state in outputs.hidden_states} == {25}
    for weights, first, last in ((prompts[0], 0, 2), (outputs.attentions[0], 1, columns // 2 + columns % 2)):
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        # The second image ends with its second column of cells, so that what comes after is never looked at.
        cells = weights[1, :, :, first:].unflatten(-1, (-1, 3 if first == 0 else columns))
        assert (cells[..., last:] == 0).all() and (cells[..., :last] > 0).all()
    # Asking for them changes nothing else.
    torch.testing.assert_close(outputs.logits, model(x, mask).logits)
    torch.testing.assert_close(outputs.hidden_states, model(x, mask, output_hidden_states=True).hidden_states)
    assert random_model(tower)(x, output_attentions=True).attentions == ()
    assert model(x, output_attentions=True, return_dict=False)


def test_no_attention_without_text_side():
    outputs = random_model(attn_implementation="eager", text_side=False)(
        torch.randn(1, 3, 32, 32), output_attentions=True
    )
    assert outputs.attentions == outputs.visual_prompt_attentions == ()


@pytest.mark.parametrize("model_class", [TCMForTextDetection, TCMModel])
def test_unknown_arguments_are_refused(model_class):
    model, x = random_model(model_class=model_class), torch.randn(1, 3, 32, 32)
    mask = masked((32, 32), (20, 32))
    with pytest.raises(TypeError, match="unexpected keyword argument 'pixel_maks'; did you mean 'pixel_mask'"):
        model(x, pixel_maks=mask)
    for name in ("label", "output_hidden_state", "images", "interpolate_pos_encoding"):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
            model(x, **{name: None})
    # What transformers passes to every model.
    expected = model(x, mask)
    outputs = model(x, pixel_mask=mask, num_items_in_batch=torch.tensor(1), return_dict=True, use_cache=False)
    assert all(torch.equal(outputs[name], expected[name]) for name in ("score_map", "text_embeddings"))


def test_unusable_input():
    model = random_model()
    with pytest.raises(ValueError, match=r"`pixel_values`.*\(3, 64, 64\)"):
        model(torch.randn(3, 64, 64))
    with pytest.raises(ValueError, match=r"`pixel_mask`.*\(2, 64, 96\).*\(2, 96, 64\)"):
        model(torch.randn(2, 3, 64, 96), pixel_mask=torch.ones(2, 96, 64, dtype=torch.long))


# An image by itself and in a batch


@everywhere
@every_ablation
def test_padding_changes_nothing(tower, ablation):
    model = random_model(tower, **ABLATIONS[ablation])
    sizes = [(50, 75), (64, 96), (33, 96), (1, 40)]
    pictures = [torch.randn(1, 3, *size) for size in sizes]
    batch = torch.randn(4, 3, 96, 128)  # anything in the padding
    for i, (height, width) in enumerate(sizes):
        batch[i, :, :height, :width] = pictures[i]
    with torch.no_grad():
        together = model(batch, masked((96, 128), *sizes))
        for i, (height, width) in enumerate(sizes):
            alone = model(pictures[i])
            torch.testing.assert_close(
                together.logits[i : i + 1, :, :height, :width], alone.logits, rtol=1e-4, atol=1e-5
            )
            if alone.score_map is not None:
                rows, columns = alone.score_map.shape[-2:]
                torch.testing.assert_close(
                    together.score_map[i : i + 1, :, :rows, :columns], alone.score_map, rtol=1e-4, atol=1e-5
                )
                assert not together.score_map[i, :, rows:].any() and not together.score_map[i, :, :, columns:].any()


@pytest.mark.parametrize("detector", ["db", "pan"])
@pytest.mark.parametrize("optimized", [False, True], ids=["usual path", "fast path"])
def test_masks_of_any_type(detector, optimized):
    model = random_model(detector=detector, detector_config=None)
    if optimized:
        model.optimize_for_inference()
    x, mask = torch.randn(2, 3, 64, 96), masked((64, 96), (64, 96), (30, 40))
    with torch.no_grad():
        expected = model(x, mask)
        for other in (mask.float(), mask.half(), mask.bool(), mask.to(torch.uint8) * 255):
            outputs = model(x, other)
            assert (
                torch.equal(outputs.image_sizes, expected.image_sizes) and not outputs.image_sizes.is_floating_point()
            )
            assert torch.equal(outputs.logits, expected.logits)


@everywhere
def test_eager_and_sdpa_agree(tower):
    model = random_model(tower)
    x, mask = torch.randn(2, 3, 64, 96), masked((64, 96), (64, 96), (40, 50))
    with torch.no_grad():
        outputs = []
        for implementation in ("sdpa", "eager"):
            model.set_attn_implementation(implementation)
            parts = (model.config, model.config.vision_config, model.config.text_config)
            assert {part._attn_implementation for part in parts} == {implementation}
            outputs.append(model(x, mask))
    torch.testing.assert_close(outputs[0].logits, outputs[1].logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(outputs[0].score_map, outputs[1].score_map, rtol=1e-4, atol=1e-5)


@everywhere
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("ablation", ["tcm", "no_visual_prompt"])
def test_half_precision(tower, dtype, ablation):
    model = random_model(tower, **ABLATIONS[ablation])
    # The second image leaves whole cells to padding.
    x, mask = torch.randn(2, 3, 64, 96), masked((64, 96), (64, 96), (30, 40))
    labels = random_labels(2, 64, 96)
    with torch.no_grad():
        expected = model(x, mask, labels)
        outputs = model.to(dtype)(x.to(dtype), mask, labels)
    assert outputs.logits.dtype == dtype and outputs.loss.dtype == torch.float32
    assert (outputs.logits.float() - expected.logits).abs().max() < 0.05 * expected.logits.abs().max()
    torch.testing.assert_close(outputs.loss, expected.loss, rtol=0.05, atol=0)


# Towers


def test_vit_tower_is_clips():
    """At the size of its positional table, against transformers' own model."""
    model = random_model("vit").model
    tower = model.vision_tower
    reference = CLIPVisionModelWithProjection(model.config.vision_config).eval()
    reference.vision_model.load_state_dict(tower.vision_model.state_dict())
    reference.visual_projection.load_state_dict(tower.visual_projection.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        output, expected = (each(x, output_hidden_states=True) for each in (tower, reference))
        dense = reference.visual_projection(reference.vision_model.post_layernorm(expected.hidden_states[-1]))[:, 1:]
    torch.testing.assert_close(output.global_embedding, expected.image_embeds)
    torch.testing.assert_close(output.hidden_states, expected.hidden_states)
    dense = F.avg_pool2d(dense.transpose(1, 2).unflatten(2, (4, 4)), 2)
    torch.testing.assert_close(output.dense_embeddings, dense)


@pytest.mark.parametrize("patch_size", [8, 32])
def test_vit_patch_sizes(patch_size):
    model = random_model(vision_config={**VIT, "patch_size": patch_size}, pyramid_channels=16)
    assert model(torch.randn(1, 3, 64, 96)).logits.shape == (1, 1, 64, 96)


def test_patches_that_do_not_fit():
    with pytest.raises(ValueError, match="`vision_config.patch_size`=14.*ViT-B/16"):
        TCMModel(config(vision_config={**VIT, "patch_size": 14, "image_size": 56}))


def test_text_tower_is_clips():
    """Without context vectors, against transformers' own model with the prompt's ids."""
    tower = random_model(num_context_vectors=0).model.text_tower
    reference = CLIPTextModelWithProjection(tower.text_config).eval()
    reference.text_model.load_state_dict(tower.text_model.state_dict())
    reference.text_projection.load_state_dict(tower.text_projection.state_dict())
    with torch.no_grad():
        expected = reference(input_ids=torch.tensor([[0, 5, 6, 99]])).text_embeds
        torch.testing.assert_close(tower()[0], expected)


def test_context_vectors_and_offset():
    """Eq. 3 and 5: [start, context vectors, prompt, end], the generated vector added to each of them."""
    tower = random_model().model.text_tower
    offset = torch.randn(2, 32)
    table = tower.text_model.embeddings.token_embedding.weight
    tokens = torch.cat([table[[0]], tower.context_vectors, table[[5, 6, 99]]])
    reference = CLIPTextModelWithProjection(copy.deepcopy(tower.text_config)).eval()
    reference.text_model.load_state_dict(tower.text_model.state_dict())
    reference.text_projection.load_state_dict(tower.text_projection.state_dict())
    # The sum as a vocabulary of its own, whose last word is the end.
    reference.config.eos_token_id = reference.text_model.eos_token_id = 7
    with torch.no_grad():
        for i in range(2):
            reference.text_model.embeddings.token_embedding = nn.Embedding.from_pretrained(tokens + offset[i])
            expected = reference(input_ids=torch.arange(8)[None]).text_embeds
            torch.testing.assert_close(tower(offset)[i], expected)


# Prompts


def test_bimodal_similarity_matching():
    """FastTCM: s * V + T of unit vectors V and T and their cosine s; T is the same for all images."""
    model = random_model(prompt_generator="meta_query", model_class=TCMModel)
    image = torch.randn(3, 32)
    with torch.no_grad():
        text = model.text_tower(model.prompt_generator(model.meta_query[None]))[0, 0].double().numpy()
        projected = (image @ model.bimodal_projection.weight.T).double().numpy()
        result = model.embed_text(image)[:, 0].double().numpy()
    text /= (text**2).sum() ** 0.5
    for vector, embedding in zip(projected, result):
        vector /= (vector**2).sum() ** 0.5
        assert abs(embedding - ((vector * text).sum() * vector + text)).max() < 1e-5


def test_text_that_no_image_conditions():
    model = random_model(prompt_generator=None, context_decoder=False)
    embeddings = model(torch.randn(2, 3, 64, 64)).text_embeddings
    assert torch.equal(embeddings[0], embeddings[1])
    embeddings = random_model(context_decoder=False)(torch.randn(2, 3, 64, 64)).text_embeddings
    assert (embeddings[0] - embeddings[1]).abs().max() > 1e-4


def test_one_key_needs_no_query():
    """The short form gives what full attention gives, whatever its query and key projections are."""
    torch.manual_seed(0)
    short, full = (PromptAttention(config(), single_key=single).eval() for single in (True, False))
    full.v_proj.load_state_dict(short.v_proj.state_dict())
    full.out_proj.load_state_dict(short.out_proj.state_dict())
    x, memory = torch.randn(2, 6, 32), torch.randn(2, 1, 32)
    expected = full(x, memory)[0]
    torch.testing.assert_close(short(x, memory)[0].expand_as(expected), expected)


def test_scales_weigh_the_prompts():
    x = torch.randn(1, 3, 64, 64)
    none = random_model(context_scale_init=0, visual_prompt_scale_init=0)
    none.model.context_scale.data.zero_()
    without = random_model(context_decoder=False, visual_prompt=False)
    without.load_state_dict(none.state_dict(), strict=False)
    torch.testing.assert_close(none(x).logits, without(x).logits)


@pytest.mark.parametrize("prompt_generator", ["meta_query", None])
def test_stored_text_embedding(prompt_generator, tmp_path):
    model, x = random_model(prompt_generator=prompt_generator), torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = model(x)
        model.model.fuse_text()
        assert torch.equal(model(x).logits, expected.logits)
        assert not any("text_tower" in name for name in model.state_dict())
        model.save_pretrained(tmp_path)
        again = TCMForTextDetection.from_pretrained(tmp_path)
        torch.testing.assert_close(again(x).text_embeddings, expected.text_embeddings)


def test_text_that_cannot_be_stored():
    for fields in ({}, {"text_side": False}):
        with pytest.raises(ValueError, match="`fuse_text` needs"):
            random_model(**fields).model.fuse_text()


# Learning


@everywhere
@every_ablation
def test_every_weight_learns(tower, ablation):
    """A weight without gradient stops plain distributed training."""
    model = TCMForTextDetection(config(**TOWERS[tower], **ABLATIONS[ablation])).train()
    outputs = model(torch.randn(2, 3, 64, 64), masked((64, 64), (64, 64), (50, 40)), random_labels(2, 64, 64))
    outputs.loss.backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []
    assert all(weight.grad.isfinite().all() for weight in model.parameters())
    terms = {"probability", "threshold", "binary"}
    if ablation not in ("no_auxiliary_loss", "no_text_side"):
        terms.add("auxiliary")
    assert set(outputs.loss_dict) == terms
    torch.testing.assert_close(outputs.loss, sum(outputs.loss_dict.values()))


def test_auxiliary_loss_is_weighed_and_tempered():
    x, labels = torch.randn(2, 3, 64, 64), random_labels(2, 64, 64)
    outputs = random_model(auxiliary_loss_weight=3, temperature=0.5)(x, labels=labels)
    logits = F.interpolate(outputs.score_map / 0.5, size=(64, 64), mode="bilinear")[:, 0]
    expected = []
    for image_logits, text, counted in zip(logits, labels["shrink_map"] > 0, labels["shrink_mask"] > 0):
        positive = F.softplus(-image_logits[text & counted])
        negative = F.softplus(image_logits[~text & counted]).topk(3 * len(positive)).values
        expected.append(torch.cat([positive, negative]).mean())
    torch.testing.assert_close(outputs.loss_dict["auxiliary"], 3 * torch.stack(expected).mean(), rtol=1e-4, atol=0)


def test_padding_has_no_loss():
    model, x = random_model(), torch.randn(1, 3, 50, 75)
    labels = random_labels(1, 64, 96)
    expected = model(x, labels={name: value[:, :50, :75] for name, value in labels.items()})
    canvas = torch.randn(1, 3, 64, 96)
    canvas[:, :, :50, :75] = x
    outputs = model(canvas, masked((64, 96), (50, 75)), labels)
    for name, term in expected.loss_dict.items():
        # The matching map is stretched over the whole canvas in both cases.
        torch.testing.assert_close(outputs.loss_dict[name], term, rtol=1e-4, atol=1e-5)


@everywhere
def test_activation_checkpointing_gives_the_same_gradients(tower):
    model = random_model(tower, decoder_dropout=0.1).train()
    x, mask, labels = torch.randn(2, 3, 64, 64), masked((64, 64), (64, 64), (50, 40)), random_labels(2, 64, 64)
    gradients = []
    for again in (False, True):
        if again:
            model.activation_checkpointing_enable()
            layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
            assert all(layer.gradient_checkpointing for layer in layers)
            assert {"PromptDecoderLayer", "CLIPEncoderLayer"} <= {type(layer).__name__ for layer in layers}
        torch.manual_seed(5)
        model.zero_grad()
        model(x, mask, labels).loss.backward()
        gradients.append([weight.grad.clone() for weight in model.parameters()])
    torch.testing.assert_close(*gradients)


@everywhere
def test_autocast(tower):
    model = random_model(tower).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model(torch.randn(2, 3, 64, 64), masked((64, 64), (64, 64), (50, 40)), random_labels(2, 64, 64))
    outputs.loss.backward()
    assert outputs.logits.dtype == torch.bfloat16 and outputs.loss.dtype == torch.float32
    assert all(weight.grad.isfinite().all() for weight in model.parameters())


@everywhere
def test_adapters_get_gradients_from_the_input(tower):
    """With all weights of a tower frozen, re-entrant activation checkpointing needs an input that has gradients."""
    model = random_model(tower, text_side=False)
    assert model.get_input_embeddings() is model.model.vision_tower.input_layer
    model.requires_grad_(False)
    model.enable_input_require_grads()
    seen = []
    model.get_input_embeddings().register_forward_hook(lambda module, inputs, output: seen.append(output))
    model(torch.randn(1, 3, 64, 96)).logits.sum().backward()
    assert seen[0].grad_fn is None and seen[0].grad.shape[0] == 1


def test_frozen_text_tower():
    model = random_model()
    model.freeze_text_tower()
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    assert frozen and all(name.startswith("model.text_tower.text_") for name in frozen)
    assert model.model.text_tower.context_vectors.requires_grad
    random_model(text_side=False).freeze_text_tower()  # nothing to freeze


def test_trainer_divides_the_loss():
    # With keyword arguments and labels, the Trainer would otherwise take the loss for a sum.
    assert TCMForTextDetection.accepts_loss_kwargs is False


# Weights: initialization, saving, loading


def test_initial_values():
    torch.manual_seed(0)
    model = TCMForTextDetection(config(prompt_generator="meta_query", context_scale_init=0.5)).model
    assert torch.equal(model.context_scale, torch.full((32,), 0.5)) and model.visual_prompt_scale == 1e-3
    assert torch.equal(model.bimodal_projection.weight, torch.eye(32))
    for stage in model.vision_tower.stages:
        for block in stage.blocks:  # starts as its shortcut
            assert not block.conv3.norm.weight.any() and block.conv1.norm.weight.all()
    assert 0.01 < model.text_tower.context_vectors.std() < 0.03
    assert 0.7 / 16 < model.vision_tower.attention_pool.position_embedding.std() < 1.3 / 16
    assert 0.5 < model.meta_query.std() < 1.5
    weight = model.vision_tower.stages[3].blocks[0].conv1.conv.weight
    assert math.isclose(weight.std().item(), (2 / weight.shape[0]) ** 0.5, rel_tol=0.05)


@everywhere
def test_missing_weights_are_initialised_as_in_a_new_model(tower):
    fields = {**TOWERS[tower], "prompt_generator": "meta_query"}
    torch.manual_seed(0)
    new = TCMForTextDetection(config(**fields))
    loaded = TCMForTextDetection.from_pretrained(None, config=config(**fields), state_dict={})
    for (name, weight), (_, expected) in zip(loaded.state_dict().items(), new.state_dict().items()):
        if not weight.is_floating_point() or weight.numel() < 200:
            continue
        assert torch.allclose(weight.std(), expected.std(), rtol=0.4), name
    for name, buffer in new.named_buffers():  # those that are not saved, too
        assert torch.equal(loaded.get_buffer(name), buffer), name
    x = torch.randn(1, 3, 64, 64)
    assert loaded(x).logits.isfinite().all()


@everywhere
@every_ablation
def test_save_and_load(tower, ablation, tmp_path):
    model, x = random_model(tower, **ABLATIONS[ablation]), torch.randn(1, 3, 64, 96)
    model.save_pretrained(tmp_path)
    again, info = TCMForTextDetection.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    with torch.no_grad():
        torch.testing.assert_close(again(x).logits, model(x).logits, rtol=1e-4, atol=1e-5)


def test_another_detector_on_a_saved_model(tmp_path):
    model = random_model()
    model.save_pretrained(tmp_path)
    again, info = TCMForTextDetection.from_pretrained(tmp_path, detector="pan", output_loading_info=True)
    assert again.detector.settings["embedding_channels"] == 4
    assert all(name.startswith("detector.") for name in info["missing_keys"])
    plain, info = TCMForTextDetection.from_pretrained(
        tmp_path, text_side=False, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert not info["missing_keys"] and plain.model.vision_tower.attention_pool is None
    # The neck read the score map beside the tower's last map.
    assert [name for name, *_ in info["mismatched_keys"]] == ["detector.neck.lateral_convs.3.weight"]
    # Its weight is as random as one that is missing.
    assert plain.missing_weights == ("detector.neck.lateral_convs.3.weight",)


@pytest.mark.parametrize("statistic", ["running_mean", "running_var"])
def test_statistics_that_float16_cannot_hold(statistic, tmp_path, caplog):
    model = random_model()
    getattr(model.detector.probability_branch[1], statistic)[0] = 7e7
    model.save_pretrained(tmp_path)
    for dtype in (torch.float32, torch.bfloat16):
        TCMForTextDetection.from_pretrained(tmp_path, dtype=dtype).check_running_statistics()
    assert "float16" not in caplog.text
    half = TCMForTextDetection.from_pretrained(tmp_path, dtype=torch.float16)
    message = rf"`detector\.probability_branch\.1\.{statistic}`.*float32 or bfloat16"
    assert re.search(message, caplog.text)
    with pytest.raises(ValueError, match=message):
        half.check_running_statistics()


@everywhere
def test_offloaded_weights(tower, tmp_path):
    model, x = random_model(tower), torch.randn(1, 3, 64, 96)
    model.save_pretrained(tmp_path)
    offloaded = TCMForTextDetection.from_pretrained(
        tmp_path, device_map={"model": "disk", "detector": "cpu"}, offload_folder=tmp_path / "offload"
    )
    assert {weight.device.type for weight in offloaded.model.parameters()} == {"meta"}
    with torch.no_grad():
        torch.testing.assert_close(offloaded(x).logits, model(x).logits, rtol=1e-4, atol=1e-5)


@everywhere
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7])
@pytest.mark.parametrize("fused", [False, True])
def test_weights_spread_by_size(tower, share, fused, tmp_path):
    """Half-precision weights, of which memory holds a part: as `device_map="auto"` does where a device is too small."""
    model, x = random_model(tower, prompt_generator="meta_query"), torch.randn(1, 3, 50, 75)
    if fused:
        model.model.fuse_text()
    with torch.no_grad():
        for value in model.state_dict().values():
            value.copy_(value.half())
        expected = model(x).logits
    size = model.get_memory_footprint()
    model.half().save_pretrained(tmp_path)
    spread = TCMForTextDetection.from_pretrained(
        tmp_path,
        device_map="auto",
        max_memory={"cpu": int(share * size)},
        offload_folder=tmp_path / "offload",
        dtype=torch.float32,
    )
    assert "disk" in spread.hf_device_map.values()
    with torch.no_grad():
        torch.testing.assert_close(spread(x).logits, expected, rtol=1e-3, atol=1e-3)


# Detectors of one's own


def test_detector_of_ones_own(tmp_path):
    class Doubled(DBDetector):
        def forward(self, *args, **kwargs):
            return {name: self.settings["factor"] * x for name, x in super().forward(*args, **kwargs).items()}

    register_detector("doubled", Doubled, {**DBSettings.defaults(), "factor": 2})
    try:
        model, x = random_model(), torch.randn(1, 3, 64, 64)
        model.save_pretrained(tmp_path)
        doubled = TCMForTextDetection.from_pretrained(
            tmp_path, detector="doubled", detector_config={"neck_channels": 32, "head_channels": 16}
        )
        torch.testing.assert_close(doubled(x).logits, 2 * model(x).logits)
        assert isinstance(doubled(x, labels=random_labels(1, 64, 64)), TCMTextDetectionOutput)
    finally:
        unregister_detector("doubled")
