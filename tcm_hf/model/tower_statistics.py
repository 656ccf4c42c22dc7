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
"""The mean and the standard deviation that an image tower was trained with."""

import logging
import os
from typing import Any

from transformers import CLIPConfig
from transformers.configuration_utils import PreTrainedConfig
from transformers.image_processing_base import ImageProcessingMixin
from transformers.utils import IMAGE_PROCESSOR_NAME


logger = logging.getLogger(__name__)


def tower_statistics(source: Any) -> dict[str, Any]:
    """
    The settings of an image processor by which images are normalized for a tower, where they differ from the papers'.

    Args:
        source (`str`, `os.PathLike` or `PreTrainedModel`): what the tower is taken from.

    Returns:
        `dict[str, Any]`: `image_mean` and `image_std`, or `do_normalize`; nothing for CLIP itself, whose towers the papers use with other
        statistics, and where nothing is known.

    Raises:
        OSError: if there is no such directory or Hub id.
    """
    if isinstance(source, str | os.PathLike):
        name, model_type = os.fspath(source), PreTrainedConfig.get_config_dict(source)[0].get("model_type")
    else:
        name, model_type = source.name_or_path, source.config.model_type
    if model_type == CLIPConfig.model_type:
        return {}
    settings: dict[str, Any] = {}
    if name:
        try:
            settings, _ = ImageProcessingMixin.get_image_processor_dict(name)
        except OSError:  # there is none
            pass
    if settings.get("do_normalize") is False:
        return {"do_normalize": False}
    names = ("image_mean", "image_std")
    if any(settings.get(each) is None for each in names):
        logger.warning(
            f"{name or 'the model'} has no {IMAGE_PROCESSOR_NAME} with a mean and a standard deviation: images are normalized by the "
            "papers' statistics; `image_mean` and `image_std` of the image processor change them"
        )
        return {}
    return {each: settings[each] for each in names}
