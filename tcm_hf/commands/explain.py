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
Shows what a model sees in an image: a drawing with the texts, the text probability and the matching map of image and
prompt, and lines of text with their figures.

For a model with its text tower and a tokenizer, the lines also tell which words are most like the image, in the texts and
beside them. The bundled checkpoints keep one text embedding instead, and know no words.

  tcm-hf explain examples/sample.jpg
  tcm-hf explain photo.jpg --model my-tcm --tokenizer openai/clip-vit-base-patch16 --words sign wall sky
"""

import argparse
from pathlib import Path
from typing import Any

from ..checkpoints import DEFAULT
from ..output_files import check_output_file, check_overwritten, exclusive, replacing
from .errors import UsageError, one_line
from .loading import add_model_options, load_pipeline


# Of each of the three drawings, in pixels.
PANEL = 900


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `tcm-hf explain`."""
    add = parser.add_argument
    add("image", metavar="IMAGE", help="file or address (http, https)")
    add(
        "--output",
        type=Path,
        default=Path("explained.png"),
        metavar="FILE",
        help="the drawing (default: explained.png)",
    )
    add_model_options(parser, f" (default: {DEFAULT})")
    add = parser.add_argument_group("words").add_argument
    add(
        "--tokenizer", metavar="DIR", help="directory or Hub id with the text tower's tokenizer (default: the model's)"
    )
    add("--words", nargs="+", metavar="WORD", help="words to compare with (default: eighty for what scenes show)")
    add("--top", type=int, default=5, metavar="N", help="how many words to print (default: 5)")


def run(arguments: argparse.Namespace) -> int:
    """
    Runs `tcm-hf explain`.

    Returns:
        `int`: 0.

    Raises:
        UsageError: for a model or an output that cannot be used.
        ValueError, OSError: if the image cannot be read, or the words not be compared.
    """
    try:
        check_overwritten({"--output": arguments.output}, [arguments.image])
        check_output_file(arguments.output)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error
    arguments.reading_order = True
    pipeline = load_pipeline(arguments)
    from ..explanation import find_maps
    from ..model.image_loading import load_rgb_image

    image = load_rgb_image(arguments.image, max_pixels=pipeline.image_processor.max_pixels)
    size = {"size": arguments.size, "do_upscale": arguments.upscale or None}
    maps = find_maps(pipeline, image, **{name: value for name, value in size.items() if value is not None})
    decoding = {name: getattr(arguments, name) for name in ("threshold", "mask_threshold", "unclip_ratio", "shape")}
    detections = maps.detections(**decoding, reading_order=True)
    lines = [*_figures(maps, detections), *_word_lines(pipeline, maps, detections, arguments)]
    panels = _panels(image, maps, detections)
    with exclusive(arguments.output), replacing(arguments.output) as temporary:
        _side_by_side(panels).save(temporary, "PNG")
    print(*lines, f"drawing: {arguments.output}", sep="\n")
    return 0


def _figures(maps, detections: list[dict[str, Any]]) -> list[str]:
    """Lines on the maps as a whole, and on each text."""
    probability, matching = maps.text_probability(), maps.matching()
    lines = [
        f"image: {maps.image_size[1]} x {maps.image_size[0]} pixels, seen as {maps.input_size[1]} x {maps.input_size[0]}"
    ]
    if probability is not None:
        lines.append(f"text probability above 0.5: {(probability > 0.5).mean():.1%} of the image")
    if matching is not None:
        cells = maps.text_cells(detections)
        there, beside = (f"{part.mean():.2f}" if part.size else "-" for part in (matching[cells], matching[~cells]))
        lines.append(f"matching map: mean {there} in the texts, {beside} beside them")
    lines.append(f"texts: {len(detections)}")
    for detection in detections:
        box = ",".join(str(detection["box"][key]) for key in ("xmin", "ymin", "xmax", "ymax"))
        line = f"  box {box}  score {detection['score']:.2f}"
        if matching is not None:
            line += f"  matching {matching[maps.text_cells([detection])].mean():.2f}"
        lines.append(line)
    return lines


def _word_lines(pipeline, maps, detections, arguments: argparse.Namespace) -> list[str]:
    """The words that are most like the image, or why there are none."""
    from ..explanation import WORDS, embed_words, load_tokenizer, similar_words

    asked = arguments.tokenizer is not None or arguments.words is not None
    words = arguments.words or WORDS
    try:
        tokenizer = load_tokenizer(pipeline, arguments.tokenizer)
        if tokenizer is None and pipeline.model.config.text_side and not pipeline.model.config.fused_text:
            raise ValueError("the model's directory has no tokenizer: name that of its CLIP with --tokenizer")
        embeddings = embed_words(pipeline.model, tokenizer, words)
    except (ValueError, OSError) as error:
        if asked:
            raise
        return [f"words: none, {one_line(error)}"]
    cells = maps.text_cells(detections)
    parts = {"image": None, "texts": cells, "beside the texts": ~cells}
    found = {name: similar_words(maps, words, embeddings, part, arguments.top) for name, part in parts.items()}
    return [
        f"words most like the {name}: {', '.join(f'{word} {cosine:.3f}' for word, cosine in best) or '-'}"
        for name, best in found.items()
    ]


def _panels(image, maps, detections: list[dict[str, Any]]) -> dict:
    """Drawings by their titles."""
    from ..explanation import draw_heat_map
    from ..visualization import draw_detections

    drawn = {"texts": draw_detections(image, detections, max_pixels=None)}
    drawn["texts"].thumbnail((PANEL, PANEL))
    small = image.resize(drawn["texts"].size)
    for title, values in (("text probability", maps.text_probability()), ("matching map", maps.matching_on_image())):
        if values is not None:
            drawn[title] = draw_heat_map(small, values)
    return drawn


def _side_by_side(panels: dict):
    """One image of all panels, of one size, with their titles above; below each other where they are wide."""
    from PIL import Image, ImageDraw, ImageFont

    width, height = next(iter(panels.values())).size
    title, gap = 28, 12
    wide = width > height
    step = (0, height + title + gap) if wide else (width + gap, 0)
    last = len(panels) - 1
    whole = Image.new("RGB", (width + last * step[0], height + title + last * step[1]), "white")
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(size=18)
    for index, (name, panel) in enumerate(panels.items()):
        x, y = index * step[0], index * step[1]
        pen.text((x + 2, y + 3), name, fill="black", font=font)
        whole.paste(panel, (x, y + title))
    return whole
