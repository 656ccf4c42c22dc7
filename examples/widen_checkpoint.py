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
Makes a wider or deeper detector that gives the answers of another, to go on training with (Net2Net, Chen et al., ICLR 2016).

    python examples/widen_checkpoint.py tcm-tiny runs/wide --width 24 --neck_channels 96 \
        --smoothing_channels 24

Every channel of the result is a copy of one of the source's. Weights that read copies are shared out among them by random
parts, so that the copies learn different things. Blocks that come to a stage (`--depths`), and the context of the coarse
levels (`--context_kernel`), add nothing at first. Another `--downsampling` gives other maps, which training has to mend. For checkpoints with a ResNet tower and DB.
"""

import argparse
import re
import sys

import torch

from tcm_hf import TCMConfig, TCMForTextDetection, TCMImageProcessor
from tcm_hf.checkpoints import find_checkpoint


DETECTOR_FIELDS = ("neck_channels", "smoothing_channels", "head_channels", "context_kernel")


class Space:
    """
    The channels of one map, in the source and in the result.

    Args:
        source (`int`): channels in the source.
        target (`int`): channels in the result, at least as many.
        generator (`torch.Generator`): draws which channels are copied, and the parts.
        groups (`int`, *optional*, defaults to 1): heads of an attention, to which channels belong in equal runs.
    """

    def __init__(self, source: int, target: int, generator: torch.Generator, groups: int = 1):
        if target < source:
            raise ValueError(f"{target} channels are fewer than the source's {source}")
        size, wide = source // groups, target // groups
        copies = [torch.arange(size)]
        while sum(map(len, copies)) < wide:
            copies.append(torch.randperm(size, generator=generator)[: wide - sum(map(len, copies))])
        index = torch.cat(copies)
        self.index = torch.cat([index + size * group for group in range(groups)])
        share = 0.3 + 0.4 * torch.rand(target, generator=generator)
        total = torch.zeros(source).index_add_(0, self.index, share)
        self.share = share / total[self.index]

    @classmethod
    def joined(cls, parts: "list[Space]", source: int) -> "Space":
        """The channels of concatenated maps, each with `source` channels in the source."""
        self = cls.__new__(cls)
        self.index = torch.cat([part.index + i * source for i, part in enumerate(parts)])
        self.share = torch.cat([part.share for part in parts])
        return self

    def written(self, x: torch.Tensor, dim: int) -> torch.Tensor:
        """A tensor that makes this map."""
        return x.index_select(dim, self.index)

    def read(self, x: torch.Tensor, dim: int) -> torch.Tensor:
        """A tensor that reads this map."""
        shape = [1] * x.dim()
        shape[dim] = -1
        return self.written(x, dim) * self.share.view(shape)


def widen(
    model: TCMForTextDetection, width: int, detector_changes: dict, seed: int = 0, tower_changes: dict | None = None
) -> TCMForTextDetection:
    """
    Args:
        model ([`TCMForTextDetection`]): with a ResNet tower and DB.
        width (`int`): the tower's new width.
        detector_changes (`dict`): new fields of `detector_config`.
        seed (`int`, *optional*, defaults to 0): seed of the choice of copies.
        tower_changes (`dict`, *optional*): new fields of `vision_config`: more blocks in `depths`, another `downsampling`.

    Returns:
        [`TCMForTextDetection`]: gives the same maps, in evaluation mode, unless `downsampling` is another one.

    Raises:
        ValueError: if the model has another tower or detector, or would become narrower.
    """
    old = model.config
    if old.detector != "db" or old.vision_config.model_type != "clip_resnet":
        raise ValueError(
            f"only DB on a ResNet tower can be widened, this is {old.detector!r} on {old.vision_config.model_type!r}"
        )
    settings = old.to_dict()
    settings["vision_config"].update(tower_changes or {}, width=width)
    settings["detector_config"].update(detector_changes)
    wide = TCMForTextDetection(TCMConfig(**settings))
    new = wide.config
    if any(a > b for a, b in zip(old.vision_config.depths, new.vision_config.depths)):
        raise ValueError(f"{new.vision_config.depths} blocks are fewer than the source's {old.vision_config.depths}")
    generator = torch.Generator().manual_seed(seed)
    spaces: dict[str, Space] = {}

    def space(name: str, source: int, target: int, groups: int = 1) -> Space:
        if name not in spaces:
            spaces[name] = Space(source, target, generator, groups)
        return spaces[name]

    def of_tower(name: str, channels_per_width: float) -> Space:
        old_channels = int(old.vision_config.width * channels_per_width)
        return space(name, old_channels, int(width * channels_per_width))

    def stage_result(stage: int) -> Space:
        return of_tower("stem2", 1) if stage < 0 else of_tower(f"stage{stage}", 4 * 2**stage)

    def of_detector(name: str, key: str, divisor: int = 1) -> Space:
        a, b = old.detector_config[key], new.detector_config[key]
        return space(name, a // divisor, b // divisor)

    def axes(key: str) -> tuple[Space | None, Space | None]:
        """The maps that a layer makes and reads."""
        if match := re.match(r"model\.vision_tower\.stem\.(\d)", key):
            i = int(match[1])
            return of_tower(f"stem{i}", 1 if i == 2 else 0.5), of_tower(f"stem{i - 1}", 0.5) if i else None
        if match := re.match(r"model\.vision_tower\.stages\.(\d)\.blocks\.(\d+)\.(conv\d|shortcut)", key):
            stage, block, layer = int(match[1]), int(match[2]), match[3]
            before = stage_result(stage if block else stage - 1)
            inner = [of_tower(f"stage{stage}.{block}.{n}", 2**stage) for n in (1, 2)]
            return {
                "conv1": (inner[0], before),
                "conv2": (inner[1], inner[0]),
                "conv3": (stage_result(stage), inner[1]),
                "shortcut": (stage_result(stage), before),
            }[layer]
        if "attention_pool" in key:
            heads = old.vision_config.num_attention_heads
            result, inner = stage_result(3), space("heads", old.vision_config.width * 32, width * 32, heads)
            if "c_proj" in key:
                return None, inner
            return (inner, result) if "proj" in key else (None, result)
        if match := re.match(r"detector\.neck\.(lateral|reduce|smooth)_convs\.(\d)", key):
            i = int(match[2])
            lateral = of_detector("lateral", "neck_channels")
            reduced = of_detector(f"reduced{i}", "smoothing_channels") if wide.detector.neck.reduce_convs else lateral
            return {
                "lateral": (lateral, stage_result(i)),
                "reduce": (reduced, lateral),
                "smooth": (of_detector(f"smooth{i}", "neck_channels", 4), reduced),
            }[match[1]]
        if match := re.match(r"detector\.(\w+)_branch\.(\d)", key):
            layer = int(match[2])
            first, second = (of_detector(f"{match[1]}{n}", "head_channels") for n in (0, 1))
            neck = [of_detector(f"smooth{i}", "neck_channels", 4) for i in range(4)]
            joined = Space.__new__(Space)
            joined.index = torch.cat(
                [part.index + i * old.detector_config["neck_channels"] // 4 for i, part in enumerate(neck)]
            )
            joined.share = torch.cat([part.share for part in neck])
            return {0: (first, joined), 1: (first, None), 3: (second, first), 4: (second, None), 6: (None, second)}[
                layer
            ]
        return None, None

    # Blocks and layers that the source does not have add nothing at first.
    state = wide.state_dict()
    for key, value in model.state_dict().items():
        made, read = axes(key)
        if value.dim() == 0:
            pass
        elif key.endswith("position_embedding"):
            value = read.written(value, 1)
        elif re.search(r"_branch\.[36]\.weight$", key):  # transposed convolutions: (in, out, height, width)
            value = read.read(value, 0)
            value = value if made is None else made.written(value, 1)
        else:
            extra = None
            if read is not None and value.dim() > 1:
                extra = value[:, int(read.index.max()) + 1 :]  # the matching map comes after the features
                value = read.read(value[:, : int(read.index.max()) + 1], 1)
                value = torch.cat([value, extra], dim=1)
            if made is not None:
                # Of a product of queries and keys, copies count once.
                value = made.read(value, 0) if "k_proj" in key and "attention_pool" in key else made.written(value, 0)
            if "attention_pool.q_proj" in key:
                value = value * (width / old.vision_config.width) ** 0.5
        state[key] = value.contiguous()
    wide.load_state_dict(state)
    return wide.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="checkpoint: directory, Hub id, or a name such as tcm-tiny, in the package")
    parser.add_argument("target", help="directory to write")
    parser.add_argument("--width", type=int, required=True, help="width of the image tower")
    for name in DETECTOR_FIELDS:
        parser.add_argument(f"--{name}", type=int, help="of the detector; by default the source's")
    parser.add_argument("--depths", type=int, nargs=4, help="blocks of the tower's stages; by default the source's")
    parser.add_argument("--downsampling", help="of the tower; another one than the source's gives other maps")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of copies")
    arguments = parser.parse_args()
    source = find_checkpoint(arguments.source)
    model = TCMForTextDetection.from_pretrained(source, dtype=torch.float32).eval()
    changes, tower_changes = (
        {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
        for names in (DETECTOR_FIELDS, ("depths", "downsampling"))
    )
    try:
        wide = widen(model, arguments.width, changes, arguments.seed, tower_changes)
    except ValueError as error:
        sys.exit(f"error: {error}")
    with torch.no_grad():
        pixel_values = torch.randn(1, 3, 96, 160, generator=torch.Generator().manual_seed(0))
        difference = (wide(pixel_values=pixel_values).logits - model(pixel_values=pixel_values).logits).abs().max()
    wide.save_pretrained(arguments.target)
    TCMImageProcessor.from_pretrained(source).save_pretrained(arguments.target)
    parameters = sum(parameter.numel() for parameter in wide.parameters())
    print(
        f"{arguments.target}: {parameters / 1e6:.2f} million parameters, logits differ by {float(difference):.1e} at most"
    )


if __name__ == "__main__":
    main()
