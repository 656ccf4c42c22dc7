# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""Formats of one annotation file an image: ICDAR 2013, MLT, MSRA-TD500, Total-Text, CTW1500."""

import math

import numpy as np
import pytest
from annotation_samples import (
    CURVES,
    Picture,
    Word,
    box,
    cells,
    ctw1500_xml,
    curve,
    mat_file,
    numbers,
    totaltext_lists,
)
from conftest import shared_path

from tcm_hf.data.formats import (
    AnnotationError,
    parse_ctw1500,
    parse_icdar2013,
    parse_mlt,
    parse_td500,
    parse_totaltext,
    read_dataset,
)


@pytest.fixture
def write(tmp_path):
    def write(content, name="gt_img_1.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


# ICDAR 2013


def test_icdar2013_test_and_training_lines(write):
    lines = [
        '\ufeff38, 43, 920, 215, "Tiredness"',
        '158 128 411 181 "Footpath"',
        '1,2,3,4,"a, \\"b\\" \\\\ c"',
        "5,6,7,8,###",
        "1,2,3,4",
    ]
    parsed = parse_icdar2013(write("\r\n".join(lines)))
    assert parsed.texts == ["Tiredness", "Footpath", 'a, "b" \\ c', "###", None]
    assert parsed.ignore == [False, False, False, True, False]
    assert parsed.polygons[0].tolist() == [[38, 43], [920, 43], [920, 215], [38, 215]]
    assert parsed.polygons[1].tolist() == [[158, 128], [411, 128], [411, 181], [158, 181]]


@pytest.mark.parametrize(
    "line, reason",
    [
        ("1,2,3,x,word", "expected `left, top"),
        ("1,2,3", "expected `left, top"),
        ("30,2,3,40,word", "comes before"),
        ("377,117,463,117,465,130,378,130,word", "icdar2015"),
        ("1,2,3e9,4,word", "no pixel coordinate"),
    ],
)
def test_icdar2013_bad_lines(write, line, reason):
    with pytest.raises(AnnotationError, match=rf"gt_img_1\.txt, line 2: .*{reason}"):
        parse_icdar2013(write(f"1,2,3,4,fine\n{line}\n"))


# MLT


def test_mlt_has_scripts_and_commas(write):
    parsed = parse_mlt(write("1,2,9,2,9,9,1,9,Latin,a,b\n1,2,9,2,9,9,1,9,Arabic,###\n1,2,9,2,9,9,1,9,None,x\n"))
    assert parsed.languages == ["Latin", "Arabic", "None"]
    assert parsed.texts == ["a,b", "###", "x"] and parsed.ignore == [False, True, False]
    with pytest.raises(AnnotationError, match="line 1: .*icdar2015"):
        parse_mlt(write("1,2,9,2,9,9,1,9,word\n"))


# MSRA-TD500


def test_td500_turns_clockwise_about_the_centre(write):
    parsed = parse_td500(
        write(f"0 0 10 20 100 40 0\n1 1 10 20 100 40 {math.pi / 2}\n2 0 10 20 100 40 -0.3\n", "IMG_1.gt")
    )
    assert parsed.ignore == [False, True, False]
    assert parsed.polygons[0].tolist() == [[10, 20], [110, 20], [110, 60], [10, 60]]
    # A quarter turn: the upper left corner goes to the upper right one of an upright box about (60, 40).
    np.testing.assert_allclose(parsed.polygons[1], [[80, -10], [80, 90], [40, 90], [40, -10]], atol=1e-4)
    # A negative angle goes up to the right on screen, and lengths stay.
    first, second, third, _ = parsed.polygons[2]
    assert second[1] < first[1]
    np.testing.assert_allclose([math.dist(first, second), math.dist(second, third)], [100, 40], rtol=1e-5)


def test_td500_agrees_with_published_evaluation_data(write):
    import json

    case = json.loads(shared_path("eval_golden/public/rbox_td500_s1.json").read_text())
    count = 0
    for image in case["images"]:
        for gt in image["gts"]:
            parsed = parse_td500(write("0 0 " + " ".join(map(str, gt["rbox"])), "IMG_1.gt"))
            np.testing.assert_allclose(parsed.polygons[0].ravel(), gt["points"], atol=1e-3)
            count += 1
    assert count > 10


def test_td500_lines_of_evaluation_programs(write):
    parsed = parse_td500(write("10,20,110,60,0.0,None\n10,20,110,60,-0.491164,###\n10,20,110,60,0.5\n"))
    assert parsed.polygons[0].tolist() == [[10, 20], [110, 20], [110, 60], [10, 60]]
    assert parsed.texts == [None, "###", None] and parsed.ignore == [False, True, False]


@pytest.mark.parametrize(
    "line, reason",
    [
        ("0 0 1 2 3 4", "7 numbers"),
        ("0 2 1 2 3 4 0", "difficult"),
        ("0 0 1 2 -3 4 0", "negative"),
        ("0 0 1 2 3 4 30", "radians"),
        ("1,2,3", "3 fields"),
    ],
)
def test_td500_bad_lines(write, line, reason):
    with pytest.raises(AnnotationError, match=rf"IMG_1\.gt, line 1: .*{reason}"):
        parse_td500(write(line, "IMG_1.gt"))


# Total-Text


def test_totaltext_published_lists_wrap_over_lines(write):
    text = (
        "x: [[206 251 386 542\n 620 646]], y: [[ 633  811  931\n  946  926  976]], ornt: [u'c'], transcriptions: [u'PETROSAINS']\n"
        "x: [[1 9 9]], y: [[1 1 9]], ornt: [u'#'], transcriptions: [u'#']\r\n"
        "x: [[1 9 9]], y: [[1 1 9]], ornt: [u'm'], transcriptions: [u\"it's [a] \\xe9\"]\n"
        "x: [[1 9 9]], y: [[1 1 9]], ornt: [], transcriptions: []"
    )
    parsed = parse_totaltext(write(text, "poly_gt_img1.txt"))
    assert parsed.polygons[0].tolist() == [[206, 633], [251, 811], [386, 931], [542, 946], [620, 926], [646, 976]]
    assert parsed.texts == ["PETROSAINS", "#", "it's [a] é", None]
    assert parsed.ignore == [False, True, False, False]


@pytest.mark.parametrize(
    "text, reason",
    [
        ("x: [[1 2 3]], y: [[1 2]], ornt: [u'c'], transcriptions: [u'a']", "3 x and 2 y"),
        ("x: [[1 2 3]], y: [[1 2 3]], ornt: [u'c']", "expected `x:"),
        ("x: [[1 2 3]], y: [[1 2 z]], ornt: [u'c'], transcriptions: [u'a']", "not a number"),
        ("x: [[1 2 3]], y: [[1 2 3]], ornt: [u'c'], transcriptions: [a]", "no quoted text"),
        ("x: [[1 2 3]], y: [[1 2 3]], ornt: [u'c'], transcriptions: [u'a', u'b']", "no quoted text, or more than one"),
    ],
)
def test_totaltext_bad_lists(write, text, reason):
    good = "x: [[1 9 9]], y: [[1 1 9]], ornt: [u'm'], transcriptions: [u'a']\n"
    with pytest.raises(AnnotationError, match=rf"img1\.txt, line 2: .*{reason}"):
        parse_totaltext(write(good + text, "poly_gt_img1.txt"))


def test_totaltext_lines_with_numbers_and_commas_as_text(write):
    parsed = parse_totaltext(
        write("599,419,638,422,637,441,1996\n599,419,638,422,637,441,12,50\n1,2,3,4,5,6,a,b\n1,2,3,4,5,6,\n")
    )
    assert [len(polygon) for polygon in parsed.polygons] == [3, 3, 3, 3]
    assert parsed.texts == ["1996", "12,50", "a,b", ""]
    with pytest.raises(AnnotationError, match="line 1: .*found 2 points"):
        parse_totaltext(write("1,2,3,4,word"))


def test_totaltext_forms_agree(write):
    lists = parse_totaltext(write(totaltext_lists(CURVES[0]), "poly_gt_img1.txt"))
    lines = parse_totaltext(write("".join(f"{numbers(w.points)},{w.text}\n" for w in CURVES[0].words), "gt_img1.txt"))
    for a, b, word in zip(lists.polygons, lines.polygons, CURVES[0].words):
        assert a.tolist() == b.tolist() == word.points
    assert lists.ignore == lines.ignore == [False, True]


def test_totaltext_published_samples_agree():
    folder = shared_path("data/formats/totaltext")
    for number in (1, 4, 5):
        mat = parse_totaltext(folder / f"poly_gt_img{number}.mat")
        text = parse_totaltext(folder / f"gt_img{number}.txt")
        assert [p.tolist() for p in mat.polygons] == [p.tolist() for p in text.polygons]
        assert mat.ignore == text.ignore
        assert [t if not i else None for t, i in zip(mat.texts, mat.ignore)] == [
            t if not i else None for t, i in zip(text.texts, text.ignore)
        ]


@pytest.mark.parametrize(
    "variables, reason",
    [
        ({"rectgt": cells("a", shape=(1, 1))}, "no variable 'polygt', but 'rectgt'"),
        ({"polygt": cells("a", "b", shape=(1, 2))}, "expected cells with the columns"),
        ({"polygt": np.zeros((1, 6))}, "expected cells with the columns"),
        ({"polygt": cells("x:", "a", "y:", "b", "t", "c", shape=(1, 6))}, "row 1: the coordinates are not numbers"),
        (
            {"polygt": cells("x:", np.array([[1.0, 2, np.nan]]), "y:", np.ones((1, 3)), "t", "c", shape=(1, 6))},
            "row 1: .*not finite",
        ),
        (
            {"polygt": cells("x:", np.ones((1, 2)), "y:", np.ones((1, 2)), "t", "c", shape=(1, 6))},
            "row 1: 2 x and 2 y",
        ),
        (
            {"polygt": cells("x:", np.ones((1, 3)), "y:", np.ones((1, 3)), ["t", "u"], "c", shape=(1, 6))},
            "row 1: .*not one text",
        ),
    ],
)
def test_totaltext_bad_mat(write, variables, reason):
    with pytest.raises(AnnotationError, match=rf"poly_gt_img1\.mat.*{reason}"):
        parse_totaltext(write(mat_file(variables), "poly_gt_img1.mat"))


# CTW1500


def test_ctw1500_training_and_test(write):
    xml = parse_ctw1500(write(ctw1500_xml(CURVES[0]), "0001.xml"))
    text = "".join(f"{numbers(word.points)},####{word.text}\n" for word in CURVES[0].words)
    lines = parse_ctw1500(write(text, "0001001.txt"))
    for a, b, word in zip(xml.polygons, lines.polygons, CURVES[0].words):
        assert a.tolist() == b.tolist() == word.points
    assert xml.texts == lines.texts == ["ROUND", "###"] and xml.ignore == lines.ignore == [False, True]
    # The first release gives points relative to the corner of the box.
    offsets = [value for x, y in curve(20, 30) for value in (x - 20, y - 50)]
    relative = parse_ctw1500(write(",".join(map(str, [20, 50, 140, 110, *offsets])), "1.txt"))
    assert relative.polygons[0].tolist() == curve(20, 30) and relative.texts == [None]


def test_ctw1500_bare_ampersands_are_read(write):
    raw = ctw1500_xml(Picture("1", [Word(curve(1, 1), "A AMP B & C")])).replace("&amp;", "&").replace("AMP", "&amp;")
    assert parse_ctw1500(write(raw, "0001.xml")).texts == ["A & B & C"]


@pytest.mark.parametrize(
    "content, name, reason",
    [
        ("<Annotations>\n<image><box>", "0001.xml", "line 2: no valid XML"),
        (
            "<Annotations><image><box><segs>1,2</segs></box></image></Annotations>",
            "0001.xml",
            "box 1: <segs> needs the 28",
        ),
        ("<html></html>", "0001.xml", "check that this is a CTW1500"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "0001.xml", "document type"),
        ("1,2,3,4,5,6,7,8,####word", "0001001.txt", "line 1: .*28 numbers"),
    ],
)
def test_ctw1500_bad_files(write, content, name, reason):
    with pytest.raises(AnnotationError, match=rf"{name}.*{reason}"):
        parse_ctw1500(write(content, name))


def test_annotations_may_be_named_after_the_picture_file(tmp_path):
    from PIL import Image

    Image.new("RGB", (40, 40)).save(tmp_path / "img11.jpg")
    (tmp_path / "img11.jpg.txt").write_text(numbers(box(1, 2, 10, 10)) + ",shop")
    (record,) = read_dataset("totaltext", tmp_path)
    assert record.texts == ["shop"]


def test_files_beside_the_annotations_do_not_matter(tmp_path):
    from PIL import Image

    for folder in ("Polygon", "Rectangular"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "img11.jpg")
    (tmp_path / "Polygon" / "poly_gt_img11.mat").write_bytes(mat_file({"polygt": cells()}))
    (tmp_path / "Rectangular" / "rect_gt_img11.mat").write_bytes(b"")
    for name in ("README.txt", "train_list.txt", ".hidden.txt"):
        (tmp_path / name).write_text("about these")
    (record,) = read_dataset("totaltext", tmp_path)
    assert record.polygons == []
