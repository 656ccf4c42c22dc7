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

Importing the package loads neither torch nor transformers: the public names are loaded when they are used. TCM is known to
transformers' Auto classes and to its `"text-detection"` pipeline task as soon as these are loaded, before or afterwards.
"""

import importlib
from typing import TYPE_CHECKING

from . import registration
from ._version import __version__
from .checkpoints import checkpoint_names, checkpoint_path


if TYPE_CHECKING:
    from .export.model import TCMRuntimeModel
    from .inputs.sources import iterate_images
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
    from .outputs.supervision_detections import to_supervision
    from .visualization import draw_detections


#: Directory of the checkpoint that is used where none is named.
DEFAULT_CHECKPOINT = checkpoint_path()

# The module of every public name that is not here yet.
_MODULES = {
    "CLIPResNetBackbone": "model.modeling_clip_resnet",
    "CLIPResNetConfig": "model.configuration_tcm",
    "CLIPResNetModel": "model.modeling_clip_resnet",
    "ConversionRules": "model.detectors",
    "Decoder": "model.detectors",
    "Detector": "model.detectors",
    "DetectorSettings": "model.detectors",
    "TCMConfig": "model.configuration_tcm",
    "TCMForTextDetection": "model.modeling_tcm",
    "TCMImageProcessor": "model.image_processing_tcm",
    "TCMModel": "model.modeling_tcm",
    "TCMModelOutput": "model.modeling_tcm",
    "TCMPreTrainedModel": "model.modeling_tcm",
    "TCMRuntimeModel": "export.model",
    "TCMTextDetectionOutput": "model.modeling_tcm",
    "TextDetectionPipeline": "model.pipeline_text_detection",
    "draw_detections": "visualization",
    "iterate_images": "inputs.sources",
    "register_decoder": "model.detectors",
    "register_detector": "model.detectors",
    "setting": "model.detectors",
    "to_supervision": "outputs.supervision_detections",
}

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
    "TCMRuntimeModel",
    "TCMTextDetectionOutput",
    "TextDetectionPipeline",
    "__version__",
    "checkpoint_names",
    "checkpoint_path",
    "draw_detections",
    "iterate_images",
    "register_decoder",
    "register_detector",
    "setting",
    "to_supervision",
]

# Names that are loaded already are looked up anew when the package is reloaded.
for _name in _MODULES:
    globals().pop(_name, None)


def __getattr__(name: str):
    if name in _MODULES:
        value = getattr(registration.load(f"{__name__}.{_MODULES[name]}"), name)
    elif name in ("model", "visualization"):  # before, importing the package loaded them
        value = importlib.import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


registration.install()
