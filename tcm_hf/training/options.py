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
"""Command-line options of training: what is trained, and on what."""

# Only the standard library here: `tcm-hf train --help` reads them.
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


class OptionError(ValueError):
    """Options that cannot be used, or a source that cannot be read; the message says what to change."""


@contextmanager
def refusing_options() -> Iterator[None]:
    """Tells what goes wrong while a run is built, which is its options' fault, from what goes wrong later."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise OptionError(str(error)) from error


@dataclass
class ModelArguments:
    """What is trained."""

    _argument_group_name = "model"  # of the help

    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Checkpoint to start from: a directory, a Hub id, or a name such as tcm-tiny, in the package."
        },
    )
    config_name: str | None = field(
        default=None,
        metadata={"help": "JSON file of a TCMConfig, or a name such as tcm-tiny; trains a new model from scratch."},
    )
    clip_name_or_path: str | None = field(
        default=None, metadata={"help": "CLIP model in transformers' layout to start from: a directory or a Hub id."}
    )
    cache_dir: str | None = field(default=None, metadata={"help": "Where downloads are kept."})
    model_revision: str = field(default="main", metadata={"help": "Branch, tag or commit of the checkpoint."})
    token: str | None = field(default=None, metadata={"help": "Token for private Hub repositories."})
    image_processor_name: str | None = field(
        default=None, metadata={"help": "Image processor to use instead of the checkpoint's: a directory or a Hub id."}
    )
    preset: str | None = field(
        default=None,
        metadata={
            "help": "Image size and thresholds of a benchmark, as the papers have them: ic15, td500, ctw1500 or totaltext."
        },
    )
    detector: str | None = field(
        default=None,
        metadata={
            "help": "db, pan, fce or the Python file of your own; by default the start's own, db from CLIP. A new one is "
            "untrained."
        },
    )
    detector_settings: str | None = field(
        default=None,
        metadata={"help": 'Fields of a new detector\'s `detector_config`, JSON such as {"neck_channels": 64}.'},
    )
    text_side: bool | None = field(
        default=None, metadata={"help": "false trains the baseline: the same detector without prompts and text tower."}
    )
    freeze_text_tower: bool | None = field(
        default=None,
        metadata={"help": "Keep the text encoder fixed, as TCM does; default true, false when trained from scratch."},
    )
    channels_last: bool = field(
        default=True, metadata={"help": "Use the channels-last memory format, which is faster in half precision."}
    )


@dataclass
class DataArguments:
    """What it is trained and measured on."""

    _argument_group_name = "data"  # of the help

    train_dir: list[str] | None = field(
        default=None, metadata={"help": "Folders to train on, by default as `tcm-hf prepare` writes them."}
    )
    train_format: list[str] = field(
        default_factory=lambda: ["hub"],
        metadata={"help": "Format of --train_dir, one for all or one for each; see `tcm-hf prepare`, or auto."},
    )
    dataset_name: list[str] | None = field(
        default=None,
        metadata={"help": "Data sets on the Hub (or local copies) with image, polygons, ignore and text."},
    )
    dataset_config_name: str | None = field(
        default=None, metadata={"help": "Their configuration, where they have several."}
    )
    image_dir: list[str] | None = field(default=None, metadata={"help": "ICDAR 2015: folders of images, img_N.jpg."})
    gt_dir: list[str] | None = field(
        default=None, metadata={"help": "ICDAR 2015: folders of annotations, gt_img_N.txt, one for each --image_dir."}
    )
    train_sources: list[str] | None = field(
        default=None,
        metadata={
            "help": "Sources with settings of their own: folders, or JSON objects of path, format, name, weight, frame_size, "
            'split, streaming and options of the format, such as {"path": "icdar2015", "format": "icdar2015", '
            '"frame_size": [720, 1280]}.'
        },
    )
    train_weights: list[float] | None = field(
        default=None,
        metadata={
            "help": "Shares of the samples, one for each source, in the order --train_sources, --train_dir, --dataset_name, "
            "--image_dir; by default every image comes equally often."
        },
    )
    data_root: str | None = field(
        default=None, metadata={"help": "Folder that relative paths of data begin in; default the working directory."}
    )
    train_split: str | None = field(default=None, metadata={"help": "Split to train on; default train."})
    validation_split: str | None = field(
        default=None, metadata={"help": "Split of the same data sets to measure on; none by default."}
    )
    streaming: bool = field(
        default=False,
        metadata={"help": "Read training rows of Hub data sets and prepared folders as they come; needs --max_steps."},
    )
    shuffle_buffer: int = field(default=1000, metadata={"help": "Streaming: rows among which the next one is drawn."})
    validation_dir: list[str] | None = field(
        default=None, metadata={"help": "Folders to measure on, each by itself and by their mean."}
    )
    validation_format: list[str] | None = field(
        default=None,
        metadata={"help": "Format of --validation_dir, one or one for each; default that of --train_dir."},
    )
    validation_image_dir: list[str] | None = field(default=None, metadata={"help": "As --image_dir, to measure on."})
    validation_gt_dir: list[str] | None = field(default=None, metadata={"help": "As --gt_dir, to measure on."})
    validation_sources: list[str] | None = field(
        default=None, metadata={"help": "As --train_sources, to measure on; a `name` is that of its figures."}
    )
    allow_outside: bool = field(
        default=False,
        metadata={
            "help": "Open images outside of the folders given, which links and names in annotations lead to; "
            "`tcm-hf prepare --link` makes such links."
        },
    )
    frame_size: list[int] | None = field(
        default=None,
        metadata={
            "nargs": 2,
            "help": "Height and width of the annotated frame where the images are resized copies; of all sources that do "
            "not name their own.",
        },
    )
    holdout_last_digit: int | None = field(
        default=None,
        metadata={
            "help": "Leave out images of every source whose number ends in this digit; they are measured on if "
            "--eval_strategy is."
        },
    )
    train_val_split: float | None = field(
        default=None, metadata={"help": "Share of every source's images to measure on where there is no other source."}
    )
    evaluate_on_train: bool = field(
        default=False, metadata={"help": "Measure on the training images, to see whether a model can learn at all."}
    )
    max_train_samples: int | None = field(
        default=None, metadata={"help": "Train on the first so many images of every source."}
    )
    max_eval_samples: int | None = field(
        default=None, metadata={"help": "Measure on the first so many images of every set."}
    )
    train_fraction: float | None = field(default=None, metadata={"help": "Train on this share of the images."})
    shots: int | None = field(default=None, metadata={"help": "Train on so many images."})
    subset_seed: int = field(default=0, metadata={"help": "Which images: subsets of one seed lie inside each other."})
    subset_file: str | None = field(
        default=None, metadata={"help": "Train on the images that this list names, see subset.json beside a run."}
    )
    crop_size: int = field(default=640, metadata={"help": "Side of the training crop in pixels, a multiple of 32."})
    scale: list[float] = field(
        default_factory=lambda: [0.5, 3.0], metadata={"nargs": 2, "help": "Range of the random magnification."}
    )
    rotation: float = field(default=10.0, metadata={"help": "Largest random rotation in degrees."})
    flip: float = field(default=0.5, metadata={"help": "Chance of a horizontal flip."})
    target_settings: str | None = field(
        default=None,
        metadata={
            "help": 'Settings of the training maps, JSON such as {"shrink_ratio": [1.0, 0.7]}, see tcm_hf.targets.'
        },
    )
    augmentation_settings: str | None = field(
        default=None,
        metadata={"help": 'Further settings of TextAugmentation, JSON such as {"motion_blur": 0.15, "jpeg": 0.2}.'},
    )
    synthetic_fraction: float = field(default=0.0, metadata={"help": "Share of the samples that are rendered words."})
    synthetic_settings: str | None = field(
        default=None,
        metadata={"help": 'Settings of SyntheticTextGenerator, JSON such as {"curved": 0.3, "text_height": [8, 60]}.'},
    )
    paste_probability: float = field(
        default=0.0, metadata={"help": "Chance that rendered words are put on an image before it is augmented."}
    )
    samples_per_epoch: int | None = field(
        default=None, metadata={"help": "Samples of one epoch; by default the images, filled up to whole batches."}
    )
    cache_images: bool | None = field(
        default=None, metadata={"help": "Keep decoded images in memory; by default where they take less than 4 GiB."}
    )
    image_size: list[int] | None = field(
        default=None,
        metadata={"nargs": "+", "help": "Limits of an image's shorter and longer side in evaluation and use."},
    )


@dataclass
class LoopArguments:
    """How the loop on accelerate trains; with the Trainer, [`TCMTrainingArguments`] say it."""

    _argument_group_name = "training"  # of the help

    output_dir: str = field(metadata={"help": "Where checkpoints and the model go."})
    per_device_train_batch_size: int = field(default=8, metadata={"help": "Samples of one process's batch."})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "Batches between two optimizer steps."})
    learning_rate: float = field(default=1e-4, metadata={"help": "Rate of all but the image encoder."})
    image_encoder_lr_multiplier: float | None = field(
        default=None, metadata={"help": "Image encoder's rate over the others'; 0.1, or 1 from scratch."}
    )
    weight_decay: float = field(default=1e-4, metadata={"help": "Weight decay of matrices and convolutions."})
    max_grad_norm: float = field(default=1.0, metadata={"help": "Largest norm of the gradient; 0 turns it off."})
    num_train_epochs: float = field(default=3.0, metadata={"help": "Passes over the data."})
    max_train_steps: int | None = field(default=None, metadata={"help": "Optimizer steps, instead of epochs."})
    lr_scheduler_type: str = field(default="polynomial", metadata={"help": "polynomial, cosine or another."})
    num_warmup_steps: int = field(default=0, metadata={"help": "First steps, over which the rate grows."})
    ema_decay: float = field(default=0.999, metadata={"help": "Decay of the averaged weights; 0 turns it off."})
    joint_loss: bool = field(default=True, metadata={"help": "Several processes: loss of their joint batch."})
    sync_batch_norm: bool = field(default=True, metadata={"help": "Several processes: joint batch's statistics."})
    freeze_batch_norm: bool = field(default=False, metadata={"help": "Keep BatchNorm's stored statistics."})
    mixed_precision: str | None = field(
        default=None, metadata={"help": "no, bf16 or fp16; by default bf16 where the hardware has it."}
    )
    use_cpu: bool = field(default=False, metadata={"help": "Stay on the CPU."})
    dataloader_num_workers: int = field(default=0, metadata={"help": "Processes that make samples."})
    activation_checkpointing: bool = field(default=False, metadata={"help": "Trade time for memory."})
    seed: int = field(default=42, metadata={"help": "Seed of every random choice."})
    checkpointing_steps: int | None = field(default=None, metadata={"help": "Steps between two checkpoints."})
    checkpoints_total_limit: int | None = field(
        default=None, metadata={"help": "Newest checkpoints that are kept; the best one is kept too."}
    )
    metric_for_best_model: str = field(
        default="hmean",
        metadata={
            "help": "Figure that chooses it: hmean, precision or recall, of several sets the mean, or NAME_hmean."
        },
    )
    load_best_model_at_end: bool = field(
        default=True, metadata={"help": "End with the best checkpoint, where they are measured."}
    )
    resume_from_checkpoint: str | None = field(
        default=None, metadata={"help": "A checkpoint, or last, the newest intact one."}
    )
    logging_steps: int = field(default=50, metadata={"help": "Steps between two log lines."})
    protocol: str = field(default="icdar2015", metadata={"help": "Protocol of the evaluation."})
    with_tracking: bool = field(default=False, metadata={"help": "Report to experiment trackers."})
    report_to: str | None = field(
        default=None, metadata={"help": "Which: tensorboard, wandb, trackio, ... or all, the default of the former."}
    )
    push_to_hub: bool = field(default=False, metadata={"help": "Upload the model at the end."})
    hub_model_id: str | None = field(default=None, metadata={"help": "Repository to upload to."})
    hub_token: str | None = field(default=None, metadata={"help": "Token for it."})
