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
What TCM does on a GPU, in at most eight minutes: agreement with the CPU, speed and memory of inference, training.

    python benchmarks/gpu.py --output gpu_results               # all sections on the first GPU
    python benchmarks/gpu.py --output gpu_results --sections speed --seconds 200
    python benchmarks/gpu.py --output gpu_results --dry_run     # tiny models and sizes on the CPU: does every line run?

`maps` compares the maps, and the polygons of trained checkpoints, with the CPU's in float32. `speed` measures images a second
and memory, and with files the share of time that the GPU waits for them. `training` trains TCM-DB on RN50 with the Trainer and
with the plain loop: images a second, the share of time that the GPU waits for data, whether the loss falls, and how far the
losses of a resumed run are from the unbroken one's. Every section has its share of the time. `gpu.json` and `gpu.md` are
written anew after every row; a row that fails has its error instead of figures, and what there was no time for is said.
Images are drawn, so nothing but the repository is needed.
"""

import argparse
import contextlib
import copy
import functools
import gc
import itertools
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from accelerate.state import AcceleratorState
from PIL import Image, ImageDraw, ImageFont
from torch import nn
from transformers import TrainerCallback, pipeline

from tcm_hf import TCMConfig, TCMForTextDetection, checkpoint_path
from tcm_hf.commands.detection_loop import LoopOptions, detect_images
from tcm_hf.inputs import iterate_images
from tcm_hf.model.image_loading import load_rgb_image
from tcm_hf.model.image_processing_tcm import TCMImageProcessor
from tcm_hf.model.polygons import polygon_iou
from tcm_hf.training.arguments import TCMTrainingArguments
from tcm_hf.training.loop import TrainingLoop, build_accelerator
from tcm_hf.training.options import DataArguments, LoopArguments, ModelArguments
from tcm_hf.training.setup import prepare_run
from tcm_hf.training.trainer import TCMTrainer


ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "examples" / "sample.jpg"
RN50 = json.loads((ROOT / "examples" / "configs" / "tcm-db-rn50.json").read_text(encoding="utf-8"))
VIT_B16 = {
    "vision_config": {
        **{"model_type": "clip_vision_model", "image_size": 224, "patch_size": 16, "projection_dim": 512},
        **{"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    },
    "text_config": {"projection_dim": 512},
    "pyramid_channels": 256,
}
# Networks that no checkpoint of is at hand have random weights; the maps' difference is theirs all the same.
RANDOM = {
    "TCM-DB RN50": RN50,
    "TCM-PAN RN50": {**RN50, "detector": "pan"},
    "TCM-FCE RN50": {**RN50, "detector": "fce"},
    "TCM-DB ViT-B/16": VIT_B16,
}
BUNDLED = ("tcm-small", "tcm-tiny")
SECTIONS = {"maps": 0.2, "speed": 0.4, "training": 0.4}  # and the share of the time of each


# ---------------------------------------------------------------------- what both runs, and the dry one, differ in


class Scale:
    """Sizes of everything; those of the dry run are tiny."""

    def __init__(self, device: str, is_dry: bool):
        self.device, self.is_dry = torch.device(device), is_dry
        cores = os.cpu_count() or 1
        self.workers = [0, 1] if is_dry else sorted({0, 1, 4, 8, min(15, max(cores - 1, 1))})
        self.loader_workers = 0 if is_dry else min(15, max(cores - 1, 1))
        self.map_size = (64, 96) if is_dry else (640, 640)
        self.sizes = [(64, 96)] if is_dry else [(640, 640), (736, 1280)]
        self.batches = [2] if is_dry else [1, 8, 32]
        self.middle_batch = 2 if is_dry else 8
        self.bundled = BUNDLED[1:] if is_dry else BUNDLED
        self.speed_models = ("TCM-DB RN50",) if is_dry else ("tcm-small", "TCM-DB RN50")
        # Rows of each section that are compiled, which is what takes longest.
        self.compiled_rows = 1 if is_dry else None
        self.seconds = 0.0 if is_dry else 1.0  # of measuring, for each row of `speed`
        self.files = 3 if is_dry else 96
        self.steps, self.batch, self.crop = (4, 2, 64) if is_dry else (200, 16, 640)
        self.photos, self.photo_size = (4, (96, 160)) if is_dry else (64, (720, 1280))
        # Without a compiler: whether the model can be traced shows all the same.
        self.backend = "eager" if is_dry else "inductor"

    def fields(self, fields: dict) -> dict:
        """A network's configuration, in small for the dry run."""
        if not self.is_dry:
            return fields
        vision = {"width": 8, "depths": [1, 1, 1, 1], "image_size": 64}
        if fields["vision_config"].get("model_type") == "clip_vision_model":
            vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        return {
            **fields,
            "vision_config": {**fields["vision_config"], **vision, "projection_dim": 32},
            "text_config": {**text, "projection_dim": 32},
            "detector_config": {"neck_channels": 16},
            **{"decoder_layers": 1, "decoder_hidden_size": 16, "decoder_ffn_dim": 32},
        }

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class OutOfTime(BaseException):
    """A section's time is over; no `except Exception` of what runs then holds it back."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    def stop(*_):
        raise OutOfTime

    previous = signal.signal(signal.SIGALRM, stop)
    # Again and again: an error that is raised in a finalizer is lost.
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01), 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


class Report:
    """Rows of every section, on the disk as soon as they are there."""

    def __init__(self, folder: Path, facts: dict):
        self.folder, self.facts = folder, facts
        self.rows: dict[str, list[dict]] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def row(self, section: str, names: dict, measure: Callable[[dict], None]) -> None:
        """Runs `measure`, which fills the row that it is given; what it has filled in by then outlives its failure."""
        row = dict(names)
        try:
            measure(row)
        except OutOfTime:
            signal.setitimer(signal.ITIMER_REAL, 0)
            row["error"] = "out of time"
            raise
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {(str(error).strip() or '-').splitlines()[0][:300]}"
        finally:
            self.add(section, row)
            free_memory()

    def add(self, section: str, row: dict) -> None:
        self.rows.setdefault(section, []).append(row)
        self.write()
        print(f"{section}: " + ", ".join(f"{key} {as_text(value)}" for key, value in row.items()), flush=True)

    def write(self) -> None:
        for name, text in (("gpu.json", self.as_json()), ("gpu.md", self.as_markdown())):
            part = self.folder / f"{name}.part"
            part.write_text(text, encoding="utf-8")
            os.replace(part, self.folder / name)

    def as_json(self) -> str:
        return json.dumps({**self.facts, "sections": self.rows}, indent=1) + "\n"

    def as_markdown(self) -> str:
        lines = [", ".join(f"{key} {as_text(value)}" for key, value in self.facts.items())]
        for section, rows in self.rows.items():
            columns = list(dict.fromkeys(key for row in rows for key in row))
            lines += ["", f"## {section}", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
            for row in rows:
                cells = [as_text(row[key]).replace("|", "/") if key in row else "" for key in columns]
                lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"


def as_text(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def free_memory() -> None:
    torch.compiler.reset()
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def facts_of(scale: Scale) -> dict:
    cuda = scale.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(scale.device) if cuda else f"CPU ({platform.machine()})",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        **({"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()} if cuda else {}),
        "dry run": scale.is_dry,
    }


# ---------------------------------------------------------------------- models and images


def draw_photos(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Scenes with words in ICDAR 2015's form, in the folders `images` and `gt`; from Pillow's own font."""
    height, width = size
    for name in ("images", "gt"):
        (folder / name).mkdir(parents=True)
    for number in range(1, count + 1):
        rng = np.random.default_rng(number)
        coarse = rng.integers(0, 256, (9, 16, 3), dtype=np.uint8)
        image = Image.fromarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
        draw, lines = ImageDraw.Draw(image), []
        for row in range(4):
            font = ImageFont.load_default(size=int(rng.integers(height // 16, height // 6)))
            word = "".join(rng.choice(list("ABCDEFGHKLMNOPRSTUVWXYZ"), int(rng.integers(3, 9))))
            corner = int(rng.integers(0, width // 2)), row * height // 4 + 2
            color = tuple(int(x) for x in rng.integers(0, 256, 3))
            draw.text(corner, word, fill=color, font=font)
            left, top, right, bottom = (round(x) for x in draw.textbbox(corner, word, font=font))
            lines.append(f"{left},{top},{right},{top},{right},{bottom},{left},{bottom},{word}\n")
        image.save(folder / "images" / f"img_{number}.jpg", quality=90)
        (folder / "gt" / f"gt_img_{number}.txt").write_text("".join(lines), encoding="utf-8")


def sample_pixels(size: tuple[int, int], batch: int = 1) -> torch.Tensor:
    """The sample image in a network's form, (batch, 3, height, width); the images of a batch differ."""
    image = cv2.resize(np.asarray(load_rgb_image(SAMPLE)), size[::-1], interpolation=cv2.INTER_AREA)
    processor = TCMImageProcessor(size={"height": size[0], "width": size[1]})
    turns = [np.roll(image, 7 * number, axis=1) for number in range(batch)]
    return processor(turns, return_tensors="pt", do_pad=False)["pixel_values"]


def build_model(name: str, scale: Scale) -> TCMForTextDetection:
    """A copy of a bundled checkpoint, or of a network of random weights whose normalizations have seen the sample image."""
    return copy.deepcopy(_model(name, scale))


@functools.cache
def _model(name: str, scale: Scale) -> TCMForTextDetection:
    if name in BUNDLED:
        return TCMForTextDetection.from_pretrained(checkpoint_path(name), dtype=torch.float32).eval()
    torch.manual_seed(0)
    model = TCMForTextDetection(TCMConfig(**scale.fields(RANDOM[name])))
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(sample_pixels((64, 96) if scale.is_dry else (320, 320), 2))
    for norm in norms:
        norm.momentum = 0.1
    return model.eval()


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether float32 is multiplied with ten bits of mantissa, in convolutions and elsewhere."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


# What a row changes about a model: precision, memory format, whether it is compiled and how, whether float32 may be TF32.
VARIANTS: dict[str, dict] = {
    "float32": {},
    "TF32": {"tf32": True},
    "bfloat16": {"dtype": torch.bfloat16},
    "float16": {"dtype": torch.float16},
    "float32, channels-last": {"channels_last": True},
    "bfloat16, channels-last": {"dtype": torch.bfloat16, "channels_last": True},
    "float32, compiled": {"compile": {}},
    "bfloat16, channels-last, compiled": {"dtype": torch.bfloat16, "channels_last": True, "compile": {}},
    # Inductor's own folding of normalizations into convolutions.
    "bfloat16, channels-last, compiled and folded": {
        **{"dtype": torch.bfloat16, "channels_last": True, "compile": {"freezing": True}}
    },
    "bfloat16, optimize_for_inference": {"dtype": torch.bfloat16, "optimize": True},
}
ON_CPU_ONLY = "runs on the CPU only: on other devices it changes nothing"


def make_variant(model: TCMForTextDetection, settings: dict, scale: Scale) -> Callable[[torch.Tensor], object]:
    """The model, changed in place, as a function of pixels in float32."""
    dtype = settings.get("dtype", torch.float32)
    layout = torch.channels_last if settings.get("channels_last") else torch.contiguous_format
    model = model.to(scale.device, dtype).to(memory_format=layout)
    if settings.get("optimize"):
        model.optimize_for_inference()
    function: Callable = model
    if "compile" in settings:
        options = settings["compile"] if scale.backend == "inductor" else None
        function = torch.compile(model, backend=scale.backend, dynamic=False, options=options or None)

    def run(pixels: torch.Tensor):
        with torch.no_grad(), tf32(bool(settings.get("tf32"))):
            pixels = pixels.to(scale.device, dtype, non_blocking=True).contiguous(memory_format=layout)
            return function(pixels)

    return run


def levels_of(outputs) -> list[torch.Tensor]:
    logits = outputs.logits if isinstance(outputs.logits, tuple) else (outputs.logits,)
    return [level.float().cpu() for level in logits]


# ---------------------------------------------------------------------- maps


def compare_maps(report: Report, scale: Scale) -> None:
    """Maps of every precision and way against the CPU's in float32; the compiled ways come last, since they take longest."""
    names = (*scale.bundled, *RANDOM)
    slow = [(name, variant) for name in scale.speed_models for variant in VARIANTS if "compiled" in variant]
    quick = [(name, variant) for name in names for variant in VARIANTS if "compiled" not in variant]
    references: dict[str, object] = {}
    for name, variant in quick + slow[: scale.compiled_rows]:

        def measure(row: dict, name: str = name, variant: str = variant) -> None:
            pixels = sample_pixels(scale.map_size)
            if name not in references:
                with torch.no_grad():
                    references[name] = build_model(name, scale)(pixels)
            if VARIANTS[variant].get("optimize") and scale.device.type != "cpu":
                row["note"] = ON_CPU_ONLY
                return
            outputs = make_variant(build_model(name, scale), VARIANTS[variant], scale)(pixels)
            pairs = list(zip(levels_of(outputs), levels_of(references[name])))
            largest = max(float(theirs.abs().max()) for _, theirs in pairs)
            row["relative difference"] = max(float((a - b).abs().max()) for a, b in pairs) / largest
            if name in BUNDLED:
                row["probability differs by"] = max(float((a.sigmoid() - b.sigmoid()).abs().max()) for a, b in pairs)
                row["polygons"] = compare_polygons(name, outputs, references[name], scale.map_size)

        report.row("maps", {"model": name, "way": variant}, measure)


def compare_polygons(name: str, outputs, reference, size: tuple[int, int]) -> str:
    """How the polygons of a checkpoint match the reference's, one to one."""
    processor = TCMImageProcessor.from_pretrained(checkpoint_path(name))
    ours, theirs = (
        processor.post_process_text_detection(each, target_sizes=[size])[0]["polygons"]
        for each in (outputs, reference)
    )
    best = [max((polygon_iou(a, b) for a in ours), default=0.0) for b in theirs]
    least = f", least IoU {min(best):.3f}" if best else ""
    return f"{len(theirs)} -> {len(ours)}, {sum(x > 0.95 for x in best)} with IoU > 0.95{least}"


# ---------------------------------------------------------------------- speed


class IdleMeter:
    """
    Time between the end of one piece of work and the beginning of the next, and of all, as the device sees it: where the
    processor is ahead of a GPU, the GPU does not wait.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.marks: list[tuple] = []

    def _mark(self):
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def begin(self) -> None:
        self.first = self._mark()

    def end(self) -> None:
        self.marks.append((self.first, self._mark()))

    def _seconds(self, start, end) -> float:
        return start.elapsed_time(end) / 1000 if self.device.type == "cuda" else end - start

    def measure(self, skip: int) -> tuple[float, float]:
        """Seconds from the begin of the piece after `skip` to the end of the last, and the share of waiting in them."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        marks = self.marks[skip:]
        total = self._seconds(marks[0][0], marks[-1][1])
        waiting = sum(self._seconds(before[1], after[0]) for before, after in itertools.pairwise(marks))
        return total, waiting / total


def measure_speed(report: Report, scale: Scale) -> None:
    """Forward passes of images that are on the device, then files from the disk to polygons."""
    models = scale.speed_models
    ways = ("float32", "TF32", "bfloat16", "bfloat16, channels-last", "bfloat16, optimize_for_inference")
    compiled = ("bfloat16, channels-last, compiled", "bfloat16, channels-last, compiled and folded")
    quick = list(itertools.product(models, ways, scale.sizes, scale.batches))
    # Every shape is compiled anew: one batch has to do.
    slow = list(itertools.product(models, compiled, scale.sizes, [scale.middle_batch]))[: scale.compiled_rows]
    for name, way, size, batch in quick:
        names = {"model": name, "way": way, "size": f"{size[0]}x{size[1]}", "batch": batch}
        report.row("speed", names, functools.partial(measure_forward, scale, name, way, size, batch))
    measure_files(report, scale)
    for name, way, size, batch in slow:
        names = {"model": name, "way": way, "size": f"{size[0]}x{size[1]}", "batch": batch}
        report.row("speed", names, functools.partial(measure_forward, scale, name, way, size, batch))


def measure_forward(scale: Scale, name: str, way: str, size: tuple[int, int], batch: int, row: dict) -> None:
    settings = VARIANTS[way]
    if settings.get("optimize") and scale.device.type != "cpu":
        row["note"] = ON_CPU_ONLY
        return
    pixels = sample_pixels(size, batch).to(scale.device)
    if scale.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(scale.device)
    start = time.perf_counter()
    run = make_variant(build_model(name, scale), settings, scale)
    for _ in range(1 if scale.is_dry else 3):
        run(pixels)
    scale.synchronize()
    if "compile" in settings:
        row["seconds to compile"] = time.perf_counter() - start
    seconds: list[float] = []
    while not seconds or (sum(seconds) < scale.seconds and len(seconds) < 200):
        start = time.perf_counter()
        run(pixels)
        scale.synchronize()
        seconds.append(time.perf_counter() - start)
    row["images/s"] = batch / statistics.median(seconds)
    if scale.device.type == "cuda":
        row["GiB"] = torch.cuda.max_memory_allocated(scale.device) / 2**30


def measure_files(report: Report, scale: Scale) -> None:
    """JPEG files to polygons with threads that decode and post-process beside the model, as `tcm-hf detect` has them."""
    with tempfile.TemporaryDirectory() as folder:
        draw_photos(Path(folder) / "photos", scale.files, scale.photo_size)
        images = str(Path(folder) / "photos" / "images")
        for workers in scale.workers:

            def measure(row: dict, workers: int = workers) -> None:
                detector = pipeline(
                    "text-detection",
                    model=checkpoint_path(scale.bundled[0]),
                    device=scale.device,
                    dtype=torch.bfloat16,
                )
                meter, forward = IdleMeter(scale.device), detector.forward

                def timed(*arguments, **settings):
                    meter.begin()
                    outputs = forward(*arguments, **settings)
                    meter.end()
                    return outputs

                detector.forward = timed
                options = LoopOptions(batch_size=scale.middle_batch, workers=workers)
                # The first pass warms up.
                for _ in range(1 if scale.is_dry else 2):
                    meter.marks.clear()
                    start = time.perf_counter()
                    entries = [entry for _, entry, _ in detect_images(detector, iterate_images(images), options)]
                    seconds = time.perf_counter() - start
                failures = [entry["error"] for entry in entries if "error" in entry]
                if failures:
                    raise RuntimeError(f"{len(failures)} images failed: {failures[0]}")
                row["images/s"] = len(entries) / seconds
                row["share of waiting"] = meter.measure(0)[1]

            size = f"files of {scale.photo_size[0]}x{scale.photo_size[1]}"
            names = {"model": scale.bundled[0], "way": f"bfloat16, {workers} threads decode", "size": size}
            report.row("speed", {**names, "batch": scale.middle_batch}, measure)


# ---------------------------------------------------------------------- training


class _MeterCallback(TrainerCallback):
    """Tells the meter of every step of the Trainer's; a step begins when its batch is there."""

    def __init__(self, meter: IdleMeter):
        self.meter = meter

    def on_step_begin(self, args, state, control, **kwargs):
        self.meter.begin()

    def on_step_end(self, args, state, control, **kwargs):
        self.meter.end()


class _MeasuredLoop(TrainingLoop):
    meter: IdleMeter

    def _train_batch(self, batch: dict) -> None:
        self.meter.begin()
        super()._train_batch(batch)
        self.meter.end()


def run_trainer(
    scale: Scale, sources: tuple, output: Path, compiled: bool, resume: Path | None = None
) -> tuple[IdleMeter, dict[int, float]]:
    """Meter and logged losses by step of a run with the Trainer."""
    meter = IdleMeter(scale.device)
    arguments = TCMTrainingArguments(
        output_dir=str(output),
        max_steps=scale.steps,
        per_device_train_batch_size=scale.batch,
        learning_rate=5e-4,
        image_encoder_lr_multiplier=1.0,
        use_cpu=scale.device.type == "cpu",
        bf16=True,
        dataloader_num_workers=scale.loader_workers,
        dataloader_prefetch_factor=4 if scale.loader_workers else None,
        save_strategy="no" if compiled else "steps",
        save_steps=scale.steps // 2,
        logging_steps=max(scale.steps // 20, 1),
        disable_tqdm=True,
        report_to="none",
        torch_compile=compiled,
        torch_compile_backend=scale.backend if compiled else None,
    )
    run = prepare_run(*sources, seed=arguments.seed, total_batch_size=scale.batch)
    trainer = TCMTrainer(
        model=run.model,
        args=arguments,
        train_dataset=run.dataset,
        processing_class=run.processor,
        callbacks=[_MeterCallback(meter)],
    )
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return meter, {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}


def run_loop(
    scale: Scale, sources: tuple, output: Path, compiled: bool, resume: Path | None = None
) -> tuple[IdleMeter, dict[int, float]]:
    """The same with the plain loop, which is compiled by way of accelerate."""
    arguments = LoopArguments(
        output_dir=str(output),
        max_train_steps=scale.steps,
        per_device_train_batch_size=scale.batch,
        learning_rate=5e-4,
        image_encoder_lr_multiplier=1.0,
        use_cpu=scale.device.type == "cpu",
        mixed_precision="bf16",
        dataloader_num_workers=scale.loader_workers,
        checkpointing_steps=None if compiled else scale.steps // 2,
        logging_steps=max(scale.steps // 20, 1),
        resume_from_checkpoint=None if resume is None else str(resume),
    )
    if compiled:
        os.environ["ACCELERATE_DYNAMO_BACKEND"] = scale.backend.upper()
    try:
        accelerator = build_accelerator(arguments)
    finally:
        os.environ.pop("ACCELERATE_DYNAMO_BACKEND", None)
    run = prepare_run(*sources, seed=arguments.seed, total_batch_size=scale.batch)
    loop = _MeasuredLoop(accelerator, run, *sources, arguments)
    loop.meter = IdleMeter(scale.device)
    loop.resume()
    loop.train()
    return loop.meter, {entry["step"]: entry["loss"] for entry in loop.history if "loss" in entry}


TRAINING = {"loop": run_loop, "Trainer": run_trainer}


def measure_training(report: Report, scale: Scale) -> None:
    rows = [(way, False) for way in TRAINING] + [(way, True) for way in TRAINING][: scale.compiled_rows]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        draw_photos(root / "photos", scale.photos, scale.photo_size)
        (root / "model.json").write_text(json.dumps(scale.fields(RN50)), encoding="utf-8")
        model = ModelArguments(config_name=str(root / "model.json"), freeze_text_tower=True)
        images, annotations = [str(root / "photos" / "images")], [str(root / "photos" / "gt")]
        data = DataArguments(
            image_dir=images, gt_dir=annotations, crop_size=scale.crop, samples_per_epoch=scale.steps * scale.batch
        )
        for way, compiled in rows:
            names = {"way": way, "model": "TCM-DB RN50", "precision": "bfloat16", "compiled": compiled}
            output = root / f"{way}-{compiled}"
            train = functools.partial(TRAINING[way], scale, (model, data), output, compiled)
            report.row("training", names, functools.partial(measure_run, scale, train, output, not compiled))


def measure_run(scale: Scale, train: Callable, output: Path, resumes: bool, row: dict) -> None:
    """One row of `training`; the second half of the run is repeated from its checkpoint."""
    losses = timed_run(scale, row, train)
    steps = sorted(losses)
    few = max(len(steps) // 5, 1)
    row["first losses"] = statistics.mean(losses[step] for step in steps[:few])
    row["last losses"] = statistics.mean(losses[step] for step in steps[-few:])
    if resumes:
        half = scale.steps // 2
        resumed = timed_run(scale, {}, functools.partial(train, output / f"checkpoint-{half}"))
        row["resumed losses differ by"] = max(abs(resumed[step] / losses[step] - 1) for step in steps if step > half)


def timed_run(scale: Scale, row: dict, train: Callable) -> dict[int, float]:
    """Trains; the row gets images a second, the share of waiting and the memory, without the first steps."""
    AcceleratorState._reset_state(reset_partial_state=True)  # of the run before
    if scale.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(scale.device)
    meter, losses = train()
    skip = min(20, len(meter.marks) // 4)
    seconds, waiting = meter.measure(skip)
    row["images/s"] = scale.batch * (len(meter.marks) - skip) / seconds
    row["share of waiting"] = waiting
    row["steps"] = len(meter.marks)
    if scale.device.type == "cuda":
        row["GiB"] = torch.cuda.max_memory_allocated(scale.device) / 2**30
    return losses


# ---------------------------------------------------------------------- the run


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder of gpu.json and gpu.md")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--seconds", type=float, default=450.0, help="for all sections together")
    parser.add_argument("--device", default=None, help="by default the first GPU")
    parser.add_argument("--dry_run", action="store_true", help="tiny models and sizes, on the CPU")
    options = parser.parse_args(arguments)
    device = "cpu" if options.dry_run else options.device or "cuda"
    if device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("there is no GPU here: --dry_run tries every line on the CPU")
    scale = Scale(device, options.dry_run)
    report = Report(options.output, facts_of(scale))
    functions = {"maps": compare_maps, "speed": measure_speed, "training": measure_training}
    end = time.monotonic() + options.seconds
    for number, section in enumerate(options.sections):
        # What a section does not use is the next ones'.
        share = SECTIONS[section] / sum(SECTIONS[each] for each in options.sections[number:])
        try:
            with time_limit((end - time.monotonic()) * share):
                functions[section](report, scale)
        except OutOfTime:
            report.add(section, {"error": "the time of the section is over: rows that should follow are missing"})
    failures = [row for rows in report.rows.values() for row in rows if "error" in row]
    print(f"{sum(map(len, report.rows.values()))} rows, {len(failures)} with an error, in {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
