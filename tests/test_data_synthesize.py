"""`tcm-hf synthesize`: what it writes, that images depend on seed and number only, and that a stopped run goes on."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from PIL import ImageFont

from tcm_hf.commands import synthesize as synthesize_command
from tcm_hf.commands.parser import CommandParser
from tcm_hf.data.formats import read_dataset
from tcm_hf.data.synthesis import folder as synthesize
from tcm_hf.data.synthesis.generator import SyntheticTextGenerator


@pytest.fixture(scope="module")
def fonts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fonts")
    (folder / "letters.ttf").write_bytes(ImageFont.load_default(20).font_bytes)
    return folder


@pytest.fixture
def command(fonts, tmp_path):
    """Runs the command in this process, with small images and one font; later options win."""

    def run(folder, *options):
        parser = CommandParser()
        synthesize_command.add_arguments(parser)
        common = ("--size", 64, 96, "--fonts", fonts, "--workers", 1, "--quiet", "--text-height", 8, 20)
        return synthesize_command.run(
            parser.parse_args([str(option) for option in (tmp_path / folder, *common, *options)])
        )

    return run


def content(folder):
    """Every file of a folder by its name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_folder_is_what_the_generator_draws(command, fonts, tmp_path, capsys):
    bent = ("--curved", 0.5, "--bend", 60, 90)
    assert command("out", "--count", 7, "--seed", 5, "--quality", 0, *bent, "--degradation", 0.5) == 0
    records = list(read_dataset("hub", tmp_path / "out"))
    report = json.loads((tmp_path / "out" / "synthesize.json").read_text())
    assert len(records) == report["images"] == 7
    assert report["words"] == sum(len(record.polygons) for record in records) > 10
    assert report["ignored"] == sum(sum(record.ignore) for record in records)
    assert f"7 images, {report['words']} words, {report['ignored']} of them" in capsys.readouterr().out
    words = synthesize_words()
    generator = SyntheticTextGenerator(
        [fonts / "letters.ttf"],
        words,
        size=(64, 96),
        text_height=(8, 20),
        curved=0.5,
        bend=(60, 90),
        degradation=0.5,
    )
    for number, record in enumerate(records):
        image, polygons, ignore, texts = generator.generate(np.random.default_rng([5, number]))
        stored = cv2.cvtColor(cv2.imread(str(record.image)), cv2.COLOR_BGR2RGB)
        assert np.array_equal(stored, image)
        assert record.ignore == ignore and record.texts == texts
        for a, b in zip(record.polygons, polygons, strict=True):
            assert np.allclose(a, b, atol=0.0051)
    sizes = {(row["height"], row["width"]) for row in rows(tmp_path / "out")}
    assert sizes == {(64, 96)}


def synthesize_words():
    from tcm_hf.data.synthesis.words import default_words

    return default_words()


def rows(folder):
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]


def test_any_number_of_workers_draws_the_same(command, tmp_path):
    command("one", "--count", 6)
    command("two", "--count", 6, "--workers", 2)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    command("other", "--count", 6, "--seed", 1)
    first, other = rows(tmp_path / "one"), rows(tmp_path / "other")
    assert [row["polygons"] for row in first] != [row["polygons"] for row in other]


def test_stopped_run_goes_on(command, tmp_path, monkeypatch):
    command("whole", "--count", 8)
    render, drawn = synthesize._render, []

    def stop_at_five(index):
        if index == 5:
            raise KeyboardInterrupt
        return render(index)

    monkeypatch.setattr(synthesize, "_render", stop_at_five)
    with pytest.raises(KeyboardInterrupt):
        command("out", "--count", 8)
    assert not (tmp_path / "out" / "metadata.jsonl").exists()
    # A kill in the middle of a write leaves half a line and half an image.
    with open(tmp_path / "out" / ".synthesize.jsonl", "a") as file:
        file.write('{"file_name": "images/0000/00')
    (tmp_path / "out" / ".picture.tmp").write_bytes(b"half")
    monkeypatch.setattr(synthesize, "_render", lambda index: drawn.append(index) or render(index))
    command("out", "--count", 8)
    assert drawn == [5, 6, 7]
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    drawn.clear()
    command("out", "--count", 8)
    assert drawn == [] and content(tmp_path / "out") == content(tmp_path / "whole")


def test_finished_folder_can_grow(command, tmp_path):
    command("whole", "--count", 6)
    command("out", "--count", 4)
    command("out", "--count", 6)
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    with pytest.raises(ValueError, match="holds 6 images already, more than --count 3"):
        command("out", "--count", 3)
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    with pytest.raises(ValueError, match=r"other settings \(seed\)"):
        command("out", "--count", 8, "--seed", 2)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def stop_at(number, monkeypatch):
    render = synthesize._render

    def stopping(index):
        if index == number:
            raise KeyboardInterrupt
        return render(index)

    monkeypatch.setattr(synthesize, "_render", stopping)


def test_folder_without_a_picture_takes_other_settings(command, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(0, patch)
        with pytest.raises(KeyboardInterrupt):
            command("out", "--count", 2)
    # Drawn ahead by another worker, but not in the journal.
    ahead = tmp_path / "out" / "images" / "0000" / "0000001.jpg"
    ahead.parent.mkdir(parents=True)
    ahead.write_bytes(b"picture")
    command("out", "--count", 2, "--seed", 1, "--quality", 0)
    command("new", "--count", 2, "--seed", 1, "--quality", 0)
    assert content(tmp_path / "out") == content(tmp_path / "new")


def test_too_small_a_count_keeps_a_stopped_extension(command, tmp_path, monkeypatch):
    command("out", "--count", 2)
    stop_at(5, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        command("out", "--count", 8)
    before = content(tmp_path / "out")
    with pytest.raises(ValueError, match="holds 5 images already, more than --count 3"):
        command("out", "--count", 3)
    assert content(tmp_path / "out") == before


def test_workers_end_with_a_command_that_is_killed(fonts, tmp_path):
    options = ("out", "--count", "9999", "--size", "64", "64", "--fonts", str(fonts), "--workers", "2", "--quiet")
    program = "import sys; from tcm_hf.cli import main; main(sys.argv[1:])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", program, "synthesize", *options],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        while process.poll() is None and not list((tmp_path / "out").glob("images/*/*.jpg")):
            time.sleep(0.1)
        process.kill()
        # The workers have this end of the pipe, too: it is closed when the last of them is gone.
        process.communicate(timeout=30)
        assert process.returncode == -signal.SIGKILL
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def test_damaged_photos_are_named_before_the_first_picture(command, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    photo = np.random.default_rng(0).integers(0, 255, (150, 200, 3), np.uint8)
    for name in ("whole.jpg", "cut.jpg", "whole.png", "cut.png"):
        cv2.imwrite(str(photos / name), photo)
    for name in ("cut.jpg", "cut.png"):
        data = (photos / name).read_bytes()
        (photos / name).write_bytes(data[: len(data) // 2])
    (photos / "empty.webp").touch()
    message = r"3 of 5 images cannot be read \(.*cut\.jpg, .*cut\.png, .*empty\.webp\); remove them"
    with pytest.raises(ValueError, match=message):
        command("out", "--count", 1, "--backgrounds", photos)
    assert not (tmp_path / "out").exists()
    for name in ("cut.jpg", "cut.png", "empty.webp"):
        (photos / name).unlink()
    assert command("out", "--count", 1, "--backgrounds", photos) == 0


def test_words_that_no_font_has(command, tmp_path, capsys):
    words = tmp_path / "words.txt"
    words.write_text("日本 東京\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"words\.txt: none of 2 words .* see --script, --fonts"):
        command("out", "--count", 1, "--words", words)
    assert not (tmp_path / "out").exists()
    words.write_text("alpha beta 日本 東京\n", encoding="utf-8")
    command("out", "--count", 1, "--words", words)
    assert "of 4 words looked at, 2 have letters that no font has, and 0 more" in capsys.readouterr().err
    # Of many letters some words are looked at.
    words.write_text(" ".join(map(chr, range(0x4E00, 0x5200))), encoding="utf-8")
    with pytest.raises(ValueError, match="none of 94 words"):
        command("out", "--count", 1, "--words", words)
    words.write_text("alpha beta\n", encoding="utf-8")
    command("whole", "--count", 1, "--words", words)
    assert capsys.readouterr().err == ""


def test_no_words_at_all_are_worth_a_warning(command, capsys):
    assert command("out", "--count", 2, "--size", 32, 32, "--text-height", 150, 150) == 0
    captured = capsys.readouterr()
    assert "2 images, 0 words" in captured.out and "warning: no image has a word" in captured.err


def test_words_and_photos_of_the_user(command, tmp_path):
    (tmp_path / "words.txt").write_text("zebra\n", encoding="utf-8")
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "photos" / "deep" / "pink.png"), np.full((150, 200, 3), (180, 20, 250), np.uint8))
    command("out", "--count", 12, "--words", tmp_path / "words.txt", "--backgrounds", tmp_path / "photos")
    texts = [text.lower() for row in rows(tmp_path / "out") for text in row["text"]]
    assert np.mean(["zebra" in text for text in texts]) > 0.6
    # Light and blur change the photo, but hardly its hue.
    hues = [
        np.median(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2HSV)[:, :, 0])
        for path in (tmp_path / "out" / "images").rglob("*.jpg")
    ]
    assert np.mean(np.abs(np.array(hues) - 159) < 12) > 0.4


def test_annotated_photos_are_used_beside_their_text(command, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    photo = np.full((120, 300, 3), 90, np.uint8)
    photo[:, :190] = (255, 0, 255)
    cv2.imwrite(str(folder / "a.png"), photo)
    row = {
        "file_name": "a.png",
        "polygons": [[[0, 0], [190, 0], [190, 120], [0, 120]]],
        "ignore": [True],
        "text": [""],
    }
    (folder / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    command("out", "--count", 10, "--backgrounds", folder, "--quality", 0)
    for path in (tmp_path / "out" / "images").rglob("*.png"):
        hsv = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2HSV)
        magenta = (np.abs(hsv[:, :, 0].astype(int) - 150) < 6) & (hsv[:, :, 1] > 200)
        assert magenta.mean() < 0.5


@pytest.mark.parametrize(
    "options, message",
    [
        (("--count", 0), "--count must be at least 1"),
        (("--count", 1, "--seed", -1), "--seed must not be negative"),
        (("--count", 1, "--size", 16, 64), "--size must be at least 32 32"),
        (("--count", 1, "--curved", 2), "--curved must lie between 0 and 1"),
        (("--count", 1, "--bend", 90, 20), "--bend must be LOW HIGH"),
        (("--count", 1, "--degradation", 2), "--degradation must lie between 0 and 1"),
        (("--count", 1, "--any-angle", -1), "--any-angle must lie between 0 and 1"),
        (("--count", 1, "--text-height", 9, 5), "--text-height must be LOW HIGH"),
        (("--count", 1, "--text-height", 8, "inf"), "--text-height must be .* finite"),
        (("--count", 1, "--quality", 101), "--quality must lie between 0 and 100"),
        (("--count", 1, "--workers", 0), "--workers must be at least 1"),
        (("--count", 1, "--max-words", 0), "--max-words must be at least 1"),
        (("--count", 1, "--script", "elvish"), "unknown script 'elvish'; choose one of latin"),
        (("--count", 1, "--script", "chinese"), "no font for script 'chinese'.*apt install fonts-noto-cjk.*--fonts"),
        (("--count", 1, "--words", "absent.txt"), "word list not found: absent.txt"),
        (("--count", 1, "--backgrounds", "absent"), "--backgrounds: folder not found: absent"),
        (("--count", 1, "--fonts", "absent"), "--fonts: folder not found: absent"),
    ],
)
def test_bad_options_are_named(command, options, message, tmp_path):
    with pytest.raises((ValueError, OSError), match=message):
        command("out", *options)
    assert not (tmp_path / "out").exists()


def test_foreign_folders_are_left_alone(command, fonts, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty and holds no run"):
        command("out", "--count", 1)
    assert content(tmp_path / "out") == {"thesis.txt": b"mine"}
    with pytest.raises(FileExistsError, match="is a file"):
        command("out/thesis.txt", "--count", 1)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match=re.escape("--backgrounds: no image")):
        command("new", "--count", 1, "--backgrounds", empty)


def test_styles_and_text_free_pictures(command, fonts, tmp_path):
    chosen = ("--size", 96, 128, "--styles", "sign=2,screen", "--text-free", 0.4, "--quarter-turns", 0.3)
    command("out", "--count", 8, "--quality", 0, *chosen)
    report = json.loads((tmp_path / "out" / "synthesize.json").read_text())
    assert report["settings"]["styles"] == {"sign": 2.0, "screen": 1.0} and report["settings"]["text_free"] == 0.4
    generator = SyntheticTextGenerator(
        [fonts / "letters.ttf"], synthesize_words(), size=(96, 128), text_height=(8, 20),
        styles={"sign": 2, "screen": 1}, text_free=0.4, quarter_turns=0.3,
    )  # fmt: skip
    for number, record in enumerate(read_dataset("hub", tmp_path / "out")):
        image, _, ignore, texts = generator.generate(np.random.default_rng([0, number]))
        assert np.array_equal(cv2.cvtColor(cv2.imread(str(record.image)), cv2.COLOR_BGR2RGB), image)
        assert (record.ignore, record.texts) == (ignore, texts)
    assert any(not row["polygons"] for row in rows(tmp_path / "out"))
    with pytest.raises(ValueError, match=r"other settings \(styles, text_free, quarter_turns\)"):
        command("out", "--count", 9, "--size", 96, 128, "--quality", 0)


def test_plain_folders_of_earlier_versions_go_on(command, tmp_path):
    command("out", "--count", 1)
    settings = json.loads((tmp_path / "out" / "synthesize.json").read_text())["settings"]
    assert not {"styles", "scripts", "text_free", "hard_negatives", "quarter_turns"} & set(settings)
    command("out", "--count", 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--styles", "scenes"), "--styles: unknown name 'scenes'; choose from scene, document"),
        (("--styles", "scene=x"), "--styles: the weight of 'scene' is no number: 'x'"),
        (("--scripts", "latin=0"), "--scripts: one of the weights must be above 0"),
        (
            ("--scripts", "latin,chinese"),
            r"no font for script 'chinese' in .*apt install fonts-noto-cjk.* or name folders with --fonts",
        ),
        (("--text-free", "1.5"), "--text-free must lie between 0 and 1, got 1.5"),
    ],
)
def test_bad_styles_and_scripts_are_named(command, options, message):
    with pytest.raises(ValueError, match=message):
        command("out", "--count", 1, *options)
