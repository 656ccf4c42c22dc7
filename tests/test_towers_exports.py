# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""Graphs of detectors on towers of every family: `torch.export`, and ONNX as `tcm-hf export onnx` makes it."""

import copy

import pytest
import torch
from test_modeling_exports import dynamic_shapes, example, inputs
from tiny_towers import BACKBONES, DUAL_ENCODERS, detector_on


# Of both orientations, of multiples of 32 and not, and larger than what was recorded.
SIZES = ((96, 128), (70, 101), (131, 40), (64, 64), (128, 224))


def close(actual, expected, size):
    """Logits, and what they are as probabilities, in which large logits do not count."""
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4, msg=lambda text: f"{size}: {text}")
    torch.testing.assert_close(
        actual.sigmoid(), expected.sigmoid(), rtol=0, atol=1e-4, msg=lambda text: f"{size}: {text}"
    )


class Logits(torch.nn.Module):
    """The maps alone, which every export can return."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixel_values, pixel_mask=None):
        return self.model(pixel_values=pixel_values, pixel_mask=pixel_mask).logits


def quick(*names):
    """Every family, of which only these are quick; text towers come with those that have one."""
    families = (*DUAL_ENCODERS, *BACKBONES)
    marked = [pytest.param(family, marks=[] if family in names else [pytest.mark.slow]) for family in families]
    return pytest.mark.parametrize("family", marked)


@quick("siglip2")
def test_exported(family):
    model = Logits(detector_on(family))
    exported = torch.export.export(model, example(True), dynamic_shapes=dynamic_shapes(True)).module()
    for size in SIZES:
        arguments = inputs(size, 2, True)
        with torch.no_grad():
            close(exported(*arguments), model(*arguments), size)


@quick("resnet")
def test_onnx(family, tmp_path):
    for package in ("onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason=f"ONNX needs {package}")
    from tcm_hf.export.folder import MANIFEST_NAME, export_network
    from tcm_hf.export.runtime import load_network

    model = detector_on(family)
    # In double precision: on AltCLIP the model's own float32 is farther from it than ONNX Runtime's.
    reference = copy.deepcopy(model).double()
    exported = export_network(model, "onnx")
    exported.config = None
    exported.save_pretrained(tmp_path)
    assert (tmp_path / MANIFEST_NAME).is_file()
    network = load_network(tmp_path, 1)
    for size in SIZES:
        for batch_size in (1, 2):
            pixel_values, pixel_mask = inputs(size, batch_size, True)
            (maps,) = network({"pixel_values": pixel_values.numpy(), "pixel_mask": pixel_mask.numpy()}).values()
            with torch.no_grad():
                expected = reference(pixel_values.double(), pixel_mask).logits.float()
            close(torch.from_numpy(maps), expected, size)
