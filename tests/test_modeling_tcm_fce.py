# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
import importlib.util
import json
import re

import numpy as np
import pytest
import torch
from conftest import shared_path
from huggingface_hub.errors import StrictDataclassClassValidationError
from tiny_model import tiny_config

from tcm_hf import TCMConfig, TCMForTextDetection, TCMImageProcessor, TextDetectionPipeline
from tcm_hf.model.decoding_fce import decode_fce
from tcm_hf.model.modeling_tcm_fce import FCEDetector, fourier_contours
from tcm_hf.model.polygons import polygon_iou
from tcm_hf.targets import build_fce_targets


STRIDES = (8, 16, 32)


def tiny_fce_config(**kwargs) -> TCMConfig:
    values = {**tiny_config().to_dict(), "detector": "fce", "detector_config": {"neck_channels": 16}, **kwargs}
    return TCMConfig(**values)


def tiny_model(**kwargs) -> TCMForTextDetection:
    torch.manual_seed(0)
    model = TCMForTextDetection(tiny_fce_config(**kwargs)).eval()
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # As after training: padding is not 0 after a normalization.
            module.running_mean.normal_(std=0.3, generator=generator)
            module.bias.data.normal_(std=0.3, generator=generator)
    for module in model.detector.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data.normal_(std=0.1, generator=generator)
            module.bias.data.normal_(std=0.3, generator=generator)
    return model


def quad(x0, y0, x1, y1):
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float64)


def batched_targets(polygons, ignore, height, width, **kwargs):
    targets = build_fce_targets(polygons, ignore, height, width, **kwargs)
    return {name: torch.from_numpy(value)[None] for name, value in targets.items()}


def tiny_labels(height=96, width=128, **kwargs):
    polygons = [quad(8, 8, 60, 36), quad(8, 50, 60, 80), quad(70, 8, 100, 40), quad(70, 50, 120, 80)]
    return batched_targets(polygons, [False, False, False, True], height, width, **kwargs)


# ---------------------------------------------------------------------- against the published numbers


def fixture_inputs():
    spec = importlib.util.spec_from_file_location("fixture_inputs", shared_path("parity/fixture_inputs.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def own_key(key):
    """Name of a published weight of the image tower, the neck or the head."""
    for pattern, replacement in (
        (r"^backbone\.conv(\d)\.", lambda m: f"model.vision_tower.stem.{int(m[1]) - 1}.conv."),
        (r"^backbone\.bn(\d)\.", lambda m: f"model.vision_tower.stem.{int(m[1]) - 1}.norm."),
        (r"^backbone\.layer(\d)\.", lambda m: f"model.vision_tower.stages.{int(m[1]) - 1}.blocks."),
        (r"\.downsample\.0\.", ".shortcut.conv."),
        (r"\.downsample\.1\.", ".shortcut.norm."),
        (r"blocks\.(\d)\.conv(\d)\.", r"blocks.\1.conv\2.conv."),
        (r"blocks\.(\d)\.bn(\d)\.", r"blocks.\1.conv\2.norm."),
        (r"^neck\.lateral_convs\.(\d)\.conv\.", r"detector.neck.lateral_convs.\1."),
        (r"^neck\.fpn_convs\.(\d)\.conv\.", r"detector.neck.smooth_convs.\1."),
        (r"^bbox_head\.out_conv_cls\.", "detector.head.classifier."),
        (r"^bbox_head\.out_conv_reg\.", "detector.head.regressor."),
    ):
        key = re.sub(pattern, replacement, key)
    return key


@pytest.fixture(scope="module")
def published_forward():
    """Image tower and detector with the published weights; the text side comes in as the published score map."""
    inputs = fixture_inputs()
    manifest = json.loads(shared_path("parity/tcm_fce_ic15/manifest.json").read_text())
    wanted = {k: v for k, v in manifest.items() if re.match(r"neck|bbox_head|backbone\.(?!attnpool)", k)}
    state = {own_key(key): torch.from_numpy(value) for key, value in inputs.fill(wanted).items()}
    model = TCMForTextDetection(TCMConfig(detector="fce", text_side=False))
    model.detector = FCEDetector(model.config, [256, 512, 1024, 2049])
    model.load_state_dict(state)
    model.eval()
    with np.load(shared_path("parity/tcm_fce_ic15/forward_640x640.npz")) as file:
        expected = {name: file[name] for name in file.files}
    with torch.no_grad():
        feature_maps = model.model(torch.from_numpy(inputs.make_batch(640, 640, [0]))).feature_maps
        score_map = torch.from_numpy(expected["score_map"])
        feature_maps = (*feature_maps[:-1], torch.cat([feature_maps[-1], score_map], dim=1))
        neck = model.detector.neck(feature_maps[1:], [None] * 3)
        maps = model.detector(feature_maps, None)
    return model.detector, neck, maps, score_map, expected, inputs


def test_neck_and_head_agree_with_the_published_numbers(published_forward):
    _, neck, maps, _, expected, inputs = published_forward
    for i, (level, logits) in enumerate(zip(neck, maps["logits"])):
        assert logits.shape == (1, 26, 80 >> i, 80 >> i)
        parts = {"neck": level, "head_cls": logits[:, :4], "head_reg": logits[:, 4:]}
        for name, value in parts.items():
            summary = inputs.summary(value.numpy())
            for key in ("mean", "std", "first64", "strided256"):
                assert np.abs(summary[key] - expected[f"{name}{i}__{key}"]).max() < 5e-5
        assert np.abs(logits[:, :4, ::2, ::2].numpy() - expected[f"head_cls{i}_ds2"]).max() < 5e-5
        assert np.abs(logits[:, 4:, ::4, ::4].numpy() - expected[f"head_reg{i}_ds4"]).max() < 5e-5


def published_labels(name):
    with np.load(shared_path(f"parity/targets/{name}__fce_ic15.npz")) as file:
        levels = (file["p3_maps"], file["p4_maps"], file["p5_maps"])
        labels = {f"level_maps_{stride}": maps for stride, maps in zip(STRIDES, levels)}
        labels["matching_maps"] = file["matching_maps"][[0, 2]]
    return {key: torch.from_numpy(value)[None] for key, value in labels.items()}


# The targets of "ignored" are not published, but its losses are.
@pytest.mark.parametrize(("name", "own_targets"), [("mixed", False), ("mixed", True), ("ignored", True)])
def test_losses_agree_with_the_published_numbers(published_forward, name, own_targets):
    detector, _, maps, score_map, _, inputs = published_forward
    if own_targets:
        sets = inputs.POLYGON_SETS[name]
        polygons = [np.array(points).reshape(-1, 2) for points in sets["polys"] + sets["ignore"]]
        flags = [False] * len(sets["polys"]) + [True] * len(sets["ignore"])
        labels = batched_targets(polygons, flags, 640, 640)
    else:
        labels = published_labels(name)
    labels = detector.prepare_labels(labels, None, 640, 640)
    expected = json.loads(shared_path("parity/tcm_fce_ic15/info.json").read_text())[f"loss__{name}"]
    losses = detector.loss(maps, labels)
    official = {"text": "text", "center": "center", "regression_x": "reg_x", "regression_y": "reg_y"}
    assert set(losses) == set(official)
    for key, value in losses.items():
        assert float(value) == pytest.approx(expected[f"bbox.loss_{official[key]}"], rel=1e-4)
    auxiliary = detector.auxiliary_loss(score_map / 0.07, labels)
    assert float(auxiliary) == pytest.approx(expected["aux.loss_pix_cls"], rel=1e-4)


# ---------------------------------------------------------------------- the loss, term by term


def contour_points(real, imaginary, count):
    """FCE's equation 1, in complex numbers."""
    degree = len(real) // 2
    time = np.arange(count) / count
    points = sum(
        (real[k + degree] + 1j * imaginary[k + degree]) * np.exp(2j * np.pi * k * time)
        for k in range(-degree, degree + 1)
    )
    return points.real, points.imag


def terms_cell_by_cell(logits, maps, count):
    """FCE's terms for one level of a batch, from plain loops over cells."""

    def cross_entropy(pair, target):
        shifted = pair - pair.max()
        return np.log(np.exp(shifted).sum()) - shifted[target]

    cells = [(b, y, x) for b in range(len(maps)) for y in range(maps.shape[2]) for x in range(maps.shape[3])]
    logits = {cell: logits[cell[0], :, cell[1], cell[2]].astype(np.float64) for cell in cells}
    maps = {cell: maps[cell[0], :, cell[1], cell[2]].astype(np.float64) for cell in cells}
    text = [cell for cell in cells if maps[cell][0] * maps[cell][2] > 0]
    background = [cell for cell in cells if maps[cell][0] == 0 and maps[cell][2] > 0]
    wrong = sorted((cross_entropy(logits[cell][:2], 0) for cell in background), reverse=True)
    wrong = wrong[: 3 * len(text) if text else 100]
    right = [cross_entropy(logits[cell][:2], 1) for cell in text]
    terms = {"text": (sum(right) + sum(wrong)) / (len(right) + len(wrong))}
    if not text:
        return {**terms, "center": 0.0, "regression_x": 0.0, "regression_y": 0.0}
    center = {cell: cross_entropy(logits[cell][2:4], int(maps[cell][1])) for cell in cells}
    terms["center"] = np.mean([center[cell] for cell in text])
    terms["center"] += 0.5 * np.mean([center[cell] for cell in cells if cell not in text])
    distances = {"regression_x": [], "regression_y": []}
    for cell in text:
        predicted = contour_points(*np.split(logits[cell][4:], 2), count)
        wanted = contour_points(*np.split(maps[cell][3:], 2), count)
        for name, p, w in zip(distances, predicted, wanted):
            error = np.abs(p - w)
            smooth = np.where(error < 1, 0.5 * error**2, error - 0.5)
            distances[name].append((1 + maps[cell][1]) / 2 * smooth.mean())
    return {**terms, **{name: np.mean(values) for name, values in distances.items()}}


def test_loss_terms_against_loops():
    rng = np.random.default_rng(0)
    polygons = [quad(10, 10, 70, 40), quad(90, 20, 150, 60), quad(20, 60, 140, 90)]
    images = [batched_targets(polygons, [False, True, False], 96, 160, fourier_degree=2),
              batched_targets(polygons[1:2], [False], 96, 160, fourier_degree=2)]  # fmt: skip
    labels = {name: torch.cat([image[name] for image in images]) for name in images[0]}
    logits = [rng.normal(size=(2, 14, 96 // s, 160 // s)).astype(np.float32) for s in STRIDES]
    weights = {"text": 0.9, "center": 0.8, "regression_x": 0.7, "regression_y": 0.7}
    settings = {
        f"{name}_loss_weight": weight for name, weight in (("text", 0.9), ("center", 0.8), ("regression", 0.7))
    }
    config = tiny_fce_config(detector_config={"fourier_degree": 2, "num_points": 17, **settings})
    detector = FCEDetector(config, [4, 4, 4, 4])
    prepared = detector.prepare_labels(labels, None, 96, 160)
    losses = detector.loss({"logits": [torch.from_numpy(x) for x in logits]}, prepared)
    levels = [terms_cell_by_cell(x, labels[f"level_maps_{s}"].numpy(), 17) for x, s in zip(logits, STRIDES)]
    # Levels with and without text are among them.
    assert [bool(terms["center"]) for terms in levels] == [False, True, True]
    for name, value in losses.items():
        assert float(value) == pytest.approx(weights[name] * sum(terms[name] for terms in levels), rel=1e-5)


def test_contours_of_torch_and_numpy_agree():
    from tcm_hf.model.decoding_fce import fourier_contours as numpy_contours

    values = np.random.default_rng(0).normal(size=(3, 2, 11))
    expected = numpy_contours(values[:, 0] + 1j * values[:, 1], 50)
    points = fourier_contours(torch.from_numpy(values).flatten(1), 50)
    assert np.allclose(points.movedim(1, 2).numpy(), expected)


def test_maps_fitted_to_the_loss_decode_to_the_texts():
    polygons = [quad(16, 16, 140, 60), quad(148, 16, 300, 60), quad(16, 72, 300, 120)]
    detector = FCEDetector(tiny_fce_config(), [4, 4, 4, 4])
    labels = detector.prepare_labels(batched_targets(polygons, [False] * 3, 160, 320), None, 160, 320)
    torch.manual_seed(0)
    logits = [torch.nn.Parameter(0.1 * torch.randn(1, 26, 160 // s, 320 // s)) for s in STRIDES]
    optimizer = torch.optim.Adam(logits, lr=0.5)
    for _ in range(120):
        optimizer.zero_grad()
        losses = detector.loss({"logits": logits}, labels)
        sum(losses.values()).backward()
        optimizer.step()
    assert all(value.item() < 0.05 for value in losses.values())
    found, scores = decode_fce([x[0].detach().numpy() for x in logits], whole_pixels=False)
    assert len(found) == 3 and scores.min() > 0.9
    for polygon in polygons:
        assert max(polygon_iou(outline, polygon) for outline in found) > 0.88


def test_auxiliary_loss_reads_the_matching_maps():
    labels = tiny_labels()
    detector = FCEDetector(tiny_fce_config(), [4, 4, 4, 4])
    labels["matching_maps"][0, 0, 0] = 0  # some background
    good = labels["matching_maps"][:, :1].float() * 20 - 10
    assert detector.auxiliary_loss(good, labels) < 0.01 < 5 < detector.auxiliary_loss(-good, labels)
    masked = {"matching_maps": labels["matching_maps"] * torch.tensor([1, 0])[:, None, None]}
    assert detector.auxiliary_loss(-good, masked) == 0
    losses = tiny_model()(torch.randn(1, 3, 96, 128), labels=tiny_labels()).loss_dict
    assert set(losses) == {"text", "center", "regression_x", "regression_y", "auxiliary"}
    losses = tiny_model(auxiliary_loss_weight=0.0)(torch.randn(1, 3, 96, 128), labels=tiny_labels()).loss_dict
    assert "auxiliary" not in losses


@pytest.mark.parametrize("case", ["no text", "only ignored text", "text everywhere", "one text", "all padding"])
def test_losses_and_gradients_are_finite(case):
    height, width = 64, 96
    regions = {
        "no text": ([], []),
        "only ignored text": ([quad(0, 0, 96, 64)], [True]),
        "text everywhere": ([quad(-50, -50, 150, 150)], [False]),
        "one text": ([quad(10, 10, 50, 50)], [False]),
        "all padding": ([quad(10, 10, 50, 50)], [False]),
    }
    labels = batched_targets(*regions[case], height, width)
    pixel_mask = torch.ones(1, height, width, dtype=torch.int64)
    if case == "all padding":
        pixel_mask[:] = 0
    model = tiny_model()
    outputs = model(torch.randn(1, 3, height, width), pixel_mask=pixel_mask, labels=labels)
    outputs.loss.backward()
    assert torch.isfinite(outputs.loss)
    if case == "no text":
        assert outputs.loss_dict["text"] > 0 and outputs.loss_dict["center"] == 0
    # Every weight of the detector has a gradient, which distributed training relies on.
    gradients = [p.grad for p in model.detector.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    if case == "one text":
        assert all(g.any() for g in gradients)


# ---------------------------------------------------------------------- the model


def test_sizes_and_crop():
    model = tiny_model()
    with torch.no_grad():
        for height, width in ((64, 96), (70, 33), (32, 32), (1, 5)):
            outputs = model(torch.randn(2, 3, height, width))
            shapes = [tuple(x.shape) for x in outputs.logits]
            assert shapes == [(2, 26, -(-height // s), -(-width // s)) for s in STRIDES]
            assert all(torch.isfinite(x).all() for x in outputs.logits)


def test_padding_has_no_influence():
    model = tiny_model()
    torch.manual_seed(2)
    sizes = [(64, 96), (70, 50), (33, 127)]
    images = [torch.randn(1, 3, *size) for size in sizes]
    batch = 100 * torch.randn(3, 3, 128, 160)  # what is in the padding must not matter
    mask = torch.zeros(3, 128, 160, dtype=torch.int64)
    for i, (height, width) in enumerate(sizes):
        batch[i, :, :height, :width] = images[i]
        mask[i, :height, :width] = 1
    with torch.no_grad():
        together = model(batch, pixel_mask=mask)
        for i in range(len(sizes)):
            for level, alone in zip(together.logits, model(images[i]).logits):
                part = level[i, :, : alone.shape[2], : alone.shape[3]]
                assert torch.allclose(part, alone[0], atol=2e-5)
    assert together.image_sizes.tolist() == [list(size) for size in sizes]


def test_padding_has_no_influence_on_the_loss():
    model = tiny_model()
    image, labels = torch.randn(1, 3, 90, 120), tiny_labels(90, 120)
    padded = torch.randn(1, 3, 160, 192)
    padded[:, :, :90, :120] = image
    mask = torch.zeros(1, 160, 192, dtype=torch.int64)
    mask[:, :90, :120] = 1
    # Labels that say text where there is padding.
    padded_labels = tiny_labels(160, 192)
    for name, x in labels.items():
        padded_labels[name][:] = 2
        padded_labels[name][..., : x.shape[-2], : x.shape[-1]] = x
    with torch.no_grad():
        alone = model(image, labels=labels).loss_dict
        together = model(padded, pixel_mask=mask, labels=padded_labels).loss_dict
    assert len(alone) == 5
    for name, value in alone.items():
        assert float(together[name]) == pytest.approx(float(value), rel=1e-4)


def test_half_precision():
    model = tiny_model()
    image, labels = torch.randn(1, 3, 64, 96), tiny_labels(64, 96)
    mask = torch.ones(1, 64, 96, dtype=torch.int64)
    with torch.no_grad():
        exact = model(image, labels=labels)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = model(image, pixel_mask=mask, labels=labels)
        assert outputs.loss.dtype == torch.float32 and torch.isfinite(outputs.loss)
        assert float(outputs.loss) == pytest.approx(float(exact.loss), rel=0.1)
        half = model.to(torch.bfloat16)(image.to(torch.bfloat16), pixel_mask=mask)
    for level, expected in zip(half.logits, exact.logits):
        assert level.dtype == torch.bfloat16
        assert (level.float() - expected).abs().max() < 0.1 * expected.abs().max()


def test_initial_contours_are_small():
    torch.manual_seed(0)
    model = TCMForTextDetection(tiny_fce_config())  # in training mode, with the batch's statistics
    for level in model(torch.randn(2, 3, 64, 96)).logits:
        assert 1e-5 < level.std() < 1


def test_save_load_and_detect(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    TCMImageProcessor(detector="fce", size={"shortest_edge": 96}).save_pretrained(tmp_path)
    loaded, info = TCMForTextDetection.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and loaded.config.detector == "fce"
    assert loaded.config.detector_config["fourier_degree"] == 5
    processor = TCMImageProcessor.from_pretrained(tmp_path)
    images = list(np.random.default_rng(0).integers(0, 255, (3, 90, 130, 3), dtype=np.uint8))
    images[1] = images[1][:60]
    inputs = processor(images[:1], return_tensors="pt")
    with torch.no_grad():
        for level, expected in zip(loaded(**inputs).logits, model(**inputs).logits):
            # Weights that are mapped from a file lie at other addresses, which changes the order of sums.
            assert torch.allclose(level, expected, rtol=0, atol=1e-5)
    # The pipeline takes batches of levels apart.
    images = [torch.from_numpy(image).movedim(-1, 0) for image in images]
    pipe = TextDetectionPipeline(model=loaded, image_processor=processor, task="text-detection", device="cpu")
    arguments = {"threshold": 0.02, "max_candidates": 200}
    one_by_one = [pipe(image, **arguments) for image in images]
    together = pipe(images, batch_size=3, **arguments)
    assert any(one_by_one) and [len(texts) for texts in together] == [len(texts) for texts in one_by_one]
    for texts, others in zip(one_by_one, together):
        assert np.allclose([t["score"] for t in texts], [t["score"] for t in others], atol=1e-4)


def test_settings_and_labels_are_checked():
    with pytest.raises(StrictDataclassClassValidationError, match="fourier_k"):
        tiny_fce_config(detector_config={"fourier_k": 2})
    model = tiny_model(detector_config={"neck_channels": 8, "fourier_degree": 3})
    image, labels = torch.randn(1, 3, 64, 96), tiny_labels(64, 96, fourier_degree=3)
    assert [x.shape[1] for x in model(image, labels=labels).logits] == [18, 18, 18]
    with pytest.raises(ValueError, match="level_maps_16.*build_fce_targets"):
        model(image, labels={name: x for name, x in labels.items() if name != "level_maps_16"})
    for other in (tiny_labels(128, 96, fourier_degree=3), tiny_labels(64, 96)):
        with pytest.raises(ValueError, match="need"):
            model(image, labels=other)


def test_without_text_side_and_on_an_exported_graph():
    model = tiny_model(text_side=False)
    image = torch.randn(1, 3, 64, 96)
    mask = torch.ones(1, 64, 96, dtype=torch.int64)
    with torch.no_grad():
        exported = torch.export.export(model, (image,), kwargs={"pixel_mask": mask}, strict=False).module()
        outputs = exported(image, pixel_mask=mask)
        for level, expected in zip(outputs.logits, model(image, pixel_mask=mask).logits):
            assert torch.allclose(level, expected, atol=1e-5)
