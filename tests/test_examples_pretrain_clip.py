# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""`examples/pretrain_clip.py`: its captions, its two losses, its towers in a detector, and exact resuming."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from example_runs import logged_losses, run_here
from PIL import ImageFont
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from tcm_hf import TCMForTextDetection
from tcm_hf.conversion.convert import convert_checkpoint
from tcm_hf.data.formats import TextRecord, read_dataset
from tcm_hf.data.synthesis.folder import synthesize_dataset


EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL = ("--width", 4, "--depths", 1, 1, 1, 1, "--projection_dim", 32, "--text_layers", 1, "--crop_size", 64)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    directory = tmp_path_factory.mktemp("rendered")
    fonts = directory / "fonts"
    fonts.mkdir()
    (fonts / "letters.ttf").write_bytes(ImageFont.load_default(20).font_bytes)
    drawing = {"size": (80, 96), "text_height": (10, 30)}
    synthesize_dataset(directory / "scenes", 12, seed=3, fonts=[fonts], workers=1, **drawing)
    return directory / "scenes"


@pytest.fixture
def pretrain_clip(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import pretrain_clip

    return pretrain_clip


def settings(pretrain_clip, scenes, **changes):
    values = {"width": 4, "depths": [1, 1, 1, 1], "projection_dim": 32, "text_layers": 1, "crop_size": 64}
    return pretrain_clip.Arguments(train_dir=str(scenes), **{**values, **changes})


def pretrain(monkeypatch, scenes, output, *arguments):
    run_here(
        monkeypatch,
        "pretrain_clip.py",
        *("--train_dir", scenes, "--output_dir", output, *SMALL, "--per_device_train_batch_size", 4, "--use_cpu"),
        *("--validation_images", 4, "--logging_steps", 1, "--warmup_steps", 0, "--disable_tqdm", "True"),
        *("--lr_scheduler_type", "constant", "--report_to", "none", *arguments),
    )


def test_captions_say_words_sizes_and_places(pretrain_clip):
    small = np.array([[70, 80], [90, 80], [90, 88], [70, 88]], np.float32)
    big = np.array([[2, 4], [40, 4], [40, 24], [2, 24]], np.float32)
    pieces = pretrain_clip.caption([small, big, big], ["Café", "OPEN", "猫"], True, 96)
    assert [text for text, _ in pieces] == ["text:", "big", "open", "top left,", "small", "cafe", "bottom right"]
    assert [text for text, is_word in pieces if is_word] == ["open", "cafe"]
    assert pretrain_clip.caption([], [], False, 96) == [("no text", False)]
    assert pretrain_clip.caption([], [], True, 96) == [("text", False)]


def test_crops_have_words_and_tell_text_that_is_cut(pretrain_clip, scenes):
    image = np.zeros((80, 200, 3), np.uint8)
    image[30:50, 150:180] = 255
    word = np.array([[150, 30], [180, 30], [180, 50], [150, 50]], np.float32)
    dataset = pretrain_clip.ScenesWithCaptions([], settings(pretrain_clip, scenes), 1, seed=0)
    rng = np.random.default_rng(0)
    found = {"whole": 0, "cut": 0, "none": 0}
    for _ in range(200):
        crop, polygons, texts, has_text = dataset.crop(TextRecord(image, [word], texts=["word"]), rng)
        assert crop.shape == (64, 64, 3) and has_text == bool(crop.any())
        if texts:
            left, top = polygons[0].min(0).astype(int)
            assert (
                texts == ["word"]
                and (crop[top : top + 20, left : left + 30] == 255).all()
                and crop.sum() == 255 * 1800
            )
        found["whole" if texts else "cut" if has_text else "none"] += 1
    assert found["whole"] > 170 and found["none"] > 0
    *_, texts, has_text = dataset.crop(TextRecord(image, [word], ignore=[True], texts=["word"]), rng)
    assert texts == []


def test_crops_go_where_a_whole_word_fits(pretrain_clip, scenes):
    outlines = [[[0, 0], [190, 0], [190, 40], [0, 40]], [[150, 50], [180, 50], [180, 70], [150, 70]]]
    polygons = [np.array(outline, np.float32) for outline in outlines]
    record = TextRecord(np.zeros((80, 200, 3), np.uint8), polygons, texts=["banner", "word"])
    dataset = pretrain_clip.ScenesWithCaptions([], settings(pretrain_clip, scenes), 1, seed=0)
    rng = np.random.default_rng(0)
    assert sum(dataset.crop(record, rng)[2] == ["word"] for _ in range(200)) > 170


def test_images_in_memory_give_the_same_samples(monkeypatch, pretrain_clip, scenes):
    records = list(read_dataset("hub", scenes))[:3]
    loaded = []
    load = pretrain_clip.load_record
    monkeypatch.setattr(pretrain_clip, "load_record", lambda record: loaded.append(record.image) or load(record))
    samples, files = [], []
    for cache_images in (False, True):
        loaded.clear()
        dataset = pretrain_clip.ScenesWithCaptions(
            records, settings(pretrain_clip, scenes, cache_images=cache_images), 9, seed=2
        )
        samples.append([dataset[index] for index in range(9)])
        files.append(sum(not isinstance(image, np.ndarray) for image in loaded))
    assert files == [9, 3]
    assert not any(isinstance(record.image, np.ndarray) for record in records)
    for expected, got in zip(*samples, strict=True):
        assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_the_tokenizer_reads_characters_and_knows_the_captions_words(pretrain_clip, tmp_path):
    tokenizer = pretrain_clip.character_tokenizer()
    ids = tokenizer("text: Context3 top").input_ids
    names = ["<|startoftext|>", "text", ":</w>", *"contex", "t</w>", "3</w>", "top", "<|endoftext|>"]
    assert tokenizer.convert_ids_to_tokens(ids) == names
    tokenizer.save_pretrained(tmp_path)
    assert CLIPTokenizer.from_pretrained(tmp_path)("text: Context3 top").input_ids == ids
    assert max(tokenizer.get_vocab().values()) + 1 == len(tokenizer) == len(tokenizer.get_vocab())


def test_only_characters_of_words_are_masked(pretrain_clip, scenes):
    records = list(read_dataset("hub", scenes))
    always, never = (
        pretrain_clip.ScenesWithCaptions(
            records, settings(pretrain_clip, scenes, mask_probability=probability), 40, seed=1
        )
        for probability in (1, 0)
    )
    words = set()
    for index in range(40):
        masked, plain = always[index], never[index]
        assert (plain["labels"] == pretrain_clip.NOT_MASKED).all()
        is_masked = masked["labels"] != pretrain_clip.NOT_MASKED
        assert torch.equal(torch.where(is_masked, masked["labels"], masked["input_ids"]), plain["input_ids"])
        assert (masked["input_ids"][is_masked] == always.mask_id).all()
        shown = always.tokenizer.convert_ids_to_tokens(masked["input_ids"])
        kept = {"text", "no", ":</w>", ",</w>", "<mask>", "<|startoftext|>", "<|endoftext|>"}
        assert set(shown) <= kept | set(pretrain_clip.VOCABULARY)
        words.update(always.tokenizer.convert_ids_to_tokens(masked["labels"][is_masked]))
    assert len(words) > 10


def test_the_losses_by_hand(pretrain_clip, scenes):
    torch.manual_seed(0)
    arguments = settings(pretrain_clip, scenes)
    model = pretrain_clip.ContrastivePretraining(arguments).eval()
    dataset = pretrain_clip.ScenesWithCaptions(list(read_dataset("hub", scenes)), arguments, 6, seed=0)
    batch = {name: torch.stack([dataset[i][name] for i in range(6)]) for name in dataset[0]}
    # One caption twice: both images belong to both.
    batch["input_ids"][5], batch["labels"][5] = batch["input_ids"][0], batch["labels"][0]
    with torch.no_grad():
        outputs = model(**batch)
    assert outputs["pairs"][0, 5] == outputs["pairs"][5, 0] == 1
    logits, total = outputs["logits"].double().numpy(), 0.0
    for matrix, pairs in ((logits, outputs["pairs"].numpy()), (logits.T, outputs["pairs"].numpy().T)):
        for row, right in zip(matrix, pairs):
            shares = np.exp(row) / np.exp(row).sum()
            total -= np.mean(np.log(shares[right == 1])) / 12
    assert math.isclose(float(outputs["contrast"]), total, rel_tol=1e-5)
    found = [
        -float(torch.log_softmax(outputs["characters"][i, j].double(), -1)[label])
        for i, row in enumerate(batch["labels"])
        for j, label in enumerate(row)
        if label != pretrain_clip.NOT_MASKED
    ]
    assert math.isclose(float(outputs["reading"]), np.mean(found), rel_tol=1e-5)
    # Masks are for reading alone, and so is what stands behind the longest caption for none.
    captions = torch.where(batch["labels"] == pretrain_clip.NOT_MASKED, batch["input_ids"], batch["labels"])
    with torch.no_grad():
        whole = model(batch["pixel_values"], captions, torch.full_like(captions, pretrain_clip.NOT_MASKED))
        text = model.text_tower(captions).text_embeds
        image = model.vision_tower(batch["pixel_values"]).global_embedding
    torch.testing.assert_close(whole["logits"], outputs["logits"])
    assert float(whole["reading"]) == 0
    assert outputs["characters"].shape[1] < captions.shape[1]
    cosines = torch.nn.functional.cosine_similarity(image[:, None], text[None], dim=-1)
    torch.testing.assert_close(outputs["logits"], cosines / 0.07)
    # What is predicted depends on the image.
    with torch.no_grad():
        other = model(**{**batch, "pixel_values": batch["pixel_values"].roll(1, 0)})
    assert not torch.allclose(other["characters"], outputs["characters"])


def test_towers_learn_resume_and_give_the_same_in_a_detector(monkeypatch, pretrain_clip, scenes, tmp_path):
    steps = ("--max_steps", 16, "--save_steps", 8, "--learning_rate", 3e-3)
    pretrain(monkeypatch, scenes, tmp_path / "whole", *steps)
    losses = logged_losses(tmp_path / "whole")
    state = json.loads((tmp_path / "whole" / "trainer_state.json").read_text(encoding="utf-8"))
    parts = [entry["loss_contrast"] + entry["loss_reading"] for entry in state["log_history"] if "loss" in entry]
    np.testing.assert_allclose(parts, losses, rtol=1e-4)
    assert len(losses) == 16 and np.mean(losses[-4:]) < np.mean(losses[:4]) - 0.2
    metrics = json.loads((tmp_path / "whole" / "train_results.json").read_text(encoding="utf-8"))
    assert metrics["among"] == 4 and 0 <= metrics["captions"] <= 1 and 0 <= metrics["characters_without_image"] <= 1
    assert 0.25 <= metrics["guessed"] < 1

    checkpoint = tmp_path / "whole" / "checkpoint-8"
    pretrain(monkeypatch, scenes, tmp_path / "resumed", *steps, "--resume_from_checkpoint", checkpoint)
    assert logged_losses(tmp_path / "resumed") == losses
    towers = tmp_path / "resumed" / "towers"
    weights = load_file(towers / "open_clip_model.safetensors")
    for name, value in load_file(tmp_path / "whole" / "towers" / "open_clip_model.safetensors").items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=0)

    prompt = json.loads((towers / "prompt_token_ids.json").read_text(encoding="utf-8"))
    fields = {"prompt_token_ids": prompt, "num_context_vectors": 0, "prompt_generator": None}
    report = convert_checkpoint(towers, tmp_path / "start", **fields)
    assert list(report.left_over) == ["logit_scale"]
    model = TCMForTextDetection.from_pretrained(tmp_path / "start").eval()
    arguments = settings(pretrain_clip, scenes)
    reference = pretrain_clip.ContrastivePretraining(arguments).eval()
    reference.load_state_dict(load_file(tmp_path / "whole" / "checkpoint-16" / "model.safetensors"))
    pixel_values = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        expected, text = reference.vision_tower(pixel_values), reference.text_tower(torch.tensor([prompt])).text_embeds
        got = model.model.vision_tower(pixel_values)
        torch.testing.assert_close(model.model.embed_text(got.global_embedding[:1])[0], text)
    torch.testing.assert_close(got.global_embedding, expected.global_embedding)
    torch.testing.assert_close(got.dense_embeddings, expected.dense_embeddings)
    for mine, theirs in zip(got.feature_maps, expected.feature_maps, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_what_was_learned_is_measured(pretrain_clip, scenes):
    """Right captions, images and characters are counted; here by a model that knows the first two pairs of three."""

    class Known(torch.nn.Module):
        logit_scale = torch.zeros(())

        def forward(self, pixel_values, input_ids, labels):
            logits = torch.tensor([[9.0, 0, 0], [0, 9, 5], [0, 7, 1]])
            pairs = torch.eye(3)
            # Reads the character 7, always; with images in their own order only.
            right = pixel_values[0, 0] == 0
            characters = torch.zeros(3, 2, 9)
            characters[..., 7 if right else 8] = 1
            return {"logits": logits, "pairs": pairs, "characters": characters}

    labels = torch.tensor([[7, -100, -100], [-100, 7, -100], [5, -100, -100]])
    samples = [
        {"pixel_values": torch.tensor([number]), "input_ids": torch.zeros(3), "labels": labels[number]}
        for number in range(3)
    ]
    found = pretrain_clip.measure(Known(), samples, 3)
    assert found == {
        **{"captions": 2 / 3, "images": 2 / 3, "guessed": 1 / 3, "among": 3},
        **{"characters": 2 / 3, "characters_without_image": 0.0},
    }


def test_what_does_not_fit_is_said(monkeypatch, scenes, tmp_path):
    with pytest.raises(SystemExit, match="--validation_images 12: .* has 12 images"):
        pretrain(monkeypatch, scenes, tmp_path, "--validation_images", 12)
    with pytest.raises(SystemExit, match="--crop_size has to be a multiple of 32"):
        pretrain(monkeypatch, scenes, tmp_path, "--crop_size", 50)
    with pytest.raises(ValueError, match="96 x 80 pixels, --crop_size is 96"):
        pretrain(monkeypatch, scenes, tmp_path, "--crop_size", 96, "--max_steps", 1)
