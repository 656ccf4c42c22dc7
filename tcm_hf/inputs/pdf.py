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

"""Pages of PDF files, rendered by pypdfium2."""

import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..model.image_loading import MAX_SIDE
from .items import HOLDS_NOTHING, READ_ERRORS, InputFile, InputImage, import_extra


# PDFium may not be called from two threads at the same time.
_PDFIUM = threading.RLock()


def read_pdf(file: InputFile, source: str | bytes) -> Iterator[InputImage]:
    """
    Yields the pages of a PDF, rendered one by one.

    Args:
        file ([`InputFile`]): The file.
        source (`str` or `bytes`): Its path or content.
    """
    pdfium = import_extra("pypdfium2", "pdf", "pypdfium2")
    document = None
    try:
        with _PDFIUM:
            try:
                document = pdfium.PdfDocument(Path(source) if isinstance(source, str) else source)
            except pdfium.PdfiumError:
                yield file.error(_why_not_opened(pdfium.raw, source))
                return
            pages = len(document)
        for index in range(min(pages, file.options.max_frames)):
            facts = {"page": index + 1, "pages": pages, "dpi": file.options.dpi}
            siblings = pages if index == 0 else None
            if file.is_done(**facts):
                yield file.image(None, siblings, **facts)
                continue
            try:
                with _PDFIUM:
                    image = _render(document, index, file)
            except (pdfium.PdfiumError, *READ_ERRORS) as error:
                yield file.error(_reason(error), **facts)
            else:
                yield file.image(image, siblings, **facts)
        if pages > file.options.max_frames:
            yield file.too_many("pages")
    finally:
        if document is not None:
            with _PDFIUM:
                document.close()


def _why_not_opened(raw: Any, source: str | bytes) -> str:
    # Once more, by PDFium itself: a document without a page is an error for pypdfium2, with the code of any error before it.
    if isinstance(source, str):
        document = raw.FPDF_LoadDocument(os.fsencode(source) + b"\0", None)
    else:
        document = raw.FPDF_LoadMemDocument64(source, len(source), None)
    if document:
        raw.FPDF_CloseDocument(document)
        return HOLDS_NOTHING
    if raw.FPDF_GetLastError() == raw.FPDF_ERR_PASSWORD:
        return "is protected by a password; save a copy without it (qpdf --decrypt)"
    return "is no PDF, or it is damaged; get a complete copy of it"


def _render(document: Any, index: int, file: InputFile) -> Any:
    page = document[index]
    try:
        scale = file.options.dpi / 72  # PDFs count in points
        width, height = (math.ceil(side * scale) for side in page.get_size())
        limit = file.options.max_pixels
        if limit is not None and (width * height > limit or max(width, height) > MAX_SIDE):
            raise OverflowError(
                f"would have {width} x {height} pixels (width x height) at {file.options.dpi:g} dpi, more than "
                f"max_pixels={limit}; lower dpi, or raise max_pixels if there is memory for it"
            )
        bitmap = page.render(scale=scale)
        try:
            # A copy: the bitmap's memory goes with it.
            return bitmap.to_pil().convert("RGB")
        finally:
            bitmap.close()
    finally:
        page.close()


def _reason(error: Exception) -> str:
    if isinstance(error, OverflowError):
        return str(error)
    if isinstance(error, MemoryError):
        return "cannot be rendered (there is not enough memory); lower dpi"
    return f"cannot be rendered ({' '.join(str(error).split())}); get a complete copy of the file"
