# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""`tcm-hf demo`: what it does without a server, and, where a browser is at hand, the page."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from browser import open_browser
from PIL import Image

from tcm_hf import TCMImageProcessor, checkpoint_path
from tcm_hf.cli import build_parser, main
from tcm_hf.commands import demo
from tcm_hf.commands.demo_session import KEPT_IMAGES, KEPT_MODELS, DemoSession, decoding_controls
from tcm_hf.model.detector_registry import adopt_detector, unregister_detector
from tcm_hf.model.detectors import Decoder, Detector


ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "examples" / "sample.jpg"
# Seconds after which a server or a page hangs. On a machine that is busy with other things each step may take minutes.
PATIENCE = 900


@pytest.fixture(scope="module")
def session():
    return DemoSession(lambda name: demo._load(name, "cpu"), ["tcm-tiny"], demo.MAX_PIXELS)


# --------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("detector", ["db", "pan", "fce"])
def test_every_argument_of_a_detector_has_a_control(detector):
    processor = TCMImageProcessor(detector=detector)
    controls = {control.name: control for control in decoding_controls(processor)}
    arguments = processor.decoding_arguments()
    assert set(controls) == set(arguments)
    for name, control in controls.items():
        assert control.is_threshold == name.endswith(("threshold", "share"))
        if control.is_threshold:
            assert control.kind == "slider" and (control.lowest, control.highest) == (0, 1)
            assert control.value == (1 if arguments[name] is None else arguments[name])
        elif control.kind == "slider":
            assert control.lowest <= control.value <= control.highest and control.step > 0
            steps = (control.highest - control.lowest) / control.step
            assert 100 <= steps <= 1001 and steps == pytest.approx(round(steps))
        assert control.description and control.description[-1] not in ".:" and "`" not in control.description
        # What it shows at both ends is taken by the processor.
        for value in (control.lowest, control.highest):
            if value is not None:
                processor.decoding_arguments(**{name: int(value) if control.kind == "number" else value})
    kinds = [control.is_threshold for control in decoding_controls(processor)]
    assert kinds == sorted(kinds, reverse=True)


def test_values_are_those_of_the_checkpoint():
    controls = {
        control.name: control.value
        for control in decoding_controls(TCMImageProcessor.from_pretrained(checkpoint_path("tcm-tiny")))
    }
    saved = json.loads(Path(checkpoint_path("tcm-tiny"), "preprocessor_config.json").read_text())["decoding"]
    # What splits no regions stands at its other end, where it does the same.
    assert controls == {**saved, "seed_threshold": 1.0} and saved["seed_threshold"] is None


def test_a_detector_of_ones_own_has_controls_too():
    def decode(probabilities, *, score_threshold=0.2, limit_threshold=None, reach=2, unknown=None, name="a", near=0.0):
        return [], []

    adopt_detector(Detector("own", decoder=Decoder(decode, least={"near": 0.0})))
    try:
        controls = {control.name: control for control in decoding_controls(TCMImageProcessor(detector="own"))}
    finally:
        unregister_detector("own")
    assert set(controls) == {"threshold", "limit_threshold", "reach", "near"}
    assert controls["threshold"].value == 0.2 and controls["limit_threshold"].value == 1
    assert controls["reach"].kind == "number" and controls["near"].highest == 4


# --------------------------------------------------------------------------------------- results


def test_result_is_that_of_detect(session, tmp_path):
    result = session.detect("tcm-tiny", str(SAMPLE))
    output = tmp_path / "out.json"
    arguments = ["detect", str(SAMPLE), "--model", "tcm-tiny", "--reading-order", "--device", "cpu"]
    assert main([*arguments, "--output", str(output)]) == 0
    [expected] = json.loads(output.read_text())
    assert json.loads(result.as_json()) == [{**expected, "image": "sample.jpg"}]
    assert result.summary == f"{len(expected['detections'])} texts in 1280 × 720 pixels"
    for image in (result.drawing, result.probability, result.matching):
        assert image.size == (1280, 720)
    # Where texts are, both maps are brighter than elsewhere.
    inside = Image.new("L", (1280, 720))
    for text in expected["detections"]:
        box = [text["box"][key] for key in ("xmin", "ymin", "xmax", "ymax")]
        inside.paste(255, box)
    inside = np.asarray(inside) > 0
    for image in (result.probability, result.matching):
        red = np.asarray(image)[..., 0].astype(float)
        assert red[inside].mean() > red[~inside].mean() + 40


def test_moved_controls_count_and_others_do_not(session, monkeypatch):
    shown = {control.name: control.value for control in session.controls("tcm-tiny")}
    plain = session.detect("tcm-tiny", str(SAMPLE)).record
    assert session.detect("tcm-tiny", str(SAMPLE), shown).record == plain
    pipeline = session.pipeline("tcm-tiny")
    monkeypatch.setattr(pipeline.model, "forward", None)  # another threshold takes no forward pass
    fewer = session.detect("tcm-tiny", str(SAMPLE), {**shown, "threshold": 0.9, "max_candidates": 10000.0}).record
    assert fewer["detections"] == [text for text in plain["detections"] if text["score"] >= 0.9] != plain["detections"]
    boxes = session.detect("tcm-tiny", str(SAMPLE), {**shown, "shape": "box"}).record["detections"]
    assert all(len(text["polygon"]) == 4 for text in boxes)


def test_large_images_are_drawn_small(session, tmp_path):
    Image.open(SAMPLE).resize((2560, 1440)).save(tmp_path / "large.jpg")
    result = session.detect("tcm-tiny", str(tmp_path / "large.jpg"))
    assert result.drawing.size == result.matching.size == (1600, 900)
    assert max(text["box"]["xmax"] for text in result.record["detections"]) > 1600


def test_refusals(session, tmp_path, monkeypatch):
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    small = DemoSession(session.load, ["tcm-tiny"], max_pixels=19_999)
    with pytest.raises(ValueError, match="20000|20,000|max_pixels"):
        small.detect("tcm-tiny", str(tmp_path / "a.png"))
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(OSError, match="^image is not an image"):
        session.detect("tcm-tiny", str(tmp_path / "b.png"))
    # A visitor's text never opens a folder of this machine, nor an address.
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for name in ("owner/name", "/etc", "..", "http://127.0.0.1/x", "", "tcm-small/../tcm-tiny", "a/b/c"):
        with pytest.raises(ValueError, match="unknown model"):
            session.pipeline(name)
    closed = DemoSession(session.load, ["tcm-tiny"], demo.MAX_PIXELS, hub=False)
    with pytest.raises(ValueError, match="choose tcm-tiny$"):
        closed.pipeline("other/model")


def test_only_a_few_models_and_images_are_kept(session, tmp_path):
    loaded = []
    several = DemoSession(
        lambda name: (loaded.append(name), session.pipeline("tcm-tiny"))[1], list("abc"), demo.MAX_PIXELS
    )
    assert KEPT_MODELS == 2
    for name in "abacaba":
        several.pipeline(name)
    assert loaded == ["a", "b", "c", "b"]
    paths = [tmp_path / f"{number}.png" for number in range(KEPT_IMAGES + 2)]
    for path in paths:
        Image.new("RGB", (64, 64)).save(path)
        several.detect("a", str(path))
    assert [path for _, path in several._maps] == [str(path) for path in paths[2:]]


def test_pages_of_a_pdf(tmp_path):
    pytest.importorskip("pypdfium2")
    from tcm_hf.commands.demo_pdf import read_pdf_page

    first, second = Image.new("RGB", (360, 144), "red"), Image.new("RGB", (72, 72), "blue")
    first.save(tmp_path / "two.pdf", save_all=True, append_images=[second], resolution=72)
    page, count = read_pdf_page(str(tmp_path / "two.pdf"), 2, demo.MAX_PIXELS)
    assert (page.size, count, page.mode) == ((150, 150), 2, "RGB") and page.getpixel((70, 70))[2] > 200
    # 5 x 2 inches.
    assert read_pdf_page(str(tmp_path / "two.pdf"), 1, demo.MAX_PIXELS)[0].size == (750, 300)
    with pytest.raises(ValueError, match="page 1.*750 x 300 pixels.*max_pixels"):
        read_pdf_page(str(tmp_path / "two.pdf"), 1, 10_000)
    with pytest.raises(ValueError, match="no page 3: the PDF has 2"):
        read_pdf_page(str(tmp_path / "two.pdf"), 3, demo.MAX_PIXELS)
    (tmp_path / "wrong.pdf").write_bytes(b"%PDF-1.4 nothing")
    with pytest.raises(ValueError, match="'the PDF' is no PDF"):
        read_pdf_page(str(tmp_path / "wrong.pdf"), 1, demo.MAX_PIXELS)


# --------------------------------------------------------------------------------------- command


def test_without_gradio(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo"]) == 2
    error = capsys.readouterr().err
    assert "pip install gradio" in error and error.count("\n") == 1


def test_wrong_model_and_port(capsys):
    pytest.importorskip("gradio")
    assert main(["demo", "--model", "no such model"]) == 2
    assert "cannot load model 'no such model'" in capsys.readouterr().err
    assert main(["demo", "--port", "70000"]) == 2
    assert "no port" in capsys.readouterr().err


def test_page_is_closed_to_the_world(session):
    gradio = pytest.importorskip("gradio")
    import inspect

    from tcm_hf.commands.demo_page import build_page, launch_options

    options = launch_options()
    assert set(options) <= set(inspect.signature(gradio.Blocks.launch).parameters)
    assert not options["share"] and not options["run_history"] and options["max_file_size"] == "32mb"
    page = build_page(session)
    assert not page.analytics_enabled and page.delete_cache
    functions = list(page.fns.values())
    assert functions and all(each.concurrency_limit == 1 and each.concurrency_id == "model" for each in functions)
    assert build_parser(["demo"]).parse_args(["demo"]).host == "127.0.0.1"


def test_examples_are_rendered(tmp_path):
    pytest.importorskip("gradio")
    from tcm_hf.commands.demo_page import draw_examples

    paths = draw_examples(tmp_path)
    assert len(paths) == 4
    for path in paths:
        assert Image.open(path).size == (800, 600)


def test_space_folder():
    """It needs nothing but itself and the package."""
    folder = ROOT / "examples" / "space"
    head = (folder / "README.md").read_text(encoding="utf-8").split("---")[1]
    fields = dict(re.findall(r"^(\w+): (.+)$", head, re.MULTILINE))
    assert fields["sdk"] == "gradio" and (folder / fields["app_file"]).is_file() and fields["license"] == "apache-2.0"
    assert len(fields["short_description"]) <= 60  # the Hub refuses longer ones
    assert "tcm_hf[demo]" in (folder / "requirements.txt").read_text()


# --------------------------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A running demo, started as the Space's folder does it."""
    pytest.importorskip("gradio")
    folder = tmp_path_factory.mktemp("space")
    environment = {
        **os.environ,
        "TCM_HF_DEMO_MODELS": "tcm-tiny",
        "GRADIO_TEMP_DIR": str(folder),
        "TMPDIR": str(folder),
        "PYTHONPATH": str(ROOT),
    }
    process = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=ROOT / "examples" / "space",
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        yield re.search(r"http://127\.0\.0\.1:\d+", line).group()
    finally:
        process.terminate()  # Ctrl-C is ignored by what a shell runs in the background
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def browser(address):
    with open_browser() as browser:
        yield browser


@pytest.fixture(params=[1400, 390])
def page(browser, address, request):
    """The page at the width of a desktop and of a phone; it may ask no other server for anything, nor fail."""
    page = browser.new_page(viewport={"width": request.param, "height": 900})
    page.set_default_timeout(1000 * PATIENCE)
    foreign, errors = [], []
    page.on("request", lambda asked: foreign.append(asked.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#set-threshold")
    yield page
    assert [url for url in foreign if not url.startswith((address, "data:", "blob:"))] == []
    assert errors == []
    page.close()


def wait_for_summary(page, pattern):
    """The line above the results, once it matches: while Gradio works, something else stands there."""
    page.wait_for_function(
        "pattern => new RegExp(pattern).test(document.querySelector('#summary').innerText.trim())", arg=pattern
    )
    return page.inner_text("#summary")


def upload(page, path, pattern="texts? in"):
    page.set_input_files("#image input[type=file]", str(path))
    return wait_for_summary(page, pattern)


@pytest.mark.slow
def test_upload_sliders_maps_and_download(page, session, tmp_path):
    scores = sorted(text["score"] for text in session.detect("tcm-tiny", str(SAMPLE)).record["detections"])
    # What about half of the texts reach, whatever the checkpoint has learned.
    threshold = round(scores[len(scores) // 2], 2)
    upload(page, SAMPLE, f"^{len(scores)} texts in 1280 × 720 pixels")
    # Nothing is wider than the screen.
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    box = page.locator("#set-threshold input[type=number]")
    saved = json.loads(Path(checkpoint_path("tcm-tiny"), "preprocessor_config.json").read_text())["decoding"]
    assert float(box.input_value()) == saved["threshold"] < threshold
    box.fill(str(threshold))
    box.press("Enter")
    count = sum(score >= threshold for score in scores)
    assert 0 < count < len(scores)
    wait_for_summary(page, f"^{count} texts? in")
    with page.expect_download() as waiting:
        page.click("#download")
    waiting.value.save_as(tmp_path / "out.json")
    assert waiting.value.suggested_filename == "sample.json"
    [record] = json.loads((tmp_path / "out.json").read_text())
    assert len(record["detections"]) == count and all(text["score"] >= threshold for text in record["detections"])
    for tab, name in (("Text probability", "probability"), ("Matching map", "matching")):
        page.get_by_role("tab", name=tab).click()
        image = page.wait_for_selector(f"#{name} img")
        page.wait_for_function("image => image.naturalWidth === 1280", arg=image)


@pytest.mark.slow
def test_examples_and_pdf(page, tmp_path):
    pytest.importorskip("pypdfium2")
    page.locator("button.gallery-item, .gallery-item").first.click()
    wait_for_summary(page, "in 800 × 600 pixels")
    image = Image.open(SAMPLE)
    image.save(tmp_path / "doc.pdf", save_all=True, append_images=[image.rotate(180)], resolution=150)
    page.get_by_role("tab", name="PDF").click()
    page.set_input_files("#pdf input[type=file]", str(tmp_path / "doc.pdf"))
    wait_for_summary(page, "in 128[01] × 72[01] pixels")


@pytest.mark.slow
def test_hostile_names_and_files(page, tmp_path):
    name = "<img src=x onerror=document.title='run'>"
    Image.open(SAMPLE).save(tmp_path / f"{name}.png")
    upload(page, tmp_path / f"{name}.png")
    page.get_by_text("JSON", exact=True).last.click()
    page.wait_for_timeout(1000)
    (tmp_path / f"{name}2.png").write_bytes(b"no image")
    page.set_input_files("#image input[type=file]", str(tmp_path / f"{name}2.png"))
    page.wait_for_selector(".toast-body")
    page.wait_for_timeout(500)
    assert page.title() == "tcm_hf"
