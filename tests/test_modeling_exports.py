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
"""Graphs that are recorded once and run with images of other sizes: `torch.export`, ONNX, `torch.jit.trace`, compilation."""

import os

import numpy as np
import pytest
import torch
from tiny_model import tiny_detector

from tcm_hf.targets import build_db_targets, build_fce_targets, build_pan_targets


os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime would write an id into the home directory

# Of both orientations, of multiples of 32 and not, and what only just has two cells of stride 32.
SIZES = ((96, 128), (70, 101), (131, 40), (64, 64), (33, 65))
# One cell of stride 32 in one or both directions.
SMALL = ((20, 45), (7, 31))
COMBINATIONS = [(tower, detector) for tower in ("resnet", "vit") for detector in ("db", "pan", "fce")]
every_combination = pytest.mark.parametrize("tower, detector", COMBINATIONS)
with_and_without_mask = pytest.mark.parametrize("with_mask", [False, True], ids=["plain", "mask"])


class Maps(torch.nn.Module):
    """A model's maps as a tuple of tensors, which every kind of export can return."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixel_values, pixel_mask=None):
        outputs = self.model(pixel_values=pixel_values, pixel_mask=pixel_mask)
        logits = outputs.logits if isinstance(outputs.logits, tuple) else (outputs.logits,)
        return (*logits, outputs.score_map)


def inputs(size, batch_size, with_mask):
    height, width = size
    pixel_values = torch.randn(batch_size, 3, *size, generator=torch.Generator().manual_seed(1))
    if not with_mask:
        return (pixel_values,)
    mask = torch.zeros(batch_size, *size, dtype=torch.long)
    mask[0, : height * 2 // 3, : width * 3 // 5] = 1
    mask[1:] = 1
    return pixel_values, mask


def example(with_mask):
    """Input of the export: once of multiples of 32, which need no padding, and once not."""
    return inputs((90, 141) if with_mask else (96, 160), 2, with_mask)


def dynamic_shapes(with_mask):
    free = torch.export.Dim.DYNAMIC
    return ({0: free, 2: free, 3: free}, {0: free, 1: free, 2: free})[: 1 + with_mask]


def assert_same_maps(run, model, with_mask, sizes=SIZES):
    for size in sizes:
        for batch_size in (1, 2):
            arguments = inputs(size, batch_size, with_mask)
            with torch.no_grad():
                expected, maps = model(*arguments), run(*arguments)
            assert len(maps) == len(expected)
            for actual, wanted in zip(maps, expected):
                torch.testing.assert_close(
                    torch.as_tensor(np.asarray(actual)),
                    wanted,
                    rtol=1e-3,
                    atol=1e-4,
                    msg=lambda m, size=size: f"{size}: {m}",
                )


# ---------------------------------------------------------------------- recorded once


@every_combination
@with_and_without_mask
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_traced(tower, detector, with_mask):
    model = Maps(tiny_detector(tower, detector))
    traced = torch.jit.trace(model, example(with_mask), check_trace=False)
    assert_same_maps(traced, model, with_mask, SIZES + SMALL)


def slow_but(*quick):
    """Every combination with and without mask, of which only these are quick."""
    return pytest.mark.parametrize(
        "tower, detector, with_mask",
        [
            pytest.param(*combination, with_mask, marks=() if (*combination, with_mask) in quick else pytest.mark.slow)
            for combination in COMBINATIONS
            for with_mask in (False, True)
        ],
    )


@slow_but(("resnet", "db", False), ("vit", "fce", True))
def test_exported(tower, detector, with_mask):
    model = Maps(tiny_detector(tower, detector))
    exported = torch.export.export(model, example(with_mask), dynamic_shapes=dynamic_shapes(with_mask)).module()
    assert_same_maps(exported, model, with_mask)
    # PyTorch takes lengths of 1 for a case of its own: then it refuses, and gives no other maps.
    with pytest.raises(AssertionError, match="Guard failed"):
        exported(*inputs(SMALL[0], 2, with_mask))


@pytest.mark.slow
def test_exported_with_named_sizes():
    """Multiples of 32 alone, as somebody may declare them, and the model's own output class."""
    model = tiny_detector("vit")
    batch = torch.export.Dim("batch")
    height, width = (32 * torch.export.Dim(name, max=40) for name in ("rows", "columns"))
    pixel_values, pixel_mask = inputs((96, 160), 2, True)
    exported = torch.export.export(
        model,
        (),
        {"pixel_values": pixel_values, "pixel_mask": pixel_mask},
        dynamic_shapes={
            "pixel_values": {0: batch, 2: height, 3: width},
            "pixel_mask": {0: batch, 1: height, 2: width},
        },
    ).module()
    for size in ((64, 64), (96, 128)):
        pixel_values, pixel_mask = inputs(size, 1, True)
        with torch.no_grad():
            expected = model(pixel_values, pixel_mask).logits
        actual = exported(pixel_values=pixel_values, pixel_mask=pixel_mask).logits
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@slow_but(("resnet", "pan", False))
def test_onnx(tower, detector, with_mask, tmp_path):
    pytest.importorskip("onnxscript", reason="the exporter to ONNX needs onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime", reason="running ONNX files needs onnxruntime")
    model, path = Maps(tiny_detector(tower, detector)), tmp_path / "model.onnx"
    names = ["pixel_values", "pixel_mask"][: 1 + with_mask]
    shapes = dynamic_shapes(with_mask)
    torch.onnx.export(
        model, example(with_mask), path, input_names=names, dynamo=True, dynamic_shapes=shapes, verbose=False
    )
    session = onnxruntime.InferenceSession(path)

    def run(*arguments):
        return session.run(None, {name: value.numpy() for name, value in zip(names, arguments)})

    assert_same_maps(run, model, with_mask, SIZES + SMALL)


# ---------------------------------------------------------------------- compiled


def targets(detector, height, width):
    polygons = [
        [[8, 8], [40, 8], [40, 30], [8, 30]],
        [[48, 34], [76, 34], [76, 60], [48, 60]],
        [[8, 40], [30, 40], [19, 60]],
    ]
    build = {"db": build_db_targets, "pan": build_pan_targets, "fce": build_fce_targets}[detector]
    maps = build([np.array(polygon, dtype=np.float64) for polygon in polygons], [False, False, True], height, width)
    empty = build([], [], height, width)
    return {name: torch.from_numpy(np.stack([value, empty[name]])) for name, value in maps.items()}


@pytest.fixture
def dynamo():
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize(
    "detector, dynamic, training",
    [
        ("db", True, True),
        ("fce", None, False),
        pytest.param("db", None, False, marks=pytest.mark.slow),
        pytest.param("fce", True, True, marks=pytest.mark.slow),
    ],
)
def test_compiled_with_labels_in_one_graph(detector, dynamic, training, dynamo):
    model = tiny_detector("resnet", detector, decoder_dropout=0.0).train(training)
    compiled = torch.compile(model, fullgraph=True, backend="eager", dynamic=dynamic)
    for size in ((64, 96), (70, 101)):
        x, labels = inputs(size, 2, False)[0], targets(detector, *size)
        with torch.no_grad():
            expected = model(x, labels=labels).loss_dict
            terms = compiled(x, labels=labels).loss_dict
        torch.testing.assert_close(terms, expected, rtol=1e-4, atol=1e-5)


def gradients(model, run, x, labels):
    model.zero_grad()
    run(x, labels=labels).loss.backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("detector", ["db", "fce"])
def test_gradients_of_a_compiled_model(detector, dynamo):
    model, x, labels = tiny_detector("resnet", detector), inputs((64, 96), 2, False)[0], targets(detector, 64, 96)
    expected = gradients(model, model, x, labels)
    actual = gradients(model, torch.compile(model, fullgraph=True, backend="eager"), x, labels)
    scale = max(gradient.abs().max() for gradient in expected.values())
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-5 * float(scale))


def test_loss_of_pan_is_no_single_graph(dynamo):
    model, x, labels = tiny_detector("resnet", "pan"), inputs((64, 96), 2, False)[0], targets("pan", 64, 96)
    with pytest.raises(Exception, match="PAN's loss cannot be one graph: compile for training with fullgraph=False"):
        torch.compile(model, fullgraph=True, backend="eager")(x, labels=labels)


@pytest.mark.slow
def test_loss_of_pan_with_several_graphs(dynamo):
    model, x, labels = tiny_detector("resnet", "pan"), inputs((64, 96), 2, False)[0], targets("pan", 64, 96)
    expected = model(x, labels=labels)
    torch.testing.assert_close(torch.compile(model, backend="eager")(x, labels=labels).loss, expected.loss)
    torch._dynamo.reset()
    inference = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(inference(x).logits, expected.logits)
