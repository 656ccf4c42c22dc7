"""Rendered words: outlines must fit the ink. Pillow's built-in font serves as the font file, so nothing is installed."""

import math
import re

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFont
from shapely.geometry import MultiPoint, Polygon

from tcm_hf.data.formats import TextRecord
from tcm_hf.data.synthesis import generator as synthetic
from tcm_hf.data.synthesis.backgrounds import paste_negative, paste_patch, photo_background, random_background
from tcm_hf.data.synthesis.clutter import PATTERNS, random_patch
from tcm_hf.data.synthesis.degradations import Degradation, degrade, disc_kernel, motion_kernel
from tcm_hf.data.synthesis.fonts import FontLibrary, find_fonts, has_glyph
from tcm_hf.data.synthesis.generator import SyntheticTextGenerator
from tcm_hf.data.synthesis.text_layout import Bend, TextLayouter, as_drawn, draw_word
from tcm_hf.data.synthesis.text_paint import contrasting_color
from tcm_hf.data.synthesis.words import SCRIPTS, default_words, load_words, random_price, random_word, running_word


PLAIN = {"plate": 0, "shadow": 0, "outline": 0, "curved": 0, "tiny": 0}


@pytest.fixture(scope="module")
def font_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fonts")
    data = ImageFont.load_default(20).font_bytes
    (folder / "deep").mkdir()
    (folder / "deep" / "letters.ttf").write_bytes(data)
    (folder / "same_letters.otf").write_bytes(data)
    (folder / "broken.ttf").write_bytes(b"no font")
    (folder / "emoji.ttf").write_bytes(data)
    (folder / "notes.txt").write_text("no font")
    return folder


def ink_and_inside(image, polygons, ground=128):
    """Changed pixels, and those inside of any outline."""
    change = np.abs(image.astype(int) - ground).max(axis=2)
    inside = np.zeros(change.shape, np.uint8)
    for polygon in polygons:
        one = np.zeros(change.shape, np.uint8)
        cv2.fillPoly(one, [np.rint((polygon - 0.5) * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
        inside |= one
    return change, inside.astype(bool)


@pytest.fixture(scope="module")
def generator(font_folder):
    return SyntheticTextGenerator(find_fonts([font_folder]), size=192, text_height=(10, 40))


def test_find_fonts_keeps_one_file_a_design(font_folder, tmp_path):
    assert [path.name for path in find_fonts([font_folder])] == ["letters.ttf"]
    assert find_fonts([tmp_path / "nowhere"]) == []
    assert find_fonts([font_folder], script="chinese") == []
    with pytest.raises(ValueError, match="unknown script 'latn'; choose one of latin"):
        find_fonts([font_folder], script="latn")


def test_generate_is_a_function_of_the_generator(generator):
    for seed in range(8):
        first, again = (generator.generate(np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(first[0], again[0]) and first[3] == again[3]
        assert all(np.array_equal(a, b) for a, b in zip(first[1], again[1], strict=True))
    assert not np.array_equal(first[0], generator.generate(np.random.default_rng(99))[0])


def test_generated_samples_are_well_formed(generator):
    counts, corners, unreadable = [], set(), 0
    for seed in range(40):
        image, polygons, ignore, texts = generator.generate(np.random.default_rng(seed))
        assert image.shape == (192, 192, 3) and image.dtype == np.uint8
        assert len(polygons) == len(ignore) == len(texts) <= 12
        counts.append(len(polygons))
        unreadable += sum(ignore)
        for polygon in polygons:
            corners.add(len(polygon))
            assert polygon.ndim == 2 and polygon.dtype == np.float32
            assert polygon.min() >= 0 and polygon.max() <= 192
            assert Polygon(polygon).is_valid
            # Clockwise on screen: positive shoelace area with y down.
            x, y = polygon.T
            assert np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) > 0
        assert all(text and not re.search(r"\s", text) for text in texts)
    assert sum(counts) > 100 and max(counts) > 4
    assert 0 < unreadable < 0.4 * sum(counts)
    assert {4, 14} <= corners


def test_size_may_be_height_and_width(font_folder):
    generator = SyntheticTextGenerator([font_folder / "same_letters.otf"], size=(96, 160), text_height=(8, 20))
    reached = np.zeros(2)
    for seed in range(12):
        image, polygons, _, _ = generator.generate(np.random.default_rng(seed))
        assert image.shape == (96, 160, 3)
        reached = np.maximum(reached, np.max([polygon.max(axis=0) for polygon in polygons] or [[0, 0]], axis=0))
    assert 100 < reached[0] <= 160 and 60 < reached[1] <= 96


def test_outlines_are_tight_to_the_ink(font_folder, bare_layouts):
    """On a plain ground the changed pixels are the ink: it fills each outline, to all four sides, and nothing else."""
    generator = SyntheticTextGenerator(find_fonts([font_folder]), size=256, text_height=(16, 60), **PLAIN)
    ground = np.full((256, 256, 3), 128, np.uint8)
    checked = 0
    for seed in range(25):
        image, polygons, _, texts = generator.paste_words(ground, [], np.random.default_rng(seed))
        change, inside = ink_and_inside(image, polygons)
        ink = change > 0.5 * change.max()
        assert (ink & ~inside).sum() <= 0.01 * ink.sum(), seed
        for polygon, text in zip(polygons, texts, strict=True):
            if not any(map(str.isalnum, text)):
                continue
            one = np.zeros(ink.shape, np.uint8)
            cv2.fillConvexPoly(one, np.rint((polygon - 0.5) * 16).astype(np.int32), 1, cv2.LINE_8, 4)
            local = change * one
            points = np.argwhere(local > 0.15 * local.max())[:, ::-1] + 0.5
            assert len(points) > 5, (seed, text)
            height = min(np.linalg.norm(polygon[3] - polygon[0]), np.linalg.norm(polygon[2] - polygon[1]))
            for start, end in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
                side = (end - start) / np.linalg.norm(end - start)
                distances = np.abs((points - start) @ (-side[1], side[0]))
                assert distances.min() < 0.14 * height + 2.5, (seed, text)
            checked += 1
    assert checked > 60


def test_bent_outlines_follow_the_ink(font_folder, bare_layouts):
    """All ink is inside the bent outlines; a quad around the same word would be far from tight."""
    settings = {**PLAIN, "curved": 1.0, "any_angle": 0.0}
    generator = SyntheticTextGenerator(find_fonts([font_folder]), size=256, text_height=(16, 40), **settings)
    ground = np.full((256, 256, 3), 128, np.uint8)
    bent, fill = 0, []
    for seed in range(40):
        image, polygons, _, _ = generator.paste_words(ground, [], np.random.default_rng(seed), max_words=4)
        change, inside = ink_and_inside(image, polygons)
        ink = change > 0.5 * change.max()
        assert (ink & ~inside).sum() <= 0.015 * ink.sum(), seed
        for polygon in polygons:
            if len(polygon) > 4:
                bent += 1
                assert len(polygon) >= 14 and len(polygon) % 2 == 0
                # The top runs along the reading direction, the bottom returns on its right hand.
                along, down = polygon[1] - polygon[0], polygon[-1] - polygon[0]
                assert along[0] * down[1] - along[1] * down[0] > 0
                width, height = cv2.minAreaRect(polygon)[1]
                fill.append(Polygon(polygon).area / (width * height))
    assert bent > 20 and np.min(fill) < 0.6


def test_the_asked_share_is_bent_by_the_asked_angle(font_folder):
    fonts = FontLibrary(find_fonts([font_folder]))
    layouter = TextLayouter(fonts, ["international"], curved=0.3, bend=(90.0, 120.0))
    rng = np.random.default_rng(0)
    blocks = [layouter.draw(6, 400, rng) for _ in range(200)]
    bent = [block for block in blocks if block.bend is not None]
    assert 0.2 < len(bent) / len(blocks) < 0.4
    single = [block for block in bent if block.bend.kind == "arc" and block.texts == ["INTERNATIONAL"]]
    assert len(single) > 5
    for block in single:
        width = float((block.ink_box[1] - block.ink_box[0])[0])
        assert 89 < math.degrees(width / abs(block.bend.radius)) < 121
    straight = TextLayouter(fonts, ["international"], curved=0.0)
    assert all(straight.draw(6, 400, rng).bend is None for _ in range(50))


@pytest.mark.parametrize("radius", [60.0, -60.0])
def test_arcs_keep_lengths_and_distances(radius):
    bend = Bend("arc", (50.0, 20.0), radius=radius)
    x, y = np.meshgrid(np.linspace(0, 100, 21), np.linspace(0, 40, 9))
    bent = bend.forward(x, y)
    assert np.allclose(bend.inverse(*bent), (x, y))
    # The baseline is a circle around a point one radius below (or above) its middle, and as long as it was.
    line = np.column_stack(bend.forward(np.linspace(0, 100, 2001), np.full(2001, 20.0)))
    assert np.allclose(np.hypot(*(line - (50.0, 20.0 + radius)).T), 60.0)
    assert np.linalg.norm(np.diff(line, axis=0), axis=1).sum() == pytest.approx(100, abs=0.01)
    assert line[1000] == pytest.approx((50, 20))
    # The middle of an arch is its highest point.
    assert (line[0, 1] > 20) == (radius > 0)
    # What stands above the baseline stays as far from it.
    assert np.hypot(*(np.array(bend.forward(90.0, 12.0)) - bend.forward(90.0, 20.0))) == pytest.approx(8)


def test_waves_lift_columns():
    bend = Bend("wave", (50.0, 20.0), amplitude=5, length=80, phase=1.0)
    x, y = np.linspace(0, 100, 401), np.full(401, 33.0)
    moved = bend.forward(x, y)
    assert np.array_equal(moved[0], x) and np.ptp(moved[1]) == pytest.approx(10, abs=0.01)
    assert moved[1][200] == pytest.approx(33)
    assert np.allclose(bend.inverse(*moved), (x, y))


def test_pasting_leaves_given_instances_alone(generator):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (150, 220, 3)).astype(np.uint8)
    given = [
        np.array([[20, 20], [90, 30], [88, 60], [18, 50]], np.float32),
        np.array([[130, 90], [210, 90], [210, 140], [130, 140]], np.float32),
    ]
    mask = np.zeros((150, 220), np.uint8)
    cv2.fillPoly(mask, [polygon.astype(np.int32) for polygon in given], 1)
    original, added = image.copy(), 0
    for seed in range(20):
        result, polygons, ignore, texts = generator.paste_words(
            image, given, np.random.default_rng(seed), ignore=[True, False], texts=["one", None]
        )
        assert np.array_equal(result[mask == 1], image[mask == 1]), seed
        assert all(np.array_equal(a, b) for a, b in zip(polygons[:2], given, strict=True))
        assert ignore[:2] == [True, False] and texts[:2] == ["one", None]
        assert len(polygons) == len(ignore) == len(texts)
        added += len(polygons) - 2
        if len(polygons) > 2:
            assert not np.array_equal(result, image)
    assert added > 20
    assert np.array_equal(image, original)


def test_words_do_not_cover_each_other(generator):
    for seed in range(15):
        _, polygons, _, _ = generator.generate(np.random.default_rng(seed))
        shapes = [Polygon(polygon) for polygon in polygons]
        for i, a in enumerate(shapes):
            for b in shapes[i + 1 :]:
                assert a.intersection(b).area < 0.02 * min(a.area, b.area)


class VanishingFont(ImageFont.FreeTypeFont):
    """A font whose strokes hinting rounds away at its own size, as thin faces do with a hyphen."""

    def getmask2(self, *arguments, **settings):
        mask, offset = super().getmask2(*arguments, **settings)
        return Image.core.fill("L", mask.size, 0), offset


@pytest.mark.parametrize("tracking", [0.0, 1.5])
def test_words_that_hinting_rounds_away_are_drawn_larger_and_averaged(font_folder, tracking):
    path = str(find_fonts([font_folder])[0])
    mask, left, top = draw_word("mix", VanishingFont(path, 11), tracking)
    expected, expected_left, expected_top = draw_word("mix", ImageFont.truetype(path, 11), tracking)
    assert mask.max() > 60 and abs(left - expected_left) <= 1 and abs(top - expected_top) <= 1
    assert all(abs(a - b) <= 2 for a, b in zip(mask.shape, expected.shape))
    with pytest.raises(ValueError, match="no ink for the word ' '"):
        draw_word(" ", ImageFont.truetype(path, 11))


def test_words_that_cannot_be_read_are_ignored(font_folder, monkeypatch):
    fonts = find_fonts([font_folder])
    settings = {"size": 128, **PLAIN, "degradation": 0, "negatives": 0}

    def flags(**changes):
        generator = SyntheticTextGenerator(fonts, **{**settings, "text_height": (14, 24), **changes})
        results = [generator.generate(np.random.default_rng(seed)) for seed in range(15)]
        return [
            flag
            for _, polygons, ignore, texts in results
            for polygon, flag, text in zip(polygons, ignore, texts)
            if polygon.min() > 0 and polygon.max() < 128 and any(map(str.isalnum, text))
        ]

    readable = flags()
    assert len(readable) > 30 and np.mean(readable) < 0.1
    assert all(flags(text_height=(4, 4.2)))
    black_out = lambda image, rng, strength: (np.zeros_like(image), Degradation())  # noqa: E731
    monkeypatch.setattr(synthetic, "degrade", black_out)
    assert all(flags())
    monkeypatch.setattr(synthetic, "degrade", lambda image, rng, strength: (image, Degradation(blur=20.0)))
    assert all(flags())


def test_hidden_words_are_ignored():
    rng = np.random.default_rng(4)
    polygons = [
        np.array([[x, y], [x + 30, y], [x + 30, y + 9], [x, y + 9]], np.float32)
        for y in range(3, 180, 14)
        for x in range(2, 160, 34)
    ]
    hidden_count = 0
    for _ in range(12):
        image = np.full((192, 192, 3), 77, np.uint8)
        hidden = synthetic._occlude(image, polygons, rng)
        changed = (image != 77).any(axis=2)
        for polygon, flag in zip(polygons, hidden, strict=True):
            (left, top), (right, bottom) = polygon[0].astype(int), polygon[2].astype(int)
            share = changed[top:bottom, left:right].mean()
            if share < 0.35 or share > 0.65:
                assert flag == (share > 0.5)
            hidden_count += flag
    assert hidden_count > 4


def test_most_words_and_word_list_are_respected(font_folder):
    generator = SyntheticTextGenerator(
        find_fonts([font_folder]), ["alpha"], size=128, text_height=(8, 12), max_words=2
    )
    texts = []
    for seed in range(40):
        _, polygons, _, words = generator.generate(np.random.default_rng(seed))
        assert len(polygons) <= 2
        texts += words
    assert sum("alpha" in text.lower() for text in texts) > 0.6 * len(texts)


def test_text_height_covers_its_range(font_folder):
    generator = SyntheticTextGenerator(
        find_fonts([font_folder]), ["HOME"], size=384, text_height=(10, 20), max_words=1, **PLAIN
    )
    heights = []
    for seed in range(80):
        _, polygons, _, texts = generator.generate(np.random.default_rng(seed))
        if texts == ["HOME"] and len(polygons[0]) == 4:
            heights.append(np.linalg.norm(polygons[0][3] - polygons[0][0]))
    assert len(heights) > 20 and 8 < min(heights) < 13 and 17 < max(heights) < 30


def test_built_in_font_and_words_are_enough():
    image, polygons, _, _ = SyntheticTextGenerator(size=64, text_height=(8, 12)).generate(np.random.default_rng(1))
    assert image.shape == (64, 64, 3) and polygons


def test_photo_backgrounds_show_no_annotated_text():
    photo = np.full((120, 160, 3), 90, np.uint8)
    word = np.array([[60, 40], [100, 40], [100, 60], [60, 60]], np.float32)
    photo[40:60, 60:100] = (255, 0, 255)
    # The annotations live in a frame of twice the size.
    record = TextRecord(photo, [2 * word], [True], size=(240, 320))
    found = 0
    for seed in range(60):
        background = photo_background(photo, record, 48, np.random.default_rng(seed))
        if background is not None:
            found += 1
            assert background.shape == (48, 48, 3) and (background == 90).all()
    assert found > 20
    everywhere = TextRecord(photo, [np.array([[0, 0], [160, 0], [160, 120], [0, 120]])])
    assert photo_background(photo, everywhere, 48, np.random.default_rng(0)) is None


def test_random_backgrounds_differ_and_repeat():
    images = [random_background(96, np.random.default_rng(seed)) for seed in range(12)]
    assert all(image.shape == (96, 96, 3) and image.dtype == np.uint8 for image in images)
    assert len({image.tobytes() for image in images}) == 12
    assert np.array_equal(images[3], random_background(96, np.random.default_rng(3)))
    assert random_background((64, 130), np.random.default_rng(0)).shape == (64, 130, 3)


@pytest.mark.parametrize("pattern", sorted(set(PATTERNS), key=lambda pattern: pattern.__name__))
def test_patterns_fill_any_rectangle(pattern):
    for seed, (height, width) in enumerate([(12, 12), (10, 150), (150, 10), (90, 130), (64, 64), (33, 70)]):
        colour, coverage = random_patch(height, width, np.random.default_rng(seed), (pattern,))
        assert colour.shape == (height, width, 3) and colour.dtype == np.uint8
        if coverage is not None:
            assert coverage.shape == (height, width) and coverage.dtype == np.uint8
        again = random_patch(height, width, np.random.default_rng(seed), (pattern,))
        assert np.array_equal(colour, again[0])
    # A pattern is not plain.
    assert colour.reshape(-1, 3).std(axis=0).max() > 1 or (coverage is not None and coverage.std() > 0)


def test_patches_stay_in_their_quad():
    image = np.full((80, 100, 3), 50, np.uint8)
    patch = np.full((20, 30, 3), 200, np.uint8)
    corners = np.array([[20, 10], [80, 20], [75, 60], [25, 50]], np.float32)
    flat = np.array([[0, 0], [30, 0], [30, 20], [0, 20]], np.float32)
    paste_patch(image, patch, None, cv2.getPerspectiveTransform(flat, corners))
    shape = Polygon(corners)
    assert (image == 200).all(axis=2).sum() == pytest.approx(shape.area, rel=0.1)
    y, x = np.nonzero((image != 50).any(axis=2))
    grown = shape.buffer(2)
    assert all(grown.contains(point) for point in MultiPoint(np.column_stack([x, y]) + 0.5).geoms)
    for seed in range(20):
        image = np.full((80, 100, 3), 50, np.uint8)
        corners = paste_negative(image, np.random.default_rng(seed))
        changed = MultiPoint(np.argwhere((image != 50).any(axis=2))[:, ::-1] + 0.5)
        assert changed.is_empty or Polygon(corners).convex_hull.buffer(2).contains(changed)


def test_degradations_are_what_they_say():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (60, 90, 3)).astype(np.uint8)
    same, done = degrade(image, np.random.default_rng(1), strength=0.0)
    assert np.array_equal(same, image) and done == Degradation()
    for radius in (2.0, 3.2):
        kernel = disc_kernel(radius)
        y, x = np.indices(kernel.shape) - kernel.shape[0] // 2
        assert kernel.sum() == pytest.approx(1) and (kernel * x).sum() == pytest.approx(0, abs=1e-6)
        # A disc's coordinates have a variance of a quarter of its squared radius.
        assert (kernel * x**2).sum() == pytest.approx(radius**2 / 4, abs=0.3)
    for length, angle in ((6.0, 0.0), (9.0, math.pi / 2), (12.0, 0.7)):
        kernel = motion_kernel(length, angle)
        y, x = np.indices(kernel.shape) - kernel.shape[0] // 2
        along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
        assert kernel.sum() == pytest.approx(1)
        assert math.sqrt((kernel * along**2).sum()) == pytest.approx(length / math.sqrt(12), rel=0.1)
        assert (kernel * across**2).sum() < 0.3
    changed = 0
    for seed in range(20):
        first, again = (degrade(image, np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(first[0], again[0]) and first[1] == again[1]
        assert first[0].shape == image.shape and first[0].dtype == np.uint8
        changed += not np.array_equal(first[0], image)
    assert changed > 14


def test_chosen_colours_stand_out():
    luma = np.array([0.299, 0.587, 0.114])
    for seed in range(300):
        rng = np.random.default_rng(seed)
        levels, least = rng.uniform(0, 255, size=2), rng.uniform(10, 90, size=2)
        color = contrasting_color(levels, least, rng.uniform(0, 255, size=3), rng)
        if color is not None:
            assert color.min() >= 0 and color.max() <= 255
            assert (np.abs(color @ luma - levels) >= least - 1e-9).all()
    # One level alone leaves black or white, whatever it is.
    for level in range(0, 256, 5):
        assert contrasting_color(np.array([level]), np.array([100.0]), np.full(3, level), rng) is not None


@pytest.mark.parametrize("draw", [random_word, running_word])
def test_words_are_words(draw):
    rng = np.random.default_rng(0)
    words = [draw(rng) for _ in range(600)]
    assert all(re.search(r"[A-Za-z0-9]", word) and not re.search(r"\s", word) for word in words)
    assert len(set(words)) > 200
    assert any(word.isalpha() and word.islower() for word in words)
    assert any(re.search(r"\d", word) for word in words) and any(word[-1] in ".,!?:;" for word in words)
    listed = [draw(rng, ["alpha"]) for _ in range(200)]
    assert 0.5 < np.mean(["alpha" in word.lower() for word in listed]) < 1.0
    assert all(re.fullmatch(r"[$£€]?\d+\.\d\d", random_price(rng)) for _ in range(50))


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_make_words_of_their_letters(script):
    names = {"latin": "LATIN", "greek": "GREEK", "cyrillic": "CYRILLIC", "korean": "HANGUL", "thai": "THAI"}
    names |= {"hebrew": "HEBREW", "arabic": "ARABIC", "devanagari": "DEVANAGARI", "japanese": "CJK|KATAKANA|HIRAGANA"}
    import unicodedata

    rng = np.random.default_rng(0)
    letters = "".join(random_word(rng, script=script) for _ in range(300))
    own = [re.match(names.get(script, "CJK"), unicodedata.name(c, "")) is not None for c in letters if c.isalpha()]
    assert np.mean(own) > 0.75
    low, high = SCRIPTS[script].lengths
    assert 1 <= low < high


def test_word_lists(tmp_path):
    path = tmp_path / "words.txt"
    path.write_bytes("\ufeff# of a shop\nSchuhe Größe\r\n\nneu\n".encode())
    assert load_words(path) == ["Schuhe", "Größe", "neu"]
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"words\.txt: not UTF-8"):
        load_words(path)
    path.write_text("# nothing\n")
    with pytest.raises(ValueError, match=r"words\.txt: no word"):
        load_words(path)
    with pytest.raises(FileNotFoundError, match="word list not found"):
        load_words(tmp_path / "absent.txt")
    words = default_words()
    assert words is None or (len(words) > 1000 and 0.2 < words.count("exit") * 200 / len(words) < 5)


def test_characters_that_a_font_lacks_are_not_drawn(font_folder):
    path = str(font_folder / "same_letters.otf")
    assert has_glyph(path, "A") and not has_glyph(path, "的") and not has_glyph(path, " ")
    generator = SyntheticTextGenerator([path], ["日本", "ab的c"], size=128, text_height=(8, 16))
    texts = [text for seed in range(15) for text in generator.generate(np.random.default_rng(seed))[3]]
    assert len(texts) > 20 and not re.search("[日本的]", "".join(texts))
    assert any("abc" in text.lower() for text in texts)


@pytest.mark.parametrize(
    "word, drawn",
    [
        ("abc(1)", "abc(1)"),
        ("אבג", "גבא"),
        ("(אב)", "(בא)"),
        ("אב]12", "12[בא"),
        ("א12.50", "12.50א"),
        ("ב-50%", "50%-ב"),
        ("ב$5/10/99!", "!$5/10/99ב"),
        ("דיסקUSB3.0", "USB3.0קסיד"),
        # Points stand behind their letters.
        ("שָׁלוֹם", "םוֹלשָׁ"),
    ],
)
def test_hebrew_is_drawn_from_the_right(word, drawn):
    assert as_drawn(word) == drawn


def test_big_collections_of_fonts_are_held_back(monkeypatch):
    class Named:
        def __init__(self, name):
            self.name = name

        def getname(self):
            return self.name, "Regular"

    monkeypatch.setattr(
        "tcm_hf.data.synthesis.fonts.load_font", lambda path, size: Named(path.rsplit("/")[-1].split("-")[0])
    )
    fonts = [f"big/face{number}-a" for number in range(100)]
    fonts += ["small/one-a", "small/one-b", "small/one-c", "other/two-a"]
    library = FontLibrary(fonts)
    rng = np.random.default_rng(0)
    folders = [library.draw(rng).split("/")[0] for _ in range(3000)]
    shares = {name: folders.count(name) / 3000 for name in ("big", "small", "other")}
    assert shares["small"] == pytest.approx(shares["other"], abs=0.04)
    assert shares["big"] == pytest.approx(100**0.4 / (100**0.4 + 2), abs=0.04)


@pytest.mark.parametrize(
    "arguments, name",
    [
        ({"size": 8}, "size"),
        ({"text_height": (20, 10)}, "text_height"),
        ({"text_height": (8, math.inf)}, "text_height"),
        ({"max_words": 0}, "max_words"),
        ({"plate": 2}, "plate"),
        ({"curved": -0.1}, "curved"),
        ({"bend": (50, 20)}, "bend"),
        ({"bend": (0, 20)}, "bend"),
        ({"degradation": 1.5}, "degradation"),
        ({"size": (64, 64, 3)}, "size"),
        ({"script": "klingon"}, "script"),
    ],
)
def test_bad_settings_are_named(arguments, name):
    with pytest.raises(ValueError, match=name):
        SyntheticTextGenerator(**arguments)


def test_a_file_that_is_no_font_is_named(font_folder):
    with pytest.raises(ValueError, match=r"broken\.ttf"):
        SyntheticTextGenerator([font_folder / "broken.ttf"])
