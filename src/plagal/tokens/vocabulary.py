"""Every word that a piece can be written with, its fixed id, and what it means.

Ids are a contract: files written years ago must still read. So the ids of the plan's table never move, what music
needs beyond them fills the free ranges, and new words only ever go to the end.

    0-9      song, sections, repeats, bar line       588-599   BASS_ (slash basses)
    10-25    BEAT_ on the sixteenth grid             600-611   pedal and articulations
    30-117   NOTE_ON_                                612-883   the other BEAT_ positions of a bar
    120-207  NOTE_OFF_                               884-964   DUR_ of every other length up to a whole note
    210-233  DUR_ with a name                        965-994   KEY_
    240-255  VEL_                                    1000-1004 PAD BOS EOS MASK UNKNOWN
    300-587  CHORD_, the plan's 24 qualities         1005-     TIMESIG_, TEMPO_, CHORD_ of gospel's qualities

The last ones, STYLE_, BARS_ and DENSITY_, stand in prompts; BARS_ also behind the bar lines of training text, where it
counts the bars that are left (`count_bars`).

Around a prompt and a piece stand, in training, asking and scoring alike, the marks of Qwen2.5's own chat template,
which the plan's training text uses: `<|im_start|>user\\nPROMPT<|im_end|>\\n<|im_start|>assistant\\nWORDS<|im_end|>`.

Lengths and positions are in ticks, 24 to the quarter; their words count quarters with at most three decimals.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from plagal.music.chords import FIXED_QUALITIES, QUALITIES, ROOT_NAMES
from plagal.music.grid import LONGEST_BAR, SECTIONS, TEMPOS, nearest_tempo
from plagal.music.keys import MAJOR_KEYS, MINOR_KEYS, key_symbol
from plagal.music.score import HIGHEST_PITCH, LOWEST_PITCH, TICKS_PER_QUARTER, Key
from plagal.plumbing.errors import InputError, RecordError

WHOLE = 4 * TICKS_PER_QUARTER

SPECIAL_WORDS = ("PAD", "BOS", "EOS", "MASK", "UNKNOWN")

PROMPT_STYLES = ("gospel_jazz", "contemporary_gospel", "traditional_gospel", "hymnal", "worship", "neo_soul", "quartet",
                 "shout", "chorale", "ragtime", "jazz", "blues", "classical", "folk", "gospel")  # fmt: skip
"""Every style that can be asked for (a test holds this list to `plagal.asking.lexicon`)."""
MOST_BARS = 64
DENSITIES = {"sparse": (0.5, 2.0), "medium": (2.0, 4.5), "dense": (4.5, 9.0)}
"""Notes a quarter: the middle is where half of the training bars lie."""
COUNT_WORDS = tuple(f"BARS_{bars}" for bars in range(1, MOST_BARS + 1))
PROMPT_WORDS = (
    *(f"STYLE_{style.upper()}" for style in PROMPT_STYLES),
    *COUNT_WORDS,
    *(f"DENSITY_{density.upper()}" for density in DENSITIES),
)
"""What is asked for, as words behind a prompt, beside KEY_, TIMESIG_ and TEMPO_; no piece holds them."""

NAMED_DURATIONS = {
    "DUR_WHOLE": 96,
    "DUR_HALF": 48,
    "DUR_QUARTER": 24,
    "DUR_EIGHTH": 12,
    "DUR_SIXTEENTH": 6,
    "DUR_THIRTYSECOND": 3,
    "DUR_DOTTED_WHOLE": 144,
    "DUR_DOTTED_HALF": 72,
    "DUR_DOTTED_QUARTER": 36,
    "DUR_DOTTED_EIGHTH": 18,
    "DUR_DOTTED_SIXTEENTH": 9,
    "DUR_TRIPLET_WHOLE": 64,
    "DUR_TRIPLET_HALF": 32,
    "DUR_TRIPLET_QUARTER": 16,
    "DUR_TRIPLET_EIGHTH": 8,
    "DUR_TRIPLET_SIXTEENTH": 4,
}
TIED_DURATIONS = {f"DUR_{name}_TIED": NAMED_DURATIONS[f"DUR_{name}"] for name in
                  ("WHOLE", "HALF", "QUARTER", "EIGHTH", "SIXTEENTH")}  # fmt: skip
OPEN_DURATIONS = ("DUR_SUSTAIN", "DUR_RELEASE", "DUR_HOLD")

VELOCITY_LEVELS = {
    "VEL_PPP": 20,
    "VEL_PP": 35,
    "VEL_P": 50,
    "VEL_MP": 65,
    "VEL_MF": 80,
    "VEL_F": 95,
    "VEL_FF": 110,
    "VEL_FFF": 125,
}
"""The eight levels that sound; VEL_SILENT is 0."""
RELATIVE_VELOCITIES = tuple(
    f"VEL_{name}" for name in ("CRESC", "DECRESC", "ACCENT", "SOFT_ACCENT", "STACCATO", "TENUTO", "MARCATO")
)

PEDALS = {"PEDAL_ON": "on", "PEDAL_OFF": "off", "PEDAL_HALF": "half"}
ARTICULATIONS = ("STACCATO", "LEGATO", "ACCENT", "GRACE_NOTE", "GRACE_BEFORE", "GRACE_AFTER", "TRILL", "ARPEGGIO",
                 "FERMATA")  # fmt: skip


def quarters(ticks: int) -> str:
    """A length or position in quarters, as words write it: 32 ticks -> "1.333"."""
    return f"{ticks / TICKS_PER_QUARTER:.3f}".rstrip("0").rstrip(".")


def tempo_word(quarters_per_minute: float) -> str:
    return f"TEMPO_{nearest_tempo(quarters_per_minute):g}"


def key_word(fifths: int, minor: bool) -> str:
    return f"KEY_{key_symbol(Key(0, fifths, minor))}"


def metre_word(numerator: int, denominator: int) -> str:
    return f"TIMESIG_{numerator}_{denominator}"


METRES = tuple((n, d) for d in (1, 2, 4, 8, 16, 32) for n in range(1, LONGEST_BAR * d // WHOLE + 1))
"""(numerator, denominator) of every bar up to twelve quarters."""


def _fixed() -> Iterator[tuple[int, str]]:
    yield from enumerate(["SONG_START", "SONG_END", *(f"SECTION_{name}" for name in SECTIONS),
                          "REPEAT_START", "REPEAT_END", "BAR_START"])  # fmt: skip
    yield from enumerate((f"BEAT_{quarters(ticks)}" for ticks in _SIXTEENTH_BEATS), 10)
    pitches = range(LOWEST_PITCH, HIGHEST_PITCH + 1)
    yield from enumerate((f"NOTE_ON_{pitch}" for pitch in pitches), 30)
    yield from enumerate((f"NOTE_OFF_{pitch}" for pitch in pitches), 120)
    yield from enumerate([*NAMED_DURATIONS, *TIED_DURATIONS, *OPEN_DURATIONS], 210)
    yield from enumerate(["VEL_SILENT", *VELOCITY_LEVELS, *RELATIVE_VELOCITIES], 240)
    yield from enumerate((f"CHORD_{root}{quality}" for root in ROOT_NAMES for quality in FIXED_QUALITIES), 300)
    yield from enumerate([*PEDALS, *ARTICULATIONS], 600)
    yield from enumerate(SPECIAL_WORDS, 1000)


_SIXTEENTH_BEATS = (0, 24, 48, 72, 12, 36, 60, 84, 6, 18, 30, 42, 54, 66, 78, 90)


def _extensions() -> Iterator[tuple[int, str]]:
    yield from enumerate((f"BASS_{root}" for root in ROOT_NAMES), 588)
    other_beats = (ticks for ticks in range(LONGEST_BAR) if ticks not in _SIXTEENTH_BEATS)
    yield from enumerate((f"BEAT_{quarters(ticks)}" for ticks in other_beats), 612)
    named = set(NAMED_DURATIONS.values())
    yield from enumerate((f"DUR_{quarters(ticks)}" for ticks in range(1, WHOLE + 1) if ticks not in named), 884)
    yield from enumerate((f"KEY_{name}" for name in MAJOR_KEYS + MINOR_KEYS), 965)
    further = [metre_word(*metre) for metre in METRES]
    further += [f"TEMPO_{tempo:g}" for tempo in TEMPOS]
    further += [f"CHORD_{root}{quality}" for quality in tuple(QUALITIES)[24:] for root in ROOT_NAMES]
    further += PROMPT_WORDS
    yield from enumerate(further, 1005)


WORD_OF: dict[int, str] = dict(sorted([*_fixed(), *_extensions()]))
ID_OF: dict[str, int] = {word: word_id for word_id, word in WORD_OF.items()}
WORDS: tuple[str, ...] = tuple(WORD_OF.values())
"""In the order of their ids, which have gaps."""
MUSIC_WORDS: tuple[str, ...] = tuple(word for word in WORDS if word not in SPECIAL_WORDS + PROMPT_WORDS)
"""All but the special words and those of prompts: what a piece is written with, and a decoder chooses from."""

BEAT_TICKS: dict[str, int] = {f"BEAT_{quarters(ticks)}": ticks for ticks in range(LONGEST_BAR)}
DURATION_TICKS: dict[str, int] = {
    **{f"DUR_{quarters(ticks)}": ticks for ticks in range(1, WHOLE + 1) if ticks not in NAMED_DURATIONS.values()},
    **NAMED_DURATIONS,
}
"""Words that end a note's length, with their length [ticks]."""
_DURATION_WORD = {ticks: word for word, ticks in DURATION_TICKS.items()}
TEMPO_OF: dict[str, float] = {f"TEMPO_{tempo:g}": tempo for tempo in TEMPOS}
METRE_OF: dict[str, tuple[int, int]] = {metre_word(*metre): metre for metre in METRES}
KEY_OF: dict[str, tuple[int, bool]] = {
    key_word(fifths, minor): (fifths, minor) for minor in (False, True) for fifths in range(-7, 8)
}


def duration_words(ticks: int) -> list[str]:
    """The words of a length of at least one tick: tied wholes, then the longest word that is left."""
    ties = 0 if ticks in _DURATION_WORD else (ticks - 1) // WHOLE
    if ties and ticks - WHOLE * (ties - 1) in _DURATION_WORD:
        ties -= 1  # a dotted whole has a word of its own
    return ["DUR_WHOLE_TIED"] * ties + [_DURATION_WORD[ticks - WHOLE * ties]]


_MEANINGS = {
    "SONG_START": "the piece begins",
    "SONG_END": "the piece ends",
    "BAR_START": "a bar line: the next bar begins, at BEAT_0",
    "REPEAT_START": "a repeat begins with this bar (a marker in the score)",
    "REPEAT_END": "the repeat ends with this bar (a marker in the score)",
    "DUR_SUSTAIN": "sounds until its NOTE_OFF, or its pitch is struck again, or the last bar ends",
    "DUR_RELEASE": "sounds until the next onset of any note, or the last bar ends",
    "DUR_HOLD": "sounds until its bar ends",
    "VEL_SILENT": "velocity 0: the note does not sound and is left out of the score",
    "VEL_CRESC": "one level louder than the note before, and so on from there",
    "VEL_DECRESC": "one level softer than the note before, and so on from there",
    "VEL_ACCENT": "two levels louder, for this note",
    "VEL_SOFT_ACCENT": "one level louder, for this note",
    "VEL_STACCATO": "as loud as before, half as long",
    "VEL_TENUTO": "as loud as before, until the next onset at least",
    "VEL_MARCATO": "two levels louder, three quarters as long",
    "PEDAL_ON": "the sustain pedal goes down (controller 64 at 127)",
    "PEDAL_OFF": "the sustain pedal comes up (controller 64 at 0)",
    "PEDAL_HALF": "the sustain pedal goes halfway (controller 64 at 64)",
    "STACCATO": "the next note sounds half as long",
    "LEGATO": "the next note sounds until the next onset at least",
    "ACCENT": "the next note is one level louder",
    "GRACE_NOTE": "the next note is short: a 32nd on the beat",
    "GRACE_BEFORE": "the next note is a 32nd that ends where it is written",
    "GRACE_AFTER": "the next note is a 32nd that begins a 32nd later than written",
    "TRILL": "the next note alternates with the whole tone above, in 32nds",
    "ARPEGGIO": "each further note of this position begins 1/24 quarter later than the one before",
    "FERMATA": "the next note sounds half as long again",
    "PAD": "fills a batch; no music",
    "BOS": "a text begins; no music",
    "EOS": "a text ends; no music",
    "MASK": "a hidden word; no music",
    "UNKNOWN": "a word that is not known; no music",
}


def definition(word: str) -> str:
    """What a word means and does when decoded, in one line. Raises KeyError where there is no such word."""
    if word in _MEANINGS:
        return _MEANINGS[word]
    if word not in ID_OF:
        raise KeyError(word)
    kind, _, rest = word.partition("_")
    if word in TIED_DURATIONS:
        return f"{quarters(TIED_DURATIONS[word])} quarters long, and tied on to the next duration"
    if kind == "DUR":
        return f"{quarters(DURATION_TICKS[word])} quarters long"
    if kind == "TIMESIG":
        return "{}/{} from this bar on, {} quarters a bar".format(
            *METRE_OF[word], quarters(WHOLE * METRE_OF[word][0] // METRE_OF[word][1])
        )
    if kind == "CHORD":
        root = rest[:2] if rest[1:2] == "b" else rest[:1]
        notes = " ".join(ROOT_NAMES[(ROOT_NAMES.index(root) + step) % 12] for step in QUALITIES[rest[len(root) :]])
        return f"the chord from here on is {notes} (a marker in the score)"
    return {
        "SECTION": f"the {rest.lower()} begins with this bar (a marker in the score)",
        "BEAT": f"{rest} quarters after the bar line: where the following words happen",
        "NOTE": f"the key of MIDI pitch {rest[-3:].strip('NF_')} "
        + ("is struck; a duration and a velocity follow" if "ON" in rest else "is let go, where it sounds"),
        "VEL": f"velocity {VELOCITY_LEVELS.get(word)}",
        "BASS": f"{rest} is the lowest note of the chord just named",
        "TEMPO": f"{rest} quarter notes a minute from here on",
        "KEY": f"the key of {rest.removesuffix('m')} {'minor' if rest.endswith('m') else 'major'} from here on",
        "STYLE": f"the prompt asks for {rest.lower().replace('_', ' ')}; no music",
        "BARS": f"the prompt asks for {rest} bars; no music",
        "DENSITY": f"the prompt asks for a {rest.lower()} texture; no music",
    }[kind]


class TextTokenService:
    """Between ids, words and strings. It checks that words exist, not that they are music (that is `grammar`)."""

    def remi_to_text_tokens(self, ids: Iterable[int]) -> list[str]:
        """Words of vocabulary ids. Raises InputError at the first id that has no word."""
        ids = list(ids)
        try:
            return [WORD_OF[number] for number in ids]
        except (KeyError, TypeError):
            place, number = next((p, n) for p, n in enumerate(ids) if not isinstance(n, int) or n not in WORD_OF)
            raise InputError(f"token {place} is {number!r}, an id with no word; `plagal vocab` lists the ids") from None

    def text_to_remi_tokens(self, words: Iterable[str]) -> list[int]:
        """Vocabulary ids of words. Raises InputError at the first word that is not in the vocabulary."""
        words = list(words)
        try:
            return [ID_OF[word] for word in words]
        except (KeyError, TypeError):
            place, word = next((p, w) for p, w in enumerate(words) if not isinstance(w, str) or w not in ID_OF)
            raise InputError(f"word {place} is {word!r}, not in the vocabulary; `plagal vocab` lists it") from None

    def tokens_to_string(self, ids: Iterable[int]) -> str:
        """One line: the words of the ids, joined by single spaces. Raises InputError."""
        return " ".join(self.remi_to_text_tokens(ids))

    def string_to_tokens(self, text: str) -> list[int]:
        """Ids of the words in a text, split at white space. Raises InputError."""
        return self.text_to_remi_tokens(text.split())

    def validate_round_trip(self, ids: Iterable[int]) -> bool:
        """Whether the ids come back from their words and from their string; False where one has no word."""
        ids = list(ids)
        try:
            words = self.remi_to_text_tokens(ids)
            return self.text_to_remi_tokens(words) == ids == self.string_to_tokens(" ".join(words))
        except InputError:
            return False

    def get_vocab_info(self) -> dict[str, Any]:
        """Sizes, the highest id, how many words of each kind, and every word with its id and definition."""
        kinds: dict[str, int] = {}
        for word in MUSIC_WORDS:
            kind = word.partition("_")[0] if not word.startswith("NOTE_") else "_".join(word.split("_")[:2])
            kinds[kind] = kinds.get(kind, 0) + 1
        return {
            "vocab_size": len(WORDS),
            "music_words": len(MUSIC_WORDS),
            "special_words": {word: ID_OF[word] for word in SPECIAL_WORDS},
            "highest_id": max(WORD_OF),
            "kinds": kinds,
            "words": [{"id": ID_OF[word], "word": word, "meaning": definition(word)} for word in WORDS],
        }


text_token_service = TextTokenService()


USER_MARK = "<|im_start|>"
END_MARK = "<|im_end|>"
PAD_MARK = "<|endoftext|>"
FIRST_WORD = "SONG_START"
BAR_WORD = "BAR_START"

TRAINING_TEMPLATE = f"{USER_MARK}user\n{{prompt}}{END_MARK}\n{USER_MARK}assistant\n{{words}}{END_MARK}"
"""For str.format: `prompt`, `words`."""
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if not loop.first %}{{ '\\n' }}{% endif %}"
    f"{{{{ '{USER_MARK}' + message['role'] + '\\n' + message['content'] + '{END_MARK}' }}}}{{% endfor %}}"
    f"{{% if add_generation_prompt %}}{{{{ '\\n{USER_MARK}assistant\\n' }}}}{{% endif %}}"
)
"""The same text, mark for mark, as a tokenizer's chat template (Jinja), for stock servers."""

_COUNTS = frozenset(COUNT_WORDS)


def count_bars(words: Sequence[str], bars: int) -> list[str]:
    """`words` with the bars that are left behind each BAR_START, in a piece of `bars`: BARS_8 in the first of eight,
    BARS_1 in the last. A model that reads how far it is from the end needs no one to end the piece for it. Bars more
    than MOST_BARS from the end, or behind it, have no count."""
    counted: list[str] = []
    for word in words:
        counted.append(word)
        if word == BAR_WORD:
            if 1 <= bars <= MOST_BARS:
                counted.append(COUNT_WORDS[bars - 1])
            bars -= 1
    return counted


def without_counts(words: Iterable[str]) -> list[str]:
    """The words of the music alone."""
    return [word for word in words if word not in _COUNTS]


_PIECE = re.compile(rf"{FIRST_WORD}(?: [^\s<]+)*")


def prompt_text(prompt: str) -> str:
    """What stands before a piece that answers `prompt`."""
    return TRAINING_TEMPLATE.partition("{words}")[0].format(prompt=prompt)


@dataclass(frozen=True)
class Text:
    """One training or test text, cut where the music begins."""

    prompt: str
    """Everything before SONG_START."""
    words: tuple[str, ...]
    """As a model reads them: with the bars that are left, where the text counts them."""
    after: str
    """From the end mark on."""


def split_text(text: str) -> Text:
    """Cut `text` into prompt, words and what follows. Raises RecordError where it holds no piece."""
    start = text.rfind(FIRST_WORD)
    match = _PIECE.match(text, start) if start >= 0 else None
    if match is None:
        raise RecordError(f"text {text[:40]!r} holds no piece: {FIRST_WORD} is missing; run the stage convert again")
    return Text(text[:start], tuple(match.group().split(" ")), text[match.end() :])
