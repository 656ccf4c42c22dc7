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
Fine-tuning with the Trainer of transformers, or with bare accelerate.

The names below are what a training script needs; they are loaded where they are first used.
"""

import importlib


_HOMES = {
    "CheckpointError": "checkpoint",
    "DataArguments": "options",
    "ExponentialMovingAverage": "ema",
    "ModelArguments": "options",
    "TCMTrainer": "trainer",
    "TCMTrainingArguments": "arguments",
    "build_train_dataloader": "trainer",
    "evaluate_records": "evaluation",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
