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

"""
Measures how a detector with TCM's text side and its baseline without it learn from few images.

Every cell of the grid fractions x {text side, baseline} x seeds is one run of `train_text_detection.py` with the arguments
after `--`, which say where training starts, on what, for how many steps, and what is measured:

    python examples/few_shot_curve.py --output_dir runs/few_shot --fractions 0.01 0.05 0.1 0.25 1 --seeds 0 1 2 -- \
        --config_name examples/configs/tcm-tiny.json --image_dir icdar2015/images --gt_dir icdar2015/gt \
        --holdout_last_digit 1 --max_steps 2000 --samples_per_epoch 1000 --per_device_train_batch_size 8

All cells have the same budget of steps. Subsets of one seed lie inside each other, and both sides of a comparison see the same
images; the list is `subset.json` in the cell's folder. Finished cells are skipped and interrupted ones resumed, so that the
command can be given again. Written are `results.json`, `table.md` and `curve.png`, of all finished cells in the folder: so
the two sides can also be given one after the other or at the same time, with `--sides`, where each starts from a checkpoint of
its own.

Several starts are compared with `--start`, a name and the arguments that belong to it, once for each:

    python examples/few_shot_curve.py --output_dir runs/starts --start scratch "--config_name runs/start/config.json" \
        --start "own towers" "--model_name_or_path runs/start" -- --image_dir icdar2015/images ...
"""

import argparse
import itertools
import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont


SCRIPT = Path(__file__).resolve().parent / "train_text_detection.py"
SIDES = {"text side": "true", "baseline": "false"}
COLORS = {"text side": (200, 60, 40), "baseline": (40, 90, 170)}


def label_of(cell: dict) -> str:
    """The curve that a cell belongs to: its side, after its start where several are compared."""
    return f"{cell['start']}, {cell['side']}" if cell.get("start") else cell["side"]


def labels_of(cells: list[dict]) -> dict[str, tuple[str | None, str]]:
    """The curves of some cells, each with its start and side, by start."""
    found = {(cell.get("start"), cell["side"]) for cell in cells}
    found = sorted(found, key=lambda pair: (pair[0] or "", list(SIDES).index(pair[1])))
    return {label_of({"start": start, "side": side}): (start, side) for start, side in found}


def part_of(path: Path) -> Path:
    """Temporary name of a file, one for each process: the two sides may run at the same time."""
    return path.with_name(f"{path.name}.{os.getpid()}.part")


def write(path: Path, content: str) -> None:
    temporary = part_of(path)
    temporary.write_text(content, encoding="utf-8")
    os.replace(temporary, path)


def published(command: list[str]) -> list[str]:
    """The command without tokens, as results may be published."""
    kept, skip = [], False
    for argument in command:
        token = _names_token(argument)
        if not skip and not token:
            kept.append(argument)
        skip = token and "=" not in argument
    return kept


def _names_token(argument: str) -> bool:
    """Whether an argument is `--token` or `--hub_token`, which may be written with hyphens and cut short."""
    name = argument.split("=")[0].replace("_", "-")
    return name.startswith(("--to", "--hub-t")) and ("--token".startswith(name) or "--hub-token".startswith(name))


def read_cell(path: Path) -> dict:
    """What `run_cell` stored; former versions may have stored tokens with it."""
    cell = json.loads(path.read_text(encoding="utf-8"))
    return {**cell, "command": published(cell["command"])}


def run_cell(
    directory: Path, fraction: float, side: str, seed: int, train_arguments: list[str], start_name: str | None = None
) -> dict | None:
    """Trains and measures one cell, unless that was done before; `None` if it failed."""
    result_file = directory / "cell.json"
    command = [sys.executable, str(SCRIPT), *train_arguments]
    command += ["--train_fraction", str(fraction), "--subset_seed", str(seed), "--seed", str(seed)]
    command += ["--text_side", SIDES[side], "--output_dir", str(directory), "--resume_from_checkpoint", "last"]
    if result_file.is_file():
        cell = read_cell(result_file)
        given = published(command[2:])
        if cell["command"][1:] != given:
            before, now = Counter(cell["command"][1:]), Counter(given)
            other = [*(before - now), *(now - before)] or ["their order"]
            print(
                f"{directory}: measured before, with other arguments ({', '.join(other)}); remove the folder to measure anew",
                file=sys.stderr,
            )
        return cell
    directory.mkdir(parents=True, exist_ok=True)
    start = time.time()
    with open(directory / "log.txt", "a", encoding="utf-8") as log:
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode
    metrics_file = directory / "eval_results.json"
    if code or not metrics_file.is_file():
        tail = (directory / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
        reason = "\n  ".join(tail) if code else "nothing was measured: the arguments name no images to measure on"
        print(f"{directory}: failed ({code})\n  {reason}", file=sys.stderr)
        return None
    metrics = json.loads(metrics_file.read_text(encoding="utf-8"))
    subset = json.loads((directory / "subset.json").read_text(encoding="utf-8"))
    cell = {
        "fraction": fraction,
        **({"start": start_name} if start_name else {}),
        "side": side,
        "seed": seed,
        "pictures": subset["count"],
        **{name: metrics[f"eval_{name}"] for name in ("hmean", "precision", "recall")},
        "measured_on": metrics["eval_num_images"],
        "seconds": round(time.time() - start),
        "command": published(command[1:]),
    }
    write(result_file, json.dumps(cell, indent=1))
    return cell


def finished_cells(directory: Path) -> list[dict]:
    """Results of all cells in a folder, by seed, fraction, start and side."""
    cells = [read_cell(path) for path in directory.glob("*/cell.json")]
    order = list(labels_of(cells))
    return sorted(cells, key=lambda cell: (cell["seed"], cell["fraction"], order.index(label_of(cell))))


def summarize(cells: list[dict]) -> list[dict]:
    """Mean and spread of hmean over the seeds, for each fraction and curve."""
    rows = []
    for fraction in sorted({cell["fraction"] for cell in cells}):
        row = {"fraction": fraction, "pictures": max(c["pictures"] for c in cells if c["fraction"] == fraction)}
        for label in labels_of(cells):
            values = [c["hmean"] for c in cells if c["fraction"] == fraction and label_of(c) == label]
            if values:
                row[label] = statistics.mean(values)
                row[f"{label} deviation"] = statistics.stdev(values) if len(values) > 1 else None
                row[f"{label} runs"] = len(values)
        rows.append(row)
    return rows


def table(cells: list[dict]) -> str:
    """Of each start both sides and their difference."""
    starts = list(dict.fromkeys(start for start, _ in labels_of(cells).values()))
    names = [[label_of({"start": start, "side": side}) for side in SIDES] for start in starts]
    headings = [heading for pair in names for heading in (*pair, "difference")]
    lines = ["| training images | " + " | ".join(headings) + " |", "|" + (1 + len(headings)) * "---|"]
    for row in summarize(cells):
        columns = []
        for pair in names:
            for label in pair:
                text = f"{row[label]:.3f}" if label in row else ""
                if row.get(f"{label} deviation") is not None:
                    text += f" ± {row[f'{label} deviation']:.3f} ({row[f'{label} runs']} runs)"
                columns.append(text)
            columns.append(f"{row[pair[0]] - row[pair[1]]:+.3f}" if all(label in row for label in pair) else "")
        lines.append(f"| {100 * row['fraction']:g} % ({row['pictures']}) | " + " | ".join(columns) + " |")
    return "\n".join(lines) + "\n"


def colors_of(labels: dict[str, tuple[str | None, str]]) -> dict[str, tuple[int, ...]]:
    """A color for each curve: of its side, and the paler the later its start."""
    starts = list(dict.fromkeys(start for start, _ in labels.values()))
    shares = {start: 0.6 * number / max(1, len(starts) - 1) for number, start in enumerate(starts)}
    return {
        label: tuple(round(value + shares[start] * (255 - value)) for value in COLORS[side])
        for label, (start, side) in labels.items()
    }


def draw_curve(cells: list[dict], path: Path, width: int = 900, height: int = 560) -> None:
    """hmean over the share of training images, on a logarithmic axis; bars show the deviation over seeds."""
    rows, colors = summarize(cells), colors_of(labels_of(cells))
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(18)
    left, top, right, bottom = 80, 30, width - 40, height - 80
    fractions = [row["fraction"] for row in rows]
    low, high = math.log10(min(fractions)), math.log10(max(fractions))
    values = [row[label] + (row[f"{label} deviation"] or 0) for row in rows for label in colors if label in row]
    ceiling = max(0.1, math.ceil(10 * max(values, default=0)) / 10)

    def place(fraction: float, value: float) -> tuple[float, float]:
        share = (math.log10(fraction) - low) / (high - low) if high > low else 0.5
        return left + share * (right - left), bottom - value / ceiling * (bottom - top)

    steps = round(10 * ceiling)
    for step in range(steps + 1):
        y = bottom - step / steps * (bottom - top)
        draw.line([left, y, right, y], fill=(225, 225, 225))
        draw.text((left - 12, y), f"{step / 10:.1f}", fill="black", font=font, anchor="rm")
    for row in rows:
        x, _ = place(row["fraction"], 0)
        draw.line([x, bottom, x, bottom + 6], fill="black")
        draw.text((x, bottom + 10), f"{100 * row['fraction']:g} %", fill="black", font=font, anchor="mt")
        draw.text((x, bottom + 30), f"({row['pictures']})", fill=(110, 110, 110), font=font, anchor="mt")
    draw.line([left, top, left, bottom, right, bottom], fill="black", width=2)
    draw.text((left + 10, top - 4), "hmean", fill="black", font=font, anchor="lb")
    draw.text(((left + right) / 2, height - 8), "training images", fill="black", font=font, anchor="mb")
    for number, (label, color) in enumerate(colors.items()):
        points = [(row["fraction"], row[label], row[f"{label} deviation"] or 0) for row in rows if label in row]
        draw.line([place(x, y) for x, y, _ in points], fill=color, width=3)
        for fraction, value, deviation in points:
            x, y = place(fraction, value)
            draw.line([place(fraction, value - deviation), place(fraction, value + deviation)], fill=color, width=2)
            draw.ellipse([x - 5, y - 5, x + 5, y + 5], fill=color)
        draw.text((right, bottom - 30 - 26 * (len(colors) - 1 - number)), label, fill=color, font=font, anchor="rm")
    temporary = part_of(path)
    image.save(temporary, format="PNG")
    os.replace(temporary, path)


def write_results(directory: Path) -> None:
    """Writes `results.json`, `table.md` and `curve.png` of what is finished."""
    cells = finished_cells(directory)
    write(directory / "results.json", json.dumps({"summary": summarize(cells), "cells": cells}, indent=1))
    write(directory / "table.md", table(cells))
    draw_curve(cells, directory / "curve.png")


def main():
    own, separator, train_arguments = sys.argv[1:], "--" in sys.argv, []
    if separator:
        position = own.index("--")
        own, train_arguments = own[:position], own[position + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", required=True, type=Path, help="one folder for each cell, and the results")
    parser.add_argument(
        "--fractions", type=float, nargs="+", default=[0.01, 0.05, 0.1, 0.25, 0.5, 1.0], help="shares of the images"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of subset and training")
    parser.add_argument("--sides", nargs="+", choices=sorted(SIDES), default=list(SIDES), help="what is compared")
    parser.add_argument(
        "--start",
        nargs=2,
        action="append",
        metavar=("NAME", "ARGUMENTS"),
        help="one of several starts: its name, and arguments of training that it has besides those after --",
    )
    arguments = parser.parse_args(own)
    starts = {name: shlex.split(text) for name, text in arguments.start or [("", "")]}
    given = {*train_arguments, *(argument for own_arguments in starts.values() for argument in own_arguments)}
    taken = {"--output_dir", "--seed", "--subset_seed", "--train_fraction", "--text_side"} & given
    if taken:
        parser.error(f"{', '.join(sorted(taken))} differ from cell to cell: leave them out")
    if not all(0 < fraction <= 1 for fraction in arguments.fractions):
        parser.error(f"--fractions must be above 0 and at most 1 (1 % is 0.01), got {arguments.fractions}")
    if not train_arguments:
        parser.error("give the arguments of train_text_detection.py after --")

    failed = 0
    # By seeds first: after the first seed there is a whole curve.
    for seed, fraction in itertools.product(arguments.seeds, sorted(arguments.fractions)):
        for (start, own_arguments), side in itertools.product(starts.items(), arguments.sides):
            name = f"{100 * fraction:g}_percent-{side.replace(' ', '_')}-seed_{seed}"
            if start:
                name = f"{start.replace(' ', '_')}-{name}"
            directory = arguments.output_dir / name
            cell = run_cell(directory, fraction, side, seed, [*train_arguments, *own_arguments], start)
            if cell is None:
                failed += 1
                continue
            print(f"{name}: hmean {cell['hmean']:.4f} with {cell['pictures']} images", flush=True)
            write_results(arguments.output_dir)
    cells = finished_cells(arguments.output_dir)
    if cells:
        print(table(cells), end="")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
