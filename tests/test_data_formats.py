"""Readers of annotation files."""

from pathlib import Path

import numpy as np
import pytest
from conftest import shared_path
from PIL import Image

from tcm_hf.data.formats import (
    FORMATS,
    AnnotationError,
    TextRecord,
    load_image,
    load_record,
    parse_icdar2015,
    read_dataset,
    read_icdar2015,
    registry,
)


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
    with pytest.raises(ValueError, match="no image"):
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


# The front door -------------------------------------------------------------------------------------------------------


def test_every_format_says_what_it_reads_and_has_the_common_options():
    for name, entry in FORMATS.items():
        assert entry.name == name and entry.title and entry.layout and entry.reader.__doc__
        assert {"missing", "on_error"} <= set(entry.options)
    assert FORMATS["totaltext"].reader.__name__ == "read_totaltext"


@pytest.mark.parametrize("name", ["icdar2015", "IC15", "ICDAR 2015", "icdar-2015"])
def test_a_format_has_many_spellings(name, tmp_path):
    write_dataset(tmp_path, {"img_1": b"0,0,9,0,9,9,0,9,a"})
    (record,) = read_dataset(name, tmp_path)
    assert record.texts == ["a"] and record.image.name == "img_1.png"


def test_unknown_formats_and_options_are_named(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'icdar2015'"):
        read_dataset("icdar215", tmp_path)
    with pytest.raises(ValueError, match="icdar2015: unknown option 'image'; it has images, annotations"):
        read_dataset("icdar2015", tmp_path, image=tmp_path)
    with pytest.raises(ValueError, match="`missing` must be one of 'error', 'skip', 'keep', got 'no'"):
        read_dataset("icdar2015", tmp_path, missing="no")
    with pytest.raises(ValueError, match="`orientation` must be one of"):
        read_dataset("icdar2015", tmp_path, orientation="up")
    with pytest.raises(FileNotFoundError, match="Source folder not found: .*nowhere"):
        read_dataset("icdar2015", tmp_path / "nowhere")


def test_records_come_lazily(tmp_path):
    write_dataset(tmp_path, {"img_1": b"0,0,9,0,9,9,0,9,a", "img_2": b"broken"})
    records = read_dataset("icdar2015", tmp_path)
    assert next(records).texts == ["a"]
    with pytest.raises(AnnotationError, match=r"gt_img_2\.txt, line 1"):
        next(records)


def test_bad_pictures_can_be_left_out(tmp_path):
    write_dataset(tmp_path, {"img_1": b"broken", "img_2": b"0,0,9,0,9,9,0,9,a"})
    errors = []
    (record,) = read_dataset("icdar2015", tmp_path, on_error=errors.append)
    assert record.image.name == "img_2.png"
    assert [type(error) for error in errors] == [AnnotationError] and "gt_img_1.txt" in str(errors[0])


def published_layout(tmp_path):
    for part, image_folder, gt_folder in (
        ("a", "ch4_training_images", "ch4_training_localization_transcription_gt"),
        ("b", "ch4_test_images", "Challenge4_Test_Task1_GT"),
    ):
        (tmp_path / image_folder).mkdir()
        (tmp_path / gt_folder).mkdir()
        Image.new("RGB", (16, 12)).save(tmp_path / image_folder / "img_1.jpg")
        (tmp_path / gt_folder / "gt_img_1.txt").write_text(f"0,0,9,0,9,9,0,9,{part}")


def test_a_split_is_found_by_the_names_of_its_folders(tmp_path):
    published_layout(tmp_path)
    for split, text in (("train", "a"), ("test", "b"), ("training", "a")):
        (record,) = read_dataset("icdar2015", tmp_path, split=split)
        assert record.texts == [text]
    with pytest.raises(AnnotationError, match="two annotation files for the image 'img_1'.*`split`"):
        read_dataset("icdar2015", tmp_path)
    (record,) = read_dataset(
        "icdar2015",
        tmp_path,
        images=[tmp_path / "ch4_training_images"],
        annotations=tmp_path / "Challenge4_Test_Task1_GT",
    )
    assert record.texts == ["b"] and record.image.parent.name == "ch4_training_images"
    with pytest.raises(AnnotationError, match="two images for the annotation"):
        read_dataset("icdar2015", tmp_path, annotations=tmp_path / "Challenge4_Test_Task1_GT")


def test_counterparts_that_are_missing(tmp_path):
    image_dir, gt_dir = write_dataset(tmp_path, {"img_1": b"0,0,9,0,9,9,0,9,a", "img_2": None})
    (gt_dir / "gt_img_3.txt").write_text("0,0,9,0,9,9,0,9,c")
    with pytest.raises(FileNotFoundError, match="Annotation file not found for the image .*img_2.png"):
        read_dataset("icdar2015", tmp_path)
    (image_dir / "img_2.png").unlink()
    with pytest.raises(FileNotFoundError, match="Image not found for the annotation .*gt_img_3.txt"):
        read_dataset("icdar2015", tmp_path)
    assert [record.texts for record in read_dataset("icdar2015", tmp_path, missing="skip")] == [["a"]]
    kept = list(read_dataset("icdar2015", tmp_path, missing="keep"))
    assert sorted(record.image.name for record in kept) == ["img_1.png", "img_3.jpg"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le-bom", "gb18030"])
def test_encodings(tmp_path, encoding):
    text = "0,0,9,0,9,9,0,9,\u4e2d\u6587\r\n1,1,8,1,8,8,1,8,\u00e9"
    data = b"\xff\xfe" + text.encode("utf-16-le") if encoding == "utf-16-le-bom" else text.encode(encoding)
    write_dataset(tmp_path, {"img_1": data})
    options = {"encoding": encoding} if encoding == "gb18030" else {}
    (record,) = read_dataset("icdar2015", tmp_path, **options)
    assert record.texts == ["\u4e2d\u6587", "\u00e9"]
    with pytest.raises(ValueError, match="unknown encoding: klingon"):
        list(read_dataset("icdar2015", tmp_path, encoding="klingon"))


# Orientation ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", range(1, 9))
def test_annotations_of_stored_pictures_are_turned_with_them(tmp_path, tag):
    """A white block of the stored image, found again in the upright one by looking at its pixels."""
    pixels = np.zeros((40, 64, 3), np.uint8)
    pixels[8:16, 16:48] = 255
    exif = Image.Exif()
    exif[0x0112] = tag
    Image.fromarray(pixels).save(tmp_path / "img_1.png", exif=exif)
    (tmp_path / "gt_img_1.txt").write_text("16,8,48,8,48,16,16,16,a")
    (record,) = read_dataset("icdar2015", tmp_path)
    upright = load_record(record)[..., 0] > 127
    rows, columns = np.flatnonzero(upright.any(axis=1)), np.flatnonzero(upright.any(axis=0))
    polygon = record.polygons[0]
    assert polygon.min(axis=0).tolist() == [columns[0], rows[0]]
    assert polygon.max(axis=0).tolist() == [columns[-1] + 1, rows[-1] + 1]
    (as_shown,) = read_dataset("icdar2015", tmp_path, orientation="upright")
    assert as_shown.polygons[0][0].tolist() == [16, 8]


def test_a_resized_and_turned_copy(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 40)).save(tmp_path / "img_1.jpg", exif=exif)
    (tmp_path / "gt_img_1.txt").write_text("0,0,128,0,128,20,0,20,a")
    (record,) = read_dataset("icdar2015", tmp_path, record_size=(80, 128))
    assert record.size == (128, 80) and load_record(record).shape == (128, 80, 3)
    # The upper edge of the stored image is the right one of the upright image.
    assert record.polygons[0].min(axis=0).tolist() == [60, 0] and record.polygons[0].max(axis=0).tolist() == [80, 128]


def test_published_samples_parse():
    folder = shared_path("data/formats")
    counts = {"icdar2013": [9, 4, 2, 7, 5, 2], "td500": [2, 2, 5, 2, 4, 1], "totaltext": [1, 9, 4, 12, 1, 12]}
    for name, expected in counts.items():
        records = list(read_dataset(name, folder / name, missing="keep"))
        assert [len(record.polygons) for record in records] == expected, name
        points = np.concatenate([polygon for record in records for polygon in record.polygons])
        assert points.min() > -100 and points.max() < 4000
    records = list(read_dataset("mmocr", folder / "mmocr_toy"))
    assert len(records) == 10 and sum(len(record.polygons) for record in records) == 82
    assert all(load_image(record.image).shape == (720, 1280, 3) for record in records[:2])


def test_a_format_of_ones_own(monkeypatch, tmp_path, capsys):
    for name in ("FORMATS", "_NAMES"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))

    def read_mine(source, *, options=None):
        yield TextRecord(Path(source, "1.png"), polygons=[np.array([[1, 1], [9, 1], [9, 9], [1, 9]], np.float32)])

    entry = registry.DatasetFormat("mine", "Mine", "files of mine", read_mine, ("my own",))
    registry.register_format(entry)
    assert len(list(read_dataset("My-Own", tmp_path))) == 1
    for names in (("other", "ic15"), ("other", "my_own"), ("coco", "other")):
        with pytest.raises(ValueError, match="choose another"):
            registry.register_format(registry.DatasetFormat(names[0], "Other", "", read_mine, names[1:]))
        assert "other" not in registry.FORMATS and registry.FORMATS["coco"].reader is not read_mine
    registry.register_format(registry.DatasetFormat("coco", "Other", "", read_mine), exist_ok=True)
    assert len(list(read_dataset("coco", tmp_path))) == 1
