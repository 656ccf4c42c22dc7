# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
import torch

from tcm_hf.model.losses import balanced_cross_entropy, dice_loss, masked_l1_loss, per_image_balanced_cross_entropy


def maps(*shape, seed=0, text=0.1, counted=0.8):
    """Logits, target and mask."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 3, shape), (rng.random(shape) < text).astype(np.uint8), (rng.random(shape) < counted) * 1.0


def tensors(*arrays, dtype=torch.float32):
    return [torch.tensor(np.asarray(x), dtype=dtype) for x in arrays]


def numpy_balanced_cross_entropy(logits, target, mask, ratio):
    """From the definition: all positive pixels and the `ratio` times as many negative ones with the largest loss."""
    probability = 1 / (1 + np.exp(-logits.ravel()))
    loss = -np.where(target.ravel() > 0, np.log(probability), np.log(1 - probability))
    counted = mask.ravel() > 0
    positive = loss[counted & (target.ravel() > 0)]
    negative = np.sort(loss[counted & (target.ravel() == 0)])[::-1][: int(len(positive) * ratio)]
    return (positive.sum() + negative.sum()) / (len(positive) + len(negative) + 1e-6)


@pytest.mark.parametrize("ratio", [0.0, 1.0, 3.0, 1000.0])
def test_balanced_cross_entropy(ratio):
    logits, target, mask = maps(2, 24, 30)
    value = balanced_cross_entropy(*tensors(logits, target, mask), ratio)
    np.testing.assert_allclose(value, numpy_balanced_cross_entropy(logits, target, mask, ratio), rtol=1e-5)


def test_balanced_cross_entropy_counts_negatives_over_the_batch():
    logits, target, mask = maps(2, 16, 16)
    target[1] = 0
    value = balanced_cross_entropy(*tensors(logits, target, mask), 3.0)
    np.testing.assert_allclose(value, numpy_balanced_cross_entropy(logits, target, mask, 3.0), rtol=1e-5)
    per_image = per_image_balanced_cross_entropy(*tensors(logits, target, mask), 3.0)
    # An image without text has no negatives of its own either.
    expected = numpy_balanced_cross_entropy(logits[0], target[0], mask[0], 3.0) / 2
    np.testing.assert_allclose(per_image, expected, rtol=1e-5)
    assert abs(per_image - value) > 0.01


def test_without_text_there_is_no_loss_and_no_nan():
    logits, target, mask = tensors(*maps(1, 8, 8, text=0))
    logits.requires_grad_()
    value = balanced_cross_entropy(logits, target, mask)
    value.backward()
    assert value == 0 and (logits.grad == 0).all()
    # ... unless negatives are asked for.
    hardest = torch.nn.functional.softplus(logits.detach())[mask > 0].topk(5).values
    torch.testing.assert_close(
        balanced_cross_entropy(logits.detach(), target, mask, negatives_without_text=5),
        hardest.mean(),
        rtol=1e-5,
        atol=0,
    )


def test_nothing_counts():
    logits, target, _ = tensors(*maps(1, 8, 8))
    nothing = torch.zeros_like(logits)
    assert balanced_cross_entropy(logits, target, nothing) == 0
    assert masked_l1_loss(logits, target, nothing) == 0
    assert dice_loss(logits.sigmoid(), target, nothing).isfinite()


def test_dice_loss():
    probability, target, mask = maps(2, 20, 20, text=0.3)
    probability = 1 / (1 + np.exp(-probability))
    p, t = probability[mask > 0], target[mask > 0]
    expected = 1 - 2 * (p * t).sum() / (p.sum() + t.sum())
    np.testing.assert_allclose(dice_loss(*tensors(probability, target, mask)), expected, rtol=1e-5)
    assert dice_loss(*tensors(target, target, mask)) < 1e-6


def test_masked_l1_loss():
    prediction, target, mask = maps(2, 20, 20)
    expected = np.abs(prediction - target)[mask > 0].mean()
    np.testing.assert_allclose(masked_l1_loss(*tensors(prediction, target, mask)), expected, rtol=1e-5)


@pytest.mark.parametrize("loss", [balanced_cross_entropy, dice_loss, masked_l1_loss, per_image_balanced_cross_entropy])
def test_pixels_outside_of_the_mask_do_not_count(loss):
    prediction, target, mask = tensors(*maps(2, 12, 12))
    if loss is dice_loss:
        prediction = prediction.sigmoid()
    other = torch.where(mask > 0, prediction, 1 - prediction), torch.where(mask > 0, target, 1 - target)
    assert loss(prediction, target, mask) == loss(*other, mask)


@pytest.mark.parametrize("loss", [balanced_cross_entropy, dice_loss, masked_l1_loss, per_image_balanced_cross_entropy])
def test_computed_in_fp32(loss):
    # The sum over these pixels is beyond fp16.
    prediction = torch.full((1, 300, 300), 3.0, dtype=torch.float16, requires_grad=True)
    target = torch.zeros(1, 300, 300, dtype=torch.uint8)
    target[:, :150] = 1
    mask = torch.ones_like(target)
    value = loss(prediction.sigmoid() if loss is dice_loss else prediction, target, mask)
    value.backward()
    assert value.dtype == torch.float32 and value.isfinite() and prediction.grad.isfinite().all()


def test_weights_count_for_the_loss_and_for_which_pixels_are_hardest():
    logits, target, mask = maps(1, 16, 16)
    weight = np.where(np.arange(16) < 8, 5.0, 1.0)[None, None].repeat(16, axis=1).astype(np.float32)
    value = balanced_cross_entropy(*tensors(logits, target, mask), 1.0, weight=torch.tensor(weight))
    probability = 1 / (1 + np.exp(-logits.ravel()))
    loss = -np.where(target.ravel() > 0, np.log(probability), np.log(1 - probability)) * weight.ravel()
    positive = loss[(mask.ravel() > 0) & (target.ravel() > 0)]
    negative = np.sort(loss[(mask.ravel() > 0) & (target.ravel() == 0)])[::-1][: len(positive)]
    np.testing.assert_allclose(value, (positive.sum() + negative.sum()) / (2 * len(positive) + 1e-6), rtol=1e-5)
