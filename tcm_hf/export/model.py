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
"""An exported network in the place of a model: for `pipeline("text-detection")` and all that is built on it."""

import os
from pathlib import Path
from typing import Any

import torch

from ..model.configuration_tcm import TCMConfig
from ..model.modeling_outputs import TCMTextDetectionOutput
from .runtime import CONFIG_NAME, MANIFEST_NAME, available_threads, load_network, read_object


class TCMRuntimeModel(torch.nn.Module):
    """
    A folder of `tcm-hf export`, run by ONNX Runtime or OpenVINO on the CPU.

    Args:
        config ([`TCMConfig`]): the model's configuration.
        network (`Callable`): of [`~export.runtime.load_network`].

    Example:

    ```python
    from tcm_hf import TCMRuntimeModel
    from transformers import pipeline

    model = TCMRuntimeModel.from_pretrained("exported")
    detector = pipeline("text-detection", model=model, image_processor="exported")
    ```
    """

    # What a pipeline asks of a model.
    device = torch.device("cpu")
    dtype = torch.float32
    input_modalities = ("image",)
    missing_weights: tuple[str, ...] = ()

    def __init__(self, config: TCMConfig, network: Any):
        super().__init__()
        self.config = config
        self.network = network
        self.name_or_path = ""

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike, *, threads: int | None = None) -> "TCMRuntimeModel":
        """
        Loads an exported folder.

        Args:
            folder (`str` or `os.PathLike`): what `tcm-hf export` made.
            threads (`int`, *optional*): cores to compute on; by default `OMP_NUM_THREADS`, or all that the process may use.

        Returns:
            [`TCMRuntimeModel`]

        Raises:
            ValueError: if a file of the folder is missing or wrong; the message names it.
            ImportError: if the runtime is not installed.
        """
        path = Path(folder)
        config = TCMConfig.from_dict(read_object(path, CONFIG_NAME))
        model = cls(config, load_network(path, threads or available_threads()))
        model.name_or_path = os.fspath(path)
        return model.eval()

    @staticmethod
    def is_exported(folder: str | os.PathLike) -> bool:
        """Whether a folder holds an export instead of weights."""
        return Path(folder, MANIFEST_NAME).is_file()

    def to(self, *arguments, **options):
        """Stays on the CPU in float32; anything else is refused."""
        for each in (*arguments, *options.values()):
            if isinstance(each, str | torch.device) and torch.device(each).type != "cpu":
                raise ValueError(f"an exported network runs on the CPU, not on {each}; pass device='cpu'")
            if isinstance(each, torch.dtype) and each != torch.float32:
                raise ValueError(f"an exported network runs in float32, not in {each}")
        return self

    def can_generate(self) -> bool:
        """Whether it generates texts: no."""
        return False

    def forward(
        self, pixel_values: torch.Tensor, pixel_mask: torch.Tensor | None = None, **kwargs
    ) -> TCMTextDetectionOutput:
        """
        Args:
            pixel_values (`torch.Tensor`): (batch, 3, H, W) normalized images of any size.
            pixel_mask (`torch.Tensor`, *optional*): (batch, H, W), 1 for image and 0 for padding.
            kwargs: what transformers passes to every model has no effect.

        Returns:
            [`TCMTextDetectionOutput`]: with `logits` and, where there is a mask, `image_sizes`.
        """
        inside = (
            torch.ones_like(pixel_values[:, 0], dtype=torch.long) if pixel_mask is None else (pixel_mask != 0).long()
        )
        inputs = {"pixel_values": pixel_values.float().contiguous().numpy(), "pixel_mask": inside.numpy()}
        levels = tuple(torch.from_numpy(level) for level in self.network(inputs).values())
        sizes = None
        if pixel_mask is not None:
            sizes = torch.stack([inside.amax(2).sum(1), inside.amax(1).sum(1)], dim=1)
        return TCMTextDetectionOutput(logits=levels if len(levels) > 1 else levels[0], image_sizes=sizes)
