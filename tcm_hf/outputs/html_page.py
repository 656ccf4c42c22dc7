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
"""A page of a run to look at: every image with its texts, filtered by score and name; one file that loads nothing."""

import base64
import hashlib
import io
from typing import Any

from .annotations import markup, text_of
from .geometry import number, outline_of
from .names import entry_stem
from .writers import Entry, StreamForm


# Pixels; enough to see words, and 50 KB for each image.
THUMBNAIL_SIDE = 640

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --hit: #ff0060; }
* { box-sizing: border-box; }
body { margin: 0; font: 15px/1.4 system-ui, sans-serif; }
header { position: sticky; top: 0; z-index: 1; padding: 10px 16px; background: Canvas; border-bottom: 1px solid var(--line);
  display: flex; flex-wrap: wrap; gap: 6px 20px; align-items: center; }
h1 { font-size: 17px; margin: 0; }
label { display: inline-flex; gap: 8px; align-items: center; }
input[type="search"] { font: inherit; padding: 2px 6px; width: 11em; }
output { font-variant-numeric: tabular-nums; min-width: 2.6em; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(320px, 100%), 1fr)); gap: 16px; padding: 16px; }
article { border: 1px solid var(--line); border-radius: 6px; overflow: hidden; }
article h2 { font-size: 14px; margin: 8px 10px 0; overflow-wrap: anywhere; }
article p { margin: 0 10px 8px; opacity: 0.75; font-size: 13px; }
.error { color: #d00; opacity: 1; overflow-wrap: anywhere; }
figure { margin: 0; max-height: 480px; overflow: auto; }
figure div { position: relative; }
figure img, figure svg { display: block; width: 100%; height: auto; }
figure svg { position: absolute; inset: 0; height: 100%; }
polygon { fill: var(--hit); fill-opacity: 0.15; stroke: var(--hit); stroke-width: 2; vector-effect: non-scaling-stroke; }
polygon:hover { fill-opacity: 0.45; }
[hidden] { display: none !important; }
"""

_SCRIPT = """
addEventListener("DOMContentLoaded", () => {
  const score = document.getElementById("score"), shown = document.getElementById("shown");
  const name = document.getElementById("name"), hits = document.getElementById("hits");
  const articles = [...document.querySelectorAll("article")].map(article => ({
    article, name: article.querySelector("h2").textContent.toLowerCase(), count: article.querySelector(".count"),
    texts: [...article.querySelectorAll("polygon")],
  }));
  function update() {
    const least = Number(score.value), wanted = name.value.toLowerCase();
    let images = 0, regions = 0;
    for (const { article, name, count, texts } of articles) {
      let found = 0;
      for (const text of texts) {
        const visible = Number(text.dataset.score) >= least;
        text.toggleAttribute("hidden", !visible);
        found += visible;
      }
      if (count) count.textContent = found + (found === 1 ? " text" : " texts");
      article.hidden = !name.includes(wanted) || (hits.checked && found === 0);
      if (!article.hidden) { images += 1; regions += found; }
    }
    document.getElementById("least").textContent = least.toFixed(2);
    shown.textContent = regions + (regions === 1 ? " text in " : " texts in ") + images + " of " + articles.length + " images";
  }
  for (const control of [score, name, hits]) control.addEventListener("input", update);
  update();
});
"""


def page_opening() -> str:
    """
    The head of the page and its controls.

    A policy lets nothing run but the page's own script, by its hash, and nothing be loaded, whatever names and texts hold.
    """
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Detected text</title>
<style>{_STYLE}</style>
<script>{_SCRIPT}</script>
</head>
<body>
<header>
<h1>Detected text</h1>
<label>Lowest score <input id="score" type="range" min="0" max="1" step="0.01" value="0"><output id="least">0.00</output></label>
<label>Name <input id="name" type="search"></label>
<label><input id="hits" type="checkbox"> only images with text</label>
<span id="shown"></span>
</header>
<main>
"""


PAGE_CLOSING = "</main>\n</body>\n</html>\n"


def as_article(entry: Entry, image: Any = None) -> str:
    """
    An image's part of the page.

    Args:
        entry (`dict`): its result.
        image (`PIL.Image.Image`, *optional*): the image; without it there are only the outlines.
    """
    name = str(entry["image"])
    facts = [f"{fact} {entry[fact]}" for fact in ("member", "page", "frame", "row", "timestamp") if fact in entry]
    title = f"<h2>{markup(', '.join([name, *facts]))}</h2>\n"
    if "detections" not in entry:
        return f'<article>{title}<p class="error">{markup(str(entry.get("error", "no result")))}</p></article>\n'
    width, height = entry["width"], entry["height"]
    shapes = []
    for detection in entry["detections"]:
        points = " ".join(f"{number(x)},{number(y)}" for x, y in outline_of(detection).tolist())
        score = float(detection.get("score") or 0)
        tip = f"{score:.2f} {text_of(detection)}".strip()
        shapes.append(f'<polygon points="{points}" data-score="{score:.4f}"><title>{markup(tip)}</title></polygon>')
    picture = f'<img alt="{markup(entry_stem(entry))}" width="{width}" height="{height}" src="{_thumbnail(image, (width, height))}">'
    drawing = f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none">{"".join(shapes)}</svg>'
    count = f"{len(shapes)} text{'' if len(shapes) == 1 else 's'}"
    figures = f'<p><span class="count">{count}</span> · {width} × {height} pixels</p>'
    return f"<article>\n<figure><div>{picture}{drawing}</div></figure>\n{title}{figures}\n</article>\n"


def _thumbnail(image: Any, size: tuple[int, int]) -> str:
    """The image, made smaller, as an address that holds it."""
    from PIL import Image

    scale = min(1.0, THUMBNAIL_SIDE / max(size))
    sides = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    if image is None:
        image = Image.new("RGB", sides, (200, 200, 200))
    elif image.size != sides:
        image = image.resize(sides, Image.Resampling.BILINEAR, reducing_gap=2.0)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def page_form() -> StreamForm:
    """The page as a file that grows image by image."""
    return StreamForm(page_opening(), PAGE_CLOSING, as_article, needs_image=True)
