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

The weights are stored in fp16, which halves the file, and load as fp32, in which CPUs compute.
"""

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path

import torch
from torch import nn

from tcm_hf import TCMForTextDetection, TCMImageProcessor


def bring_into_half_range(model):
    """
    Divides convolutions by a power of two where the variance of their outputs is too large for fp16, and the statistics
    of the batch normalisation behind them too: the output stays the same.
    """
    layers = list(model.modules())
    for conv, norm in zip(layers, layers[1:]):
        if not (isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and conv.bias is None):
            continue
        scale = 2.0 ** max(0, torch.log2(norm.running_var.max().sqrt()).ceil().item())
        with torch.no_grad():
            conv.weight /= scale
            norm.running_mean /= scale
            norm.running_var /= scale**2


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="directory of a trained checkpoint")
    parser.add_argument("target", help="directory to write")
    parser.add_argument("--card", help="model card, becomes README.md of the checkpoint")
    parser.add_argument("--threshold", type=float, help="lowest score of a detection")
    parser.add_argument("--mask_threshold", type=float, help="threshold of the probability map")
    parser.add_argument("--unclip_ratio", type=float, help="how far regions grow back")
    parser.add_argument("--epsilon_ratio", type=float, help="simplification of the contours")
    arguments = parser.parse_args()

    model = TCMForTextDetection.from_pretrained(arguments.source)
    processor = TCMImageProcessor.from_pretrained(arguments.source)
    bring_into_half_range(model)
    model.to(torch.float16)
    for name, value in model.state_dict().items():
        if not value.isfinite().all():
            raise ValueError(f"{name} of {arguments.source} does not fit into fp16.")
    decoding = dict(processor.decoding)
    for name in ("threshold", "mask_threshold", "unclip_ratio", "epsilon_ratio"):
        if getattr(arguments, name) is not None:
            decoding[name] = getattr(arguments, name)
    processor = TCMImageProcessor(**{**processor.to_dict(), "decoding": decoding})

    target = Path(arguments.target)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Everything is written beside the target first, so that a failure leaves no half-written checkpoint.
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".export-"))
    try:
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
        for source_code in temporary.glob("*.py"):
            source_code.unlink()  # the package itself has the code
        config_file = temporary / "config.json"
        config = json.loads(config_file.read_text(encoding="utf-8"))
        config.pop("auto_map", None)
        config["dtype"] = "float32"
        config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        if arguments.card:
            shutil.copyfile(arguments.card, temporary / "README.md")
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
