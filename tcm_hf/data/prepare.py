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
"""`tcm-hf prepare`: any known format to a folder that `datasets` loads, with a report of what was kept and what not."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .cleaning import clean_instances
from .formats import FORMATS, AnnotationError, DatasetImage, TextRecord, find_format, load_image, read_dataset
from .formats.files import MISSING_CHOICES, ORIENTATION_CHOICES, SPLIT_SYNONYMS, picture_header
from .formats.hub import METADATA_NAME


JOURNAL_NAME = ".prepare.jsonl"
REPORT_NAME = "report.json"
PICTURE_FOLDER = "images"
PLACING = ("copy", "link", "hardlink")
MAX_EXAMPLES = 10
SHARD_MEGABYTES = 400
ROWS_PER_GROUP = 100
DIGEST_KEY = b"tcm_hf.rows"


# Pictures -----------------------------------------------------------------------------------------------------------


def picture_size(image: Any) -> tuple[int, int]:
    """
    (height, width) of the upright picture, without decoding a file.

    Raises:
        OSError: if it cannot be read.
    """
    if isinstance(image, np.ndarray):
        return int(image.shape[0]), int(image.shape[1])
    height, width, tag = picture_header(io.BytesIO(image) if isinstance(image, bytes) else image)
    return (width, height) if tag >= 5 else (height, width)


class PictureStore:
    """
    Places pictures in a folder, each complete or not at all.

    Args:
        root (`Path`): The folder; pictures go into its sub-folder `images`.
        source (`Path`): Where pictures come from; their folders below it are kept.
        placing (`str`): `"copy"`, `"link"` (symbolic) or `"hardlink"`, for pictures that are files.
    """

    def __init__(self, root: Path, source: Path, placing: str):
        self.root, self.source, self.placing = root, source, placing
        self.temporary = root / ".picture.tmp"
        self.taken: set[str] = set()

    def name(self, record: TextRecord, image: Any) -> str:
        """A free name for a record's picture, relative to the folder; the same one in every run."""
        given = Path(image if isinstance(image, (str, Path)) else record.image_name or "picture")
        try:
            parents = given.relative_to(self.source).parts[:-1]
        except ValueError:
            parents = ()
        # `datasets` takes a folder called `test` for a split of that name.
        parents = [
            _safe(part) for part in parents if not set(re.split(r"[\W\d_]+", part.lower())) & set(SPLIT_SYNONYMS)
        ]
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
        """Puts a picture where it belongs."""
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        self.temporary.unlink(missing_ok=True)
        if isinstance(image, (str, Path)):
            path = Path(image).resolve()
            if self.placing == "copy":
                shutil.copyfile(path, self.temporary)
            elif self.placing == "link":
                os.symlink(path, self.temporary)
            else:
                os.link(path, self.temporary)
        elif isinstance(image, bytes):
            self.temporary.write_bytes(image)
        else:
            picture = image if isinstance(image, Image.Image) else Image.fromarray(load_image(image))
            picture.save(self.temporary, format="PNG")
        os.replace(self.temporary, target)


def _safe(name: str) -> str:
    return re.sub(r"[^\w .()+-]", "_", name).strip(". ") or "picture"


def _suffix(image: Any, given: Path) -> str:
    if isinstance(image, (str, Path)):
        return given.suffix
    if isinstance(image, bytes):
        with Image.open(io.BytesIO(image)) as picture:
            return {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif", "GIF": ".gif"}.get(
                picture.format, f".{(picture.format or 'png').lower()}"
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
    progress: bool = False,
) -> dict:
    """
    Writes records as a folder that `datasets.load_dataset("imagefolder", data_dir=...)` loads.

    Pictures go to `images/`, annotations to `metadata.jsonl`, which appears when everything is there, beside `report.json`.
    A run that was killed goes on where it was when it is called again with the same records and settings.

    Args:
        records (`Iterable[TextRecord]`): The records; in a resumed run the same ones in the same order.
        output (`str` or `Path`): The folder, new or of a run that was killed.
        source (`str` or `Path`, *optional*, defaults to `"."`): Folders of pictures below it are kept.
        placing (`str`, *optional*, defaults to `"copy"`): `"copy"`, `"link"` (symbolic) or `"hardlink"`.
        repair (`bool`, *optional*, defaults to `True`):
            Whether to repair outlines, and to leave out those without area inside the picture. Without it every outline
            is written as it is.
        verify (`bool`, *optional*, defaults to `False`): Whether to decode every picture, and leave out damaged ones.
        languages (`bool`, *optional*, defaults to `False`): Whether to write a column `language`.
        settings (`dict`, *optional*): What the report says about the source; must be the same in a resumed run.
        errors (`list[str]`, *optional*): Errors of annotations that the reader left out, for the report.
        progress (`bool`, *optional*, defaults to `False`): Whether to show a progress bar.

    Returns:
        `dict`: the report.

    Raises:
        FileExistsError: if the folder holds anything else.
        ValueError: if a resumed run has other settings or records.
        OSError: if a file cannot be written.
    """
    if placing not in PLACING:
        raise ValueError(f"`placing` must be one of {', '.join(map(repr, PLACING))}, got {placing!r}")
    root = Path(output)
    settings = {**(settings or {}), "placing": placing, "repair": repair, "verify": verify, "languages": languages}
    settings = json.loads(json.dumps(settings, default=str))
    finished = _finished_report(root, settings)
    if finished is not None:
        return finished
    root.mkdir(parents=True, exist_ok=True)
    journal = root / JOURNAL_NAME
    _start_journal(journal, settings)
    store = PictureStore(root, Path(source), placing)
    # Names, not records, of what is done: they tell whether the source is still the same.
    done = []
    for entry in _journal_entries(journal):
        done.append(entry["source"])
        if entry.get("row") is not None:
            store.taken.add(entry["row"]["file_name"].casefold())
    count = 0
    bar = _progress(records, progress)
    with open(journal, "a", encoding="utf-8") as file:
        for count, record in enumerate(bar, start=1):
            if count <= len(done):
                if done[count - 1] != record.name:
                    raise ValueError(
                        f"{root}: the source has changed since the unfinished run (picture {count} was {done[count - 1]}, is "
                        f"{record.name}); start again with --overwrite"
                    )
                continue
            entry = _prepare_record(record, store, repair, verify, languages)
            # One write a line; a line that a kill cuts short is removed at the next start.
            file.write(json.dumps(entry) + "\n")
            file.flush()
    if count < len(done):
        raise ValueError(
            f"{root}: the source has fewer pictures than the unfinished run; start again with --overwrite"
        )
    store.temporary.unlink(missing_ok=True)
    report = _summarize(_journal_entries(journal), settings, errors or [])
    if not report["images"]:
        raise ValueError(f"nothing to write to {root}: no picture of the source could be used; see {journal}")
    _write_text(root / REPORT_NAME, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    temporary = root / f".{METADATA_NAME}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        for entry in _journal_entries(journal):
            if entry["row"] is not None:
                file.write(json.dumps(entry["row"]) + "\n")
    os.replace(temporary, root / METADATA_NAME)
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
        report = json.loads((root / REPORT_NAME).read_text(encoding="utf-8"))
        if report.get("settings") == settings:
            return {**report, "already_complete": True}
        raise FileExistsError(
            f"{root} holds a data set made with other settings; choose another folder, or --overwrite"
        )
    if any(root.iterdir()):
        raise FileExistsError(f"{root} is not empty and no unfinished run; choose another folder")
    return None


def _start_journal(journal: Path, settings: dict) -> None:
    """Makes the journal of a new run, or takes that of a killed one without its unfinished line."""
    if journal.is_file():
        with open(journal, "r+b") as file:
            keep = _end_of_last_line(file)
            file.truncate(keep)
            file.seek(0)
            head = file.readline()
        if head:
            if json.loads(head)["settings"] != settings:
                raise ValueError(
                    f"{journal.parent} holds an unfinished run with other settings; repeat these, or start again with "
                    "--overwrite"
                )
            return
    _write_text(journal, json.dumps({"settings": settings}) + "\n")


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
    with open(journal, encoding="utf-8") as file:
        next(file)
        for line in file:
            yield json.loads(line)


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _prepare_record(record: TextRecord, store: PictureStore, repair: bool, verify: bool, languages: bool) -> dict:
    """Places a picture and makes its line of the journal."""
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
            return {**entry, "error": "picture not found", "detail": str(error)}
        return {**entry, "error": "picture cannot be read", "detail": str(error)}
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


def _summarize(entries: Iterable[dict], settings: dict, errors: list[str]) -> dict:
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
        "warnings": _warnings(counts),
        "settings": settings,
    }


def _warnings(counts: Counter) -> list[str]:
    warnings = []
    if counts["images"] and not counts["instances"]:
        warnings.append("no text: no picture has an instance")
    elif counts["instances"] and counts["ignored"] == counts["instances"]:
        warnings.append("all ignored: every instance is marked unreadable, so that nothing can be learnt")
    if counts["partly_outside"] * 10 > counts["instances"]:
        warnings.append(
            "many outlines reach over the border: are the pictures resized copies (--frame-size), or turned by EXIF "
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
            lines.append(f"  {count:>6}  {reason} (first: {example})")
    lines += [f"warning: {warning}" for warning in report["warnings"]]
    return "\n".join(lines)


# Parquet ------------------------------------------------------------------------------------------------------------


def write_parquet(
    folder: str | Path,
    output: str | Path,
    split: str,
    shard_megabytes: float = SHARD_MEGABYTES,
    overwrite: bool = False,
) -> list[Path]:
    """
    Writes a prepared folder as parquet shards with the pictures inside, ready for the Hub.

    Shards of the same rows that are there already are kept, so that a killed run goes on; every shard is complete or not
    there. A shard knows its rows by a digest in its schema.

    Args:
        folder (`str` or `Path`): Folder with `metadata.jsonl`.
        output (`str` or `Path`): Folder of the shards, `data/<split>-00000-of-00001.parquet` and so on.
        split (`str`): Name of the split.
        shard_megabytes (`float`, *optional*, defaults to 400): Size of the pictures in a shard.
        overwrite (`bool`, *optional*, defaults to `False`): Whether shards that are there already are replaced.

    Returns:
        `list[Path]`: the shards.

    Raises:
        FileExistsError: if `output` has shards of this split with other rows, and `overwrite` is not set.
        ImportError: if `datasets` is not installed.
    """
    try:
        import datasets
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError("Writing parquet needs `pip install datasets`") from error
    folder, output = Path(folder), Path(output) / "data"
    with open(folder / METADATA_NAME, encoding="utf-8") as file:
        first = json.loads(next(file))
    columns = {
        "image": datasets.Image(),
        "polygons": [[[datasets.Value("float32")]]],
        "ignore": [datasets.Value("bool")],
        "text": [datasets.Value("string")],
        "width": datasets.Value("int32"),
        "height": datasets.Value("int32"),
    }
    if "language" in first:
        columns["language"] = [datasets.Value("string")]
    schema = datasets.Features(columns).arrow_schema
    sizes = [(folder / row["file_name"]).stat().st_size for row in _rows(folder)]
    shard_of = np.cumsum(sizes) // max(1, int(shard_megabytes * 1e6))
    _, starts = np.unique(shard_of, return_index=True)
    bounds = [*starts.tolist(), len(sizes)]
    paths = [output / f"{split}-{k:05d}-of-{len(starts):05d}.parquet" for k in range(len(starts))]
    rows = _rows(folder)
    digests = [_digest(islice(rows, end - start)) for start, end in zip(bounds, bounds[1:])]
    wanted = dict(zip(paths, digests))
    shards = re.compile(rf"{re.escape(split)}-\d{{5}}-of-\d{{5}}\.parquet")
    present = [path for path in sorted(output.glob("*.parquet")) if shards.fullmatch(path.name)]
    found = {path: _stored_digest(path) for path in present}
    others = [path for path, digest in found.items() if digest != wanted.get(path, b"")]
    if others and not overwrite:
        if unknown := [path for path in others if found[path] is None]:
            reason = f"{unknown[0]} does not say which rows it has (an older version or another program wrote it)"
        else:
            reason = f"{others[0]} has other rows than {folder}, or is a shard of another size"
        raise FileExistsError(f"{reason}; --overwrite (`overwrite=True`) replaces the {len(others)} such shards")
    output.mkdir(parents=True, exist_ok=True)
    rows = _rows(folder)
    for path, start, end in zip(paths, bounds, bounds[1:]):
        shard = [next(rows) for _ in range(end - start)]
        if found.get(path) == wanted[path] and not overwrite:
            continue
        temporary = path.with_name(f".{path.name}.tmp")
        marked = schema.with_metadata({**schema.metadata, DIGEST_KEY: wanted[path]})
        with parquet.ParquetWriter(temporary, marked) as writer:
            for at in range(0, len(shard), ROWS_PER_GROUP):
                group = [_parquet_row(row, folder) for row in shard[at : at + ROWS_PER_GROUP]]
                writer.write_table(pyarrow.Table.from_pylist(group, schema=marked))
        os.replace(temporary, path)
    for path in others:
        if path not in wanted:
            path.unlink()
    return paths


def _stored_digest(path: Path) -> bytes | None:
    """What `write_parquet` noted in a shard; `None` for files of another origin."""
    from pyarrow import ArrowException, parquet

    try:
        return (parquet.read_schema(path).metadata or {}).get(DIGEST_KEY)
    except ArrowException:
        return None


def _digest(rows: Iterable[dict]) -> bytes:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest().encode()


def _rows(folder: Path) -> Iterator[dict]:
    with open(folder / METADATA_NAME, encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _parquet_row(row: dict, folder: Path) -> dict:
    name = row.pop("file_name")
    return {"image": {"bytes": (folder / name).read_bytes(), "path": Path(name).name}, **row}


# Command ------------------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `tcm-hf prepare`."""
    describe(
        parser,
        "Writes a benchmark as a folder that datasets.load_dataset('imagefolder', data_dir=OUT) loads: pictures and "
        "metadata.jsonl (polygons, ignore, text, width, height), with report.json. A run that was killed goes on where it "
        "was. Nothing is downloaded.",
    )
    parser.add_argument("format", metavar="FORMAT", help="format of SRC, see below")
    parser.add_argument("source", metavar="SRC", type=Path, help="folder or annotation file")
    parser.add_argument("output", metavar="OUT", type=Path, help="the folder to make")
    parser.add_argument("--split", metavar="NAME", help="read this split only; OUT/NAME is written (default: train)")
    parser.add_argument("--output-split", metavar="NAME", help="name of the split in OUT, when it is another one")
    add_source_options(parser)
    placing = parser.add_mutually_exclusive_group()
    for name, text in (("copy", "copy the pictures (default)"), ("link", "link them"), ("hardlink", "link them hard")):
        placing.add_argument(f"--{name}", dest="placing", action="store_const", const=name, default="copy", help=text)
    parser.add_argument("--no-repair", action="store_true", help="write every outline as it is, degenerate ones too")
    parser.add_argument("--verify", action="store_true", help="decode every picture and leave out damaged ones")
    parser.add_argument("--skip-bad", action="store_true", help="leave out pictures whose annotation cannot be meant")
    parser.add_argument(
        "--parquet", type=Path, metavar="DIR", help="also write parquet shards with the pictures, for the Hub"
    )
    parser.add_argument("--shard-size", type=float, default=SHARD_MEGABYTES, metavar="MB", help="default: %(default)s")
    parser.add_argument(
        "--overwrite", action="store_true", help="remove what an earlier run made in OUT, and its parquet"
    )


def describe(parser: argparse.ArgumentParser, text: str) -> None:
    """Sets the description of a command that reads data sets, and appends the formats."""
    lines = [
        textwrap.fill(f"{entry.name:10} {entry.title}: {entry.layout}", 100, subsequent_indent=" " * 13)
        for entry in FORMATS.values()
    ]
    parser.description = textwrap.fill(text, 100)
    parser.epilog = "formats:\n" + textwrap.indent("\n".join(lines), "  ")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Options of reading, which `prepare` and `inspect` share."""
    parser.add_argument(
        "--images", type=Path, action="append", metavar="DIR", help="folder of pictures; may be repeated"
    )
    parser.add_argument("--annotations", type=Path, metavar="DIR", help="folder of annotation files")
    parser.add_argument("--missing", choices=MISSING_CHOICES, help="annotations without picture (default: error)")
    parser.add_argument(
        "--frame-size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="size of the annotated pictures, when SRC has resized copies",
    )
    parser.add_argument(
        "--orientation", choices=ORIENTATION_CHOICES, help="what annotations of pictures turned by EXIF refer to"
    )
    parser.add_argument("--encoding", metavar="NAME", help="encoding of annotation files (default: UTF-8)")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="another option of the reader; may be repeated",
    )


def source_options(arguments: argparse.Namespace) -> dict:
    """The options of `read_dataset` that a command line names."""
    options = {
        "images": arguments.images,
        "annotations": arguments.annotations,
        "split": arguments.split,
        "missing": arguments.missing,
        "record_size": tuple(arguments.frame_size) if arguments.frame_size else None,
        "orientation": arguments.orientation,
        "encoding": arguments.encoding,
    }
    for text in arguments.option:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--option {text!r}: expected NAME=JSON")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return {name: value for name, value in options.items() if value is not None}


def run(arguments: argparse.Namespace) -> int:
    """
    Runs `tcm-hf prepare`.

    Returns:
        `int`: 0, or 1 when pictures had to be left out.

    Raises:
        ValueError, OSError: for a wrong command line, source or output; the message says what to change.
    """
    entry = find_format(arguments.format)
    options = source_options(arguments)
    errors: list[str] = []
    reader_options = dict(options)
    if arguments.skip_bad:
        reader_options["on_error"] = lambda error: errors.append(str(error))
    split = arguments.output_split or arguments.split or "train"
    if not re.fullmatch(r"[A-Za-z0-9_]+", split):
        raise ValueError(f"--output-split {split!r}: letters, digits and _ only")
    root = arguments.output / split
    if arguments.overwrite:
        _remove_earlier(root)
    records = read_dataset(entry.name, arguments.source, **reader_options)
    try:
        report = prepare_dataset(
            records,
            root,
            source=arguments.source,
            placing=arguments.placing,
            repair=not arguments.no_repair,
            verify=arguments.verify,
            languages=entry.languages,
            settings={
                "format": entry.name,
                "source": str(arguments.source.absolute()),
                "split": split,
                "options": options,
            },
            errors=errors,
            progress=True,
        )
    except AnnotationError as error:
        raise AnnotationError(f"{error} (--skip-bad leaves out such pictures; what is done so far is kept)") from error
    if report.get("already_complete"):
        print(f"{root} is complete already; --overwrite makes it anew")
    print(format_report(report))
    print(f"written to {root}; load it with datasets.load_dataset('imagefolder', data_dir={str(arguments.output)!r})")
    if arguments.parquet is not None:
        shards = write_parquet(root, arguments.parquet, split, arguments.shard_size, arguments.overwrite)
        print(f"{len(shards)} parquet file{'s' if len(shards) > 1 else ''} written to {arguments.parquet / 'data'}")
    return 1 if report["dropped_images"] else 0


def _remove_earlier(root: Path) -> None:
    """Removes what a run made, and nothing else."""
    if not ((root / JOURNAL_NAME).is_file() or (root / REPORT_NAME).is_file()):
        return
    shutil.rmtree(root / PICTURE_FOLDER, ignore_errors=True)
    for name in (METADATA_NAME, REPORT_NAME, JOURNAL_NAME, ".picture.tmp"):
        (root / name).unlink(missing_ok=True)
