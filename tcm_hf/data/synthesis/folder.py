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
"""A folder of rendered images with text, for pre-training or for tests; a run that was stopped goes on."""

# Only the standard library here, for the workers' sake: OpenCV and the generator are imported where images are drawn.
from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...cores import available_cores
from ...output_files import LOCK_NAME, NamedFile, exclusive, naming, replacing, write_text


METADATA_NAME = "metadata.jsonl"
JOURNAL_NAME = ".synthesize.jsonl"
REPORT_NAME = "synthesize.json"
TEMPORARY_PICTURE = ".picture.tmp"
PICTURES_PER_FOLDER = 1000
# Raised when the same seed comes to draw other images, so that no folder mixes two generators.
GENERATOR_VERSION = 4
# Of a word list with more letters than this, such as one of ideographs, 100 words are looked up in the fonts: all would
# take minutes where there are hundreds of fonts.
_MOST_LETTERS = 300
#: What may be chosen of the generator, with the defaults.
DRAWING = {
    "size": (640, 640),
    "script": "latin",
    "curved": 0.1,
    "bend": (20.0, 200.0),
    "any_angle": 0.06,
    "text_height": (8.0, 100.0),
    "max_words": None,
    "degradation": 1.0,
    "styles": None,
    "scripts": None,
    "text_free": 0.0,
    "hard_negatives": 0.0,
    "quarter_turns": 0.0,
}
# Folders of earlier versions know nothing of these settings, and go on where they have their defaults.
_LATER = ("styles", "scripts", "text_free", "hard_negatives", "quarter_turns")


def synthesize_dataset(
    output: str | Path,
    count: int,
    *,
    seed: int = 0,
    backgrounds: str | Path | None = None,
    allow_outside: bool = False,
    words: str | Path | None = None,
    fonts: Sequence[str | Path] | None = None,
    quality: int = 95,
    workers: int | None = None,
    progress: bool = False,
    warn: Callable[[str], None] = warnings.warn,
    **drawing,
) -> dict:
    """
    Renders images with text as a folder that `datasets.load_dataset("imagefolder", data_dir=...)` loads.

    Image number n depends on the seed and n only, on any number of workers. A run that was stopped goes on where it was when it
    is called again with the same settings; a larger `count` adds to a finished folder.

    Args:
        output (`str` or `Path`): The folder; new, or of an earlier run with these settings.
        count (`int`): Number of images in all.
        seed (`int`, *optional*, defaults to 0): Seed of all images.
        backgrounds (`str` or `Path`, *optional*):
            Folder of photos to render on; generated backgrounds by default. They must show no text, unless the folder has a
            metadata.jsonl that outlines it.
        allow_outside (`bool`, *optional*, defaults to `False`):
            Whether to open photos outside of that folder, which its metadata.jsonl or links lead to.
        words (`str` or `Path`, *optional*): UTF-8 list of words.
        fonts (`Sequence[str or Path]`, *optional*): Folders of font files; the system's and the user's by default.
        quality (`int`, *optional*, defaults to 95): JPEG quality, 1 to 100; 0 writes PNG.
        workers (`int`, *optional*): Processes; one a processor core by default.
        progress (`bool`, *optional*, defaults to `False`): Whether to show a progress bar.
        warn (`Callable[[str], None]`, *optional*, defaults to `warnings.warn`): Called with what the user should know.
        drawing: `size`, `script`, `curved`, `bend`, `any_angle`, `text_height`, `max_words`, `degradation`, `styles`, `scripts`,
            `text_free`, `hard_negatives` and `quarter_turns` of [`~data.synthesis.generator.SyntheticTextGenerator`]; by
            default as `DRAWING` says.

    Returns:
        `dict`: the report: numbers of `images`, `words` and `ignored` words, and the `settings`.

    Raises:
        TypeError: if there is no such setting.
        ValueError: if a setting makes no sense, no font was found or none has the words, a background is damaged, or the
            folder holds something else.
        BlockingIOError: if another run is writing to the folder.
        OSError: if a file cannot be read or written.
    """
    from .fonts import FONT_DIRECTORIES, find_fonts, missing_fonts
    from .word_lists import listed_words
    from .words import default_words, load_words, script_of

    unknown = sorted(set(drawing) - set(DRAWING))
    if unknown:
        raise TypeError(f"synthesize_dataset() got an unexpected keyword argument {unknown[0]!r}")
    drawing = {**DRAWING, **drawing}
    _check(count, seed, quality, workers)
    _check_drawing(**drawing)
    script = drawing["script"]
    script_of(script)
    word_list = load_words(words) if words else None
    if word_list is None and script == "latin":
        word_list = default_words()
    photos = _backgrounds(backgrounds, allow_outside, warn) if backgrounds else []
    folders = fonts or FONT_DIRECTORIES
    missing = [folder for folder in fonts or [] if not Path(folder).is_dir()]
    if missing:
        raise FileNotFoundError(f"--fonts: folder not found: {missing[0]}")
    if drawing["scripts"] is not None and drawing["scripts"] and script not in drawing["scripts"]:
        if words:
            raise ValueError(f"--words: the list is for --script {script}, which --scripts does not name")
        script = drawing["script"] = next(iter(drawing["scripts"]))
        script_of(script)
        word_list = listed_words(script)
    files = {}
    for name in dict.fromkeys((script, *(drawing["scripts"] or {}))):
        files[name] = [str(path) for path in find_fonts(folders, script=name)]
        if not files[name]:
            raise ValueError(f"{missing_fonts(name, folders)} or name folders with --fonts")
    if words and word_list is not None:
        _check_words(str(words), word_list, files[script], warn)
    options = {"words": word_list, **drawing, "size": tuple(drawing["size"]), "bend": tuple(drawing["bend"])}
    options["text_height"] = tuple(drawing["text_height"])
    settings = {
        "generator": GENERATOR_VERSION,
        "seed": seed,
        "quality": quality,
        **{
            name: value
            for name, value in options.items()
            if name != "words" and (name not in _LATER or value != DRAWING[name])
        },
        "words": _digest(word_list or []),
        "fonts": _digest([Path(file).name for paths in files.values() for file in paths]),
        "backgrounds": _digest([_background_name(source) for source in photos]),
    }
    settings = json.loads(json.dumps(settings))
    job = {
        "seed": seed, "quality": quality,
        "options": {**options, "fonts": files, "backgrounds": photos},
    }  # fmt: skip
    with exclusive(output):
        return _synthesize(Path(output), count, settings, job, workers, progress)


def _check(count: int, seed: int, quality: int, workers: int | None) -> None:
    if count < 1:
        raise ValueError(f"--count must be at least 1, got {count}")
    if seed < 0:
        raise ValueError(f"--seed must not be negative, got {seed}")
    if not 0 <= quality <= 100:
        raise ValueError(f"--quality must lie between 0 and 100, got {quality}")
    if workers is not None and workers < 1:
        raise ValueError(f"--workers must be at least 1, got {workers}")


def _check_drawing(*, size, script, text_height, bend, max_words, styles, scripts, **shares) -> None:
    if min(size) < 32:
        raise ValueError(f"--size must be at least 32 32, got {' '.join(map(str, size))}")
    for option, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"--{option.replace('_', '-')} must lie between 0 and 1, got {share}")
    low, high = text_height
    if not 4 <= low <= high < math.inf:
        raise ValueError(f"--text-height must be LOW HIGH with 4 <= LOW <= HIGH, both finite, got {low:g} {high:g}")
    low, high = bend
    if not 0 < low <= high <= 300:
        raise ValueError(f"--bend must be LOW HIGH with 0 < LOW <= HIGH <= 300, got {low:g} {high:g}")
    if max_words is not None and max_words < 1:
        raise ValueError(f"--max-words must be at least 1, got {max_words}")
    from .styles import STYLES
    from .weights import Weights
    from .words import SCRIPTS

    for option, weights, known in (("styles", styles, STYLES), ("scripts", scripts, tuple(SCRIPTS))):
        if weights is not None:
            Weights(f"--{option}", weights, known)


def _backgrounds(folder: str | Path, allow_outside: bool, warn: Callable[[str], None]) -> list:
    """Photos of a folder; with annotation, if it has one."""
    from ...model.image_loading import IMAGE_SUFFIXES, count_passed_over, describe_passed_over
    from ..formats import SourceFolders, read_dataset
    from ..formats.files import find_files

    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"--backgrounds: folder not found: {root}")
    if (root / METADATA_NAME).is_file():
        return list(read_dataset("hub", root, allow_outside=allow_outside))
    folders = SourceFolders(root, allow_outside=allow_outside)
    paths = sorted(find_files([root], IMAGE_SUFFIXES, folders=folders))
    if not paths:
        raise ValueError(f"--backgrounds: no image ({', '.join(IMAGE_SUFFIXES)}) in {root}")
    if passed_over := count_passed_over([root]):
        warn(f"--backgrounds: {describe_passed_over(passed_over)}")
    return [str(path) for path in paths]


def _check_words(name: str, words: list[str], fonts: list[str], warn: Callable[[str], None]) -> None:
    """Refuses a list of which no font has a word; says how many words some fonts lack, as they are drawn otherwise."""
    from .fonts import has_glyph

    if len(set("".join(words))) > _MOST_LETTERS:
        words = words[:: math.ceil(len(words) / 100)]
    letters = set("".join(words))
    # Most fonts lack the same letters: none, or all.
    lacking = Counter(frozenset(letter for letter in letters if not has_glyph(font, letter)) for font in fonts)
    whole = [sum(count for lacks, count in lacking.items() if lacks.isdisjoint(word)) for word in words]
    if not any(whole):
        raise ValueError(
            f"{name}: none of {len(words)} words looked at has all its letters in any of {len(fonts)} fonts; see --script, "
            "--fonts"
        )
    if min(whole) < len(fonts):
        share = 100 * sum(whole) / (len(words) * len(fonts))
        warn(
            f"{name}: of {len(words)} words looked at, {whole.count(0)} have letters that no font has, and "
            f"{sum(0 < count < len(fonts) for count in whole)} more have letters that some of the {len(fonts)} fonts lack. "
            f"{share:.3g} % of all pairs of a word and a font fit; elsewhere words are left out, cut or replaced by numbers "
            "(see --script, --fonts)"
        )


def _check_backgrounds(sources: list) -> None:
    """Decodes every photo: a run that meets a damaged one late could not go on without it."""
    from PIL import Image

    # Before there are threads: one that opens a file while another one loads Pillow's decoders can miss them.
    Image.init()
    with ThreadPoolExecutor(available_cores()) as pool:
        damaged = [path for path in pool.map(_damaged, sources) if path]
    if damaged:
        raise ValueError(
            f"--backgrounds: {len(damaged)} of {len(sources)} images cannot be read ({', '.join(damaged)}); remove them, "
            "and their lines in metadata.jsonl if there is one"
        )


def _damaged(source) -> str | None:
    """The name of a background that cannot be decoded."""
    from ...model.image_loading import decode_image, open_image

    path = source if isinstance(source, str) else source.image
    try:
        with open_image(path) as image:
            # A JPEG is read to its end at an eighth of its size, several times faster than in full.
            image.draft(None, (1, 1))
            decode_image(image)
    except (OSError, ValueError):
        return str(path)
    return None


def _background_name(source) -> str:
    return Path(source if isinstance(source, str) else source.name).name


def _digest(values: list[str]) -> str | None:
    """A short name of a list, by which a later run knows it again."""
    # Names that are no UTF-8 count as they are.
    return hashlib.sha256("\n".join(values).encode("utf-8", "surrogatepass")).hexdigest()[:16] if values else None


def _synthesize(root: Path, count: int, settings: dict, job: dict, workers: int | None, progress: bool) -> dict:
    journal = root / JOURNAL_NAME
    started = _start_journal(root, journal, settings, job["options"]["backgrounds"])
    first = sum(1 for _ in _journal_rows(journal))
    if first > count:
        if started:
            journal.unlink()
        raise ValueError(f"{root} holds {first} images already, more than --count {count}; choose another folder")
    with NamedFile(journal, "a") as file:
        results: Iterable[tuple[dict, bytes]] = _results(range(first, count), job, workers)
        if progress and first < count:
            from tqdm import tqdm

            results = tqdm(results, total=count, initial=first, unit="image", file=sys.stderr, disable=None)
        for row, data in results:
            # Here and not in the workers: one that outlives a killed command must not write to the folder of the next.
            path = root / row["file_name"]
            with naming(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path, root / TEMPORARY_PICTURE) as temporary:
                temporary.write_bytes(data)
            # One write a line: a line that a kill cuts short is removed at the next start.
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
    return _finish(root, journal, settings)


def _start_journal(root: Path, journal: Path, settings: dict, backgrounds: list) -> bool:
    """
    Opens the journal of a new, an unfinished or a finished run; refuses a folder that holds anything else.

    Returns:
        `bool`: whether the journal is a new one.
    """
    if root.exists() and not root.is_dir():
        raise FileExistsError(f"{root} is a file; choose another folder")
    head = json.dumps({"settings": settings}) + "\n"
    if journal.is_file():
        data = journal.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            with open(journal, "r+b") as file:
                file.truncate(len(whole))
        before, _, rows = whole.partition(b"\n")
        if rows:
            _compare(root, _noted_settings(before, journal), settings)
            return False
    elif (root / METADATA_NAME).is_file() and (root / REPORT_NAME).is_file():
        _compare(root, _noted_settings((root / REPORT_NAME).read_bytes(), root / REPORT_NAME), settings)
        write_text(journal, head + (root / METADATA_NAME).read_text(encoding="utf-8"))
        return True
    elif root.is_dir() and any(path.name != LOCK_NAME for path in root.iterdir()):
        raise FileExistsError(f"{root} is not empty and holds no run of this command; choose another folder")
    # Without a row no image counts, so the settings may change; a stopped run can have drawn some ahead.
    _check_backgrounds(backgrounds)
    for picture in (root / "images").glob("*/" + 7 * "[0-9]" + ".*"):
        picture.unlink()
    with naming(root):
        root.mkdir(parents=True, exist_ok=True)
    write_text(journal, head)
    return True


def _noted_settings(text: bytes, where: Path) -> dict:
    try:
        return dict(json.loads(text)["settings"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{where} is damaged; choose another folder") from error


def _compare(root: Path, before: dict, now: dict) -> None:
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if changed:
        raise ValueError(
            f"{root} holds images made with other settings ({', '.join(changed)}): repeat those settings, fonts and word "
            "lists, or choose another folder"
        )


def _journal_rows(journal: Path) -> Iterator[dict]:
    with open(journal, "rb") as file:
        next(file)
        for number, line in enumerate(file, start=2):
            try:
                row = json.loads(line)
                row["file_name"], row["ignore"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{journal}, line {number}, is damaged; choose another folder") from error
            yield row


def _finish(root: Path, journal: Path, settings: dict) -> dict:
    """Writes metadata.jsonl and the report, each complete or not at all."""
    report: dict[str, Any] = {"images": 0, "words": 0, "ignored": 0, "settings": settings}
    with replacing(root / METADATA_NAME) as temporary, NamedFile(temporary, "w", root / METADATA_NAME) as file:
        for row in _journal_rows(journal):
            report["images"] += 1
            report["words"] += len(row["ignore"])
            report["ignored"] += sum(row["ignore"])
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()
        write_text(root / REPORT_NAME, json.dumps(report, indent=2) + "\n")
    # An image whose line a kill has cut off, when --count asks for no more.
    ahead = report["images"]
    for path in (root / "images" / f"{ahead // PICTURES_PER_FOLDER:04d}").glob(f"{ahead:07d}.*"):
        path.unlink()
    (root / TEMPORARY_PICTURE).unlink(missing_ok=True)
    journal.unlink()
    return report


# Workers ------------------------------------------------------------------------------------------------------------


def _results(indices: range, job: dict, workers: int | None) -> Iterator[tuple[dict, bytes]]:
    """Rows and files in the order of the indices."""
    workers = min(workers or available_cores(), max(1, len(indices)))
    if not indices:
        return
    if workers == 1:
        _start_worker(job)
        yield from map(_render, indices)
        return
    # Fresh processes: forked ones could wait for ever for threads that OpenCV had before the fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_pool_worker, (job,)) as pool:
        waiting: deque = deque()
        upcoming = iter(indices)
        try:
            for index in upcoming:
                with _interrupts_blocked():
                    waiting.append(pool.submit(_render, index))
                if len(waiting) >= 8 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise OSError(
                "a worker has ended by itself, most likely for want of memory; repeat the command, which goes on where it "
                "was, with fewer --workers"
            ) from error
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes that are started meanwhile do not see Ctrl-C: the command ends them itself, without their tracebacks."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_WORKER: dict = {}


def _start_pool_worker(job: dict) -> None:
    # A command that is killed tells its workers nothing: they would wait for work for ever.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _start_worker(job)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "only workers run this"
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _start_worker(job: dict) -> None:
    import cv2

    from .generator import SyntheticTextGenerator

    # The processes are the parallelism.
    cv2.setNumThreads(1)
    _WORKER.update(job, generator=SyntheticTextGenerator(**job["options"]))


def _render(index: int) -> tuple[dict, bytes]:
    """Draws one image; returns its line of metadata.jsonl, and the content of its file."""
    import cv2
    import numpy as np

    rng = np.random.default_rng([_WORKER["seed"], index])
    image, polygons, ignore, texts = _WORKER["generator"].generate(rng)
    quality = _WORKER["quality"]
    suffix, options = (".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality]) if quality else (".png", [])
    name = f"images/{index // PICTURES_PER_FOLDER:04d}/{index:07d}{suffix}"
    done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise OSError(f"OpenCV could not encode {name}")
    row = {
        "file_name": name,
        "polygons": [[[round(float(x), 2), round(float(y), 2)] for x, y in polygon] for polygon in polygons],
        "ignore": [bool(flag) for flag in ignore],
        "text": list(texts),
        "width": int(image.shape[1]),
        "height": int(image.shape[0]),
    }
    return row, data.tobytes()
