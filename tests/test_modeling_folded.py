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
"""The fast path of inference gives what the usual path gives, and leaves everything else as it was."""

import copy
import importlib.util
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import tiny_config
from torch import nn

from tcm_hf import TCMConfig, TCMForTextDetection
from tcm_hf.model import modeling_clip_folded, modeling_fused_convolution
from tcm_hf.model.detectors import detector_names, find_detector
from tcm_hf.model.modeling_clip_folded import plain_attention
from tcm_hf.model.modeling_folded import DerivedWeights, FoldedModule, fold
from tcm_hf.model.modeling_fused_convolution import convolution, has_fused_convolution, pack
from tcm_hf.model.modeling_tcm import FOLDED_MODULES
from tcm_hf.model.modeling_tcm_db import DBBranch, DBDetector, DBNeck


VIT = {
    "model_type": "clip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 16,
    "projection_dim": 32,
}


def random_model(smoothing_channels=None, context_kernel=None, **fields) -> TCMForTextDetection:
    """As after training: no normalization is the identity."""
    values = tiny_config().to_dict()
    values["detector_config"].update(smoothing_channels=smoothing_channels, context_kernel=context_kernel)
    if fields.get("detector", "db") != "db":
        values["detector_config"] = {"neck_channels": 16}
    torch.manual_seed(0)
    model = TCMForTextDetection(TCMConfig(**{**values, **fields})).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return model


def picture(*sizes, height, width):
    """Images with noise in their padding, and the mask, which is `None` without sizes."""
    pixels = torch.randn(max(len(sizes), 1), 3, height, width, generator=torch.Generator().manual_seed(1))
    if not sizes:
        return pixels, None
    mask = torch.zeros(len(sizes), height, width, dtype=torch.long)
    for image, (rows, columns) in zip(mask, sizes):
        image[:rows, :columns] = 1
    return pixels, mask


INPUTS = {
    "whole": picture(height=64, width=96),
    "odd": picture(height=50, width=91),
    "nothing padded": picture((64, 96), height=64, width=96),
    "batch": picture((96, 128), (52, 70), height=96, width=128),
    # Padding ends on the grid of stride 8, of stride 16, and on none: DB's head enlarges levels accordingly.
    "stride 8": picture((72, 40), height=96, width=64),
    "stride 16": picture((80, 48), height=96, width=64),
    "stride 4": picture((76, 44), height=96, width=64),
}


def tensors(outputs):
    levels = outputs.logits if isinstance(outputs.logits, tuple) else (outputs.logits,)
    return [
        x for x in (*levels, outputs.score_map, outputs.text_embeddings, outputs.visual_embeddings) if x is not None
    ]


@torch.no_grad()
def assert_same(model, reference, pixels, mask, tolerance=2e-5):
    ours, expected = model(pixels, mask), reference(pixels, mask)
    for a, b in zip(tensors(ours), tensors(expected), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        scale = max(float(b.abs().max()), 1.0)
        assert (a - b).abs().max() <= tolerance * scale
    assert (ours.image_sizes is None) == (expected.image_sizes is None)
    assert mask is None or torch.equal(ours.image_sizes, expected.image_sizes)


@pytest.mark.parametrize("fused", [True, False], ids=["fused convolutions", "without them"])
@pytest.mark.parametrize("smoothing_channels", [None, 5], ids=["", "narrow smoothing"])
@pytest.mark.parametrize("name", INPUTS)
def test_db(name, smoothing_channels, fused, monkeypatch):
    if not fused:
        monkeypatch.setattr(modeling_fused_convolution, "_POINTWISE", None)
    elif not has_fused_convolution(torch.float32):
        pytest.skip("this build of PyTorch has no convolution with an epilogue")
    reference = random_model(smoothing_channels)
    model = copy.deepcopy(reference).optimize_for_inference()
    pixels, mask = INPUTS[name]
    before = pixels.clone()
    assert_same(model, reference, pixels, mask)
    assert torch.equal(pixels, before)  # zeros go into a copy
    # Once more, now with everything folded, and as a map in the other memory format.
    assert_same(model, reference, pixels.contiguous(memory_format=torch.channels_last), mask)


@pytest.mark.parametrize(
    "fields",
    [
        {"detector": "pan"},
        {"detector": "fce"},
        {"text_side": False},
        {"prompt_generator": "meta_query"},
        {"vision_config": VIT, "pyramid_channels": 16},
        {"vision_config": {**tiny_config().vision_config.to_dict(), "attention_reduction": 2}},
        {"vision_config": {**tiny_config().vision_config.to_dict(), "downsampling": "convolution"}},
        {"context_kernel": 5},
        {"context_kernel": 5, "smoothing_channels": 5},
    ],
    ids=[
        "pan",
        "fce",
        "no text side",
        "meta query",
        "vit",
        "reduced attention",
        "strides",
        "context",
        "narrow context",
    ],
)
def test_other_models(fields):
    reference = random_model(**fields)
    model = copy.deepcopy(reference).optimize_for_inference()
    for name in ("whole", "batch"):
        assert_same(model, reference, *INPUTS[name])


def test_hidden_states_are_not_overwritten():
    reference = random_model()
    model = copy.deepcopy(reference).optimize_for_inference()
    with torch.no_grad():
        states = [
            m(INPUTS["batch"][0], INPUTS["batch"][1], output_hidden_states=True).hidden_states
            for m in (model, reference)
        ]
    for a, b in zip(*states, strict=True):
        assert (a - b).abs().max() < 1e-5 * max(1.0, float(b.abs().max()))


@pytest.mark.parametrize("detector", detector_names("targets"))
@pytest.mark.parametrize("name", ["batch", "odd"])
def test_losses_without_gradients(detector, name):
    reference = random_model(detector=detector)
    model = copy.deepcopy(reference).optimize_for_inference()
    pixels, mask = INPUTS[name]
    quad = np.array([[12.0, 20.0], [60.0, 20.0], [60.0, 44.0], [12.0, 44.0]])
    maps = find_detector(detector).part("targets")([quad], [False], *pixels.shape[-2:])
    labels = {key: torch.from_numpy(np.stack([value] * len(pixels))) for key, value in maps.items()}
    with torch.no_grad():
        ours, expected = model(pixels, mask, labels=labels), reference(pixels, mask, labels=labels)
    torch.testing.assert_close(ours.loss_dict, expected.loss_dict, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("smoothing_channels, has_instructions", [(None, True), (8, True), (8, False)])
def test_half_precision(smoothing_channels, has_instructions, monkeypatch):
    if not has_instructions:  # of this precision, in the processor
        monkeypatch.setattr(modeling_fused_convolution, "_HAS_BFLOAT16", lambda: False)
        assert not has_fused_convolution(torch.bfloat16)
    reference = random_model(smoothing_channels)
    model = copy.deepcopy(reference).to(torch.bfloat16).optimize_for_inference()
    with torch.no_grad():
        ours, expected = model(*INPUTS["batch"]).logits, reference(*INPUTS["batch"]).logits
    assert ours.dtype == torch.bfloat16
    assert (ours.float() - expected).abs().max() < 0.05 * expected.abs().max()


def test_it_is_taken_and_left_where_it_should():
    model = random_model().optimize_for_inference()
    layer, x = model.model.vision_tower.stem[1], torch.zeros(1, 4, 8, 8)
    calls = []
    layer.norm.register_forward_hook(lambda *arguments: calls.append(1))
    with torch.no_grad():
        assert layer.is_fast(x)
        layer(x)
    assert not calls
    layer(x)  # with gradients
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        layer(x)
    model.train()
    with torch.no_grad():
        layer(x)
    assert len(calls) == 3
    model.eval()
    with torch.no_grad():
        layer(x)
    assert len(calls) == 3
    with torch.device("meta"):
        other = TCMForTextDetection(tiny_config())
    assert not any(isinstance(module, FoldedModule) for module in other.optimize_for_inference().modules())


def test_changed_weights_are_folded_anew():
    reference = random_model(smoothing_channels=8)
    model = copy.deepcopy(reference).optimize_for_inference()
    pixels, mask = INPUTS["batch"]
    assert_same(model, reference, pixels, mask)
    for change in (
        lambda m: m.load_state_dict({key: value * 1.1 for key, value in m.state_dict().items()}),
        lambda m: m.detector.probability_branch[1].weight.mul_(0.5),
        lambda m: m.train().detector.neck.lateral_convs[0].weight.data.mul_(0.5),
        lambda m: m.detector.neck.reduce_convs[0].weight.mul_(0.5),
        lambda m: m.model.vision_tower.stem[0].norm.running_mean.add_(1.0),
        lambda m: m.to(torch.float64).to(torch.float32),
    ):
        with torch.no_grad():
            before = model(pixels, mask).logits
            for each in (model, reference):
                change(each)
                each.eval()
            assert_same(model, reference, pixels, mask)
    assert (before - model(pixels, mask).logits).abs().max() < 1e-3  # the last change is none


def test_changes_by_way_of_data_want_another_call():
    reference = random_model()
    model = copy.deepcopy(reference).optimize_for_inference()
    pixels, mask = INPUTS["batch"]
    with torch.no_grad():
        before = model(pixels, mask).logits
        for each in (model, reference):
            for name, parameter in each.named_parameters():
                if name.endswith("weight"):
                    parameter.data.mul_(1.1)
    model.optimize_for_inference()
    assert_same(model, reference, pixels, mask)
    assert (before - model(pixels, mask).logits).abs().max() > 0.01


def test_weights_made_in_inference_mode():
    with torch.inference_mode():
        reference = random_model()
        model = copy.deepcopy(reference).optimize_for_inference()
        assert next(model.parameters()).is_inference()
        for _ in range(2):
            assert_same(model, reference, *INPUTS["batch"])
            for each in (model, reference):
                for tensor in (*each.parameters(), *each.model.vision_tower.stem[0].norm.buffers()):
                    tensor.mul_(1.1 if tensor.is_floating_point() else 1)


class Adapted(nn.Module):
    """An adapter around a layer, with the layer's weight as its own."""

    weight = property(lambda self: self.base_layer.weight)
    bias = property(lambda self: self.base_layer.bias)

    def __init__(self, layer):
        super().__init__()
        self.base_layer = layer

    def forward(self, x):
        return self.base_layer(x) * 1.5


@pytest.mark.parametrize("smoothing_channels", [None, 5])
@pytest.mark.parametrize(
    "layer",
    [
        "model.vision_tower.stem.0.conv",
        "model.vision_tower.stages.1.blocks.0.conv2.norm",
        "model.vision_tower.stages.1.blocks.0.conv3.conv",
        "model.vision_tower.stages.1.blocks.0.shortcut.conv",
        "model.vision_tower.attention_pool.v_proj",
        "detector.neck.lateral_convs.1",
        "detector.neck.smooth_convs.0",
        "detector.probability_branch.0",
        "detector.probability_branch.3",
        "detector.probability_branch.6",
    ],
)
def test_layers_that_are_not_pytorchs_own_are_called(layer, smoothing_channels):
    reference = random_model(smoothing_channels)
    model = copy.deepcopy(reference).optimize_for_inference()
    assert_same(model, reference, *INPUTS["stride 8"])  # they are wrapped when all is folded already
    for each in (model, reference):
        each.set_submodule(layer, Adapted(each.get_submodule(layer)))
        each.eval()
    for name in ("whole", "stride 8"):
        assert_same(model, reference, *INPUTS[name])


def test_other_blocks_are_called():
    reference = random_model()
    model = copy.deepcopy(reference).optimize_for_inference()
    for each in (model, reference):
        for name in ("model.vision_tower.stages.1.blocks.0.shortcut", "detector.probability_branch"):
            each.set_submodule(name, nn.Sequential(*each.get_submodule(name).children()))
    assert_same(model, reference, *INPUTS["whole"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_quantized_layers():
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        pytest.skip("this build of PyTorch has no quantized layers")
    reference = torch.ao.quantization.quantize_dynamic(random_model(), {nn.Linear}, dtype=torch.qint8)
    model = copy.deepcopy(reference).optimize_for_inference()
    assert type(model.model.vision_tower.attention_pool.q_proj) is not nn.Linear
    # Products of 8 bits jump with the last bit of their input.
    assert_same(model, reference, *INPUTS["batch"], tolerance=0.02)


def test_derived_weights_of_threads_that_interleave():
    """Another thread's `get` runs to its end wherever something is computed or kept."""

    class Interrupted(DerivedWeights):
        waiting = False

        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            self.interrupt()

        def interrupt(self):
            if self.waiting:
                type(self).waiting = False
                assert self.get(("other",), lambda: "other") == "other"

    weights = Interrupted()

    def compute():
        weights.interrupt()
        return "first"

    def compute_alone():
        Interrupted.waiting = True  # the interruption comes when the result is kept
        return "first"

    for function in (compute, compute_alone):
        weights.get(("other",), lambda: "other")
        Interrupted.waiting = function is compute
        assert weights.get(("first",), function) == "first" and not Interrupted.waiting
        # What is kept now belongs to the state that is kept with it.
        assert weights.get(("first",), lambda: "first") == "first"
        assert weights.get(("other",), lambda: "other") == "other"


def test_training_goes_on_as_before():
    results = []
    for prepare in (False, True):
        model = random_model()
        pixels, mask = INPUTS["batch"]
        model.to(memory_format=torch.channels_last)
        if prepare:
            model.optimize_for_inference()
            with torch.no_grad():
                model(pixels, mask)
        model.train()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        model(pixels, mask).logits.square().mean().backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        results.append((gradient, model.model.vision_tower.stages[1].blocks[0].conv2.norm.running_mean))
    for a, b in zip(*results):
        assert (a - b).abs().max() <= 1e-6 * b.abs().max()


@pytest.mark.parametrize("detector", ["db", "pan"])
def test_modules_are_replaced_and_put_back(detector):
    model = random_model(detector=detector)
    classes = {name: type(module) for name, module in model.named_modules()}
    weights = {name: id(tensor) for name, tensor in (*model.named_parameters(), *model.named_buffers())}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def folded():
        assert {name: id(t) for name, t in (*model.named_parameters(), *model.named_buffers())} == weights
        return {name: type(module) for name, module in model.named_modules() if isinstance(module, FoldedModule)}

    assert not folded() and model.optimize_for_inference() is model
    replaced = folded()
    # The models themselves stay what they are: their names stand in what is saved.
    assert {classes[name] for name in replaced} == set(FOLDED_MODULES) - (
        {DBNeck, DBBranch, DBDetector} if detector == "pan" else set()
    )
    assert all(issubclass(replaced[name], classes[name]) for name in replaced)
    with torch.no_grad():
        before = model(*INPUTS["whole"]).logits
    model.train()
    assert {name: type(module) for name, module in model.named_modules()} == classes
    assert not any("folded" in vars(module) for module in model.modules())
    model(*INPUTS["whole"]).logits.square().mean().backward()
    optimizer.step()
    model.eval()
    assert folded() == replaced
    with torch.no_grad():
        assert (model(*INPUTS["whole"]).logits - before).abs().max() > 1e-6  # learned
    # What is optimized while it is trained is folded when it is evaluated.
    model = random_model(detector=detector).train().optimize_for_inference()
    assert not any(isinstance(module, FoldedModule) for module in model.modules())
    assert sum(isinstance(module, FoldedModule) for module in model.eval().modules()) == len(replaced)
    # A part that is trained by itself takes the usual path, whoever prepared it.
    model.model.train()
    assert not any(isinstance(module, FoldedModule) for module in model.model.modules())
    assert any(isinstance(module, FoldedModule) for module in model.model.eval().modules())


def test_private_operators_are_called_in_one_file():
    package = Path(modeling_fused_convolution.__file__).resolve().parents[1]
    private = re.compile(r"torch\.(ops|_C)\b")
    found = [file.name for file in package.rglob("*.py") if private.search(file.read_text(encoding="utf-8"))]
    assert found == ["modeling_fused_convolution.py"]


def test_saving_copying_and_pickling(tmp_path):
    reference = random_model()
    model = copy.deepcopy(reference).optimize_for_inference()
    pixels, mask = INPUTS["whole"]
    with torch.no_grad():
        model(pixels, mask)
    assert list(model.state_dict()) == list(reference.state_dict())
    model.save_pretrained(tmp_path)
    loaded = TCMForTextDetection.from_pretrained(tmp_path)
    for key, value in reference.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
    with torch.no_grad():
        for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert [type(module) for module in copied.modules()] == [type(module) for module in model.modules()]
            copied.model.vision_tower.stem[0].conv.weight.mul_(2.0)
            assert_same(model, reference, pixels, mask)


def test_fold_of_a_transposed_convolution():
    torch.manual_seed(0)
    conv, norm = nn.ConvTranspose2d(6, 4, 2, stride=2), nn.BatchNorm2d(4).eval()
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.weight, 0.5, 2.0)
    x = torch.randn(1, 6, 5, 7)
    weight, bias = fold(conv, norm)
    assert torch.allclose(nn.functional.conv_transpose2d(x, weight, bias, stride=2), norm(conv(x)), atol=1e-5)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "public operations"])
@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("relu", [True, False])
@torch.no_grad()
def test_convolution(relu, overwrite, fused, memory_format, monkeypatch):
    if not fused:
        monkeypatch.setattr(modeling_fused_convolution, "_PACK", None)
    torch.manual_seed(0)
    x, residual = torch.randn(2, 4, 9, 8), torch.randn(2, 6, 5, 4).contiguous(memory_format=memory_format)
    weight, bias, kept = torch.randn(6, 4, 3, 3), torch.randn(6), residual.clone()
    expected = nn.functional.conv2d(x, weight, bias, stride=2, padding=1) + residual
    weight = pack(weight.contiguous(memory_format=torch.channels_last), x.shape, stride=2, padding=1)
    y = convolution(x, weight, bias, stride=2, padding=1, relu=relu, residual=residual, overwrite=overwrite)
    assert torch.allclose(y, expected.relu() if relu else expected, atol=1e-5)
    assert overwrite or torch.equal(residual, kept)


@pytest.mark.parametrize("prompt_generator", ["conditional", "meta_query"])
def test_the_benchmark_compares_equal_models(prompt_generator):
    path = Path(__file__).resolve().parents[1] / "benchmarks" / "forward.py"
    spec = importlib.util.spec_from_file_location("benchmark_forward", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    rows = benchmark.variants_of(random_model(prompt_generator=prompt_generator))
    seconds, logits = benchmark.measure(rows, INPUTS["whole"][0], repetitions=1)
    assert [len(times) for times in seconds] == [1] * len(rows)
    for (name, *_), output in zip(rows, logits):
        tolerance = 0.1 if "bf16" in name else 2e-5
        assert (output - logits[0]).abs().max() <= tolerance * logits[0].abs().max(), name
    # The first row has the layers that the formulas have and that a single key makes superfluous.
    layer = rows[0][1].model.visual_prompt_generator.layers[0]
    assert isinstance(layer.cross_attention, benchmark.FullCrossAttention) and isinstance(layer.norm2, nn.LayerNorm)
    assert any("constant text" in name for name, *_ in rows) == (prompt_generator == "meta_query")


@pytest.mark.parametrize("at_a_time", [1024, 3])
def test_plain_attention(at_a_time, monkeypatch):
    """Against PyTorch's own attention, with keys that the mask hides."""
    monkeypatch.setattr(modeling_clip_folded, "QUERIES_AT_A_TIME", at_a_time)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 7, 8, generator=generator) for _ in range(3))
    mask = torch.zeros(2, 1, 1, 7)
    mask[1, ..., 4:] = torch.finfo(mask.dtype).min
    for bias in (None, mask):
        heads = [x.unflatten(-1, (4, 2)).transpose(1, 2) for x in (query, key, value)]
        expected = nn.functional.scaled_dot_product_attention(*heads, attn_mask=bias).transpose(1, 2).flatten(2)
        torch.testing.assert_close(plain_attention(query, key, value, 4, bias), expected)
