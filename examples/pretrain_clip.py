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
Trains a small CLIP of one's own on rendered scenes and their words, for a detector to start from.

    tcm-hf synthesize scenes --count 6000 --size 224 224 --text-free 0.08 --text-height 10 70
    python examples/pretrain_clip.py --train_dir scenes --output_dir runs/clip --max_steps 3000 --use_cpu
    tcm-hf convert runs/clip/towers runs/start --set num_context_vectors=4 \
        --set prompt_token_ids="$(cat runs/clip/towers/prompt_token_ids.json)"

Two losses, after "Language Matters" (Xue et al., ECCV 2022) with captions of whole scenes: an image is to be told from the others
of its batch by its caption, and the other way round (CLIP); and masked characters of the caption's words are to be predicted
from the rest of the caption and a feature map of the image, by a decoder that is thrown away in the end. The caption says which words are in the
image, how large and where: "text: big cafe top left, small open middle center". Any data set with transcriptions can take the place of
the rendered one.

Checkpoints, resumption and all other arguments are those of transformers' Trainer. `output_dir/towers` gets the towers in the
layout of open_clip, the tokenizer, and the token ids of the prompt "text".
"""

import json
import math
import sys
import unicodedata
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import (
    AddedToken,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    HfArgumentParser,
    Trainer,
)
from transformers import TrainingArguments as TrainerArguments

from tcm_hf import CLIPResNetConfig, CLIPResNetModel, TCMImageProcessor
from tcm_hf.conversion.layouts import LAYOUTS, source_name
from tcm_hf.data.augment import TextAugmentation
from tcm_hf.data.formats import TextRecord, load_record, read_dataset


CHARACTERS = "".join(chr(code) for code in range(33, 127) if not chr(code).isupper())
START, END, MASK = "<|startoftext|>", "<|endoftext|>", "<mask>"
# What captions say besides the words of an image; each is one token.
SIZES, ROWS, COLUMNS = ("small", "big"), ("top", "middle", "bottom"), ("left", "center", "right")
VOCABULARY = ("text", "no", *SIZES, *ROWS, *COLUMNS)
PROMPT = "text"
NOT_MASKED = -100
# Share of the crops that have one of the image's words, if it has any.
WITH_WORD = 0.9
# The feature map that characters are read from, the second of four, at an eighth of the resolution: in the last one,
# at a 32nd, a word of 16 pixels' height is half a cell.
READ_LEVEL, READ_STRIDE = 1, 8


@dataclass
class Arguments:
    train_dir: str = field(metadata={"help": "folder of `tcm-hf synthesize` or `tcm-hf prepare`, with transcriptions"})
    crop_size: int = field(
        default=64, metadata={"help": "side of the squares that are cut from images, a multiple of 32"}
    )
    validation_images: int = field(
        default=256, metadata={"help": "how many images, the last ones, are kept to measure on"}
    )
    width: int = field(default=16, metadata={"help": "channels of the image tower's stem"})
    depths: list[int] = field(default_factory=lambda: [1, 2, 3, 1], metadata={"help": "blocks of its four stages"})
    projection_dim: int = field(default=128, metadata={"help": "length of the embeddings"})
    text_width: int = field(default=64, metadata={"help": "channels of the text tower, a multiple of 64"})
    text_layers: int = field(default=2, metadata={"help": "its layers"})
    context_length: int = field(default=48, metadata={"help": "most tokens of a caption"})
    mask_probability: float = field(default=0.5, metadata={"help": "share of the words' characters that are masked"})
    cache_images: bool = field(
        default=False, metadata={"help": "keep decoded images in memory, in every worker of the data loader"}
    )


@dataclass
class TrainingArguments(TrainerArguments):
    remove_unused_columns: bool = field(default=False, metadata={"help": "has no effect"})
    max_steps: int = field(default=3000, metadata={"help": "steps of the optimizer"})
    per_device_train_batch_size: int = field(
        default=64, metadata={"help": "images among which one is told by its caption"}
    )
    learning_rate: float = field(default=1e-3, metadata={"help": "highest learning rate"})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "schedule of the learning rate"})
    warmup_steps: float = field(default=100, metadata={"help": "steps in which it rises"})
    weight_decay: float = field(default=0.05, metadata={"help": "decay of weights"})
    save_total_limit: int | None = field(default=2, metadata={"help": "how many checkpoints are kept"})


def character_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer without any merges: one token a character, another one at the end of a word, and `VOCABULARY`."""
    names = [START, *CHARACTERS, *(f"{character}</w>" for character in CHARACTERS), MASK, *VOCABULARY, END]
    tokenizer = CLIPTokenizer(vocab={name: index for index, name in enumerate(names)}, merges=[])
    tokenizer.add_tokens([AddedToken(name, single_word=True, normalized=True) for name in VOCABULARY])
    return tokenizer


def plain(text: str) -> str:
    """A word in the tokenizer's characters."""
    return "".join(character for character in unicodedata.normalize("NFKD", text.lower()) if character in CHARACTERS)


def place(center: np.ndarray, size: int) -> str:
    """Where a point is: in which of three rows and of three columns."""
    column, row = np.clip((3 * center / size).astype(int), 0, 2)
    return f"{ROWS[row]} {COLUMNS[column]}"


def caption(polygons: list[np.ndarray], texts: list[str], has_text: bool, size: int) -> list[tuple[str, bool]]:
    """
    Says what an image shows, the largest words first.

    Args:
        polygons (`list[np.ndarray]`): outlines of the readable words.
        texts (`list[str]`): the words.
        has_text (`bool`): whether there is any text, be it cut or unreadable.
        size (`int`): side of the image.

    Returns:
        `list[tuple[str, bool]]`: pieces, and whether each is a word of the image.
    """
    words = []
    for polygon, text in zip(polygons, texts):
        height = min(np.ptp(polygon[:, 1]), np.ptp(polygon[:, 0]))
        words.append((height, SIZES[int(height > size / 8)], plain(text), place(polygon.mean(0), size)))
    words = sorted((word for word in words if word[2]), key=lambda word: -word[0])
    pieces = [("text:" if words else "text" if has_text else "no text", False)]
    for number, (_, height_name, text, where) in enumerate(words):
        pieces += [(height_name, False), (text, True), (where + ("," if number + 1 < len(words) else ""), False)]
    return pieces


class ScenesWithCaptions(torch.utils.data.Dataset):
    """
    Random crops and their captions; sample number n depends on the seed and n only.

    Args:
        records (`list[TextRecord]`): images of at least the crop's size.
        arguments (`Arguments`): the settings.
        length (`int`): number of samples.
        seed (`int`): seed of all random choices.
    """

    def __init__(self, records: list[TextRecord], arguments: Arguments, length: int, seed: int):
        self.records, self.arguments, self.length, self.seed = list(records), arguments, length, seed
        self.tokenizer = character_tokenizer()
        self.mask_id = self.tokenizer.convert_tokens_to_ids(MASK)
        self.augmentation = TextAugmentation(crop_size=arguments.crop_size)
        processor = TCMImageProcessor()
        self.mean = 255 * np.array(processor.image_mean, np.float32)
        self.std = 255 * np.array(processor.image_std, np.float32)
        self.piece_ids: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([self.seed, index])
        # Through all images before one comes again.
        start, position = divmod(index, len(self.records))
        order = np.random.default_rng([self.seed, start, 1]).permutation(len(self.records))
        number = order[position]
        record = self.records[number]
        if self.arguments.cache_images and not isinstance(record.image, np.ndarray):
            record = self.records[number] = replace(record, image=load_record(record))
        image, *shown = self.crop(record, rng)
        image = self.augmentation.photometric(image, rng)
        pixel_values = torch.from_numpy((image - self.mean) / self.std).permute(2, 0, 1)
        token_ids, labels = self.tokens(caption(*shown, self.arguments.crop_size), rng)
        return {"pixel_values": pixel_values, "input_ids": token_ids, "labels": labels}

    def crop(
        self, record: TextRecord, rng: np.random.Generator
    ) -> tuple[np.ndarray, list[np.ndarray], list[str], bool]:
        """A square of the image, the readable words that are wholly inside, and whether there is any text."""
        size, image = self.arguments.crop_size, load_record(record)
        room = np.array(image.shape[1::-1]) - size
        if min(room) < 0:
            raise ValueError(f"{record.image}: {image.shape[1]} x {image.shape[0]} pixels, --crop_size is {size}")
        readable = [number for number, ignore in enumerate(record.ignore) if not ignore and record.texts[number]]
        fitting = [number for number in readable if (np.ptp(record.polygons[number], axis=0) <= size).all()]
        low, high = np.zeros(2), room
        if fitting and rng.random() < WITH_WORD:
            polygon = record.polygons[rng.choice(fitting)]
            low, high = np.clip(np.ceil(polygon.max(0)) - size, 0, room), np.clip(polygon.min(0), 0, room)
        left, top = offset = rng.integers(low, np.maximum(low, high), endpoint=True)
        inside = [polygon - offset for polygon in record.polygons]
        whole = [number for number in readable if inside[number].min() >= 0 and inside[number].max() <= size]
        has_text = any((polygon.max(0) > 0).all() and (polygon.min(0) < size).all() for polygon in inside)
        image = image[top : top + size, left : left + size]
        return image, [inside[number] for number in whole], [str(record.texts[number]) for number in whole], has_text

    def tokens(self, pieces: list[tuple[str, bool]], rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids with masked characters, and what is masked (`NOT_MASKED` elsewhere), both of the full length."""
        length = self.arguments.context_length
        ids, in_word = [self.tokenizer.bos_token_id], [False]
        for text, is_word in pieces:
            if text not in self.piece_ids:
                self.piece_ids[text] = self.tokenizer(text, add_special_tokens=False).input_ids
            piece = self.piece_ids[text]
            if len(ids) + len(piece) >= length:
                break
            ids += piece
            in_word += len(piece) * [is_word]
        masked = np.array(in_word) & (rng.random(len(ids)) < self.arguments.mask_probability)
        padding = (length - len(ids)) * [self.tokenizer.eos_token_id]
        token_ids = torch.tensor(ids + padding)
        masked = torch.from_numpy(np.concatenate([masked, np.zeros(len(padding), bool)]))
        labels = torch.where(masked, token_ids, NOT_MASKED)
        return token_ids.masked_fill(masked, self.mask_id), labels


class ContrastivePretraining(nn.Module):
    """
    Both towers, the temperature, and the decoder that predicts masked characters.

    Args:
        arguments (`Arguments`): the settings.
    """

    def __init__(self, arguments: Arguments):
        super().__init__()
        tokenizer, channels = character_tokenizer(), arguments.projection_dim
        vision_config = CLIPResNetConfig(
            width=arguments.width, depths=arguments.depths, projection_dim=channels, image_size=arguments.crop_size
        )
        text_config = CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=arguments.text_width,
            intermediate_size=4 * arguments.text_width,
            num_hidden_layers=arguments.text_layers,
            num_attention_heads=max(1, arguments.text_width // 64),
            max_position_embeddings=arguments.context_length,
            projection_dim=channels,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )
        self.vision_tower = CLIPResNetModel(vision_config)
        self.text_tower = CLIPTextModelWithProjection(text_config)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        width = arguments.text_width
        layer = nn.TransformerDecoderLayer(width, width // 32, 4 * width, 0.0, batch_first=True, norm_first=True)
        self.character_decoder = nn.TransformerDecoder(layer, 2)
        self.character_memory = nn.Linear(self.vision_tower.channels[READ_LEVEL], width)
        side = arguments.crop_size // READ_STRIDE
        self.character_places = nn.Parameter(0.02 * torch.randn(side * side, width))
        self.character_output = nn.Linear(width, len(tokenizer))

    def forward(
        self, pixel_values: torch.Tensor, input_ids: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """
        Args:
            pixel_values (`torch.Tensor`): (batch, 3, size, size) normalized images.
            input_ids (`torch.Tensor`): (batch, length) captions with masked characters.
            labels (`torch.Tensor`): (batch, length) the masked characters, `NOT_MASKED` elsewhere.

        Returns:
            `dict[str, torch.Tensor]`: the loss and its two parts; (batch, batch) logits of images and captions and which of them
            belong together; (batch, longest, vocabulary) logits of the characters, up to the end of the longest caption.
        """
        captions = torch.where(labels == NOT_MASKED, input_ids, labels)
        end = self.text_tower.config.eos_token_id
        # Nothing but ends of captions stands behind the longest one's first.
        longest = int((captions != end).sum(1).max()) + 1
        input_ids, captions = input_ids[:, :longest], captions[:, :longest]
        # A CPU takes a third less time for them in this order.
        image = self.vision_tower(pixel_values.contiguous(memory_format=torch.channels_last))
        image_vectors = nn.functional.normalize(image.global_embedding, dim=-1)
        text_vectors = nn.functional.normalize(self.text_tower(captions).text_embeds, dim=-1)
        logits = self.logit_scale.clamp(max=math.log(100)).exp() * image_vectors @ text_vectors.T
        # Several images may have one caption, such as "no text".
        pairs = (captions[:, None] == captions[None]).all(-1).float()
        shares = pairs / pairs.sum(1, keepdim=True)
        cross_entropy = nn.functional.cross_entropy
        contrast = (cross_entropy(logits, shares) + cross_entropy(logits.T, shares)) / 2
        characters = self.read(image.feature_maps[READ_LEVEL], input_ids, captions == end)
        labels = labels[:, :longest]
        # A sum, so that a batch without any masked character gives 0.
        count = (labels != NOT_MASKED).sum().clamp(min=1)
        reading = (
            cross_entropy(characters.flatten(0, 1), labels.flatten(), ignore_index=NOT_MASKED, reduction="sum") / count
        )
        return {
            "loss": contrast + reading,
            "contrast": contrast,
            "reading": reading,
            "logits": logits,
            "pairs": pairs,
            "characters": characters,
        }

    def read(self, feature_map: torch.Tensor, input_ids: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
        """Logits of the characters, of captions that have masked ones and of images' feature maps."""
        tokens = self.text_tower(input_ids).last_hidden_state
        memory = self.character_memory(feature_map.flatten(2).transpose(1, 2)) + self.character_places
        return self.character_output(self.character_decoder(tokens, memory, tgt_key_padding_mask=padding))

    def save_towers(self, directory: Path) -> None:
        """
        Writes the towers in the layout of open_clip, with tokenizer and prompt.

        Args:
            directory (`Path`): the folder; it is made when it does not exist.
        """
        directory.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, torch.Tensor] = {"logit_scale": self.logit_scale.detach()}
        parts: dict[str, list[torch.Tensor]] = {}
        for prefix, tower in (("vision_tower", self.vision_tower), ("text_tower", self.text_tower)):
            for key, value in tower.state_dict().items():
                found = source_name(f"model.{prefix}.{key}", LAYOUTS["openai"], "")
                if found is None:
                    continue  # a constant, which the tower makes itself
                name, operation = found
                if operation in ("query", "key", "value"):
                    parts.setdefault(name, [None] * 3)[("query", "key", "value").index(operation)] = value
                else:
                    tensors[name] = value.T if operation == "transpose" else value
        tensors |= {name: torch.cat(rows) for name, rows in parts.items()}
        save_file(
            {name: value.contiguous() for name, value in tensors.items()}, directory / "open_clip_model.safetensors"
        )
        vision, text = self.vision_tower.config, self.text_tower.config
        model_config = {
            "embed_dim": vision.projection_dim,
            "quick_gelu": True,
            "vision_cfg": {"layers": list(vision.depths), "width": vision.width, "image_size": vision.image_size},
            "text_cfg": {
                "context_length": text.max_position_embeddings,
                "vocab_size": text.vocab_size,
                "width": text.hidden_size,
                "heads": text.num_attention_heads,
                "layers": text.num_hidden_layers,
            },
        }
        processor, tokenizer = TCMImageProcessor(), character_tokenizer()
        preprocessing = {"mean": list(processor.image_mean), "std": list(processor.image_std)}
        content = {"model_cfg": model_config, "preprocess_cfg": preprocessing}
        (directory / "open_clip_config.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        (directory / "prompt_token_ids.json").write_text(
            json.dumps(tokenizer(PROMPT).input_ids) + "\n", encoding="utf-8"
        )
        tokenizer.save_pretrained(directory)


class PretrainingTrainer(Trainer):
    """Trainer that logs both parts of the loss."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.model_accepts_loss_kwargs = False  # a mean over the batch
        self.parts: dict[str, list[torch.Tensor]] = {"contrast": [], "reading": []}

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        outputs = model(**inputs)
        for name, values in self.parts.items():
            values.append(outputs[name].detach())
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def log(self, logs, *arguments, **settings):
        if "loss" in logs:
            for name, values in self.parts.items():
                logs[f"loss_{name}"] = float(torch.stack(values).mean())
                values.clear()
        super().log(logs, *arguments, **settings)


@torch.no_grad()
def measure(
    model: ContrastivePretraining, samples: list[dict[str, torch.Tensor]], batch_size: int
) -> dict[str, float]:
    """
    Measures what the towers have learned.

    Args:
        model (`ContrastivePretraining`): the towers.
        samples (`list[dict[str, torch.Tensor]]`): of `ScenesWithCaptions`, of images that were not trained on.
        batch_size (`int`): among how many images and captions the right one is to be found.

    Returns:
        `dict[str, float]`: shares of right captions for an image and of right images for a caption; shares of right masked
        characters, with the image, and with that of another caption in its place; the share of right pairs among all, which is
        what guessing gives; and `batch_size`.
    """
    model.eval()
    device = model.logit_scale.device
    right = {"captions": 0.0, "images": 0.0, "guessed": 0.0, "characters": 0.0, "characters_without_image": 0.0}
    total = {"samples": 0, "masked": 0}
    for start in range(0, len(samples) - batch_size + 1, batch_size):
        part = samples[start : start + batch_size]
        batch = {name: torch.stack([sample[name] for sample in part]).to(device) for name in part[0]}
        outputs = model(**batch)
        masked = batch["labels"] != NOT_MASKED
        for name, dim in (("captions", 1), ("images", 0)):
            best = outputs["logits"].argmax(dim, keepdim=True)
            right[name] += float(outputs["pairs"].gather(dim, best).sum())
        right["guessed"] += float(outputs["pairs"].mean(1).sum())
        other = model(**{**batch, "pixel_values": batch["pixel_values"].roll(1, 0)})
        for name, result in (("characters", outputs), ("characters_without_image", other)):
            read = result["characters"].argmax(-1)
            right[name] += int((read == batch["labels"][:, : read.shape[1]]).sum())
        total["samples"] += batch_size
        total["masked"] += int(masked.sum())
    counts = {name: total["masked" if "characters" in name else "samples"] for name in right}
    return {**{name: right[name] / max(1, counts[name]) for name in right}, "among": batch_size}


def main() -> None:
    arguments, training_arguments = HfArgumentParser((Arguments, TrainingArguments)).parse_args_into_dataclasses()
    if arguments.crop_size % 32 or arguments.text_width % 64:
        sys.exit("--crop_size has to be a multiple of 32, and --text_width of 64")
    records = list(read_dataset("hub", arguments.train_dir))
    kept = arguments.validation_images
    if not 0 <= kept < len(records):
        sys.exit(f"--validation_images {kept}: {arguments.train_dir} has {len(records)} images")
    training_records, validation_records = records[: len(records) - kept], records[len(records) - kept :]
    torch.manual_seed(training_arguments.seed)
    model = ContrastivePretraining(arguments)
    batch_size = training_arguments.train_batch_size
    # One epoch of Trainer's, so that resuming leaves out what was seen without drawing it.
    length = training_arguments.max_steps * batch_size * training_arguments.gradient_accumulation_steps
    length *= training_arguments.world_size
    dataset = ScenesWithCaptions(training_records, arguments, length, training_arguments.seed)
    trainer = PretrainingTrainer(model=model, args=training_arguments, train_dataset=dataset)
    result = trainer.train(resume_from_checkpoint=training_arguments.resume_from_checkpoint)
    if trainer.is_world_process_zero():
        model.save_towers(Path(training_arguments.output_dir) / "towers")
        trainer.save_state()
        metrics = dict(result.metrics)
        if kept >= batch_size:
            validation = ScenesWithCaptions(validation_records, arguments, kept, training_arguments.seed + 1)
            samples = [validation[index] for index in range(kept)]
            metrics |= measure(model, samples, batch_size)
            # That an image has words at all is told most easily.
            colon = validation.tokenizer.convert_tokens_to_ids(":</w>")
            with_words = [sample for sample in samples if (sample["input_ids"] == colon).any()]
            if len(with_words) >= batch_size:
                found = measure(model, with_words, batch_size)
                metrics |= {f"{name}_with_words": found[name] for name in ("captions", "images", "guessed")}
        trainer.log_metrics("train", metrics)
        trainer.save_metrics("train", metrics)


if __name__ == "__main__":
    main()
