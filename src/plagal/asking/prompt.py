"""The one reader of prompts: "slow worship ballad in Db" -> worship, Db major, 66 beats a minute.

It goes over the text from what is surest to what is least so: titles, chords, keys, metre, bars, tempo, style, mood.
Each takes its words out of the text; what is left, fillers aside, is said not to be understood.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import fmean
from typing import Any

from plagal.asking import lexicon
from plagal.asking.lexicon import UNSURE, choose, find_styles
from plagal.asking.progression import Progression, approximated, read_progression
from plagal.music.arranger.form import ENDINGS, INTROS
from plagal.music.arranger.tunebook import tune_titles
from plagal.music.chords import parse_chord
from plagal.music.grid import FASTEST, SLOWEST
from plagal.music.keys import fifths_of, key_at, key_name, key_tonic
from plagal.music.score import TICKS_PER_QUARTER, Key, Metre
from plagal.plumbing.errors import ChordError, InputError
from plagal.tokens.vocabulary import METRES, MOST_BARS


class Page:
    """A prompt out of which readers take words. `cased` is the text without accents, `plain` the same in lower case;
    both are as long as the text, and what is taken is blanked in both."""

    def __init__(self, text: str) -> None:
        self.text = unicodedata.normalize("NFC", text)
        self.cased = "".join(map(without_accent, self.text))
        self.plain = "".join(char.lower()[0] for char in self.cased)
        self.german = re.search(rf"(?<!\w)(?:{lexicon.GERMAN})(?!\w)", self.plain) is not None
        self.lost: list[str] = []
        self.problems: list[str] = []
        self.typed_tempo = False
        self.modulate: int | None = None

    def take(
        self, pattern: str, cased: bool = False, keep: Callable[[re.Match[str]], object] = bool
    ) -> re.Match[str] | None:
        """The first match that is kept, taken out."""
        match = next(filter(keep, re.finditer(pattern, self.cased if cased else self.plain)), None)
        if match is not None:
            self.blank(*match.span())
        return match

    def blank(self, start: int, end: int) -> None:
        gap = "\0" * (end - start)
        self.cased = self.cased[:start] + gap + self.cased[end:]
        self.plain = self.plain[:start] + gap + self.plain[end:]

    def refuse(self, pattern: str) -> None:
        """Take out what nothing here understands, and say so."""
        while match := self.take(pattern):
            self.lost.append(self.text[slice(*match.span())].strip('"\u201c\u201d\u201e\u00ab\u00bb ,'))

    def one_of(self, name: str, found: list[tuple[Any, tuple[int, int]]]) -> Any:
        """The first of the values found. Another one is a contradiction, unless the text speaks of a change."""
        if not found:
            return None
        first, others = found[0][0], [(value, span) for value, span in found[1:] if value != found[0][0]]
        for value, span in others:
            self.lost.append(self.text[slice(*span)].strip())
            if not re.search(lexicon.CHANGES, self.plain[found[0][1][1] : span[0]]):
                self.problems.append(f"{name} {shown(first)} and {shown(value)}: ask for one of them")
        return first

    def left_over(self) -> tuple[str, ...]:
        """What was refused, and runs of words that nothing took and that are no fillers."""
        for run in re.finditer(r"[^\0,;:.!?()|\[\]\n\"=]+", self.plain):
            every = list(re.finditer(r"[\w&%#'\u2669]+(?:-\w+)*", run[0]))
            start = run.start()
            words = [
                word for word in every
                if _has_meaning(word[0]) or (len(word[0]) == 1 and self.cased[start + word.start()] in "BCDEFG")
            ]  # fmt: skip  # a note's name, too; an A may be an article
            capitals = [word for word in every if self.cased[start + word.start()].isupper()]
            if len(capitals) > 2 and not {word[0] for word in capitals} <= {"in", "the", "key", "of", "time"}:
                words = sorted({*words, *capitals}, key=lambda word: word.start())  # a title: "Great I Am"
            if words:
                self.lost.append(self.text[start + words[0].start() : start + words[-1].end()])
        return tuple(dict.fromkeys(part for part in self.lost if part))


_TYPED = {sign: typed for signs, typed in (
    ("\u266d", "b"), ("\u266f", "#"), ("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
    ("\u201c\u201d\u201e\u00ab\u00bb", '"'), ("\u2018\u2019", "'"),
) for sign in signs}  # fmt: skip


def without_accent(char: str) -> str:
    return _TYPED.get(char) or unicodedata.normalize("NFKD", char)[0]


def spaced(pattern: str) -> str:
    """A pattern of words, a space in it standing for spaces or a hyphen."""
    return "(?:" + pattern.replace(" ", "[ -]+") + ")"


def whole(pattern: str) -> str:
    """The same between other words."""
    return rf"(?<!\w){spaced(pattern)}(?!\w)"


def _has_meaning(word: str) -> bool:
    return any(part not in lexicon.FILLERS for part in re.split(r"['-]", word) if len(part) > 1 or part.isdigit())


def shown(value: Any) -> str:
    if isinstance(value, Key):
        return key_name(value)
    return "/".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"


QUARTER, DOTTED_QUARTER = "quarter", "dotted quarter"
SAID = (
    "style",
    "key",
    "tempo",
    "beat",
    "metre",
    "bars",
    "chords",
    "tune",
    "feel",
    "intro",
    "ending",
    "modulate",
    "level",
)
"""What a prompt may say, as a request calls it."""


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
    def fields(self) -> dict[str, Any]:
        """What it says, by field of a request."""
        return {name: value for name in SAID if (value := getattr(self, name)) not in (None, ())}

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
    if key is not None and not minor_said and page.take(whole("minor|moll|mineur|menor")):
        key = key_at(key.fifths, True)
    moods = [name for name, words in lexicon.MOOD_WORDS if re.search(rf"(?<!\w)(?:{words})(?!\w)", page.plain)]
    named = _named_tempo(page)
    page.refuse(r"(?<!\w)(?:take it|go|nice and) easy(?!\w)|(?<!\w)easy (?:listening|going)(?!\w)")
    levels = [name for name, words in lexicon.LEVEL_WORDS if page.take(whole(words))]
    page.take(whole("(?:no|without) (?:lyrics|words|vocals?|singing|singer)"))  # there never are any
    page.refuse(r"(?<!\w)(?:no|without|ohne|sans|sin|sem) \w+")
    style, leaning_tempo = _style(page)
    for _, words in (*lexicon.MOOD_WORDS, *lexicon.FEEL_WORDS):
        page.take(whole(words))
    chords: Progression = ()
    if run is not None:
        try:
            chords = read_progression(run, key)
            page.lost += approximated(run, key)
        except InputError:
            page.lost.append(run)
    if tempo is None:
        tempo = named if named is not None else leaning_tempo
        if style == "shout" and tempo is not None and tempo >= lexicon.LIVELY:
            tempo = max(tempo, lexicon.SHOUT_TEMPO)  # a lively shout, or praise break, is no slower than a shout
    if tempo is not None and beat is None:
        beat = DOTTED_QUARTER if metre and Metre(0, *metre).tempo_beat_ticks > TICKS_PER_QUARTER else QUARTER
    said = Understood(
        style, key, tempo, beat, tempo is not None and not page.typed_tempo, metre, bars, chords,
        next(iter(moods), None), tune, feel, intro, ending, modulate or page.modulate, next(iter(levels), None),
    )  # fmt: skip
    if bars is not None and bars > MOST_BARS:
        page.problems.append(f"bars {bars}: from 1 to {MOST_BARS} can be asked for")
    quarters = said.quarters_per_minute
    if quarters is not None and not SLOWEST <= quarters <= FASTEST:
        page.problems.append(f"tempo {tempo:g}: from {SLOWEST:g} to {FASTEST:g} quarters a minute can be asked for")
    return replace(said, not_understood=page.left_over(), problems=tuple(page.problems))


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
    longest_first = [(r"[^\w\0]+".join(alias.replace("'", "'?").split()), names[alias])
                     for alias in sorted(names, key=len, reverse=True)]  # fmt: skip
    return tuple((re.compile(rf"(?<!\w){pattern}(?!\w)"), *target) for pattern, target in longest_first)


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
        if match := page.take(whole(words)):
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
            found.append((fmean(float(group) for group in match.groups() if group), match.span()))
    page.typed_tempo = bool(found)
    return page.one_of("tempo", sorted(found, key=lambda item: item[1])), beat


def _named_tempo(page: Page) -> float | None:
    """The tempo of the first tempo word; "not too fast" is none, and said."""
    words = "|".join(words for _, words in lexicon.TEMPO_WORDS)
    page.refuse(rf"(?<!\w){spaced(lexicon.NOT_SO)}[ ]{spaced(words)}(?!\w)")
    found: list[tuple[int, float]] = []
    # the longest first: "very slow" before "slow"
    for tempo, pattern in sorted(lexicon.TEMPO_WORDS, key=lambda item: item[0] not in (48, 168)):
        while match := page.take(whole(pattern), keep=lambda match: not _is_no_tempo(page, match)):
            found.append((match.start(), tempo))
    return min(found)[1] if found else None


def _is_no_tempo(page: Page, match: re.Match[str]) -> bool:
    return match[0] in ("fast", "grave") and re.search(lexicon.NO_TEMPO_AFTER, page.plain[: match.start()]) is not None


# --- style


def _style(page: Page) -> tuple[str | None, float | None]:
    """The style, and the tempo that its word says besides (a ballad is slow)."""
    hits = find_styles(page.plain)
    chosen, tempo = choose(hits), None
    parts = {"gospel", "jazz", "traditional_gospel", "contemporary_gospel"} if chosen == "gospel_jazz" else set()
    for name, rank, start, end in hits:
        word = page.plain[start:end]
        if "ball" in word or "balad" in word:
            tempo = lexicon.BALLAD_TEMPO
        elif "shout" in word and tempo is None:
            tempo = lexicon.SHOUT_TEMPO
        if word in UNSURE or (rank == 0 and name not in {chosen, *parts}):
            page.lost.append(page.text[start:end])
        page.blank(start, end)
    return chosen, tempo


# --- form and groove: feel, introduction, ending, a modulation before the last verse


_DEGREE_OF_FORM = r"[b#]?[1-7]m?(?:/[b#]?[1-7])?"
_ROW = rf"{_DEGREE_OF_FORM}(?:[ ]?[- ][ ]?{_DEGREE_OF_FORM})+"


def _named(names: set[str]) -> str:
    return "|".join([*(name.replace("-", "[ -]") for name in sorted(names, key=len, reverse=True)), _ROW])


_ENDINGS = _named({*ENDINGS, "amem"})
_INTROS = _named({name for name in INTROS if name[0].isalpha()} | {"last-line"})
_A = r"(?: (?:an?|the|eine[mnr]?|une?|uma?|el|der|die))?"
_WITH = r"(?: (?:with|on|from|of|over|mit|auf|aus|par|avec|con|com|sur|en))?"
_END = (
    "cadence|kadenz|cadencia|turnaround|tag|"
    "end(?:ing|s)?|finish(?:ing|es)?|clos(?:e|ing)|outro|schluss|ende[tn]?|fin(?:ir|al|it)?|terminar?|acabar?|encerrar"
)
_INTRO = "intro(?:duction|ducao|duccion)?|einleitung|vorspiel"
_LAST = (
    rf"(?:[ ,]*(?:at|for|on|in|before|beim|zum|im|am|vor|au|pour|al|en|no|na|para)?{_A}"
    r" ?(?:(?:last|final|letzten?|derniere?|ultim[oa])(?: (?:chorus|verse|refrain|strophe|couplet|estribillo|refrao))?"
    r"|end|ende|fin|final|fim)(?!\w))?"
)
"""Where a modulation comes anyway."""


def said_feel(page: Page) -> str | None:
    """One of the arranger's feels. "Swing" stays on the page, since it leans to a style, too."""
    said = [(feel, match) for feel, words in lexicon.FEEL_WORDS for match in re.finditer(whole(words), page.plain)]
    for feel, match in said:
        if feel != "swing":
            page.blank(*match.span())
    return said[0][0] if said else None


def said_intro_and_ending(page: Page) -> tuple[str | None, str | None]:
    """Names of the arranger's, or degrees such as 7-3-6-2-5-1."""

    def said(part: str, names: str) -> str | None:
        if page.take(rf"(?<!\w)(?:no|without(?: an?)?|ohne|sans|sin|sem) (?:{part})(?<!end)(?!\w)"):
            return "none"
        match = page.take(rf"(?<![\w/-])(?:an? )?({names}) (?:{part})(?!\w)") or (
            page.take(rf"(?<!\w)(?:{part})(?: it)?{_WITH}{_A}[ :]+({names})(?: (?:cadence|kadenz|cadencia))?(?![\w-])")
        )
        if match is None:
            return None
        name = re.sub(r"[ -]+", "-", match[1].strip())
        return "amen" if name == "amem" else name

    intro = said(_INTRO, _INTROS)
    return intro, said(_END, _ENDINGS)


def said_modulation(page: Page) -> int | None:
    """Semitones up before the last verse."""
    verb = rf"(?:{lexicon.MODULATE})"
    half, whole = map(spaced, lexicon.STEPS_UP)
    count = rf"(?:(?P<half>{half})|(?P<whole>{whole})|(?P<semitones>\d{{1,2}}) {lexicon.SEMITONES})"
    steps = rf"(?:(?:by|um|de|d')? ?(?:an?|one|eine[mnr]?|une?|uma?)? ?{count})"
    up = rf"(?:{lexicon.UP})"
    match = page.take(rf"(?<!\w){verb}(?: (?:it|the key|key|{up}|en|para))* ?{steps}(?: {up})?{_LAST}(?!\w)")
    match = match or page.take(rf"(?<!\w){steps} {up}{_LAST}(?!\w)")
    if match is None:
        return None
    return 1 if match["half"] else 2 if match["whole"] else int(match["semitones"]) % 12


# --- chords in a row, as symbols, degrees or solfege


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
        announced, start, end = re.search(after, before), *match.span()
        if re.search(r"(?<!\w)(?:in|key|key of|key[:=]|tom|tono|en|em)[ ]*$", before) and "|" not in match[0]:
            step = re.match(rf"{_CHORD}{_STEP}", match[0])
            if step is None:
                continue
            start, symbols = start + step.end(), symbols[1:]
        sure = "|" in match[0] or len(symbols) > 2 or all(len(symbol.rstrip("b#")) > 1 for symbol in symbols)
        if len(symbols) >= 2 and (announced or sure) and all(map(_is_chord, symbols)):
            page.blank(announced.start() if announced else start, end)
            return page.text[start:end].strip(" ,;")
    if latin := page.take(rf"(?<!\w)(?:{lexicon.CHORDS_FOLLOW})[ :]+({_LATIN_RUN})"):
        return " | ".join(_latin_chord(name) for name in re.findall(_LATIN_CHORD, latin[1]))
    if degrees := page.take(_DEGREES, cased=True):
        page.take(whole("progressions?|progresion|progressao"))
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
        return _first_key(page, found), True
    mode_said = False
    for before, minor in ((_IN, "m(?:in)?"), (_EN, "m")):
        for match in re.finditer(rf"(?<!\w)(?i:{before}){_ENGLISH}({minor})?(?![\w#/])", page.cased):
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
    return _first_key(page, found), mode_said


def _first_key(page: Page, found: list[tuple[Key, tuple[int, int]]]) -> Key | None:
    """The first key. Another one is where it modulates to, where the text says so, or else told."""
    if not found:
        return None
    (home, _), *others = sorted(found, key=lambda one: one[1])
    for key, span in others:
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
