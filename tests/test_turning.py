# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""Images on their side, which are looked at a second time."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_model import black_picture, find_white, tiny_detector, tiny_pipeline

from tcm_hf import TCMImageProcessor, TextDetectionPipeline, checkpoint_path
from tcm_hf.checkpoints import checkpoint_names
from tcm_hf.cli import main
from tcm_hf.data.formats import read_dataset
from tcm_hf.export import runtime
from tcm_hf.model.modeling_outputs import TCMTextDetectionOutput
from tcm_hf.model.turning import count_directions, look_again
from tcm_hf.training.evaluation import evaluate_records


# Whoever sees only what is wide misses the narrow bars of an image on its side, and not those of the upright one.
WIDE = 20
BARS = [(10, 10, 33, 109), (60, 10, 71, 109), (90, 10, 101, 109), (130, 20, 141, 159), (160, 20, 185, 159)]
LINES = [(10, 10, 109, 21), (10, 40, 109, 51), (130, 40, 229, 60)]


def see_wide(pixel_values, pixel_mask=None, **kwargs) -> TCMTextDetectionOutput:
    """`find_white` of what is at least `WIDE` pixels wide: it is blind to thin bars, and to thin lines on their side."""
    outputs = find_white(pixel_values, pixel_mask)
    white = (outputs.logits > 0).float()
    runs = -torch.nn.functional.max_pool2d(-white, (1, WIDE), 1)  # where a run of white begins
    wide = torch.nn.functional.max_pool2d(torch.nn.functional.pad(runs, (WIDE - 1, WIDE - 1)), (1, WIDE), 1)
    return TCMTextDetectionOutput(logits=torch.where(wide > 0, 2.1972246, -8.0), image_sizes=outputs.image_sizes)


@pytest.fixture
def seeing(monkeypatch):
    """A pipeline that sees what is wide, and the sizes of the images that its model was given."""
    pipe = tiny_pipeline(1024, unclip_ratio=0.0, threshold=0.6)
    sizes = []
    monkeypatch.setattr(
        pipe.model,
        "forward",
        lambda pixel_values, **kw: (sizes.append(tuple(pixel_values.shape[2:])), see_wide(pixel_values, **kw))[1],
    )
    return pipe, sizes


def boxes(texts):
    return sorted(tuple(text["box"].values()) for text in texts)


def test_directions_are_counted_of_what_is_sure_large_and_long():
    logits = np.full((200, 300), -8.0, dtype=np.float32)
    logits[10:20, 10:60] = 3.0  # wide
    logits[40:60, 10:40] = 3.0  # just wide enough
    logits[40:60, 60:89] = 3.0  # not quite
    logits[100:160, 10:20] = 3.0  # tall
    logits[100:160, 40:50] = 0.4  # a probability of 0.599
    logits[100:160, 60:70] = 0.42  # and of 0.603: tall
    logits[180:183, 100:119] = 3.0  # 57 pixels
    assert count_directions(logits) == (2, 2)
    assert count_directions(logits.T) == (2, 2)
    assert count_directions(np.full((20, 30), -8.0)) == (0, 0)


def test_a_second_look_counts_where_it_finds_as_much():
    tall = np.full((100, 60), -8.0)
    tall[10:60, 10:20] = tall[10:60, 30:40] = 3.0
    better = np.full((60, 100), -8.0)  # turned counterclockwise, with another word
    better[40:50, 10:60] = better[20:30, 10:60] = better[2:8, 40:90] = 3.0
    found = look_again(tall, lambda: better)
    np.testing.assert_array_equal(found, np.rot90(better, -1))
    assert (found[10:60, 10:20] > 0).all(), "it lies where the first look saw it"
    assert look_again(tall, lambda: np.full((60, 100), -8.0)) is None

    def fail():
        raise AssertionError("an upright image costs no second look")

    assert look_again(np.rot90(tall), fail) is None
    assert look_again(np.full((10, 10), -8.0), fail) is None


def test_pipeline_finds_what_only_shows_upright(seeing):
    pipe, sizes = seeing
    image = black_picture(240, 180, *BARS)
    assert boxes(pipe(image)) == [BARS[0], BARS[4]] and sizes == [(180, 240)]
    sizes.clear()
    assert boxes(pipe(image, do_turn=True)) == sorted(BARS) and sizes == [(180, 240), (240, 180)]
    sizes.clear()
    pipe.image_processor.do_turn = True
    upright = black_picture(260, 100, *LINES)
    assert boxes(pipe(upright)) == sorted(LINES) and sizes == [(100, 260)]
    for batch_size in (1, 3):
        many = pipe([upright, image, black_picture(300, 50)], batch_size=batch_size)
        assert list(map(boxes, many)) == [sorted(LINES), sorted(BARS), []]
    assert boxes(pipe(image, do_turn=False)) == [BARS[0], BARS[4]]
    assert boxes(pipe(image, tile=(180, 200), shape="polygon")) == sorted(BARS)


def test_turned_quads_and_half_precision(seeing):
    pipe, _ = seeing
    pipe.image_processor.do_turn = True
    image = black_picture(240, 180, *BARS)
    for text in pipe(image, shape="quad", unclip_ratio=1.0):
        assert len(text["polygon"]) == 4
    pipe.model.to(torch.bfloat16)
    assert len(pipe(image)) == len(BARS)


def test_exported_networks_look_again_too(tmp_path, monkeypatch):
    TCMImageProcessor(do_turn=True, decoding={"unclip_ratio": 0.0}).save_pretrained(tmp_path)
    (tmp_path / runtime.CONFIG_NAME).write_text(json.dumps({"id2label": {"0": "text"}}))
    sizes = []

    def network(inputs):
        sizes.append(inputs["pixel_values"].shape[2:])
        assert inputs["pixel_mask"].shape == (1, *inputs["pixel_values"].shape[2:])
        return {"logits": see_wide(torch.from_numpy(inputs["pixel_values"])).logits.numpy()}

    monkeypatch.setattr(runtime, "load_network", lambda folder, threads: network)
    image = black_picture(240, 180, *BARS)
    assert boxes(runtime.RuntimeDetector(tmp_path)(image)) == sorted(BARS) and sizes == [(180, 240), (240, 180)]
    assert boxes(runtime.RuntimeDetector(tmp_path, do_turn=False)(image)) == [BARS[0], BARS[4]]


@pytest.mark.parametrize("detector", ["pan", "fce"])
def test_detectors_whose_maps_cannot_be_turned_refuse(detector, monkeypatch):
    processor = TCMImageProcessor(detector=detector, do_turn=True, size={"shortest_edge": 64, "longest_edge": 96})
    pipe = TextDetectionPipeline(model=tiny_detector(detector=detector), image_processor=processor, device="cpu")
    monkeypatch.setattr("tcm_hf.model.pipeline_text_detection.look_again", None)
    pipe(black_picture(40, 90, (5, 5, 15, 80)))  # what another detector's checkpoint wishes for has no effect
    with pytest.raises(ValueError, match=f"do_turn goes with detectors of a single map .* not with '{detector}'"):
        pipe(black_picture(40, 40), do_turn=True)


def test_wrong_values_are_named(seeing):
    pipe, _ = seeing
    with pytest.raises(ValueError, match="do_turn must be true or false, got 'auto'"):
        pipe(black_picture(40, 40), do_turn="auto")
    with pytest.raises(ValueError, match="do_turn must be true or false, got 'auto'"):
        TCMImageProcessor(do_turn="auto")


@pytest.mark.parametrize("name", checkpoint_names())
def test_bundled_checkpoints_read_a_page_on_its_side(name):
    from transformers import pipeline

    assert TCMImageProcessor.from_pretrained(checkpoint_path(name)).do_turn
    # A scene of the package's own, at half size for speed.
    image = Image.open(Path(__file__).resolve().parents[1] / "examples" / "sample.jpg").convert("RGB").reduce(2)
    detector = pipeline("text-detection", model=checkpoint_path(name))
    upright = len(detector(image))
    assert upright > 5
    for turn in (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270):
        assert len(detector(image.transpose(turn))) >= 0.7 * upright


def test_evaluate_measures_what_the_pipeline_finds_and_training_the_maps_as_they_are(
    seeing, tmp_path, monkeypatch, capsys
):
    pipe, sizes = seeing
    pipe.image_processor.do_turn = True
    black_picture(240, 180, *BARS).save(tmp_path / "img_1.png")
    corners = [
        f"{left},{top},{right},{top},{right},{bottom},{left},{bottom},word" for left, top, right, bottom in BARS
    ]
    (tmp_path / "gt_img_1.txt").write_text("\n".join(corners))
    monkeypatch.setattr("tcm_hf.commands.evaluate.load_pipeline", lambda arguments: pipe)
    assert main(["evaluate", "--model", "any", "--ground-truth", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["hmean"] == 1 and sizes == [(180, 240), (240, 180)]
    records = list(read_dataset("icdar2015", tmp_path))
    figures = evaluate_records(pipe.model, pipe.image_processor, records, unclip_ratio=0.0, threshold=0.6)
    assert figures["precision"] == 1 and figures["recall"] == pytest.approx(2 / len(BARS)) and len(sizes) == 3
