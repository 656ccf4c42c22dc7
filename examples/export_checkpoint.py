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
Makes a checkpoint ready to be shipped: weights in half precision, the settings of the image processor, and a model card.

    python examples/export_checkpoint.py runs/tiny tcm_hf/checkpoints/tcm-tiny --threshold 0.6 --card model_cards/tcm-tiny.md

The weights are stored in fp16, which halves the file, and load as fp32, in which CPUs compute; batch normalization is
stored in fp32.
"""

import argparse
import json
import math
import os
import shutil
import tempfile
from pathlib import Path

import torch
from torch import nn

from tcm_hf import TCMForTextDetection, TCMImageProcessor


# A quarter of fp16's range, so that sums on the way stay inside of it, too.
LARGEST_VARIANCE = 2.0**14


def average_with(model, other):
    """
    Moves weights and statistics halfway to those of another checkpoint, such as the one that a training went on from: what
    is learned anew is kept in part, and so is what would be forgotten (Wortsman et al., "Robust fine-tuning of zero-shot
    models", CVPR 2022).

    Raises:
        ValueError: if the other checkpoint has other weights.
    """
    theirs = other.state_dict()
    for name, values in model.state_dict().items():
        if name not in theirs or theirs[name].shape != values.shape:
            raise ValueError(f"{name} is missing in {other.name_or_path}, or has another size; average one network's")
        if values.is_floating_point():
            values.lerp_(theirs[name], 0.5)


def to_half(model):
    """
    Stores weights in fp16, batch normalization with its statistics in fp32: the variance of a detector's activations can
    be far beyond fp16's range.

    Raises:
        ValueError: if another weight does not fit into fp16.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            continue
        for key, parameter in module.named_parameters(recurse=False):
            half = parameter.data.to(torch.float16)
            if not half.isfinite().all():
                raise ValueError(
                    f"{name}.{key} does not fit into fp16; train with weight decay or lower learning rates."
                )
            parameter.data = half


def fit_float16(model):
    """
    Makes the maps in front of a DB detector's normalizations smaller by a power of two, so that fp16, in which some users
    compute, can hold them. From the neck's lateral convolutions to the normalization all is linear and without bias, and
    the normalization divides by the deviation, so answers stay the same.
    """
    if model.config.detector != "db":
        return
    neck, branches = model.detector.neck, (model.detector.probability_branch, model.detector.threshold_branch)
    norms = [branch[1] for branch in branches]
    largest = max(float(norm.running_var.max()) for norm in norms)
    halvings = math.ceil(math.log2(max(largest / LARGEST_VARIANCE, 1)) / 2)
    layers = [neck.lateral_convs, neck.smooth_convs, [branch[0] for branch in branches]]
    if neck.reduce_convs is not None:
        layers.append(neck.reduce_convs)

    def gain(convs):
        return max(float(conv.weight.square().mean()) * conv.weight[0].numel() for conv in convs)

    with torch.no_grad():
        # Where weights have grown most beyond their initial size, near which fine-tuning learns at a usual pace.
        for _ in range(halvings):
            for conv in max(layers, key=gain):
                conv.weight.mul_(0.5)
        for norm in norms:
            norm.running_mean.mul_(0.5**halvings)
            # With the constant that is added to it, which is not scaled.
            norm.running_var.add_(norm.eps).mul_(0.25**halvings).sub_(norm.eps).clamp_(min=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="directory of a trained checkpoint")
    parser.add_argument("target", help="directory to write")
    parser.add_argument("--card", help="model card, becomes README.md of the checkpoint")
    parser.add_argument("--pictures", nargs="*", default=[], help="images that the card shows, copied beside it")
    parser.add_argument(
        "--fuse_text", action="store_true", help="FastTCM: store the constant text embedding and drop the text tower"
    )
    parser.add_argument("--average", help="directory of a checkpoint that the weights are moved halfway to")
    parser.add_argument("--do_turn", action="store_true", help="look a second time at images on their side")
    parser.add_argument("--threshold", type=float, help="lowest score of a detection")
    parser.add_argument("--mask_threshold", type=float, help="threshold of the probability map")
    parser.add_argument("--unclip_ratio", type=float, help="how far regions grow back")
    parser.add_argument("--epsilon_ratio", type=float, help="simplification of the contours")
    parser.add_argument("--seed_threshold", type=float, help="DB: what splits regions that grew together")
    arguments = parser.parse_args()
    target = Path(arguments.target)
    if target.exists():
        present = [path.name for path in target.iterdir()] if target.is_dir() else [target.name]
        written = {"config.json", "model.safetensors", "preprocessor_config.json", "README.md"}
        written |= {Path(picture).name for picture in arguments.pictures}
        others = sorted(set(present) - written)
        if others:
            parser.error(
                f"{target} holds {others[0]!r}, which this export would not write and which would be lost; name another folder"
            )

    model = TCMForTextDetection.from_pretrained(arguments.source)
    processor = TCMImageProcessor.from_pretrained(arguments.source)
    if arguments.average is not None:
        average_with(model, TCMForTextDetection.from_pretrained(arguments.average))
    if arguments.fuse_text:
        model.fuse_text()
    fit_float16(model)
    to_half(model)
    decoding = dict(processor.decoding)
    for name in ("threshold", "mask_threshold", "unclip_ratio", "epsilon_ratio", "seed_threshold"):
        if getattr(arguments, name) is not None:
            decoding[name] = getattr(arguments, name)
    do_turn = arguments.do_turn or processor.do_turn
    processor = TCMImageProcessor(**{**processor.to_dict(), "decoding": decoding, "do_turn": do_turn})

    target.parent.mkdir(parents=True, exist_ok=True)
    # Everything is written beside the target first, so that a failure leaves no half-written checkpoint.
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".export-"))
    try:
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
        for source_code in temporary.glob("*.py"):
            source_code.unlink()  # the package itself has the code
        for name, changes in (("config.json", {"dtype": "float32"}), ("preprocessor_config.json", {})):
            values = json.loads((temporary / name).read_text(encoding="utf-8")) | changes
            values.pop("auto_map", None)
            (temporary / name).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        if arguments.card:
            shutil.copyfile(arguments.card, temporary / "README.md")
        for picture in arguments.pictures:
            shutil.copyfile(picture, temporary / Path(picture).name)
        if target.exists():
            shutil.rmtree(target)
        os.replace(temporary, target)
        # Temporary files are private; a checkpoint is for everybody.
        target.chmod(0o755)
        for file in target.iterdir():
            file.chmod(0o644)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    size = sum(file.stat().st_size for file in target.iterdir())
    print(f"{target}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
