"""The one vocabulary of styles: what each is called, in five languages, and which style of the arranger plays it.

Every door uses it: prompts, options, chat, HTTP, page, `generate_melody`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from plagal.music.arranger.styles import STYLES
from plagal.plumbing.errors import ParamsError


@dataclass(frozen=True, slots=True)
class StyleName:
    """`arranger`: the arranger's style that is it or is nearest. `words`: patterns of plain text, lower case, accents
    left out, spaces standing for spaces or hyphens. `rank`: 0 for a style of its own, 1 for a word that another style
    makes more precise ("gospel" in "gospel blues"), 2 for one that only leans to it ("ballad")."""

    name: str
    arranger: str
    words: tuple[str, ...]
    rank: int = 0


STYLES_BY_NAME = {
    style.name: style
    for style in (
        StyleName("gospel_jazz", "gospel_jazz", ("gospel jazz", "jazz(?:y|ige[ns]?)? gospel", "gospel jazz(?:y|ig)?")),
        StyleName("contemporary_gospel", "contemporary_gospel", (
            "(?:contemporary|modern|urban) gospel", "gospel (?:contemporaneo|contemporain|moderno|moderne|urbano)",
            "(?:zeitgenossische[rns]?|moderne[rns]?) gospel",
        )),
        StyleName("traditional_gospel", "traditional_gospel", (
            "trad(?:itional)? (?:black )?gospel", "old school gospel", "gospel hymns?", "choir gospel", "gospel choir",
            "spirituals?", "traditionelle[rns]? gospel", "gospel tradicional", "gospel traditionnel", "gospelchor",
        )),
        StyleName("hymnal", "hymnal", (
            "(?:traditional )?hymns?", "hymnals?", "four part", "kirchenlied(?:er)?", "vierstimmig(?:e[rns]?)?",
            "cantiques?", "hymnes?", "himnos?", "hinos?",
        )),
        StyleName("worship", "worship", (
            "(?:contemporary |modern )?(?:praise and |praise & )?worship", "praise ballads?", "devotional", "lobpreis",
            "anbetung", "louange", "adoration", "adoracion", "adoracao", "louvor",
        )),
        StyleName("neo_soul", "neo_soul", ("neo ?soul", "r ?& ?b", "r ?'?n'? ?b", "soul")),
        StyleName("quartet", "quartet", ()),
        StyleName("shout", "shout", ("(?:gospel )?shout(?: music)?", "(?:gospel )?praise breaks?")),
        StyleName("chorale", "hymnal", ("chorales?", "choral", "bach")),
        StyleName("ragtime", "jazz", ("rag ?time", "rag")),
        StyleName("jazz", "jazz", ("(?:traditional )?jazzy?", "swing jazz", "bebop"), 0),
        StyleName("blues", "blues", ("(?:traditional )?blues(?:y)?",)),
        StyleName("classical", "hymnal", ("classical", "klassisch(?:e[rns]?)?", "classique", "class?ic[oa]")),
        StyleName("folk", "traditional_gospel", ("folk", "fiddle", "reel", "jig", "hornpipe")),
        StyleName("gospel", "traditional_gospel", (
            "(?:black )?gospel", "church", "praise", "alabanza",
        ), 1),
    )
}  # fmt: skip
"""By canonical name; the first that matches at the lowest rank wins."""

_LEANING = (
    ("jazz", "swing"), ("quartet", "quartet"), ("traditional_gospel", "choir|chor|choeur|coro|coral"),
    ("contemporary_gospel", "contemporary|contemporaneo|contemporain"), ("traditional_gospel", "trad(?:itional)?"),
    ("shout", "cogic"), ("worship", "(?:klavier|pop)?ballade?n?|baladas?|ballads?"),
)  # fmt: skip
"""Words that lean to a style where no other is named."""
UNSURE = frozenset({"quartet", "cogic"})
"""Of these words only the nearest style is known: that is said beside it."""

STYLE_NAMES = tuple(STYLES_BY_NAME)


_GERMAN_PIECE = "stuck|ballade|song|lied|musik"
"""What a style makes one word with: Bluesstück, Gospelballade."""


def _pattern(words: str) -> re.Pattern[str]:
    spaced = words.replace(" ", "[ -]+").replace("[ -]+?", "[ -]?")
    return re.compile(rf"(?<!\w){spaced}(?:{_GERMAN_PIECE})?(?!\w)")


_PATTERNS = tuple(
    (style.rank, style.name, _pattern(f"(?:{words})")) for style in STYLES_BY_NAME.values() for words in style.words
) + tuple((2, name, _pattern(f"(?:{words})")) for name, words in _LEANING)  # fmt: skip


def find_styles(plain: str) -> list[tuple[str, int, int, int]]:
    """(name, rank, start, end) of every style word of a text (lower case, no accents), the longest at each place."""
    hits = [(name, rank, *match.span()) for rank, name, pattern in _PATTERNS for match in pattern.finditer(plain)]
    hits.sort(key=lambda hit: (hit[2] - hit[3], hit[1]))
    kept: list[tuple[str, int, int, int]] = []
    for hit in hits:
        if all(hit[3] <= other[2] or hit[2] >= other[3] for other in kept):
            kept.append(hit)
    return sorted(kept, key=lambda hit: hit[2])


def style_named(text: str) -> str | None:
    """The canonical style that a name or a whole prompt means ("Jazz-Gospel", "gospel_jazz"), None where none."""
    hits = find_styles(text.lower().replace("_", " ").strip())
    return choose(hits)


def choose(hits: list[tuple[str, int, int, int]]) -> str | None:
    """One style of those found: gospel with jazz is gospel jazz; else the lowest rank, the first of them."""
    names = {name for name, _, _, _ in hits}
    if "jazz" in names and names & {"gospel", "traditional_gospel", "contemporary_gospel"}:
        return "gospel_jazz"
    return min(hits, key=lambda hit: hit[1])[0] if hits else None


def known_arranger_style(text: str) -> str:
    """The arranger's style that a name in any spelling means. Raises ParamsError, naming those there are."""
    plain = "_".join(re.findall(r"[\w&]+", text.lower()))
    if plain in STYLES:
        return plain
    named = style_named(text)
    if named is None:
        raise ParamsError(f"style {text!r} is not known; choose one of {', '.join(STYLE_NAMES)}")
    return arranger_style(named)


def arranger_style(style: str | None) -> str:
    """The arranger's style that plays a canonical one; traditional gospel where none is named."""
    return STYLES_BY_NAME[style].arranger if style in STYLES_BY_NAME else "traditional_gospel"
