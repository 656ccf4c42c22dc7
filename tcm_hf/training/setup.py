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

"""What the options of training build: records, subsets, data sets, model and processor."""

import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..checkpoints import find_checkpoint
from ..data.augment import TextAugmentation
from ..data.collate import MixedTextDetectionStream, StreamingTextDetectionDataset, TextDetectionDataset
from ..data.formats import TextRecord, image_roots, load_image
from ..data.mixing import ShuffledRecords, SourceMix
from ..data.subsets import filter_records, read_subset, record_ids, select_subset, write_subset
from ..model.configuration_tcm import TCMConfig
from ..model.detectors import detector_of, find_detector
from ..model.image_processing_tcm import TCMImageProcessor
from ..model.modeling_tcm import TCMForTextDetection
from ..model.tower_statistics import tower_statistics
from .options import DataArguments, ModelArguments
from .sources import SourceRecords, listed, load_rows, read_options, read_sources


logger = logging.getLogger(__name__)

# Decoded images are kept where they take no more memory than this.
CACHE_BYTES = 4 * 2**30


# ---------------------------------------------------------------------------------------- model


def load_model(arguments: ModelArguments) -> TCMForTextDetection:
    """
    Builds the model from the one source that was given.

    Args:
        arguments ([`ModelArguments`]): the source, and what is changed about it.

    Returns:
        [`TCMForTextDetection`]: in full precision, with the text tower frozen unless the model is new.

    Raises:
        ValueError: if there is not exactly one source, or it cannot be changed as asked.
        OSError: if the source cannot be read.
    """
    sources = [arguments.model_name_or_path, arguments.config_name, arguments.clip_name_or_path]
    if sum(source is not None for source in sources) != 1:
        raise ValueError("give exactly one of --model_name_or_path, --config_name and --clip_name_or_path")
    changes: dict[str, Any] = {} if arguments.detector is None else {"detector": detector_of(arguments.detector).name}
    if arguments.detector_settings is not None:
        if arguments.model_name_or_path is not None and arguments.detector is None:
            raise ValueError("--detector_settings are those of a new detector, to be named by --detector")
        changes["detector_config"] = _settings("detector_settings", arguments.detector_settings)
    hub: dict[str, Any] = {
        "cache_dir": arguments.cache_dir,
        "revision": arguments.model_revision,
        "token": arguments.token,
    }
    if arguments.model_name_or_path is not None:
        # Optimizers need full-precision weights, also when the checkpoint is stored in half precision. Another detector's
        # layers may have the names of the stored ones and other shapes.
        model = TCMForTextDetection.from_pretrained(
            find_checkpoint(arguments.model_name_or_path),
            dtype=torch.float32,
            ignore_mismatched_sizes=arguments.detector is not None,
            **changes,
            **hub,
        )
        if arguments.text_side and not model.config.text_side:
            raise ValueError(f"{arguments.model_name_or_path} has no text side; start from a model that has one")
    elif arguments.clip_name_or_path is not None:
        if arguments.text_side is False:
            changes["text_side"] = False  # a backbone has none
        model = TCMForTextDetection.from_clip(arguments.clip_name_or_path, **changes)
    else:
        path = Path(find_checkpoint(str(arguments.config_name)))
        try:
            settings = json.loads((path / "config.json" if path.is_dir() else path).read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is no JSON ({error}); --config_name takes the file of a TCMConfig") from error
        if settings.get("detector", "db") != changes.get("detector", settings.get("detector", "db")):
            settings.pop("detector_config", None)
        if "detector_config" in changes:
            changes["detector_config"] = {**(settings.get("detector_config") or {}), **changes["detector_config"]}
        if arguments.text_side is not None:
            settings["text_side"] = arguments.text_side
        model = TCMForTextDetection(TCMConfig(**{**settings, **changes}))
    if arguments.text_side is False and model.config.text_side:
        model = without_text_side(model)
    freeze = arguments.config_name is None if arguments.freeze_text_tower is None else arguments.freeze_text_tower
    model.freeze_text_tower(freeze)  # either way: a model from CLIP comes frozen
    if arguments.channels_last:
        model = model.to(memory_format=torch.channels_last)
    return model


@dataclass
class TrainingRun:
    """
    What a run starts with.

    Args:
        model ([`TCMForTextDetection`]): The model.
        processor ([`TCMImageProcessor`]): Its image processor.
        dataset ([`TextDetectionDataset`], [`StreamingTextDetectionDataset`] or [`MixedTextDetectionStream`]):
            Training samples.
        train_records (`list[TextRecord]`, *optional*): What they are made of; `None` where they are streamed.
        eval_records (`list[TextRecord]`, or a `dict` of them by name, *optional*): What is measured on.
        sources (`str`, *optional*): The sources and their shares, where there are several.
    """

    model: TCMForTextDetection
    processor: TCMImageProcessor
    dataset: TextDetectionDataset | StreamingTextDetectionDataset | MixedTextDetectionStream
    train_records: list[TextRecord] | None
    eval_records: list[TextRecord] | dict[str, list[TextRecord]] | None
    sources: str | None = None

    def describe(self, model_arguments: ModelArguments, data_arguments: DataArguments) -> dict:
        """What a model card says of it; `num_photos` is `None` where they are streamed."""
        return {
            "start": model_arguments.model_name_or_path or model_arguments.clip_name_or_path,
            # A card's figures are those of one data set.
            "dataset": names[0] if len(names := listed(data_arguments.dataset_name)) == 1 else None,
            "sources": self.sources,
            "num_photos": None if self.train_records is None else len(self.train_records),
        }


def prepare_run(
    model_arguments: ModelArguments,
    data_arguments: DataArguments,
    *,
    seed: int,
    total_batch_size: int,
    output_dir: str | None = None,
) -> TrainingRun:
    """
    Loads the model, reads the data and builds the samples.

    Args:
        model_arguments ([`ModelArguments`]): The source of the model, and what is changed about it.
        data_arguments ([`DataArguments`]): The sources of data, and how samples are made.
        seed (`int`): Seed of every random choice.
        total_batch_size (`int`): Samples of an optimizer step of all processes.
        output_dir (`str`, *optional*): Where the chosen subset is noted; one process of a run does.

    Returns:
        [`TrainingRun`]

    Raises:
        ValueError: if the arguments contradict each other, or something cannot be meant.
        OSError: if a source cannot be read.
    """
    model = load_model(model_arguments)
    processor = load_processor(model_arguments, data_arguments, model.config)
    groups, validation = read_sources(data_arguments)
    eval_records = _one_or_several(validation)
    if _all_records(groups) is None:
        stream = build_train_stream(groups, data_arguments, model.config, processor, seed)
        return TrainingRun(model, processor, stream, None, eval_records, _shares(groups))
    groups = _choose_of_sources(groups, data_arguments, output_dir)
    train_records = _all_records(groups) or []
    if data_arguments.evaluate_on_train:
        eval_records = train_records
    mix = None
    if len(groups) > 1:
        weights = [_weight(group) for group in groups]
        mix = SourceMix([len(group.records or ()) for group in groups], weights)
        logger.info("shares of the samples: %s", _shares(groups))
    dataset = build_train_dataset(train_records, data_arguments, model.config, processor, seed, total_batch_size, mix)
    return TrainingRun(model, processor, dataset, train_records, eval_records, _shares(groups))


def _weight(group: SourceRecords) -> float:
    return len(group.records or ()) if group.source.weight is None else group.source.weight


def _shares(groups: Sequence[SourceRecords]) -> str | None:
    """The sources and their shares of the samples, `None` where there is one."""
    if len(groups) < 2:
        return None
    total = sum(map(_weight, groups))
    counts = ["a stream" if group.records is None else f"{len(group.records)} images" for group in groups]
    return ", ".join(
        f"{group.source.name} ({count}, {100 * _weight(group) / total:.1f} %)" for group, count in zip(groups, counts)
    )


def without_text_side(model: TCMForTextDetection) -> TCMForTextDetection:
    """
    The baseline of a model: the same image tower and detector with the same weights, without prompts and matching map.

    Args:
        model ([`TCMForTextDetection`]): a model with text side.

    Returns:
        [`TCMForTextDetection`]: a new model. Convolutions that read the matching map, which is the last channel of the last
        feature map, lose the weights of that channel.
    """
    settings = {**model.config.to_dict(), "text_side": False}
    baseline = TCMForTextDetection(type(model.config)(**settings))
    source, state = model.state_dict(), {}
    for name, target in baseline.state_dict().items():
        value = source[name]
        if value.shape != target.shape:
            value = value[:, : target.shape[1]]
        state[name] = value
    baseline.load_state_dict(state)
    return baseline


def load_processor(arguments: ModelArguments, data: DataArguments, config: TCMConfig) -> TCMImageProcessor:
    """
    The image processor that belongs to the model.

    Args:
        arguments ([`ModelArguments`]): the source of the model.
        data ([`DataArguments`]): has the size of images.
        config (`TCMConfig`): the model's configuration; its detector is what is decoded.

    Returns:
        [`TCMImageProcessor`]
    """
    changes: dict[str, Any] = {}
    if data.image_size:
        if len(data.image_size) > 2:
            raise ValueError(f"--image_size takes one or two numbers, got {data.image_size}")
        changes["size"] = dict(zip(("shortest_edge", "longest_edge"), data.image_size))
    if arguments.clip_name_or_path is not None and arguments.image_processor_name is None:
        changes.update(tower_statistics(arguments.clip_name_or_path))
    if arguments.preset is not None:
        from ..conversion.convert import preset_image_processor

        if arguments.image_processor_name is not None:
            raise ValueError("--preset and --image_processor_name exclude each other: leave one out")
        return preset_image_processor(config.detector, arguments.preset, **changes)
    source = arguments.image_processor_name or arguments.model_name_or_path
    if source is None:
        return TCMImageProcessor(detector=config.detector, **changes)
    source = find_checkpoint(source)
    hub: dict[str, Any] = {
        "cache_dir": arguments.cache_dir,
        "revision": arguments.model_revision,
        "token": arguments.token,
    }
    processor = TCMImageProcessor.from_pretrained(source, **changes, **hub)
    if processor.detector != config.detector:
        # Thresholds of another detector mean nothing.
        processor = TCMImageProcessor.from_pretrained(
            source, detector=config.detector, decoding=None, **changes, **hub
        )
    return processor


def target_builder(config: TCMConfig, settings: str | dict | None = None) -> Callable:
    """
    The function that makes the training maps of a model's detector.

    Args:
        config (`TCMConfig`): the model's configuration.
        settings (`str` or `dict`, *optional*): arguments that differ from the defaults; text is JSON.

    Returns:
        `Callable`: `builder(polygons, ignore, height, width) -> dict[str, np.ndarray]`.

    Raises:
        ValueError: if the detector declares no targets, or they do not know a setting.
    """
    changes = _settings("target_settings", settings)
    detector = find_detector(config.detector)
    try:
        # What training and model have to agree on stands in the model's configuration.
        return detector.target_builder(config.detector_config, changes)
    except ValueError as error:
        raise ValueError(f"--target_settings: {error}" if changes else str(error)) from error


def _settings(option: str, value: str | dict | None) -> dict:
    """An option's JSON object."""
    if not isinstance(value, str):
        return dict(value or {})
    try:
        settings = json.loads(value)
    except json.JSONDecodeError as error:
        raise ValueError(f"--{option} is not JSON ({error}): {value}") from error
    if not isinstance(settings, dict):
        raise ValueError(f'--{option} must be a JSON object such as {{"name": 1}}, got {value}')
    return settings


def _build(kind: type, option: str, value: str | dict | None, **settings):
    """An object with settings from an option; these win."""
    changes = _settings(option, value)
    if not changes:
        return kind(**settings)  # what is wrong is another option's fault
    try:
        return kind(**(settings | changes))
    except (TypeError, ValueError) as error:
        raise ValueError(f"--{option}: {error}") from error


# ---------------------------------------------------------------------------------------- records


def _all_records(groups: Sequence[SourceRecords]) -> list[TextRecord] | None:
    if any(group.records is None for group in groups):
        return None
    return [record for group in groups for record in group.records or ()]


def _one_or_several(
    validation: dict[str, list[TextRecord]],
) -> list[TextRecord] | dict[str, list[TextRecord]] | None:
    return (next(iter(validation.values()), None)) if len(validation) < 2 else validation


def _choose_of_sources(
    groups: list[SourceRecords], arguments: DataArguments, output_dir: str | os.PathLike | None
) -> list[SourceRecords]:
    """The sources with the records to train on; those are left out of which there are none."""
    for group in groups:
        group.records = (group.records or [])[: arguments.max_train_samples]
    chosen = choose_subset(_all_records(groups) or [], replace(arguments, max_train_samples=None), output_dir)
    remaining = []
    for group in groups:
        own = set(map(id, group.records or ()))
        group.records = [record for record in chosen if id(record) in own]
        if group.records:
            remaining.append(group)
        else:
            logger.warning("The subset has no image of the source %s, which is left out.", group.source.name)
    return remaining


def choose_subset(
    records: Sequence[TextRecord], arguments: DataArguments, output_dir: str | os.PathLike | None = None
) -> list[TextRecord]:
    """
    Limits the training records as the arguments say.

    Args:
        records (`Sequence[TextRecord]`): all of them.
        arguments ([`DataArguments`]): has `train_fraction`, `shots`, `subset_seed`, `subset_file`, `max_train_samples`.
        output_dir (`str` or `os.PathLike`, *optional*): gets `subset.json`, the list of what was chosen.

    Returns:
        `list[TextRecord]`: the records to train on.
    """
    asked = [arguments.train_fraction is not None, arguments.shots is not None, arguments.subset_file is not None]
    if sum(asked) > 1:
        raise ValueError("give only one of --train_fraction, --shots and --subset_file")
    records = list(records)[: arguments.max_train_samples]
    if not any(asked):
        return records
    facts: dict[str, Any] = {"total": len(records)}
    if arguments.subset_file is not None:
        names = read_subset(arguments.subset_file)
        facts["source"] = os.path.basename(arguments.subset_file)
    else:
        names = select_subset(
            record_ids(records), fraction=arguments.train_fraction, shots=arguments.shots, seed=arguments.subset_seed
        )
        facts.update(seed=arguments.subset_seed, fraction=arguments.train_fraction, shots=arguments.shots)
    if output_dir is not None:
        write_subset(Path(output_dir) / "subset.json", names, **facts)
    return filter_records(records, names)


# ---------------------------------------------------------------------------------------- training samples


def _augmentation(arguments: DataArguments) -> TextAugmentation:
    return _build(
        TextAugmentation,
        "augmentation_settings",
        arguments.augmentation_settings,
        crop_size=arguments.crop_size,
        scale=tuple(arguments.scale),
        rotation=arguments.rotation,
        flip=arguments.flip,
    )


def _statistics(processor: TCMImageProcessor) -> dict[str, Any]:
    """The processor's statistics are on 0..1, a data set's on 0..255."""
    return {
        "image_mean": tuple(255 * x for x in processor.image_mean),
        "image_std": tuple(255 * x for x in processor.image_std),
    }


def build_train_stream(
    groups: Sequence[SourceRecords],
    arguments: DataArguments,
    config: TCMConfig,
    processor: TCMImageProcessor,
    seed: int = 0,
) -> StreamingTextDetectionDataset | MixedTextDetectionStream:
    """
    Sets up streams, augmentation and training maps.

    Args:
        groups (`Sequence[SourceRecords]`): the sources, of which one at least is streamed.
        arguments ([`DataArguments`]): the settings.
        config (`TCMConfig`): of the model.
        processor ([`TCMImageProcessor`]): its statistics normalize the images.
        seed (`int`, *optional*, defaults to 0): seed of every random choice.

    Raises:
        ValueError: if rendered words are asked for, or several sources have no weights.
    """
    if arguments.synthetic_fraction or arguments.paste_probability:
        raise ValueError("rendered words cannot be mixed into a stream: leave out --streaming or the words")
    weights = [group.source.weight for group in groups]
    if len(groups) > 1 and None in weights:
        raise ValueError(
            f"{len(groups)} sources, of which some are streamed, need --train_weights: how many images a stream has is not known"
        )
    augmentation, builder = _augmentation(arguments), target_builder(config, arguments.target_settings)
    streams = []
    for group in groups:
        rows: Any = None
        if group.records is None:
            rows = load_rows(group.source, arguments, streaming=True)
            rows = rows if arguments.max_train_samples is None else rows.take(arguments.max_train_samples)
        else:
            rows = ShuffledRecords(group.records[: arguments.max_train_samples], seed)
        streams.append(
            StreamingTextDetectionDataset(
                rows,
                builder,
                augmentation,
                seed=seed,
                shuffle_buffer=arguments.shuffle_buffer,
                image_root=image_roots(group.source.path) if group.records is None else None,
                options=read_options(arguments),
                **_statistics(processor),
            )
        )
    if len(streams) == 1:
        return streams[0]
    names = [group.source.name for group in groups]
    return MixedTextDetectionStream(streams, [weight or 0 for weight in weights], names)


def build_train_dataset(
    records: Sequence[TextRecord],
    arguments: DataArguments,
    config: TCMConfig,
    processor: TCMImageProcessor,
    seed: int = 0,
    total_batch_size: int = 1,
    mix: SourceMix | None = None,
) -> TextDetectionDataset:
    """
    Sets up augmentation, rendered words and training maps.

    Args:
        records (`Sequence[TextRecord]`): the images.
        arguments ([`DataArguments`]): the settings.
        config (`TCMConfig`): of the model.
        processor ([`TCMImageProcessor`]): its statistics normalize the images.
        seed (`int`, *optional*, defaults to 0): seed of every random choice.
        total_batch_size (`int`, *optional*, defaults to 1):
            Samples between two steps of the optimizer; an epoch is filled up to a multiple of it.
        mix ([`SourceMix`], *optional*): in which order they come, where they are those of several sources.

    Returns:
        [`TextDetectionDataset`]
    """
    augmentation, builder = _augmentation(arguments), target_builder(config, arguments.target_settings)
    logger.info("%d images with %d words", len(records), sum(len(record.polygons) for record in records))
    if records and all(all(record.ignore) for record in records):
        logger.warning("No image has a readable word (all are marked `ignore`, or there is none): nothing to learn.")
    synthetic = None
    if arguments.synthetic_fraction > 0 or arguments.paste_probability > 0:
        from ..data.synthesis.generator import SyntheticTextGenerator, find_fonts
        from ..data.synthesis.words import default_words

        fonts = find_fonts()
        logger.info("%d font files for rendered words", len(fonts))
        synthetic = _build(
            SyntheticTextGenerator,
            "synthetic_settings",
            arguments.synthetic_settings,
            fonts=fonts,
            words=default_words(),
            backgrounds=records,
            size=augmentation.crop_size,
        )
    length = arguments.samples_per_epoch
    if length is None:
        if not records:
            raise ValueError("--samples_per_epoch is needed where there are no images to count")
        length = -(-len(records) // total_batch_size) * total_batch_size
    keep = _fits_in_memory(records) if arguments.cache_images is None else arguments.cache_images
    dataset = TextDetectionDataset(
        records,
        builder,
        augmentation,
        synthetic,
        synthetic_fraction=arguments.synthetic_fraction,
        paste_probability=arguments.paste_probability,
        length=length,
        seed=seed,
        keep_images=keep,
        mix=mix,
        **_statistics(processor),
    )
    if keep:
        dataset.preload()
    return dataset


def _fits_in_memory(records: Sequence[TextRecord]) -> bool:
    """Judged by a few of the images."""
    sample = records[:: max(1, len(records) // 5)][:5]
    if not sample or len(records) > CACHE_BYTES // 2**16:
        return not sample
    mean = sum(load_image(record.image).nbytes for record in sample) / len(sample)
    return mean * len(records) <= CACHE_BYTES
