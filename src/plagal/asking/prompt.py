"""The one reader of prompts: "slow worship ballad in Db" -> worship, Db major, 66 beats a minute.

It goes over the text from what is surest to what is least so: titles, chords, keys, metre, bars, tempo, style, mood.
Each takes its words out of the text; what is left, fillers aside, is said not to be understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from plagal.asking import lexicon
from plagal.asking.page import Page, spaced, without_accent
from plagal.asking.progression import Progression, approximated, read_progression
from plagal.asking.said_form import said_feel, said_intro_and_ending, said_modulation
from plagal.asking.said_harmony import bare_key, chord_run, said_key
from plagal.asking.styles import UNSURE, choose, find_styles
from plagal.music.arranger.tunebook import tune_titles
from plagal.music.grid import FASTEST, SLOWEST
from plagal.music.keys import key_at
from plagal.music.score import TICKS_PER_QUARTER, Key, Metre
from plagal.plumbing.errors import InputError
from plagal.tokens.vocabulary import METRES, MOST_BARS

QUARTER, DOTTED_QUARTER = "quarter", "dotted quarter"


@dataclass(frozen=True, slots=True)
class Understood:
    """What a prompt asks for; None or empty where it does not say. `tempo` counts `beat`s a minute; `tempo_named` where
    it comes from a word such as "slow". `tune`: its name in the tune book."""

    style: str | None = None
    key: Key | None = None
    tempo: float | None = None
    beat: str | None = None
    tempo_named: bool = False
    metre: tuple[int, int] | None = None
    bars: int | None = None
    chords: Progression = ()
    mood: str | None = None
    tune: str | None = None
    feel: str | None = None
    intro: str | None = None
    ending: str | None = None
    modulate: int | None = None
    """Semitones up before the last verse."""
    level: str | None = None
    not_understood: tuple[str, ...] = ()
    """Parts of the text that nothing used, in its own words."""
    problems: tuple[str, ...] = ()
    """Contradictions and limits: why such a prompt cannot be followed."""

    @property
    def quarters_per_minute(self) -> float | None:
        return None if self.tempo is None else self.tempo * (1.5 if self.beat == DOTTED_QUARTER else 1.0)


def read_prompt(text: str) -> Understood:
    """What a prompt asks for. Never raises."""
    page = Page(text)
    tune = _tune(page)
    page.refuse(r'"[^"]{2,}"')  # any other title
    intro, ending = said_intro_and_ending(page)
    modulate = said_modulation(page)
    feel = said_feel(page)
    run = chord_run(page)
    key, minor_said = said_key(page)
    metre = page.one_of("metre", _metres(page))
    bars = page.one_of("bars", _bars(page))
    if bars == 0:
        page.problems.append(f"bars 0: from 1 to {MOST_BARS} can be asked for")
        bars = None
    if key is None:
        key, minor_said = bare_key(page)
    tempo, beat = _typed_tempo(page)
    if key is not None and not minor_said and page.take(r"(?<![\w])(?:minor|moll|mineur|menor)(?![\w])"):
        key = key_at(key.fifths, True)
    moods = [name for name, words in lexicon.MOOD_WORDS if re.search(rf"(?<!\w)(?:{words})(?!\w)", page.plain)]
    named = _named_tempo(page)
    page.refuse(r"(?<!\w)(?:take it|go|nice and) easy(?!\w)|(?<!\w)easy (?:listening|going)(?!\w)")
    levels = [name for name, words in lexicon.LEVEL_WORDS if page.take(words, whole_words=True)]
    level = levels[0] if levels else None
    page.take(r"(?:no|without) (?:lyrics|words|vocals?|singing|singer)", whole_words=True)  # there never are any
    page.refuse(r"(?<!\w)(?:no|without|ohne|sans|sin|sem) \w+")
    style, leaning_tempo = _style(page)
    for _, words in (*lexicon.MOOD_WORDS, *lexicon.FEEL_WORDS):
        page.take(words, whole_words=True)
    chords: Progression = ()
    if run is not None:
        try:
            chords = read_progression(run, key)
            page.lost += approximated(run, key)
        except InputError:
            page.lost.append(run)
    if tempo is None:
        tempo = named if named is not None else leaning_tempo
    if tempo is not None and beat is None:
        beat = DOTTED_QUARTER if metre and Metre(0, *metre).tempo_beat_ticks > TICKS_PER_QUARTER else QUARTER
    said = Understood(
        style, key, tempo, beat, tempo is not None and not page.typed_tempo, metre, bars, chords,
        moods[0] if moods else None, tune, feel, intro, ending, modulate or page.modulate, level,
    )  # fmt: skip
    return replace(said, not_understood=page.left_over(), problems=(*page.problems, *_beyond_limits(said)))


def _beyond_limits(said: Understood) -> Iterator[str]:
    if said.bars is not None and said.bars > MOST_BARS:
        yield f"bars {said.bars}: from 1 to {MOST_BARS} can be asked for"
    tempo = said.quarters_per_minute
    if tempo is not None and not SLOWEST <= tempo <= FASTEST:
        yield f"tempo {said.tempo:g}: from {SLOWEST:g} to {FASTEST:g} quarters a minute can be asked for"


# --- titles


_ALSO_CALLED = {
    "lift every voice": "lift_every_voice", "kumbaya": "kum_ba_yah", "battle hymn": "battle_hymn",
    "up from the grave he arose": "christ_arose", "up from the grave": "christ_arose",
    "oh when the saints": "when_the_saints",
    "the saints go marching in": "when_the_saints", "give me that old time religion": "old_time_religion",
}  # fmt: skip

_ALSO_OTHER_WORDS = ("guide me", "crown him")
"""Titles only where they begin with a capital."""


@lru_cache(maxsize=1)
def _titles() -> tuple[tuple[re.Pattern[str], str, bool], ...]:
    """Pattern, tune and whether it must be written like a title, the longest first. A tune goes by its title, with and
    without article or what stands in brackets, and by its short name; "guide me" alone is not a title unless it has
    capitals."""
    names: dict[str, tuple[str, bool]] = {}
    for name, title in tune_titles().items():
        plain = "".join(map(without_accent, title)).lower()
        whole = re.sub(r"\(.*?\)", "", plain)
        for alias in (whole, re.sub(r"^(?:the|a) ", "", whole), *re.findall(r"\((.*?)\)", plain)):
            names.setdefault(" ".join(re.findall(r"[\w']+", alias)), (name, False))
        names.setdefault(name.replace("_", " "), (name, False))
    names |= {alias: (names[alias][0], True) for alias in _ALSO_OTHER_WORDS}
    names |= {alias: (name, False) for alias, name in _ALSO_CALLED.items()}
    ordered = sorted(names.items(), key=lambda item: -len(item[0]))
    return tuple(
        (
            re.compile(r"(?<!\w)" + r"[^\w\0]+".join(word.replace("'", "'?") for word in alias.split()) + r"(?!\w)"),
            *target,
        )
        for alias, target in ordered
    )


def _tune(page: Page) -> str | None:
    for pattern, name, as_title in _titles():
        for match in pattern.finditer(page.plain):
            if not as_title or page.cased[match.start()].isupper():
                page.blank(*match.span())
                page.take(r'"\s*(?=\0)')
                return name
    return None


# --- metre, bars, tempo


def _metres(page: Page) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    found: list[tuple[tuple[int, int], tuple[int, int]]] = []
    while match := page.take(r"(?<![\w/.:])(\d{1,2}) ?[/:] ?(1|2|4|8|16|32)(?![\d/:%])(?!-?\d)",
                             keep=lambda match: (int(match[1]), int(match[2])) in METRES):  # fmt: skip
        found.append(((int(match[1]), int(match[2])), match.span()))
    numbered = bool(found)
    for metre, words in lexicon.METRE_WORDS:
        if match := page.take(words, whole_words=True):
            if not numbered:
                found.append((metre, match.span()))
            elif metre != found[0][0]:  # "waltz in 6/8": the number holds, the word is told
                page.lost.append(page.text[slice(*match.span())])
            if re.match("slow", match[0]):  # "slow waltz" says both
                page.plain = page.plain[: match.start()] + "slow" + page.plain[match.start() + 4 :]
    page.refuse(r"(?<!\w)(?:use |with )?\d (?:flats?|sharps?)(?!\w)")
    counted = "|".join(lexicon.COUNTED_IN)
    if not found and (match := page.take(rf"(?<!\w)in ({counted})(?= *(?:$|[,.;\0]|in |time))")):
        found.append((lexicon.COUNTED_IN[match[1]], match.span()))
    return sorted(found, key=lambda item: item[1])


def _bars(page: Page) -> list[tuple[int, tuple[int, int]]]:
    numbers = "|".join(sorted(lexicon.NUMBERS, key=len, reverse=True)).replace(" ", "[ -]")
    count = rf"(\d{{1,4}}|{numbers})[ -]*(?:{lexicon.BARS})"
    section = rf"(?:{lexicon.SECTIONS})"
    page.refuse(rf"(?<!\w){section}(?: of|:)? (?<!\w){count}(?!\w)|(?<![\w/]){count}(?: of)? {section}(?!\w)")
    page.refuse(rf"(?<!\w)in (?:{lexicon.BARS}) \d+(?: ?(?:-|and|to) ?\d+)?(?!\w)")
    found = []
    while match := page.take(rf"(?<![\w/=]){count}(?!\w)|(?<!\w)bars ?[:=]? ?(\d{{1,3}})(?!\w)"):
        number = (match[1] or match[2]).replace("-", " ")
        found.append((lexicon.NUMBERS.get(number) or int(number), match.span()))
    return found


def _typed_tempo(page: Page) -> tuple[float | None, str | None]:
    number = r"(?<![\d.,#/])(\d{1,3}(?:[.]\d+)?)(?![\d/:%])"
    unit = rf"(?:{lexicon.BEATS_A_MINUTE})"
    page.refuse(r"(?<!\w)\d+ ?(?:%|percent|prozent|pour ?cent|por ?ciento|por ?cento)(?: \w+)?")
    found: list[tuple[float, tuple[int, int]]] = []
    beat = None

    def value(match: re.Match[str]) -> float:
        values = [float(group) for group in match.groups() if group]
        return sum(values) / len(values)

    for quarters, note in lexicon.NOTE_VALUES:
        if (match := page.take(rf"(?<!\w){spaced(note)} ?(?:=|:|at|is|a|bei)? ?{number}(?:[ ]*{unit})?(?!\w)")) or (
            match := page.take(rf"{number} (?:a la|a|auf die|por) {spaced(note)}(?!\w)")
        ):
            beat = DOTTED_QUARTER if quarters == 1.5 else QUARTER
            found.append((float(match[1]) * (1 if quarters in (1, 1.5) else quarters), match.span()))
    for pattern in (
        rf"{number} ?(?:-|to|and|bis|und|a|y|e|et) ?{number}[ ]*{unit}(?!\w)",
        rf"{number}[ -]*{unit}(?!\w)",
        rf"(?<!\w)(?:tempo|bpm|speed|andamento|mm) ?(?:of|is|=|:|at|to|de|von|auf|a)? ?{number}(?!\w)",
        rf"(?<!\w)(?:at|{lexicon.ABOUT}) {number}(?! *(?:{lexicon.BARS}|percent|seconds?|minutes?|th|st|nd|rd)\b)"
        r"(?!\w)",
        rf"(?:(?<=^)|(?<=[,;\0])) *{number.replace('1,3', '2,3')} *(?=$|[,;])",  # "worship, B flat, 70"
    ):
        while match := page.take(pattern):
            found.append((value(match), match.span()))
    page.typed_tempo = bool(found)
    return page.one_of("tempo", sorted(found, key=lambda item: item[1])), beat


def _named_tempo(page: Page) -> float | None:
    """The tempo of the first tempo word; "not too fast" is none, and said."""
    words = "|".join(words for _, words in lexicon.TEMPO_WORDS)
    page.refuse(rf"(?<!\w){spaced(lexicon.NOT_SO)}[ ]{spaced(words)}(?!\w)")
    first: tuple[int, float] | None = None
    # the longest first: "very slow" before "slow"
    for tempo, pattern in sorted(lexicon.TEMPO_WORDS, key=lambda item: item[0] not in (48, 168)):
        while match := page.take(pattern, whole_words=True, keep=lambda match: not _is_no_tempo(page, match)):
            if first is None or match.start() < first[0]:
                first = (match.start(), tempo)
    return None if first is None else first[1]


def _is_no_tempo(page: Page, match: re.Match[str]) -> bool:
    return match[0] in ("fast", "grave") and re.search(lexicon.NO_TEMPO_AFTER, page.plain[: match.start()]) is not None


# --- style


def _style(page: Page) -> tuple[str | None, float | None]:
    """The style, and the tempo that its word says besides (a ballad is slow)."""
    hits = find_styles(page.plain)
    chosen = choose(hits)
    tempo = None
    names = {chosen} | (
        {"gospel", "jazz", "traditional_gospel", "contemporary_gospel"} if chosen == "gospel_jazz" else set()
    )
    for name, rank, start, end in hits:
        word = page.plain[start:end]
        if "ball" in word or "balad" in word:
            tempo = lexicon.BALLAD_TEMPO
        elif "shout" in word and tempo is None:
            tempo = lexicon.SHOUT_TEMPO
        if word in UNSURE or (rank == 0 and name not in names):
            page.lost.append(page.text[start:end])
        page.blank(start, end)
    return chosen, tempo
