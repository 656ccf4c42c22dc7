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
"""A page of a PDF file as an image."""

from PIL import Image

from ..inputs.items import InputFile, InputOptions, place_key
from ..inputs.pdf import read_pdf


# Pixels per inch: text of 8 points is then 17 pixels high.
RESOLUTION = 150
# What visitors upload has a path of the server's, which is not theirs to see.
NAME = "the PDF"


def read_pdf_page(path: str, number: int, max_pixels: int) -> tuple[Image.Image, int]:
    """
    Renders one page.

    Args:
        path (`str`): the file.
        number (`int`): of the page, from 1.
        max_pixels (`int`): largest width times height of a page.

    Returns:
        `tuple[PIL.Image.Image, int]`: the page, RGB, and how many pages there are.

    Raises:
        ValueError: if it is no PDF file, needs a password, or has no such page, or the page is too large.
        ImportError: if pypdfium2 is not installed.
    """
    wanted = place_key(NAME, {"page": number})
    file = InputFile(NAME, InputOptions(dpi=RESOLUTION, max_pixels=max_pixels), has=lambda key: key != wanted)
    count = 0
    for page in read_pdf(file, path):
        if page.error is not None and (page.facts.get("page") == number or not page.facts):
            raise page.error
        if page.facts["page"] == number:
            return page.load(), page.facts["pages"]
        count = page.facts["pages"]
    raise ValueError(f"there is no page {number}: the PDF has {count}")
