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
"""What a model sees in an image, for people who look at it: the maps behind its detections."""

from .drawing import draw_heat_map
from .maps import ImageMaps, find_maps
from .words import WORDS, embed_words, load_tokenizer, similar_words


__all__ = ["WORDS", "ImageMaps", "draw_heat_map", "embed_words", "find_maps", "load_tokenizer", "similar_words"]
