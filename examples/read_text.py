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
"""
Reads the text of images: regions of TCM, crops of them, and a recognizer of your choice.

    python examples/read_text.py examples/sample.jpg --recognizer rapidocr --output words.json --pdf words.pdf --hocr words.hocr

Recognizers: `rapidocr` (pip install rapidocr onnxruntime; its models come with it), `tesseract` (pip install pytesseract, and the
program itself), or an image-to-text model of transformers, such as microsoft/trocr-small-printed. The results are those of
`tcm-hf detect` with `text` and `text_score` at each region. The PDF (pip install pikepdf) shows the images with an invisible layer
of text, which can be searched and copied in any script.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tcm_hf.commands.detect import find_images
from tcm_hf.commands.errors import UsageError
from tcm_hf.model.image_loading import load_rgb_image
from tcm_hf.output_files import check_overwritten, exclusive, replacing, write_text
from tcm_hf.outputs.annotations import HOCR_CLOSING, HOCR_OPENING, as_hocr
from tcm_hf.outputs.crops import rectify
from tcm_hf.outputs.geometry import quad_of


# Takes RGB crops, and gives for each its text and a confidence from 0 to 1.
Recognizer = Callable[[Sequence[np.ndarray]], list[tuple[str, float]]]

# Crops that are this much higher than wide hold text from top to bottom.
VERTICAL = 1.5


# Crops --------------------------------------------------------------------------------------------------------------


def crop(image: np.ndarray, polygon: Any) -> np.ndarray:
    """
    The upright picture of a region, straightened along bent words.

    Args:
        image (`np.ndarray`): RGB of shape (height, width, 3).
        polygon (`list`): Outline, in pixels.

    Returns:
        `np.ndarray`: RGB; text that runs from top to bottom is turned by a quarter, so that it runs from left to right.
    """
    picture = rectify(image, polygon)
    return np.rot90(picture).copy() if picture.shape[0] >= VERTICAL * picture.shape[1] else picture


# Recognizers --------------------------------------------------------------------------------------------------------


def rapidocr_recognizer() -> Recognizer:
    """The recognizer of RapidOCR, on ONNX Runtime; nothing is downloaded for its default languages."""
    try:
        from rapidocr import RapidOCR
    except ImportError as error:
        raise ImportError("the recognizer rapidocr needs `pip install rapidocr onnxruntime`") from error
    engine = RapidOCR(params={"Global.log_level": "error"})

    def recognize(crops: Sequence[np.ndarray]) -> list[tuple[str, float]]:
        results = []
        for picture in crops:
            # RapidOCR takes arrays as OpenCV has them.
            found = engine(picture[..., ::-1].copy(), use_det=False, use_cls=False, use_rec=True)
            texts, scores = found.txts or ("",), found.scores or (0.0,)
            results.append((texts[0], float(scores[0])))
        return results

    return recognize


def tesseract_recognizer(language: str = "eng") -> Recognizer:
    """Tesseract, on single lines."""
    try:
        import pytesseract
    except ImportError as error:
        raise ImportError(
            "the recognizer tesseract needs `pip install pytesseract`, and the program tesseract"
        ) from error
    pytesseract.get_tesseract_version()  # says so when the program is missing

    def recognize(crops: Sequence[np.ndarray]) -> list[tuple[str, float]]:
        results = []
        for picture in crops:
            data = pytesseract.image_to_data(
                picture, lang=language, config="--psm 7", output_type=pytesseract.Output.DICT
            )
            words = [(text, float(score)) for text, score in zip(data["text"], data["conf"]) if text.strip()]
            score = min((score for _, score in words), default=0.0)
            results.append((" ".join(text for text, _ in words), max(score, 0.0) / 100))
        return results

    return recognize


def transformers_recognizer(model: str, batch_size: int = 8) -> Recognizer:
    """An image-to-text model of transformers that reads one line, such as TrOCR; the score is that of its least certain token."""
    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(model)
    network = AutoModelForImageTextToText.from_pretrained(model).eval()

    @torch.inference_mode()
    def recognize(crops: Sequence[np.ndarray]) -> list[tuple[str, float]]:
        results: list[tuple[str, float]] = []
        for start in range(0, len(crops), batch_size):
            pictures = [Image.fromarray(picture) for picture in crops[start : start + batch_size]]
            inputs = processor(images=pictures, return_tensors="pt")
            output = network.generate(
                **inputs, num_beams=1, do_sample=False, return_dict_in_generate=True, output_scores=True
            )
            texts = processor.batch_decode(output.sequences, skip_special_tokens=True)
            steps = torch.stack([logits.softmax(-1).amax(-1) for logits in output.scores])
            results += [(text.strip(), float(score)) for text, score in zip(texts, steps.amin(0))]
        return results

    return recognize


def find_recognizer(name: str, language: str) -> Recognizer:
    """The recognizer of a name: `rapidocr`, `tesseract`, or a model of transformers."""
    if name == "rapidocr":
        return rapidocr_recognizer()
    return tesseract_recognizer(language) if name == "tesseract" else transformers_recognizer(name)


# Reading ------------------------------------------------------------------------------------------------------------


def read(image: np.ndarray, detections: list[dict[str, Any]], recognize: Recognizer) -> list[dict[str, Any]]:
    """Detections with `text` and `text_score`."""
    results = recognize([crop(image, detection["polygon"]) for detection in detections]) if detections else []
    return [
        {**detection, "text": text, "text_score": score}
        for detection, (text, score) in zip(detections, results, strict=True)
    ]


# hOCR ---------------------------------------------------------------------------------------------------------------


def pages_of_hocr(entries: Sequence[dict[str, Any]], folder: Path) -> str:
    """hOCR of entries of the JSON, in a file of a folder; the confidences are those of reading."""
    pages = []
    for number, entry in enumerate(entries):
        words = [{**word, "score": word["text_score"]} for word in entry["detections"]]
        pages.append(as_hocr({**entry, "detections": words}, folder, number))
    return HOCR_OPENING + "".join(pages) + HOCR_CLOSING


# PDF ----------------------------------------------------------------------------------------------------------------

# Codes that a simple font has for characters; 0 stays free.
CODES = 255
# Of a character, in thousandths of the font's size.
ADVANCE, DESCENT = 500, 250
# Control characters, and halves of surrogate pairs.
NO_TEXT = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


class InvisibleText:
    """
    Fonts whose characters draw nothing, and stand for any character of Unicode by a table of their own: text can be
    found and copied in every script, and no font of this machine has to have its characters.

    Args:
        pdf (`pikepdf.Pdf`): The document.
    """

    def __init__(self, pdf: Any):
        self.pdf = pdf
        self.codes: dict[str, int] = {}

    def encode(self, text: str) -> list[tuple[str, bytes]]:
        """Parts of a text in one font each: the font's name, and the codes of the characters."""
        parts: list[tuple[str, bytearray]] = []
        for sign in text:
            number = self.codes.setdefault(sign, len(self.codes))
            name = f"F{number // CODES}"
            if not parts or parts[-1][0] != name:
                parts.append((name, bytearray()))
            parts[-1][1].append(number % CODES + 1)
        return [(name, bytes(codes)) for name, codes in parts]

    def fonts(self) -> Any:
        """The dictionary of all fonts, when all text has been encoded."""
        from pikepdf import Dictionary, Name

        signs = list(self.codes)
        # Its width, and a box that an extractor takes for the height of text; then nothing.
        glyph = self.pdf.make_stream(f"{ADVANCE} 0 0 {-DESCENT} {ADVANCE} {1000 - DESCENT} d1\n".encode())
        fonts = Dictionary()
        for start in range(0, len(signs), CODES):
            part = signs[start : start + CODES]
            fonts[f"/F{start // CODES}"] = self.pdf.make_indirect(
                Dictionary(
                    Type=Name.Font,
                    Subtype=Name.Type3,
                    FontBBox=[0, -DESCENT, ADVANCE, 1000 - DESCENT],
                    FontMatrix=[0.001, 0, 0, 0.001, 0, 0],
                    FirstChar=1,
                    LastChar=len(part),
                    Widths=[ADVANCE] * len(part),
                    Encoding=Dictionary(
                        Type=Name.Encoding, Differences=[1, *(Name(f"/g{code}") for code in range(1, len(part) + 1))]
                    ),
                    CharProcs=Dictionary({f"/g{code}": glyph for code in range(1, len(part) + 1)}),
                    Resources=Dictionary(),
                    ToUnicode=self.pdf.make_stream(to_unicode(part)),
                )
            )
        return fonts


def to_unicode(signs: Sequence[str]) -> bytes:
    """The table of a font whose codes from 1 on stand for some characters."""
    lines = [f"<{code:02x}> <{sign.encode('utf-16-be').hex()}>" for code, sign in enumerate(signs, start=1)]
    blocks = [lines[start : start + 100] for start in range(0, len(lines), 100)]
    mapped = "\n".join(f"{len(block)} beginbfchar\n" + "\n".join(block) + "\nendbfchar" for block in blocks)
    return (
        "/CIDInit /ProcSet findresource begin\n12 dict begin\nbegincmap\n/CMapName /Text def\n/CMapType 2 def\n"
        f"1 begincodespacerange\n<00> <ff>\nendcodespacerange\n{mapped}\nendcmap\n"
        "CMapName currentdict /CMap defineresource pop\nend\nend\n"
    ).encode("ascii")


def text_operators(text: str, quad: np.ndarray, height: float, scale: float, fonts: InvisibleText) -> str:
    """
    The operators that lay a text over a region.

    Args:
        text (`str`): The text.
        quad (`np.ndarray`): Corners in pixels of the image, clockwise from the reading start.
        height (`float`): Height of the page in pixels; a PDF counts from the bottom.
        scale (`float`): Points for each pixel.
        fonts ([`InvisibleText`]): Of the document.
    """
    corners = np.stack([quad[:, 0], height - quad[:, 1]], axis=1).astype(np.float64) * scale
    along, up = corners[2] - corners[3], corners[0] - corners[3]
    if np.linalg.norm(up) >= VERTICAL * np.linalg.norm(along):  # from top to bottom, as it was read
        corners = np.roll(corners, 1, axis=0)
        along, up = corners[2] - corners[3], corners[0] - corners[3]
    along = along / (max(len(text), 1) * ADVANCE / 1000)
    start = corners[3] + up * DESCENT / 1000
    # The space behind it parts words whose regions touch.
    numbers = " ".join(f"{value:.4f}" for value in (*along, *up, *start))
    shown = " ".join(
        f"/{name} 1 Tf <{codes.hex()}> Tj" for name, codes in fonts.encode(NO_TEXT.sub("\ufffd", text) + " ")
    )
    return f"BT 3 Tr {numbers} Tm {shown} ET"


def jpeg_of(path: str, image: Any) -> bytes:
    """The file itself, where it is an upright JPEG of RGB or gray; otherwise the image as a new one."""
    import io

    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as stored:
            if stored.format == "JPEG" and stored.mode in ("RGB", "L") and stored.getexif().get(0x0112, 1) == 1:
                return Path(path).read_bytes()
    except (OSError, UnidentifiedImageError, ValueError):
        pass  # an address, or another format of ours
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95)
    return file.getvalue()


class SearchablePdf:
    """
    A PDF of images, each with an invisible layer of its text.

    Args:
        dpi (`float`, *optional*, defaults to 150.0): Pixels of the images for each inch of a page.
    """

    def __init__(self, dpi: float = 150.0):
        try:
            import pikepdf
        except ImportError as error:
            raise ImportError("a PDF needs `pip install pikepdf`") from error
        self.pdf = pikepdf.new()
        self.fonts = InvisibleText(self.pdf)
        self.scale = 72 / dpi

    def add(self, path: str, image: Any, detections: Sequence[dict[str, Any]]) -> None:
        """Adds a page: an upright RGB image of Pillow's, and what was read in it."""
        import io

        from pikepdf import Dictionary, Name, Page
        from PIL import Image

        data = jpeg_of(path, image)
        with Image.open(io.BytesIO(data)) as stored:
            gray = stored.mode == "L"
        picture = self.pdf.make_stream(
            data,
            Type=Name.XObject,
            Subtype=Name.Image,
            Width=image.width,
            Height=image.height,
            ColorSpace=Name.DeviceGray if gray else Name.DeviceRGB,
            BitsPerComponent=8,
            Filter=Name.DCTDecode,
        )
        width, height = image.width * self.scale, image.height * self.scale
        operators = [f"q {width:.4f} 0 0 {height:.4f} 0 0 cm /Image Do Q"]
        for detection in detections:
            if detection["text"]:
                quad = quad_of(detection)
                operators.append(text_operators(detection["text"], quad, image.height, self.scale, self.fonts))
        page = Dictionary(
            Type=Name.Page,
            MediaBox=[0, 0, width, height],
            Contents=self.pdf.make_stream("\n".join(operators).encode("ascii")),
            Resources=Dictionary(XObject=Dictionary(Image=picture)),
        )
        self.pdf.pages.append(Page(self.pdf.make_indirect(page)))

    def save(self, path: Path) -> None:
        """Writes the file, which is there whole or not at all."""
        fonts = self.pdf.make_indirect(self.fonts.fonts())
        for page in self.pdf.pages:
            page.obj.Resources.Font = fonts
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(path), replacing(path) as temporary:
            self.pdf.save(temporary)


# Command line -------------------------------------------------------------------------------------------------------


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE|DIR|GLOB")
    add("--model", default="tcm-small", help="detector: tcm-small (default), tcm-tiny, a folder, or an id of the Hub")
    add(
        "--recognizer",
        default="rapidocr",
        metavar="NAME",
        help="rapidocr (default), tesseract, or a model of transformers",
    )
    add("--language", default="eng", help="of tesseract, such as deu or eng+fra (default: eng)")
    add("--threshold", type=float, help="lowest score of a region (default: the model's)")
    add("--output", type=Path, metavar="FILE", help="write the JSON here instead of to stdout")
    add("--pdf", type=Path, metavar="FILE", help="write a searchable PDF")
    add("--dpi", type=float, default=150, help="resolution of its pages (default: 150)")
    add("--hocr", type=Path, metavar="FILE", help="write hOCR")
    chosen = parser.parse_args(arguments)
    if not chosen.dpi > 0:
        parser.error("--dpi must be above 0")
    try:
        chosen.found = find_images(chosen.images)
        places = {"--output": chosen.output, "--pdf": chosen.pdf, "--hocr": chosen.hocr}
        check_overwritten(places, chosen.found)
    except (UsageError, ValueError) as error:
        parser.error(str(error))
    return chosen


def save_text(path: Path, text: str) -> None:
    """Writes a file, which is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(path):
        write_text(path, text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 when an image could not be read."""
    chosen = parse_arguments(arguments)
    from transformers import pipeline

    import tcm_hf  # noqa: F401  # registers the pipeline
    from tcm_hf.checkpoints import find_checkpoint

    pdf = SearchablePdf(chosen.dpi) if chosen.pdf is not None else None
    recognize = find_recognizer(chosen.recognizer, chosen.language)
    detector = pipeline("text-detection", model=find_checkpoint(chosen.model))
    options = {} if chosen.threshold is None else {"threshold": chosen.threshold}
    entries: list[dict[str, Any]] = []
    for path, reason in chosen.found.items():
        try:
            if reason is not None:
                raise ValueError(reason)
            image = load_rgb_image(path)
            detections = detector(image, reading_order=True, **options)
        except (OSError, ValueError) as error:
            print(f"read_text: {error}", file=sys.stderr)
            entries.append({"image": path, "error": str(error)})
            continue
        words = read(np.asarray(image), detections, recognize)
        entries.append({"image": path, "width": image.width, "height": image.height, "detections": words})
        if pdf is not None:
            pdf.add(path, image, words)
    content = json.dumps(entries, indent=1) + "\n"
    read_ones = [entry for entry in entries if "detections" in entry]
    if chosen.output is None:
        print(content, end="")
    if chosen.output is not None:
        save_text(chosen.output, content)
    if chosen.hocr is not None:
        save_text(chosen.hocr, pages_of_hocr(read_ones, chosen.hocr.parent))
    if pdf is not None and read_ones:
        pdf.save(chosen.pdf)
    return 0 if len(read_ones) == len(entries) else 1


if __name__ == "__main__":
    sys.exit(main())
