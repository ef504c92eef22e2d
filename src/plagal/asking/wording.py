"""What a piece is asked for with: prompts that tell the truth about it, and the controls that plain prompts hold.

Training draws from `WORDINGS`; evaluation asks in `HELD_OUT_WORDINGS`, which training never sees. `read_prompt` in
`plagal.asking.prompt` reads both, and what people write.

Behind the prose stands the same in words of the vocabulary, as far as it is known: STYLE_WORSHIP BARS_8 DENSITY_MEDIUM
KEY_Db TIMESIG_4_4 TEMPO_66. A large model reads prose; a small one reads these. In training each may be missing, and
sometimes all are, so that either alone is understood.
"""

from __future__ import annotations

import random
import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby, islice, pairwise, takewhile
from typing import TYPE_CHECKING, Any

from plagal.music.keys import chord_symbol, key_name

if TYPE_CHECKING:
    from plagal.asking.request import Request

from plagal.music.chords import parse_chord
from plagal.music.keys import parse_key
from plagal.music.score import TICKS_PER_QUARTER, Key, Metre
from plagal.tokens.vocabulary import DENSITIES, MOST_BARS, PROMPT_STYLES, key_word, metre_word, tempo_word

PLAIN = "Generate {genre} in {key}"
"""The plan's own wording: "Generate Gospel in C major"."""
PLAIN_SHARE = 0.2
WORDLESS_SHARE = 0.15
"""Of training prompts that are prose alone."""
SAID_SHARE = 0.7
"""Of its words that another training prompt says."""

WORDINGS = (
    PLAIN,
    "Generate {style} in {key}",
    "Generate {style} in {key}, {tempo} BPM",
    "Generate {style} in {key}, {metre}, {tempo} BPM",
    "Generate {bars} bars of {style} in {key}",
    "Generate {bars} bars of {style} in {key} at {tempo} BPM in {metre}",
    "Generate a {mood} piece of {style} in {key}",
    "Generate {style}: {key}, {metre}, {tempo} BPM, {bars} bars",
    "Play {style} in {key}",
    "Play {bars} bars of {style} in {key}",
    "Play some {speed} {style} in {key}",
    "Play {style} over {chords}",
    "Play {style} in {key} over {chords}",
    "Play me a {mood} {style} tune in {key}",
    "Play {style} at {tempo} BPM",
    "Play {style} in {metre} at {tempo} BPM",
    "Write a {speed} {style} piece in {key}",
    "Write {bars} bars of {style} in {metre}",
    "Write {style} in {key} beginning with the chords {chords}",
    "Write a {bars}-bar {style} piece in {key}, {speed}",
    "Write something {mood} in {key}",
    "Compose {style} for piano in {key}",
    "Compose {bars} bars of {speed} {style}",
    "Compose a {mood} {style} piece in {key}, {metre}",
    "A {speed} {style} piece in {key}",
    "A {mood} {style} piece, {bars} bars, {tempo} BPM",
    "A piece of {style} in {key}, {metre} time",
    "{style}, {key}, {tempo} BPM",
    "{style} in {key}, {bars} bars",
    "{speed} {style} in {key}",
    "{speed} {style} in {metre}",
    "{mood} {style} in {key}",
    "{style} piano in {key}, chords {chords}",
    "{genre} in {key} at {tempo} BPM",
    "I need {bars} bars of {style} in {key}",
    "Give me {style} in {key} with the chords {chords}",
    "Give me {speed} {style} in {key}, {bars} bars",
    "Make it {mood}: {style} in {key}, {metre}",
)

HELD_OUT_WORDINGS = (
    "Could you improvise {style} in {key}?",
    "Please make a {speed} {style} piece in {key} for me",
    "Show me {bars} bars of {style} in {key}",
    "We want {style} in {key}, tempo {tempo}, metre {metre}",
    "How would {style} sound in {key}, {speed}?",
    "Let me hear {style} in {key} with the progression {chords}",
    "Something {mood} for the service: {style} in {key}",
    "Today it's {style}, {metre}, key of {key}, {bars} bars",
)

_SPEEDS = ((60, ("very slow",)), (80, ("slow",)), (108, ("medium-tempo", "mid-tempo")),
           (140, ("up-tempo", "upbeat")), (1e9, ("fast",)))  # fmt: skip
"""(below this many beats a minute, words for it)."""
_MOODS = {
    (False, False): ("peaceful", "tender", "reverent"),
    (False, True): ("joyful", "bright", "celebratory"),
    (True, False): ("mournful", "solemn", "yearning"),
    (True, True): ("urgent", "intense", "driving"),
}
"""(minor, 92 quarters a minute or more) -> words for it."""
_LIVELY = 92.0
CHORDS_NAMED = 4


@dataclass(frozen=True, slots=True)
class Facts:
    """What is true of a piece, as its words say it."""

    genre: str
    style: str
    key: str
    """ "Db major"; empty where the words name none."""
    tempo: float
    metre: str
    """ "12/8"."""
    bars: int
    chords: tuple[str, ...] = ()
    """Symbols from the start, repeats left out."""
    density: str = ""
    """One of DENSITIES, by the notes a quarter."""

    @property
    def minor(self) -> bool:
        return self.key.endswith("minor")


def facts_of(words: Sequence[str], genre: str, style: str) -> Facts:
    """What a piece's words say of it: the first key and tempo, the metre of most bars (the first may be an upbeat), how
    many bars, the first chords."""
    said = (
        f"{word.removeprefix('CHORD_')}{after.replace('BASS_', '/') if after.startswith('BASS_') else ''}"
        for word, after in pairwise(words) if word.startswith("CHORD_")
    )  # fmt: skip
    chords = [symbol for symbol, _ in islice(groupby(said), CHORDS_NAMED)]
    metre, bars = _commonest_metre(words).replace("_", "/"), words.count("BAR_START")
    key = _first(words, "KEY_")
    quarters = 4 * bars * float(Fraction(metre))
    return Facts(
        genre=genre,
        style=style,
        key=f"{key[:-1]} minor" if key.endswith("m") else f"{key} major" if key else "",
        tempo=float(_first(words, "TEMPO_") or 120),
        metre=metre,
        bars=bars,
        chords=tuple(chords),
        density=density_of(sum(word.startswith("NOTE_ON_") for word in words) / max(quarters, 1)),
    )


def density_of(notes_a_quarter: float) -> str:
    """The density that so many notes are."""
    return next((name for name, (_, most) in DENSITIES.items() if notes_a_quarter < most), "dense")


def _commonest_metre(words: Sequence[str]) -> str:
    metre, of_bars = "4_4", list[str]()
    for word in words:
        if word == "BAR_START":
            of_bars.append(metre)
        elif word.startswith("TIMESIG_"):
            metre = word.removeprefix("TIMESIG_")
            of_bars[-1:] = [metre] if of_bars else []
    return Counter(of_bars or [metre]).most_common(1)[0][0]


def _first(words: Sequence[str], prefix: str) -> str:
    """The rest of the first word of that kind in the head of the piece."""
    head = takewhile(lambda word: word != "BAR_START", words)
    return next((word.removeprefix(prefix) for word in head if word.startswith(prefix)), "")


def spoken(name: str) -> str:
    """A style or genre as people write it: "gospel_jazz" -> "gospel jazz"."""
    return name.replace("_", " ")


def basic_prompt(genre: str, key: str) -> str:
    """The plan's wording: "Generate Gospel in C major"."""
    return PLAIN.format(genre=spoken(genre).title(), key=key) if key else f"Generate {spoken(genre).title()}"


def training_prompt(facts: Facts, rng: random.Random) -> str:
    """A true prompt in one of the training wordings; every fifth or so is the plan's own. Its words are behind it."""
    plain = facts.key and rng.random() < PLAIN_SHARE
    prose = basic_prompt(facts.genre, facts.key) if plain else _worded(WORDINGS, facts, rng)
    said = 0.0 if rng.random() < WORDLESS_SHARE else SAID_SHARE
    return with_words(prose, [word for word in words_of(facts).values() if rng.random() < said])


def held_out_prompt(facts: Facts, rng: random.Random) -> str:
    """A true prompt in a wording that training never sees: prose, as people type it."""
    return _worded(HELD_OUT_WORDINGS, facts, rng)


def with_words(prose: str, words: Iterable[str]) -> str:
    return " ".join((prose, *words))


def words_of(facts: Facts) -> dict[str, str]:
    """What is true of a piece, as words: by field of a request."""
    style = next((name for name in (facts.style, facts.genre) if name in PROMPT_STYLES), "")
    key = parse_key(facts.key) if facts.key else None
    return _as_words(style, facts.bars, facts.density, key, _metre(facts.metre), facts.tempo)


def _metre(text: str) -> tuple[int, int]:
    numerator, denominator = map(int, text.split("/"))
    return numerator, denominator


def _as_words(
    style: str | None, bars: int, density: str | None, key: Key | None, metre: tuple[int, int] | None,
    quarters_per_minute: float | None,
) -> dict[str, str]:  # fmt: skip
    """By field of a request, in the order in which prompts have them; without those that are empty."""
    words = {
        "style": f"STYLE_{style}".upper() if style else "",
        "bars": f"BARS_{bars}" if 1 <= bars <= MOST_BARS else "",
        "density": f"DENSITY_{density}".upper() if density else "",
        "key": key_word(key.fifths, key.minor) if key else "",
        "metre": metre_word(*metre) if metre else "",
        "tempo": tempo_word(quarters_per_minute) if quarters_per_minute else "",
    }
    return {name: word for name, word in words.items() if word}


def fields_of(wording: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(wording) if name}


def _worded(wordings: tuple[str, ...], facts: Facts, rng: random.Random) -> str:
    values = _values(facts, rng)
    usable = [wording for wording in wordings if fields_of(wording) <= values.keys()]
    if not usable:
        return f"Generate {spoken(facts.style)}"
    wording = rng.choice(usable)
    if "metre" not in fields_of(wording):  # without one, a tempo counts quarters
        values["tempo"] = f"{facts.tempo:g}"
    text = wording.format(**values)
    return re.sub(r"\b([Aa]) (?=(?:up|ur|in)[-\w]|(?:8\d?|11|18)-)", r"\1n ", text)  # "an up-tempo piece"


def _values(facts: Facts, rng: random.Random) -> dict[str, Any]:
    """Every field that can be filled truly."""
    tempo = tempo_text(facts.tempo, facts.metre)
    values: dict[str, Any] = {
        "genre": spoken(facts.genre).title(),
        "style": spoken(facts.style),
        "tempo": tempo,
        "speed": rng.choice(next(words for below, words in _SPEEDS if float(tempo) < below)),
        "metre": facts.metre,
        "bars": facts.bars,
    }
    if facts.key:
        values["key"] = facts.key if rng.random() < 0.7 or facts.minor else facts.key.split()[0]
        values["mood"] = rng.choice(_MOODS[facts.minor, facts.tempo >= _LIVELY])
    if len(facts.chords) >= 2:
        key = parse_key(facts.key) if facts.key else None
        named = [chord_symbol(parse_chord(symbol), key) for symbol in facts.chords[:CHORDS_NAMED]]
        values["chords"] = rng.choice((" ", " - ", ", ")).join(named)
    return values


def tempo_text(quarters_per_minute: float, metre: str) -> str:
    """Beats a minute as musicians count them: dotted quarters in 6/8, 9/8 and 12/8, quarters elsewhere."""
    beat_quarters = Metre(0, *_metre(metre)).tempo_beat_ticks / TICKS_PER_QUARTER
    return f"{quarters_per_minute:g}" if beat_quarters == 1 else f"{round(quarters_per_minute / beat_quarters, 1):g}"


# --- what the model reads of a request


def prompt_for(request: Request) -> tuple[str, str]:
    """The prompt that a model reads for a request, and the same in fewest words. A prompt that says all stands as it
    was typed; what was given besides is added in prose that training knows, and replaces it where the two contradict.
    Behind both stand the request's words.
    """
    numerator, denominator = request.metre_in_force
    asked, plain = request.density, plain_prompt(request)
    density = asked if isinstance(asked, str | None) else density_of(asked * denominator / (4 * numerator))
    metre = (numerator, denominator) if request.metre or request.held else None
    words = _as_words(
        request.style, bars_of(request), density, request.key_in_force, metre, request.quarters_per_minute
    ).values()
    return with_words(_prose_for(request, plain), words), with_words(plain, words)


def bars_of(request: Request) -> int:
    """Of the whole piece."""
    if request.refill is not None:
        return request.refill.words.count("BAR_START")
    return request.kept_bars + request.new_bars


def _prose_for(request: Request, plain: str) -> str:
    names = ("style", "key", "tempo", "metre", "bars", "chords")
    given = [(getattr(request.said, name), getattr(request, name)) for name in names]
    if not request.prompt or any(said and said != asked for said, asked in given):
        return plain
    return f"{request.prompt}: {plain}" if any(asked and not said for said, asked in given[:4]) else request.prompt


def plain_prompt(request: Request) -> str:
    """The training wording that says most of what is asked, filled in."""
    key, tempo = request.key_in_force, request.tempo_in_force
    names = [chord_symbol(chord, key) for bar in request.chords for chord in bar]
    known = {
        "style": spoken(request.style or "gospel"),
        "bars": bars_of(request),
        "key": key and key_name(key),
        "tempo": tempo and f"{tempo:g}",
        "metre": "{}/{}".format(*request.metre_in_force) if request.metre or request.held else None,
        "mood": request.said.mood,
        "chords": " ".join(names[:CHORDS_NAMED]) if len(names) >= 2 else None,
    }
    values = {name: value for name, value in known.items() if value is not None}
    usable = [wording for wording in WORDINGS if fields_of(wording) <= values.keys()]
    fullest = max(usable, key=lambda wording: len(fields_of(wording)), default="Generate {bars} bars of {style}")
    return fullest.format(**values)
