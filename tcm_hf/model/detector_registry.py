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
"""
The registry of detectors: one declaration gives a detector to configuration, model, image processor, training, `tcm-hf
inspect` and `tcm-hf convert`.

A detector of your own is one file, outside of this package, that ends with a declaration:

```python
from dataclasses import dataclass

from torch import nn

from tcm_hf import Decoder, Detector, DetectorSettings, register_detector, setting


@dataclass
class ToySettings(DetectorSettings):  # what `detector_config` of a configuration may hold, with defaults and checks
    channels: int = setting(16, least=1)


class ToyDetector(nn.Module):  # `ToyDetector(config, in_channels)`, see `Detector` for its methods
    ...


def build_toy_targets(polygons, ignore, height, width):  # outlines -> the maps that the loss compares with
    ...


def decode_toy(probabilities, *, score_threshold=0.5):  # the model's maps -> outlines and scores
    ...


register_detector(
    Detector("toy", settings=ToySettings, module=ToyDetector, decoder=Decoder(decode_toy), targets=build_toy_targets)
)
```

Importing the file makes the detector known: `TCMConfig(detector="toy")` builds it, `TCMImageProcessor(detector="toy")`
decodes it and makes its labels. On the command line the file stands for the name, as in `tcm-hf inspect ... --targets
toy.py`. The file is saved and pushed with the model, so that the checkpoint also loads elsewhere, with
`trust_remote_code=True`. For that everything has to be in this file, the public names of `tcm_hf` and the modules of
`tcm_hf.model` that it imports excepted, and `register_detector` has to be called when it is imported.

Parts of a declaration may be references, `"module:name"`, which are looked up where they are used and not before: so
the declaration of a detector loads neither the network where only maps are decoded, nor OpenCV where only a model runs.
"""

import copy
import functools
import importlib
import importlib.util
import inspect
import os
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Any


#: What a detector's module has to have beside `forward`.
MODULE_METHODS = ("forward", "loss", "auxiliary_loss", "prepare_labels", "crop")
REQUIRED_PARTS = ("settings", "module", "decoder", "targets")


# Settings -----------------------------------------------------------------------------------------------------------


def setting(default: Any, least: float | None = None) -> Any:
    """
    A field of [`DetectorSettings`].

    Args:
        default: its default.
        least (`float`, *optional*): the smallest value that it may have.
    """
    return field(default=default, metadata={"least": least})


@dataclass
class DetectorSettings:
    """
    Base of a detector's settings, the typed form of `TCMConfig.detector_config`. A detector's own class is a dataclass
    whose fields all have defaults. Fields of the types `int`, `float`, `bool`, `str` and `... | None` are checked, and
    others are left to a `__post_init__` of the class.

    Raises:
        ValueError: if a value has another type, or is below the `least` of its [`setting`].
    """

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for each in fields(self):
            _check_setting(each.name, getattr(self, each.name), hints[each.name], each.metadata.get("least"))

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """All settings with their defaults."""
        return {
            each.name: each.default if each.default_factory is MISSING else each.default_factory()
            for each in fields(cls)
        }


_KINDS: dict[Any, tuple[str, tuple[type, ...]]] = {
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
    bool: ("True or False", (bool,)),
    str: ("a text", (str,)),
}


def _check_setting(name: str, value: Any, hint: Any, least: float | None) -> None:
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    kinds = [kind for kind in (typing.get_args(hint) if is_union else (hint,)) if kind is not type(None)]
    if (value is None and is_union and type(None) in typing.get_args(hint)) or not set(kinds) <= set(_KINDS):
        return
    words = " or ".join(_KINDS[kind][0] for kind in kinds)
    if least is not None:
        words = f"{words} of at least {least:g}"
    right = type(value) in {each for kind in kinds for each in _KINDS[kind][1]}
    if not right or (least is not None and value < least):
        raise ValueError(f"`{name}` of `detector_config` has to be {words}, got {value!r}.")


def _settings_class(name: str, defaults: Mapping[str, Any]) -> type[DetectorSettings]:
    """Settings of which only the defaults are known; those that are numbers have to stay so."""
    entries: list[tuple[str, Any, Any]] = []
    for key, value in defaults.items():
        kind = float if type(value) in (int, float) else Any
        # A function, because a dataclass refuses lists and dicts as defaults.
        entries.append((key, kind, field(default_factory=functools.partial(copy.deepcopy, value))))
    return make_dataclass(f"{name.title()}Settings", entries, bases=(DetectorSettings,))


# Parts --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decoder:
    """
    How the maps of one detector become polygons.

    Args:
        function (`Callable`):
            `function(map, **arguments) -> (polygons, scores)`. The map is a float32 array of shape `(height, width)`,
            or `(channels, height, width)` when the detector has several channels, without the padded area. The
            polygons are arrays of shape `(n, 2)` in map pixels, ordered as [`~polygons.order_clockwise`] does, the scores
            floats in 0..1. A detector of several levels has a tuple of maps; the function gets the list of them, and its
            polygons are in pixels of `pixel_values`.
        defaults (`dict`, *optional*):
            Default of every keyword argument of the function; by default those of its signature. Those named
            `score_threshold` and `shape` are the `threshold` and `shape` of
            [`TCMImageProcessor.post_process_text_detection`].
        activation (`str`, *optional*, defaults to `"sigmoid"`):
            What is applied to the logits, in fp32: `"sigmoid"` or `"none"`.
        stride (`int` or `tuple[int, ...]`, *optional*, defaults to 1):
            Pixels of `pixel_values` per map pixel, or those of every level.
        least (`dict[str, float]`, *optional*):
            Least values of arguments; one that is an `int` stands for an argument of whole numbers. Arguments whose name
            ends with `threshold` or `share` lie in 0..1 anyway.
        text_map (`Callable`, *optional*):
            `text_map(map) -> np.ndarray`, the text probability (height, width) in 0..1 in the maps that `function` gets, for
            those who look at it. By default the map itself, where it is a single one of one channel.

    Raises:
        ValueError: if the activation is unknown or a stride is not positive.
    """

    function: Callable[..., Any]
    defaults: Mapping[str, Any] | None = None
    activation: str = "sigmoid"
    stride: int | tuple[int, ...] = 1
    least: Mapping[str, float] = field(default_factory=dict)
    text_map: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        if self.activation not in ("sigmoid", "none"):
            raise ValueError(f"activation of a decoder must be 'sigmoid' or 'none', got {self.activation!r}")
        strides = self.stride if isinstance(self.stride, tuple) else (self.stride,)
        if min(strides, default=0) < 1:
            raise ValueError(f"stride of a decoder must be at least 1, got {self.stride}")

    @property
    def keywords(self) -> dict[str, Any]:
        """The keyword arguments of the function with their defaults."""
        if self.defaults is not None:
            return dict(self.defaults)
        parameters = inspect.signature(self.function).parameters.values()
        return {each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty}


@dataclass(frozen=True)
class ConversionRules:
    """
    How weights of a detector that was trained elsewhere become this one's, for `tcm-hf convert`.

    Args:
        prefixes (`tuple[str, ...]`):
            Beginnings of names in the file that tell that it holds this detector; those of no other one.
        weights (`list[tuple[str, str | Callable, str]]`):
            For the weights of the module a regular expression of our name, what it is called in the file (a template
            for `re.Match.expand`, or a function of the match), and the operation: `"same"`, or another one of
            `tcm_hf.conversion.layouts`.
        settings (`Callable`):
            `settings(weights) -> dict`, the `detector_config` that the shapes tell; `weights` is a
            [`~conversion.layouts.Weights`].
        presets (`dict[str, dict]`, *optional*):
            For each benchmark the fields of [`TCMImageProcessor`] that the trained models were tested with.
        image_mean (`tuple[float, float, float]`, *optional*):
            RGB mean in 0..255 that they were trained with, where it is not that of MMOCR.
        baseline (`str`, *optional*):
            What the detector without text side is called.
        limits (`tuple[str, ...]`, *optional*):
            Sentences for the model card about what is otherwise here.
    """

    prefixes: tuple[str, ...]
    weights: list[tuple[str, str | Callable, str]]
    settings: Callable[[Any], dict]
    presets: Mapping[str, dict] = field(default_factory=dict)
    image_mean: tuple[float, float, float] | None = None
    baseline: str | None = None
    limits: tuple[str, ...] = ()


# The declaration ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Detector:
    """
    Everything that belongs to a detector. Each part is an object, or a reference `"module:name"` to it.

    Args:
        name (`str`): the name in `TCMConfig.detector`.
        settings (`type`): a dataclass of [`DetectorSettings`].
        module (`type`):
            An `nn.Module`, built as `module(config, in_channels)` with the channels of the four feature maps at strides 4
            to 32. `config.detector_settings` has its settings. Its methods are

            - `forward(feature_maps, image_sizes=None, training_maps=False) -> dict` with `"logits"`, a map or a tuple of
              them, and what the loss needs beside it where `training_maps` is true; `image_sizes` (batch, 2) are the sizes
              in pixels without padding;
            - `loss(maps, labels) -> dict[str, Tensor]`, the weighted terms;
            - `auxiliary_loss(matching_logits, labels) -> Tensor`, of the matching map (batch, 1, H/32, W/32);
            - `prepare_labels(labels, pixel_mask, height, width) -> dict`, the labels of the size of the maps, which is the
              input's rounded up to multiples of 32, without padding;
            - `crop(logits, height, width)`, the logits for the input's own size.
        decoder ([`Decoder`]): maps to polygons.
        targets (`Callable`):
            `targets(polygons, ignore, height, width, **settings) -> dict[str, np.ndarray]`, outlines in pixels to the
            labels of one image, as [`~targets.db.build_db_targets`]. It may be called in the processes of a data loader.
        target_settings (`tuple[str, ...]`, *optional*):
            Names of those settings that are also keyword arguments of `targets`.
        target_views (`Callable`, *optional*):
            `target_views(maps, height, width) -> list[np.ndarray]`, RGB uint8 images of shape (height, width, 3) of what
            `targets` made, for `tcm-hf inspect`. By default each map of the image's proportions is drawn in gray.
        conversion ([`ConversionRules`], *optional*): for `tcm-hf convert`.
        title (`str`, *optional*): the name in model cards; by default the name in capitals.
        source (`str`, *optional*):
            The module whose import registers the detector, which travels with checkpoints; set by `register_detector`.
    """

    name: str
    settings: Any = None
    module: Any = None
    decoder: Any = None
    targets: Any = None
    target_settings: tuple[str, ...] = ()
    target_views: Any = None
    conversion: Any = None
    title: str | None = None
    source: str | None = None

    @property
    def display_name(self) -> str:
        """The name in model cards."""
        return self.title or self.name.upper()

    def has(self, part: str) -> bool:
        """Whether a part is declared."""
        return getattr(self, part) is not None

    def part(self, part: str) -> Any:
        """
        A part itself, also where a reference is declared.

        Raises:
            ValueError: if the detector does not declare the part.
            ImportError: if what the reference names cannot be imported.
        """
        value = getattr(self, part)
        if value is None:
            raise ValueError(
                f"the detector {self.name!r} declares no {part}: register it with `tcm_hf.register_detector(Detector("
                f"{self.name!r}, ..., {part}=...))`"
            )
        return _resolve(value, self.name, part) if isinstance(value, str) else value

    def target_builder(
        self, detector_config: Mapping[str, Any] | None = None, changes: Mapping[str, Any] | None = None
    ) -> Callable[..., dict[str, Any]]:
        """
        The function that makes the labels of one image.

        Args:
            detector_config (`dict`, *optional*): the model's settings, of which `target_settings` are passed on.
            changes (`dict`, *optional*): other arguments of `targets`, which win.

        Returns:
            `Callable`: `builder(polygons, ignore, height, width) -> dict[str, np.ndarray]`.

        Raises:
            ValueError: if `targets` does not know an argument, or refuses its value.
        """
        settings = {
            name: (detector_config or {})[name] for name in self.target_settings if name in (detector_config or {})
        }
        builder = functools.partial(self.part("targets"), **{**settings, **(changes or {})})
        try:
            builder([], [], 32, 32)
        except TypeError as error:
            raise ValueError(str(error)) from error
        return builder

    def make_settings(self, values: Mapping[str, Any] | None = None) -> DetectorSettings:
        """
        The settings in their typed form.

        Args:
            values (`dict`, *optional*): those that differ from the defaults, as in `detector_config`.

        Raises:
            ValueError: if there is an unknown setting, or a value is wrong.
        """
        settings = self.part("settings")
        known = [each.name for each in fields(settings)]
        unknown = sorted(set(values or {}) - set(known))
        if unknown:
            raise ValueError(
                f"Unknown settings {unknown} in `detector_config` of detector {self.name!r}; known settings: "
                f"{sorted(known)}."
            )
        return settings(**(values or {}))


def _resolve(reference: str, name: str, part: str) -> Any:
    module, _, attribute = reference.partition(":")
    try:
        # A relative one is beside this file, wherever transformers has copied both.
        found = importlib.import_module(module, __package__)
        return getattr(found, attribute)
    except ModuleNotFoundError as error:
        if error.name is None or module != error.name and not module.startswith(f"{error.name}."):
            raise
        package = module.partition(".")[0]
        raise ImportError(
            f"the {part} of the detector {name!r} are in {module}, which is not installed; they do not travel with a "
            f"checkpoint: install {package}"
        ) from error
    except AttributeError as error:
        raise ImportError(f"the {part} of the detector {name!r} are declared as {reference!r}: {error}") from error


# The registry -------------------------------------------------------------------------------------------------------

_REGISTRY: dict[str, Detector] = {}


def register_detector(
    detector: Detector | str,
    detector_class: Any = None,
    defaults: Mapping[str, Any] | None = None,
    *,
    exist_ok: bool = False,
) -> None:
    """
    Makes a detector known under its name, so that `TCMConfig(detector=name)` builds it.

    Args:
        detector ([`Detector`] or `str`):
            The whole declaration; or the name alone, for a detector that only gives a module here, to which
            [`register_decoder`] may add a decoder.
        detector_class (`type`, *optional*): with a name: the module, see [`Detector`].
        defaults (`dict`, *optional*): with a name: its settings with their default values.
        exist_ok (`bool`, *optional*, defaults to `False`): whether another detector of this name is replaced.

    Raises:
        ValueError: if the declaration lacks a part, a part is unfit, or another detector has this name.
    """
    source = _importing_module(sys._getframe(1))
    if isinstance(detector, Detector):
        if detector_class is not None or defaults is not None:
            raise ValueError("register_detector takes a Detector alone: what else was given belongs into it")
        missing = [part for part in REQUIRED_PARTS if not detector.has(part)]
        if missing:
            raise ValueError(
                f"the declaration of the detector {detector.name!r} lacks {', '.join(missing)}: give "
                f"Detector({detector.name!r}, ..., {', '.join(f'{part}=...' for part in missing)})"
            )
    else:
        if not detector_class:
            raise ValueError(
                f"register_detector({detector!r}) needs a Detector, or the detector's class beside the name"
            )
        detector = Detector(detector, settings=_settings_class(detector, defaults or {}), module=detector_class)
        known = _REGISTRY.get(detector.name)
        if known is not None and not known.has("module"):  # its decoder came first
            detector = replace(detector, decoder=known.decoder)
    if isinstance(detector.settings, Mapping):
        detector = replace(detector, settings=_settings_class(detector.name, detector.settings))
    _check_parts(detector)
    _add(replace(detector, source=source), exist_ok)


def register_decoder(
    name: str,
    function: Callable,
    defaults: Mapping[str, Any] | None = None,
    activation: str = "sigmoid",
    stride: int | tuple[int, ...] = 1,
    *,
    exist_ok: bool = False,
) -> None:
    """
    Adds the decoder of a detector, so that [`TCMImageProcessor`] can be made with `detector=name`. A detector that is
    declared as a whole needs no call of it.

    Args:
        name (`str`): name of the detector, as in `TCMConfig.detector`.
        function, defaults, activation, stride: see [`Decoder`].
        exist_ok (`bool`, *optional*, defaults to `False`): whether another decoder of this name is replaced.

    Raises:
        ValueError: if the activation is unknown, a stride is not positive, or the detector has another decoder.
    """
    source = _importing_module(sys._getframe(1))
    decoder = Decoder(function, defaults, activation, stride)
    known = _REGISTRY.get(name) or Detector(name, source=source)
    if known.has("decoder") and not exist_ok and _identity(known.decoder) != _identity(decoder):
        raise ValueError(
            f"the detector {name!r} has a decoder already: give yours another name, or pass exist_ok=True to replace it"
        )
    _REGISTRY[name] = replace(known, decoder=decoder)


def _add(detector: Detector, exist_ok: bool) -> None:
    known = _REGISTRY.get(detector.name)
    parts = ("settings", "module", "targets", "conversion")
    # The same once more, as when a file is run again: what it declares now counts.
    again = known is not None and all(
        _identity(getattr(known, part)) == _identity(getattr(detector, part)) for part in parts
    )
    if known is not None and known.has("module") and not again and not exist_ok:
        where = f" (by {known.source})" if known.source else ""
        raise ValueError(
            f"a detector {detector.name!r} is registered already{where}: give yours another name, or pass exist_ok=True "
            "to replace it"
        )
    _REGISTRY[detector.name] = detector


def _identity(part: Any) -> Any:
    """What stays the same of a part when its file is run once more."""
    if isinstance(part, Decoder):
        return _identity(part.function), part.activation, part.stride
    if isinstance(part, ConversionRules):
        return part.prefixes
    return (part.__module__, part.__qualname__) if hasattr(part, "__qualname__") else part


def _check_parts(detector: Detector) -> None:
    """Raises a `ValueError` for a part that is no reference and cannot be what it should be."""
    name, module, settings = detector.name, detector.module, detector.settings
    if not isinstance(name, str) or not name or name.endswith(".py"):
        raise ValueError(f"the name of a detector has to be a word such as 'toy', got {name!r}")
    if not isinstance(settings, str):
        if not (isinstance(settings, type) and issubclass(settings, DetectorSettings)):
            raise ValueError(f"`settings` of the detector {name!r} have to be a class of DetectorSettings")
        without = [each.name for each in fields(settings) if each.default is each.default_factory is MISSING]
        if without:
            raise ValueError(f"the settings {', '.join(without)} of the detector {name!r} need defaults")
        unknown = sorted(set(detector.target_settings) - {each.name for each in fields(settings)})
        if unknown:
            raise ValueError(f"`target_settings` of the detector {name!r} has {unknown}, which are no settings of it")
    if not isinstance(module, str):
        lacking = [method for method in MODULE_METHODS if not callable(getattr(module, method, None))]
        if lacking:
            raise ValueError(f"the module of the detector {name!r} has no method {', '.join(lacking)}; see `Detector`")
    if detector.has("decoder") and not isinstance(detector.decoder, str | Decoder):
        raise ValueError(f"`decoder` of the detector {name!r} has to be a Decoder, got {detector.decoder!r}")
    if detector.has("conversion") and not isinstance(detector.conversion, str | ConversionRules):
        raise ValueError(f"`conversion` of the detector {name!r} has to be ConversionRules")
    for part in ("targets", "target_views"):
        value = getattr(detector, part)
        if value is not None and not isinstance(value, str) and not callable(value):
            raise ValueError(f"`{part}` of the detector {name!r} has to be a function, got {value!r}")


def _importing_module(frame: types.FrameType) -> str | None:
    """The module that is being imported while it calls the function of a frame; `None` for a call within a function."""
    return frame.f_globals.get("__name__") if frame.f_code.co_name == "<module>" else None


def adopt_detector(detector: Detector) -> None:
    """Registers a declaration that a checkpoint's own code has made and checked already."""
    _REGISTRY[detector.name] = detector


def unregister_detector(name: str) -> None:
    """Takes a detector out of the registry again; without effect where it is not in it."""
    _REGISTRY.pop(name, None)


def detector_names(part: str | None = None) -> list[str]:
    """
    Names of the known detectors.

    Args:
        part (`str`, *optional*): a part of [`Detector`] that they declare.
    """
    return sorted(name for name, each in _REGISTRY.items() if part is None or each.has(part))


def knows_detector(name: str, part: str) -> bool:
    """
    Whether a detector is known and declares a part.

    Args:
        name (`str`): its name.
        part (`str`): a part of [`Detector`].
    """
    if name not in _REGISTRY:
        # In a checkpoint this file names the code of its own detectors; see `detector_sharing`.
        from .own_detectors import load_own_detectors

        load_own_detectors()
    return name in _REGISTRY and _REGISTRY[name].has(part)


def find_detector(name: str) -> Detector:
    """
    The declaration of a detector.

    Args:
        name (`str`): its name.

    Raises:
        ValueError: if no detector of this name is registered.
    """
    if not knows_detector(name, "name"):
        raise ValueError(f"unknown detector {name!r}: known are {', '.join(map(repr, detector_names()))}; {REMEDY}")
    return _REGISTRY[name]


REMEDY = (
    "import the file that registers it (tcm_hf.register_detector), or load a model that brings it along with "
    "trust_remote_code=True"
)


def detector_of(name_or_file: str) -> Detector:
    """
    The declaration of a detector that is named, or of the one that a Python file registers, which is run for it.

    Args:
        name_or_file (`str`): a name, or the path of a file that ends with `.py`.

    Raises:
        ValueError: if there is no such detector, or the file does not register exactly one.
        OSError: if there is no such file.
    """
    if not name_or_file.endswith(".py"):
        return find_detector(name_or_file)
    path = Path(name_or_file).resolve()
    if not path.is_file():
        raise FileNotFoundError(
            f"{name_or_file}: there is no such file; give the name of a detector or its Python file"
        )
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file is not None and os.path.realpath(file) == str(path):
            break
    else:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        if path.stem in sys.modules:
            raise ValueError(f"{name_or_file}: there is a module {path.stem!r} already; give the file another name")
        sys.modules[path.stem] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[path.stem]
            raise
    found = [each for each in _REGISTRY.values() if each.source == module.__name__]
    if len(found) != 1:
        raise ValueError(
            f"{name_or_file} registers {len(found)} detectors; it has to call `tcm_hf.register_detector` once, when it is "
            "imported"
        )
    return found[0]
