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
"""Random words for rendering: listed or invented words, numbers, prices, telephone numbers, addresses of the web."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np


_SIGN_TEXT = """
open closed exit entrance push pull sale new free food drink coffee tea bar cafe hotel shop store market bank station
street road avenue lane park parking garden school office police fire hospital clinic pharmacy museum library theatre
cinema music sport city town house home center north south east west left right up down stop slow danger warning caution
keep clear no smoking entry private public please thank you welcome the and of for to in at on with from your our all
best fresh hot cold big small super special offer only today now here more less than one two three four five six seven
day night week month year hour time price gift card books fashion beauty hair salon travel tours tickets bus train
taxi airport gate platform level floor lift toilet men women water milk bread pizza burger chicken fish rice noodle
restaurant kitchen bakery wine beer juice summer winter spring love life happy world international company limited
service repair phone mobile computer electric power light gas oil car auto motor tyre wash rent sold property estate
design studio art gallery photo print black white red blue green yellow gold silver star sun moon king queen royal
discount collection classic original premium natural organic baby kids ladies shoes watches jewellery optical dental
express delivery online www menu lunch dinner breakfast buffet seafood grill steak sushi spicy sweet chocolate cream
customer information counter cashier reception staff authorised personnel beware mind gap emergency assembly point
opening hours monday friday sunday member card points reward redeem terms conditions apply valid until while stocks last
"""
SIGN_WORDS = _SIGN_TEXT.split()
# Words that fill running text, in about the order of how common they are.
_RUNNING = "the of and to in a is for on that with as at by from or your are be this we you it our all can not".split()
_CLUSTERS = "bl br ch cl cr dr fl fr gl gr pl pr sh sl sp st th tr"
_ONSETS = (*"bcdfghjklmnprstvwyz", *_CLUSTERS.split())
_VOWELS = (*"aeiouaeio", "ai", "ea", "ee", "oo", "ou", "y")
_CODAS = ("", "", "", *"nrstlmdx", "ng", "st", "rt", "nd", "ck", "ll")
_PLATES = list("ABCDEFGHJKLMNPRSTUVWXYZ0123456789")
_DOMAINS = (".com", ".org", ".net", ".sg", ".co.uk", ".de", ".com.sg", ".io", ".info")
SYSTEM_WORD_LISTS = ("/usr/share/dict/words", "/usr/share/dict/american-english", "/usr/share/dict/british-english")


def _two_byte(codec: str, rows: tuple[int, int], last: int = 0xFE) -> str:
    """The characters that a national double-byte code has in some rows: its common ones, so no list has to be shipped."""
    codes = (bytes([row, cell]) for row in range(rows[0], rows[1] + 1) for cell in range(0xA1, last + 1))
    return "".join(code.decode(codec, errors="ignore") for code in codes)


def _chinese() -> str:
    return _two_byte("gb2312", (0xB0, 0xD7))  # level 1: the 3755 most common


def _traditional() -> str:
    cells = [*range(0x40, 0x7F), *range(0xA1, 0xFF)]
    codes = (bytes([row, cell]) for row in range(0xA4, 0xC7) for cell in cells)
    return "".join(code.decode("big5", errors="ignore") for code in codes)[:5401]


_HIRAGANA = "".join(map(chr, range(0x3042, 0x308E)))
_KATAKANA = "".join(map(chr, range(0x30A2, 0x30EE)))


@dataclass(frozen=True)
class Script:
    """A writing system: how to make words of it.

    Args:
        letters (`Callable[[], str]`): its common letters.
        probes (`str`): letters that a font for it must have.
        ideographic (`bool`, *optional*, defaults to `False`): written without gaps between words.
        shaping (`bool`, *optional*, defaults to `False`): letters change with their neighbors, which takes Raqm.
        lengths (`tuple[int, int]`, *optional*, defaults to `(2, 10)`): shortest and longest invented word.
        marks (`bool`, *optional*, defaults to `False`):
            Real words carry marks above and below their letters, which takes Raqm; invented ones do without.
        spaced (`bool`, *optional*, defaults to `True`): running text has gaps between words.
        leftward (`bool`, *optional*, defaults to `False`): lines are read from the right.
    """

    letters: Callable[[], str]
    probes: str
    ideographic: bool = False
    shaping: bool = False
    lengths: tuple[int, int] = (2, 10)
    marks: bool = False
    spaced: bool = True
    leftward: bool = False


_LATIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_GREEK = "αβγδεζηθικλμνξοπρστυφχψωάέήίόύώΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩ"
_CYRILLIC = "абвгдежзийклмнопрстуфхцчшщыьэюяАБВГДЕЖЗИКЛМНОПРСТУФХЦЧШЭЮЯ"
_THAI = "กขคงจชซดตถทนบปผพฟมยรลวสหอะาเแโใไ"
_HEBREW = "אבגדהוזחטיכלמנסעפצקרשת"
_ARABIC = "ابتثجحخدذرزسشصضطظعغفقكلمنهوي"
_DEVANAGARI = "अआइउएकखगघचजटडतथदधनपबभमयरलवशसह"
SCRIPTS: dict[str, Script] = {
    "latin": Script(lambda: _LATIN, _LATIN),
    "greek": Script(lambda: _GREEK, _GREEK),
    "cyrillic": Script(lambda: _CYRILLIC, _CYRILLIC),
    "chinese": Script(_chinese, "的一是不了在人有我他这个们中来上大为和国地到", True, lengths=(1, 8), spaced=False),
    "traditional_chinese": Script(
        _traditional, "的一是不了在人有我他這個們中來上大為和國地到", True, lengths=(1, 8), spaced=False
    ),
    "japanese": Script(
        lambda: 12 * (_HIRAGANA + _KATAKANA) + _two_byte("euc_jp", (0xB0, 0xCF)),
        "あのんアンタ日本人大国駅出口",
        True,
        lengths=(1, 8),
        spaced=False,
    ),
    "korean": Script(
        lambda: _two_byte("euc_kr", (0xB0, 0xC8)), "가나다라마바사아자차카타파하한국서울", lengths=(2, 6)
    ),
    "thai": Script(lambda: _THAI, _THAI, lengths=(3, 12), marks=True, spaced=False),
    "hebrew": Script(lambda: _HEBREW, _HEBREW, lengths=(2, 8), leftward=True),
    "arabic": Script(lambda: _ARABIC, _ARABIC, shaping=True, lengths=(2, 8), leftward=True),
    "devanagari": Script(lambda: _DEVANAGARI, _DEVANAGARI, shaping=True, lengths=(2, 8)),
}


def script_of(name: str) -> Script:
    """
    Looks a script up.

    Args:
        name (`str`): one of [`SCRIPTS`].

    Returns:
        `Script`: its description.

    Raises:
        ValueError: if there is no such script.
    """
    if name not in SCRIPTS:
        raise ValueError(f"unknown script {name!r}; choose one of {', '.join(SCRIPTS)}")
    return SCRIPTS[name]


@lru_cache(maxsize=16)
def _letters(script: str) -> str:
    return script_of(script).letters()


def load_words(path: str | Path) -> list[str]:
    """
    Reads a list of words, one or several a line, separated by white space; lines that start with `#` are left out.

    Args:
        path (`str` or `Path`): a UTF-8 text file.

    Returns:
        `list[str]`: the words, in their order, repeated ones kept: a word listed twice is drawn twice as often.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is not UTF-8 or holds no word.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"word list not found: {path}")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error}); convert the file to UTF-8") from error
    words = [word for line in text.splitlines() if not line.startswith("#") for word in line.split()]
    if not words:
        raise ValueError(f"{path}: no word in this file; write one word a line")
    return words


@lru_cache(maxsize=1)
def _system_words() -> tuple[str, ...]:
    for path in SYSTEM_WORD_LISTS:
        if Path(path).is_file():
            words = (word for word in load_words(path) if word.isascii() and not word.endswith("'s"))
            return tuple(word for word in words if 2 <= len(word) <= 12)
    return ()


def system_words() -> list[str]:
    """
    Words of the system's dictionary (on Debian: the packages wamerican, wbritish and the like), of 2 to 12 letters.

    Returns:
        `list[str]`: words in ASCII letters; empty if none of the lists in `SYSTEM_WORD_LISTS` is installed.
    """
    return list(_system_words())


def default_words() -> list[str] | None:
    """
    The system's words, with the lengths that words of street scenes have (mostly 3 to 7 letters), mixed with words of signs
    so that every other draw gives one of those.

    Returns:
        `list[str]` or `None`: for the `words` of a generator; `None`, for its built-in words, if the system has no list.
    """
    words = system_words()
    if not words:
        return None
    # A dictionary has far more long words than signs have: of those, every second, third and so on is kept.
    kept, seen = [], [0] * 13
    for word in words:
        seen[len(word)] += 1
        if seen[len(word)] % _THINNING[len(word)] == 0:
            kept.append(word)
    return kept + SIGN_WORDS * (1 + len(kept) // len(SIGN_WORDS))


# Of the words of 0, 1, 2 ... 12 letters, every how many-th is kept.
_THINNING = (1, 1, 4, 1, 1, 2, 4, 7, 12, 18, 24, 30, 40)


def _pick(rng: np.random.Generator, items: Sequence):
    # Several times faster than Generator.choice, which turns the sequence into an array.
    return items[int(rng.integers(len(items)))]


def random_word(rng: np.random.Generator, words: Sequence[str] | None = None, script: str = "latin") -> str:
    """
    Draws one word as it could stand on a sign.

    Args:
        rng (`np.random.Generator`): the source of randomness.
        words (`Sequence[str]`, *optional*):
            Words to choose from most of the time; `None`: a built-in list and invented pronounceable words.
        script (`str`, *optional*, defaults to `"latin"`): a name of [`SCRIPTS`], for invented words.

    Returns:
        `str`: a word without spaces, with at least one letter or digit; one of `words` comes as the list has it.
    """
    kind = rng.random()
    if kind < 0.10:
        return _number(rng)
    if script != "latin":
        if words is not None and kind < 0.9:
            return str(_pick(rng, words))
        if kind < 0.17:
            return _latin_word(rng, None)
        return _scripted(rng, script)
    if kind < 0.13:
        return "".join(_pick(rng, _PLATES) for _ in range(int(rng.integers(2, 8))))
    if kind < 0.15:
        return _address(rng)
    return _latin_word(rng, words)


def running_word(rng: np.random.Generator, words: Sequence[str] | None = None, script: str = "latin") -> str:
    """
    Draws one word of running text: mostly in small letters, with the short words that fill sentences.

    Args:
        rng (`np.random.Generator`): the source of randomness.
        words (`Sequence[str]`, *optional*): as for [`random_word`].
        script (`str`, *optional*, defaults to `"latin"`): as for [`random_word`].

    Returns:
        `str`: a word without spaces, with at least one letter or digit; one of `words` comes as the list has it.
    """
    if script != "latin":
        return random_word(rng, words, script)
    kind = rng.random()
    if kind < 0.06:
        return _number(rng)
    if kind < 0.3 and words is None:
        return _pick(rng, _RUNNING)
    word = _list_word(rng, words)
    word = word.lower() if words is None else word
    if kind > 0.88:
        word = word.capitalize()
    if 0.78 < kind < 0.86:
        word += _pick(rng, ",.,.;:)")
    return word


def _list_word(rng: np.random.Generator, words: Sequence[str] | None) -> str:
    if words is not None:
        return str(_pick(rng, words))
    return _pick(rng, SIGN_WORDS) if rng.random() < 0.5 else _invented(rng)


def _latin_word(rng: np.random.Generator, words: Sequence[str] | None) -> str:
    word = _list_word(rng, words)
    case = rng.random()
    word = word.upper() if case < 0.3 else word.capitalize() if case < 0.65 else word
    mark = rng.random()
    if mark < 0.06:
        word += _pick(rng, "!?.,:")
    elif mark < 0.08:
        word += "'s"
    elif mark < 0.095:
        word = f"{word}{_pick(rng, '-/&')}{_list_word(rng, words)}"
    elif mark < 0.105:
        word = f"({word})" if rng.random() < 0.5 else f'"{word}"'
    return word


def _address(rng: np.random.Generator) -> str:
    name = _invented(rng).lower()
    kind = rng.random()
    if kind < 0.2:
        return f"{_invented(rng)}@{name}{_pick(rng, _DOMAINS)}"
    if kind < 0.3:
        return f"#{name}" if rng.random() < 0.5 else f"@{name}"
    return ("www." if kind < 0.75 else "") + name + _pick(rng, _DOMAINS)


def _scripted(rng: np.random.Generator, script: str) -> str:
    """Random letters; short words are more common."""
    low, high = SCRIPTS[script].lengths
    length = low + int((high - low + 1) * rng.random() ** 1.6)
    letters = _letters(script)
    word = "".join(letters[i] for i in rng.integers(len(letters), size=length))
    if word.upper() != word.lower():
        case = rng.random()
        word = word.upper() if case < 0.4 else word.capitalize() if case < 0.7 else word.lower()
    return word


def _invented(rng: np.random.Generator) -> str:
    count = rng.random()
    syllables = 1 if count < 0.4 else 2 if count < 0.85 else 3 if count < 0.97 else 4
    parts = []
    for _ in range(syllables):
        parts += [_pick(rng, _ONSETS), _pick(rng, _VOWELS)]
    return "".join(parts) + _pick(rng, _CODAS)


def _digits(rng: np.random.Generator, count: int) -> str:
    return "".join(str(digit) for digit in rng.integers(0, 10, size=count))


def _number(rng: np.random.Generator) -> str:
    kind = int(rng.integers(9))
    if kind == 0:
        cents = f".{_digits(rng, 2)}" if rng.random() < 0.6 else ""
        return f"{_pick(rng, '$£€$')}{rng.integers(1, 200)}{cents}"
    if kind == 1:
        return f"{_digits(rng, int(rng.integers(3, 5)))}-{_digits(rng, 4)}"
    if kind == 2:
        return f"{rng.integers(0, 24):02d}:{rng.integers(0, 60):02d}"
    if kind == 3:
        return f"{rng.integers(1, 100)}%"
    if kind == 4:
        return f"#{_digits(rng, 2)}-{_digits(rng, 2)}"
    if kind == 5:
        return f"{rng.integers(1, 29)}/{rng.integers(1, 13)}/{rng.integers(1990, 2030)}"
    if kind == 6:
        return f"{rng.integers(1, 13)}{_pick(rng, ('am', 'pm', 'kg', 'cm', 'ml', 'km', 'st', 'th', 'F', 'A', 'GB'))}"
    if kind == 7:
        return f"+{rng.integers(1, 99)}{_digits(rng, int(rng.integers(6, 10)))}"
    return _digits(rng, int(rng.integers(1, 7)))


def random_price(rng: np.random.Generator) -> str:
    """
    Draws a price as it stands on menus: with a currency sign or without.

    Args:
        rng (`np.random.Generator`): the source of randomness.

    Returns:
        `str`: such as `"$4.50"` or `"12.90"`.
    """
    return f"{_pick(rng, ('$', '$', '', '£', '€'))}{rng.integers(1, 100)}.{_pick(rng, ('00', '50', '90', '95', '99', '20'))}"
