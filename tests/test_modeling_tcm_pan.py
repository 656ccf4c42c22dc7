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

from tcm_hf import TCMConfig, TCMForTextDetection, TCMImageProcessor
from tcm_hf.model.decoding_pan import decode_pan
from tcm_hf.model.modeling_tcm_pan import PANDetector
from tcm_hf.model.polygons import polygon_iou
from tcm_hf.targets import build_pan_targets


def tiny_pan_config(**kwargs) -> TCMConfig:
    values = {**tiny_config().to_dict(), "detector": "pan", "detector_config": {"neck_channels": 16}, **kwargs}
    return TCMConfig(**values)


def tiny_model(**kwargs) -> TCMForTextDetection:
    torch.manual_seed(0)
    model = TCMForTextDetection(tiny_pan_config(**kwargs)).eval()
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # As after training: padding is not 0 after a normalization.
            module.running_mean.normal_(std=0.3, generator=generator)
            module.bias.data.normal_(std=0.3, generator=generator)
    return model


def quad(x0, y0, x1, y1):
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float64)


def batched_targets(polygons, ignore, height, width, **kwargs):
    targets = build_pan_targets(polygons, ignore, height, width, **kwargs)
    return {name: torch.from_numpy(value)[None] for name, value in targets.items()}


def tiny_labels(height=96, width=128):
    polygons = [quad(8, 8, 60, 36), quad(8, 50, 60, 80), quad(70, 8, 120, 40), quad(70, 50, 120, 80)]
    return batched_targets(polygons, [False, False, False, True], height, width)


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
        (r"^neck\.reduce_conv_c(\d)\.", lambda m: f"detector.neck.reduce_convs.{int(m[1]) - 2}."),
        (r"^neck\.fpems\.", "detector.neck.enhancements."),
        (r"\.downsample\.0\.", ".shortcut.conv."),
        (r"\.downsample\.1\.", ".shortcut.norm."),
        (r"blocks\.(\d)\.conv(\d)\.", r"blocks.\1.conv\2.conv."),
        (r"blocks\.(\d)\.bn(\d)\.", r"blocks.\1.conv\2.norm."),
        (r"\.(up|down)_add(\d)\.", lambda m: f".{m[1]}_convs.{int(m[2]) - 1}."),
        (r"\.(depth|point)wise_conv\.", r".\1wise."),
        (r"(_convs\.\d)\.bn\.", r"\1.norm."),
    ):
        key = re.sub(pattern, replacement, key)
    return key


@pytest.fixture(scope="module")
def published_forward():
    """Image tower and detector with the published weights; the text side comes in as the published score map."""
    inputs = fixture_inputs()
    manifest = json.loads(shared_path("parity/tcm_pan_ctw/manifest.json").read_text())
    wanted = {k: v for k, v in manifest.items() if re.match(r"neck|bbox_head|backbone\.(?!attnpool)", k)}
    state = {own_key(key): torch.from_numpy(value) for key, value in inputs.fill(wanted).items()}
    head = state.pop("bbox_head.out_conv.weight")
    for i, part in enumerate(head.chunk(4, dim=1)):
        state[f"detector.head.level_convs.{i}.weight"] = part
    state["detector.head.level_convs.0.bias"] = state.pop("bbox_head.out_conv.bias")
    model = TCMForTextDetection(TCMConfig(detector="pan", text_side=False))
    model.detector = PANDetector(model.config, [256, 512, 1024, 2049])
    model.load_state_dict(state)
    model.eval()
    with np.load(shared_path("parity/tcm_pan_ctw/forward_640x640.npz")) as file:
        expected = {name: file[name] for name in file.files}
    with torch.no_grad():
        feature_maps = model.model(torch.from_numpy(inputs.make_batch(640, 640, [0]))).feature_maps
        score_map = torch.from_numpy(expected["score_map"])
        feature_maps = (*feature_maps[:-1], torch.cat([feature_maps[-1], score_map], dim=1))
        neck = model.detector.neck(feature_maps, [None] * 4)
        maps = model.detector(feature_maps, None)
    return model.detector, neck, maps, score_map, expected, inputs


def test_neck_and_head_agree_with_the_published_numbers(published_forward):
    _, neck, maps, _, expected, inputs = published_forward
    for i, x in enumerate(neck):
        x = torch.nn.functional.interpolate(x, scale_factor=2**i, mode="bilinear")
        summary = inputs.summary(x.numpy())
        for name in ("mean", "std", "first64", "strided256"):
            difference = np.abs(summary[name] - expected[f"neck{i}__{name}"]).max()
            assert difference < 1e-6 * expected[f"neck{i}__absmax"]
    assert maps["logits"].shape == (1, 6, 160, 160)
    assert np.abs(maps["logits"][:, :, ::2, ::2].numpy() - expected["head_ds2"]).max() < 5e-5


@pytest.mark.parametrize("own_targets", [False, True])
def test_losses_agree_with_the_published_numbers(published_forward, own_targets):
    detector, _, maps, score_map, _, inputs = published_forward
    with np.load(shared_path("parity/targets/mixed__pan_0.5.npz")) as file:
        text, kernels = torch.from_numpy(file["gt_kernels"].astype(np.int16))[:, None]
        labels = {"text_map": text, "kernel_map": kernels, "text_mask": torch.from_numpy(file["gt_mask"])}
    if own_targets:
        sets = inputs.POLYGON_SETS["mixed"]
        polygons = [np.array(points).reshape(-1, 2) for points in sets["polys"] + sets["ignore"]]
        flags = [False] * len(sets["polys"]) + [True] * len(sets["ignore"])
        labels = batched_targets(polygons, flags, 640, 640)
    expected = json.loads(shared_path("parity/tcm_pan_ctw/info.json").read_text())["loss__mixed"]
    losses = detector.loss(maps, labels)
    for name, value in losses.items():
        assert float(value) == pytest.approx(expected[f"bbox.loss_{name}"], rel=1e-4)
    assert set(losses) == {"text", "kernel", "aggregation", "discrimination"}
    auxiliary = detector.auxiliary_loss(score_map / 0.07, labels)
    assert float(auxiliary) == pytest.approx(expected["aux.loss_pix_cls"], rel=1e-4)


def test_losses_agree_where_only_the_loss_is_published(published_forward):
    """Ignored and curved text: targets that are not published show in the published losses."""
    detector, _, maps, score_map, _, inputs = published_forward
    sets = inputs.POLYGON_SETS["ignored"]
    polygons = [np.array(points).reshape(-1, 2) for points in sets["polys"] + sets["ignore"]]
    flags = [False] * len(sets["polys"]) + [True] * len(sets["ignore"])
    labels = batched_targets(polygons, flags, 640, 640)
    expected = json.loads(shared_path("parity/tcm_pan_ctw/info.json").read_text())["loss__ignored"]
    for name, value in detector.loss(maps, labels).items():
        assert float(value) == pytest.approx(expected[f"bbox.loss_{name}"], rel=1e-4)
    auxiliary = detector.auxiliary_loss(score_map / 0.07, labels)
    assert float(auxiliary) == pytest.approx(expected["aux.loss_pix_cls"], rel=1e-4)


# ---------------------------------------------------------------------- the loss, term by term


def terms_pixel_by_pixel(logits, text, kernels, mask):
    """PAN's terms for one image from plain loops over pixels, unweighted."""
    height, width = text.shape
    probability = 1 / (1 + np.exp(-logits[:2].astype(np.float64)))
    pixels = [(y, x) for y in range(height) for x in range(width)]
    background = sorted((logits[0][p] for p in pixels if text[p] == 0), reverse=True)
    num_text = sum(text[p] > 0 and mask[p] > 0 for p in pixels)
    hardest = background[: 3 * num_text][-1]
    counted = [p for p in pixels if mask[p] and (text[p] > 0 or logits[0][p] >= hardest)]

    def dice(probability, target, pixels):
        overlap = sum(probability[p] * target[p] for p in pixels)
        squares = sum(probability[p] ** 2 for p in pixels) + sum(target[p] for p in pixels)
        return 1 - 2 * overlap / (squares + 2e-3)

    text_loss = dice(probability[0], text > 0, counted)
    kernel_loss = dice(probability[1], kernels > 0, [p for p in pixels if mask[p] and text[p] > 0])
    embeddings = logits[2:].astype(np.float64)
    centers, aggregation = {}, []
    for label in range(1, max(text.max(), kernels.max()) + 1):
        if (kernels == label).any() and (text == label).any():
            centers[label] = embeddings[:, kernels == label].mean(axis=1)
            members = [embeddings[:, y, x] for y, x in pixels if text[y, x] == label]
            costs = [np.log(max(np.linalg.norm(m - centers[label]) - 0.5, 0) ** 2 + 1) for m in members]
            aggregation.append(np.mean(costs))
    pairs = [(i, j) for i in centers for j in centers if i < j]
    costs = [np.log(max(3 - np.linalg.norm(centers[i] - centers[j]), 0) ** 2 + 1) for i, j in pairs]
    discrimination = sum(costs) / (2 * len(pairs))
    return {
        "text": text_loss,
        "kernel": kernel_loss,
        "aggregation": np.mean(aggregation),
        "discrimination": discrimination,
    }


def test_loss_terms_against_loops():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 6, 24, 32)).astype(np.float32)
    text = np.zeros((2, 24, 32), dtype=np.int16)
    text[0, 2:10, 2:14], text[0, 12:20, 2:14], text[0, 2:10, 18:30] = 1, 2, 3
    text[1, 4:12, 4:20], text[1, 14:22, 8:28] = 1, 4
    kernels = np.zeros_like(text)
    kernels[0, 4:8, 4:12], kernels[0, 14:18, 4:12] = 1, 2  # the third has no kernel
    kernels[1, 6:10, 6:18], kernels[1, 16:20, 10:26], kernels[1, 0:2, 0:2] = 1, 4, 3  # kernel 3 has no text left
    mask = np.ones_like(text, dtype=np.uint8)
    mask[0, 0:6, 20:32], mask[1, 20:, :] = 0, 0
    large = {
        name: torch.from_numpy(x).repeat_interleave(4, 1).repeat_interleave(4, 2)
        for name, x in (("text_map", text), ("kernel_map", kernels), ("text_mask", mask))
    }
    weights = {"text": 0.9, "kernel": 0.8, "aggregation": 0.7, "discrimination": 0.6}
    settings = {f"{name}_loss_weight": weight for name, weight in weights.items()}
    detector = PANDetector(tiny_pan_config(detector_config=settings), [4, 4, 4, 4])
    losses = detector.loss({"logits": torch.from_numpy(logits)}, large)
    expected = [terms_pixel_by_pixel(*image) for image in zip(logits, text, kernels, mask)]
    for name, value in losses.items():
        assert float(value) == pytest.approx(weights[name] * np.mean([terms[name] for terms in expected]), rel=1e-5)


def test_a_perfect_map_costs_nothing_and_is_decoded():
    """Maps that are fitted by gradient descent on the loss decode to the texts of the targets."""
    polygons = [quad(16, 16, 140, 60), quad(148, 16, 300, 60), quad(16, 72, 300, 120)]
    labels = batched_targets(polygons, [False] * 3, 160, 320)
    detector = PANDetector(tiny_pan_config(), [4, 4, 4, 4])
    torch.manual_seed(0)
    logits = torch.nn.Parameter(0.1 * torch.randn(1, 6, 40, 80))
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        losses = detector.loss({"logits": logits}, labels)
        sum(losses.values()).backward()
        optimizer.step()
    assert all(value.item() < 0.02 for value in losses.values())
    found, scores = decode_pan(logits[0].detach().numpy())
    assert len(found) == 3 and scores.min() > 0.9
    for polygon in polygons:
        # Outlines run through the centers of cells of 4 x 4 pixels.
        assert max(polygon_iou(4 * outline.astype(np.float64), polygon) for outline in found) > 0.85


def test_auxiliary_loss_reads_the_text_map():
    labels = tiny_labels()
    detector = PANDetector(tiny_pan_config(), [4, 4, 4, 4])
    good = torch.nn.functional.max_pool2d((labels["text_map"] > 0).float()[:, None], 32) * 20 - 10
    assert detector.auxiliary_loss(good, labels) < 0.5 < detector.auxiliary_loss(-good, labels)
    losses = tiny_model()(torch.randn(1, 3, 96, 128), labels=labels).loss_dict
    assert set(losses) == {"text", "kernel", "aggregation", "discrimination", "auxiliary"}
    losses = tiny_model(auxiliary_loss_weight=0.0)(torch.randn(1, 3, 96, 128), labels=labels).loss_dict
    assert "auxiliary" not in losses


@pytest.mark.parametrize("case", ["no text", "only ignored text", "text everywhere", "one text", "all padding"])
def test_losses_and_gradients_are_finite(case):
    height, width = 64, 96
    regions = {
        "no text": ([], []),
        "only ignored text": ([quad(0, 0, 96, 64)], [True]),
        "text everywhere": ([quad(-50, -50, 150, 150)], [False]),
        "one text": ([quad(10, 10, 80, 50)], [False]),
        "all padding": ([quad(10, 10, 80, 50)], [False]),
    }
    labels = batched_targets(*regions[case], height, width)
    pixel_mask = torch.ones(1, height, width, dtype=torch.int64)
    if case == "all padding":
        pixel_mask[:] = 0
    model = tiny_model()
    outputs = model(torch.randn(1, 3, height, width), pixel_mask=pixel_mask, labels=labels)
    outputs.loss.backward()
    assert torch.isfinite(outputs.loss)
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
            assert outputs.logits.shape == (2, 6, -(-height // 4), -(-width // 4))
            assert torch.isfinite(outputs.logits).all()


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
            alone = model(images[i]).logits[0]
            assert torch.allclose(together.logits[i, :, : alone.shape[1], : alone.shape[2]], alone, atol=1e-5)
    assert together.image_sizes.tolist() == [list(size) for size in sizes]


def test_padding_has_no_influence_on_the_loss():
    model = tiny_model()
    image, labels = torch.randn(1, 3, 96, 128), tiny_labels()
    padded = torch.randn(1, 3, 160, 192)
    padded[:, :, :96, :128] = image
    mask = torch.zeros(1, 160, 192, dtype=torch.int64)
    mask[:, :96, :128] = 1
    # Labels that say text where there is padding.
    padded_labels = {name: torch.full((1, 160, 192), 2, dtype=x.dtype) for name, x in labels.items()}
    for name, x in labels.items():
        padded_labels[name][:, :96, :128] = x
    with torch.no_grad():
        alone = model(image, labels=labels).loss_dict
        together = model(padded, pixel_mask=mask, labels=padded_labels).loss_dict
    for name in ("text", "kernel", "aggregation", "discrimination"):
        assert float(together[name]) == pytest.approx(float(alone[name]), rel=1e-4)


def test_half_precision():
    model = tiny_model()
    image, labels = torch.randn(1, 3, 64, 96), tiny_labels(64, 96)
    with torch.no_grad():
        exact = model(image, labels=labels)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = model(image, labels=labels)
        assert outputs.loss.dtype == torch.float32 and torch.isfinite(outputs.loss)
        assert float(outputs.loss) == pytest.approx(float(exact.loss), rel=0.1)
        half = model.to(torch.bfloat16)(image.to(torch.bfloat16), pixel_mask=torch.ones(1, 64, 96, dtype=torch.int64))
    scale = exact.logits.abs().max()
    assert half.logits.dtype == torch.bfloat16
    assert (half.logits.float() - exact.logits).abs().max() < 0.1 * scale


def test_initial_logits_do_not_saturate():
    torch.manual_seed(0)
    model = TCMForTextDetection(tiny_pan_config())  # in training mode, with the batch's statistics
    logits = model(torch.randn(2, 3, 64, 96)).logits
    assert 1e-4 < logits.std() < 2


def test_save_load_and_detect(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    TCMImageProcessor(detector="pan").save_pretrained(tmp_path)
    loaded, info = TCMForTextDetection.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and loaded.config.detector == "pan"
    assert loaded.config.detector_config["embedding_channels"] == 4
    processor = TCMImageProcessor.from_pretrained(tmp_path)
    image = np.random.default_rng(0).integers(0, 255, (90, 130, 3), dtype=np.uint8)
    inputs = processor([image], return_tensors="pt")
    with torch.no_grad():
        outputs = loaded(**inputs)
        # Weights that are mapped from a file lie at other addresses, which changes the order of sums.
        assert torch.allclose(outputs.logits, model(**inputs).logits, rtol=0, atol=1e-6)
    (result,) = processor.post_process_text_detection(outputs, target_sizes=[(90, 130)], threshold=0.0)
    assert len(result["polygons"]) == len(result["scores"])


def test_settings_and_labels_are_checked():
    with pytest.raises(StrictDataclassClassValidationError, match="num_fpems"):
        tiny_pan_config(detector_config={"num_fpems": 2})
    model = tiny_model(detector_config={"neck_channels": 8, "num_enhancements": 1, "embedding_channels": 3})
    image, labels = torch.randn(1, 3, 64, 96), tiny_labels(64, 96)
    assert model(image).logits.shape[1] == 5
    with pytest.raises(ValueError, match="kernel_map.*build_pan_targets"):
        model(image, labels={name: x for name, x in labels.items() if name != "kernel_map"})
    with pytest.raises(ValueError, match="but `pixel_values`"):
        model(image, labels=tiny_labels(128, 96))


def test_without_text_side_and_on_a_compiled_graph():
    model = tiny_model(text_side=False)
    image = torch.randn(1, 3, 64, 96)
    mask = torch.ones(1, 64, 96, dtype=torch.int64)
    with torch.no_grad():
        exported = torch.export.export(model, (image,), kwargs={"pixel_mask": mask}, strict=False).module()
        assert torch.allclose(exported(image, pixel_mask=mask).logits, model(image, pixel_mask=mask).logits, atol=1e-5)
