# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""Training on several sources: what the options name, whose turn it is, and what is measured."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from fractions import Fraction

import pytest
import torch
from accelerate import Accelerator
from example_runs import EXAMPLES, SMALL, logged_losses, run_here
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import tiny_config
from toy_photos import toy_records, write_toy_photos, write_toy_shards

from tcm_hf import TCMImageProcessor
from tcm_hf.data.augment import TextAugmentation
from tcm_hf.data.collate import MixedTextDetectionStream, StreamingTextDetectionDataset, TextDetectionDataset
from tcm_hf.data.mixing import ShuffledRecords, SourceMix, Turns
from tcm_hf.targets import build_db_targets
from tcm_hf.training import DataArguments
from tcm_hf.training.setup import build_train_stream
from tcm_hf.training.sources import read_sources, train_sources, validation_sources
from tcm_hf.training.trainer import build_train_dataloader


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two folders of ICDAR 2015's form, the first with a frame of twice its images' size, and a prepared one."""
    root = tmp_path_factory.mktemp("sources")
    write_toy_photos(root / "first", 5)
    write_toy_photos(root / "second", 3)
    for path in (root / "first" / "gt").iterdir():
        *numbers, word = path.read_text().strip().split(",")
        path.write_text(",".join(str(2 * int(number)) for number in numbers) + f",{word}\n")
    for name in ("first", "second"):  # the reader of a whole folder would see two images of each name
        (root / name / "hub").rename(root / f"{name}_hub")
    return root


def first(folders, **settings):
    return {"path": str(folders / "first"), "format": "icdar2015", "frame_size": [256, 320], **settings}


# ---------------------------------------------------------------------------------------- turns


@settings(deadline=None, max_examples=40)
@given(st.lists(st.fractions(Fraction(1, 1000), 1000), min_size=1, max_size=6), st.integers(0, 10**6))
def test_turns_keep_the_shares_and_know_every_place(weights, start):
    turns = Turns([float(weight) for weight in weights])
    total = sum(turns.shares)
    seen = Counter()
    for number in range(200):
        source, turn = turns(number)
        assert turn == seen[source]
        seen[source] += 1
        for each, share in enumerate(turns.shares):
            assert abs(seen[each] - (number + 1) * share / total) <= len(weights)
    # A place far away is that of an unbroken count too.
    (source, turn), later = turns(start), [turns(start + step) for step in range(1, 30)]
    for other, count in later:
        if other == source:
            assert count == turn + 1
            break


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(0, 3))
def test_without_weights_every_image_comes_once_before_one_comes_again(counts, passes):
    mix = SourceMix(counts)
    length = sum(counts)
    assert sorted(mix(passes * length + number) for number in range(length)) == list(range(length))


@pytest.mark.parametrize(
    "weights, message",
    [([1], "2 sources, but 1 weights"), ([1, 0], "positive"), ([1, "x"], "positive"), ([], "positive")],
)
def test_weights_that_cannot_be_meant(weights, message):
    with pytest.raises(ValueError, match=message):
        SourceMix([3, 4], weights)
    with pytest.raises(ValueError, match="needs images"):
        SourceMix([3, 0])


def test_samples_come_from_the_sources_as_asked():
    records = toy_records(6)
    mix, augmentation = SourceMix([5, 1], [2, 1]), TextAugmentation(64)
    dataset = TextDetectionDataset(records, build_db_targets, augmentation, length=30, mix=mix)
    loaded = []
    dataset._load = lambda number: (loaded.append(number), records[number].image)[1]
    for epoch in range(2):
        dataset.set_epoch(epoch)
        for index in range(30):
            dataset.sample(index)
    assert Counter(loaded) == {5: 20, **dict.fromkeys(range(5), 8)}
    with pytest.raises(ValueError, match="`mix` is one of 7 records"):
        TextDetectionDataset(records, build_db_targets, mix=SourceMix([5, 2]))


# ---------------------------------------------------------------------------------------- options


def test_all_kinds_of_options_make_sources_in_order(folders):
    sources = train_sources(
        DataArguments(
            train_sources=[first(folders, name="mine"), json.dumps({"path": "other/images", "missing": "skip"})],
            train_dir=["a/prepared", "b"],
            train_format=["hub", "totaltext"],
            dataset_name="owner/set",
            image_dir=["x/images", "y/images"],
            gt_dir=["x/gt", "y/gt"],
            frame_size=[10, 20],
        )
    )
    assert [source.name for source in sources] == ["mine", "other", "prepared", "b", "set", "x", "y"]
    assert [source.format for source in sources] == [
        "icdar2015",
        "hub",
        "hub",
        "totaltext",
        "hub",
        "icdar2015",
        "icdar2015",
    ]
    own, all_others = (256, 320), (10, 20)
    assert [source.frame_size for source in sources] == [own, None, None, all_others, None, all_others, all_others]
    assert [source.split for source in sources][:5] == [None, "train", "train", None, "train"]
    assert sources[1].reader == {"missing": "skip"}


def test_sources_get_names_of_their_own():
    arguments = DataArguments(train_dir=["a/train", "b/a/images", "c.v1/images", "/", "../images"])
    assert [source.name for source in train_sources(arguments)] == ["a", "a_2", "c_v1", "source", "images"]


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"train_dir": ["a", "b"], "train_format": ["hub", "coco", "coco"]},
            "--train_format has 3 formats for 2 folders",
        ),
        ({"train_dir": ["a", "b"], "train_weights": [1]}, r"--train_weights has 1 numbers for 2 sources \(a, b\)"),
        ({"train_sources": [{"path": "a", "weight": 1}, "b"]}, "the source 'b' has no `weight`"),
        ({"train_sources": [{"path": "a", "weight": 1}], "train_weights": [1]}, "either by --train_weights or"),
        ({"train_sources": [{"format": "coco"}]}, "needs a `path`"),
        ({"train_sources": ['{"path": 3}']}, "`path` cannot be 3"),
        ({"train_sources": ['{"path": "a", "weight": true}']}, "`weight` cannot be true"),
        ({"train_sources": ['{"path": "a"']}, "no JSON object"),
        ({"train_sources": [{"path": "a", "format": "icdar2015", "frame_size": [720]}]}, "height and width in pixels"),
        ({"train_sources": [{"path": "a", "frame_size": [720, 1280]}]}, "columns `width` and `height`"),
        (
            {"train_sources": [{"path": "a", "format": "icdar2015", "frames": 3}]},
            "unknown `frames`; there are path, format",
        ),
        ({"train_sources": [{"path": "a", "name": "x"}, {"path": "b", "name": "x"}]}, "two sources have the name 'x'"),
        ({"image_dir": ["a", "b"], "gt_dir": "a"}, "as many of the one as of the other"),
        ({"train_dir": "a", "data_root": "absent"}, "--data_root absent: there is no such folder"),
    ],
)
def test_sources_that_cannot_be_meant(options, message):
    with pytest.raises(ValueError, match=message):
        train_sources(DataArguments(**options))


def test_frames_and_digits_are_those_of_every_source(folders):
    arguments = DataArguments(
        data_root=str(folders),
        train_sources=[{**first(folders), "path": "first"}, {"path": "second", "format": "icdar2015"}],
        holdout_last_digit=1,
        max_eval_samples=1,
    )
    groups, held_out = read_sources(arguments)
    assert [(group.source.name, len(group.records)) for group in groups] == [("first", 4), ("second", 2)]
    assert [group.records[0].size for group in groups] == [(256, 320), None]
    assert {name: [record.image.name for record in records] for name, records in held_out.items()} == {
        "first": ["img_1.jpg"],
        "second": ["img_1.jpg"],
    }
    shared = DataArguments(train_dir=[str(folders / "first"), str(folders / "second")], train_format="icdar2015")
    shared.train_val_split = 0.34
    groups, held_out = read_sources(shared)
    assert [len(group.records) for group in groups] == [3, 2] and [len(part) for part in held_out.values()] == [2, 1]


def test_formats_are_recognized(folders):
    arguments = DataArguments(data_root=str(folders), train_dir=["first", "second_hub"], train_format="auto")
    assert [source.format for source in train_sources(arguments)] == ["icdar2015", "hub"]
    groups, _ = read_sources(arguments)
    assert [len(group.records) for group in groups] == [5, 3]


def test_validation_sets_are_sources_too(folders):
    pairs = {
        f"validation_{kind}_dir": [str(folders / "second" / folder)]
        for kind, folder in (("image", "images"), ("gt", "gt"))
    }
    arguments = DataArguments(
        train_dir="a", validation_dir=["b", "c"], validation_sources=[{"path": "d", "name": "far"}], **pairs
    )
    assert [source.name for source in validation_sources(arguments)] == ["far", "b", "c", "second"]
    split = DataArguments(train_dir=["a", "b"], validation_split="test")
    assert [(source.path, source.split) for source in validation_sources(split)] == [("a", "test"), ("b", "test")]
    assert validation_sources(DataArguments(train_dir=["a", "b"])) == []


# ---------------------------------------------------------------------------------------- streams


def stream_of(numbers):
    return StreamingTextDetectionDataset(
        ShuffledRecords([toy_records(9)[n] for n in numbers]), build_db_targets, TextAugmentation(64)
    )


def test_streams_take_turns_and_begin_again():
    mixed = MixedTextDetectionStream([stream_of([0, 1, 2]), stream_of([3])], [3, 1])
    taken = []
    for number, stream in enumerate(mixed.streams):
        stream._item = lambda record, epoch, number=number: (number, epoch, float(record.polygons[0][0, 0]))
    running = iter(mixed)
    taken = [next(running) for _ in range(16)]
    assert Counter(number for number, _, _ in taken) == {0: 12, 1: 4}
    firsts = [[place for number, epoch, place in taken if (number, epoch) == (0, wanted)] for wanted in range(4)]
    assert all(sorted(part) == [18, 26, 34] for part in firsts) and len({tuple(part) for part in firsts}) > 1
    assert [epoch for number, epoch, _ in taken if number == 1] == [0, 1, 2, 3]


def test_every_worker_needs_something_of_every_stream():
    mixed = MixedTextDetectionStream([stream_of([0, 1, 2, 4]), stream_of([3])], [3, 1], ["many", "single"])
    with pytest.raises(ValueError, match="'single' has 1 images for 2 loader workers of each process: take at most 1"):
        build_train_dataloader(mixed, Accelerator(cpu=True), 2, num_workers=2)
    with pytest.raises(ValueError, match="2 streams, but 1 weights"):
        MixedTextDetectionStream(mixed.streams, [1])


def test_streams_and_folders_are_mixed_with_workers(monkeypatch, folders, tmp_path):
    pytest.importorskip("datasets")
    # `datasets` sleeps for five seconds at the end of each pass over several files.
    monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)
    shards = write_toy_shards(tmp_path / "shards", 8, 4)
    arguments = DataArguments(
        crop_size=64,
        train_sources=[{"path": str(shards), "streaming": True}, first(folders), str(folders / "second_hub")],
        train_weights=[2, 1, 1],
    )
    groups, _ = read_sources(arguments)
    assert [group.records is None for group in groups] == [True, False, False]

    def batches(workers, world=1):
        found = []
        for rank in range(world):
            stream = build_train_stream(groups, arguments, tiny_config(), TCMImageProcessor(), seed=3)
            for number, part in enumerate(stream.streams):
                part._item = lambda record, epoch, number=number: {
                    "pixel_values": torch.tensor([float(number)]),
                    "labels": {},
                }
            stream.set_processes(rank, world)
            loader = torch.utils.data.DataLoader(stream, batch_size=4, num_workers=workers)
            found += [next(running) for running in [iter(loader)] for _ in range(10)]
        return found

    for workers_and_processes in ((0,), (2,), (0, 2)):
        taken = [int(value) for batch in batches(*workers_and_processes) for value in batch["pixel_values"].flatten()]
        shares = [taken.count(number) / len(taken) for number in range(3)]
        assert shares == pytest.approx([0.5, 0.25, 0.25], abs=0.05)
    arguments.train_weights = None
    with pytest.raises(ValueError, match="need --train_weights"):
        build_train_stream(read_sources(arguments)[0], arguments, tiny_config(), TCMImageProcessor())
    arguments.holdout_last_digit = 1
    with pytest.raises(ValueError, match="--holdout_last_digit needs to know all images"):
        read_sources(arguments)


# ---------------------------------------------------------------------------------------- runs


KILLED = """
import os, runpy, signal, sys
from tcm_hf.training.loop import TrainingLoop
from tcm_hf.training.trainer import TCMTrainer
trainer_step, loop_batch = TCMTrainer.training_step, TrainingLoop._train_batch

def training_step(self, *inputs, **settings):
    if self.state.global_step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return trainer_step(self, *inputs, **settings)

def train_batch(self, batch):
    if self.step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return loop_batch(self, batch)

TCMTrainer.training_step, TrainingLoop._train_batch = training_step, train_batch
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
SCRIPTS = {
    "train_text_detection.py": {"max_steps": 6, "save_steps": 3, "report_to": "none", "disable_tqdm": True},
    "train_text_detection_no_trainer.py": {"max_train_steps": 6, "checkpointing_steps": 3},
}


@pytest.mark.parametrize(
    "script, streaming", [*((name, False) for name in SCRIPTS), ("train_text_detection.py", True)]
)
def test_a_killed_run_on_several_sources_goes_on_with_the_same_losses(
    monkeypatch, folders, tmp_path, script, streaming
):
    hub = {"path": str(folders / "second_hub"), "weight": 1}
    if streaming:
        pytest.importorskip("datasets")
        hub.update(path=str(write_toy_shards(tmp_path / "shards", 4, 2)), streaming=True)
    config = {
        "config_name": str(folders / "first" / "config.json"),
        "train_sources": [first(folders, weight=2), hub],
        "validation_sources": [first(folders, name="near"), {"path": str(folders / "second_hub"), "name": "far"}],
        "per_device_train_batch_size": 2,
        "resume_from_checkpoint": "last",
        **SCRIPTS[script],
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    options = [str(EXAMPLES / script), str(tmp_path / "config.json"), *map(str, SMALL), "--output_dir"]
    command = [sys.executable, "-c", KILLED, *options, str(tmp_path / "killed")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    killed = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
    for folder in ("killed", "unbroken"):
        run_here(monkeypatch, script, *options[1:], tmp_path / folder)
    losses = [logged_losses(tmp_path / folder) for folder in ("killed", "unbroken")]
    assert len(losses[1]) == 6 and losses[0] == losses[1]
    figures = json.loads((tmp_path / "unbroken" / "all_results.json").read_text())
    assert {"eval_near_hmean", "eval_far_hmean", "eval_hmean", "eval_far_num_images"} <= set(figures)
    assert figures["eval_hmean"] == pytest.approx((figures["eval_near_hmean"] + figures["eval_far_hmean"]) / 2)
    card = (tmp_path / "unbroken" / "README.md").read_text(encoding="utf-8")
    assert f"| far | {figures['eval_far_hmean']:.4f} |" in card and f"| mean | {figures['eval_hmean']:.4f} |" in card
    assert "on 5 images and 3 images that it was not trained on" in card
    assert "first (5 images, 66.7 %)" in card and " 33.3 %)" in card


@pytest.mark.parametrize("metric, best", [("hmean", 2), ("near_hmean", 1), ("eval_far_recall", 3)])
def test_the_loop_keeps_the_checkpoint_of_the_figure_that_is_asked_for(monkeypatch, folders, tmp_path, metric, best):
    values = {"near": [0.9, 0.8, 0.1], "far": [0.1, 0.5, 0.7]}
    measured = Counter()

    def figures(model, processor, records, **settings):
        name = "near" if len(records) == 5 else "far"
        value = values[name][min(measured[name], 2)]
        measured[name] += 1
        return {"hmean": value, "precision": value, "recall": value, "num_images": len(records)}

    monkeypatch.setattr("tcm_hf.training.trainer.evaluate_records", figures)
    sources = [
        json.dumps(first(folders, name="near")),
        json.dumps({"path": str(folders / "second_hub"), "name": "far"}),
    ]
    run_here(
        monkeypatch,
        "train_text_detection_no_trainer.py",
        *("--config_name", folders / "first" / "config.json", "--train_dir", folders / "second_hub", *SMALL),
        *("--validation_sources", *sources, "--max_train_steps", 3, "--checkpointing_steps", 1),
        *("--per_device_train_batch_size", 1, "--metric_for_best_model", metric, "--output_dir", tmp_path),
    )
    results = json.loads((tmp_path / "all_results.json").read_text())
    assert results["eval_near_hmean"] == values["near"][best - 1]
    assert [entry["eval_hmean"] for entry in results["log"] if "eval_hmean" in entry] == pytest.approx(
        [0.5, 0.65, 0.4]
    )


def test_a_figure_that_the_loop_does_not_measure_is_refused(monkeypatch, folders, tmp_path):
    with pytest.raises(SystemExit, match="`metric_for_best_model` is 'near_hmean', which is not measured"):
        run_here(
            monkeypatch,
            "train_text_detection_no_trainer.py",
            *("--config_name", folders / "first" / "config.json", "--train_dir", folders / "second_hub", *SMALL),
            *("--max_train_steps", 1, "--metric_for_best_model", "near_hmean", "--output_dir", tmp_path),
        )
