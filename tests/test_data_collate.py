"""The training dataset and its batches."""

import itertools
import pickle
import random
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from toy_photos import write_toy_photos, write_toy_shards

from tcm_hf.data.augment import TextAugmentation
from tcm_hf.data.collate import (
    StreamingTextDetectionDataset,
    TextDetectionDataset,
    normalize_image,
    text_detection_collate,
)
from tcm_hf.data.formats import TextRecord
from tcm_hf.data.synthesis.generator import SyntheticTextGenerator
from tcm_hf.targets import build_db_targets, build_fce_targets, build_pan_targets


NO_JITTER = {"brightness": 0, "motion_blur": 0, "contrast": 0, "saturation": 0, "color_cast": 0, "blur": 0, "noise": 0}


def make_records(count=3):
    rng = np.random.default_rng(0)
    records = []
    for _ in range(count):
        image = cv2.GaussianBlur(rng.integers(0, 256, (90, 120, 3)).astype(np.uint8), (0, 0), 2)
        quads = [
            np.array([[10, 10], [60, 10], [60, 30], [10, 30]]),
            np.array([[70, 50], [115, 55], [110, 80], [68, 75]]),
        ]
        records.append(TextRecord(image, quads, [False, True]))
    return records


def make_dataset(records=None, **arguments):
    arguments.setdefault("augmentation", TextAugmentation(64, scale=(0.8, 1.5)))
    arguments.setdefault("synthetic", SyntheticTextGenerator(size=64, text_height=(8, 16), max_words=3))
    return TextDetectionDataset(make_records() if records is None else records, build_db_targets, **arguments)


def equal(a, b):
    return torch.equal(a["pixel_values"], b["pixel_values"]) and all(
        torch.equal(a["labels"][name], b["labels"][name]) for name in a["labels"]
    )


def test_items_have_normalised_pixels_and_targets():
    dataset = make_dataset()
    item = dataset[1]
    assert item["pixel_values"].shape == (3, 64, 64) and item["pixel_values"].dtype == torch.float32
    assert set(item["labels"]) == {"shrink_map", "shrink_mask", "threshold_map", "threshold_mask"}
    assert all(value.shape == (64, 64) for value in item["labels"].values())
    image, polygons, ignore = dataset.sample(1)
    mean, std = np.array((122.679, 116.669, 104.007)), np.array((58.395, 57.12, 57.375))
    expected = ((image.astype(np.float64) - mean) / std).transpose(2, 0, 1)
    assert np.abs(item["pixel_values"].numpy() - expected).max() < 1e-4
    targets = build_db_targets(polygons, ignore, 64, 64)
    assert all(np.array_equal(item["labels"][name].numpy(), value) for name, value in targets.items())


def test_samples_depend_on_seed_epoch_and_index():
    dataset, twin = (make_dataset(synthetic_fraction=0.4, paste_probability=0.5, length=8, seed=3) for _ in range(2))
    # In any order, as after a resume.
    later = [twin[index] for index in (7, 2, 5)]
    assert all(equal(dataset[index], item) for index, item in zip((7, 2, 5), later, strict=True))
    before = dataset[2]
    dataset.set_epoch(1)
    assert not torch.equal(before["pixel_values"], dataset[2]["pixel_values"])
    dataset.set_epoch(0)
    assert equal(before, dataset[2])
    other = make_dataset(synthetic_fraction=0.4, paste_probability=0.5, length=8, seed=4)
    assert not torch.equal(before["pixel_values"], other[2]["pixel_values"])


def test_workers_give_the_same_batches_and_see_new_epochs():
    dataset = make_dataset(synthetic_fraction=0.5, length=4)
    # OpenCV's threads of this process must not stop the forked workers.
    cv2.setNumThreads(2)
    cv2.warpAffine(np.zeros((2000, 2000, 3), np.uint8), np.eye(2, 3), (2000, 2000))
    time.sleep(0.5)  # until they rest
    loader = DataLoader(dataset, 2, collate_fn=text_detection_collate, num_workers=1, persistent_workers=True)
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        batches = list(loader)
        expected = [text_detection_collate([dataset[0], dataset[1]]), text_detection_collate([dataset[2], dataset[3]])]
        assert len(batches) == 2 and all(equal(a, b) for a, b in zip(batches, expected, strict=True))
        assert batches[0]["pixel_values"].shape == (2, 3, 64, 64)
        assert batches[0]["labels"]["shrink_map"].shape == (2, 64, 64)


@pytest.mark.parametrize("build_targets", [build_fce_targets, build_pan_targets])
def test_targets_of_any_shape_come_out_of_workers_as_they_are(build_targets):
    dataset = TextDetectionDataset(make_records(), build_targets, TextAugmentation(64, scale=(0.8, 1.5)))
    (batch,) = DataLoader(dataset, 3, collate_fn=text_detection_collate, num_workers=1)
    expected = text_detection_collate([dataset[index] for index in range(3)])
    assert equal(batch, expected) and set(batch["labels"]) == set(expected["labels"])
    for name, value in dataset[0]["labels"].items():
        assert batch["labels"][name].shape == (3, *value.shape) and batch["labels"][name].dtype == value.dtype


def test_samples_and_global_random_numbers_are_independent():
    dataset = make_dataset(synthetic_fraction=0.5, paste_probability=0.5, length=4)
    expected = [dataset[index] for index in range(4)]
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert all(equal(dataset[index], item) for index, item in enumerate(expected))
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


def test_synthetic_fraction_is_the_share_of_rendered_samples():
    dataset = make_dataset(synthetic_fraction=0.5, length=200)
    calls = []
    original = dataset.synthetic.generate
    dataset.synthetic.generate = lambda rng: calls.append(1) or original(rng)
    for index in range(200):
        dataset.sample(index)
    assert 75 <= len(calls) <= 125


def test_rendered_samples_need_no_records():
    dataset = make_dataset([], synthetic_fraction=1.0, length=5)
    assert len(dataset) == 5
    assert max(int(dataset[index]["labels"]["shrink_map"].sum()) for index in range(5)) > 0


def test_pasted_words_are_labelled_and_the_photo_is_kept(bare_layouts):
    """A gray image of 160 x 120 in a frame of 240 x 240: changed pixels are ink, and lie inside the outlines."""
    photo = np.full((120, 160, 3), 128, np.uint8)
    record = TextRecord(photo, [], size=(240, 240))
    augmentation = TextAugmentation(240, scale=(1, 1), rotation=0, flip=0, aspect=0, **NO_JITTER)
    generator = SyntheticTextGenerator(size=240, text_height=(10, 20), max_words=3, plate=0, shadow=0, outline=0)
    dataset = make_dataset([record], augmentation=augmentation, synthetic=generator, paste_probability=1.0, length=6)
    words = 0
    for index in range(6):
        image, polygons, ignore = dataset.sample(index)
        words += len(polygons)
        assert len(ignore) == len(polygons)
        change = np.abs(image.astype(int) - 128).max(axis=2)
        inside = np.zeros((240, 240), np.uint8)
        for polygon in polygons:
            cv2.fillConvexPoly(inside, np.rint(polygon).astype(np.int32), 1)
        ink = change > 0.5 * change.max()
        assert ink.any() and (ink & (inside == 1)).sum() > 0.97 * ink.sum()
    assert words >= 6
    assert (photo == 128).all()


def test_epochs_walk_through_all_records():
    records = [TextRecord(np.full((64, 64, 3), 40 * number, np.uint8)) for number in range(5)]
    still = TextAugmentation(64, scale=(1, 1), rotation=0, flip=0, aspect=0, **NO_JITTER)
    dataset = make_dataset(records, augmentation=still, length=2)
    seen = []
    for epoch in range(5):
        dataset.set_epoch(epoch)
        seen += [int(dataset.sample(index)[0][30, 30, 0]) // 40 for index in range(2)]
    assert seen == [0, 1, 2, 3, 4] * 2


def test_decoded_pictures_are_kept_but_not_pickled(tmp_path):
    records = make_records(2)
    for number, record in enumerate(records):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), record.image)
        record.image = path
    dataset = make_dataset(records)
    dataset.preload()
    expected = dataset[0]
    copy = pickle.loads(pickle.dumps(dataset))
    assert len(dataset._images) == 2 and len(copy._images) == 0
    assert equal(copy[0], expected)
    for record in records:
        record.image.unlink()
    assert equal(dataset[0], expected)
    with pytest.raises(FileNotFoundError, match=r"1\.png"):
        copy[1]


def test_normalize_image_matches_the_formula():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    result = normalize_image(image, np.array([1.0, 2, 3]), np.array([4.0, 5, 6]))
    assert result.dtype == np.float32 and result.shape == (3, 5, 7)
    assert np.allclose(result[2], (image[:, :, 2] - 3.0) / 6.0, atol=1e-5)


def test_batches_of_mixed_sizes_are_refused():
    a, b = ({"pixel_values": torch.zeros(3, s, s), "labels": {"m": torch.zeros(s, s)}} for s in (4, 8))
    with pytest.raises(ValueError, match="one size"):
        text_detection_collate([a, b])
    with pytest.raises(ValueError, match="different labels"):
        text_detection_collate([a, {"pixel_values": torch.zeros(3, 4, 4), "labels": {}}])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"synthetic_fraction": 1.5}, "synthetic_fraction"),
        ({"synthetic": None, "paste_probability": 0.5}, "needs a `synthetic` generator"),
        ({"records": []}, "`records` is empty"),
        ({"records": [], "synthetic_fraction": 1.0}, "`length` is needed"),
        ({"synthetic_fraction": 0.5, "augmentation": TextAugmentation(96)}, "crop size 96"),
    ],
)
def test_bad_settings_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_dataset(**arguments)


def test_an_index_out_of_range_is_refused():
    dataset = make_dataset()
    with pytest.raises(IndexError):
        dataset[3]


# ---------------------------------------------------------------------------------------- streams


def first_values(item):
    return item["pixel_values"].numpy().tobytes()


def make_stream(rows, **arguments):
    return StreamingTextDetectionDataset(rows, build_db_targets, TextAugmentation(64, scale=(0.8, 1.5)), **arguments)


def distinct_records(count):
    records = make_records(count)
    for number, record in enumerate(records):
        record.image_name = f"{number}.jpg"
    return records


def test_a_stream_never_ends_and_repeats_its_rows_otherwise():
    records = distinct_records(3)
    items = list(itertools.islice(make_stream(records, seed=1), 7))
    again = list(itertools.islice(make_stream(records, seed=1), 7))
    assert [first_values(item) for item in items] == [first_values(item) for item in again]
    assert len({first_values(item) for item in items}) == 7
    assert set(items[0]["labels"]) == {"shrink_map", "shrink_mask", "threshold_map", "threshold_mask"}
    # What is done to a row does not depend on where it comes.
    reverse = list(itertools.islice(make_stream(records[::-1], seed=1), 3))
    assert {first_values(item) for item in reverse} == {first_values(item) for item in items[:3]}
    other = next(iter(make_stream(records, seed=2)))
    assert first_values(other) != first_values(items[0])


def test_processes_and_workers_share_a_stream_out():
    records = distinct_records(8)
    everything = {first_values(item) for item in itertools.islice(make_stream(records), 8)}
    for workers in (0, 2):
        parts = []
        for rank in range(2):
            stream = make_stream(records)
            stream.set_processes(rank, 2)
            loader = DataLoader(stream, 2, collate_fn=text_detection_collate, num_workers=workers)
            batches = itertools.islice(loader, 2)
            parts.append({pixels.numpy().tobytes() for batch in batches for pixels in batch["pixel_values"]})
        assert [len(part) for part in parts] == [4, 4] and parts[0] | parts[1] == everything


def test_a_streaming_data_set_shares_its_files_out(tmp_path):
    datasets = pytest.importorskip("datasets")
    folder = write_toy_photos(tmp_path, 8) / "hub"
    rows = datasets.load_dataset(str(folder), split="train", streaming=True)
    seen = []
    for rank in range(2):
        stream = make_stream(rows, shuffle_buffer=4)
        stream.set_processes(rank, 2)
        seen += [first_values(item) for item in itertools.islice(stream, 4)]
    assert len(seen) == len(set(seen)) == 8
    again = [first_values(item) for item in itertools.islice(stream, 6)]
    assert again[:4] == seen[4:] and not set(again[4:]) & set(seen)


def test_workers_share_out_the_files_of_a_stream(tmp_path, monkeypatch, caplog):
    """Four files with two rows each: every row once in a pass, each pass in another order, the same in every run."""
    datasets = pytest.importorskip("datasets")
    # `datasets` sleeps for five seconds at the end of each pass over several files.
    monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)
    folder = write_toy_shards(tmp_path / "shards", 8, 4)
    rows = datasets.load_dataset(str(folder), split="train", streaming=True, cache_dir=str(tmp_path))

    class Names(StreamingTextDetectionDataset):
        def _item(self, record, epoch):
            assert record.texts == ["word"] and record.ignore == [record.name in ("img_4.png", "img_8.png")]
            return record.name

    def names(workers, count):
        stream = Names(rows, build_db_targets, shuffle_buffer=4)
        return list(itertools.islice(DataLoader(stream, 1, collate_fn=lambda x: x[0], num_workers=workers), count))

    every = [f"img_{number}.png" for number in range(1, 9)]
    for workers in (0, 2):
        order = names(workers, 24)
        passes = [order[start : start + 8] for start in (0, 8, 16)]
        assert [sorted(part) for part in passes] == [every] * 3 and len({*map(tuple, passes)}) == 3
        assert names(workers, 24) == order
    assert not caplog.records
    shares = []
    for rank in (0, 1):  # two processes: as well
        stream = Names(rows, build_db_targets, shuffle_buffer=4)
        stream.set_processes(rank, 2)
        shares.append([[record.name for record in stream._records(epoch)] for epoch in range(3)])
        assert len({*map(tuple, shares[-1])}) == 3
    assert all(sorted(first + second) == every for first, second in zip(*shares))
    # More workers than files: the spare ones stay idle.
    assert sorted(names(5, 8)) == every
    monkeypatch.setattr("tcm_hf.data.collate.get_worker_info", lambda: SimpleNamespace(id=0, num_workers=3))
    next(iter(Names(rows, build_db_targets)))
    assert "4 files are unevenly shared by 3 workers" in caplog.text


def test_an_empty_stream_is_refused():
    with pytest.raises(ValueError, match="fewer rows than there are processes"):
        next(iter(make_stream([])))
