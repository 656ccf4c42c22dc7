# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoBackbone, AutoConfig, AutoModel, PreTrainedModel
from transformers.backbone_utils import BackboneType

from tcm_hf.model.configuration_tcm import CLIPResNetConfig
from tcm_hf.model.modeling_attention import as_map, multi_head_attention, padding_bias
from tcm_hf.model.modeling_clip_resnet import CLIPResNetAttentionPool, CLIPResNetBackbone, CLIPResNetModel
from tcm_hf.model.modeling_masks import linear_resampling_matrix, resample_positions, round_up, stride_mask


def random_tower(seed=0, **fields) -> CLIPResNetModel:
    """A tower whose every weight and running statistic matters."""
    torch.manual_seed(seed)
    values = {"width": 8, "depths": [2, 1, 1, 1], "projection_dim": 12, "image_size": 64, "num_attention_heads": 4}
    config = CLIPResNetConfig(**{**values, **fields})
    tower = CLIPResNetModel(config).eval()
    for name, tensor in tower.state_dict().items():
        if "norm" in name and tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.5)
        elif name.endswith("position_embedding"):
            tensor.copy_(torch.randn_like(tensor))
    return tower


# Positions and masks


@pytest.mark.parametrize("length, table_length", [(7, 7), (3, 7), (20, 7), (1, 7), (5, 1), (13, 20)])
def test_resampling_is_bilinear_interpolation(length, table_length):
    table = torch.randn(1, 5, table_length)
    expected = F.interpolate(table, size=length, mode="linear", align_corners=False)
    matrix = linear_resampling_matrix(torch.tensor([length]), length, table_length)
    torch.testing.assert_close(matrix[0] @ table[0].T, expected[0].T)


def test_every_image_gets_the_table_at_its_own_size():
    table = torch.randn(49, 6)
    sizes = torch.tensor([[64, 160], [90, 33], [1, 1]])  # 2 x 5, 3 x 2 and 1 x 1 cells of 32 pixels
    positions = resample_positions(table, sizes, 4, 5, 32).view(3, 4, 5, 6)
    grid = table.view(1, 7, 7, 6).permute(0, 3, 1, 2)
    for i, (rows, columns) in enumerate([(2, 5), (3, 2), (1, 1)]):
        expected = F.interpolate(grid, size=(rows, columns), mode="bilinear", align_corners=False)
        torch.testing.assert_close(positions[i, :rows, :columns], expected[0].permute(1, 2, 0))
    without_padding = resample_positions(table, None, 4, 5, 32).view(4, 5, 6)
    expected = F.interpolate(grid, size=(4, 5), mode="bilinear", align_corners=False)
    torch.testing.assert_close(without_padding, expected[0].permute(1, 2, 0))


def test_positions_of_the_own_size_are_the_table():
    table = torch.randn(49, 6)
    torch.testing.assert_close(resample_positions(table, None, 7, 7, 32)[0], table)


@pytest.mark.parametrize("stride", [2, 4, 32])
def test_cells_with_any_pixel_of_the_picture_count(stride):
    sizes = torch.tensor([[64, 96], [33, 1], [50, 77]])
    pixels = torch.zeros(3, 1, 64, 96)
    for i, (height, width) in enumerate(sizes):
        pixels[i, :, :height, :width] = 1
    expected = F.max_pool2d(pixels, stride)
    assert torch.equal(stride_mask(sizes, 64 // stride, 96 // stride, stride, torch.float32), expected)


def test_round_up():
    assert [round_up(x) for x in (1, 31, 32, 33, 64)] == [32, 32, 32, 64, 64]


@pytest.mark.parametrize("implementation", ["sdpa", "eager", None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_against_torch(implementation, dtype):
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 5, 12), torch.randn(2, 9, 12), torch.randn(2, 9, 12)
    mask = torch.ones(2, 1, 2, 4)
    mask[1, :, :, 2:] = 0
    module = torch.nn.Module().eval()
    tokens, weights = multi_head_attention(
        module,
        implementation,
        *(x.to(dtype) for x in (query, key, value)),
        num_heads=3,
        attention_mask=padding_bias(mask, dtype, leading=1),
    )
    reference = torch.nn.MultiheadAttention(12, 3, bias=False, batch_first=True)
    with torch.no_grad():
        reference.in_proj_weight.copy_(torch.eye(12).repeat(3, 1))
        reference.out_proj.weight.copy_(torch.eye(12))
        hidden = torch.cat([torch.zeros(2, 1), 1 - mask.flatten(1)], dim=1).bool()
        expected, expected_weights = reference(query, key, value, key_padding_mask=hidden, average_attn_weights=False)
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.05, "atol": 0.05}
    torch.testing.assert_close(tokens.float(), expected, **tolerance)
    if implementation == "eager":
        torch.testing.assert_close(weights.float(), expected_weights, **tolerance)


# Attention pooling


def reference_pooling(pool, tokens, memory):
    """torch's own function, called as in CLIP's repository; tokens and memory of shape (tokens, batch, channels)."""
    return F.multi_head_attention_forward(
        tokens,
        memory,
        memory,
        embed_dim_to_check=256,
        num_heads=4,
        in_proj_weight=None,
        in_proj_bias=torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0,
        out_proj_weight=pool.c_proj.weight,
        out_proj_bias=pool.c_proj.bias,
        use_separate_proj_weight=True,
        q_proj_weight=pool.q_proj.weight,
        k_proj_weight=pool.k_proj.weight,
        v_proj_weight=pool.v_proj.weight,
        training=False,
        need_weights=False,
    )[0]


def test_attention_pooling_is_clips():
    """At the size of its table."""
    pool = random_tower().attention_pool
    x = torch.randn(2, 256, 2, 2)
    tokens = x.flatten(2).permute(2, 0, 1)
    tokens = torch.cat([tokens.mean(0, keepdim=True), tokens]) + pool.position_embedding[:, None]
    expected = reference_pooling(pool, tokens, tokens)
    with torch.no_grad():
        global_embedding, dense, _ = pool(x)
    torch.testing.assert_close(global_embedding, expected[0])
    torch.testing.assert_close(dense, expected[1:].permute(1, 2, 0).unflatten(2, (2, 2)))


@pytest.mark.parametrize("height, width", [(96, 160), (64, 96), (65, 33)])
def test_reduced_keys_and_values_are_means_of_squares(height, width):
    """Also of those that the border of the image cuts, and of a padded image."""
    pool = random_tower(attention_reduction=2).attention_pool
    rows, columns = round_up(height) // 32, round_up(width) // 32
    x = torch.zeros(1, 256, 4, 7)
    x[..., :rows, :columns] = torch.randn(1, 256, rows, columns)
    own = x[..., :rows, :columns]
    positions = resample_positions(pool.position_embedding[1:], torch.tensor([[height, width]]), rows, columns, 32)
    mean = own.mean((2, 3)) + pool.position_embedding[:1]
    grid = own + positions.unflatten(1, (rows, columns)).permute(0, 3, 1, 2)
    squares = [grid[..., i : i + 2, j : j + 2].mean((2, 3)) for i in range(0, rows, 2) for j in range(0, columns, 2)]
    tokens = torch.cat([mean[None], grid.flatten(2).permute(2, 0, 1)])
    expected = reference_pooling(pool, tokens, torch.stack([mean, *squares]))
    sizes = torch.tensor([[height, width]])
    with torch.no_grad():
        results = [pool(x, stride_mask(sizes, 4, 7, 32, x.dtype), sizes)]
        if (height % 32, width % 32) == (0, 0):
            results.append(pool(own))
    for global_embedding, dense, _ in results:
        torch.testing.assert_close(global_embedding, expected[0])
        expected_map = expected[1:].permute(1, 2, 0).unflatten(2, (rows, columns))
        torch.testing.assert_close(dense[..., :rows, :columns], expected_map)


def test_eager_and_sdpa_agree():
    tower = random_tower()
    x = torch.randn(2, 256, 3, 4)
    sizes = torch.tensor([[96, 128], [40, 70]])
    mask = stride_mask(sizes, 3, 4, 32, x.dtype)
    results = []
    for implementation in ("sdpa", "eager"):
        tower.attention_pool.config._attn_implementation = implementation
        with torch.no_grad():
            results.append(tower.attention_pool(x * mask, mask, sizes)[:2])
    torch.testing.assert_close(*results)


# The tower


def conv_norm(state, name, x, stride=1):
    weight = state[f"{name}.conv.weight"]
    x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
    parameters = [state[f"{name}.norm.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
    return F.batch_norm(x, *parameters)


def reference_maps(state, x, depths, pools=True):
    """Section 2.4 of CLIP's paper: three-convolution stem, blur pooling by averages, bottlenecks. Or strides in its place."""
    for i in range(3):
        x = conv_norm(state, f"stem.{i}", x, stride=2 if i == 0 else 1).relu()
    x = F.avg_pool2d(x, 2)
    maps = []
    for stage, depth in enumerate(depths):
        for block in range(depth):
            name = f"stages.{stage}.blocks.{block}"
            halve = stage > 0 and block == 0
            stride = 2 if halve and not pools else 1
            y = conv_norm(state, f"{name}.conv2", conv_norm(state, f"{name}.conv1", x).relu(), stride=stride).relu()
            y = conv_norm(state, f"{name}.conv3", F.avg_pool2d(y, 2) if halve and pools else y)
            if block == 0:
                x = conv_norm(state, f"{name}.shortcut", F.avg_pool2d(x, 2) if halve else x)
            x = (x + y).relu()
        maps.append(x)
    return maps


@pytest.mark.parametrize("downsampling", ["pooling", "convolution"])
def test_pyramid_is_that_of_clips_network(downsampling):
    tower = random_tower(downsampling=downsampling)
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        output = tower(x, output_hidden_states=True)
        expected = reference_maps(tower.state_dict(), x, [2, 1, 1, 1], pools=downsampling == "pooling")
    assert [tuple(m.shape) for m in output.feature_maps] == [
        (2, 32, 16, 24),
        (2, 64, 8, 12),
        (2, 128, 4, 6),
        (2, 256, 2, 3),
    ]
    assert tower.channels == [32, 64, 128, 256]
    torch.testing.assert_close(list(output.feature_maps), expected)
    assert (output.global_embedding.shape, output.dense_embeddings.shape) == ((2, 12), (2, 12, 2, 3))
    assert len(output.hidden_states) == 5 and output.hidden_states[0].shape == (2, 8, 16, 24)


@pytest.mark.parametrize("fields", [{}, {"attention_reduction": 2}, {"downsampling": "convolution"}])
@pytest.mark.parametrize("height, width", [(64, 96), (50, 75), (33, 32), (1, 40)])
def test_padding_changes_nothing(height, width, fields):
    tower = random_tower(**fields)
    picture = torch.randn(3, height, width)
    sizes = torch.tensor([[height, width]])
    outputs = []
    for canvas in [(round_up(height), round_up(width)), (96, 160)]:
        x = torch.zeros(1, 3, *canvas)
        x[0, :, :height, :width] = picture
        with torch.no_grad():
            outputs.append(tower(x, sizes))
    small, large = outputs
    for one, other in zip(
        (*small.feature_maps, small.dense_embeddings), (*large.feature_maps, large.dense_embeddings)
    ):
        rows, columns = one.shape[-2:]
        torch.testing.assert_close(other[..., :rows, :columns], one, rtol=1e-4, atol=1e-5)
        assert not other[..., rows:, :].any() and not other[..., columns:].any()
    torch.testing.assert_close(small.global_embedding, large.global_embedding, rtol=1e-4, atol=1e-5)


def test_full_mask_and_no_mask_agree():
    tower = random_tower()
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        plain, masked = tower(x), tower(x, torch.tensor([[64, 96]] * 2))
    torch.testing.assert_close(masked.feature_maps, plain.feature_maps)
    torch.testing.assert_close(masked.dense_embeddings, plain.dense_embeddings)


def test_without_embeddings():
    config = CLIPResNetConfig(width=8, depths=[1, 1, 1, 1])
    tower = CLIPResNetModel(config, embeds=False).eval()
    assert not any(isinstance(module, CLIPResNetAttentionPool) for module in tower.modules())
    output = tower(torch.randn(1, 3, 32, 32))
    assert output.global_embedding is None and output.dense_embeddings is None


# As a model and a backbone of transformers


def backbone_config(**fields) -> CLIPResNetConfig:
    return CLIPResNetConfig(width=8, depths=[1, 2, 1, 1], projection_dim=12, image_size=64, **fields)


def test_auto_classes(tmp_path):
    config = AutoConfig.for_model("clip_resnet", width=8, depths=[1, 2, 1, 1], projection_dim=12)
    assert type(config) is CLIPResNetConfig
    model = AutoModel.from_config(config).eval()
    assert type(model) is CLIPResNetModel and isinstance(model, PreTrainedModel)
    model.save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is CLIPResNetConfig
    again, loading = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(loading.values())
    # The backbone of the same checkpoint leaves the attention pooling out, and says nothing of it.
    # Not by `AutoBackbone`, which takes Hub ids and no directories.
    backbone, loading = CLIPResNetBackbone.from_pretrained(
        tmp_path, out_indices=(1, 2, 3, 4), output_loading_info=True
    )
    assert type(AutoBackbone.from_config(config)) is CLIPResNetBackbone and not any(loading.values())
    x = torch.randn(1, 3, 70, 96)
    with torch.no_grad():
        expected, outputs = model(x), again(x)
        torch.testing.assert_close(outputs.to_tuple(), expected.to_tuple(), rtol=0, atol=0)
        torch.testing.assert_close(backbone(x).feature_maps, expected.feature_maps, rtol=0, atol=0)
    assert torch.equal(expected.last_hidden_state, expected.feature_maps[-1])


@pytest.mark.parametrize(
    "fields, names",
    [
        ({}, ["stage4"]),
        ({"out_features": None, "out_indices": None}, ["stage4"]),
        ({"out_features": ["stage1", "stage3"]}, ["stage1", "stage3"]),
        ({"out_indices": [0, -1]}, ["stem", "stage4"]),
        ({"out_features": ["stem", "stage1"], "out_indices": [0, 1]}, ["stem", "stage1"]),
    ],
)
def test_outputs_of_a_backbone(fields, names, tmp_path):
    config = backbone_config(**fields)
    channels = dict(zip(["stem", "stage1", "stage2", "stage3", "stage4"], [8, 32, 64, 128, 256]))
    strides = dict(zip(channels, [4, 4, 8, 16, 32]))
    assert config.stage_names == list(channels) and config.out_features == names
    assert [config.stage_names[i] for i in config.out_indices] == names
    backbone = AutoBackbone.from_config(config).eval()
    assert backbone.backbone_type is BackboneType.TRANSFORMERS
    assert backbone.out_feature_channels == channels and backbone.channels == [channels[name] for name in names]
    outputs = backbone(torch.randn(2, 3, 64, 96))
    shapes = [(2, channels[name], 64 // strides[name], 96 // strides[name]) for name in names]
    assert [tuple(x.shape) for x in outputs.feature_maps] == shapes
    assert outputs.hidden_states is None and outputs.attentions is None
    states = backbone(torch.randn(2, 3, 64, 96), output_hidden_states=True).hidden_states
    assert [x.shape[1] for x in states] == list(channels.values())
    assert isinstance(backbone(torch.randn(1, 3, 64, 64), return_dict=False)[0], tuple)
    # What is saved is loaded, and the default outputs are not written: older code does not know of them.
    backbone.save_pretrained(tmp_path)
    assert CLIPResNetBackbone.from_pretrained(tmp_path).out_features == names
    assert ("out_features" in config.to_dict()) == (names != ["stage4"]) and "stage_names" not in config.to_dict()


def test_wrong_outputs_of_a_backbone():
    with pytest.raises(ValueError, match="out_features must be a subset of stage_names"):
        backbone_config(out_features=["stage5"])
    with pytest.raises(ValueError, match="should correspond to the same stages"):
        backbone_config(out_features=["stage1", "stage2"], out_indices=[0, 2])


@pytest.mark.parametrize("model_class", [CLIPResNetModel, CLIPResNetBackbone])
def test_unknown_arguments_of_the_tower(model_class):
    model = model_class(backbone_config())
    with pytest.raises(TypeError, match="unexpected keyword argument 'image_size'; did you mean 'image_sizes'"):
        model(torch.randn(1, 3, 32, 32), image_size=torch.tensor([[32, 32]]))


def test_hidden_states_and_attentions_of_the_tower():
    model = CLIPResNetModel._from_config(backbone_config(), attn_implementation="eager")
    x = torch.randn(1, 3, 64, 96)
    outputs = model(x, output_hidden_states=True, output_attentions=True)
    assert len(outputs.hidden_states) == 5 and [tuple(w.shape) for w in outputs.attentions] == [(1, 4, 7, 7)]
    assert model(x).hidden_states is None and model(x).attentions is None
    model.config.output_hidden_states = model.config.output_attentions = True
    assert len(model(x).hidden_states) == 5 and len(model(x).attentions) == 1
    model.set_attn_implementation("sdpa")
    assert model(x).attentions == ()


def test_maps_of_tokens_keep_their_channels_last():
    tokens = torch.randn(1, 6, 4)
    grid = as_map(tokens, 2, 3)
    assert grid.shape == (1, 4, 2, 3) and grid.data_ptr() == tokens.data_ptr()
    torch.testing.assert_close(grid[0, :, 1, 2], tokens[0, 5])
    # An operation that follows its input's layout tells which one PyTorch sees.
    assert F.avg_pool2d(grid, 1).stride()[1] == 1
