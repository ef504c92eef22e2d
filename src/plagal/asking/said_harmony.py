"""What a prompt says of harmony: chords in a row, as symbols, degrees or solfege, and the key in five languages."""

from __future__ import annotations

import re

from plagal.asking import lexicon
from plagal.asking.page import Page
from plagal.asking.styles import find_styles
from plagal.music.chords import parse_chord
from plagal.music.keys import fifths_of, key_at, key_tonic
from plagal.music.score import Key
from plagal.plumbing.errors import ChordError

_CHORD = (
    r"[A-G][b#]?(?::?(?:[Mm][Aa][Jj]|[Mm]in|mi|ma|m|M|[Dd]im|[Aa]ug|[Ss]us|add|alt|dom|halfdim|no|[b#+^\u25b3\u0394\u2206"
    r"\u00f8\u00b0]|-(?=\d)|o(?=7|\b)|\d+|\([^()\s]{1,12}\)))*(?:/9|/[A-G][b#]?)?(?![\w#])"
    r"(?![ -]*(?i:major|minor|flat|sharp|dur|moll|maj|min)\b)"
)
_STEP = r"(?:[ \t]*(?:[,;>\u2192]|->|-(?=[ A-G])|:?\|+:?)+[ \t]*|[ \t]+)"
_RUN = (
    rf"(?<![\w#/'])(?:\|:?[ \t]*)?(?:{_CHORD}|N\.?C\.?)(?:{_STEP}(?:{_CHORD}|N\.?C\.?|%|/(?=[ \t|])))*(?:[ \t]*:?\|+)?"
)
_DEGREE = (
    r"[b#]?(?:[1-7]|VII|VI|IV|V|III|II|I|vii|vi|iv|v|iii|ii|i)(?:maj\d*|m(?:in)?\d*|dim\d?|sus\d?|\u00b0|\u00f8|7|9|11|13"
    r"|-(?=[ ,]|$))?(?:/[1-7])?(?![\w/])"
)
_DEGREES = rf"(?<![\w/.,:#])(?<!\d ){_DEGREE}(?:[ ,|-]+{_DEGREE}){{2,}}"
_LATIN_ROOT = r"(?:do|re|mi|fa|sol|la|si)(?:[ -]?(?:bemol|sostenido|sustenido|diese|#|b))?"
_LATIN_CHORD = rf"{_LATIN_ROOT}(?: ?(?:mayor|menor|majeur|mineur|maior)|m)?7?(?!\w)"
_LATIN_RUN = rf"(?<!\w){_LATIN_CHORD}(?: ?[ ,|-] ?{_LATIN_CHORD})+"


def chord_run(page: Page) -> str | None:
    """The text of the progression: chords after a word such as "over", or so many in a row that they can be nothing
    else."""
    after = rf"(?<!\w)(?:{lexicon.CHORDS_FOLLOW})(?: the)?(?: (?:chords?|changes|progression))?[ :]+$"
    for match in re.finditer(_RUN, page.cased):
        symbols = re.findall(_CHORD, match[0])
        before = page.plain[: match.start()]
        announced = re.search(after, before)
        start = match.start()
        if re.search(r"(?<!\w)(?:in|key|key of|key[:=]|tom|tono|en|em)[ ]*$", before) and "|" not in match[0]:
            step = re.match(rf"{_CHORD}{_STEP}", match[0])
            if step is None:
                continue
            start, symbols = start + step.end(), symbols[1:]
        sure = "|" in match[0] or len(symbols) > 2 or all(len(symbol.rstrip("b#")) > 1 for symbol in symbols)
        if len(symbols) >= 2 and (announced or sure) and all(map(_is_chord, symbols)):
            end = match.end()
            page.blank(announced.start() if announced else start, end)
            return page.text[start:end].strip(" ,;")
    if latin := page.take(rf"(?<!\w)(?:{lexicon.CHORDS_FOLLOW})[ :]+({_LATIN_RUN})"):
        return " | ".join(_latin_chord(name) for name in re.findall(_LATIN_CHORD, latin[1]))
    if degrees := page.take(_DEGREES, cased=True):
        page.take(r"progressions?|progresion|progressao|progressao", whole_words=True)
        return page.text[slice(*degrees.span())].strip(" ,")
    return None


def _is_chord(symbol: str) -> bool:
    try:
        return parse_chord(symbol) is not None
    except ChordError:
        return False


def _latin_chord(name: str) -> str:
    match = re.match(r"(do|re|mi|fa|sol|la|si)[ -]?(bemol|sostenido|sustenido|diese|#|b)?(.*)", name)
    assert match is not None  # noqa: S101  # the caller's pattern is longer
    minor = re.search(r"menor|mineur|m", match[3].replace("mayor", "").replace("majeur", "").replace("maior", ""))
    root = lexicon.ROMANCE_TONICS[match[1]] + lexicon.ACCIDENTALS.get(match[2] or "", "")
    return root + ("m" if minor else "") + ("7" if name.endswith("7") else "")


# --- keys


_ENGLISH = r"([A-G])(b(?![a-z])|#|[ -]?(?i:flat|sharp)(?![a-z]))?"
_LATIN = r"(do|ut|re|mi|fa|sol|la|si)(?:[ -]?(bemol|sostenido|sustenido|diese|#|b(?![a-z])))?"
_IN = r"(?:in|key(?: of)?|key ?[:=]|tonart ?:?|transposed? to|from|to)(?: the key of)?[ ]*"
_EN = r"(?:en|em|(?:tono|tom|ton|tonalite|tonalidade?) ?:?(?: de)?)[ ]+"
_MODE = "|".join(mode for mode in lexicon.MODES if mode != "m")
_ENDS = r"(?=[ ]*(?:$|[,.;:!?)\0]|\d))"


def said_key(page: Page) -> tuple[Key | None, bool]:
    """The key, and whether its mode is said: first with a mode in any language, then after "in", "key of" and so on."""
    found: list[tuple[Key, tuple[int, int]]] = []

    def add(match: re.Match[str], tonic: str, mode: str | None) -> None:
        key = key_at(fifths_of(tonic), lexicon.MODES[mode or "major"])
        found.append((key, match.span()))
        page.blank(*match.span())
        if mode in lexicon.CHURCH_MODES:
            page.lost.append(mode)

    for match in re.finditer(rf"(?<!\w){_LATIN}[ -]+({_MODE}|m)(?!\w)", page.plain):
        add(match, _romance(match), match[3])
    for match in re.finditer(rf"(?<!\w)({'|'.join(lexicon.GERMAN_TONICS)})[ -]?(dur|moll)(?!\w)", page.plain):
        add(match, lexicon.GERMAN_TONICS[match[1]], match[2])
    for match in re.finditer(rf"(?<![\w#])(?i:{_ENGLISH}[ -]*({_MODE}))(?!\w)", page.cased):
        article = match[1] == "a" and not match[2]  # "in a minor key" names none, "in a minor" does
        if not article or (
            re.search(r"(?:in|of|:)\s*$", page.plain[: match.start()]) and re.match(_ENDS, page.plain[match.end() :])
        ):
            add(match, _english(match), match[3].lower())
    if found:
        found.sort(key=lambda one: one[1])
        return _first_key(page, found), True
    mode_said = False
    for pattern in (
        rf"(?<!\w)(?i:{_IN}){_ENGLISH}(m(?:in)?)?(?![\w#/])",
        rf"(?<!\w)(?i:{_EN}){_ENGLISH}(m)?(?![\w#/])",
    ):
        for match in re.finditer(pattern, page.cased):
            german_b = page.german and match[1] == "B" and not match[2]
            mode_said |= bool(match[3])
            add(match, "Bb" if german_b else _english(match), "m" if match[3] else None)
    for match in re.finditer(rf"(?<!\w){_IN}([b-g])( ?flat| ?sharp|b|#)?{_ENDS}", page.plain):
        add(match, _english(match), None)
    for match in re.finditer(rf"(?<!\w){_IN}(?:([cdfg]is|ais)|(des|ges|ces|es|as|h))(?!\w)", page.plain):
        if page.cased[match.end() - len(match[1] or match[2])].isupper() or not match[2]:
            add(match, lexicon.GERMAN_TONICS[match[1] or match[2]], None)
    for match in re.finditer(rf"(?<!\w){_EN}(?:{_LATIN})(?!\w)", page.plain):
        if match[2] or match[1] in ("fa", "sol", "re") or re.match(_ENDS, page.plain[match.end() :]):
            add(match, _romance(match), None)
    found.sort(key=lambda one: one[1])
    return _first_key(page, found), mode_said


def _first_key(page: Page, found: list[tuple[Key, tuple[int, int]]]) -> Key | None:
    """The first key. Another one is where it modulates to, where the text says so, or else told."""
    if not found:
        return None
    home = found[0][0]
    for key, span in found[1:]:
        if key != home and page.take(rf"(?<!\w)(?:{lexicon.MODULATE})(?: {lexicon.UP})?(?!\w)"):
            page.modulate = (key_tonic(key) - key_tonic(home)) % 12
        elif key != home:
            page.lost.append(page.text[slice(*span)].strip())
    return home


def _english(match: re.Match[str]) -> str:
    return match[1].upper() + lexicon.ACCIDENTALS.get((match[2] or "").strip(" -").lower(), "")


def _romance(match: re.Match[str]) -> str:
    return lexicon.ROMANCE_TONICS[match[1]] + lexicon.ACCIDENTALS.get(match[2] or "", "")


def bare_key(page: Page) -> tuple[Key | None, bool]:
    """A key that stands alone: "Db slow worship", "Am praise song", "C blues", "Gospel, C", "lento, si bemol"."""
    if latin := page.take(r"(?<!\w)(do|re|mi|fa|sol|la|si)[ -]?(bemol|sostenido|sustenido|diese|#|b)(?!\w)"):
        return key_at(fifths_of(_romance(latin)), False), False
    match = page.take(r"(?<![\w#])([A-G])(b|#|[ -](?i:flat|sharp))(m|min)?(?![\w#/])", cased=True)
    match = match or page.take(r"(?<![\w#])([A-G])()(m|min)(?![\w#/])", cased=True)
    match = match or page.take(
        r"(?<![\w#'])([B-G])()() +(?=\w)", cased=True,
        keep=lambda letter: any(start == 0 for _, _, start, _ in find_styles(page.plain[letter.end() :])),
    )  # fmt: skip
    match = match or page.take(r"(?:(?<=^)|(?<=[,;:])) *([A-G])()() *(?=$|[,;.])", cased=True)
    if match is None:
        return None, False
    return key_at(fifths_of(_english(match)), bool(match[3])), bool(match[3])
