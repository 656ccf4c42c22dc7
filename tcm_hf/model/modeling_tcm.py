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
"""TCM: CLIP's image and text towers turned into a detector of scene text.

"Turning a CLIP Model into a Scene Text Detector" (Yu et al., CVPR 2023) and FastTCM of "Turning a CLIP Model into a Scene
Text Spotter" (Yu et al., TPAMI 2024).
"""

import os
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, logging
from transformers.utils.generic import can_return_tuple

from .configuration_tcm import TCMConfig
from .detector_sharing import load_own_detector
from .detectors import find_detector, register_detector
from .modeling_attention import as_map, padding_bias
from .modeling_clip_folded import FOLDED_CLIP_MODULES
from .modeling_clip_tower import initialize_convolution, load_module, refuse_unknown
from .modeling_folded import FoldedVersions, fold_modules, unfold_modules
from .modeling_loading import copy_towers, load_encoder, load_safetensors, tower_fields
from .modeling_masks import ImagePadding, StrideMasks, is_exporting, mask_tensor
from .modeling_outputs import TCMModelOutput, TCMTextDetectionOutput, given_weights
from .modeling_tcm_db import DBDetector  # noqa: F401 - the registry finds it; transformers copies what is imported
from .modeling_tcm_db_folded import FOLDED_DB_MODULES
from .modeling_tcm_fce import FCEDetector  # noqa: F401
from .modeling_tcm_pan import PANDetector  # noqa: F401
from .modeling_tcm_prompts import LanguagePromptGenerator, PromptDecoder
from .modeling_text_towers import TCMTextTower
from .sharing import SharingMixin, known_source


if (
    TYPE_CHECKING
):  # each is loaded where a model has it, see `configuration_towers`; transformers copies what is imported
    from .modeling_clip_resnet import CLIPResNetModel  # noqa: F401
    from .modeling_clip_vit import CLIPViTModel  # noqa: F401
    from .modeling_cnn_towers import CNNTower  # noqa: F401
    from .modeling_dinov3_vit import DINOv3ViTTower  # noqa: F401
    from .modeling_siglip_vit import SiglipViTModel  # noqa: F401

logger = logging.get_logger(__name__)

# What `optimize_for_inference` replaces, and by what.
FOLDED_MODULES: FoldedVersions = {**FOLDED_CLIP_MODULES, **FOLDED_DB_MODULES}

# Where a checkpoint's own code has the classes that transformers' Auto classes load without this package.
AUTO_MAP = {
    "AutoConfig": "configuration_tcm.TCMConfig",
    "AutoModel": "modeling_tcm.TCMModel",
    "AutoModelForObjectDetection": "modeling_tcm.TCMForTextDetection",
}


class TCMPreTrainedModel(SharingMixin, PreTrainedModel):
    """
    Weights initialization, loading and saving of TCM's models.

    Attributes:
        missing_weights (`tuple[str, ...]`):
            Names of the weights that the loaded checkpoint lacks, or has in another size (`ignore_mismatched_sizes=True`),
            which are random until the model is trained.
    """

    config: TCMConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values"
    input_modalities = ("image",)  # type: ignore[assignment]  # a tuple, as in transformers
    supports_gradient_checkpointing = True
    # The loss is a mean over pixels; the Trainer must go on dividing it by the accumulation steps.
    accepts_loss_kwargs = False
    # Those of the towers are collected from them.
    _no_split_modules = ["CLIPEncoderLayer", "CLIPTextEmbeddings", "PromptDecoderLayer"]
    _supports_sdpa = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    missing_weights: tuple[str, ...] = ()
    # Whether `eval()` folds, which is so from `optimize_for_inference` on.
    folds_in_evaluation = False

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path, *model_args, use_safetensors: bool | None = None, **kwargs
    ):
        """
        Loads a checkpoint, see [`~transformers.PreTrainedModel.from_pretrained`] for all arguments.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): directory or Hub id of the checkpoint.
            use_safetensors (`bool`, *optional*, defaults to `True`):
                `False` allows weights in a pickle file (`pytorch_model.bin`); only for files from a trusted source.

        Returns:
            `TCMPreTrainedModel`: in evaluation mode.

        Raises:
            OSError: if there is no such checkpoint, or its weights are damaged or in a pickle file only.
            ValueError: if a field of the configuration is wrong; the message names it.
            RuntimeError: if the weights have other sizes than the configuration.
        """
        load_own_detector(pretrained_model_name_or_path, kwargs)
        output_loading_info = kwargs.pop("output_loading_info", False)
        model, loading_info = load_safetensors(
            super().from_pretrained,
            pretrained_model_name_or_path,
            *model_args,
            use_safetensors=use_safetensors,
            **kwargs,
        )
        # Those of another size come with both sizes.
        mismatched = {key if isinstance(key, str) else key[0] for key in loading_info["mismatched_keys"]}
        model.missing_weights = tuple(sorted(mismatched | set(loading_info["missing_keys"])))
        model.card_source = None if model.missing_weights else known_source(pretrained_model_name_or_path)
        try:
            model.check_running_statistics()
        except ValueError as error:
            # No error: `pipeline` of transformers would take it for a device without float16, and load float32 unasked.
            logger.warning(str(error))
        return (model, loading_info) if output_loading_info else model

    def check_running_statistics(self) -> None:
        """
        Tells whether float16, if it is the model's precision, can hold the running statistics of the normalizations. The
        pipeline does so by itself.

        Raises:
            ValueError: if one of them is not finite, which gives finite but wrong maps.
        """
        for name, value in self.named_buffers():
            if not name.endswith(("running_mean", "running_var")) or value.dtype != torch.float16 or value.is_meta:
                continue
            if not value.isfinite().all():
                raise ValueError(
                    f"`{name}` of {self.name_or_path!r} is beyond the range of float16, so its answers would be wrong; use "
                    "`dtype` float32 or bfloat16, or export the weights again."
                )

    def save_pretrained(self, save_directory, *args, **kwargs):
        """
        Saves the weights, the configuration and the code, see [`~transformers.PreTrainedModel.save_pretrained`].

        Args:
            save_directory (`str` or `os.PathLike`): the directory; it is made when it does not exist.
        """
        if type(self).__module__ == __name__ and self.is_remote_code():
            # transformers names only the class that is saved; the code that goes with it has all of them.
            self.config.auto_map = dict(AUTO_MAP)
        super().save_pretrained(save_directory, *args, **kwargs)

    def optimize_for_inference(self) -> "TCMPreTrainedModel":
        """
        Prepares the model for fast inference on a CPU, in place; results stay the same within float rounding.

        Modules are replaced by their folded versions: batch normalization, ReLU and additions are done inside of the
        convolutions, padding is set to zero instead of being multiplied, and DB's neck and head work on its levels before
        they are enlarged. In bfloat16 the attention pooling and the prompt decoders also keep their attention weights in
        this precision. Weights get the channels-last format. Forward hooks on layers inside of folded modules are not
        called. Weights, state dict and what is saved are untouched. `train()` puts the plain modules back, and `eval()` the
        folded ones again. Gradients, autocast, compilation, export and other devices take the usual path, and so do layers
        that are quantized, wrapped by adapters or otherwise not PyTorch's own. What is folded takes the memory of the image
        tower's and the detector's convolutions twice more. Nothing happens where weights are on another device or offloaded.

        Changed weights are folded anew, unless they are changed by way of `.data`, which PyTorch does not tell: call this
        method once more then.

        Returns:
            `TCMPreTrainedModel`: itself.
        """
        if all(parameter.device.type == "cpu" for parameter in self.parameters()):
            self.to(memory_format=torch.channels_last)  # type: ignore[call-arg]  # transformers wraps it without types
            # glibc hands freed memory back and takes it anew page by page, up to a fifth of a pass; a large block that
            # was freed once makes it keep twice as much from then on.
            torch.empty(2**25 - 2**16, dtype=torch.uint8, device="cpu")
            unfold_modules(self, FOLDED_MODULES)  # forgets what was folded
            for module in self.modules():
                if isinstance(module, TCMPreTrainedModel):
                    module.folds_in_evaluation = True
            if not self.training:
                fold_modules(self, FOLDED_MODULES)
        return self

    def train(self, mode: bool = True):
        if mode:
            self.missing_weights = ()  # from here on they are learned
            self.card_source = None  # and the card tells of other weights
            unfold_modules(self, FOLDED_MODULES)
        elif self.folds_in_evaluation:
            fold_modules(self, FOLDED_MODULES)
        return super().train(mode)

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        # transformers looks for the call of its attention functions in the sources of this file alone.
        return True

    @classmethod
    def is_custom_code(cls) -> bool:
        # For custom code transformers skips `_init_weights` of modules without weights of their own, such as the
        # attention of CLIP's layers. That protects loaded weights from in-place initialization; all of it here goes
        # through `transformers.initialization`, which leaves loaded weights alone.
        return False

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        initialize_convolution(module)
        if isinstance(module, TCMTextTower):
            init.copy_(module.prompt_token_ids, torch.tensor([self.config.prompt_token_ids], dtype=torch.long))
            if module.context_vectors is not None:
                std = self.config.context_init_std
                if std is None:
                    init.normal_(module.context_vectors, std=self.config.initializer_range)
                else:
                    init.trunc_normal_(module.context_vectors, std=std, a=-2 * std, b=2 * std)
        elif isinstance(module, TCMModel):
            if module.visual_prompt_scale is not None:
                init.constant_(module.visual_prompt_scale, self.config.visual_prompt_scale_init)
            if module.context_scale is not None:
                init.constant_(module.context_scale, self.config.context_scale_init)
            if module.meta_query is not None:
                init.normal_(module.meta_query, std=1.0)
            if self.config.text_side and self.config.fused_text:
                init.normal_(module.text_embedding, std=1.0)
        elif isinstance(module, BimodalProjection):
            init.copy_(module.weight, torch.eye(module.weight.shape[0]))


class BimodalProjection(nn.Linear):
    """FastTCM's square projection of the global embedding; it starts as the identity."""

    def __init__(self, channels: int):
        super().__init__(channels, channels, bias=False)


def _unit_vectors(x: torch.Tensor) -> torch.Tensor:
    """L2 normalization of the last axis, in fp32: in fp16 the zeros of padding would become NaN."""
    return nn.functional.normalize(x.float(), dim=-1).to(x.dtype)


def _measure(
    pixel_values: torch.Tensor, pixel_mask: torch.Tensor | None
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """
    The mask with 0 and 1, and (batch, 2) the height and width of each image without padding, or `None` where nothing is padded.

    Raises:
        ValueError: if one of the shapes is wrong.
    """
    if pixel_values.dim() != 4:
        raise ValueError(
            f"`pixel_values` has to be (batch, channels, height, width), got {tuple(pixel_values.shape)}."
        )
    height, width = pixel_values.shape[-2:]
    if pixel_mask is not None:
        if pixel_mask.shape != (pixel_values.shape[0], height, width):
            raise ValueError(
                "`pixel_mask` has to be (batch, height, width) of `pixel_values`, "
                f"{(pixel_values.shape[0], height, width)}, got {tuple(pixel_mask.shape)}."
            )
        inside = (pixel_mask != 0).long()  # sizes are counts, also of a mask of floats
        return inside, torch.stack([inside.amax(2).sum(1), inside.amax(1).sum(1)], dim=1)
    if not (is_exporting() or height % 32 or width % 32):
        return None, None
    # An exported graph serves all sizes, so it cannot leave the masks out where this one needs none. In operations, because a
    # tensor of the two numbers would be a constant of `torch.jit.trace`.
    batch = pixel_values.shape[:1]
    sizes = [torch.full(batch, length, dtype=torch.long, device=pixel_values.device) for length in (height, width)]
    return None, torch.stack(sizes, dim=1)


class TCMModel(TCMPreTrainedModel):
    """
    CLIP's towers joined by TCM's prompts: gives the feature maps, the text embedding and the matching map.

    Args:
        config (`TCMConfig`): the configuration.
    """

    # Of several classes, or absent, as the configuration says.
    vision_tower: Any
    text_tower: Any
    prompt_generator: Any
    context_decoder: Any
    visual_prompt_generator: Any
    bimodal_projection: Any

    def __init__(self, config: TCMConfig):
        super().__init__(config)
        self.padding = ImagePadding()
        self.masks = StrideMasks(32)
        self.vision_tower = load_module(config.image_tower.module).of_model(config)
        # Channels of `feature_maps`, score map included.
        self.channels = list(self.vision_tower.channels)
        self.text_tower = self.prompt_generator = self.context_decoder = self.visual_prompt_generator = None
        self.context_scale = self.visual_prompt_scale = self.meta_query = self.bimodal_projection = None
        if config.text_side:
            self.channels[-1] += 1
            channels = config.embedding_dim
            if config.fused_text:
                self.text_embedding = nn.Buffer(torch.zeros(1, 1, channels))
                # Where a model is spread over devices, accelerate forgets buffers of what it splits.
                self._no_split_modules = [*self._no_split_modules, type(self).__name__]
            else:
                self.text_tower = load_module(config.text_tower.module)(config)
                if config.prompt_generator is not None:
                    self.prompt_generator = LanguagePromptGenerator(config)
                if config.prompt_generator == "meta_query":
                    self.meta_query = nn.Parameter(torch.zeros(channels))
            if config.prompt_generator == "meta_query":
                self.bimodal_projection = BimodalProjection(channels)
            if config.context_decoder:
                self.context_decoder = PromptDecoder(config, single_query=True)
                self.context_scale = nn.Parameter(torch.zeros(channels))
            if config.visual_prompt:
                self.visual_prompt_generator = PromptDecoder(config, single_memory=True)
                self.visual_prompt_scale = nn.Parameter(torch.zeros(()))
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The layer that reads `pixel_values`."""
        return self.vision_tower.input_layer

    @property
    def text_model(self) -> PreTrainedModel | None:
        """The text encoder, e.g. a `CLIPTextModel`; `None` where there is no text side, or its embedding is stored."""
        return None if self.text_tower is None else self.text_tower.text_model

    def freeze_text_tower(self, freeze: bool = True) -> None:
        """
        Keeps CLIP's text encoder as it is (paper, section 3.2); the context vectors go on learning.

        Args:
            freeze (`bool`, *optional*, defaults to `True`): `False` makes it learn too.
        """
        if self.text_tower is not None:
            self.text_tower.text_model.requires_grad_(not freeze)
            self.text_tower.text_projection.requires_grad_(not freeze)

    def fuse_text(self) -> None:
        """
        Stores the text embedding, where it does not depend on the image, and drops the text tower: FastTCM's inference.
        Outputs stay exactly the same. The model is saved and loaded like this from then on, and its prompts cannot be
        trained any more.

        Raises:
            ValueError: if the text embedding depends on the image, or there is no text side.
        """
        if not self.config.text_side or self.config.prompt_generator == "conditional":
            raise ValueError(
                "Only a text embedding that does not depend on the image can be stored: `fuse_text` needs a model with "
                '`text_side=True` and `prompt_generator="meta_query"` (FastTCM) or `None`.'
            )
        if self.config.fused_text:
            return
        with torch.no_grad():
            self.text_tower.eval()
            self.text_embedding = nn.Buffer(self._constant_text().clone())
        self.text_tower = self.prompt_generator = self.meta_query = None
        self.config.fused_text = True

    def _constant_text(self) -> torch.Tensor:
        """(1, 1, embedding_dim): the text encoder's embedding of the prompt where no image conditions it."""
        if self.config.fused_text:
            return self.text_embedding
        return self.text_tower(None if self.meta_query is None else self.prompt_generator(self.meta_query[None]))

    def embed_text(self, global_embedding: torch.Tensor) -> torch.Tensor:
        """
        The text embedding for each image, before the context decoder (eq. 4 and 5; FastTCM: with bimodal matching).

        Args:
            global_embedding (`torch.Tensor`): (batch, embedding_dim).

        Returns:
            `torch.Tensor`: (batch, 1, embedding_dim).
        """
        if self.config.prompt_generator == "conditional":
            return self.text_tower(self.prompt_generator(global_embedding))
        text = self._constant_text()
        if self.config.prompt_generator is None:
            return text.expand(global_embedding.shape[0], -1, -1)
        text = _unit_vectors(text)
        image = _unit_vectors(self.bimodal_projection(global_embedding))[:, None]
        return (image * text).sum(-1, keepdim=True) * image + text

    @can_return_tuple
    def forward(  # type: ignore[misc]  # names of TransformersKwargs, as in transformers
        self,
        pixel_values: torch.FloatTensor,
        pixel_mask: torch.LongTensor | None = None,
        output_hidden_states: bool | int | list[int] | None = None,
        output_attentions: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TCMModelOutput:
        """
        Args:
            pixel_values (`torch.FloatTensor`):
                (batch, 3, H, W) normalized images of any size.
            pixel_mask (`torch.LongTensor`, *optional*):
                (batch, H, W), 1 for image and 0 for padding, which is at the right and at the bottom. Padding has no
                influence on any result, so that an image gives the same maps alone and in a batch.
            output_hidden_states (`bool`, `int` or `list[int]`, *optional*):
                Whether to return the image tower's hidden states, or which of them; defaults to the configuration's.
            output_attentions (`bool`, *optional*):
                Whether to return the attention weights of the image tower and of the visual prompt generator; needs
                `attn_implementation="eager"`. Defaults to the configuration's.
            kwargs:
                What transformers passes to every model, such as `num_items_in_batch`, has no effect.

        Returns:
            `TCMModelOutput`

        Raises:
            TypeError: if there is an unknown argument.
            ValueError: if `pixel_values` or `pixel_mask` has the wrong shape.
        """
        refuse_unknown(self, kwargs)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        if output_attentions:
            config: Any
            for config in (self.config, self.config.vision_config):
                if config._attn_implementation != "eager":
                    logger.warning_once(
                        f'`output_attentions=True` gives no weights with `attn_implementation="'
                        f'{config._attn_implementation}"`; load the model with `attn_implementation="eager"`.'
                    )
        inside, image_sizes = _measure(pixel_values, pixel_mask)
        pixel_values = self.padding(pixel_values, inside, image_sizes, self.dtype)
        vision = self.vision_tower(
            pixel_values,
            image_sizes,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            return_dict=True,
        )
        feature_maps = vision.feature_maps
        text = dense = score_map = None
        prompt_attentions: tuple[torch.Tensor | None, ...] = ()
        if self.config.text_side:
            text, dense, score_map, prompt_attentions = self._match(
                vision.global_embedding, vision.dense_embeddings, image_sizes
            )
            feature_maps = (*feature_maps[:-1], torch.cat([feature_maps[-1], score_map], dim=1))
        return TCMModelOutput(
            last_hidden_state=feature_maps[-1],
            score_map=score_map,
            text_embeddings=text,
            visual_embeddings=dense,
            global_embedding=vision.global_embedding,
            feature_maps=feature_maps,
            image_sizes=image_sizes,
            hidden_states=vision.hidden_states,
            attentions=vision.attentions,
            visual_prompt_attentions=given_weights(prompt_attentions) if output_attentions else None,
        )

    def _match(
        self, global_embedding: torch.Tensor, dense: torch.Tensor, image_sizes: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, tuple[torch.Tensor | None, ...]]:
        """Text embedding, dense embeddings with visual prompt, matching map and attention weights."""
        height, width = dense.shape[-2:]
        mask = mask_tensor(self.masks(image_sizes, [(height, width)], dense)[0], dense)
        pixels = dense.flatten(2).transpose(1, 2)
        text = text_prompt = self.embed_text(global_embedding)
        if self.context_decoder is not None:
            memory = torch.cat([global_embedding[:, None], pixels], dim=1)
            memory_bias = padding_bias(mask, pixels.dtype, leading=1)
            text = text + self.context_scale * self.context_decoder(text, memory, memory_bias=memory_bias)[0]
        attentions: tuple[torch.Tensor | None, ...] = ()
        if self.visual_prompt_generator is not None:
            query_bias = padding_bias(mask, pixels.dtype)
            # The released models show the pixels the text embedding as it left the text encoder.
            prompt, attentions = self.visual_prompt_generator(pixels, text_prompt, query_bias=query_bias)
            pixels = pixels + self.visual_prompt_scale * prompt
        score_map = _unit_vectors(pixels) @ _unit_vectors(text).transpose(1, 2)
        if self.config.scale_score_map:
            score_map = score_map / self.config.temperature
        score_map = as_map(score_map, height, width)
        dense = as_map(pixels, height, width)
        if mask is not None:
            score_map, dense = score_map * mask, dense * mask
        return text, dense, score_map, attentions


class TCMForTextDetection(TCMPreTrainedModel):
    """
    TCM with a text detector that reads its feature maps and its matching map.

    Args:
        config (`TCMConfig`): the configuration; `config.detector` names the detector.

    Example:

    >>> from PIL import Image
    >>> from tcm_hf import TCMForTextDetection, TCMImageProcessor, checkpoint_path

    >>> processor = TCMImageProcessor.from_pretrained(checkpoint_path())
    >>> model = TCMForTextDetection.from_pretrained(checkpoint_path())
    >>> image = Image.open("examples/sample.jpg")
    >>> outputs = model(**processor(image, return_tensors="pt"))
    >>> target_sizes = [(image.height, image.width)]
    >>> result = processor.post_process_text_detection(outputs, target_sizes)[0]
    >>> len(result["polygons"]) == len(result["scores"]) > 0
    True
    """

    def __init__(self, config: TCMConfig):
        super().__init__(config)
        detector_class = find_detector(config.detector).part("module")
        self.model = TCMModel(config)
        self.detector = detector_class(config, self.model.channels)
        self.post_init()

    def freeze_text_tower(self, freeze: bool = True) -> None:
        """Keeps CLIP's text encoder as it is, or lets it learn, see [`TCMModel.freeze_text_tower`]."""
        self.model.freeze_text_tower(freeze)

    def fuse_text(self) -> None:
        """Stores a constant text embedding and drops the text tower, see [`TCMModel.fuse_text`]."""
        self.model.fuse_text()

    @classmethod
    def from_clip(
        cls,
        clip: "str | os.PathLike | PreTrainedModel",
        detector: str = "db",
        text: "str | os.PathLike | PreTrainedModel | None" = None,
        **config_kwargs,
    ):
        """
        A detector on the towers of a CLIP model or one of its kin: towers and projections are taken over, all else is new.

        Args:
            clip (`str`, `os.PathLike` or `PreTrainedModel`):
                A CLIP, MetaCLIP 2, SigLIP, SigLIP 2, Chinese-CLIP or AltCLIP model, or its directory or Hub id, e.g.
                `"openai/clip-vit-base-patch32"` or `"google/siglip2-base-patch16-224"`. Also a backbone (ResNet, ConvNeXt,
                DINOv3), with a `text` or with `text_side=False`.
            detector (`str`, *optional*, defaults to `"db"`):
                Name of the detector.
            text (`str`, `os.PathLike` or `PreTrainedModel`, *optional*):
                Such a model for the text tower, by default the same. A projection between embeddings of different length is new.
            config_kwargs:
                Any other field of `TCMConfig`. The token ids of the `prompt` are those of the tokenizer beside the weights.

        Returns:
            `TCMForTextDetection`: with the text encoder frozen, as in the paper; `freeze_text_tower(False)` undoes it.

        Raises:
            `ValueError`: where it is no such model of transformers, there is no text tower, or one without a tokenizer whose
                vocabulary is not CLIP's and there are no `prompt_token_ids`.
            `OSError`: where its weights are in a pickle file only; the message says how to convert it.
        """
        image = load_encoder(clip)
        words = image if text is None else load_encoder(text)
        fields = tower_fields(image, words, clip if text is None else text, config_kwargs)
        model = cls(TCMConfig(detector=detector, **fields))
        copy_towers(model, image, words)
        model.freeze_text_tower()
        return model

    @can_return_tuple
    def forward(  # type: ignore[misc]  # names of TransformersKwargs, as in transformers
        self,
        pixel_values: torch.FloatTensor,
        pixel_mask: torch.LongTensor | None = None,
        labels: dict[str, torch.Tensor] | None = None,
        output_hidden_states: bool | int | list[int] | None = None,
        output_attentions: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TCMTextDetectionOutput:
        """
        Args:
            pixel_values (`torch.FloatTensor`):
                (batch, 3, H, W) normalized images of any size.
            pixel_mask (`torch.LongTensor`, *optional*):
                (batch, H, W), 1 for image and 0 for padding; see `TCMModel.forward`.
            labels (`dict[str, torch.Tensor]`, *optional*):
                The detector's target maps. DB: `shrink_map`, `shrink_mask`, `threshold_map` and `threshold_mask` of
                `tcm_hf.targets.build_db_targets`, (batch, H, W) each. PAN: `text_map`, `kernel_map` and `text_mask` of
                `tcm_hf.targets.build_pan_targets`, (batch, H, W) each. FCE: the maps of
                `tcm_hf.targets.build_fce_targets`, with a batch dimension.
            output_hidden_states (`bool`, `int` or `list[int]`, *optional*):
                Whether to return the image tower's hidden states, or which of them; defaults to the configuration's.
            output_attentions (`bool`, *optional*):
                Whether to return attention weights; see `TCMModel.forward`.
            kwargs:
                What transformers passes to every model, such as `num_items_in_batch`, has no effect.

        Returns:
            `TCMTextDetectionOutput`

        Raises:
            TypeError: if there is an unknown argument.
            ValueError: if `pixel_values`, `pixel_mask` or one of the `labels` has the wrong shape or is missing.
        """
        refuse_unknown(self, kwargs)
        outputs = self.model(
            pixel_values,
            pixel_mask,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            return_dict=True,
        )
        maps = self.detector(outputs.feature_maps, outputs.image_sizes, training_maps=labels is not None)
        height, width = pixel_values.shape[-2:]
        loss = loss_dict = None
        if labels is not None:
            loss, loss_dict = self._loss(maps, outputs.score_map, labels, pixel_mask, height, width)
        return TCMTextDetectionOutput(
            loss=loss,
            loss_dict=loss_dict,
            logits=self.detector.crop(maps["logits"], height, width),
            image_sizes=outputs.image_sizes if pixel_mask is not None else None,
            score_map=outputs.score_map,
            text_embeddings=outputs.text_embeddings,
            visual_embeddings=outputs.visual_embeddings,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            visual_prompt_attentions=outputs.visual_prompt_attentions,
        )

    def _loss(
        self,
        maps: dict,
        score_map: torch.Tensor | None,
        labels: dict[str, torch.Tensor],
        pixel_mask: torch.Tensor | None,
        height: int,
        width: int,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Sum of the weighted terms, and the terms."""
        labels = self.detector.prepare_labels(labels, pixel_mask, height, width)
        # Half precision is for the maps; a loss over a million pixels needs fp32.
        with torch.autocast(self.device.type, enabled=False):
            loss_dict = self.detector.loss(maps, labels)
            if score_map is not None and self.config.auxiliary_loss_weight > 0:
                matching_logits = score_map.float()
                if not self.config.scale_score_map:
                    matching_logits = matching_logits / self.config.temperature
                loss_dict["auxiliary"] = self.config.auxiliary_loss_weight * self.detector.auxiliary_loss(
                    matching_logits, labels
                )
        return sum(loss_dict.values()), loss_dict


__all__ = [
    "TCMForTextDetection",
    "TCMModel",
    "TCMModelOutput",
    "TCMPreTrainedModel",
    "TCMTextDetectionOutput",
    "register_detector",
]
