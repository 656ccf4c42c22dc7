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
"""Kinds of images besides street scenes: each draws a flat page, which `view` then shows as scanned, photographed or
as it is."""

from .document import draw_document
from .receipt import draw_receipt
from .screen import draw_screen
from .sign import draw_sign
from .vertical import draw_vertical


PAGES = {
    "document": draw_document,
    "receipt": draw_receipt,
    "screen": draw_screen,
    "sign": draw_sign,
    "vertical": draw_vertical,
}
# "scene" is what the generator draws without styles.
STYLES = ("scene", *PAGES)

__all__ = ["PAGES", "STYLES"]
