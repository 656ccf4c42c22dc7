# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""The format `auto`: every known one is recognized by what is in its files."""

import json
import random
import re

import pytest
from annotation_samples import QUADS, SAMPLES, coco_json, save_pictures, write_sample
from conftest import shared_path

from tcm_hf.cli import main
from tcm_hf.data.formats import FORMATS, AnnotationError, DatasetFormat, find_format, read_dataset, recognize_format
from tcm_hf.data.formats import registry as registry_module
from tcm_hf.data.formats.recognition import json_beginning, line_kind


# Of formats that one reader reads, the first.
TWINS = {"mlt2019": "mlt2017", "lsvt": "art", "tr400": "td500"}


@pytest.mark.parametrize("format", SAMPLES)
def test_every_format_is_recognized(format, tmp_path):
    written = write_sample(format, tmp_path)
    name = format.split("-")[0]
    assert recognize_format(tmp_path).name == TWINS.get(name, name)
    records = list(read_dataset("auto", tmp_path))
    assert [len(record.polygons) for record in records] == [len(picture.words) for picture in written]


@pytest.mark.parametrize(
    "name",
    ["icdar2013", "icdar2015/gt", "mlt2017", "td500", "totaltext", "mmocr_toy"],
)
def test_published_files_are_recognized(name):
    folder = shared_path("data" if name.startswith("icdar2015/") else "data/formats") / name
    expected = {"icdar2015/gt": "icdar2015", "mmocr_toy": "mmocr"}.get(name, name)
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    assert recognize_format(folder).name == expected


def test_boxes_of_the_hub_are_recognized(tmp_path):
    save_pictures(tmp_path, ["1"])
    row = {"file_name": "1.jpg", "objects": {"bbox": [[1, 2, 3, 4]]}}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row))
    assert len(next(read_dataset("auto", tmp_path)).polygons) == 1
    assert recognize_format("owner/name").name == "hub"


def test_what_is_no_data_set_is_told(tmp_path):
    save_pictures(tmp_path, ["1", "2"])
    (tmp_path / "notes.txt").write_text("Nothing to see here, 1, 2, 3\n" * 5)
    (tmp_path / "a.json").write_text('{"a": 1}')
    with pytest.raises(
        ValueError, match=r"no known format in its files \(2 \.jpg, .*name the one that is meant: icdar2013, "
    ):
        read_dataset("auto", tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder or file"):
        read_dataset("auto", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="unknown format 'auto'"):
        find_format("auto")


def test_several_formats_in_one_folder(tmp_path):
    write_sample("coco", tmp_path)
    write_sample("icdar2015", tmp_path)
    with pytest.raises(ValueError, match="files of several formats: name one, icdar2015 or coco"):
        read_dataset("auto", tmp_path)
    assert len(list(read_dataset("auto", tmp_path / "instances_train.json", missing="keep"))) == 3


@pytest.mark.parametrize(
    "format, meant",
    [
        ("icdar2013", "icdar2015"),
        ("icdar2015", "yolo"),
        ("coco", "labelstudio"),
        ("labelme", "coco"),
        ("via", "mmocr"),
        ("voc", "cvat"),
        ("cvat", "voc"),
        ("hub", "csv"),
        ("csv", "via-csv"),
        ("yolo", "td500"),
        ("doctr", "supervisely"),
        ("art", "doctr"),
    ],
)
def test_an_error_names_the_format_that_would_fit(format, meant, tmp_path):
    write_sample(meant, tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=rf"; .* looks like the format {meant.split('-')[0]}$"):
        list(read_dataset(format, tmp_path, **({"missing": "keep"} if format != "hub" else {})))


def test_an_error_in_the_right_format_has_no_advice(tmp_path):
    write_sample("coco", tmp_path)
    path = tmp_path / "instances_train.json"
    content = coco_json(QUADS)
    content["annotations"][0]["segmentation"] = [[1, 2]]
    path.write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match="remove or redraw it$"):
        list(read_dataset("coco", tmp_path))
    # An error behind the first record is that of one entry.
    content = coco_json(QUADS)
    content["annotations"][-1]["segmentation"] = [[1, 2]]
    path.write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match="remove or redraw it$"):
        list(read_dataset("coco", tmp_path))
    errors = []
    write_sample("yolo", tmp_path / "yolo")
    list(read_dataset("icdar2015", tmp_path / "yolo", on_error=errors.append))
    assert errors and all(str(error).endswith("looks like the format yolo") for error in errors)


def test_a_format_of_others_takes_part(tmp_path, monkeypatch):
    monkeypatch.setattr(registry_module, "FORMATS", dict(FORMATS))
    (tmp_path / "a.mine").write_text("x")
    entry = DatasetFormat(
        "mine", "Ours", "a.mine", lambda source: iter(()), recognize=lambda files: files.files[0].suffix == ".mine"
    )
    registry_module.FORMATS["mine"] = entry
    assert registry_module.recognize_format(tmp_path) is entry


def test_commands_know_auto(tmp_path, capsys):
    write_sample("voc", tmp_path / "set")
    assert main(["prepare", "auto", str(tmp_path / "set"), str(tmp_path / "out")]) == 0
    assert "format: voc" in capsys.readouterr().out
    assert main(["inspect", "auto", str(tmp_path / "out"), "--shots", "0"]) == 0
    assert "format: hub" in capsys.readouterr().out
    assert main(["prepare", "coco", str(tmp_path / "set"), str(tmp_path / "other")]) == 1
    assert re.search("no COCO file .* looks like the format voc", capsys.readouterr().err)
    files = tmp_path / "found"
    files.mkdir()
    for picture in QUADS:
        lines = [",".join(str(v) for point in word.points for v in point) + ",0.9\n" for word in picture.words]
        (files / f"res_{picture.name}.txt").write_text("".join(lines))
    arguments = ["evaluate", str(files), "--ground-truth", str(tmp_path / "set"), "--format", "auto"]
    assert main([*arguments, "--output", str(tmp_path / "report.json")]) == 0
    assert json.loads((tmp_path / "report.json").read_text())["hmean"] == 1


def test_many_images_do_not_hide_the_annotations(tmp_path, monkeypatch):
    from tcm_hf.data.formats import recognition

    monkeypatch.setattr(recognition, "MAX_FILES", 5)
    write_sample("cvat", tmp_path)
    save_pictures(tmp_path / "zz", [str(number) for number in range(20)], size=(4, 4))
    assert recognize_format(tmp_path).name == "cvat"


# Parts


def test_beginnings_of_json():
    text = json.dumps(
        {"images": [{"id": 1, "file_name": 'a "b", [c\\'}, {"id": 2, "x": [1, [2, {}], None]}], "b": {"c": "d"}}
    )
    whole = json.loads(text)
    assert json_beginning(text) == whole
    for end in range(len(text)):
        value = json_beginning(text[:end])
        if value is not None:
            images = value.get("images", [])
            assert images[:-1] == whole["images"][: max(len(images) - 1, 0)]
    assert json_beginning(text[:-20])["images"][0] == whole["images"][0]
    for text in ("", "x", "[" * 100_000, "]", '{"a": "' + "[," * 1000, "[1, 2}, 3"):
        assert json_beginning(text) is None


@pytest.mark.parametrize(
    "line, suffix, kind",
    [
        ('38, 43, 920, 215, "Tiredness"', ".txt", "icdar2013"),
        ('158 128 411 181 "Footpath"', ".txt", "icdar2013"),
        ("377,117,463,117,465,130,378,130,Genaxis Theatre", ".txt", "icdar2015"),
        ("377,117,463,117,465,130,378,130,12,50", ".txt", "icdar2015"),
        ("377,117,463,117,465,130,378,130", ".txt", "icdar2015"),
        ("1,2,3,4,5,6,7,8,Latin,word", ".txt", "mlt"),
        ("0 0 10 20 100 30 0.1", ".gt", "td500"),
        ("10,20,100,30,0.1,word", ".txt", "td500"),
        ("1,2,3,4,5,6,7,8,9,10,word", ".txt", "totaltext"),
        ("x: [[1 2]], y: [[1 2]], ornt: [u'c'], transcriptions: [u'a']", ".txt", "totaltext"),
        (",".join(map(str, range(28))) + ",####a", ".txt", "ctw1500"),
        ("0 0.1 0.2 0.3 0.4", ".txt", "yolo"),
        ("12 0.1 0.2 0.3 0.4 0.5 0.6", ".txt", "yolo"),
        ("set/1.jpg\t[]", ".txt", "paddleocr"),
        ("a text of words, and commas", ".txt", ""),
        ("1 2 3", ".txt", ""),
    ],
)
def test_kinds_of_lines(line, suffix, kind):
    assert line_kind(line, suffix) == kind


@pytest.mark.slow
def test_files_of_any_bytes_are_no_error(tmp_path):
    from test_data_formats_fuzz import mutated

    rng = random.Random(5)
    for format in SAMPLES:
        folder = tmp_path / format
        write_sample(format, folder)
        files = [path for path in folder.rglob("*") if path.suffix != ".jpg" and path.is_file()]
        for path in files:
            data = path.read_bytes()
            for _ in range(30):
                path.write_bytes(mutated(data, rng))
                try:
                    recognize_format(folder)
                except ValueError as error:
                    assert "known format" in str(error) or "several formats" in str(error)
            path.write_bytes(data)
