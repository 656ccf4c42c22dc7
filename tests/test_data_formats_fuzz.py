# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""Every format: what is written is read; what is damaged raises the documented error and nothing else."""

import random
from pathlib import Path

import numpy as np
import pytest
from annotation_samples import SAMPLES, Picture, Word, sample_files, save_pictures, write_sample
from conftest import shared_path
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcm_hf.data.formats import AnnotationError, read_dataset


# Characters that can stand in every format: no control characters, no half surrogates, no line ends.
TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="\u2028"), min_size=1
).filter(lambda text: text not in ("###", "#", ".", "*", "None") and not text.startswith("\ufeff"))
INTEGERS = st.integers(-50, 5000)
POINTS = st.lists(st.tuples(INTEGERS, INTEGERS).map(list), min_size=3, max_size=16)
QUAD = st.lists(st.tuples(INTEGERS, INTEGERS).map(list), min_size=4, max_size=4)
FOURTEEN = st.lists(st.tuples(INTEGERS, INTEGERS).map(list), min_size=14, max_size=14)
FLOAT_POINTS = st.lists(st.tuples(*[st.floats(-50, 5000, width=32)] * 2).map(list), min_size=3, max_size=16)
RECTANGLE = st.tuples(INTEGERS, INTEGERS, st.integers(0, 900), st.integers(0, 900)).map(
    lambda r: [[r[0], r[1]], [r[0] + r[2], r[1]], [r[0] + r[2], r[1] + r[3]], [r[0], r[1] + r[3]]]
)
GEOMETRY = {
    "icdar2013": RECTANGLE,
    "icdar2015": QUAD,
    "mlt2017": QUAD,
    "mlt2019": QUAD,
    "td500": RECTANGLE,
    "tr400": RECTANGLE,
    "totaltext": POINTS,
    "totaltext-lists": POINTS,
    "totaltext-mat": POINTS,
    "ctw1500": FOURTEEN,
    "ctw1500-test": FOURTEEN,
    "synthtext": QUAD,
}
TEXTS = {
    "totaltext": TEXT.filter(lambda text: not text.replace(",", "").lstrip("+-").isdecimal()),
    "synthtext": st.text(st.sampled_from("abcXYZ019.,'"), min_size=1, max_size=9),
    "totaltext-mat": st.text(
        st.characters(min_codepoint=33, max_codepoint=0xD7FF, exclude_categories=("C", "Z")), min_size=1
    ).filter(lambda text: text not in ("#", "###")),
    "icdar2013": TEXT.filter(lambda text: not text.startswith('"')) | st.just('a "quoted" \\ word'),
    "labelme": TEXT.filter(lambda text: text.casefold() not in ("text", "word", "line")),
}
# A transcription is the only sign of unreadable text here.
MARK_ONLY = ("icdar2013", "icdar2015", "mlt2017", "mlt2019", "totaltext", "ctw1500", "ctw1500-test")
NO_TEXT = ("td500", "tr400")


@st.composite
def pictures(draw, format):
    names = ["7", "12"] if "ctw1500" in format else ["img_7", "img_12"]
    result = []
    for name in names:
        words = []
        for _ in range(draw(st.integers(1 if format in ("synthtext", "totaltext-mat") else 0, 3))):
            ignore = False if format == "synthtext" else draw(st.booleans())
            text = None if format in NO_TEXT else draw(TEXTS.get(format, TEXT))
            if ignore and format in MARK_ONLY:
                text = "###"
            elif ignore and format == "textocr":
                text = "."
            language = (
                draw(st.sampled_from(("Latin", "Korean"))) if format in ("mlt2017", "mlt2019", "cocotext") else None
            )
            words.append(Word(draw(GEOMETRY.get(format, FLOAT_POINTS)), text, ignore, language))
        result.append(Picture(name, words))
    return result


@pytest.mark.parametrize("format", SAMPLES)
def test_what_is_written_is_read(format, tmp_path):
    names = ["7", "12"] if "ctw1500" in format else ["img_7", "img_12"]
    prefix = {"textocr": "train/", "synthtext": "8/"}.get(format, "")
    save_pictures(tmp_path, [prefix + name for name in names])

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(written=pictures(format))
    def check(written):
        write_sample(format, tmp_path, written, images=False)
        read = list(read_dataset(format.split("-")[0], tmp_path))
        assert [record.image.stem for record in read] == [picture.name for picture in written]
        for record, picture in zip(read, written):
            assert record.ignore == [word.ignore for word in picture.words]
            expected = [word.text for word in picture.words]
            if format in ("totaltext-lists", "totaltext-mat"):
                expected = ["#" if word.ignore else word.text for word in picture.words]
            assert record.texts == expected
            assert record.languages is None or record.languages == [word.language for word in picture.words]
            for polygon, word in zip(record.polygons, picture.words):
                assert polygon.dtype == np.float32
                np.testing.assert_allclose(polygon, np.array(word.points, dtype=np.float32), rtol=0, atol=1e-3)

    check()


def mutated(data, rng):
    """Bytes with one to four random changes."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1) if data else 0
        kind = rng.randrange(6)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[at % len(data)] = rng.randrange(256)
        elif kind == 2:
            del data[at : at + rng.randint(1, 20)]
        elif kind == 3:
            data[at:at] = bytes(rng.choices(b'0123456789,"[]{}\n\t -.eE:<>&\\\xff\x00\xed\xa0', k=rng.randint(1, 8)))
        elif kind == 4:
            data[at:at] = data[at : at + rng.randint(1, 60)]
        else:
            del data[at:]
    return bytes(data)


def check_damaged(format, folder, name, data, rng, options, rounds):
    """Reads damaged copies of one annotation file; returns how many were refused."""
    refused = 0
    for _ in range(rounds):
        (Path(folder) / name).write_bytes(mutated(data, rng))
        try:
            records = list(read_dataset(format, folder, **options))
        except AnnotationError as error:
            assert str(folder) in str(error)
            refused += 1
        except OSError:
            refused += 1
        else:
            for record in records:
                assert all(np.isfinite(polygon).all() for polygon in record.polygons)
    return refused


@pytest.mark.parametrize("format", SAMPLES)
def test_a_damaged_file_raises_the_documented_error_only(format, tmp_path):
    write_sample(format, tmp_path)
    files, _ = sample_files(format)
    rng = random.Random(format)
    name, data = max(files.items(), key=lambda item: len(item[1]))
    assert check_damaged(format.split("-")[0], tmp_path, name, data, rng, {"missing": "keep"}, 150) > 10


@pytest.mark.parametrize(
    "format, name",
    [
        ("icdar2013", "icdar2013/gt_img_1.txt"),
        ("td500", "td500/gt_img_104.txt"),
        ("totaltext", "totaltext/gt_img4.txt"),
        ("totaltext", "totaltext/poly_gt_img4.mat"),
        ("mmocr", "mmocr_toy/textdet_test.json"),
    ],
)
def test_a_damaged_published_file_raises_the_documented_error_only(format, name, tmp_path):
    data = shared_path(f"data/formats/{name}").read_bytes()
    target = Path(name).name
    assert check_damaged(format, tmp_path, target, data, random.Random(name), {"missing": "keep"}, 150) > 10


@pytest.mark.parametrize("format", SAMPLES)
def test_empty_and_foreign_files_raise_the_documented_error_only(format, tmp_path):
    write_sample(format, tmp_path)
    files, _ = sample_files(format)
    name = next(iter(files))
    for data in (
        b"",
        b"\n\n",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a": 1}',
        b"null",
        b"1e999",
        b"\x00" * 300,
        b"9" * 5000,
    ):
        (tmp_path / name).write_bytes(data)
        try:
            list(read_dataset(format.split("-")[0], tmp_path, missing="keep"))
        except (AnnotationError, OSError):
            pass
