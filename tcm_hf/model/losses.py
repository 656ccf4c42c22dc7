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

"""Loss terms that several detectors share. All of them compute in fp32, whatever the model's dtype."""

import torch
from torch import nn


def balanced_cross_entropy(
    logits: torch.Tensor,
    target: torch.Tensor,
    mask: torch.Tensor,
    negative_ratio: float = 3.0,
    eps: float = 1e-6,
    negatives_without_text: int = 0,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    Binary cross-entropy over all positive pixels and the hardest negative ones (DB, section 3.5).

    Args:
        logits (`torch.Tensor`): any shape, before the sigmoid.
        target (`torch.Tensor`): of the same shape, 1 for text and 0 for background.
        mask (`torch.Tensor`): of the same shape, 0 for pixels that do not count.
        negative_ratio (`float`, *optional*, defaults to 3.0): negative pixels for every positive one.
        eps (`float`, *optional*, defaults to 1e-6): added to the number of pixels.
        negatives_without_text (`int`, *optional*, defaults to 0): negative pixels where there is no positive one.
        weight (`torch.Tensor`, *optional*): of the same shape, a factor on each pixel's loss, also for which are hardest.

    Returns:
        `torch.Tensor`: a scalar; by default 0 where there is no positive pixel.
    """
    mask = mask.float()
    positive = target.float() * mask
    negative = (1 - target.float()) * mask
    loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none")
    if weight is not None:
        loss = loss * weight
    negative_loss = (loss * negative).flatten()
    if torch.compiler.is_compiling():
        # The same with numbers that stay tensors, so that it is all one graph; sorting takes longer than `topk`.
        num_positive = positive.sum().floor()
        num_negative = torch.where(num_positive > 0, (num_positive * negative_ratio).floor(), negatives_without_text)
        num_negative = torch.minimum(negative.sum().floor(), num_negative)
        hardest = torch.arange(negative_loss.numel(), device=loss.device) < num_negative
        negative_loss = negative_loss.sort(descending=True).values * hardest
        return ((loss * positive).sum() + negative_loss.sum()) / (num_positive + num_negative + eps)
    count = int(positive.sum())
    wanted = int(count * negative_ratio) if count else negatives_without_text
    wanted = min(int(negative.sum()), wanted)
    if wanted < negative_loss.numel():
        negative_loss = negative_loss.topk(wanted, sorted=False).values
    return ((loss * positive).sum() + negative_loss.sum()) / (count + wanted + eps)


def dice_loss(probability: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    """
    Dice loss over all pixels of the batch: one minus twice the overlap over the sum of both areas.

    Args:
        probability (`torch.Tensor`): any shape, in 0..1.
        target (`torch.Tensor`): of the same shape.
        mask (`torch.Tensor`): of the same shape, 0 for pixels that do not count.
        eps (`float`, *optional*, defaults to 1e-6): added to the denominator.

    Returns:
        `torch.Tensor`: a scalar.
    """
    mask = mask.float()
    probability = probability.float() * mask
    target = target.float() * mask
    return 1 - 2 * (probability * target).sum() / (probability.sum() + target.sum() + eps)


def masked_l1_loss(prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, eps: float = 1e-6):
    """
    Mean absolute error over the pixels of a mask.

    Args:
        prediction (`torch.Tensor`): any shape.
        target (`torch.Tensor`): of the same shape.
        mask (`torch.Tensor`): of the same shape, 0 for pixels that do not count.
        eps (`float`, *optional*, defaults to 1e-6): added to the number of pixels.

    Returns:
        `torch.Tensor`: a scalar.
    """
    mask = mask.float()
    return ((prediction.float() - target.float()).abs() * mask).sum() / (mask.sum() + eps)


def per_image_balanced_cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, negative_ratio: float = 3.0
) -> torch.Tensor:
    """
    Mean over the images of each image's own balanced cross-entropy: the auxiliary loss of the matching map. Every
    image is scored against its own text only; see `balanced_cross_entropy` for the arguments.
    """
    losses = [
        balanced_cross_entropy(image_logits, image_target, image_mask, negative_ratio)
        for image_logits, image_target, image_mask in zip(logits, target, mask)
    ]
    return torch.stack(losses).mean()
