"""Rendered words: outlines must fit the ink. Pillow's built-in font serves as the font file, so nothing is installed."""

import re

import cv2
import numpy as np
import pytest
from PIL import ImageFont
from shapely.geometry import MultiPoint, Polygon

from tcm_hf.data.backgrounds import photo_background, random_background
from tcm_hf.data.formats import TextRecord
from tcm_hf.data.synthetic import SyntheticTextGenerator, _contrasting_color, find_fonts
from tcm_hf.data.words import random_word


PLAIN = {"plate": 0, "shadow": 0, "outline": 0}


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


@pytest.fixture(scope="module")
def generator(font_folder):
    return SyntheticTextGenerator(find_fonts([font_folder]), size=192, text_height=(10, 40))


def test_find_fonts_keeps_one_file_a_design(font_folder, tmp_path):
    assert [path.name for path in find_fonts([font_folder])] == ["letters.ttf"]
    assert find_fonts([tmp_path / "nowhere"]) == []


def test_generate_is_a_function_of_the_generator(generator):
    for seed in range(8):
        first, again = (generator.generate(np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(first[0], again[0]) and first[3] == again[3]
        assert all(np.array_equal(a, b) for a, b in zip(first[1], again[1], strict=True))
    assert not np.array_equal(first[0], generator.generate(np.random.default_rng(99))[0])


def test_generated_samples_are_well_formed(generator):
    counts = []
    for seed in range(30):
        image, polygons, ignore, texts = generator.generate(np.random.default_rng(seed))
        assert image.shape == (192, 192, 3) and image.dtype == np.uint8
        assert len(polygons) == len(ignore) == len(texts) <= 12 and not any(ignore)
        counts.append(len(polygons))
        for polygon in polygons:
            assert polygon.shape == (4, 2) and polygon.dtype == np.float32
            assert polygon.min() >= 0 and polygon.max() <= 192
            assert Polygon(polygon).is_valid and Polygon(polygon).area > 15
            # Clockwise on screen: positive shoelace area with y down.
            x, y = polygon.T
            assert np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) > 0
        assert all(text and not re.search(r"\s", text) for text in texts)
    assert sum(counts) > 60 and max(counts) > 4


def test_outlines_are_tight_to_the_ink(font_folder):
    """On a plain ground the changed pixels are the ink: it fills each outline, to all four sides, and nothing else."""
    generator = SyntheticTextGenerator(find_fonts([font_folder]), size=256, text_height=(16, 60), **PLAIN)
    ground = np.full((256, 256, 3), 128, np.uint8)
    checked = 0
    for seed in range(25):
        image, polygons, _, texts = generator.paste_words(ground, [], np.random.default_rng(seed))
        change = np.abs(image.astype(int) - 128).max(axis=2)
        ink = change > 0.5 * change.max()
        inside = np.zeros(ink.shape, np.uint8)
        for polygon in polygons:
            cv2.fillConvexPoly(inside, np.rint((polygon - 0.5) * 16).astype(np.int32), 1, cv2.LINE_8, 4)
        assert (ink & (inside == 0)).sum() <= 0.01 * ink.sum(), seed
        for polygon, text in zip(polygons, texts, strict=True):
            one = np.zeros(ink.shape, np.uint8)
            cv2.fillConvexPoly(one, np.rint((polygon - 0.5) * 16).astype(np.int32), 1, cv2.LINE_8, 4)
            local = change * one
            y, x = np.nonzero(local > 0.35 * max(local.max(), 40))
            assert len(x) > 5, (seed, text)
            points = MultiPoint(np.stack([x + 0.5, y + 0.5], axis=1))
            height = min(np.linalg.norm(polygon[3] - polygon[0]), np.linalg.norm(polygon[2] - polygon[1]))
            for start, end in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
                side = (end - start) / np.linalg.norm(end - start)
                distances = [abs(side[0] * (p.y - start[1]) - side[1] * (p.x - start[0])) for p in points.geoms]
                assert min(distances) < 0.12 * height + 2.5, (seed, text)
            checked += 1
    assert checked > 60


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
                assert a.intersection(b).area < 0.25 * min(a.area, b.area)


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
    for seed in range(60):
        _, polygons, _, texts = generator.generate(np.random.default_rng(seed))
        if texts == ["HOME"]:
            heights.append(np.linalg.norm(polygons[0][3] - polygons[0][0]))
    assert 8 < min(heights) < 13 and 17 < max(heights) < 27


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


def test_chosen_colours_stand_out():
    luma = np.array([0.299, 0.587, 0.114])
    for seed in range(300):
        rng = np.random.default_rng(seed)
        levels, least = rng.uniform(0, 255, size=2), rng.uniform(10, 90, size=2)
        color = _contrasting_color(levels, least, rng.uniform(0, 255, size=3), rng)
        if color is not None:
            assert color.min() >= 0 and color.max() <= 255
            assert (np.abs(color @ luma - levels) >= least - 1e-9).all()
    # One level alone leaves black or white, whatever it is.
    for level in range(0, 256, 5):
        assert _contrasting_color(np.array([level]), np.array([100.0]), np.full(3, level), rng) is not None


def test_words_are_words():
    rng = np.random.default_rng(0)
    words = [random_word(rng) for _ in range(500)]
    assert all(re.search(r"[A-Za-z0-9]", word) and not re.search(r"\s", word) for word in words)
    assert len(set(words)) > 250
    assert any(word.isupper() for word in words) and any(word.islower() for word in words)
    assert any(word.isdigit() for word in words)


@pytest.mark.parametrize(
    "arguments, name",
    [
        ({"size": 8}, "size"),
        ({"text_height": (20, 10)}, "text_height"),
        ({"max_words": 0}, "max_words"),
        ({"plate": 2}, "plate"),
    ],
)
def test_bad_settings_are_named(arguments, name):
    with pytest.raises(ValueError, match=name):
        SyntheticTextGenerator(**arguments)


def test_a_file_that_is_no_font_is_named(font_folder):
    with pytest.raises(ValueError, match=r"broken\.ttf"):
        SyntheticTextGenerator([font_folder / "broken.ttf"])
