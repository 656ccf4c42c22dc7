# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""Writes hand-made data sets in every format that is read, and MATLAB files without MATLAB."""

import csv
import io
import json
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from PIL import Image


SIZE = (640, 480)  # width, height


@dataclass
class Word:
    """A text instance as it is written, and as it has to be read."""

    points: list
    text: str | None = "word"
    ignore: bool = False
    language: str | None = None


@dataclass
class Picture:
    name: str
    words: list[Word] = field(default_factory=list)


def box(x, y, width=60, height=20):
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]


def curve(x, y):
    """14 points: along the upper edge of an arc, and back along the lower one."""
    angles = np.linspace(np.pi, 2 * np.pi, 7)
    upper = [[round(x + 60 + 60 * np.cos(a)), round(y + 80 + 60 * np.sin(a))] for a in angles]
    lower = [[round(x + 60 + 40 * np.cos(a)), round(y + 80 + 40 * np.sin(a))] for a in angles[::-1]]
    return upper + lower


QUADS = [
    Picture("img_1", [Word(box(10, 20), "Hello, world"), Word(box(200, 30), "###", True), Word(box(5, 300), "né 2")]),
    Picture("img_2", [Word([[100, 100], [160, 110], [158, 130], [98, 120]], "12,50")]),
    Picture("img_10"),
]
SCRIPTS = [
    Picture("img_1", [Word(box(10, 20), "a, b", False, "Latin"), Word(box(200, 30), "###", True, "Arabic")]),
    Picture("img_2", [Word(box(50, 60), "한글", False, "Korean")]),
]
CURVES = [
    Picture("img1", [Word(curve(20, 30), "ROUND"), Word(curve(300, 200), "###", True)]),
    Picture("img2", [Word(curve(200, 30), "Shop & Co")]),
]


def without_texts(pictures):
    """Images whose ignored words come last, as formats without transcription have them by their classes."""
    return [
        Picture(p.name, [Word(w.points, None, w.ignore) for w in sorted(p.words, key=lambda w: w.ignore)])
        for p in pictures
    ]


def lines_of(picture, line):
    return "".join(f"{line(word)}\n" for word in picture.words)


def flat(points):
    return [value for point in points for value in point]


def numbers(points):
    return ",".join(map(str, flat(points)))


def save_pictures(folder, names, suffix=".jpg", size=SIZE):
    for name in names:
        path = Path(folder) / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (90, 120, 150)).save(path)


def totaltext_lists(picture):
    """The published form: Python 2's text of numpy arrays, broken over lines when they are long."""
    text = ""
    for word in picture.words:
        columns = []
        for axis in range(2):
            values = [str(point[axis]) for point in word.points]
            columns.append(" ".join(values[:8]) + ("\n " + " ".join(values[8:]) if len(values) > 8 else ""))
        shown = "#" if word.ignore else word.text
        text += f"x: [[{columns[0]}]], y: [[{columns[1]}]], ornt: [u'c'], transcriptions: [u{shown!r}]\n"
    return text


def ctw1500_xml(picture):
    boxes = ""
    for word in picture.words:
        xs, ys = zip(*word.points)
        boxes += (
            f'<box height="{max(ys) - min(ys)}" left="{min(xs)}" top="{min(ys)}" width="{max(xs) - min(xs)}">\n'
            f"<label>{escape(word.text)}</label>\n<segs>{numbers(word.points)}</segs>\n"
            f'<pts x="{xs[0]}" y="{ys[0]}" />\n</box>\n'
        )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Annotations>\n<image file="{picture.name}.jpg">\n{boxes}</image>\n</Annotations>\n'


# JSON ---------------------------------------------------------------------------------------------------------------


def art_json(pictures):
    return {
        p.name: [
            {
                "points": w.points,
                "transcription": w.text,
                "illegibility": w.ignore,
                **({"language": w.language} if w.language else {}),
            }
            for w in p.words
        ]
        for p in pictures
    }


def image_table_json(pictures, outlines, extra=lambda word: {}, file_name="{}.jpg"):
    content = {"imgs": {}, "anns": {}, "imgToAnns": {}}
    for number, p in enumerate(pictures, start=1):
        name = file_name.format(p.name)
        content["imgs"][str(number)] = {"id": number, "file_name": name, "width": 640, "height": 480, "set": "train"}
        for w in p.words:
            key = str(1000 + len(content["anns"]))
            xs, ys = zip(*w.points)
            content["anns"][key] = {
                "id": int(key),
                "image_id": number,
                "bbox": [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)],
                "utf8_string": w.text,
                outlines: flat(w.points),
                **extra(w),
            }
            content["imgToAnns"].setdefault(str(number), []).append(int(key))
    return content


def coco_json(pictures):
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "text"}, {"id": 2, "name": "cat"}]}
    for number, p in enumerate(pictures, start=1):
        content["images"].append({"id": number, "file_name": f"{p.name}.jpg", "width": 640, "height": 480})
        for w in p.words:
            content["annotations"].append(
                {
                    "id": len(content["annotations"]),
                    "image_id": number,
                    "category_id": 1,
                    "segmentation": [flat(w.points)],
                    "iscrowd": int(w.ignore),
                    "text": w.text,
                }
            )
    return content


def mmocr_json(pictures):
    return {
        "metainfo": {"dataset_type": "TextDetDataset"},
        "data_list": [
            {
                "img_path": f"{p.name}.jpg",
                "height": 480,
                "width": 640,
                "instances": [{"polygon": flat(w.points), "ignore": w.ignore, "text": w.text} for w in p.words],
            }
            for p in pictures
        ],
    }


def labelme_json(picture):
    return {
        "version": "5.4.1",
        "flags": {},
        "shapes": [
            {
                "label": w.text,
                "points": w.points,
                "group_id": None,
                "shape_type": "polygon",
                "flags": {"ignore": w.ignore},
            }
            for w in picture.words
        ],
        "imagePath": f"{picture.name}.jpg",
        "imageData": None,
        "imageHeight": 480,
        "imageWidth": 640,
    }


def paddle_line(picture):
    entries = [{"transcription": w.text, "points": w.points, "difficult": w.ignore} for w in picture.words]
    return f"set/{picture.name}.jpg\t{json.dumps(entries, ensure_ascii=False)}\n"


def hub_line(picture):
    row = {
        "file_name": f"{picture.name}.jpg",
        "polygons": [w.points for w in picture.words],
        "ignore": [w.ignore for w in picture.words],
        "text": [w.text or "" for w in picture.words],
    }
    return json.dumps(row, ensure_ascii=False) + "\n"


# Labeling tools -----------------------------------------------------------------------------------------------------


def yolo_lines(picture):
    """Segments, with the class 1 for ignored ones."""
    width, height = SIZE
    return lines_of(
        picture, lambda w: f"{int(w.ignore)} " + " ".join(f"{x / width!r} {y / height!r}" for x, y in w.points)
    )


def csv_table(pictures):
    """One line an instance, and one for an image without any."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["image", "polygon", "text", "ignore", "language", "image_width", "image_height"])
    for p in pictures:
        for w in p.words:
            polygon = " ".join(map(repr, flat(w.points)))
            writer.writerow([f"{p.name}.jpg", polygon, w.text or "", int(w.ignore), w.language or "", *SIZE])
        if not p.words:
            writer.writerow([f"{p.name}.jpg", "", "", "", "", *SIZE])
    return file.getvalue()


def cvat_xml(pictures, name="{}.jpg"):
    images = ""
    for number, p in enumerate(pictures):
        shapes = ""
        for w in p.words:
            points = ";".join(f"{x!r},{y!r}" for x, y in w.points)
            shapes += (
                f'<polygon label="text" source="manual" occluded="0" points="{points}" z_order="0">'
                f'<attribute name="text">{escape(w.text or "")}</attribute>'
                f'<attribute name="ignore">{"true" if w.ignore else "false"}</attribute></polygon>\n'
            )
        file_name = quoteattr(name.format(p.name))
        images += f'<image id="{number}" name={file_name} width="640" height="480">\n{shapes}</image>\n'
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><task><name>a</name></task></meta>'
        f"\n{images}</annotations>\n"
    )


def cvat_tracks_xml(pictures):
    """Every word as the track of one frame, as CVAT for video has shapes."""
    tracks = ""
    words = [(p, w) for p in pictures for w in p.words]
    for number, (p, w) in enumerate(words):
        points = ";".join(f"{x!r},{y!r}" for x, y in w.points)
        tracks += f'<track id="{number}" label="text" source="manual">\n'
        for frame, outside in ((int(p.name[-6:]), 0), (int(p.name[-6:]) + 1, 1)):
            tracks += (
                f'<polygon frame="{frame}" keyframe="1" outside="{outside}" occluded="0" points="{points}" z_order="0">'
                f'<attribute name="text">{escape(w.text or "")}</attribute>'
                f'<attribute name="ignore">{"true" if w.ignore else "false"}</attribute></polygon>\n'
            )
        tracks += "</track>\n"
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><task><id>4</id><name>a</name>'
        "<mode>interpolation</mode><original_size><width>640</width><height>480</height></original_size></task>"
        f"<source>a.mp4</source></meta>\n{tracks}</annotations>\n"
    )


def label_studio_json(pictures, name="/data/upload/1/0a1b2c3d-{}.jpg"):
    """Polygons in percent, with their labels and texts as entries of the same id."""
    tasks = []
    for number, p in enumerate(pictures, start=1):
        result = []
        for index, w in enumerate(p.words):
            value = {"points": [[x * 100 / SIZE[0], y * 100 / SIZE[1]] for x, y in w.points], "closed": True}
            common = {"id": f"r{index}", "to_name": "image", "original_width": 640, "original_height": 480}
            common["image_rotation"] = 0
            names = ["Text", "ignore"] if w.ignore else ["Text"]
            result.append({**common, "from_name": "poly", "type": "polygon", "value": value})
            result.append({**common, "from_name": "label", "type": "labels", "value": {**value, "labels": names}})
            if w.text is not None:
                text = {**value, "text": [w.text]}
                result.append({**common, "from_name": "transcription", "type": "textarea", "value": text})
        annotation = {"id": number, "was_cancelled": False, "ground_truth": False, "result": result}
        tasks.append(
            {"id": number, "data": {"ocr": name.format(p.name)}, "annotations": [annotation], "predictions": []}
        )
    return tasks


def label_studio_min_json(pictures, name="/data/upload/1/0a1b2c3d-{}.jpg"):
    """The same as JSON-MIN has it: one list a control, where a text is left without its region, and a single one without list."""
    tasks = []
    for task in label_studio_json(pictures, name):
        (annotation,) = task["annotations"]
        flat = {**task["data"], "id": task["id"]}
        for entry in annotation["result"]:
            size = {key: entry[key] for key in ("original_width", "original_height")}
            value = entry["value"]["text"][0] if entry["type"] == "textarea" else {**entry["value"], **size}
            flat.setdefault(entry["from_name"], []).append(value)
        if len(flat.get("transcription", ())) == 1:
            (flat["transcription"],) = flat["transcription"]
        flat |= {
            "annotator": 1,
            "annotation_id": annotation["id"],
            "created_at": "2026-01-01",
            "updated_at": "2026-01-01",
        }
        tasks.append({**flat, "lead_time": 1.5})
    return tasks


def via_regions(picture):
    for w in picture.words:
        xs, ys = zip(*w.points)
        shape = {"name": "polygon", "all_points_x": list(xs), "all_points_y": list(ys)}
        yield shape, {"text": w.text or "", "flags": {"ignore": True} if w.ignore else {}}


def via_json(pictures, name="{}.jpg"):
    metadata = {}
    for p in pictures:
        regions = [{"shape_attributes": shape, "region_attributes": more} for shape, more in via_regions(p)]
        file = name.format(p.name)
        metadata[f"{file}1234"] = {"filename": file, "size": 1234, "regions": regions, "file_attributes": {}}
    return {"_via_settings": {}, "_via_img_metadata": metadata, "_via_attributes": {"region": {}, "file": {}}}


def via3_json(pictures, name="{}.jpg"):
    """A project of version 3: a text, and a checkbox."""
    files, views, metadata = {}, {}, {}
    for number, p in enumerate(pictures, start=1):
        file = name.format(p.name)
        files[str(number)] = {"fid": number, "fname": file, "type": 2, "loc": 2, "src": file}
        views[str(number)] = {"fid_list": [number]}
        for index, w in enumerate(p.words):
            xy = [7, *(value for point in w.points for value in point)]
            values = {"1": w.text or "", "2": "1" if w.ignore else ""}
            metadata[f"{number}_{index:06d}"] = {"vid": str(number), "flg": 0, "z": [], "xy": xy, "av": values}
    attributes = {"1": {"aname": "text", "anchor_id": "FILE1_Z0_XY1", "type": 1, "desc": "", "options": {}}}
    attributes["2"] = {**attributes["1"], "aname": "flags", "type": 2, "options": {"0": "blurred", "1": "ignore"}}
    project = {"pid": "__VIA_PROJECT_ID__", "pname": "a", "data_format_version": "3.1.1", "vid_list": list(views)}
    config = {"file": {"loc_prefix": {"1": "", "2": "", "3": "", "4": ""}}, "ui": {}}
    return {
        **{"project": project, "config": config, "attribute": attributes, "file": files, "metadata": metadata},
        "view": views,
    }


def via_csv(pictures):
    file = io.StringIO()
    writer = csv.writer(file)
    names = [
        "file_size",
        "file_attributes",
        "region_count",
        "region_id",
        "region_shape_attributes",
        "region_attributes",
    ]
    writer.writerow(["filename", *names])
    for p in pictures:
        regions = list(via_regions(p)) or [({}, {})]
        for number, (shape, attributes) in enumerate(regions):
            texts = [json.dumps(each, ensure_ascii=False) for each in (shape, attributes)]
            writer.writerow([f"{p.name}.jpg", 1234, "{}", len(p.words), number, *texts])
    return file.getvalue()


def voc_xml(picture, name="{}.jpg"):
    objects = ""
    for w in picture.words:
        xs, ys = zip(*w.points)
        points = "".join(f"<x{k}>{x!r}</x{k}><y{k}>{y!r}</y{k}>" for k, (x, y) in enumerate(w.points, start=1))
        objects += (
            f"<object><name>text</name><difficult>{int(w.ignore)}</difficult><text>{escape(w.text or '')}</text>"
            f"<bndbox><xmin>{min(xs)!r}</xmin><ymin>{min(ys)!r}</ymin><xmax>{max(xs)!r}</xmax><ymax>{max(ys)!r}</ymax>"
            f"</bndbox><polygon>{points}</polygon></object>\n"
        )
    return (
        f"<annotation><folder>images</folder><filename>{escape(name.format(picture.name))}</filename>"
        f"<size><width>640</width><height>480</height><depth>3</depth></size>\n{objects}</annotation>\n"
    )


def supervisely_json(picture):
    objects = []
    for w in picture.words:
        tags = [{"name": "text", "value": w.text}] if w.text else []
        tags += [{"name": "ignore", "value": None}] if w.ignore else []
        points = {"exterior": w.points, "interior": []}
        objects.append(
            {"classTitle": "text", "geometryType": "polygon", "description": "", "tags": tags, "points": points}
        )
    return {"description": "", "tags": [], "size": {"height": 480, "width": 640}, "objects": objects}


def doctr_json(pictures, name="{}.jpg"):
    """Polygons by classes, as for several of them; the form with one list is in the tests of the reader."""
    content = {}
    for p in pictures:
        classes = {
            "words": [w.points for w in p.words if not w.ignore],
            "ignore": [w.points for w in p.words if w.ignore],
        }
        content[name.format(p.name)] = {"img_dimensions": [480, 640], "img_hash": "0", "polygons": classes}
    return content


# MATLAB 5, written from its published layout -------------------------------------------------------------------------


def mat_element(kind, data, order="<"):
    if 0 < len(data) <= 4 and kind != 14:
        return struct.pack(order + "I", len(data) << 16 | kind) + data.ljust(4, b"\0")
    return struct.pack(order + "II", kind, len(data)) + data + b"\0" * (-len(data) % 8)


def mat_matrix(value, name="", order="<"):
    """Element of an array of numbers, a text, a list of equally long texts, or an object array of cells."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        mx_class, shape = 1, value.shape
        content = b"".join(mat_matrix(item, order=order) for item in value.ravel(order="F"))
    elif isinstance(value, np.ndarray):
        classes = {"f8": (6, 9), "f4": (7, 7), "i2": (10, 3), "u1": (9, 2), "i4": (12, 5)}
        mx_class, kind = classes[value.dtype.str[1:]]
        shape = value.shape
        content = mat_element(kind, value.astype(value.dtype.newbyteorder(order)).tobytes(order="F"), order)
    else:
        rows = [value] if isinstance(value, str) else value
        mx_class, shape = 4, (len(rows), len(rows[0]))
        text = "".join("".join(column) for column in zip(*rows))
        content = mat_element(4, text.encode("utf-16-le" if order == "<" else "utf-16-be"), order)
    flags = mat_element(6, struct.pack(order + "II", mx_class, 0), order)
    dimensions = mat_element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
    return mat_element(14, flags + dimensions + mat_element(1, name.encode(), order) + content, order)


def mat_file(variables, compressed=False, order="<"):
    data = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(order + "H", 0x0100) + (b"IM" if order == "<" else b"MI")
    for name, value in variables.items():
        element = mat_matrix(value, name, order)
        if compressed:
            packed = zlib.compress(element)
            element = struct.pack(order + "II", 15, len(packed)) + packed
        data += element
    return data


def cells(*items, shape=None):
    array = np.empty(len(items), dtype=object)
    array[:] = list(items)
    return array.reshape(shape or (1, len(items)), order="C")


def totaltext_mat(picture, compressed=True):
    rows = []
    for w in picture.words:
        xs, ys = np.array(w.points, dtype=np.int16).T
        rows += ["x:", xs[None], "y:", ys[None], "#" if w.ignore else w.text, "c"]
    return mat_file({"polygt": cells(*rows, shape=(len(picture.words), 6))}, compressed)


def synthtext_mat(pictures, compressed=True):
    names = [f"8/{p.name}.jpg" for p in pictures]
    # A single word has no third dimension, as MATLAB drops it.
    boxes = [np.array([w.points for w in p.words], dtype=np.float64).transpose(2, 1, 0) for p in pictures]
    boxes = [array[..., 0] if array.shape[2] == 1 else array for array in boxes]
    texts = []
    for p in pictures:
        lines = [w.text for w in p.words]
        width = max(map(len, lines))
        texts.append([line.ljust(width) for line in lines])
    variables = {"charBB": cells(*boxes), "wordBB": cells(*boxes), "imnames": cells(*names), "txt": cells(*texts)}
    return mat_file(variables, compressed)


SYNTH = [
    Picture("ballet_106_0", [Word(box(10.5, 20), "Lines:"), Word(box(100, 20.25), "lost")]),
    Picture("ballet_106_1", [Word(box(30, 40), "one")]),
]


# Everything ---------------------------------------------------------------------------------------------------------


def sample_files(format, pictures=None):
    """Annotation files of a format: (name in the folder, content), the images' names, and what has to be read."""
    if format == "icdar2013":
        pictures = pictures or [Picture("img_1", [Word(box(38, 43), 'say "hi", you'), Word(box(9, 9), "###", True)])]

        def line(w):
            quoted = w.text.replace("\\", "\\\\").replace('"', '\\"')
            return f'{w.points[0][0]}, {w.points[0][1]}, {w.points[2][0]}, {w.points[2][1]}, "{quoted}"'

        return _texts(pictures, "gt/gt_{}.txt", lambda p: lines_of(p, line))
    if format == "icdar2015":
        return _texts(
            pictures or QUADS, "gt/gt_{}.txt", lambda p: lines_of(p, lambda w: f"{numbers(w.points)},{w.text}")
        )
    if format in ("mlt2017", "mlt2019"):
        name = "gt/gt_{}.txt" if format == "mlt2017" else "gt/{}.txt"
        return _texts(
            pictures or SCRIPTS, name, lambda p: lines_of(p, lambda w: f"{numbers(w.points)},{w.language},{w.text}")
        )
    if format in ("td500", "tr400"):
        pictures = pictures or [
            Picture("IMG_0030", [Word(box(10, 20, 100, 30), None), Word(box(30, 200), None, True)])
        ]

        def line(w):
            (x, y), (xmax, ymax) = w.points[0], w.points[2]
            return f"0 {int(w.ignore)} {x} {y} {xmax - x} {ymax - y} 0.0"

        return _texts(pictures, "{}.gt", lambda p: lines_of(p, line))
    if format == "totaltext":
        return _texts(
            pictures or CURVES, "gt/gt_{}.txt", lambda p: lines_of(p, lambda w: f"{numbers(w.points)},{w.text}")
        )
    if format == "totaltext-lists":
        return _texts(pictures or CURVES, "gt/poly_gt_{}.txt", totaltext_lists)
    if format == "totaltext-mat":
        return _texts(pictures or CURVES, "gt/poly_gt_{}.mat", totaltext_mat)
    if format == "ctw1500":
        pictures = pictures or [Picture("0001", CURVES[0].words), Picture("0002", CURVES[1].words)]
        return _texts(pictures, "{}.xml", ctw1500_xml)
    if format == "ctw1500-test":
        pictures = pictures or [Picture("1001", CURVES[0].words), Picture("1002", CURVES[1].words)]
        return _texts(pictures, "000{}.txt", lambda p: lines_of(p, lambda w: f"{numbers(w.points)},####{w.text}"))
    if format in ("art", "lsvt"):
        pictures = pictures or (SCRIPTS if format == "art" else QUADS)
        name = "train_labels.json" if format == "art" else "train_full_labels.json"
        return _json(pictures, name, art_json(pictures))
    if format == "cocotext":
        pictures = pictures or SCRIPTS
        legibility = lambda w: {"legibility": "illegible" if w.ignore else "legible", "language": w.language}  # noqa: E731
        return _json(pictures, "cocotext.v2.json", image_table_json(pictures, "mask", legibility))
    if format == "textocr":
        pictures = pictures or [Picture("a", [Word(curve(9, 9), "x"), Word(box(200, 200), ".", True)])]
        return _json(
            pictures, "TextOCR_0.1_train.json", image_table_json(pictures, "points", file_name="train/{}.jpg")
        )
    if format == "coco":
        return _json(pictures or QUADS, "instances_train.json", coco_json(pictures or QUADS))
    if format == "mmocr":
        return _json(pictures or QUADS, "textdet_train.json", mmocr_json(pictures or QUADS))
    if format == "paddleocr":
        return {"Label.txt": "".join(map(paddle_line, pictures or QUADS)).encode()}, pictures or QUADS
    if format == "labelme":
        return {f"{p.name}.json": json.dumps(labelme_json(p)).encode() for p in pictures or QUADS}, pictures or QUADS
    if format == "synthtext":
        return {"gt.mat": synthtext_mat(pictures or SYNTH)}, pictures or SYNTH
    if format == "yolo":
        files, pictures = _texts(pictures or without_texts(QUADS), "labels/{}.txt", yolo_lines)
        return files | {"data.yaml": b"train: images\nval: images\nnames:\n  0: text\n  1: ignore\n"}, pictures
    if format == "csv":
        return {"annotations.csv": csv_table(pictures or SCRIPTS).encode()}, pictures or SCRIPTS
    if format == "cvat":
        return {"annotations.xml": cvat_xml(pictures or QUADS).encode()}, pictures or QUADS
    if format == "cvat-tracks":
        pictures = pictures or [Picture(f"frame_{int(p.name[4:]):06d}", p.words) for p in QUADS]
        return {"annotations.xml": cvat_tracks_xml(pictures).encode()}, pictures
    if format == "labelstudio-min":
        return _json(pictures or QUADS, "project-1.json", label_studio_min_json(pictures or QUADS))
    if format == "labelstudio":
        return _json(pictures or QUADS, "project-1.json", label_studio_json(pictures or QUADS))
    if format == "via":
        return _json(pictures or QUADS, "via_project.json", via_json(pictures or QUADS))
    if format == "via-3":
        return _json(pictures or QUADS, "via_project.json", via3_json(pictures or QUADS))
    if format == "via-csv":
        return {"via_export.csv": via_csv(pictures or QUADS).encode()}, pictures or QUADS
    if format == "voc":
        return _texts(pictures or QUADS, "Annotations/{}.xml", voc_xml)
    if format == "supervisely":
        return {
            f"ds/ann/{p.name}.jpg.json": json.dumps(supervisely_json(p)).encode() for p in pictures or QUADS
        }, pictures or QUADS
    if format == "doctr":
        pictures = pictures or without_texts(QUADS)
        return _json(pictures, "labels.json", doctr_json(pictures))
    if format == "hub":
        return {"metadata.jsonl": "".join(map(hub_line, pictures or QUADS)).encode()}, pictures or QUADS
    raise KeyError(format)


SAMPLES = (
    *(
        "icdar2013",
        "icdar2015",
        "mlt2017",
        "mlt2019",
        "td500",
        "tr400",
        "totaltext",
        "totaltext-lists",
        "totaltext-mat",
    ),
    *("ctw1500", "ctw1500-test", "art", "lsvt", "cocotext", "textocr", "coco", "mmocr", "paddleocr", "labelme"),
    *("synthtext", "hub", "yolo", "csv", "cvat", "labelstudio", "via", "via-csv", "voc", "supervisely", "doctr"),
    *("cvat-tracks", "labelstudio-min", "via-3"),
)


def picture_names(format):
    """Two names that images of a format may have."""
    if "ctw1500" in format:
        return ["7", "12"]
    return ["frame_000007", "frame_000012"] if format == "cvat-tracks" else ["img_7", "img_12"]


def _texts(pictures, name, content):
    files = {name.format(p.name): content(p) for p in pictures}
    return {name: text.encode() if isinstance(text, str) else text for name, text in files.items()}, pictures


def _json(pictures, name, content):
    return {name: json.dumps(content, ensure_ascii=False).encode()}, pictures


def write_sample(format, folder, pictures=None, images=True):
    """Writes a data set; returns what has to be read, in the order in which it has to come."""
    files, pictures = sample_files(format, pictures)
    for name, data in files.items():
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    if images:
        prefix = {"textocr": "train_images/", "synthtext": "8/", "yolo": "images/", "supervisely": "ds/img/"}.get(
            format, ""
        )
        save_pictures(folder, [prefix + p.name for p in pictures])
    return pictures
