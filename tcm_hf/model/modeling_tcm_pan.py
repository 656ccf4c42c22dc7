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

"""The PAN detector: neck, head and loss of "Efficient and Accurate Arbitrary-Shaped Text Detection with Pixel
Aggregation Network" (Wang et al., ICCV 2019) on the feature maps of TCM."""

import torch
from torch import nn

from .modeling_masks import crop_map, round_up, stride_mask


# Pixels of the image for each cell of PAN's maps.
STRIDE = 4
# Value of the instance maps on padding, which is neither text nor background.
PADDING_LABEL = -1


class PANSeparableConv(nn.Module):
    """
    Depthwise 3x3 and pointwise convolution, batch normalization and ReLU.

    Args:
        channels (`int`): of the input and of the output.
        stride (`int`): of the depthwise convolution.
    """

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels)
        self.pointwise = nn.Conv2d(channels, channels, 1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.relu(self.norm(self.pointwise(self.depthwise(x))))


class PANEnhancement(nn.Module):
    """
    Feature pyramid enhancement module (PAN, section 3.3): once from the coarsest level to the finest, once back.

    Args:
        channels (`int`): of every level.
        num_levels (`int`): number of levels.
    """

    def __init__(self, channels: int, num_levels: int):
        super().__init__()
        self.up_convs = nn.ModuleList(PANSeparableConv(channels, 1) for _ in range(num_levels - 1))
        self.down_convs = nn.ModuleList(PANSeparableConv(channels, 2) for _ in range(num_levels - 1))

    def forward(self, levels: list[torch.Tensor], masks: list[torch.Tensor | None]) -> list[torch.Tensor]:
        levels = list(levels)
        last = len(levels) - 1
        for i, conv in zip(range(last - 1, -1, -1), self.up_convs):
            levels[i] = conv(self._merge(levels[i], levels[i + 1], masks[i]))
        for i, conv in zip(range(last), self.down_convs):
            levels[i + 1] = conv(self._merge(levels[i], levels[i + 1], masks[i]))
        return levels

    @staticmethod
    def _merge(fine: torch.Tensor, coarse: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        x = fine + nn.functional.interpolate(coarse, scale_factor=2, mode="nearest")
        return x if mask is None else x * mask


class PANNeck(nn.Module):
    """
    Reduces the feature maps to few channels and sends them through a cascade of enhancement modules, whose results are
    added up level by level (the first step of the feature fusion module, PAN, section 3.4).

    Args:
        in_channels (`list[int]`): channels of the feature maps, from stride 4 to stride 32.
        channels (`int`): channels of every level of the result.
        num_enhancements (`int`): length of the cascade.
    """

    def __init__(self, in_channels: list[int], channels: int, num_enhancements: int):
        super().__init__()
        self.reduce_convs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(n, channels, 1), nn.BatchNorm2d(channels), nn.ReLU()) for n in in_channels
        )
        self.enhancements = nn.ModuleList(PANEnhancement(channels, len(in_channels)) for _ in range(num_enhancements))

    def forward(self, feature_maps: tuple[torch.Tensor, ...], masks: list[torch.Tensor | None]) -> list[torch.Tensor]:
        levels = [conv(x) for conv, x in zip(self.reduce_convs, feature_maps)]
        total: list[torch.Tensor] = []
        for enhancement in self.enhancements:
            levels = enhancement(levels, masks)
            total = levels if not total else [a + b for a, b in zip(total, levels)]
        return total


class PANHead(nn.Module):
    """
    One 1x1 convolution over all levels, enlarged to stride 4 and concatenated (PAN, section 3.4).

    A 1x1 convolution and the enlargement of a map commute, so each level has its own part of the convolution and only
    its few output channels are enlarged.

    Args:
        channels (`int`): of every level.
        num_levels (`int`): number of levels.
        out_channels (`int`): of the result.
    """

    def __init__(self, channels: int, num_levels: int, out_channels: int):
        super().__init__()
        self.level_convs = nn.ModuleList(nn.Conv2d(channels, out_channels, 1, bias=i == 0) for i in range(num_levels))
        for conv in self.level_convs:
            # The usual initialization would saturate the sigmoids, and dice losses do not recover from that.
            conv.init_std = 0.01  # type: ignore[assignment]  # a mark for `_init_weights`; torch.nn's are modules

    def forward(self, levels: list[torch.Tensor], image_sizes: torch.Tensor | None) -> torch.Tensor:
        result: torch.Tensor | None = None
        for i, (conv, x) in enumerate(zip(self.level_convs, levels)):
            x = conv(x)
            if i > 0:
                if image_sizes is not None:
                    x = _repeat_last_cells(x, image_sizes, STRIDE * 2**i)
                x = nn.functional.interpolate(x, scale_factor=2**i, mode="bilinear", align_corners=False)
            result = x if result is None else result + x
        assert result is not None, "there is a level"
        return result


def _repeat_last_cells(x: torch.Tensor, image_sizes: torch.Tensor, stride: int) -> torch.Tensor:
    """Fills the padding of a map with the image's last cells, as interpolation itself does past a map's border."""
    last_cells = (image_sizes + stride - 1) // stride - 1
    for axis, last in zip((2, 3), last_cells.clamp(min=0).unbind(1)):
        index = torch.minimum(torch.arange(x.shape[axis], device=x.device)[None], last[:, None])
        shape = [x.shape[0], 1, 1, 1]
        shape[axis] = x.shape[axis]
        x = x.gather(axis, index.view(shape).expand_as(x))
    return x


def _hard_example_mask(
    logits: torch.Tensor, instances: torch.Tensor, mask: torch.Tensor, negative_ratio: float
) -> torch.Tensor:
    """
    Pixels of one image that count in the loss of the text map: text and the background of the highest scores.

    Args:
        logits (`torch.Tensor`): (height, width).
        instances (`torch.Tensor`): (height, width), above 0 for text, 0 for background, below 0 for padding.
        mask (`torch.Tensor`): (height, width), 0 for pixels that do not count.
        negative_ratio (`float`): background pixels for every text pixel.

    Returns:
        `torch.Tensor`: (height, width), 0 or 1.
    """
    counted, text = mask > 0, instances > 0
    # Unlabeled text competes for the places of the hard background although it does not count afterwards: the
    # published loss, and its values, are defined that way.
    background = logits.detach()[instances == 0]
    num_background = min(background.numel(), int(int((text & counted).sum()) * negative_ratio))
    if num_background == 0:
        return counted.float()
    threshold = background.topk(num_background, sorted=False).values.min()
    return ((text | (logits.detach() >= threshold)) & counted).float()


def _dice_loss(
    logits: torch.Tensor, instances: torch.Tensor, mask: torch.Tensor, smoothing: float = 1e-3
) -> torch.Tensor:
    """One minus the dice coefficient with squares in the denominator, the mean over the images of a batch."""
    probability = (logits.sigmoid() * mask).flatten(1)
    target = ((instances > 0) * mask).flatten(1)
    overlap = (probability * target).sum(1)
    size = probability.square().sum(1) + target.square().sum(1) + 2 * smoothing
    return (1 - 2 * overlap / size).mean()


def _text_loss(logits: torch.Tensor, instances: torch.Tensor, mask: torch.Tensor, negative_ratio: float):
    """Dice loss of (batch, height, width) logits over each image's text and hardest background."""
    masks = [_hard_example_mask(*image, negative_ratio) for image in zip(logits, instances, mask)]
    return _dice_loss(logits, instances, torch.stack(masks))


def _aggregation_discrimination_loss(
    embeddings: torch.Tensor,
    text: torch.Tensor,
    kernels: torch.Tensor,
    aggregation_margin: float,
    discrimination_margin: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    For one image, how far pixels lie from their kernel and how close kernels lie to each other (PAN, eq. 1 to 4).

    Args:
        embeddings (`torch.Tensor`): (channels, height, width).
        text (`torch.Tensor`): (height, width) instance of each text pixel, 0 and below for none.
        kernels (`torch.Tensor`): (height, width) instance of each kernel pixel, 0 and below for none.
        aggregation_margin (`float`): distance from the kernel up to which a pixel costs nothing.
        discrimination_margin (`float`): distance between two kernels from which on they cost nothing.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: the aggregation and the discrimination loss, scalars.
    """
    embeddings = embeddings.flatten(1).T
    text, kernels = text.flatten().long().clamp(min=0), kernels.flatten().long().clamp(min=0)
    num_labels = int(torch.maximum(text, kernels).max()) + 1
    kernel_counts = kernels.bincount(minlength=num_labels)
    text_counts = text.bincount(minlength=num_labels)
    # Instances without kernel, or hidden by others, have nothing to compare. Entry 0 is the background.
    present = (kernel_counts > 0) & (text_counts > 0)
    present[0] = False
    num_present = int(present.sum())
    if num_present == 0:
        # Keeps the graph: distributed training wants a gradient, of 0, for every weight.
        zero = embeddings.sum() * 0.0
        return zero, zero
    centers = embeddings.new_zeros(num_labels, embeddings.shape[1]).index_add(0, kernels, embeddings)
    centers = centers / kernel_counts.clamp(min=1)[:, None]

    selected = present[text].nonzero()[:, 0]
    labels = text[selected]
    distances = torch.linalg.vector_norm(embeddings[selected] - centers[labels], dim=1)
    costs = torch.log1p((distances - aggregation_margin).clamp(min=0).square())
    sums = costs.new_zeros(num_labels).index_add(0, labels, costs)
    aggregation = (sums[present] / text_counts[present]).mean()

    centers = centers[present]
    if num_present == 1:
        return aggregation, centers.sum() * 0.0
    first, second = torch.triu_indices(num_present, num_present, offset=1, device=centers.device)
    distances = torch.linalg.vector_norm(centers[first] - centers[second], dim=1)
    costs = torch.log1p((discrimination_margin - distances).clamp(min=0).square())
    # Every pair counts once although the number of ordered pairs divides, as in the published loss.
    return aggregation, costs.sum() / (num_present * (num_present - 1))


class PANDetector(nn.Module):
    """
    PAN's neck, head and losses.

    Args:
        config (`TCMConfig`): the model's configuration; `config.detector_config` holds PAN's settings.
        in_channels (`list[int]`): channels of the feature maps, from stride 4 to stride 32.
    """

    def __init__(self, config, in_channels: list[int]):
        super().__init__()
        self.settings = dict(config.detector_config)
        self.auxiliary_negative_ratio = config.auxiliary_negative_ratio
        channels = self.settings["neck_channels"]
        self.neck = PANNeck(in_channels, channels, self.settings["num_enhancements"])
        self.head = PANHead(channels, len(in_channels), 2 + self.settings["embedding_channels"])

    def forward(
        self,
        feature_maps: tuple[torch.Tensor, ...],
        image_sizes: torch.Tensor | None = None,
        training_maps: bool = False,
    ) -> dict[str, torch.Tensor]:
        """
        Args:
            feature_maps (`tuple[torch.Tensor, ...]`): at strides 4, 8, 16 and 32.
            image_sizes (`torch.Tensor`, *optional*): (batch, 2) sizes without padding, in pixels.
            training_maps (`bool`, *optional*, defaults to `False`): without effect, the loss reads the same maps.

        Returns:
            `dict`: `"logits"` (batch, 2 + embedding_channels, H/4, W/4): the logits of the text map and of the kernel
            map, and the embedding that tells instances apart.
        """
        masks: list[torch.Tensor | None] = [None] * len(feature_maps)
        if image_sizes is not None:
            masks = [
                stride_mask(image_sizes, x.shape[-2], x.shape[-1], STRIDE * 2**i, x.dtype)
                for i, x in enumerate(feature_maps)
            ]
        return {"logits": self.head(self.neck(feature_maps, masks), image_sizes)}

    def loss(self, maps: dict[str, torch.Tensor], labels: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """
        PAN's four loss terms, already weighted (PAN, eq. 5 to 8; the weights are settings).

        Args:
            maps (`dict`): what `forward` gave.
            labels (`dict`): `text_map`, `kernel_map` and `text_mask` as `prepare_labels` gave them.

        Returns:
            `dict`: `text`, `kernel`, `aggregation` and `discrimination`, fp32 scalars.
        """
        if torch.compiler.is_compiling():
            # Sizes of tensors depend on how many texts there are.
            torch._dynamo.graph_break(
                msg="PAN's loss cannot be one graph: compile for training with fullgraph=False, or call without labels"
            )
        settings = self.settings
        logits = maps["logits"].float()
        text, kernels, mask = (labels[name][:, ::STRIDE, ::STRIDE] for name in ("text_map", "kernel_map", "text_mask"))
        # Outside of text the kernel map is left to itself: decoding reads it on text only.
        kernel_mask = ((text > 0) & (mask > 0)).float()
        terms = [
            _aggregation_discrimination_loss(*image, settings["aggregation_margin"], settings["discrimination_margin"])
            for image in zip(logits[:, 2:], text, kernels)
        ]
        aggregation, discrimination = (torch.stack(term).mean() for term in zip(*terms))
        text_loss = _text_loss(logits[:, 0], text, mask, settings["negative_ratio"])
        return {
            "text": settings["text_loss_weight"] * text_loss,
            "kernel": settings["kernel_loss_weight"] * _dice_loss(logits[:, 1], kernels, kernel_mask),
            "aggregation": settings["aggregation_loss_weight"] * aggregation,
            "discrimination": settings["discrimination_loss_weight"] * discrimination,
        }

    def auxiliary_loss(self, matching_logits: torch.Tensor, labels: dict[str, torch.Tensor]) -> torch.Tensor:
        """
        Loss of the instance-language matching map against the text regions: PAN's text loss, at full resolution.

        Args:
            matching_logits (`torch.Tensor`): (batch, 1, H/32, W/32) cosine over temperature.
            labels (`dict`): as in `loss`.

        Returns:
            `torch.Tensor`: an fp32 scalar.
        """
        text = labels["text_map"]
        logits = nn.functional.interpolate(
            matching_logits.float(), size=text.shape[-2:], mode="bilinear", align_corners=False
        )
        return _text_loss(logits[:, 0], text, labels["text_mask"], self.auxiliary_negative_ratio)

    def prepare_labels(
        self, labels: dict[str, torch.Tensor], pixel_mask: torch.Tensor | None, height: int, width: int
    ) -> dict[str, torch.Tensor]:
        """
        Brings the labels to the size of the padded input and marks padding in them.

        Args:
            labels (`dict`): `text_map`, `kernel_map` and `text_mask` of `tcm_hf.targets.build_pan_targets`,
                (batch, H, W) each, at the size of `pixel_values`.
            pixel_mask (`torch.Tensor`, *optional*): (batch, H, W), 0 = padding.
            height (`int`): height of the input in pixels.
            width (`int`): width of the input in pixels.

        Returns:
            `dict`: labels of the input's size rounded up to multiples of 32, -1 in the instance maps and 0 in the mask for padding.

        Raises:
            ValueError: if one of the labels is missing or of another size than the input.
        """
        labels = dict(labels)
        fill = {"text_map": PADDING_LABEL, "kernel_map": PADDING_LABEL, "text_mask": 0}
        padding = (0, round_up(width) - width, 0, round_up(height) - height)
        for name, value in fill.items():
            if name not in labels:
                raise ValueError(f"`labels` of PAN lacks {name!r}; make it with `tcm_hf.targets.build_pan_targets`.")
            x = labels[name]
            if x.shape[-2:] != (height, width):
                size = tuple(x.shape[-2:])
                raise ValueError(f"`labels[{name!r}]` has size {size}, but `pixel_values` {(height, width)}.")
            if pixel_mask is not None:
                x = x.masked_fill(pixel_mask == 0, value)
            labels[name] = nn.functional.pad(x, padding, value=value)
        return labels

    def crop(self, logits: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Cuts the logits to the cells that see the input's own height and width in pixels."""
        return crop_map(logits, round_up(height, STRIDE) // STRIDE, round_up(width, STRIDE) // STRIDE)
