"""Styles of rendered images besides scenes, scripts, text-free images and quarter turns."""

import json
import math
import pickle
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ImageFont, features

from tcm_hf.data.synthesis import generator as generator_module
from tcm_hf.data.synthesis import page as page_module
from tcm_hf.data.synthesis import word_lists
from tcm_hf.data.synthesis.fonts import FONT_PACKAGES, find_fonts, has_glyph, missing_fonts
from tcm_hf.data.synthesis.generator import SyntheticTextGenerator
from tcm_hf.data.synthesis.negatives import HARD_PATTERNS
from tcm_hf.data.synthesis.page import Page
from tcm_hf.data.synthesis.styles import PAGES, STYLES
from tcm_hf.data.synthesis.text_layout import draw_word
from tcm_hf.data.synthesis.weights import Weights, parse_weights
from tcm_hf.data.synthesis.words import SCRIPTS
from tcm_hf.data.synthesis.writer import is_readable


FONTS = Path("/usr/share/fonts")
# Where Debian's packages put the fonts of `FONT_PACKAGES`: looking through all of the system's would take long.
FOLDERS = [
    *(FONTS / "opentype" / name for name in ("noto", "fonts-hosny-amiri", "ipafont-gothic")),
    *(FONTS / "truetype" / name for name in ("noto", "dejavu", "tlwg", "lohit-devanagari", "wqy", "nanum", "arphic")),
]


@pytest.fixture(scope="module")
def generators():
    """A generator for each style, of Latin in Pillow's built-in font, as the photo comes without a camera's faults."""
    return {
        style: SyntheticTextGenerator(size=320, styles={style: 1}, degradation=0, text_height=(7, 60))
        for style in PAGES
    }


def pages(generators, style, count=8):
    for seed in range(count):
        yield generators[style]._draw_page(style, (320, 320), np.random.default_rng([7, seed]))


def script_fonts(script):
    if SCRIPTS[script].shaping and not features.check("raqm"):
        pytest.skip("Pillow has no Raqm")
    fonts = find_fonts(FOLDERS, limit=2, script=script)
    if not fonts:
        pytest.skip(missing_fonts(script))
    return fonts


def filled(shape, polygons):
    inside = np.zeros(shape, np.uint8)
    for polygon in polygons:
        cv2.fillPoly(inside, [np.rint((polygon - 0.5) * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    return inside.astype(bool)


def test_scenes_are_what_they_were_without_styles():
    plain = SyntheticTextGenerator(size=128)
    named = SyntheticTextGenerator(size=128, styles={"scene": 2.0}, scripts={"latin": 1})
    for seed in range(4):
        first, second = (maker.generate(np.random.default_rng(seed)) for maker in (plain, named))
        assert np.array_equal(first[0], second[0]) and first[2:] == second[2:]
        assert all(np.array_equal(a, b) for a, b in zip(first[1], second[1], strict=True))
    assert plain.generate(np.random.default_rng(3))[3] == ["for", "Mobile", "SMALL"]


@pytest.mark.parametrize("style", PAGES)
def test_pages_are_functions_of_the_generator(style):
    maker = SyntheticTextGenerator(size=(160, 224), styles={style: 1})
    pictures = set()
    for seed in range(4):
        first, again = (maker.generate(np.random.default_rng(seed)) for _ in range(2))
        assert first[0].shape == (160, 224, 3) and first[0].dtype == np.uint8
        assert np.array_equal(first[0], again[0]) and first[2:] == again[2:]
        assert all(np.array_equal(a, b) for a, b in zip(first[1], again[1], strict=True))
        for polygon in first[1]:
            assert polygon.dtype == np.float32 and (polygon >= 0).all() and (polygon <= (224, 160)).all()
        pictures.add(first[0].tobytes())
    assert len(pictures) == 4


@pytest.mark.parametrize("style", PAGES)
def test_outlines_hold_the_ink_and_are_tight(generators, style, monkeypatch):
    words = 0
    for seed in range(6):
        drawn, blank = [], []
        for result in (drawn, blank):
            with monkeypatch.context() as patch:
                if result is blank:
                    patch.setattr(page_module, "blend", lambda *arguments: None)
                result.append(generators[style]._draw_page(style, (320, 320), np.random.default_rng([11, seed])))
        page = drawn[0]
        ink = np.abs(page.image.astype(int) - blank[0].image).max(axis=2)
        outlines = page.outlines()
        assert page.texts == blank[0].texts and len(outlines) == len(page.texts) == len(page.ignore)
        strong = ink > 60
        # Between the rows of a letter's edge and the outline there may be half a pixel.
        assert not (
            strong & ~cv2.dilate(filled(ink.shape, outlines).astype(np.uint8), np.ones((3, 3))).astype(bool)
        ).any()
        for quad, em, contrast in zip(outlines, page.ems, page.contrasts, strict=True):
            low, high = np.maximum(np.floor(quad.min(axis=0)).astype(int), 0), np.ceil(quad.max(axis=0)).astype(int)
            part = ink[low[1] : high[1], low[0] : high[0]]
            if part.max(initial=0) < 40 or contrast < 20:
                continue
            words += 1
            x, y = (np.flatnonzero((part > 0.25 * part.max()).any(axis=axis)) for axis in (0, 1))
            spare = 0.12 * em + 3.0
            assert x[0] <= spare and y[0] <= spare
            assert part.shape[1] - x[-1] <= spare + 1 and part.shape[0] - y[-1] <= spare + 1
    assert words > 10


@pytest.mark.parametrize("style", PAGES)
def test_polygons_follow_the_page_into_the_picture(generators, style, monkeypatch):
    for seed in range(4):
        image, polygons, _, _ = generators[style].generate(np.random.default_rng([5, seed]))
        with monkeypatch.context() as patch:
            patch.setattr(page_module, "blend", lambda *arguments: None)
            blank, again, _, _ = generators[style].generate(np.random.default_rng([5, seed]))
        assert len(polygons) == len(again)
        ink = np.abs(image.astype(int) - blank).max(axis=2) > 50
        inside = cv2.dilate(filled(ink.shape, polygons).astype(np.uint8), np.ones((5, 5))).astype(bool)
        assert ink.any() and (ink & ~inside).sum() <= 0.002 * ink.sum()


@pytest.mark.parametrize("style", PAGES)
def test_words_of_a_page_do_not_overlap(generators, style):
    for page in pages(generators, style):
        boxes = np.array([(*q.min(axis=0), *q.max(axis=0)) for q in page.outlines()]).reshape(-1, 4)
        low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
        high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=2)
        areas = np.diag(shared).copy()
        np.fill_diagonal(shared, 0)
        assert (shared <= 0.05 * areas[:, None]).all()


def test_single_characters_are_words(generators):
    for style in ("document", "receipt", "screen"):
        texts = [
            t for page in pages(generators, style, 12) for t, no in zip(page.texts, page.ignore, strict=True) if not no
        ]
        assert sum(len(text) == 1 for text in texts) > 0.02 * len(texts)
    assert (
        is_readable("$") and is_readable("3") and is_readable("A.") and not is_readable("-") and not is_readable("•")
    )


def test_sizes_range_from_small_print_to_half_of_the_picture(generators):
    heights = {style: [] for style in PAGES}
    for style, found in heights.items():
        for page in pages(generators, style, 16):
            found += [0.7 * em for em in page.ems]
            assert min(page.ems, default=10) >= 0.6 * 7 / 0.7
    assert np.percentile(heights["document"], 10) < 11 and np.percentile(heights["screen"], 10) < 11
    assert max(heights["sign"]) > 0.3 * 320 and max(heights["sign"]) <= 0.51 * 320


def test_text_free_pictures_have_no_words():
    maker = SyntheticTextGenerator(size=96, text_free=1, styles={"screen": 1})
    for seed in range(20):
        image, *rest = maker.generate(np.random.default_rng(seed))
        assert image.shape == (96, 96, 3) and rest == [[], [], []]
    maker = SyntheticTextGenerator(size=64, text_free=0.3, styles={"sign": 1, "screen": 1}, text_height=(6, 20))
    empty = [not maker.generate(np.random.default_rng(seed))[1] for seed in range(100)]
    assert 0.2 < np.mean(empty) < 0.6


def test_blank_pages_differ_from_written_ones_by_their_words(generators):
    page = generators["screen"]._draw_page("screen", (320, 320), np.random.default_rng(0), silent=True)
    assert not page.texts and len(page.outlines()) == 0 and page.image.std() > 0


@pytest.mark.parametrize("pattern", HARD_PATTERNS)
def test_hard_patterns_fill_any_rectangle(pattern):
    for height, width in ((10, 90), (64, 48), (200, 31)):
        colour, coverage = pattern(height, width, np.random.default_rng(2))
        assert colour.shape == (height, width, 3) and colour.dtype == np.uint8 and colour.flags.c_contiguous
        if coverage is not None:
            assert coverage.shape == (height, width) and coverage.dtype == np.uint8 and coverage.any()
    colour, coverage = pattern(120, 120, np.random.default_rng(3))
    assert colour.reshape(-1, 3).std(axis=0).max() > 1 or (coverage is not None and coverage.std() > 0)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_take_the_outlines_along(turns):
    image = np.zeros((40, 60, 3), np.uint8)
    quad = np.array([[5, 8], [35, 8], [35, 20], [5, 20]], np.float32)
    image[8:20, 5:35] = 255
    turned, (outline,) = generator_module._turned(image, [quad], turns)
    left, top, width, height = cv2.boundingRect(turned[:, :, 0])
    assert [*outline.min(axis=0), *outline.max(axis=0)] == [left, top, left + width, top + height]
    # The first corner is still the word's own.
    assert np.array_equal(turned, np.rot90(image, turns))
    first = {1: (8, 55), 2: (55, 32), 3: (32, 5)}[turns]
    assert tuple(outline[0]) == first


def test_turned_pictures_keep_the_asked_size():
    for style in ("scene", "document"):
        maker = SyntheticTextGenerator(size=(96, 160), styles={style: 1}, quarter_turns=1)
        for seed in range(6):
            image, polygons, _, _ = maker.generate(np.random.default_rng(seed))
            assert image.shape == (96, 160, 3) and image.flags.c_contiguous
            assert all((p >= 0).all() and (p <= (160, 96)).all() for p in polygons)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_is_drawn_in_every_style(script, monkeypatch):
    fonts = {script: script_fonts(script)}
    maker = SyntheticTextGenerator(
        fonts, script="latin", scripts={script: 1}, size=256, styles=dict.fromkeys(PAGES, 1), text_height=(9, 60)
    )
    fonts = [str(font) for font in fonts[script]]
    found = set()
    for style in PAGES:
        words = 0
        for seed in range(4):
            page = maker._draw_page(style, (256, 256), np.random.default_rng(seed))
            words += len(page.texts)
            for text in page.texts:
                found |= {unicodedata.name(c, "?").split()[0] for c in text if c.isalpha()}
                assert any(all(has_glyph(font, c) for c in text) for font in fonts), text
        assert words > 0
    names = {"chinese": "CJK", "traditional_chinese": "CJK", "japanese": "HIRAGANA", "korean": "HANGUL"}
    assert names.get(script, script.upper()) in found


@pytest.mark.parametrize("script", ["chinese", "japanese", "thai"])
def test_scripts_without_gaps_have_one_outline_a_line(script):
    maker = SyntheticTextGenerator(
        {script: script_fonts(script)}, scripts={script: 1}, styles={"document": 1}, size=400
    )
    writer = maker.writers[script]
    font = writer.font(np.random.default_rng(0))
    lines = [writer.line(font, 20, 400, np.random.default_rng(seed)) for seed in range(40)]
    assert max(map(len, lines)) <= 2 and np.mean([len(line) for line in lines]) < 1.5
    assert all(sum(width for _, width in line) <= 400 for line in lines)
    assert np.median([width for line in lines for _, width in line]) > 200


@pytest.mark.parametrize("script", ["hebrew", "arabic"])
def test_rows_are_read_from_the_right_where_the_script_is(script):
    maker = SyntheticTextGenerator(
        {script: script_fonts(script)}, scripts={script: 1}, styles={"document": 1}, size=400
    )
    writer = maker.writers[script]
    page = Page(np.full((60, 400, 3), 255, np.uint8), writer)
    font = writer.font(np.random.default_rng(0))
    words = [writer.description.probes[2 * i : 2 * i + 3] for i in range(3)]
    page.row(words, 380, 40, font, 20, (0, 0, 0), 360, 1.0)
    lefts = {text: rect[0] for text, rect in zip(page.texts, page.rects, strict=True)}
    assert [lefts[word] for word in words] == sorted(lefts.values(), reverse=True)


def test_letters_of_arabic_are_joined():
    (font, *_) = script_fonts("arabic")
    maker = SyntheticTextGenerator({"arabic": [font]}, scripts={"arabic": 1}, styles={"sign": 1})
    loaded = maker.writers["arabic"].load(str(font), 40)
    assert loaded.layout_engine == ImageFont.Layout.RAQM
    # Joined letters are narrower than the same ones alone.
    assert draw_word("بببب", loaded)[0].shape[1] < 0.85 * 4 * draw_word("ب", loaded)[0].shape[1]


@pytest.mark.parametrize("script", ["chinese", "japanese"])
def test_columns_have_one_outline(script):
    maker = SyntheticTextGenerator(
        {script: script_fonts(script)}, scripts={script: 1}, styles={"vertical": 1}, size=320
    )
    tall = wide = 0
    for seed in range(12):
        page = maker._draw_page("vertical", (320, 320), np.random.default_rng(seed))
        for text, (left, top, right, bottom) in zip(page.texts, page.rects, strict=True):
            if len(text) > 2:
                tall += bottom - top > right - left
                wide += bottom - top <= right - left
    assert tall > 20 and not wide


def test_missing_fonts_are_named_with_their_packages(monkeypatch):
    monkeypatch.setattr(generator_module, "find_fonts", lambda **arguments: [])
    with pytest.raises(ValueError, match=r"no font for script 'thai' in .*apt install fonts-thai-tlwg"):
        SyntheticTextGenerator(scripts={"latin": 1, "thai": 0.1})
    assert set(FONT_PACKAGES) == set(SCRIPTS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"styles": {"scenes": 1}}, "`styles`: unknown name 'scenes'; choose from scene, document"),
        ({"styles": {}}, "`styles` must map names to weights"),
        ({"styles": ["scene"]}, "`styles` must map names to weights"),
        ({"styles": {"scene": 0}}, "`styles`: one of the weights must be above 0"),
        ({"styles": {"scene": -1}}, "`styles`: the weight of 'scene' must be a number of at least 0"),
        ({"styles": {"scene": math.nan}}, "`styles`: the weight of 'scene' must be a number"),
        ({"styles": {"scene": "1"}}, "`styles`: the weight of 'scene' must be a number"),
        ({"scripts": {"klingon": 1}}, "`scripts`: unknown name 'klingon'; choose from latin"),
        ({"text_free": 1.5}, "`text_free` must lie between 0 and 1"),
        ({"quarter_turns": -0.1}, "`quarter_turns` must lie between 0 and 1"),
        ({"hard_negatives": 2}, "`hard_negatives` must lie between 0 and 1"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        SyntheticTextGenerator(**settings)


def test_settings_may_come_from_json():
    settings = json.loads('{"styles": {"scene": 1, "sign": 1}, "scripts": {"latin": 1}, "text_free": 0.1}')
    assert SyntheticTextGenerator(size=64, **settings).generate(np.random.default_rng(0))[0].shape == (64, 64, 3)


def test_generators_travel_to_other_processes(generators):
    copy = pickle.loads(pickle.dumps(generators["screen"]))
    first, second = (maker.generate(np.random.default_rng(1)) for maker in (generators["screen"], copy))
    assert np.array_equal(first[0], second[0]) and first[3] == second[3]


def test_styles_are_drawn_by_weight():
    weights = Weights("`styles`", {"scene": 3, "sign": 0, "screen": 1}, STYLES)
    rng = np.random.default_rng(0)
    drawn = [weights.draw(rng) for _ in range(2000)]
    assert set(drawn) == {"scene", "screen"} and drawn.count("screen") == pytest.approx(500, abs=80)


def test_words_come_from_dictionaries(tmp_path, monkeypatch):
    path = tmp_path / "el_GR.dic"
    path.write_bytes("4\nκαλημέρα/AB\nδύο λέξεις\n\nσπίτι\tpo:noun\n".encode("iso8859-7"))
    (tmp_path / "el_GR.aff").write_bytes(b"# a file\nSET ISO8859-7\nSFX A Y 1\n")
    monkeypatch.setitem(word_lists.WORD_LISTS, "greek", word_lists.WordList("hunspell-el", str(path)))
    assert word_lists.listed_words("greek") == ["καλημέρα", "σπίτι"]
    skk = tmp_path / "SKK-JISYO.L"
    skk.write_bytes(
        ';; okuri-nasi entries.\nえき /駅;station/液/\nabc /エービーシー/\nあ /(concat "a")/\n'.encode("euc_jp")
    )
    monkeypatch.setitem(word_lists.WORD_LISTS, "japanese", word_lists.WordList("skkdic", str(skk)))
    assert word_lists.listed_words("japanese") == ["駅"]
    monkeypatch.setitem(word_lists.WORD_LISTS, "greek", word_lists.WordList("hunspell-el", str(tmp_path / "none.dic")))
    assert word_lists.listed_words("greek") is None and word_lists.listed_words("chinese") is None


def test_weights_are_read_from_a_command_line():
    assert parse_weights("--styles", "scene=5, document=0.5,sign") == {"scene": 5.0, "document": 0.5, "sign": 1.0}
    with pytest.raises(ValueError, match="--styles: the weight of 'scene' is no number: 'much'"):
        parse_weights("--styles", "scene=much")
    with pytest.raises(ValueError, match="--styles: 'scene' is there twice"):
        parse_weights("--styles", "scene,scene=2")
