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


# Pixels per inch: text of 8 points is then 17 pixels high.
RESOLUTION = 150


def read_pdf_page(path: str, number: int, max_pixels: int) -> tuple[Image.Image, int]:
    """
    Renders one page.

    Args:
        path (`str`): the file.
        number (`int`): of the page, from 1.
        max_pixels (`int`): a page of more pixels (width times height) at 150 dots per inch gets fewer dots.

    Returns:
        `tuple[PIL.Image.Image, int]`: the page, RGB, and how many pages there are.

    Raises:
        ValueError: if it is no PDF file, needs a password, or has no such page.
        ImportError: if pypdfium2 is not installed.
    """
    try:
        import pypdfium2
    except ImportError as error:
        raise ImportError("reading PDF files needs pypdfium2: pip install pypdfium2") from error
    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        raise ValueError(f"cannot read the PDF ({error}); is it damaged, or does it need a password?") from error
    try:
        count = len(document)
        if not 1 <= number <= count:
            raise ValueError(f"there is no page {number}: the PDF has {count}")
        page = document[number - 1]
        width, height = page.get_size()  # in points, 72 an inch
        scale = min(RESOLUTION / 72, (max_pixels / max(width * height, 1)) ** 0.5)
        return page.render(scale=scale).to_pil().convert("RGB"), count
    finally:
        document.close()
