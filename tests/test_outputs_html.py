# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""The page of a run: complete while it grows, harmless, and in a browser what it says."""

import argparse
import base64
import hashlib
import re
import shutil
from html.parser import HTMLParser

import pytest
from PIL import Image
from test_outputs_formats import BENT, HOSTILE, QUADS, entry

from tcm_hf.commands.format_writer import build_side_writers


class Page(HTMLParser):
    """The elements of a page, and the texts of some."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.titles, self._inside = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._inside = tag == "h2"

    def handle_data(self, data):
        if self._inside:
            self.titles.append(data)
            self._inside = False

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def write_page(path, entries):
    (writer,) = build_side_writers(argparse.Namespace(crops=None, html=path), [])
    writer.open()
    for item, image in entries:
        writer.write(item, image)
        assert path.read_text().endswith("</html>\n")
    writer.close()
    return path.read_text()


def test_a_page(tmp_path):
    image = Image.new("RGB", (2000, 1000), "navy")
    entries = [
        (entry("a.jpg", [BENT], size=(2000, 1000), score=0.876, text="Bar & Grill"), image),
        (entry("doc.pdf", QUADS, size=(200, 100), score=0.4) | {"page": 2}, image.resize((200, 100))),
        ({"image": "broken.jpg", "error": "damaged"}, None),
    ]
    text = write_page(tmp_path / "page.html", entries)
    page = Page(text)
    assert page.titles == ["a.jpg", "doc.pdf, page 2", "broken.jpg"]
    assert [each["data-score"] for each in page.of("polygon")] == ["0.8760", "0.4000", "0.4000", "0.4000"]
    assert page.of("polygon")[0]["points"].startswith("20,60 60,40.5")
    assert "0.88 Bar &amp; Grill" in text and "damaged" in text
    first, second = (base64.b64decode(each["src"].split(",")[1]) for each in page.of("img"))
    assert first[:2] == b"\xff\xd8" and len(first) < 20_000
    # Its own script is all that may run.
    (policy,) = (each["content"] for each in page.of("meta") if "http-equiv" in each)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none'")
    assert not re.search(r'(?:src|href)="(?!data:)', text)


def hostile_page(path):
    image = Image.new("RGB", (200, 100))
    entries = [(entry(f"{text}.jpg", QUADS, text=text), image) for text in HOSTILE]
    entries += [({"image": text, "error": text}, None) for text in HOSTILE]
    return write_page(path, entries)


def test_hostile_names_and_texts_add_no_elements(tmp_path):
    page = Page(hostile_page(tmp_path / "page.html"))
    count = len(HOSTILE)
    assert len(page.of("script")) == 1 and len(page.of("img")) == count and len(page.of("article")) == 2 * count
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 390])
def test_in_a_browser(width, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install playwright)")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium (apt-get install chromium)")
    image = Image.new("RGB", (200, 100), "navy")
    entries = [(entry(f"{index}.jpg", [BENT], score=index / 10), image) for index in range(10)]
    entries += [(entry("none.jpg"), image), (entry("tall.jpg", size=(100, 3000)), Image.new("RGB", (100, 3000)))]
    write_page(tmp_path / "page.html", entries)
    hostile_page(tmp_path / "hostile.html")
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as run:
        browser = run.chromium.launch(executable_path=chromium, args=options)
        page = browser.new_page(viewport={"width": width, "height": 900})
        said: list[str] = []
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on(
            "request", lambda request: None if request.url.startswith(("file:", "data:")) else said.append(request.url)
        )
        page.goto((tmp_path / "page.html").as_uri())
        assert page.inner_text("#shown") == "10 texts in 12 of 12 images"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("Math.max(...[...document.querySelectorAll('figure')].map(f => f.clientHeight))") <= 480
        # An outline lies where it is in the image.
        left, right = (page.locator(tag).nth(3).bounding_box() for tag in ("img", "polygon"))
        scale = left["width"] / 200
        # The stroke counts for the browser.
        assert right["x"] - left["x"] == pytest.approx(20 * scale, abs=6)
        assert right["width"] == pytest.approx(80 * scale, abs=9)
        page.fill("#score", "0.45")
        assert page.inner_text("#least") == "0.45" and page.inner_text("#shown") == "5 texts in 12 of 12 images"
        assert page.locator("polygon:visible").count() == 5
        page.check("#hits")
        assert (
            page.inner_text("#shown") == "5 texts in 5 of 12 images" and page.locator("article:visible").count() == 5
        )
        page.fill("#name", "7.JPG")
        assert page.inner_text("#shown") == "1 text in 1 of 12 images"
        page.goto((tmp_path / "hostile.html").as_uri())
        assert page.locator("article").count() == 2 * len(HOSTILE)
        assert "<script>alert(1)</script>.jpg" in page.locator("h2").all_inner_texts()
        browser.close()
    assert said == []
