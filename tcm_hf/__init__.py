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
"""TCM and FastTCM: CLIP models turned into detectors of scene text, for transformers.

Importing the package registers TCM with transformers' Auto classes and the `"text-detection"` pipeline task.
"""

from transformers import AutoBackbone, AutoConfig, AutoImageProcessor, AutoModel, AutoModelForObjectDetection
from transformers.models.auto import image_processing_auto
from transformers.pipelines import PIPELINE_REGISTRY

from ._version import __version__
from .checkpoints import checkpoint_names, checkpoint_path
from .model.configuration_tcm import CLIPResNetConfig, TCMConfig
from .model.detectors import (
    ConversionRules,
    Decoder,
    Detector,
    DetectorSettings,
    register_decoder,
    register_detector,
    setting,
)
from .model.image_processing_tcm import TCMImageProcessor
from .model.modeling_clip_resnet import CLIPResNetBackbone, CLIPResNetModel
from .model.modeling_tcm import (
    TCMForTextDetection,
    TCMModel,
    TCMModelOutput,
    TCMPreTrainedModel,
    TCMTextDetectionOutput,
)
from .model.pipeline_text_detection import TextDetectionPipeline
from .visualization import draw_detections


#: Directory of the checkpoint that is used where none is named.
DEFAULT_CHECKPOINT = checkpoint_path()


def _register() -> None:
    """Makes TCM known to transformers, and its classes ready to travel with a published checkpoint."""
    AutoConfig.register(TCMConfig.model_type, TCMConfig, exist_ok=True)
    AutoConfig.register(CLIPResNetConfig.model_type, CLIPResNetConfig, exist_ok=True)
    AutoModel.register(TCMConfig, TCMModel, exist_ok=True)
    AutoModel.register(CLIPResNetConfig, CLIPResNetModel, exist_ok=True)
    AutoBackbone.register(CLIPResNetConfig, CLIPResNetBackbone, exist_ok=True)
    AutoModelForObjectDetection.register(TCMConfig, TCMForTextDetection, exist_ok=True)
    # It needs no torchvision. Who asks for that backend is told that this one is taken; without being asked, transformers
    # would prefer torchvision where it is installed, and say the same.
    AutoImageProcessor.register(TCMConfig, image_processor_classes={"pil": TCMImageProcessor}, exist_ok=True)
    of_pil = getattr(image_processing_auto, "DEFAULT_TO_PIL_BACKEND_IMAGE_PROCESSORS", [])
    if TCMImageProcessor.__name__ not in of_pil:
        of_pil.append(TCMImageProcessor.__name__)
    TCMConfig.register_for_auto_class()
    CLIPResNetConfig.register_for_auto_class()
    CLIPResNetModel.register_for_auto_class("AutoModel")
    CLIPResNetBackbone.register_for_auto_class("AutoBackbone")
    TCMModel.register_for_auto_class("AutoModel")
    TCMForTextDetection.register_for_auto_class("AutoModelForObjectDetection")
    TCMImageProcessor.register_for_auto_class()
    PIPELINE_REGISTRY.register_pipeline(
        "text-detection",
        pipeline_class=TextDetectionPipeline,
        pt_model=AutoModelForObjectDetection,
        default={"model": (DEFAULT_CHECKPOINT, "main")},
        type="image",
    )


_register()

__all__ = [
    "DEFAULT_CHECKPOINT",
    "CLIPResNetBackbone",
    "CLIPResNetConfig",
    "CLIPResNetModel",
    "ConversionRules",
    "Decoder",
    "Detector",
    "DetectorSettings",
    "TCMConfig",
    "TCMForTextDetection",
    "TCMImageProcessor",
    "TCMModel",
    "TCMModelOutput",
    "TCMPreTrainedModel",
    "TCMTextDetectionOutput",
    "TextDetectionPipeline",
    "__version__",
    "checkpoint_names",
    "checkpoint_path",
    "draw_detections",
    "register_decoder",
    "register_detector",
    "setting",
]
