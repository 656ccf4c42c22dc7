# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""`tcm-hf prepare`."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from annotation_samples import QUADS, SAMPLES, Picture, Word, box, numbers, save_pictures, write_sample
from PIL import Image

from tcm_hf.commands import prepare as command
from tcm_hf.commands.parser import CommandParser
from tcm_hf.data import prepare
from tcm_hf.data.formats import FORMATS, AnnotationError, TextRecord, load_image, read_dataset, records_from_dataset


def run(*arguments):
    parser = CommandParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(list(map(str, arguments))))


def rows(folder):
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


@pytest.mark.parametrize("format", SAMPLES)
def test_every_format_comes_back(format, tmp_path, capsys):
    write_sample(format, tmp_path / "source")
    name = format.split("-")[0]
    assert run(name, tmp_path / "source", tmp_path / "out") == 0
    expected = list(read_dataset(name, tmp_path / "source"))
    read = list(read_dataset("hub", tmp_path / "out"))
    assert len(read) == len(expected)
    for ours, theirs in zip(read, expected):
        assert [p.tolist() for p in ours.polygons] == [p.tolist() for p in theirs.polygons]
        assert ours.ignore == theirs.ignore and ours.texts == [text or None for text in theirs.texts]
        if FORMATS[name].languages:
            assert ours.languages == (theirs.languages or [None] * len(ours.polygons))
        assert ours.size == (480, 640) and ours.image.read_bytes() == theirs.image.read_bytes()
    report = json.loads((tmp_path / "out" / "train" / "report.json").read_text())
    assert report["images"] == len(expected)
    assert report["instances"] == sum(len(record.polygons) for record in expected)
    assert report["ignored"] == sum(sum(record.ignore) for record in expected)
    assert f"images            {report['images']}" in capsys.readouterr().out


def test_datasets_loads_the_folder(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    # Names that `datasets` would take for splits, and the same name twice.
    pictures = [Picture("set/test_1", QUADS[0].words), Picture("validation/test_1", QUADS[1].words)]
    save_pictures(tmp_path / "source", [picture.name for picture in pictures])
    lines = [
        f"{p.name}.jpg\t{json.dumps([{'points': w.points, 'transcription': w.text} for w in p.words])}"
        for p in pictures
    ]
    (tmp_path / "source" / "Label.txt").write_text("\n".join(lines), encoding="utf-8")
    for split in ("train", "test"):
        assert run("paddleocr", tmp_path / "source", tmp_path / "out", "--output-split", split) == 0
    assert [row["file_name"] for row in rows(tmp_path / "out" / "test")] == [
        "images/set/test_1.jpg",
        "images/test_1.jpg",
    ]
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out"))
    assert {split: len(part) for split, part in loaded.items()} == {"train": 2, "test": 2}
    streamed = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out"), split="test", streaming=True)
    direct = list(read_dataset("hub", tmp_path / "out", split="test"))
    for records in (records_from_dataset(loaded["test"]), records_from_dataset(streamed)):
        for ours, theirs in zip(records, direct, strict=True):
            assert [p.tolist() for p in ours.polygons] == [p.tolist() for p in theirs.polygons]
            assert (ours.ignore, ours.texts, ours.size) == (theirs.ignore, theirs.texts, theirs.size)
            assert np.array_equal(load_image(ours.image), load_image(theirs.image))


def test_parquet_shards(tmp_path, monkeypatch, capsys):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    write_sample("mlt2017", tmp_path / "source")
    arguments = (
        "mlt2017",
        tmp_path / "source",
        tmp_path / "out",
        "--parquet",
        tmp_path / "hub",
        "--shard-size",
        0.001,
    )
    assert run(*arguments) == 0
    shards = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]
    assert files(tmp_path / "hub") == shards
    kept = (tmp_path / "hub" / shards[0]).stat().st_mtime_ns
    (tmp_path / "hub" / shards[1]).unlink()
    assert run(*arguments) == 0 and "complete already" in capsys.readouterr().out
    assert files(tmp_path / "hub") == shards and (tmp_path / "hub" / shards[0]).stat().st_mtime_ns == kept
    for streaming in (False, True):
        read = list(read_dataset("hub", tmp_path / "hub", split="train", streaming=streaming))
        for ours, theirs in zip(read, read_dataset("hub", tmp_path / "out"), strict=True):
            assert [p.tolist() for p in ours.polygons] == [p.tolist() for p in theirs.polygons]
            assert (ours.ignore, ours.texts, ours.languages) == (theirs.ignore, theirs.texts, theirs.languages)
            assert np.array_equal(load_image(ours.image), load_image(theirs.image))
    # Shards of another size, or of rows that were corrected since, are neither mixed with the new ones nor taken for them.
    with pytest.raises(FileExistsError, match="--overwrite"):
        run(*arguments[:-1], 400)
    metadata = tmp_path / "out" / "train" / "metadata.jsonl"
    corrected = metadata.read_text(encoding="utf-8").replace('"text": ["', '"text": ["new ')
    metadata.write_text(corrected, encoding="utf-8")
    with pytest.raises(FileExistsError, match="--overwrite"):
        run(*arguments)
    assert files(tmp_path / "hub") == shards
    # Of one that another program wrote, nothing is claimed.
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(tmp_path / "hub" / shards[1])
    parquet.write_table(table.replace_schema_metadata(), tmp_path / "hub" / shards[1])
    with pytest.raises(
        FileExistsError, match="train-00001-of-00002.parquet does not say which rows it has .*--overwrite"
    ):
        run(*arguments)
    assert run(*arguments[:-1], 400, "--overwrite") == 0
    assert files(tmp_path / "hub") == ["data/train-00000-of-00001.parquet"]


def write_icdar(folder, contents):
    save_pictures(folder, contents)
    for name, content in contents.items():
        (folder / f"gt_{name}.txt").write_text(content)
    return folder


def test_repairs_and_drops_are_reported(tmp_path, capsys):
    crossing, flat = [[10, 10], [40, 30], [40, 10], [10, 30]], [[5, 5], [9, 9], [5, 5], [9, 9]]
    lines = [(box(1, 1), "a"), (crossing, "b"), (flat, "c"), (box(900, 9), "d"), (box(600, 9), "###")]
    content = "\n".join(f"{numbers(points)},{text}" for points, text in lines)
    source = write_icdar(tmp_path / "source", {"img_1": content, "img_2": "", "img_3": "1,2,3"})
    (source / "img_2.jpg").write_bytes(b"no image")
    with pytest.raises(AnnotationError, match=r"gt_img_3\.txt, line 1.*--skip-bad"):
        run("icdar2015", source, tmp_path / "out")
    # Other settings would mix two data sets in one folder.
    with pytest.raises(ValueError, match="unfinished run with other settings"):
        run("icdar2015", source, tmp_path / "out", "--skip-bad", "--link")
    assert run("icdar2015", source, tmp_path / "out", "--skip-bad") == 1
    report = json.loads((tmp_path / "out" / "train" / "report.json").read_text())
    (row,) = rows(tmp_path / "out" / "train")
    assert row["text"] == ["a", "b", "###"] and row["ignore"] == [False, False, True]
    assert row["polygons"][1] == [[10, 10], [40, 10], [40, 30], [10, 30]]
    assert report["instances"] == 3 and report["ignored"] == 1 and report["partly_outside"] == 1
    assert sum(report["repaired"].values()) == 1
    assert report["dropped"] == {prepare_reason("NO_AREA"): 1, prepare_reason("OUTSIDE"): 1}
    assert report["dropped_images"] == {"image cannot be read": 1, "annotation cannot be meant": 1}
    assert "img_1.jpg: instance 3" in report["examples"][prepare_reason("NO_AREA")][0]
    out = capsys.readouterr().out
    assert "gt_img_3.txt, line 1" in out and "dropped           2" in out and "dropped images    2" in out
    assert run("icdar2015", source, tmp_path / "raw", "--skip-bad", "--no-repair") == 1
    assert len(rows(tmp_path / "raw" / "train")[0]["polygons"]) == 5


def prepare_reason(name):
    from tcm_hf.data import cleaning

    return getattr(cleaning, name)


@pytest.mark.parametrize("texts, warning", [(["###", "###"], "all ignored"), ([], "no text")])
def test_what_cannot_be_learnt_is_warned_of(tmp_path, capsys, texts, warning):
    content = "\n".join(f"{numbers(box(1, 1))},{text}" for text in texts)
    assert run("icdar2015", write_icdar(tmp_path / "s", {"img_1": content}), tmp_path / "out") == 0
    assert f"warning: {warning}" in capsys.readouterr().out


@pytest.mark.parametrize("placing", ["copy", "link", "hardlink"])
def test_ways_to_place_pictures(tmp_path, placing):
    source = write_icdar(tmp_path / "s", {"img_1": ""})
    assert run("icdar2015", source, tmp_path / "out", f"--{placing}") == 0
    target = tmp_path / "out" / "train" / "images" / "img_1.jpg"
    assert target.is_symlink() == (placing == "link")
    assert (target.stat().st_ino == (source / "img_1.jpg").stat().st_ino) == (placing != "copy")


def test_the_frame_of_resized_copies_is_kept(tmp_path):
    source = write_icdar(tmp_path / "s", {"img_1": f"{numbers(box(1000, 700))},a"})
    assert run("icdar2015", source, tmp_path / "out", "--frame-size", 960, 1280) == 0
    (record,) = read_dataset("hub", tmp_path / "out")
    assert record.size == (960, 1280) and record.polygons[0].tolist() == box(1000, 700)


def test_damaged_pictures_are_found_by_decoding(tmp_path):
    source = write_icdar(tmp_path / "s", {"img_1": "", "img_2": ""})
    data = (source / "img_2.jpg").read_bytes()
    (source / "img_2.jpg").write_bytes(data[: len(data) // 2])
    assert run("icdar2015", source, tmp_path / "a") == 0
    assert run("icdar2015", source, tmp_path / "b", "--verify") == 1
    assert [row["file_name"] for row in rows(tmp_path / "b" / "train")] == ["images/img_1.jpg"]


def test_pictures_in_memory_are_written(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.webp", lossless=True)
    records = [
        TextRecord(pixels),
        TextRecord(Image.fromarray(pixels), [box(1, 1, 3, 3)], texts=["\ud800a"]),
        TextRecord((tmp_path / "a.webp").read_bytes(), image_name="x/a.jpg"),
    ]
    report = prepare.prepare_dataset(records, tmp_path / "out")
    assert report["images"] == 3
    read = list(read_dataset("hub", tmp_path / "out"))
    assert [record.image.name for record in read] == ["picture.png", "picture-2.png", "a.webp"]
    assert all(np.array_equal(load_image(record.image), pixels) for record in read)
    assert read[1].texts == ["?a"] and read[1].size == (6, 8)


def test_several_sources_and_one_folder(tmp_path, capsys):
    first, second = (write_icdar(tmp_path / name, {f"img_{name}": ""}) for name in ("a", "b"))
    assert run("icdar2015", first, tmp_path / "out") == 0
    assert "also has" not in capsys.readouterr().out
    with pytest.raises(FileExistsError, match=rf"from {first}: sources are not put together; training takes several"):
        run("icdar2015", second, tmp_path / "out")
    before = files(tmp_path / "out" / "train")
    assert run("icdar2015", second, tmp_path / "out", "--output-split", "test") == 0
    assert "also has the splits train, which earlier runs wrote" in capsys.readouterr().out
    assert files(tmp_path / "out" / "train") == before


def test_other_folders_are_left_alone(tmp_path):
    source = write_icdar(tmp_path / "s", {"img_1": ""})
    target = tmp_path / "out" / "train"
    target.mkdir(parents=True)
    (target / "precious.txt").write_text("x")
    for extra in ([], ["--overwrite"]):
        with pytest.raises(FileExistsError, match="not empty and no unfinished run"):
            run("icdar2015", source, tmp_path / "out", *extra)
    assert files(tmp_path / "out") == ["train/precious.txt"]
    (target / "precious.txt").unlink()
    assert run("icdar2015", source, tmp_path / "out") == 0
    with pytest.raises(FileExistsError, match="made with other settings"):
        run("icdar2015", source, tmp_path / "out", "--no-repair")
    assert run("icdar2015", source, tmp_path / "out", "--no-repair", "--overwrite") == 0
    with pytest.raises(ValueError, match="letters, digits"):
        run("icdar2015", source, tmp_path / "out", "--output-split", "../x")
    with pytest.raises(ValueError, match="NAME=JSON"):
        run("icdar2015", source, tmp_path / "out", "--option", "x")


KILLED_RUN = """
import sys, time
from pathlib import Path
from tcm_hf.data import prepare
from tcm_hf.data.formats import read_dataset

copy = prepare.shutil.copyfile

def slow(source, target):
    # In two halves, so that a kill can come between them.
    data = Path(source).read_bytes()
    with open(target, "wb") as file:
        file.write(data[:300])
        file.flush()
        time.sleep(0.002)
        file.write(data[300:])

prepare.shutil.copyfile = slow
prepare.prepare_dataset(read_dataset("icdar2015", sys.argv[1]), sys.argv[2], source=sys.argv[1])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_a_killed_run_goes_on_where_it_was(tmp_path):
    count = 300
    source = write_icdar(tmp_path / "s", {f"img_{i}": f"{numbers(box(i, 1))},w{i}" for i in range(count)})
    unbroken = prepare.prepare_dataset(read_dataset("icdar2015", source), tmp_path / "a", source=source)
    target = tmp_path / "b"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done, kills = 0, 0
    for wanted in (40, 170):
        process = subprocess.Popen([sys.executable, "-c", KILLED_RUN, str(source), str(target)], env=environment)
        journal = target / prepare.JOURNAL_NAME
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if journal.is_file() and journal.read_bytes().count(b"\n") > wanted:
                break
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        assert not (target / "metadata.jsonl").exists()
        before, done = done, journal.read_bytes().count(b"\n") - 1
        assert done > before
        # Whatever has an image's name is a whole image.
        for path in (target / "images").iterdir():
            assert path.read_bytes() == (source / path.name).read_bytes()
    assert kills == 2
    # The end of a line that was being written.
    with open(journal, "a") as file:
        file.write('{"source": "half')
    places = {path: path.stat().st_mtime_ns for path in (target / "images").iterdir()}
    report = prepare.prepare_dataset(read_dataset("icdar2015", source), target, source=source)
    assert report == unbroken
    assert files(target) == files(tmp_path / "a")
    assert (target / "metadata.jsonl").read_bytes() == (tmp_path / "a" / "metadata.jsonl").read_bytes()
    # One image may have been placed without its line; no other was written again.
    assert sum(path.stat().st_mtime_ns != time for path, time in places.items()) <= 1


def test_a_resumed_run_notices_another_source(tmp_path):
    source = write_icdar(tmp_path / "s", {"img_1": "", "img_2": "", "img_3": "1,2"})
    with pytest.raises(AnnotationError):
        run("icdar2015", source, tmp_path / "out")
    (source / "img_2.jpg").rename(source / "img_0.jpg")
    (source / "gt_img_2.txt").rename(source / "gt_img_0.txt")
    with pytest.raises(ValueError, match="image 1 was .*img_1.jpg, is .*img_0.jpg"):
        run("icdar2015", source, tmp_path / "out")
    for path in source.glob("*img_[13]*"):
        path.unlink()
    assert run("icdar2015", source, tmp_path / "out", "--overwrite") == 0
    assert [row["file_name"] for row in rows(tmp_path / "out" / "train")] == ["images/img_0.jpg"]


def test_options_of_the_reader_reach_it(tmp_path):
    write_sample("coco", tmp_path / "s", [Picture("img_1", [Word(box(1, 1), "x")])])
    assert run("coco", tmp_path / "s", tmp_path / "out", "--option", 'categories=["cat"]') == 0
    assert rows(tmp_path / "out" / "train")[0]["polygons"] == []
    with pytest.raises(ValueError, match="unknown option .record_size."):
        run("coco", tmp_path / "s", tmp_path / "b", "--frame-size", 1, 2)
