# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""`tcm-hf inspect`."""

import numpy as np
import pytest
from annotation_samples import Picture, Word, box, curve, numbers, save_pictures, write_sample
from PIL import Image

from tcm_hf.commands import inspect as command
from tcm_hf.commands.parser import CommandParser
from tcm_hf.data import inspect_data
from tcm_hf.data.formats import TextRecord, read_dataset
from tcm_hf.targets import build_db_targets
from tcm_hf.targets.views import MASK_COLOR


def run(*arguments):
    parser = CommandParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(list(map(str, arguments))))


def write_icdar(folder, contents):
    save_pictures(folder, contents)
    for name, words in contents.items():
        (folder / f"gt_{name}.txt").write_text("\n".join(f"{numbers(points)},{text}" for points, text in words))
    return folder


def test_counts_and_warnings(tmp_path, capsys):
    source = write_icdar(
        tmp_path / "s",
        {
            "img_1": [(box(1, 1, 60, 20), "a"), (box(100, 1, 60, 30), "b"), (box(2, 2), "###")],
            "img_2": [(box(9, 9), "###")],
            "img_3": [],
            "img_4": [(box(700, 9), "out"), ([[5, 5], [9, 9], [5, 5], [9, 9]], "flat"), (box(620, 400), "partly")],
        },
    )
    (source / "img_3.jpg").write_bytes(b"?")
    (source / "gt_img_5.txt").write_text("1,2,3")
    save_pictures(source, ["img_5"])
    assert run("icdar2015", source, "--shots", 0) == 1
    out = capsys.readouterr().out
    values = {line[:30].strip(): line[31:] for line in out.splitlines() if not line.startswith("warning")}
    assert values["images"] == "4" and values["images without text"] == "1" and values["instances"] == "7"
    assert (
        values["ignored"] == "2" and values["images with ignored text only"] == "1" and values["partly outside"] == "1"
    )
    assert values["points of outlines"] == "4: 7"
    assert values["height of readable text"].startswith("20.0, 20.0, 29.0 pixels")
    assert f"boxes out of the image: 1 ({source / 'img_4.jpg'}: instance 1)" in out
    assert f"degenerate polygons (no area): 1 ({source / 'img_4.jpg'}: instance 2)" in out
    assert "images that cannot be read: 1" in out and "img_3.jpg" in out
    assert "annotations that cannot be meant: 1" in out and "gt_img_5.txt, line 1" in out


@pytest.mark.parametrize("words, warning", [([(box(1, 1), "###")], "all ignored"), ([], "no text")])
def test_nothing_to_learn(tmp_path, capsys, words, warning):
    assert run("icdar2015", write_icdar(tmp_path / "s", {"img_1": words}), "--shots", 0) == 0
    assert f"warning: {warning}" in capsys.readouterr().out


def test_a_good_data_set_has_no_warning(tmp_path, capsys):
    write_sample("mlt2017", tmp_path)
    assert run("mlt2017", tmp_path, "--output", tmp_path / "o") == 0
    out = capsys.readouterr().out
    assert "warning" not in out and "languages                      Latin: 1, Arabic: 1, Korean: 1" in out


def test_wrong_frames_are_warned_of(tmp_path, capsys):
    source = write_icdar(tmp_path / "s", {"img_1": [(box(600, 460), "a"), (box(630, 470), "b")]})
    run("icdar2015", source, "--shots", 0)
    assert "most text reaching over the border" in capsys.readouterr().out


def test_samples_are_seeded_and_in_order():
    records = [TextRecord(np.zeros((4, 4, 3), np.uint8), image_name=str(i)) for i in range(200)]
    chosen = [[int(r.name) for r in inspect_data.inspect_records(records, 10, seed).samples] for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert all(len(set(names)) == 10 and names == sorted(names) for names in chosen)
    # Every image has the same chance: 400 samples of 10 out of 200 take each about 20 times.
    counts = np.zeros(200)
    for seed in range(400):
        for record in inspect_data.inspect_records(records, 10, seed).samples:
            counts[int(record.name)] += 1
    assert counts.sum() == 4000 and abs(counts[:100].sum() - 2000) < 200 and counts.max() < 45
    assert len(inspect_data.inspect_records(records[:3], 10).samples) == 3


def test_sheets_and_files(tmp_path, capsys):
    write_sample("icdar2015", tmp_path / "s")
    assert run("icdar2015", tmp_path / "s", "--output", tmp_path / "o", "--size", 160) == 0
    (sheet,) = (tmp_path / "o").iterdir()
    with Image.open(sheet) as image:
        assert image.size == (2 * 160, 2 * (120 + inspect_data.CAPTION_HEIGHT))
    arguments = ("--output", tmp_path / "f", "--size", 160, "--files", "--shots", 2, "--targets", "pan")
    assert run("icdar2015", tmp_path / "s", *arguments) == 0
    names = sorted(path.name for path in (tmp_path / "f").iterdir())
    assert len(names) == 2 and names[0].startswith("001_img_")
    with Image.open(tmp_path / "f" / names[0]) as image:
        assert image.size == (3 * 160, 120)
    assert f"written: {tmp_path / 'f' / names[0]}" in capsys.readouterr().out


def test_ignored_text_looks_different():
    image = np.full((100, 200, 3), 128, np.uint8)
    drawn = np.asarray(inspect_data.draw_sample(TextRecord(image, [box(10, 10), box(110, 60)], [False, True])), int)
    assert drawn.shape == (100, 200, 3)
    readable, ignored = drawn[9:31, 9:71], drawn[59:81, 109:171]
    assert (readable[..., 1] - readable[..., 0]).max() > 150 and (ignored[..., 0] - ignored[..., 1]).max() > 150
    # The cross goes through the middle.
    assert drawn[70, 138:143, 0].max() > 220
    assert (drawn[90:, :100] == 128).all()


@pytest.mark.parametrize("detector, views", [("db", 2), ("pan", 2), ("fce", 3)])
def test_targets_are_drawn(detector, views):
    polygons, ignore = (
        [np.array(curve(20, 20), np.float32), np.array(box(200, 150, 80, 30), np.float32)],
        [False, True],
    )
    drawn = inspect_data.target_views(polygons, ignore, 240, 320, detector)
    assert len(drawn) == views and all(view.shape == (240, 320, 3) and view.dtype == np.uint8 for view in drawn)
    assert (drawn[0][160, 240] == MASK_COLOR).all()
    # On the arc of the curve, and far from any text.
    assert max(view[51, 80].max() for view in drawn) > 100 and (drawn[0][220, 20] == 0).all()
    sample = inspect_data.draw_sample(TextRecord(np.zeros((240, 320, 3), np.uint8), polygons, ignore), detector, 160)
    assert sample.size == (160 * (views + 1), 120)
    with pytest.raises(ValueError, match="unknown detector 'east': known are 'db', 'fce', 'pan'"):
        inspect_data.target_views(polygons, ignore, 240, 320, "east")


def test_db_view_shows_the_targets():
    polygon = np.array(box(20, 20, 200, 60), np.float32)
    maps = build_db_targets([polygon], [False], 120, 260)
    shrink, _ = inspect_data.target_views([polygon], [False], 120, 260, "db")
    assert np.array_equal(shrink[..., 0] > 0, maps["shrink_map"] > 0)


def test_text_that_is_small_only_in_the_drawing_keeps_its_targets():
    record = TextRecord(np.zeros((400, 1600, 3), np.uint8), [box(100, 100, 400, 24)])
    sample = np.asarray(inspect_data.draw_sample(record, "db", 400))
    assert sample.shape == (100, 1200, 3)
    kernel = sample[:, 400:800]
    assert kernel[28, 75].min() > 100 and not (kernel == MASK_COLOR).all(axis=-1).any()


def test_prepared_folders_and_bad_options(tmp_path, capsys):
    write_sample("hub", tmp_path / "s", [Picture("a", [Word(box(1, 1), "x")])])
    assert run("hub", tmp_path / "s", "--output", tmp_path / "o") == 0
    assert len(list(read_dataset("hub", tmp_path / "s"))) == 1
    with pytest.raises(ValueError, match="--shots must be at least 0"):
        run("hub", tmp_path / "s", "--shots", -1)
    with pytest.raises(ValueError, match="no image with an annotation"):
        (tmp_path / "s" / "metadata.jsonl").write_text("{}")
        run("hub", tmp_path / "s")
