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
Time of one forward pass of TCM-DB on CLIP RN50, before and after each of the exact simplifications.

    python benchmarks/forward.py                      # 640x640 and 736x1280, fp32 and bf16, 2 threads
    python benchmarks/forward.py --sizes 640x640 --repetitions 9

The first row is a straightforward forward pass: the formulas as they are written, in fp32. Each row after it has one
simplification more. All rows take turns in one process, and what counts is the ratio of medians: seconds depend on the
machine and on what else runs on it. The outputs are compared with those of the first row.

The weights are those of the parity fixtures, in the official layout, through the converter; where the fixtures are not
there (`--parity`), the same architecture has random weights.
"""

import argparse
import copy
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

import tcm_hf
from tcm_hf import TCMConfig, TCMForTextDetection
from tcm_hf.conversion.convert import convert_checkpoint
from tcm_hf.model.decoding_db import decode_db
from tcm_hf.model.image_loading import load_rgb_image
from tcm_hf.model.image_processing_tcm import TCMImageProcessor
from tcm_hf.model.polygons import polygon_iou


PARITY = Path(__file__).resolve().parents[2] / "shared" / "parity"
SAMPLE = Path(__file__).resolve().parents[1] / "examples" / "sample.jpg"


# ---------------------------------------------------------------------- the straightforward forward pass


class FullCrossAttention(nn.Module):
    """Cross-attention with query and key projections and a softmax, although there is only one key."""

    def __init__(self, attention: nn.Module):
        super().__init__()
        self.num_heads, self.v_proj, self.out_proj = attention.num_heads, attention.v_proj, attention.out_proj
        channels = attention.v_proj.in_features
        # Their values do not matter: the softmax over one key is 1.
        self.q_proj, self.k_proj = nn.Linear(channels, channels, bias=False), nn.Linear(channels, channels, bias=False)
        self.to(attention.v_proj.weight.dtype)

    def forward(self, x, memory, attention_mask=None):
        query, key, value = (
            t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for t in (self.q_proj(x), self.k_proj(memory), self.v_proj(memory))
        )
        weights = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)
        return self.out_proj((weights @ value).transpose(1, 2).flatten(2)), None


def with_full_cross_attention(model: TCMForTextDetection) -> TCMForTextDetection:
    """The same weights, with the visual prompt generator's cross-attention as it is written."""
    generator = model.model.visual_prompt_generator
    kept = {id(p): p for p in model.parameters()} | {id(b): b for b in model.buffers()}
    model = copy.deepcopy(model, dict(kept))
    for layer, source in zip(model.model.visual_prompt_generator.layers, generator.layers):
        layer.cross_attention = FullCrossAttention(source.cross_attention)
        layer.norm2 = nn.LayerNorm(source.norm1.normalized_shape)
    model.config._attn_implementation = "eager"
    return model.eval()


def logits_and_threshold(model: TCMForTextDetection, pixel_values: torch.Tensor) -> torch.Tensor:
    """Logits of the probability map; the threshold branch runs too, and so does the binarization."""
    outputs = model.model(pixel_values)
    maps = model.detector(outputs.feature_maps, None, training_maps=True)
    probability, threshold = maps["logits"].sigmoid(), maps["threshold_logits"].sigmoid()
    torch.sigmoid(50 * (probability - threshold))
    return maps["logits"]


def logits_only(model: TCMForTextDetection, pixel_values: torch.Tensor) -> torch.Tensor:
    return model(pixel_values).logits


# ---------------------------------------------------------------------- weights, variants, measurement


def load(variant: str, parity: Path) -> tuple[TCMForTextDetection, str]:
    """A model of RN50 size and where its weights are from."""
    torch.manual_seed(0)
    fields = {"prompt_generator": "meta_query"} if "v2" in variant else {}
    if not (parity / variant / "manifest.json").is_file():
        text_config = {"max_position_embeddings": 18, "projection_dim": 1024}
        config = TCMConfig(text_config=text_config, vision_config={"image_size": 640}, **fields)
        return TCMForTextDetection(config).eval(), "random weights"
    sys.path.insert(0, str(parity))
    from fixture_inputs import fill

    with tempfile.TemporaryDirectory() as directory:
        weights = fill(json.loads((parity / variant / "manifest.json").read_text()))
        path = Path(directory) / "official.pth"
        torch.save({"state_dict": {key: torch.from_numpy(value) for key, value in weights.items()}}, path)
        del weights
        convert_checkpoint(path, Path(directory) / "model")
        model = TCMForTextDetection.from_pretrained(Path(directory) / "model")
        # Weights of a file are mapped; the file is about to go.
        model.load_state_dict({key: value.clone() for key, value in model.state_dict().items()}, assign=True)
    return model.eval(), f"official layout, filled as in the parity fixture {variant}"


def make_input(height: int, width: int, parity: Path) -> torch.Tensor:
    """A normalized image: the parity fixtures' or a smooth random one."""
    if (parity / "fixture_inputs.py").is_file():
        sys.path.insert(0, str(parity))
        from fixture_inputs import make_batch

        return torch.from_numpy(make_batch(height, width, [0]))
    coarse = torch.randn(1, 3, height // 16, width // 16, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")


def half(model: TCMForTextDetection) -> TCMForTextDetection:
    return copy.deepcopy(model).to(torch.bfloat16)


def variants_of(model: TCMForTextDetection) -> list[tuple[str, object, object]]:
    """Name, model and forward function of each row; each has all that the rows above it have."""
    written = with_full_cross_attention(model)
    channels_last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    optimized = copy.deepcopy(model).optimize_for_inference()
    rows = [
        ("straightforward, fp32", written, logits_and_threshold),
        ("threshold branch skipped", written, logits_only),
        ("single-key attention, fused softmax", model, logits_only),
        ("channels-last weights and maps", channels_last, channels_last_logits),
        ("optimize_for_inference", optimized, logits_only),
    ]
    if model.config.prompt_generator == "meta_query":
        constant = copy.deepcopy(optimized)
        constant.fuse_text()
        rows.append(("constant text (FastTCM)", constant.optimize_for_inference(), logits_only))
    last = rows[-1][1]
    rows.append(("straightforward, bf16 weights", half(written), logits_and_threshold))
    rows.append(("all of it, bf16 weights", half(last).optimize_for_inference(), logits_only))
    return rows


def channels_last_logits(model: TCMForTextDetection, pixel_values: torch.Tensor) -> torch.Tensor:
    return logits_only(model, pixel_values.contiguous(memory_format=torch.channels_last))


@torch.inference_mode()
def measure(rows, pixel_values: torch.Tensor, repetitions: int) -> tuple[list[list[float]], list[torch.Tensor]]:
    """Seconds of every repetition, and the logits, of each row; the rows take turns."""
    logits = [forward(model, pixel_values).float() for _, model, forward in rows]  # also warms up
    seconds = [[] for _ in rows]
    for _ in range(repetitions):
        for times, (_, model, forward) in zip(seconds, rows):
            start = time.perf_counter()
            forward(model, pixel_values)
            times.append(time.perf_counter() - start)
    return seconds, logits


def same_polygons(logits: torch.Tensor, reference: torch.Tensor, **decoding) -> str:
    """How the polygons of two probability maps match, one to one."""
    mine, theirs = (decode_db(x[0, 0].sigmoid().numpy(), **decoding)[0] for x in (logits, reference))
    if not mine and not theirs:
        return "no polygons: the weights are not trained"
    ious = np.array([[polygon_iou(a, b) for b in theirs] for a in mine]).reshape(len(mine), len(theirs))
    matched = 0
    worst = 1.0
    while ious.size and ious.max() > 0.5:
        i, j = np.unravel_index(ious.argmax(), ious.shape)
        worst = min(worst, float(ious[i, j]))
        matched += ious[i, j] > 0.95
        ious[i], ious[:, j] = 0, 0
    return f"polygons {len(theirs)} -> {len(mine)}, {matched} with IoU > 0.95, least IoU {worst:.3f}"


def bundled_in_half(repetitions: int) -> str:
    """The bundled checkpoint on the sample image: a trained model's polygons in bf16."""
    processor = TCMImageProcessor.from_pretrained(tcm_hf.DEFAULT_CHECKPOINT)
    model = TCMForTextDetection.from_pretrained(tcm_hf.DEFAULT_CHECKPOINT)
    pixel_values = processor(load_rgb_image(SAMPLE), return_tensors="pt")["pixel_values"]
    decoding = dict(processor.decoding)
    decoding["score_threshold"] = decoding.pop("threshold")
    rows = [
        ("fp32", model, logits_only),
        ("fp32", copy.deepcopy(model).optimize_for_inference(), logits_only),
        ("bf16", half(model).optimize_for_inference(), logits_only),
    ]
    seconds, logits = measure(rows, pixel_values, repetitions)
    plain, fast, fast_half = (statistics.median(times) for times in seconds)
    size = "x".join(map(str, pixel_values.shape[-2:]))
    return (
        f"bundled checkpoint, {SAMPLE.name} at {size}: {plain:.3f} s; optimize_for_inference {fast:.3f} s "
        f"({fast / plain:.2f}), {same_polygons(logits[1], logits[0], **decoding)}; with bf16 weights {fast_half:.3f} s "
        f"({fast_half / plain:.2f}), {same_polygons(logits[2], logits[0], **decoding)}"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["640x640", "736x1280"], help="height x width, multiples of 32")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--parity", type=Path, default=PARITY, help="folder of the parity fixtures")
    parser.add_argument("--variants", nargs="+", default=["tcm_db_ic15", "tcm_db_v2_fixed"])
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads, {options.repetitions} repetitions")
    print(bundled_in_half(options.repetitions))
    for variant in options.variants:
        model, origin = load(variant, options.parity)
        rows = variants_of(model)
        for size in options.sizes:
            height, width = map(int, size.split("x"))
            seconds, logits = measure(rows, make_input(height, width, options.parity), options.repetitions)
            print(f"\n{variant} at {size} ({origin})")
            first = statistics.median(seconds[0])
            for (name, _, _), times, output in zip(rows, seconds, logits):
                middle = statistics.median(times)
                difference = (output.sigmoid() - logits[0].sigmoid()).abs().max().item()
                line = f"  {name:<36} {middle:7.3f} s  ratio {middle / first:.3f}  probability differs by {difference:.1e}"
                print(line + (f", {same_polygons(output, logits[0])}" if "bf16" in name else ""), flush=True)
        del model, rows
    return 0


if __name__ == "__main__":
    sys.exit(main())
