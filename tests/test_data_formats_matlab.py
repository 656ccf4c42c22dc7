# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""MATLAB 5 files, and SynthText, which is one."""

import io
import subprocess
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
from annotation_samples import SYNTH, Picture, Word, box, cells, mat_file, save_pictures, synthtext_mat, write_sample
from conftest import shared_path

from tcm_hf.data.formats import AnnotationError, read_dataset
from tcm_hf.data.formats.matlab import MatCells, find_variable, iterate_cells, mat_variables, read_mat


VARIABLES = {
    "numbers": np.arange(24, dtype=np.float64).reshape(2, 4, 3),
    "small": np.array([[7]], dtype=np.int16),
    "text": "Grüße",
    "lines": ["ab ", "c d"],
    "cells": cells("x:", np.array([[1, 2, 3]], dtype=np.uint8), cells("deep"), np.empty((0, 0)), shape=(2, 2)),
}


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compressed", [False, True])
def test_every_kind_of_value(tmp_path, compressed, order):
    path = tmp_path / "a.mat"
    path.write_bytes(mat_file(VARIABLES, compressed, order))
    assert list(mat_variables(path)) == list(VARIABLES)
    assert np.array_equal(read_mat(path, "numbers"), VARIABLES["numbers"])
    assert read_mat(path, "small").tolist() == [[7]]
    assert read_mat(path, "text") == ["Grüße"] and read_mat(path, "lines") == ["ab ", "c d"]
    value = read_mat(path, "cells")
    assert isinstance(value, MatCells) and value.shape == (2, 2)
    # Column by column.
    first, third, second, empty = value.items
    assert first == ["x:"] and third.items == [["deep"]] and second.tolist() == [[1, 2, 3]] and empty.size == 0
    streamed = list(iterate_cells(find_variable(path, "cells")))
    assert streamed[0] == ["x:"] and streamed[2].tolist() == [[1, 2, 3]] and len(streamed) == 4


def test_scipy_reads_the_same(tmp_path):
    scipy_io = pytest.importorskip("scipy.io", reason="SciPy is only a second opinion here")
    path = tmp_path / "a.mat"
    path.write_bytes(mat_file(VARIABLES, True))
    theirs = scipy_io.loadmat(path)
    assert np.array_equal(theirs["numbers"], VARIABLES["numbers"]) and list(theirs["lines"]) == VARIABLES["lines"]
    for compressed in (False, True):
        buffer = io.BytesIO()
        boxes = np.empty((1, 5), object)
        boxes[0] = [np.random.default_rng(i).random((2, 4, i + 1)) for i in range(5)]
        scipy_io.savemat(buffer, {"wordBB": boxes, "flag": np.array([[True]])}, do_compression=compressed)
        path.write_bytes(buffer.getvalue())
        for ours, reference in zip(iterate_cells(find_variable(path, "wordBB")), boxes[0]):
            assert np.array_equal(ours.reshape(reference.shape, order="F"), reference)


def test_published_file():
    value = read_mat(shared_path("data/formats/totaltext/poly_gt_img4.mat"), "polygt")
    assert value.shape == (12, 6)
    assert value.items[0] == ["x:"] and value.items[4 * 12] == ["CUCINA"] and value.items[5 * 12 + 1] == ["#"]
    assert value.items[12].tolist() == [[62, 112, 156, 159, 112, 69]]


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "no MATLAB 5 file"),
        (b"hello" * 60, "no MATLAB 5 file"),
        (b"MATLAB 7.3 MAT-file".ljust(600), "save it with `-v7`"),
        (b"\x89HDF\r\n\x1a\n".ljust(600), "save it with `-v7`"),
        (mat_file(VARIABLES)[:-40], "damaged"),
        (mat_file(VARIABLES)[:128] + b"\x09\0\0\0\x08\0\0\0" + bytes(8), "an element of type 9"),
        (mat_file(VARIABLES, True)[:140] + b"\xff" * 200, "damaged"),
    ],
)
def test_other_files_are_refused(tmp_path, data, reason):
    path = tmp_path / "gt.mat"
    path.write_bytes(data)
    with pytest.raises(AnnotationError, match=rf"gt\.mat.*{reason}"):
        read_mat(path, "numbers")


def test_a_large_size_in_a_small_file_reserves_no_memory(tmp_path):
    data = bytearray(mat_file({"wordBB": cells(np.ones((2, 4)))}))
    at = data.rindex(np.ones((2, 4)).tobytes()) - 8
    data[at + 4 : at + 8] = (2**31).to_bytes(4, "little")
    packed = zlib.compress(bytes(data[128:]))
    path = tmp_path / "gt.mat"
    path.write_bytes(bytes(data[:128]) + (15).to_bytes(4, "little") + len(packed).to_bytes(4, "little") + packed)
    tracemalloc.start()
    with pytest.raises(AnnotationError, match="cell 1.*damaged"):
        list(iterate_cells(find_variable(path, "wordBB")))
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()


# SynthText


def test_synthtext_words(tmp_path):
    pictures = [
        Picture(
            "a",
            [Word(box(1, 2), "Lines:\nI lost"), Word(box(9, 9), "Kevin"), Word(box(5, 5), ""), Word(box(6, 6), "")],
        ),
        Picture("b", [Word(box(3, 3), "two words")]),
    ]
    write_sample("synthtext", tmp_path, pictures)
    first, second = read_dataset("synthtext", tmp_path)
    assert first.image == tmp_path / "8" / "a.jpg" and len(first.polygons) == 4
    assert first.texts == ["Lines:", "I", "lost", "Kevin"] and first.ignore == [False] * 4
    # Words and outlines that are not as many cannot be told apart; the outlines are good all the same.
    assert second.texts == [None] and second.polygons[0].tolist() == box(3, 3)
    characters = list(read_dataset("synthtext", tmp_path, level="character"))
    assert characters[0].texts == [None] * 4


def test_synthtext_pictures_elsewhere_and_errors(tmp_path):
    (tmp_path / "gt.mat").write_bytes(synthtext_mat(SYNTH))
    save_pictures(tmp_path / "pictures", ["8/ballet_106_1"])
    with pytest.raises(FileNotFoundError, match="ballet_106_0"):
        list(read_dataset("synthtext", tmp_path))
    (record,) = read_dataset("synthtext", tmp_path, images=tmp_path / "pictures", missing="skip")
    assert record.texts == ["one"]
    names, boxes = cells("a.jpg"), cells(np.ones((3, 4)))
    (tmp_path / "gt.mat").write_bytes(mat_file({"imnames": names, "wordBB": boxes, "txt": cells("a")}))
    with pytest.raises(AnnotationError, match=r"gt\.mat, image 1: outlines must be .* got \(3, 4\)"):
        list(read_dataset("synthtext", tmp_path, missing="keep"))
    (tmp_path / "gt.mat").write_bytes(mat_file({"imnames": names, "wordBB": boxes, "txt": cells("a", "b")}))
    with pytest.raises(AnnotationError, match="1 names, 1 lists of outlines and 2 of texts"):
        read_dataset("synthtext", tmp_path)


def test_synthtext_is_a_stream(tmp_path):
    count = 4000
    pictures = [Picture(f"p{i}", [Word(box(i % 500, 2), "word")] * 8) for i in range(count)]
    (tmp_path / "gt.mat").write_bytes(synthtext_mat(pictures, compressed=True))
    # In a process of its own: what other tests have left allocates too.
    code = """
import sys, tracemalloc
from tcm_hf.data.formats import read_dataset
count = 0
tracemalloc.start()
for record in read_dataset("synthtext", sys.argv[1], missing="keep"):
    count += 1
print(tracemalloc.get_traced_memory()[1], count, *record.polygons[7][0])
"""
    output = subprocess.run([sys.executable, "-c", code, tmp_path], check=True, capture_output=True, text=True).stdout
    peak, *last = map(float, output.split())
    assert last == [count, 3999 % 500, 2]
    assert peak < 4e6
