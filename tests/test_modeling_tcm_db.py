# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
import torch
from tiny_model import tiny_config
from torch.nn import functional as F

from tcm_hf.model.configuration_tcm import TCMConfig
from tcm_hf.model.modeling_tcm_db import DBDetector
from tcm_hf.targets import build_db_targets


CHANNELS = [8, 16, 24, 33]


def random_detector(**settings) -> DBDetector:
    """A detector whose every weight and running statistic matters."""
    config = TCMConfig(
        **{**tiny_config().to_dict(), "detector_config": {"neck_channels": 16, "head_channels": 8, **settings}}
    )
    torch.manual_seed(0)
    detector = DBDetector(config, CHANNELS).eval()
    for tensor in detector.state_dict().values():
        if tensor.is_floating_point() and tensor.dim() == 1:
            tensor.copy_(torch.rand_like(tensor) + 0.5)
    return detector


def random_maps(height=64, width=96, batch_size=2):
    torch.manual_seed(1)
    return tuple(torch.randn(batch_size, c, height // s, width // s) for c, s in zip(CHANNELS, (4, 8, 16, 32)))


def random_labels(height=64, width=96):
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, width - 40, 4), rng.uniform(0, height - 24, 4)
    quads = [np.array([[a, b], [a + 40, b], [a + 40, b + 20], [a, b + 20]], dtype=np.float32) for a, b in zip(x, y)]
    targets = [build_db_targets(quads[i : i + 2], [False, i > 0], height, width) for i in (0, 2)]
    return {name: torch.tensor(np.stack([target[name] for target in targets])) for name in targets[0]}


@pytest.mark.parametrize("smoothing_channels", [None, 3])
def test_maps_against_plain_functions(smoothing_channels):
    detector = random_detector(smoothing_channels=smoothing_channels)
    state, features = detector.state_dict(), random_maps()
    with torch.no_grad():
        maps = detector(features, training_maps=True)

        # Neck: lateral 1x1, top-down sums, 1x1 to fewer channels, 3x3 smoothing, everything at stride 4.
        level, levels = None, []
        for i in (3, 2, 1, 0):
            lateral = F.conv2d(features[i], state[f"neck.lateral_convs.{i}.weight"])
            level = lateral if level is None else lateral + level.repeat_interleave(2, 2).repeat_interleave(2, 3)
            narrow = level
            if smoothing_channels:
                assert state[f"neck.reduce_convs.{i}.weight"].shape[0] == smoothing_channels
                narrow = F.conv2d(level, state[f"neck.reduce_convs.{i}.weight"])
            smooth = F.conv2d(narrow, state[f"neck.smooth_convs.{i}.weight"], padding=1)
            levels.insert(0, smooth.repeat_interleave(2**i, 2).repeat_interleave(2**i, 3))
        x = torch.cat(levels, 1)
        for name, branch in (("logits", "probability_branch"), ("threshold_logits", "threshold_branch")):

            def norm(y, i, branch=branch):
                keys = ("running_mean", "running_var", "weight", "bias")
                return F.batch_norm(y, *(state[f"{branch}.{i}.{key}"] for key in keys)).relu()

            def upsample(y, i, branch=branch):
                return F.conv_transpose2d(y, state[f"{branch}.{i}.weight"], state[f"{branch}.{i}.bias"], stride=2)

            y = norm(F.conv2d(x, state[f"{branch}.0.weight"], padding=1), 1)
            torch.testing.assert_close(maps[name], upsample(norm(upsample(y, 3), 4), 6), rtol=1e-4, atol=1e-5)
    assert maps["logits"].shape == (2, 1, 64, 96)


def test_inference_leaves_the_threshold_out():
    assert set(random_detector()(random_maps())) == {"logits"}


def test_channels_are_settings():
    detector = random_detector(neck_channels=32, head_channels=4)
    assert detector.neck.lateral_convs[0].out_channels == 32 and detector.probability_branch[0].out_channels == 4


def test_padding_changes_nothing():
    detector = random_detector()
    small = random_maps(64, 64, 1)
    # The same maps on a larger canvas with anything in the padding that the towers leave there: zeros.
    large = tuple(F.pad(x, (0, x.shape[-1], 0, x.shape[-2])) for x in small)
    with torch.no_grad():
        expected = detector(small, torch.tensor([[64, 64]]))["logits"]
        logits = detector(large, torch.tensor([[64, 64]]))["logits"]
        plain = detector(small)["logits"]
    torch.testing.assert_close(logits[..., :64, :64], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(plain, expected)


def test_loss_terms_from_their_definitions():
    detector = random_detector(
        probability_loss_weight=2.0, threshold_loss_weight=3.0, binary_loss_weight=5.0, binarization_steepness=10
    )
    labels = random_labels()
    torch.manual_seed(2)
    maps = {name: torch.randn(2, 1, 64, 96) for name in ("logits", "threshold_logits")}
    loss = detector.loss(maps, labels)
    assert {name: term.dtype for name, term in loss.items()} == dict.fromkeys(
        ("probability", "threshold", "binary"), torch.float32
    )

    def sigmoid(x):
        return 1 / (1 + np.exp(-x.astype(np.float64)))

    probability, threshold = (sigmoid(maps[name][:, 0].numpy()) for name in ("logits", "threshold_logits"))
    text, counted = (labels[name].numpy() > 0 for name in ("shrink_map", "shrink_mask"))
    assert text.any() and not counted.all()
    hardest = np.sort(-np.log(1 - probability[counted & ~text]))[::-1][: 3 * (text & counted).sum()]
    terms = np.concatenate([-np.log(probability[counted & text]), hardest])
    np.testing.assert_allclose(loss["probability"], 2 * terms.mean(), rtol=1e-4)

    border = labels["threshold_mask"].numpy() > 0
    error = np.abs(threshold - labels["threshold_map"].numpy())[border].mean()
    np.testing.assert_allclose(loss["threshold"], 3 * error, rtol=1e-4)

    binary = 1 / (1 + np.exp(-10 * (probability - threshold)))[counted]
    dice = 1 - 2 * binary[text[counted]].sum() / (binary.sum() + text[counted].sum())
    np.testing.assert_allclose(loss["binary"], 5 * dice, rtol=1e-4)


def test_auxiliary_loss_is_counted_for_each_image():
    detector = random_detector()
    labels = random_labels()
    torch.manual_seed(3)
    logits = torch.randn(2, 1, 2, 3)
    one_by_one = [
        detector.auxiliary_loss(logits[i : i + 1], {name: x[i : i + 1] for name, x in labels.items()}) for i in (0, 1)
    ]
    torch.testing.assert_close(detector.auxiliary_loss(logits, labels), (one_by_one[0] + one_by_one[1]) / 2)
    # A map that follows the labels costs less than the opposite one.
    follows = F.adaptive_max_pool2d(labels["shrink_map"].float()[:, None], (2, 3)) * 8 - 4
    assert detector.auxiliary_loss(follows, labels) < detector.auxiliary_loss(-follows, labels)


def test_labels_under_padding_do_not_count():
    detector = random_detector()
    labels, mask = random_labels(50, 75), torch.ones(2, 50, 75, dtype=torch.long)
    mask[1, 30:] = 0
    mask[1, :, 60:] = 0
    torch.manual_seed(4)
    maps = {name: torch.randn(2, 1, 64, 96) for name in ("logits", "threshold_logits")}
    prepared = detector.prepare_labels(labels, mask, 50, 75)
    assert {tuple(x.shape) for x in prepared.values()} == {(2, 64, 96)}
    other = {name: torch.where(mask > 0, x, 1 - x) for name, x in labels.items()}
    assert not torch.equal(other["shrink_map"], labels["shrink_map"])
    assert detector.loss(maps, prepared) == detector.loss(maps, detector.prepare_labels(other, mask, 50, 75))
    # What lies outside of the images has no say either.
    changed = {name: x.clone() for name, x in maps.items()}
    for x in changed.values():
        x[:, :, 50:] = 9
        x[1, :, 30:] = -9
    assert detector.loss(changed, prepared) == detector.loss(maps, prepared)
    assert labels["shrink_mask"][1, 30:].any()  # the caller's labels stay as they are


def test_unusable_labels():
    detector, labels = random_detector(), random_labels()
    with pytest.raises(ValueError, match="'threshold_map'.*build_db_targets"):
        detector.prepare_labels({name: x for name, x in labels.items() if name != "threshold_map"}, None, 64, 96)
    with pytest.raises(ValueError, match=r"'shrink_map'.*\(64, 96\)"):
        detector.prepare_labels(labels, None, 64, 64)
    # Another size that is padded to the same one does not fit either.
    with pytest.raises(ValueError, match=r"'shrink_map'.*\(64, 96\).*\(40, 70\)"):
        detector.prepare_labels(labels, None, 40, 70)


def test_logits_are_cut_to_the_input():
    logits = torch.arange(64 * 96).view(1, 1, 64, 96)
    assert torch.equal(random_detector().crop(logits, 50, 75), logits[:, :, :50, :75])
