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
"""Real words of scripts other than Latin, from the dictionaries of Debian packages; nothing of them is shipped."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import features

from .words import default_words, script_of


# Taken evenly from a list: enough that few words are seen twice, and little to send to a worker.
_MOST_WORDS = 20_000
_LONGEST = 14


@dataclass(frozen=True)
class WordList:
    """
    A dictionary.

    Args:
        package (`str`): the Debian package that installs it.
        path (`str`): its file: Hunspell's (`.dic`, with its encoding in the `.aff` beside it), or SKK's.
    """

    package: str
    path: str


WORD_LISTS: dict[str, WordList] = {
    "greek": WordList("hunspell-el", "/usr/share/hunspell/el_GR.dic"),
    "cyrillic": WordList("hunspell-ru", "/usr/share/hunspell/ru_RU.dic"),
    "japanese": WordList("skkdic", "/usr/share/skk/SKK-JISYO.L"),
    "korean": WordList("hunspell-ko", "/usr/share/hunspell/ko.dic"),
    "thai": WordList("hunspell-th", "/usr/share/hunspell/th_TH.dic"),
    "hebrew": WordList("hunspell-he", "/usr/share/hunspell/he_IL.dic"),
    "arabic": WordList("hunspell-ar", "/usr/share/hunspell/ar.dic"),
    "devanagari": WordList("hunspell-hi", "/usr/share/hunspell/hi_IN.dic"),
}


def listed_words(script: str) -> list[str] | None:
    """
    Words of a script from the dictionary that a Debian package has installed, see `WORD_LISTS`; of Latin, those of
    [`~tcm_hf.data.synthesis.words.default_words`].

    Args:
        script (`str`): a name of [`~tcm_hf.data.synthesis.words.SCRIPTS`].

    Returns:
        `list[str]` or `None`: at most 20,000 words of at most 14 letters, taken evenly from the list; `None`, for invented
        words, if there is no list for the script, its package is not installed, or Pillow could not draw its marks.

    Raises:
        ValueError: if there is no such script.
    """
    if script == "latin":
        return default_words()
    source = WORD_LISTS.get(script)
    if source is None or (script_of(script).marks and not features.check("raqm")) or not Path(source.path).is_file():
        return None
    return list(_read(source.path)) or None


@lru_cache(maxsize=16)
def _read(path: str) -> tuple[str, ...]:
    words = _japanese(path) if "SKK" in path else _hunspell(Path(path))
    words = [unicodedata.normalize("NFC", word) for word in words]
    words = [word for word in words if 0 < len(word) <= _LONGEST and any(map(str.isalnum, word))]
    return tuple(words[:: max(1, -(-len(words) // _MOST_WORDS))])


def _hunspell(path: Path) -> list[str]:
    settings = path.with_suffix(".aff")
    head = settings.read_bytes() if settings.is_file() else b""
    named = re.search(rb"^SET\s+(\S+)", head, re.MULTILINE)
    # What is not of the encoding that the file names is left out, as are all words with spaces.
    text = path.read_bytes().decode(named.group(1).decode("ascii", "replace") if named else "utf-8", errors="replace")
    lines = text.splitlines()[1:]
    lines = lines[:: max(1, len(lines) // (4 * _MOST_WORDS))]
    entries = (re.split(r"[/\t]", line, maxsplit=1)[0].strip() for line in lines)
    return [word for word in entries if word and not re.search(r"[\s\ufffd]", word)]


def _japanese(path: str) -> list[str]:
    """Of the lines `reading /word;note/word/`, the first words of native readings."""
    text = Path(path).read_bytes().decode("euc_jp", errors="ignore")
    found = re.findall(r"^[ぁ-ん]+ /([^/;]+)", text, re.MULTILINE)
    return [word for word in found if not re.search(r"[\s()\"#a-zA-Z\\]", word)]
