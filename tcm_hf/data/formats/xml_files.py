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
"""XML of others: any encoding of text, no document type, no entities, nothing foreign opened."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import numpy as np

from .access import PathLike, check_memory
from .files import outline, parse_numbers
from .records import AnnotationError


# An encoding that a file may ask for: one of text, and nothing that Python can also decode.
_XML_ENCODING = re.compile(
    r"ascii|utf-(?:8|16|32)(?:-[bl]e|-sig)?|iso8859-\d+|cp\d+|mac-\w+|koi8-\w|gbk|gb\w+|big5\w*|shift_jis\w*|euc_\w+|johab|hz"
)
_XML_DECLARATION = re.compile(rb"""\s*<\?xml[^>]{0,200}?\bencoding\s*=\s*["']([A-Za-z][A-Za-z0-9._:-]{0,40})["']""")
_XML_STARTS = (
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"<\0\0\0", "utf-32-le"),
    (b"\0\0\0<", "utf-32-be"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
)
# An element of four bytes becomes an object.
_BYTES_PER_ELEMENT = 160


def _xml_text(path: Path, encoding: str | None, memory_limit: int) -> str:
    """The decoded text of an XML file, by its byte order mark, its first characters or its declaration."""
    if not path.is_file():
        raise FileNotFoundError(f"Annotation file not found: {path}")
    check_memory(8 * path.stat().st_size, memory_limit, str(path))
    data = path.read_bytes()
    check_memory(8 * len(data) + _BYTES_PER_ELEMENT * data.count(b"<"), memory_limit, str(path))
    if encoding is None:
        encoding = next((name for start, name in _XML_STARTS if data.startswith(start)), None)
    declared = _XML_DECLARATION.match(data)
    try:
        if encoding is None and declared:
            encoding = codecs.lookup(declared[1].decode("ascii")).name
            if not _XML_ENCODING.fullmatch(encoding) or encoding.startswith(("utf-16", "utf-32")):
                raise LookupError(f"{encoding!r} is not the encoding of an XML file that begins so")
        return data.decode(encoding or "utf-8")
    except (LookupError, UnicodeError) as error:
        raise AnnotationError(
            f"{path}: XML in an encoding that is not read ({error}); convert it to UTF-8, or name its encoding (`encoding=`, "
            "--encoding)"
        ) from error


def parse_xml(path: PathLike, encoding: str | None, memory_limit: int) -> Element:
    """
    The root element of an XML file.

    Args:
        path (`str` or `Path`): The file.
        encoding (`str`, *optional*): Its encoding, when neither its first bytes nor its declaration say so.
        memory_limit (`int`): Bytes that its content may take in memory.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: if it is no XML, declares a document type or entities, or is too large; the message names the line.
    """
    try:
        from defusedxml import DefusedXmlException
        from defusedxml.ElementTree import fromstring
    except ImportError as error:  # pragma: no cover
        raise ImportError("Reading XML needs defusedxml: pip install defusedxml") from error
    path = Path(path)
    # Some published labels hold a bare ampersand.
    text = re.sub(r"&(?!#?\w+;)", "&amp;", _xml_text(path, encoding, memory_limit))
    try:
        # Decoded already, so that the parser sees what a declaration of another encoding would hide.
        root = fromstring(text, forbid_dtd=True, forbid_entities=True, forbid_external=True)
    except DefusedXmlException as error:
        raise AnnotationError(
            f"{path}: a document type or entities of its own have no place in an annotation; remove them"
        ) from error
    except ParseError as error:
        line = error.position[0]
        raise AnnotationError(
            f"{path}, line {line}: no valid XML ({error}); get a complete copy of the file"
        ) from error
    except ValueError as error:  # half of a surrogate pair
        raise AnnotationError(f"{path}: no valid XML ({error}); get a complete copy of the file") from error
    return root


def point_list(text: str, where: str) -> np.ndarray:
    """The outline of numbers with commas or spaces between: x and y of every point."""
    numbers = parse_numbers(text.replace(",", " ").split(), where, text)
    if len(numbers) % 2 or len(numbers) < 6:
        raise AnnotationError(
            f"{where}: {len(numbers)} numbers are no outline; expected x and y of at least 3 points; redraw it"
        )
    return outline(numbers)
