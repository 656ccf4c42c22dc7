"""Readers of annotation files."""

import numpy as np
import pytest
from conftest import shared_path
from PIL import Image

from tcm_hf.data.formats import TextRecord, load_image, load_record, parse_icdar2015, read_icdar2015


def write_dataset(folder, files, size=(16, 12)):
    (folder / "images").mkdir()
    (folder / "gt").mkdir()
    for stem, content in files.items():
        Image.new("RGB", size, (10, 200, 30)).save(folder / "images" / f"{stem}.png")
        if content is not None:
            (folder / "gt" / f"gt_{stem}.txt").write_bytes(content)
    return folder / "images", folder / "gt"


def test_reads_mark_line_endings_commas_and_ignored_words(tmp_path):
    content = "\ufeff1,2,30,4,5,6.5,-7,8,Hello, world\r\n10,20,30,20,30,40,10,40,###\r\n\r\n0,0,9,0,9,9,0,9,é\u2028x"
    folders = write_dataset(tmp_path, {"img_1": content.encode()})
    (record,) = read_icdar2015(*folders)
    assert record.texts == ["Hello, world", "###", "é\u2028x"]
    assert record.ignore == [False, True, False]
    assert record.polygons[0].tolist() == [[1, 2], [30, 4], [5, 6.5], [-7, 8]]
    assert [p.shape for p in record.polygons] == [(4, 2)] * 3
    assert record.size is None
    assert record.image.name == "img_1.png"


def test_records_come_in_natural_order_and_may_be_empty(tmp_path):
    folders = write_dataset(tmp_path, {"img_10": b"", "img_9": b"0,0,9,0,9,9,0,9,nine"})
    records = read_icdar2015(*folders)
    assert [record.texts for record in records] == [["nine"], []]
    assert records[1].polygons == records[1].ignore == []


@pytest.mark.parametrize(
    "line, reason",
    [
        (b"1,2,3,4,5,6,7,word", "fields"),
        (b"1,2,3,4,5,6,seven,8,word", "not a number"),
        (b"1,2,3,4,5,6,nan,8,word", "not finite"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, reason):
    path = tmp_path / "gt_img_3.txt"
    path.write_bytes(b"0,0,9,0,9,9,0,9,fine\n" + line + b"\n")
    with pytest.raises(ValueError, match=rf"gt_img_3\.txt, line 2: .*{reason}"):
        parse_icdar2015(path)


def test_missing_things_are_named(tmp_path):
    folders = write_dataset(tmp_path, {"img_1": None})
    with pytest.raises(FileNotFoundError, match="gt_img_1.txt"):
        read_icdar2015(*folders)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_icdar2015(tmp_path / "nowhere", folders[1])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_icdar2015(folders[0], tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no picture"):
        read_icdar2015(folders[1], folders[1])


def test_a_file_that_is_not_utf8_is_named(tmp_path):
    path = tmp_path / "gt_img_1.txt"
    path.write_bytes(b"0,0,9,0,9,9,0,9,caf\xe9")
    with pytest.raises(ValueError, match=r"gt_img_1\.txt: not UTF-8"):
        parse_icdar2015(path)


def test_a_resized_copy_is_brought_to_the_annotations_frame(tmp_path):
    folders = write_dataset(tmp_path, {"img_1": b"0,0,9,0,9,9,0,9,a"}, size=(16, 12))
    (record,) = read_icdar2015(*folders, record_size=(24, 64))
    image = load_record(record)
    assert image.shape == (24, 64, 3) and image.dtype == np.uint8
    assert image[5, 5].tolist() == [10, 200, 30]
    assert load_image(record.image).shape == (12, 16, 3)


def test_rotation_tag_is_applied(tmp_path):
    picture = Image.new("RGB", (8, 4), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert load_image(tmp_path / "a.jpg").shape == (8, 4, 3)


def test_record_checks_its_fields():
    square = [[0, 0], [4, 0], [4, 4], [0, 4]]
    record = TextRecord(np.zeros((8, 8, 3), np.uint8), [square, square[:3]])
    assert record.ignore == [False, False] and record.texts == [None, None]
    assert record.polygons[1].dtype == np.float32
    with pytest.raises(ValueError, match="2 polygons, 1 `ignore`"):
        TextRecord("a.jpg", [square, square], [True])
    with pytest.raises(ValueError, match=r"a\.jpg: polygon 1 has shape \(2, 2\)"):
        TextRecord("a.jpg", [square, square[:2]])


def test_published_annotations_are_read_completely():
    folder = shared_path("data/icdar2015")
    records = read_icdar2015(folder / "images", folder / "gt", record_size=(720, 1280))
    assert len(records) == 800
    lines = [
        line
        for path in (folder / "gt").glob("*.txt")
        for line in path.read_text(encoding="utf-8-sig").split("\n")
        if line.strip()
    ]
    assert sum(len(record.polygons) for record in records) == len(lines)
    assert sum(sum(record.ignore) for record in records) == sum(line.strip().endswith(",###") for line in lines)
    assert records[0].texts[0] == "Genaxis Theatre"
    assert records[0].polygons[0].tolist() == [[377, 117], [463, 117], [465, 130], [378, 130]]
    points = np.concatenate([polygon for record in records for polygon in record.polygons])
    assert points.min() > -100 and (points.max(axis=0) < (1380, 820)).all()
