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
"""A tiny TCM with random weights, and a stand-in for its forward pass with known answers."""

import torch
from PIL import Image, ImageDraw

from tcm_hf.model.configuration_tcm import TCMConfig
from tcm_hf.model.image_processing_tcm import TCMImageProcessor
from tcm_hf.model.modeling_tcm import TCMForTextDetection, TCMTextDetectionOutput
from tcm_hf.model.pipeline_text_detection import TextDetectionPipeline


VIT = {
    "model_type": "clip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 16,
    "projection_dim": 32,
}


def tiny_config() -> TCMConfig:
    return TCMConfig(
        vision_config={"width": 8, "depths": [1, 1, 1, 1], "projection_dim": 32, "image_size": 64},
        text_config={
            "vocab_size": 100,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "projection_dim": 32,
            "max_position_embeddings": 16,
            "bos_token_id": 0,
            "eos_token_id": 99,
            "pad_token_id": 1,
        },
        prompt_token_ids=[0, 5, 6, 99],
        decoder_layers=1,
        decoder_hidden_size=32,
        decoder_attention_heads=2,
        decoder_ffn_dim=64,
        detector_config={"neck_channels": 32, "head_channels": 16},
    )


def tiny_detector(tower: str = "resnet", detector: str = "db", **fields) -> TCMForTextDetection:
    """
    A random model of any tower and detector, each of whose weights, scales and running statistics matters. The ResNet's
    attention pooling looks at means over squares, as the bundled checkpoint's does.
    """
    torch.manual_seed(0)
    values = {**tiny_config().to_dict(), "context_scale_init": 0.8, "visual_prompt_scale_init": 0.7}
    values["vision_config"]["attention_reduction"] = 2
    if tower == "vit":
        values.update(vision_config=dict(VIT), pyramid_channels=16)
    if detector != "db":
        values.update(detector=detector, detector_config={"neck_channels": 16})
    model = TCMForTextDetection(TCMConfig(**{**values, **fields}))
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point() and tensor.dim() == 1:
                tensor.add_(0.2 * torch.rand_like(tensor))
    return model.eval()


def tiny_pipeline(shortest_edge: int = 96, **kwargs) -> TextDetectionPipeline:
    """The pipeline around a random model: its texts mean nothing, but they depend on every part of the model."""
    torch.manual_seed(0)
    return TextDetectionPipeline(
        model=TCMForTextDetection(tiny_config()).eval(),
        image_processor=TCMImageProcessor(size={"shortest_edge": shortest_edge, "longest_edge": 2 * shortest_edge}),
        task="text-detection",
        device="cpu",
        **kwargs,
    )


def find_white(pixel_values, pixel_mask=None, **kwargs) -> TCMTextDetectionOutput:
    """Stands in for the model's forward pass: whatever is nearly white is text, of probability 0.9."""
    white = (pixel_values > 1.5).all(1, keepdim=True)
    sizes = None
    if pixel_mask is not None:
        sizes = torch.stack([pixel_mask.amax(2).sum(1), pixel_mask.amax(1).sum(1)], dim=1)
    return TCMTextDetectionOutput(logits=torch.where(white, 2.1972246, -8.0), image_sizes=sizes)


def white_pipeline(monkeypatch, shortest_edge: int = 1024, **kwargs) -> TextDetectionPipeline:
    """The pipeline with `find_white`, without expansion of what is found, so that answers are known."""
    pipe = tiny_pipeline(shortest_edge, **{"unclip_ratio": 0.0, **kwargs})
    monkeypatch.setattr(pipe.model, "forward", find_white)
    return pipe


def black_picture(width: int, height: int, *boxes: tuple[int, int, int, int]) -> Image.Image:
    """A black image with white boxes, each given by its first and its last pixel (left, top, right, bottom)."""
    image = Image.new("RGB", (width, height))
    for box in boxes:
        ImageDraw.Draw(image).rectangle(box, fill=(255, 255, 255))
    return image
