# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""Further exports of labeling tools: tracks of CVAT, JSON-MIN of Label Studio, projects of VIA 3."""

import json
import warnings

import numpy as np
import pytest
from annotation_samples import QUADS, Picture, Word, box, label_studio_min_json, save_pictures, via3_json
from PIL import Image

from tcm_hf.data.formats import AnnotationError, AnnotationWarning, read_dataset, recognize_format


def points(record, index=0):
    return record.polygons[index].round(3).tolist()


def read_warned(*arguments, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AnnotationWarning)
        records = list(read_dataset(*arguments, **options))
    return records, [str(warning.message) for warning in caught]


def refused(format, folder, reason, **options):
    with pytest.raises(AnnotationError, match=reason):
        list(read_dataset(format, folder, **options))


# CVAT for video

META = (
    "<meta><task><id>{id}</id><size>20</size><mode>interpolation</mode><start_frame>0</start_frame>"
    "<original_size><width>640</width><height>480</height></original_size></task></meta>"
)


def shape(frame, x, outside=0, keyframe=1, more="", body=""):
    return (
        f'<box frame="{frame}" keyframe="{keyframe}" outside="{outside}" occluded="0" xtl="{x}.00" ytl="20.00" '
        f'xbr="{x + 60}.00" ybr="40.00" z_order="0"{more}>{body}</box>'
    )


def track(*shapes, label="text", more=""):
    return f'<track id="0" label="{label}" source="manual"{more}>{"".join(shapes)}</track>'


def write_video(folder, *tracks, meta=None, frames=(0, 1, 2, 3)):
    save_pictures(folder / "images", [f"frame_{number:06d}" for number in frames])
    meta = META.format(id=4) if meta is None else meta
    (folder / "annotations.xml").write_text(
        f"<annotations><version>1.1</version>{meta}{''.join(tracks)}</annotations>"
    )


def test_cvat_tracks_are_read_frame_by_frame(tmp_path):
    text = '<attribute name="text">Cafe</attribute>'
    write_video(
        tmp_path,
        # Frame 1 lies half-way between the keyframes 0 and 2, as CVAT writes it; from frame 3 on the track is outside.
        track(
            shape(0, 10, body=text),
            shape(1, 20, keyframe=0, body=text),
            shape(2, 30, body=text),
            shape(3, 30, outside=1),
        ),
        track(
            '<polygon frame="2" keyframe="1" outside="0" occluded="0" points="1.00,2.00;9.00,2.00;9.00,8.00"/>',
            '<polygon frame="3" keyframe="1" outside="1" occluded="0" points="1.00,2.00;9.00,2.00;9.00,8.00"/>',
            label="ignore",
        ),
    )
    assert recognize_format(tmp_path).name == "cvat"
    records = list(read_dataset("auto", tmp_path))
    assert [record.image.name for record in records] == [f"frame_{number:06d}.jpg" for number in range(4)]
    assert [len(record.polygons) for record in records] == [1, 1, 2, 0]
    assert [points(record)[0] for record in records[:3]] == [[10, 20], [20, 20], [30, 20]]
    assert points(records[2], 1) == [[1, 2], [9, 2], [9, 8]]
    assert records[2].texts == ["Cafe", None] and records[2].ignore == [False, True]


def test_cvat_rotated_boxes_and_other_labels_of_tracks(tmp_path):
    cuboid = '<cuboid frame="0" outside="0" keyframe="1" xtl1="1"/>'
    write_video(tmp_path, track(shape(0, 10, more=' rotation="90.00"')), track(cuboid, label="car"), frames=[0])
    (record,) = read_dataset("cvat", tmp_path, categories=["text"])
    # 60 by 20 about (40, 30), turned by a quarter.
    assert {tuple(point) for point in points(record)} == {(30, 0), (50, 0), (50, 60), (30, 60)}
    refused("cvat", tmp_path, r"annotations\.xml: track '0', <cuboid> 1: a cuboid is no text region; .*--categories")


def test_cvat_frames_without_images(tmp_path):
    write_video(tmp_path, track(shape(0, 10), shape(5, 20)), frames=[0])
    with pytest.raises(FileNotFoundError, match=r"frame_000005\.png.*frame 5.*--missing skip"):
        list(read_dataset("cvat", tmp_path))
    assert len(list(read_dataset("cvat", tmp_path, missing="skip"))) == 1
    kept = list(read_dataset("cvat", tmp_path, missing="keep"))
    assert [record.image.name for record in kept] == ["frame_000000.jpg", "frame_000005.png"]
    # A video that nobody has annotated yet is one without text.
    write_video(tmp_path, frames=[0])
    assert [len(record.polygons) for record in read_dataset("cvat", tmp_path)] == [0]


def test_cvat_projects_of_videos(tmp_path):
    meta = f"<meta><project><tasks>{META.format(id=4)[6:-7]}{META.format(id=5)[6:-7]}</tasks></project></meta>"
    one, two = (
        track(shape(0, x), more=f' task_id="{task}" subset="{subset}"')
        for x, task, subset in ((10, 4, "Train"), (20, 5, "Validation"))
    )
    write_video(tmp_path, one, two, meta=meta, frames=[])
    for subset in ("Train", "Validation"):
        save_pictures(tmp_path / "images" / subset, ["frame_000000"])
    records = list(read_dataset("cvat", tmp_path))
    assert [(record.image.parent.name, points(record)[0][0]) for record in records] == [
        ("Train", 10),
        ("Validation", 20),
    ]
    (record,) = read_dataset("cvat", tmp_path, split="val")
    assert record.image.parent.name == "Validation"
    write_video(tmp_path, one, two.replace("Validation", "Train"), meta=meta, frames=[])
    refused("cvat", tmp_path, "several tasks of the subset 'Train'.*export each task by itself")


@pytest.mark.parametrize(
    "tracks, meta, reason",
    [
        (track(shape("x", 10)), None, r"track '0', <box> 1: 'x' is no number of a `frame`"),
        (track(shape(0, 10).replace('frame="0" ', "")), None, r"track '0', <box> 1: '' is no number of a `frame`"),
        (track(shape(0, 10).replace("10.00", "")), None, r"track '0', <box> 1: .*not a number"),
        (
            track(shape(0, 10)),
            META.format(id=4).replace("interpolation", "annotation"),
            "a task of images.*for images",
        ),
        (track(shape(0, 10)), META.format(id=4).replace("640", "100"), "annotated for an image of 100 x 480"),
        (track(shape(0, 10)), META.format(id=4).replace("640", "wide"), "original_size: .*not a number"),
    ],
)
def test_cvat_bad_tracks(tracks, meta, reason, tmp_path):
    write_video(tmp_path, tracks, meta=meta, frames=[0])
    refused("cvat", tmp_path, rf"annotations\.xml.*{reason}")


# JSON-MIN

SIZE = {"original_width": 640, "original_height": 480}
LEFT = {"x": 10, "y": 20, "width": 10, "height": 5, "rotation": 0}
RIGHT = {**LEFT, "x": 50}


def flat(**fields):
    common = {"image": "/data/upload/1/0a1b2c3d-1.jpg", "id": 1, "annotator": 1, "annotation_id": 7}
    return {**common, **fields, "created_at": "2026-01-01", "updated_at": "2026-01-01", "lead_time": 2.5}


def labeled(value, *names):
    return {**value, "rectanglelabels": list(names), **SIZE}


def write_tasks(folder, *tasks):
    save_pictures(folder, ["img/1", "img/2"])
    (folder / "a.json").write_text(json.dumps(tasks))
    return folder


def test_json_min_joins_controls_by_place_and_by_order(tmp_path):
    rectangles = [{**value, **SIZE} for value in (LEFT, RIGHT)]
    # The second text has two lines, and keeps its region; labels are in another order than the rectangles.
    labels = [{**RIGHT, "labels": ["Text"], **SIZE}, {**LEFT, "labels": ["Logo"], **SIZE}]
    texts = ["Cafe", {**RIGHT, "text": ["one", "two"], **SIZE}]
    task = flat(bbox=rectangles, label=labels, transcription=texts, quality=["fine", "illegible"])
    write_tasks(tmp_path, task)
    assert recognize_format(tmp_path).name == "labelstudio"
    (record,) = read_dataset("auto", tmp_path, categories=["text", "logo"])
    # 10 % of 640 and 20 % of 480 on.
    assert points(record) == [[64, 96], [128, 96], [128, 120], [64, 120]] and points(record, 1)[0] == [320, 96]
    assert record.texts == ["Cafe", "one\ntwo"] and record.ignore == [False, True]
    assert record.image == tmp_path / "img" / "1.jpg"
    (record,) = read_dataset("labelstudio", tmp_path, categories=["text"])
    assert record.texts == ["one\ntwo"]


def test_json_min_of_one_region_and_of_none(tmp_path):
    polygon = {"points": [[10, 20], [20, 20], [20, 25]], "closed": True, "polygonlabels": ["Text"], **SIZE}
    one = flat(poly=[polygon], words="Cafe", id=1)
    none, unlabeled = flat(id=2, image="2.jpg"), flat(id=3, annotation_id=None)
    write_tasks(tmp_path, one, none, unlabeled)
    records, messages = read_warned("labelstudio", tmp_path, text_key="words")
    assert points(records[0]) == [[64, 96], [128, 96], [128, 120]] and records[0].texts == ["Cafe"]
    assert [len(record.polygons) for record in records] == [1, 0]
    assert "1 of 3 tasks have no annotations" in messages[0]
    # The name of the text area is a user's own.
    assert next(read_dataset("labelstudio", tmp_path)).texts == [None]


def test_json_min_warns_of_texts_whose_region_is_not_known(tmp_path):
    write_tasks(tmp_path, flat(label=[labeled(LEFT, "Text"), labeled(RIGHT, "Text")], transcription="Cafe"))
    (record,), messages = read_warned("labelstudio", tmp_path)
    assert record.texts == [None, None]
    assert "in 1 annotations there are not as many texts as regions" in messages[0] and "[0]" in messages[0]


def test_json_min_of_several_annotators_has_the_latest(tmp_path):
    write_tasks(tmp_path, flat(label=[labeled(RIGHT, "Text")]), flat(label=[labeled(LEFT, "Text")], annotation_id=3))
    (record,) = read_dataset("labelstudio", tmp_path)
    assert points(record)[0] == [320, 96]


def test_json_min_of_two_regions_at_one_place(tmp_path):
    write_tasks(tmp_path, flat(label=[labeled(LEFT, "Text"), labeled(LEFT, "ignore")], text=["one", "two"]))
    (record,) = read_dataset("labelstudio", tmp_path)
    assert record.texts == ["one", "two"] and record.ignore == [False, True] and points(record) == points(record, 1)


@pytest.mark.parametrize(
    "task, options, reason",
    [
        (flat(label=[{**LEFT, "rectanglelabels": ["Text"]}]), {}, "`original_width` and `original_height` must be"),
        (flat(label=[labeled({**LEFT, "width": -1}, "Text")]), {}, r"label'\[0\]\.value: a negative width"),
        (
            flat(label=[{"x": 1, "y": 1, "width": 2, "keypointlabels": ["Text"], **SIZE}]),
            {},
            "keypoint are no text region",
        ),
        (flat(label=[{"x": 1, "y": 1, "radiusX": 2, "radiusY": 1, **SIZE}]), {}, "ellipse are no text region"),
        (flat(label=[labeled(LEFT, "Text")]), {"results": "predictions"}, "JSON-MIN has no predictions"),
        (flat(other="2.jpg", image_too="3.jpg", image=None), {}, "2 fields name an image"),
        ({"image": "1.jpg", "bbox": []}, {}, "neither `data`, as in the export JSON, nor `annotation_id`"),
    ],
)
def test_json_min_bad_tasks(task, options, reason, tmp_path):
    write_tasks(tmp_path, task)
    refused("labelstudio", tmp_path, rf"a\.json: \[0\].*{reason}", **options)


def test_json_min_is_what_json_is(tmp_path):
    from annotation_samples import label_studio_json

    read = []
    for name, tasks in (("full", label_studio_json(QUADS)), ("min", label_studio_min_json(QUADS))):
        save_pictures(tmp_path / name, [picture.name for picture in QUADS])
        (tmp_path / name / "a.json").write_text(json.dumps(tasks))
        read.append(list(read_dataset("labelstudio", tmp_path / name)))
    for full, short in zip(*read, strict=True):
        assert (full.texts, full.ignore, full.image.name) == (short.texts, short.ignore, short.image.name)
        np.testing.assert_array_equal(full.polygons, short.polygons)


# VIA 3


def project(*regions, attribute=None, file=None, **more):
    content = via3_json([Picture("1", [Word(box(10, 20), "Cafe")])])
    content["metadata"] = {
        f"1_{number}": {"vid": "1", "flg": 0, "z": [], "xy": xy, "av": av} for number, (xy, av) in enumerate(regions)
    }
    content["attribute"] |= attribute or {}
    content["file"]["1"] |= file or {}
    return {**content, **more}


def write_project(folder, content):
    save_pictures(folder, ["1"])
    (folder / "via_project.json").write_text(json.dumps(content))


def test_via3_shapes_and_attributes(tmp_path):
    select = {"3": {"aname": "class", "type": 4, "options": {"0": "text", "1": "logo"}, "default_option_id": ""}}
    content = project(
        ([2, 10.5, 20, 60, 20], {"1": "Cafe", "3": "0"}),
        ([7, 1, 2, 9, 2, 9, 8], {"2": "0,1", "3": "0"}),
        # The extreme points of a rectangle, from 5 to 45 and from 10 to 30.
        ([8, 5, 20, 30, 10, 45, 15, 20, 30], {"1": "", "3": "0"}),
        ([3, 5, 5, 3], {"3": "1"}),
        ([], {"1": "of the whole image"}),
        attribute=select,
    )
    write_project(tmp_path, content)
    assert recognize_format(tmp_path).name == "via"
    (record,) = read_dataset("auto", tmp_path, categories=["text"])
    assert points(record) == [[10.5, 20], [70.5, 20], [70.5, 40], [10.5, 40]]
    assert points(record, 1) == [[1, 2], [9, 2], [9, 8]] and points(record, 2) == box(5, 10, 40, 20)
    assert record.texts == ["Cafe", None, None] and record.ignore == [False, True, False]
    refused("via", tmp_path, r"metadata\['1_3'\]: a circle is no text region")


@pytest.mark.parametrize(
    "file",
    [
        {"src": "https://example.com/a/1.jpg?width=9", "fname": "x"},
        {"src": "/home/me/1.jpg"},
        {"src": "", "fname": "1.jpg", "loc": 1},
        {"src": "data:image/png;base64," + "A" * 3000, "fname": "1.jpg", "loc": 4},
    ],
)
def test_via3_names_of_images(file, tmp_path):
    write_project(tmp_path, project(([2, 10, 20, 60, 20], {}), file=file))
    (record,) = read_dataset("via", tmp_path)
    assert record.image == tmp_path / "1.jpg" and points(record) == box(10, 20)


def test_via3_views_come_in_the_order_in_which_they_are_shown(tmp_path):
    content = via3_json([Picture(name, [Word(box(1, 2), name)]) for name in ("a", "b", "c")])
    content["project"]["vid_list"] = ["3", "1"]
    save_pictures(tmp_path, ["a", "b", "c"])
    (tmp_path / "p.json").write_text(json.dumps(content))
    assert [record.texts for record in read_dataset("via", tmp_path)] == [["c"], ["a"], ["b"]]
    # One that is not shown, and has no regions, was not annotated.
    del content["metadata"]["2_000000"]
    (tmp_path / "p.json").write_text(json.dumps(content))
    assert [record.texts for record in read_dataset("via", tmp_path)] == [["c"], ["a"]]


def test_via3_videos_have_no_images(tmp_path):
    content = via3_json([Picture("1", [Word(box(1, 2), "a")]), Picture("2")])
    content["file"]["2"] |= {"type": 4, "fname": "a.mp4", "src": "a.mp4"}
    content["metadata"]["2_seconds"] = {"vid": "2", "flg": 0, "z": [2, 6.5], "xy": [], "av": {}}
    write_project(tmp_path, content)
    assert len(list(read_dataset("via", tmp_path))) == 1
    content["metadata"]["2_region"] = {"vid": "2", "flg": 0, "z": [0.917], "xy": [2, 263, 184, 17, 13], "av": {}}
    write_project(tmp_path, content)
    refused("via", tmp_path, r"view\['2'\]: 'a\.mp4' is no image, .*annotate frames as images")
    errors = []
    assert len(list(read_dataset("via", tmp_path, on_error=errors.append))) == 1 and len(errors) == 1


@pytest.mark.parametrize(
    "content, reason",
    [
        (project(([2, 1, 2, 3], {})), r"metadata\['1_0'\]\.xy: 3 numbers behind the shape; a rectangle has 4"),
        (project(([8, 1, 2, 3], {})), r"xy: 3 numbers behind the shape; 4 points have 8"),
        (project(([7, 1, 2, 3, 4], {})), "2 x and 2 y are no outline of at least 3 points"),
        (project(([12, 1, 2], {})), r"xy\[0\]: 12 is the number of no shape"),
        (project(([2, 1, "x", 3, 4], {})), r"xy\[2\]: expected a number"),
        (project(([2, 1, 2, 3, 4], {"2": "7"})), r"av\['2'\]: '7' is no option of the attribute 'flags'"),
        (project(view={"1": {"fid_list": [1, 1]}}), r"view\['1'\]: 2 files in one view"),
        (project(view={}), r"view: the field '1' is missing"),
        (project(file={"src": "", "fname": ""}), r"file\['1'\]: neither `src` nor `fname`"),
        ({"project": {}, "metadata": {}, "view": {}}, "the field 'file' is missing"),
    ],
)
def test_via3_bad_projects(content, reason, tmp_path):
    write_project(tmp_path, content)
    refused("via", tmp_path, rf"via_project\.json: .*{reason}")


@pytest.mark.parametrize("format", ["via", "csv", "auto"])
def test_via3_csv_is_refused_with_the_remedy(format, tmp_path):
    lines = (
        "# Exported using VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)",
        "# Notes:",
        "# CSV_HEADER = metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata",
        '"1_a","[""1.jpg""]",0,"[]","[2,1,2,70,20]","{""1"":""text""}"',
    )
    (tmp_path / "export.csv").write_text("\n".join(lines))
    refused(format, tmp_path / "export.csv", r"export\.csv: the CSV of VIA 3 has .*save the project \(\.json\)")


def test_via3_regions_are_those_of_the_upright_image(tmp_path):
    write_project(tmp_path, project(([2, 10, 20, 60, 20], {})))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (640, 480)).save(tmp_path / "1.jpg", exif=exif)
    (record,) = read_dataset("via", tmp_path)
    assert points(record) == box(10, 20)
