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
Puts the logs of consecutive training runs together: one CSV file, and an image of loss and learning rate over the steps.

    python examples/training_curve.py --output tcm-tiny-training runs/start/checkpoint-1000 runs/tiny

Each source is a `trainer_state.json`, a directory that holds one, or a CSV file that this script wrote; the steps of a later
run count on from the earlier one's last. Writes OUTPUT.csv and OUTPUT.png.
"""

import argparse
import csv
import json
import os
from pathlib import Path
from statistics import mean

from PIL import Image, ImageDraw, ImageFont


LOSSES = {"loss": (20, 20, 20), "loss_probability": (31, 90, 180), "loss_threshold": (200, 80, 20)}


def read_runs(sources: list[Path]) -> list[dict]:
    """The logged steps of all runs, with `run` (number of the source) and `step` counted through."""
    rows, before = [], 0
    for source in sources:
        number = rows[-1]["run"] + 1 if rows else 0
        if source.suffix == ".csv":
            earlier = read_csv(source)
            rows += [{**row, "run": number + row["run"], "step": before + row["step"]} for row in earlier]
            before = rows[-1]["step"]
            continue
        path = source / "trainer_state.json" if source.is_dir() else source
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            logged = [row for row in state["log_history"] if "loss" in row]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no trainer_state.json of transformers' Trainer ({error!r})") from error
        if not logged:
            raise ValueError(f"{path} has no logged loss; train with a smaller --logging_steps")
        for row in logged:
            figures = {name: float(value) for name, value in row.items() if name.startswith("loss")}
            rate = float(row["learning_rate"])
            rows.append({"run": number, "step": before + row["step"], "learning_rate": rate, **figures})
        before += state["global_step"]
    return rows


def read_csv(path: Path) -> list[dict]:
    """The rows of an earlier output."""
    with open(path, newline="", encoding="utf-8") as file:
        try:
            rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
            rows = [{**row, "run": int(row["run"]), "step": int(row["step"])} for row in rows]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no CSV file of this script ({error!r})") from error
    if not rows:
        raise ValueError(f"{path} has no logged loss")
    return rows


def write_csv(rows: list[dict], path: Path) -> None:
    """One row for each logged step."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    temporary = path.with_name(path.name + ".part")
    with open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)


def draw_curves(rows: list[dict], path: Path, width: int = 1000, height: int = 640) -> None:
    """Losses above, each a mean over up to five logged values of its run; below, the learning rate."""
    image = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(16)
    left, right, last = 80, width - 30, rows[-1]["step"]
    losses = {name: color for name, color in LOSSES.items() if any(name in row for row in rows)}

    def panel(top, bottom, ceiling, title):
        draw.line([left, top, left, bottom, right, bottom], fill="black", width=2)
        draw.text((left + 10, top - 4), title, fill="black", font=font, anchor="lb")
        for share in (0, 0.5, 1):
            y = bottom - share * (bottom - top)
            draw.text((left - 10, y), f"{share * ceiling:.3g}", fill="black", font=font, anchor="rm")
            draw.line([left, y, right, y], fill=(225, 225, 225))

        def place(step, value):
            return left + step / last * (right - left), bottom - min(value / ceiling, 1.0) * (bottom - top)

        return place

    place = panel(40, 440, max(row["loss"] for row in rows), "training loss")
    for line, (name, color) in enumerate(losses.items()):
        for number in range(rows[-1]["run"] + 1):
            run = [row for row in rows if row["run"] == number and name in row]
            recent = [[row[name] for row in run[max(i - 4, 0) : i + 1]] for i in range(len(run))]
            draw.line([place(row["step"], mean(values)) for row, values in zip(run, recent)], fill=color, width=2)
        draw.text((right, 48 + 22 * line), name, fill=color, font=font, anchor="rm")
    place = panel(490, 580, max(row["learning_rate"] for row in rows) or 1.0, "learning rate")
    draw.line([place(row["step"], row["learning_rate"]) for row in rows], fill=(0, 120, 60), width=2)
    draw.text((right, 605), f"{last} steps", fill="black", font=font, anchor="rm")
    temporary = path.with_name(path.stem + ".part.png")
    image.save(temporary)
    os.replace(temporary, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", type=Path, help="trainer_state.json or CSV files, or directories")
    parser.add_argument("--output", required=True, type=Path, help="name of the files, without suffix")
    arguments = parser.parse_args()
    try:
        rows = read_runs(arguments.sources)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    write_csv(rows, arguments.output.with_name(arguments.output.name + ".csv"))
    draw_curves(rows, arguments.output.with_name(arguments.output.name + ".png"))
    print(f"{len(rows)} logged values of {rows[-1]['step']} steps")


if __name__ == "__main__":
    main()
