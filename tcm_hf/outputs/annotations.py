# Copyright 2026 The tcm_hf authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Results of images as annotations: the text of each format."""

import csv
import html
import io
import json
import re
from pathlib import Path
from typing import Any

from .geometry import box_of, number, outline_of, quad_of
from .names import image_name


Entry = dict[str, Any]

# What XML 1.0 cannot hold in any writing, and halves of surrogate pairs, which no UTF-8 can.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# A spreadsheet runs cells that begin with these.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
CSV_COLUMNS = ("image", "image_width", "image_height", "polygon", "score", "label", "text")


def text_of(detection: Entry) -> str:
    """The transcription of a detection; empty where there is none."""
    return str(detection.get("text") or "")


def markup(text: str) -> str:
    """A text for XML or HTML, also inside of quotes; what neither can hold becomes its escape, as `\\x07`."""
    return html.escape(_NO_XML.sub(lambda match: match[0].encode("unicode_escape").decode(), text), quote=True)


def one_line_name(entry: Entry, folder: Path, format: str) -> str:
    """The image's name for a format of lines, in which it cannot hold a tab or a line break."""
    name = image_name(entry, folder)
    if re.search(r"[\t\n\r]", name):
        raise ValueError(
            f"{name!r}: a name with a tab or a line break cannot stand in the format {format}; rename the file"
        )
    return name


def as_icdar(entry: Entry, folder: Path) -> str:
    """`x1,y1,x2,y2,x3,y3,x4,y4,transcription` a line, in whole pixels; eight numbers only where the text is not known."""
    lines = []
    for detection in entry["detections"]:
        fields = [str(round(value)) for point in quad_of(detection).tolist() for value in point]
        text = " ".join(text_of(detection).split())
        lines.append(",".join([*fields, text] if text else fields) + "\n")
    return "".join(lines)


def as_yolo(entry: Entry, corners: bool) -> str:
    """The class 0 and x y of every point a line, in fractions of width and height."""
    lines = []
    for detection in entry["detections"]:
        points = (quad_of if corners else outline_of)(detection) / (entry["width"], entry["height"])
        lines.append(" ".join(["0", *(f"{min(max(value, 0), 1):.7g}" for value in points.ravel().tolist())]) + "\n")
    return "".join(lines)


def as_labelme(entry: Entry, folder: Path) -> str:
    """LabelMe's JSON; the transcription is the description of a shape, as there."""
    shapes = [
        {
            "label": detection.get("label", "text"),
            "points": outline_of(detection).tolist(),
            "group_id": None,
            "description": text_of(detection),
            "shape_type": "polygon",
            "flags": {},
            "score": detection.get("score"),
        }
        for detection in entry["detections"]
    ]
    content = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": image_name(entry, folder, climbs=True),
        "imageData": None,
        "imageHeight": entry["height"],
        "imageWidth": entry["width"],
    }
    return json.dumps(content, indent=1) + "\n"


def as_paddleocr(entry: Entry, folder: Path) -> str:
    """The image's name, a tab, and a JSON list: one line."""
    regions = [
        {
            "transcription": text_of(detection),
            "points": outline_of(detection).tolist(),
            "difficult": False,
            "score": detection.get("score"),
        }
        for detection in entry["detections"]
    ]
    # With escapes: some readers take other line breaks of Unicode for ends of lines.
    return f"{one_line_name(entry, folder, 'paddleocr')}\t{json.dumps(regions)}\n"


def csv_header() -> str:
    """The line that names the columns."""
    return ",".join(CSV_COLUMNS) + "\n"


def as_csv(entry: Entry, folder: Path) -> str:
    """A line for each text, and one with an empty polygon for an image without text."""
    name = image_name(entry, folder)
    # The same path, which is no formula.
    name = f"./{name}" if name.startswith(_FORMULA) else name
    content = io.StringIO()
    # Texts always in quotes: by need alone, a lone carriage return would get none.
    writer = csv.writer(content, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    for detection in entry["detections"] or [None]:
        row: list[Any] = [name, entry["width"], entry["height"]]
        if detection is None:
            row += ["", "", "", ""]
        else:
            polygon = " ".join(number(value) for value in outline_of(detection).ravel().tolist())
            texts = [no_formula(text) for text in (str(detection.get("label", "text")), text_of(detection))]
            row += [polygon, detection.get("score", ""), *texts]
        writer.writerow(row)
    return content.getvalue()


def no_formula(text: str) -> str:
    """A text for a cell of a table, which no spreadsheet runs."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def coco_image(entry: Entry, folder: Path, identifier: int) -> Entry:
    """The entry of COCO's `images`."""
    size = {"width": entry["width"], "height": entry["height"]}
    return {"id": identifier, "file_name": image_name(entry, folder), **size}


def coco_annotations(entry: Entry, image_id: int, first: int) -> list[Entry]:
    """The entries of COCO's `annotations`, numbered from `first` on."""
    annotations = []
    for identifier, detection in enumerate(entry["detections"], first):
        polygon = outline_of(detection)
        left, top, right, bottom = box_of(detection)
        x, y = polygon.T
        area = 0.5 * abs(float((x * _next(y) - _next(x) * y).sum()))
        annotation = {
            "id": identifier,
            "image_id": image_id,
            "category_id": 1,
            "segmentation": [polygon.ravel().tolist()],
            "bbox": [round(value, 2) for value in (left, top, right - left, bottom - top)],
            "area": round(area, 2),
            "iscrowd": 0,
            "score": detection.get("score"),
        }
        annotations.append({**annotation, "text": text_of(detection)} if text_of(detection) else annotation)
    return annotations


def _next(values):
    return [*values[1:], values[0]]


HOCR_OPENING = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
<head>
<title>Detected text</title>
<meta http-equiv="Content-Type" content="text/html;charset=utf-8" />
<meta name="ocr-system" content="tcm_hf" />
<meta name="ocr-capabilities" content="ocr_page ocr_line ocrx_word ocrp_poly" />
</head>
<body>
"""
HOCR_CLOSING = "</body>\n</html>\n"


def as_hocr(entry: Entry, folder: Path, page: int) -> str:
    """A page of hOCR 1.2 (http://kba.github.io/hocr-spec/1.2/): a line and a word for each text, with box, polygon and score."""
    name = image_name(entry, folder, climbs=True).replace("\\", "\\\\").replace('"', '\\"')
    title = f'image "{name}"; bbox 0 0 {entry["width"]} {entry["height"]}; ppageno {page}'
    lines = [f'<div class="ocr_page" id="page_{page}" title="{markup(title)}">\n']
    for index, detection in enumerate(entry["detections"]):
        left, top, right, bottom = box_of(detection)
        bbox = f"bbox {int(left)} {int(top)} {-int(-right // 1)} {-int(-bottom // 1)}"
        polygon = " ".join(str(round(value)) for value in outline_of(detection).ravel().tolist())
        confidence = round(100 * float(detection.get("score") or 0))
        lines.append(
            f'<span class="ocr_line" id="line_{page}_{index}" title="{bbox}; poly {polygon}">'
            f'<span class="ocrx_word" id="word_{page}_{index}" title="{bbox}; x_wconf {confidence}">'
            f"{markup(text_of(detection))}</span></span>\n"
        )
    return "".join([*lines, "</div>\n"])


def as_alto(entry: Entry, folder: Path) -> str:
    """ALTO 4 (https://www.loc.gov/standards/alto/): a block, a line and a string for each text, with polygon and score."""
    size = f'WIDTH="{entry["width"]}" HEIGHT="{entry["height"]}"'
    name = markup(image_name(entry, folder, climbs=True))
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>\n<alto xmlns="http://www.loc.gov/standards/alto/ns-v4#">\n',
        "<Description><MeasurementUnit>pixel</MeasurementUnit><sourceImageInformation>",
        f"<fileName>{name}</fileName></sourceImageInformation></Description>\n",
        f'<Layout><Page ID="page" PHYSICAL_IMG_NR="{entry.get("page", 1)}" {size}>'
        f'<PrintSpace HPOS="0" VPOS="0" {size}>\n',
    ]
    for index, detection in enumerate(entry["detections"]):
        left, top, right, bottom = box_of(detection)
        place = f'HPOS="{number(left)}" VPOS="{number(top)}" WIDTH="{number(right - left)}" HEIGHT="{number(bottom - top)}"'
        points = " ".join(f"{number(x)},{number(y)}" for x, y in outline_of(detection).tolist())
        lines.append(
            f'<TextBlock ID="block_{index}" {place}><TextLine ID="line_{index}" {place}>'
            f'<Shape><Polygon POINTS="{points}"/></Shape>'
            f'<String ID="word_{index}" {place} WC="{float(detection.get("score") or 0):.4f}" '
            f'CONTENT="{markup(text_of(detection))}"/></TextLine></TextBlock>\n'
        )
    return "".join([*lines, "</PrintSpace></Page></Layout>\n</alto>\n"])
