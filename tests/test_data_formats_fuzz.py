# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""Every format: what is written is read; what is damaged raises the documented error and nothing else."""

import json
import random
import re
import time
from pathlib import Path

import numpy as np
import pytest
from annotation_samples import SAMPLES, Picture, Word, picture_names, sample_files, save_pictures, write_sample
from conftest import shared_path
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcm_hf.cli import main
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
    # Fractions and percents of an image of 640 x 480 pixels.
    "yolo": st.lists(st.tuples(st.integers(-50, 1200), st.integers(-50, 900)).map(list), min_size=3, max_size=16),
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
NO_TEXT = ("td500", "tr400", "yolo", "doctr")


@st.composite
def pictures(draw, format):
    names = picture_names(format)
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
                draw(st.sampled_from(("Latin", "Korean")))
                if format in ("mlt2017", "mlt2019", "cocotext", "csv")
                else None
            )
            words.append(Word(draw(GEOMETRY.get(format, FLOAT_POINTS)), text, ignore, language))
        if format == "doctr":  # by classes
            words.sort(key=lambda word: word.ignore)
        result.append(Picture(name, words))
    return result


@pytest.mark.parametrize("format", SAMPLES)
def test_what_is_written_is_read(format, tmp_path):
    names = picture_names(format)
    prefix = {"textocr": "train/", "synthtext": "8/", "yolo": "images/", "supervisely": "ds/img/"}.get(format, "")
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


# Values that stand where others belong.
ODD_VALUES = (
    *(
        None,
        True,
        False,
        0,
        -1,
        7,
        2**63,
        10**30,
        1.5,
        -1e30,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "x",
        "###",
        "../x",
    ),
    *(
        "/etc/passwd",
        "\ud800",
        "\x00",
        "a" * 5000,
        [],
        [[]],
        [None],
        [[1, 2]],
        [[1, 2, 3]] * 3,
        ["1", "2", "3", "4", "5", "6"],
    ),
    *({}, {"a": []}, [{}], [[[[]]]], [True] * 6, [1e9] * 8, [[0, 0], [9, 0], [9, 9]], "file:///etc/passwd"),
)
ODD_TOKENS = (
    "nan",
    "-inf",
    "1e999",
    "0x10",
    "1_000",
    "",
    " ",
    "9" * 400,
    "1,5",
    ";",
    "\t",
    "\ufeff",
    "u'",
    "]]",
    "<!DOCTYPE a>",
    "&b;",
)


def places(value, path=()):
    """The paths of all values inside of a JSON value."""
    yield path
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def changed(value, path, new):
    """A JSON value with another one at a path; `...` removes it."""
    if not path:
        return new
    value = value.copy()
    inner = changed(value[path[0]], path[1:], new)
    if inner is ...:
        del value[path[0]]
    else:
        value[path[0]] = inner
    return value


def odd_json(data, rng):
    """JSON, or lines of JSON, with one to three odd values."""
    lines = data.decode().splitlines() if data.count(b"\n") else [data.decode()]
    at = rng.randrange(len(lines))
    head, tab, text = lines[at].rpartition("\t")
    value = json.loads(text)
    for _ in range(rng.randint(1, 3)):
        path = rng.choice(list(places(value)))
        new = rng.choice((..., *ODD_VALUES)) if path else rng.choice(ODD_VALUES)
        if rng.random() < 0.1:
            new = [new if new is not ... else None] * 3
        value = changed(value, path, new)
    lines[at] = head + tab + json.dumps(value)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def odd_tokens(data, rng):
    """Text with one to three fields replaced."""
    parts = re.split(rb"([,\s<>\[\]]+)", data)
    for _ in range(rng.randint(1, 3)):
        parts[rng.randrange(len(parts))] = rng.choice(ODD_TOKENS).encode()
    return b"".join(parts)


def read_mutant(format, folder, **options):
    """Reads a file that somebody damaged; returns whether it was refused, by the documented error."""
    start = time.process_time()
    try:
        records = list(read_dataset(format, folder, **options))
    except (AnnotationError, OSError) as error:
        records, message = None, str(error)
        assert len(message) < 3000 and str(folder) in message
    assert time.process_time() - start < 10
    for record in records or ():
        assert all(np.isfinite(polygon).all() for polygon in record.polygons)
        assert isinstance(record.image, bytes) or str(record.image).startswith(str(folder))
    return records is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::tcm_hf.data.formats.AnnotationWarning")
@pytest.mark.parametrize("format", SAMPLES)
def test_mutants_raise_the_documented_error_only(format, tmp_path):
    """100 mutants of every sample, 2,100 in all: bytes, and odd values in every field."""
    write_sample(format, tmp_path)
    files, _ = sample_files(format)
    rng = random.Random(f"odd {format}")
    name, data = max(files.items(), key=lambda item: len(item[1]))
    refused = 0
    for number in range(100):
        if number % 4 == 3 or data[:6] == b"MATLAB":
            mutant = mutated(data, rng)
        elif name.endswith(("json", "jsonl")) or format == "paddleocr":
            mutant = odd_json(data, rng)
        else:
            mutant = odd_tokens(data, rng)
        (tmp_path / name).write_bytes(mutant)
        options = {} if number % 2 else {"missing": "keep", "normalized": number % 3 == 0, "merge_duplicates": True}
        refused += read_mutant(format.split("-")[0], tmp_path, **options)
    assert 10 < refused


@pytest.mark.slow
@pytest.mark.parametrize("format", ["hub", "coco", "labelme", "icdar2015", "ctw1500", "totaltext-mat"])
def test_commands_answer_mutants_with_one_line(format, tmp_path, capsys):
    source = tmp_path / "source"
    write_sample(format, source)
    files, _ = sample_files(format)
    rng = random.Random(format)
    name, data = max(files.items(), key=lambda item: len(item[1]))
    for number in range(15):
        odd = odd_json if name.endswith(("json", "jsonl")) else mutated if name.endswith("mat") else odd_tokens
        (source / name).write_bytes(odd(data, rng))
        output = tmp_path / f"out{number}"
        code = main(
            ["prepare", format.split("-")[0], str(source), str(output), *(["--skip-bad"] if number % 2 else [])]
        )
        errors = [line for line in capsys.readouterr().err.splitlines() if "tcm-hf prepare: error:" in line]
        assert code in (0, 1) and len(errors) == (not (output / "train" / "metadata.jsonl").exists())
    assert not list(tmp_path.rglob("passwd*"))


@pytest.mark.slow
def test_mutants_of_parquet(tmp_path):
    datasets = pytest.importorskip("datasets")
    from pyarrow import Table, parquet

    columns = {"image": [{"bytes": b"x" * 50, "path": "a.jpg"}] * 3, "polygons": [[[[1, 2], [9, 2], [9, 9]]]] * 3}
    columns |= {"ignore": [[False], [True], None], "text": [["a"], ["b"], ["c"]]}
    outlines = datasets.List(datasets.List(datasets.List(datasets.Value("float32"))))
    features = {"image": datasets.Image(), "polygons": outlines, "ignore": datasets.List(datasets.Value("bool"))}
    features["text"] = datasets.List(datasets.Value("string"))
    path = tmp_path / "a.parquet"
    parquet.write_table(Table.from_pydict(columns, schema=datasets.Features(features).arrow_schema), path)
    data, rng, refused = path.read_bytes(), random.Random(1), 0
    for _ in range(200):
        path.write_bytes(mutated(data, rng))
        try:
            for record in read_dataset("hub", path, streaming=True):
                assert record.image is not None
        except (ValueError, OSError) as error:
            assert "a.parquet" in str(error) or "row " in str(error) or "column" in str(error)
            refused += 1
    assert refused > 20
