"""The bundled checkpoint: complete, small, and able to find the words of the sample image."""

import re
from pathlib import Path

import pytest
import shapely
import torch
from transformers import pipeline

import tcm_hf


ROOT = Path(__file__).resolve().parents[1]
# Corners of the words in examples/sample.jpg, from the coordinates that examples/draw_sample_scene.py draws at.
WORDS = {
    "OPEN": [[690, 354], [778, 354], [778, 392], [690, 392]],
    "Fresh": [[190, 350], [288, 350], [288, 386], [190, 386]],
    "Platform": [[1118, 474], [1212, 474], [1212, 506], [1118, 506]],
}


@pytest.fixture(scope="module", params=tcm_hf.checkpoint_names())
def checkpoint(request) -> Path:
    return Path(tcm_hf.checkpoint_path(request.param))


def test_the_directory_is_complete_and_small(checkpoint):
    names = {file.name for file in checkpoint.iterdir()}
    picture = f"{checkpoint.name}.jpg"
    assert names == {"README.md", "config.json", "model.safetensors", "preprocessor_config.json", picture}
    assert sum(file.stat().st_size for file in checkpoint.iterdir()) < 15e6


def test_no_weight_is_missing_and_it_computes_in_fp32(checkpoint):
    model, info = tcm_hf.TCMForTextDetection.from_pretrained(checkpoint, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert model.dtype == torch.float32
    assert all(x.isfinite().all() for x in model.state_dict().values())


def test_the_words_of_the_sample_are_found(checkpoint):
    detections = pipeline("text-detection", model=str(checkpoint))(str(ROOT / "examples" / "sample.jpg"))
    polygons = [shapely.Polygon(detection["polygon"]).buffer(0) for detection in detections]
    for word, corners in WORDS.items():
        region = shapely.Polygon(corners)
        covered = max((region.intersection(polygon).area / region.area for polygon in polygons), default=0)
        assert covered > 0.6, f"{word} is not found"
    assert 7 <= len(detections) <= 14
    assert all(detection["label"] == "text" and 0 < detection["score"] <= 1 for detection in detections)


def test_it_computes_in_fp16_as_in_fp32(checkpoint):
    processor = tcm_hf.TCMImageProcessor.from_pretrained(checkpoint)
    inputs = processor(str(ROOT / "examples" / "sample.jpg"), return_tensors="pt")
    model = tcm_hf.TCMForTextDetection.from_pretrained(checkpoint)
    with torch.inference_mode():
        expected = model(**inputs).logits
        logits = model.half()(inputs["pixel_values"].half(), inputs["pixel_mask"]).logits.float()
    # Logits reach from -11 to 10.
    assert (logits - expected).abs().max() < 0.1


def test_cards_and_readme_have_no_gaps(checkpoint):
    card_file = ROOT / "model_cards" / f"{checkpoint.name}.md"
    for file in (ROOT / "README.md", card_file):
        text = file.read_text(encoding="utf-8")
        assert not re.findall(r"\b[A-Z]+_[A-Z_]*[A-Z]\b(?![^\n]*`)", text.replace("DEFAULT_CHECKPOINT", "")), file
    card = card_file.read_text(encoding="utf-8")
    assert (checkpoint / "README.md").read_text(encoding="utf-8") == card
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", card)
    assert pictures
    for picture in pictures:
        assert (checkpoint / picture).read_bytes() == (ROOT / "model_cards" / picture).read_bytes()
