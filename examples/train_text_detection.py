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
Trains or fine-tunes TCM for text detection with the Trainer of transformers.

The annotation is ICDAR 2015's: a folder of `img_N.jpg` and a folder of `gt_img_N.txt`. Words rendered on backgrounds and
on the photos themselves can be mixed in, which is what makes training from scratch on few photos work:

    python examples/train_text_detection.py --config_name examples/configs/tcm-tiny.json \
        --image_dir icdar2015/images --gt_dir icdar2015/gt --output_dir runs/tiny \
        --synthetic_fraction 0.5 --paste_probability 0.5 --crop_size 320 --flip 0 --max_steps 5000 \
        --per_device_train_batch_size 8 --learning_rate 1e-3 --lr_scheduler_type cosine --bf16

Give `--model_name_or_path` to start from a checkpoint of this package, or `--clip_name_or_path` to start from a CLIP
model; `--resume_from_checkpoint` goes on with an interrupted run.
"""

import json
import logging
import math
import sys
from dataclasses import dataclass, field

import torch
from transformers import HfArgumentParser, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

from tcm_hf import TCMConfig, TCMForTextDetection, TCMImageProcessor
from tcm_hf.data.augment import TextAugmentation
from tcm_hf.data.collate import TextDetectionDataset, text_detection_collate
from tcm_hf.data.formats import read_icdar2015
from tcm_hf.data.synthetic import SyntheticTextGenerator, find_fonts
from tcm_hf.targets import build_db_targets


logger = logging.getLogger(__name__)


@dataclass
class ModelArguments:
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Checkpoint of this package to start from: a directory or a Hub id."}
    )
    config_name: str | None = field(
        default=None, metadata={"help": "JSON file of a TCMConfig; trains a new model from scratch."}
    )
    clip_name_or_path: str | None = field(
        default=None, metadata={"help": "CLIP model in transformers' layout to start from: a directory or a Hub id."}
    )
    freeze_text_tower: bool = field(
        default=False, metadata={"help": "Keep the text encoder fixed, as TCM does with CLIP's pretrained one."}
    )
    channels_last: bool = field(
        default=True, metadata={"help": "Use the channels-last memory format, which is faster in half precision."}
    )


@dataclass
class DataArguments:
    image_dir: str = field(metadata={"help": "Folder of photos, img_N.jpg."})
    gt_dir: str = field(metadata={"help": "Folder of annotations, gt_img_N.txt."})
    frame_size: list[int] | None = field(
        default=None,
        metadata={"nargs": 2, "help": "Height and width of the annotated frame where the photos are resized copies."},
    )
    holdout_last_digit: int | None = field(
        default=None, metadata={"help": "Leave out photos whose number ends in this digit, for validation."}
    )
    crop_size: int = field(default=640, metadata={"help": "Side of the training crop in pixels, a multiple of 32."})
    scale: list[float] = field(
        default_factory=lambda: [0.5, 3.0], metadata={"nargs": 2, "help": "Range of the random magnification."}
    )
    rotation: float = field(default=10.0, metadata={"help": "Largest random rotation in degrees."})
    flip: float = field(default=0.5, metadata={"help": "Chance of a horizontal flip."})
    synthetic_fraction: float = field(default=0.0, metadata={"help": "Share of the samples that are rendered words."})
    paste_probability: float = field(
        default=0.0, metadata={"help": "Chance that rendered words are put on a photo before it is augmented."}
    )
    samples_per_epoch: int | None = field(
        default=None, metadata={"help": "Samples of one epoch; defaults to the number of photos."}
    )


def load_model(arguments: ModelArguments) -> TCMForTextDetection:
    """Builds the model from the one source that was given."""
    if arguments.model_name_or_path is not None:
        # Optimizers need full-precision weights, also when the checkpoint is stored in half precision.
        model = TCMForTextDetection.from_pretrained(arguments.model_name_or_path, dtype=torch.float32)
    elif arguments.clip_name_or_path is not None:
        model = TCMForTextDetection.from_clip(arguments.clip_name_or_path)
    else:
        with open(arguments.config_name, encoding="utf-8") as file:
            model = TCMForTextDetection(TCMConfig(**json.load(file)))
    if arguments.freeze_text_tower:
        model.freeze_text_tower()
    if arguments.channels_last:
        model = model.to(memory_format=torch.channels_last)
    return model


def build_dataset(arguments: DataArguments, processor: TCMImageProcessor, seed: int) -> TextDetectionDataset:
    """Reads the annotation and sets up augmentation and rendered words."""
    frame_size = tuple(arguments.frame_size) if arguments.frame_size else None
    records = read_icdar2015(arguments.image_dir, arguments.gt_dir, record_size=frame_size)
    if arguments.holdout_last_digit is not None:
        records = [
            r for r in records if not str(r.image).rsplit(".", 1)[0].endswith(str(arguments.holdout_last_digit))
        ]
    logger.info("%d photos with %d words", len(records), sum(len(record.polygons) for record in records))
    synthetic = None
    if arguments.synthetic_fraction > 0 or arguments.paste_probability > 0:
        fonts = find_fonts()
        logger.info("%d font files for rendered words", len(fonts))
        synthetic = SyntheticTextGenerator(fonts, backgrounds=records, size=arguments.crop_size)
    augmentation = TextAugmentation(
        crop_size=arguments.crop_size, scale=tuple(arguments.scale), rotation=arguments.rotation, flip=arguments.flip
    )
    dataset = TextDetectionDataset(
        records,
        build_db_targets,
        augmentation,
        synthetic,
        synthetic_fraction=arguments.synthetic_fraction,
        paste_probability=arguments.paste_probability,
        length=arguments.samples_per_epoch,
        seed=seed,
        # The processor's statistics are on 0..1, the dataset's on 0..255.
        image_mean=tuple(255 * x for x in processor.image_mean),
        image_std=tuple(255 * x for x in processor.image_std),
    )
    dataset.preload()
    return dataset


class EpochCallback(TrainerCallback):
    """Tells the dataset its epoch, which the data loader does not do in every distributed setting."""

    def __init__(self, dataset: TextDetectionDataset):
        self.dataset = dataset

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.dataset.set_epoch(int(state.epoch))


class DetectionTrainer(Trainer):
    """Trainer that also logs the mean of every loss term since the last log line."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.term_sums, self.term_count = {}, 0

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        for name, value in outputs.loss_dict.items():
            self.term_sums[name] = self.term_sums.get(name, 0.0) + value.detach()
        self.term_count += 1
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def log(self, logs, start_time=None):
        if "loss" in logs and self.term_count:
            logs.update({f"loss_{k}": round(float(v) / self.term_count, 4) for k, v in self.term_sums.items()})
            self.term_sums, self.term_count = {}, 0
        super().log(logs, start_time)


def main():
    parser = HfArgumentParser((ModelArguments, DataArguments, TrainingArguments))
    if len(sys.argv) == 2 and sys.argv[1].endswith(".json"):
        model_arguments, data_arguments, training_arguments = parser.parse_json_file(sys.argv[1])
    else:
        model_arguments, data_arguments, training_arguments = parser.parse_args_into_dataclasses()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    # The collator needs all that the dataset gives.
    training_arguments.remove_unused_columns = False
    set_seed(training_arguments.seed)
    sources = [model_arguments.model_name_or_path, model_arguments.config_name, model_arguments.clip_name_or_path]
    if sum(source is not None for source in sources) != 1:
        parser.error("give exactly one of --model_name_or_path, --config_name and --clip_name_or_path")

    source = model_arguments.model_name_or_path
    processor = TCMImageProcessor.from_pretrained(source) if source else TCMImageProcessor()
    model = load_model(model_arguments)
    dataset = build_dataset(data_arguments, processor, training_arguments.seed)
    trainer = DetectionTrainer(
        model=model,
        args=training_arguments,
        train_dataset=dataset,
        data_collator=text_detection_collate,
        processing_class=processor,
        callbacks=[EpochCallback(dataset)],
    )
    checkpoint = training_arguments.resume_from_checkpoint
    if checkpoint in ("True", "true", "last"):
        checkpoint = get_last_checkpoint(training_arguments.output_dir)
    result = trainer.train(resume_from_checkpoint=checkpoint)
    if not math.isfinite(result.training_loss):
        raise RuntimeError(f"The training loss is {result.training_loss}; lower the learning rate and try again.")
    trainer.save_model()
    trainer.save_state()
    trainer.log_metrics("train", result.metrics)
    trainer.save_metrics("train", result.metrics)


if __name__ == "__main__":
    main()
