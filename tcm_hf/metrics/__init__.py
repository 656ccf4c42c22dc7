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
"""Evaluation protocols of scene text detection. numpy and shapely only."""

from pathlib import Path

from .evaluator import TextDetectionEvaluator, evaluate_detections, sweep_thresholds
from .icdar2015 import Icdar2015Evaluator, evaluate_icdar2015
from .protocols import ALIASES, PROTOCOLS, Protocol, get_protocol, register_protocol


# The folder for `evaluate.load(EVALUATE_MODULE, "icdar2015")`.
EVALUATE_MODULE = str(Path(__file__).parent / "text_detection")

__all__ = [
    "ALIASES",
    "EVALUATE_MODULE",
    "PROTOCOLS",
    "Icdar2015Evaluator",
    "Protocol",
    "TextDetectionEvaluator",
    "evaluate_detections",
    "evaluate_icdar2015",
    "get_protocol",
    "register_protocol",
    "sweep_thresholds",
]
