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

"""Inputs of detection: whatever holds images, read lazily, one image after the other.

[`iterate_images`] is the front door. It takes files, folders, patterns, addresses, PDFs, videos, archives, parquet shards, lists of
paths, standard input and data sets on the Hub, and yields [`InputImage`]s.
"""

from .items import InputImage, InputOptions
from .sources import find_inputs, iterate_images


__all__ = ["InputImage", "InputOptions", "find_inputs", "iterate_images"]
