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
"""Any known format to a folder that `datasets` loads, with a report of what was kept and what not."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..model.image_loading import IMAGE_SUFFIXES, describe_passed_over, open_image
from ..output_files import LOCK_NAME, NamedFile, exclusive, naming, printable, replacing, write_text
from .cleaning import clean_instances
from .formats import DatasetImage, TextRecord, load_image
from .formats.files import SPLIT_SYNONYMS
from .formats.frames import picture_header
from .formats.hub import METADATA_NAME


JOURNAL_NAME = ".prepare.jsonl"
REPORT_NAME = "report.json"
PICTURE_FOLDER = "images"
TEMPORARY_PICTURE = ".picture.tmp"
PLACING = ("copy", "link", "hardlink")
MAX_EXAMPLES = 10


# Images -----------------------------------------------------------------------------------------------------------


def picture_size(image: Any) -> tuple[int, int]:
    """
    (height, width) of the upright image, without decoding a file.

    Raises:
        OSError: if it cannot be read.
    """
    if isinstance(image, np.ndarray):
        return int(image.shape[0]), int(image.shape[1])
    height, width, tag = picture_header(io.BytesIO(image) if isinstance(image, bytes) else image)
    return (width, height) if tag >= 5 else (height, width)


class PictureStore:
    """
    Places images in a folder, each complete or not at all.

    Args:
        root (`Path`): The folder; images go into its sub-folder `images`.
        source (`Path`): Where images come from; their folders below it are kept.
        placing (`str`): `"copy"`, `"link"` (symbolic) or `"hardlink"`, for images that are files.
    """

    def __init__(self, root: Path, source: Path, placing: str):
        self.root, self.source, self.placing = root, source, placing
        self.temporary = root / TEMPORARY_PICTURE
        self.taken: set[str] = set()

    def name(self, record: TextRecord, image: Any) -> str:
        """A free name for a record's image, relative to the folder; the same one in every run."""
        given = Path(image if isinstance(image, (str, Path)) else record.image_name or "picture")
        try:
            below: tuple[str, ...] = given.relative_to(self.source).parts[:-1]
        except ValueError:
            below = ()
        # `datasets` takes a folder called `test` for a split of that name.
        parents = [_safe(part) for part in below if not set(re.split(r"[\W\d_]+", part.lower())) & set(SPLIT_SYNONYMS)]
        parents = parents[1:] if parents[:1] == [PICTURE_FOLDER] else parents
        suffix = _suffix(image, given)
        stem = "/".join([PICTURE_FOLDER, *parents, _safe(given.stem)])
        name, number = f"{stem}{suffix}", 1
        while name.casefold() in self.taken:
            number += 1
            name = f"{stem}-{number}{suffix}"
        self.taken.add(name.casefold())
        return name

    def place(self, image: Any, name: str) -> None:
        """Puts an image where it belongs."""
        target = self.root / name
        with naming(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target, self.temporary) as temporary:
            if isinstance(image, (str, Path)):
                path = Path(image).resolve()
                if self.placing == "copy":
                    shutil.copyfile(path, temporary)
                elif self.placing == "link":
                    os.symlink(path, temporary)
                else:
                    os.link(path, temporary)
            elif isinstance(image, bytes):
                temporary.write_bytes(image)
            else:
                picture = image if isinstance(image, Image.Image) else Image.fromarray(load_image(image))
                picture.save(temporary, format="PNG")


def _safe(name: str) -> str:
    # Bytes that are no UTF-8 stay told apart: \xb3 becomes ~B3.
    name = re.sub(r"[\udc80-\udcff]", lambda byte: f"~{ord(byte[0]) - 0xDC00:02X}", name)
    name = re.sub(r"[^\w .()+~-]", "_", name)
    # File systems allow 255 bytes, and a number and a suffix come behind.
    return name.encode()[:200].decode(errors="ignore").strip(". ") or "picture"


def _suffix(image: Any, given: Path) -> str:
    if isinstance(image, (str, Path)) and given.suffix.lower() in IMAGE_SUFFIXES:
        return given.suffix
    if isinstance(image, (str, Path, bytes)):
        with open_image(image) as picture:
            return {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif", "GIF": ".gif"}.get(
                picture.format or "", f".{(picture.format or 'png').lower()}"
            )
    return ".png"


# Folder -------------------------------------------------------------------------------------------------------------


def prepare_dataset(
    records: Iterable[TextRecord],
    output: str | Path,
    *,
    source: str | Path = ".",
    placing: str = "copy",
    repair: bool = True,
    verify: bool = False,
    languages: bool = False,
    settings: dict | None = None,
    errors: list[str] | None = None,
    warnings: list[str] | None = None,
    progress: bool = False,
    overwrite: bool = False,
    passed_over: Mapping[str, int] | None = None,
) -> dict:
    """
    Writes records as a folder that `datasets.load_dataset("imagefolder", data_dir=...)` loads.

    Images go to `images/`, annotations to `metadata.jsonl`, which appears when everything is there, beside `report.json`.
    A run that was killed goes on where it was when it is called again with the same records and settings.

    Args:
        records (`Iterable[TextRecord]`): The records; in a resumed run the same ones in the same order.
        output (`str` or `Path`): The folder, new or of a run that was killed.
        source (`str` or `Path`, *optional*, defaults to `"."`): Folders of images below it are kept.
        placing (`str`, *optional*, defaults to `"copy"`): `"copy"`, `"link"` (symbolic) or `"hardlink"`.
        repair (`bool`, *optional*, defaults to `True`):
            Whether to repair outlines, and to leave out those without area inside the image. Without it every outline
            is written as it is.
        verify (`bool`, *optional*, defaults to `False`): Whether to decode every image, and leave out damaged ones.
        languages (`bool`, *optional*, defaults to `False`): Whether to write a column `language`.
        settings (`dict`, *optional*): What the report says about the source; must be the same in a resumed run.
        errors (`list[str]`, *optional*): Errors of annotations that the reader left out, for the report.
        warnings (`list[str]`, *optional*): Warnings of the reader, which may still grow while records come.
        progress (`bool`, *optional*, defaults to `False`): Whether to show a progress bar.
        overwrite (`bool`, *optional*, defaults to `False`):
            Whether to remove what an earlier run made, as soon as the first record could be read.
        passed_over (`Mapping[str, int]`, *optional*): Files that are no images by their suffix, for the report.

    Returns:
        `dict`: the report.

    Raises:
        FileExistsError: if the folder holds anything else.
        BlockingIOError: if another run is writing to the folder.
        ValueError: if a resumed run has other settings or records.
        OSError: if a file cannot be written.
    """
    with exclusive(output):
        return prepare_held_folder(
            records,
            Path(output),
            Path(source),
            {**(settings or {}), "placing": placing, "repair": repair, "verify": verify, "languages": languages},
            errors=errors,
            warnings=warnings,
            progress=progress,
            overwrite=overwrite,
            passed_over=passed_over,
        )


def prepare_held_folder(
    records: Iterable[TextRecord],
    root: Path,
    source: Path,
    settings: dict,
    *,
    errors: list[str] | None,
    warnings: list[str] | None,
    progress: bool,
    overwrite: bool,
    passed_over: Mapping[str, int] | None,
) -> dict:
    """[`prepare_dataset`] in a folder that the caller holds (`output_files.exclusive`)."""
    if settings["placing"] not in PLACING:
        raise ValueError(f"`placing` must be one of {', '.join(map(repr, PLACING))}, got {settings['placing']!r}")
    settings = json.loads(json.dumps(settings, default=str))
    journal = root / JOURNAL_NAME
    if overwrite and (journal.is_file() or (root / REPORT_NAME).is_file()):
        rest = iter(records)
        first = list(islice(rest, 1))
        if not first:
            raise ValueError(f"nothing to write to {root}: the source has no image; what is there was left as it is")
        records = chain(first, rest)
        # From here on this is a new run, also for one that goes on after a kill.
        write_text(journal, "")
    finished = _finished_report(root, settings)
    if finished is not None:
        return finished
    with naming(root):
        root.mkdir(parents=True, exist_ok=True)
        _start_journal(journal, settings)
    store = PictureStore(root, source, settings["placing"])
    # Names, not records, of what is done: they tell whether the source is still the same.
    done = []
    for entry in _journal_entries(journal):
        done.append(entry["source"])
        if entry.get("row") is not None:
            store.taken.add(entry["row"]["file_name"].casefold())
    count = 0
    bar = _progress(records, progress)
    with NamedFile(journal, "a") as file:
        for count, record in enumerate(bar, start=1):
            if count <= len(done):
                if done[count - 1] != record.name:
                    raise ValueError(
                        f"{root}: the source has changed since the unfinished run (image {count} was {done[count - 1]}, is "
                        f"{record.name}); start again with --overwrite"
                    )
                continue
            entry = _prepare_record(record, store, settings["repair"], settings["verify"], settings["languages"])
            # One write a line; a line that a kill cuts short is removed at the next start.
            file.write(json.dumps(entry) + "\n")
            file.flush()
    if count < len(done):
        raise ValueError(f"{root}: the source has fewer images than the unfinished run; start again with --overwrite")
    store.temporary.unlink(missing_ok=True)
    report = _summarize(_journal_entries(journal), settings, errors or [], passed_over or {})
    report["warnings"] += warnings or []
    if not report["images"]:
        example = "".join(f" ({report['examples'][reason][0]})" for reason in list(report["dropped_images"])[:1])
        raise ValueError(f"nothing to write to {root}: no image of the source could be used{example}; see {journal}")
    write_text(root / REPORT_NAME, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    with replacing(root / METADATA_NAME) as temporary, NamedFile(temporary, "w") as file:
        for entry in _journal_entries(journal):
            if entry["row"] is not None:
                file.write(json.dumps(entry["row"]) + "\n")
    journal.unlink()
    return report


def _progress(records: Iterable[TextRecord], wanted: bool) -> Iterable[TextRecord]:
    if not wanted:
        return records
    from tqdm import tqdm

    return tqdm(records, unit="image", file=sys.stderr, disable=None)


def _finished_report(root: Path, settings: dict) -> dict | None:
    """The report of a folder that is complete already."""
    if (root / JOURNAL_NAME).is_file() or not root.exists():
        return None
    if not root.is_dir():
        raise FileExistsError(f"{root} is a file; choose another folder")
    if (root / METADATA_NAME).is_file() and (root / REPORT_NAME).is_file():
        report = _json_object((root / REPORT_NAME).read_bytes(), root / REPORT_NAME)
        if report.get("settings") == settings:
            return {**report, "already_complete": True}
        raise FileExistsError(
            f"{root} holds a data set made {_difference(report.get('settings'), settings)}; choose another folder, or "
            "--overwrite, which removes that one"
        )
    if any(path.name != LOCK_NAME for path in root.iterdir()):
        raise FileExistsError(f"{root} is not empty and no unfinished run; choose another folder")
    return None


def _difference(earlier: object, settings: dict) -> str:
    """What an earlier run in the same folder was, that the settings are not."""
    source = earlier.get("source") if isinstance(earlier, dict) else None
    if source is None or source == settings.get("source"):
        return "with other settings"
    return f"with other settings, from {source}: sources are not put together; training takes several folders"


def _json_object(text: str | bytes, where: object) -> dict:
    """What a run has noted; not whatever a broken disk or an editor has made of it."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"{where} is damaged; start again with --overwrite")
    return value


def _start_journal(journal: Path, settings: dict) -> None:
    """Makes the journal of a new run, or takes that of a killed one without its unfinished line."""
    if journal.is_file():
        with open(journal, "r+b") as file:
            keep = _end_of_last_line(file)
            file.truncate(keep)
            file.seek(0)
            head = file.readline()
        if head:
            if _json_object(head, journal).get("settings") != settings:
                made = _difference(_json_object(head, journal).get("settings"), settings)
                raise ValueError(
                    f"{journal.parent} holds an unfinished run {made}; repeat these, or start again with --overwrite"
                )
            return
        # A run that was killed here, or that overwrites: what is there is of no run that goes on.
        _remove_earlier(journal.parent)
    write_text(journal, json.dumps({"settings": settings}) + "\n")


def _remove_earlier(root: Path) -> None:
    """Removes what a run made, and nothing else; what makes a folder look complete goes first."""
    for name in (METADATA_NAME, REPORT_NAME, TEMPORARY_PICTURE):
        (root / name).unlink(missing_ok=True)
    if (root / PICTURE_FOLDER).exists():
        shutil.rmtree(root / PICTURE_FOLDER)


def _end_of_last_line(file) -> int:
    end = file.seek(0, os.SEEK_END)
    block = 1 << 16
    while end > 0:
        start = max(0, end - block)
        file.seek(start)
        at = file.read(end - start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return 0


def _journal_entries(journal: Path) -> Iterator[dict]:
    with open(journal, "rb") as file:
        next(file)
        for number, line in enumerate(file, start=2):
            entry = _json_object(line, f"{journal}, line {number},")
            if not {"source", "row"} <= entry.keys():
                raise ValueError(f"{journal}, line {number}, is damaged; start again with --overwrite")
            yield entry


def _prepare_record(record: TextRecord, store: PictureStore, repair: bool, verify: bool, languages: bool) -> dict:
    """Places an image and makes its line of the journal."""
    entry: dict[str, Any] = {"source": record.name, "row": None}
    try:
        image = record.image.load() if isinstance(record.image, DatasetImage) else record.image
        if isinstance(image, Image.Image):
            image = load_image(image)
        stored = picture_size(image)
        if verify:
            load_image(image)
        name = store.name(record, image)
    except (OSError, ValueError) as error:
        if isinstance(record.image, (str, Path)) and not Path(record.image).is_file():
            return {**entry, "error": "image not found", "detail": str(error)}
        return {**entry, "error": "image cannot be read", "detail": str(error)}
    height, width = record.size or stored
    clean = clean_instances(record.polygons, height, width)
    if not repair:
        clean.kept, clean.polygons = list(range(len(record.polygons))), record.polygons
        clean.repaired, clean.dropped = [], []
    store.place(image, name)
    row = {
        "file_name": name,
        "polygons": [[[_short(x), _short(y)] for x, y in polygon] for polygon in clean.polygons],
        "ignore": [record.ignore[index] for index in clean.kept],
        # An empty text stands for none: a column of nulls only would have no type.
        "text": [_plain_text(record.texts[index]) for index in clean.kept],
        "width": int(width),
        "height": int(height),
    }
    if languages:
        names = record.languages or [None] * len(record.polygons)
        row["language"] = [_plain_text(names[index]) for index in clean.kept]
    return {
        **entry,
        "row": row,
        "repaired": clean.repaired,
        "dropped": clean.dropped,
        "partly_outside": clean.partly_outside,
    }


def _short(value: np.float32) -> float:
    """The shortest number that is this one as float32: 0.1 rather than 0.10000000149011612."""
    return float(str(np.float32(value)))


def _plain_text(text: str | None) -> str:
    """A text that can be encoded; half surrogate pairs cannot."""
    return (text or "").encode("utf-8", "replace").decode("utf-8")


# Report -------------------------------------------------------------------------------------------------------------


def _summarize(entries: Iterable[dict], settings: dict, errors: list[str], passed_over: Mapping[str, int]) -> dict:
    counts: Counter = Counter()
    reasons: dict[str, Counter] = {"repaired": Counter(), "dropped": Counter(), "dropped_images": Counter()}
    examples: dict[str, list[str]] = {}

    def note(kind: str, reason: str, example: str) -> None:
        reasons[kind][reason] += 1
        shown = examples.setdefault(reason, [])
        if len(shown) < MAX_EXAMPLES:
            shown.append(example)

    for entry in entries:
        row = entry["row"]
        if row is None:
            note("dropped_images", entry["error"], entry["detail"])
            continue
        counts["images"] += 1
        counts["images_without_text"] += not row["polygons"]
        counts["instances"] += len(row["polygons"])
        counts["ignored"] += sum(row["ignore"])
        counts["without_transcription"] += sum(not text for text in row["text"])
        counts["partly_outside"] += entry["partly_outside"]
        for kind in ("repaired", "dropped"):
            for index, reason in entry[kind]:
                note(kind, reason, f"{entry['source']}: instance {index + 1}")
    for error in errors:
        note("dropped_images", "annotation cannot be meant", error)
    names = ("images", "images_without_text", "instances", "ignored", "without_transcription", "partly_outside")
    return {
        **{name: counts[name] for name in names},
        **{kind: dict(counter) for kind, counter in reasons.items()},
        "examples": examples,
        "passed_over": dict(passed_over),
        "warnings": _warnings(counts, passed_over),
        "settings": settings,
    }


def _warnings(counts: Counter, passed_over: Mapping[str, int]) -> list[str]:
    warnings = [describe_passed_over(passed_over)] if passed_over else []
    if counts["images"] and not counts["instances"]:
        warnings.append("no text: no image has an instance")
    elif counts["instances"] and counts["ignored"] == counts["instances"]:
        warnings.append("all ignored: every instance is marked unreadable, so that nothing can be learnt")
    if counts["partly_outside"] * 10 > counts["instances"]:
        warnings.append(
            "many outlines reach over the border: are the images resized copies (--frame-size), or turned by EXIF "
            "(--orientation)?"
        )
    return warnings


def format_report(report: dict) -> str:
    """The report as lines of text."""
    lines = [
        f"images            {report['images']} ({report['images_without_text']} without text)",
        f"instances         {report['instances']} ({report['ignored']} ignored, "
        f"{report['without_transcription']} without transcription, {report['partly_outside']} partly outside)",
    ]
    for kind, title in (("repaired", "repaired"), ("dropped", "dropped"), ("dropped_images", "dropped images")):
        lines.append(f"{title:17} {sum(report[kind].values())}")
        for reason, count in report[kind].items():
            example = report["examples"].get(reason, [""])[0]
            lines.append(printable(f"  {count:>6}  {reason} (first: {example})"))
    lines += [printable(f"warning: {warning}") for warning in report["warnings"]]
    return "\n".join(lines)
