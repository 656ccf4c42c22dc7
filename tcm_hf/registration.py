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
"""Makes TCM known to transformers without loading it: as soon as one of its registries and a class for it are both there."""

# Only the standard library here: `import tcm_hf` runs this file.
import importlib
import sys
import threading
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from .checkpoints import checkpoint_path


def _register_configuration(registry: ModuleType, own: ModuleType) -> None:
    for config in (own.TCMConfig, own.CLIPResNetConfig):
        registry.AutoConfig.register(config.model_type, config, exist_ok=True)
        config.register_for_auto_class()


def _register_models(registry: ModuleType, own: ModuleType) -> None:
    registry.AutoModel.register(own.TCMConfig, own.TCMModel, exist_ok=True)
    registry.AutoModelForObjectDetection.register(own.TCMConfig, own.TCMForTextDetection, exist_ok=True)
    own.TCMModel.register_for_auto_class("AutoModel")
    own.TCMForTextDetection.register_for_auto_class("AutoModelForObjectDetection")


def _register_tower(registry: ModuleType, own: ModuleType) -> None:
    from .model.configuration_tcm import CLIPResNetConfig

    registry.AutoModel.register(CLIPResNetConfig, own.CLIPResNetModel, exist_ok=True)
    registry.AutoBackbone.register(CLIPResNetConfig, own.CLIPResNetBackbone, exist_ok=True)
    own.CLIPResNetModel.register_for_auto_class("AutoModel")
    own.CLIPResNetBackbone.register_for_auto_class("AutoBackbone")


def _register_image_processor(registry: ModuleType, own: ModuleType) -> None:
    from .model.configuration_tcm import TCMConfig

    # It needs no torchvision. Who asks for that backend is told that this one is taken; without being asked, transformers
    # would prefer torchvision where it is installed, and say the same.
    registry.AutoImageProcessor.register(
        TCMConfig, image_processor_classes={"pil": own.TCMImageProcessor}, exist_ok=True
    )
    of_pil = getattr(registry, "DEFAULT_TO_PIL_BACKEND_IMAGE_PROCESSORS", [])
    if own.TCMImageProcessor.__name__ not in of_pil:
        of_pil.append(own.TCMImageProcessor.__name__)
    own.TCMImageProcessor.register_for_auto_class()


def _register_pipeline(registry: ModuleType, own: ModuleType) -> None:
    from transformers import AutoModelForObjectDetection

    known = registry.PIPELINE_REGISTRY.supported_tasks.get("text-detection", {})
    if known.get("impl") is own.TextDetectionPipeline:  # transformers warns of a second time
        return
    registry.PIPELINE_REGISTRY.register_pipeline(
        "text-detection",
        pipeline_class=own.TextDetectionPipeline,
        pt_model=AutoModelForObjectDetection,
        default={"model": (checkpoint_path(), "main")},
        type="image",
    )


# (module of a registry, module of the classes for it, what is done when both are loaded)
_REGISTRATIONS = (
    ("transformers.models.auto.configuration_auto", "tcm_hf.model.configuration_tcm", _register_configuration),
    ("transformers.models.auto.modeling_auto", "tcm_hf.model.modeling_clip_resnet", _register_tower),
    ("transformers.models.auto.modeling_auto", "tcm_hf.model.modeling_tcm", _register_models),
    (
        "transformers.models.auto.image_processing_auto",
        "tcm_hf.model.image_processing_tcm",
        _register_image_processor,
    ),
    ("transformers.pipelines", "tcm_hf.model.pipeline_text_detection", _register_pipeline),
)


class _Progress(threading.local):
    """What a thread is importing of transformers and of this package."""

    def __init__(self):
        self.depth = 0
        self.waiting: list[tuple] = []


_progress = _Progress()


def install() -> None:
    """Registers TCM where transformers' registries are loaded, and sees to it that the others follow."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    for registration in _REGISTRATIONS:
        if registration[0] in sys.modules:
            _progress.waiting.append(registration)
    if not _progress.depth:
        _register_waiting()


def load(name: str) -> ModuleType:
    """
    Imports a module of this package.

    The registry that it belongs to comes first: two threads, of which one holds the registry and waits for the module, and the
    other one the reverse, would wait for each other.
    """
    for registry, own, _ in _REGISTRATIONS:
        if own == name:
            importlib.import_module(registry)
    return importlib.import_module(name)


def _register_waiting() -> None:
    while _progress.waiting:
        registry, own, register = _progress.waiting.pop(0)
        register(importlib.import_module(registry), importlib.import_module(own))


# wrapt has such a hook, but for single modules, once, and at once: transformers' modules import each other in circles, so that a
# class for a registry can only be loaded when the outermost of them is complete; and a module may be reloaded.
class _Finder(MetaPathFinder):
    """Finds modules of transformers and of `model/` as the other finders do, and gives them a loader that reports."""

    def find_spec(self, fullname, path=None, target=None) -> ModuleSpec | None:
        if not fullname.startswith(("transformers.", "tcm_hf.model.")):
            return None
        # Those in front of this one have been asked already.
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            spec = finder.find_spec(fullname, path, target) if hasattr(finder, "find_spec") else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _ReportingLoader(spec.loader)
                return spec
        return None


class _ReportingLoader(Loader):
    """Runs a module with its own loader, and registers what has become possible when no other one is being run."""

    def __init__(self, loader: Loader):
        self.loader = loader

    def __getattr__(self, name: str):
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # Whoever asks the module for its source finds its own loader.
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        _progress.depth += 1
        try:
            self.loader.exec_module(module)
        finally:
            _progress.depth -= 1
        _progress.waiting += [each for each in _REGISTRATIONS if module.__name__ in each[:2]]
        if not _progress.depth:
            _register_waiting()
