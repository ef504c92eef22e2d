"""How well chords and keys are heard in pieces whose harmony is known, compared with the chord recogniser chorder.

    python benchmarks/harmony.py [--json] [--pieces N]

Pieces: gospel arrangements (each tune of the book, in the four gospel styles, seeds that nothing was tuned on), whose
chord markers are the truth and are taken off before anybody listens; and progressions annotated by hand in
tests/fixtures/harmony.

F1 is counted in time. The piece is cut into frames of half a quarter note; each chord, true or heard, labels the frames
from its onset to the next one's. A frame is right where root, quality and bass are all exactly right: no partial
credit, no classes of chords. Precision is right frames over frames that the listener labelled, recall is right frames
over frames that the truth labels (a pick-up before the first chord is in neither). `chord_root_f1` asks for the root
only, `chord_seventh_f1` for root, third and seventh, which is what chorder's eleven qualities can say.

`chords_block` to `chords_walking`: lead sheets played in seven textures (`shared/textures.py`), the symbols that people
wrote as the truth: mean share of the time in which root, third, seventh and bass are all right. Judged by the worst of
three seeds. `song_root` and `song_seventh`: the same sheets as pop
songs at the piano, of the kind that POP909 has; share of the time in which the root, or root, third and seventh, are
right.

chorder (PyPI, MIT) recognises chords in MIDI beat by beat; people label training music for transformers with it. It
gets the score as a MIDI file through miditoolkit, as its README shows, and what it calls incomplete is no chord.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO

import numpy as np
import yaml

from plagal.music.arranger.arrange import arrange, played_chords
from plagal.music.arranger.tunebook import tune_book
from plagal.music.chords import Chord, parse_chord
from plagal.music.harmony import hear_chords, hear_key
from plagal.music.keys import parse_key
from plagal.music.midi import to_midi_bytes
from plagal.music.score import DURATION, ONSET, TICKS_PER_QUARTER, Key, Metre, Score
from shared.rows import Row, finish, parser, row
from shared.textures import FIXTURES, SONG, TEXTURES, lead_sheets, parts_of, played, share_right

GOSPEL = ("traditional_gospel", "contemporary_gospel", "gospel_jazz", "worship")
FIRST_SEED = 50_000
FRAME_TICKS = TICKS_PER_QUARTER // 2
TEXTURE_SEEDS = (1, 2, 3)
FLOORS = {
    "block": 0.90, "octaves": 0.85, "pushed": 0.85, "stride": 0.75, "arpeggio": 0.80, "arpeggio_pedal": 0.80,
    "walking": 0.65,
}  # fmt: skip
"""What a listener must reach who is of use in each texture."""
SONG_FLOORS = {"root": (1, 0.80), "seventh": (3, 0.70)}
"""How many of root, third and seventh are asked for, and how often they must be right."""

_CHORDER = {
    "M": "maj", "m": "min", "o": "dim", "+": "aug", "7": "dom7", "M7": "maj7", "m7": "min7", "o7": "dim7",
    "/o7": "halfdim7", "sus2": "sus2", "sus4": "sus4",
}  # fmt: skip
"""Its qualities -> ours."""

Heard = list[tuple[int, Chord]]
Piece = tuple[Score, Heard, Key]


def arranged(pieces: int) -> list[Piece]:
    """Arrangements without their markers, their chords and their first keys."""
    found: list[Piece] = []
    book = tune_book()
    for number in range(pieces):
        tune, style = book[number % len(book)], GOSPEL[(number + number // len(book)) % len(GOSPEL)]
        score = arrange(tune, style, seed=FIRST_SEED + number)
        found.append((Score(score.notes, score.metres), played_chords(score), score.keys[0]))
    return found


def annotated() -> list[Piece]:
    """The progressions of the fixtures."""
    found: list[Piece] = []
    for entry in yaml.safe_load(FIXTURES.read_text(encoding="utf-8")).values():
        onset, rows, truth = 0, [], []
        for chord in entry["chords"]:
            ticks = chord.get("beats", 2) * TICKS_PER_QUARTER
            truth.append((onset, parse_chord(chord["symbol"])))
            until = TICKS_PER_QUARTER if "then" in chord else ticks
            rows += [(onset, key, until, 80) for key in chord["keys"]]
            rows += [(onset + until, key, ticks - until, 80) for key in chord.get("then", [])]
            onset += ticks
        notes = np.array(sorted(rows), dtype=np.int32)
        found.append((Score(notes, (Metre(0, 4, 4),)), truth, parse_key(entry["key"])))
    return found


def frames(chords: Heard, end: int) -> list[Chord | None]:
    labels: list[Chord | None] = [None] * (end // FRAME_TICKS + 1)
    for number, (onset, chord) in enumerate(chords):
        until = chords[number + 1][0] if number + 1 < len(chords) else end
        for frame in range(-(-onset // FRAME_TICKS), -(-until // FRAME_TICKS)):
            labels[frame] = chord
    return labels


def seventh(chord: Chord) -> tuple[int, ...]:
    """Root, third (or what is suspended) and seventh."""
    return parts_of(chord)[:3]


def f1(pieces: list[Piece], heard: list[Heard], asked: Callable[[Chord], object] = lambda chord: chord) -> float:
    """`asked`: what of a chord must be right."""
    right = labelled = true = 0
    for (score, truth, _), chords in zip(pieces, heard, strict=True):
        end = int((score.notes[:, ONSET] + score.notes[:, DURATION]).max())
        for expected, got in zip(frames(truth, end), frames(chords, end), strict=True):
            if expected is None:
                continue
            true += 1
            labelled += got is not None
            right += got is not None and asked(got) == asked(expected)
    if not right:
        return 0.0
    precision, recall = right / labelled, right / true
    return 2 * precision * recall / (precision + recall)


def chorder_hears(score: Score) -> Heard:
    import miditoolkit
    from chorder import Dechorder

    midi = miditoolkit.MidiFile(file=BytesIO(to_midi_bytes(replace(score, markers=()))))
    heard: Heard = []
    for beat, chord in enumerate(Dechorder.dechord(midi)):
        if chord.is_complete():
            heard.append((beat * TICKS_PER_QUARTER, Chord(chord.root_pc, _CHORDER[chord.quality], chord.bass_pc)))
    return heard


def key_accuracy(pieces: list[Piece]) -> float:
    heard = [hear_key(score) for score, _, _ in pieces]
    right = [
        (key.fifths, key.minor) == (mine.fifths, mine.minor) for (_, _, key), mine in zip(pieces, heard, strict=True)
    ]
    return sum(right) / len(right)


def _mean_right(played_sheets: list[tuple[Heard, Heard, Score]], of: int = 4) -> float:
    shares = [
        share_right(truth, heard, int((score.notes[:, ONSET] + score.notes[:, DURATION]).max()), of)
        for truth, heard, score in played_sheets
    ]
    return sum(shares) / len(shares)


def measure(count: int, rounds: int) -> Iterator[Row]:
    sheets = lead_sheets()
    pieces, fixtures = arranged(count), annotated()
    rates = []
    for _ in range(rounds):
        started = time.process_time()
        heard = [hear_chords(score) for score, _, _ in pieces]
        rates.append(sum(len(score.notes) for score, _, _ in pieces) / (time.process_time() - started))
    by_hand = [hear_chords(score) for score, _, _ in fixtures]
    theirs, theirs_by_hand = ([chorder_hears(score) for score, _, _ in some] for some in (pieces, fixtures))

    def scored(what: str, asked: Callable[[Chord], object], unit: str, at_least: float | None = None) -> Row:
        ours, peer = (f1(pieces, each, asked) for each in (heard, theirs))
        return row(what, ours, peer, f"F1, {unit}", against="chorder", at_least=at_least, judge="ours")

    yield scored("chord_f1", lambda chord: chord, "exact chord", at_least=0.90)
    yield scored("chord_seventh_f1", seventh, "root, third, seventh")
    yield scored("chord_root_f1", lambda chord: chord.root, "root")
    ours_by_hand, peer_by_hand = (f1(fixtures, each) for each in (by_hand, theirs_by_hand))
    yield row("chord_f1_by_hand", ours_by_hand, peer_by_hand, "F1, exact chord", against="chorder", judge="ours")
    yield row("key_accuracy", key_accuracy(pieces), unit="share of pieces", at_least=0.95)
    yield row("key_accuracy_by_hand", key_accuracy(fixtures), unit="share of pieces")
    yield row("notes_per_second", rates, unit="notes/CPU s")
    asked = [(f"chords_{texture}", texture, 4, FLOORS[texture]) for texture in TEXTURES]
    asked += [(f"song_{part}", SONG, of, floor) for part, (of, floor) in SONG_FLOORS.items()]
    for what, texture, of, floor in asked:
        ours, theirs_played = [], []
        for seed in TEXTURE_SEEDS:
            scores = [(sheet, played(sheet, texture, seed)) for sheet in sheets]
            ours.append(_mean_right([(sheet[3], hear_chords(score), score) for sheet, score in scores], of))
            theirs_played.append(_mean_right([(sheet[3], chorder_hears(score), score) for sheet, score in scores], of))
        yield row(what, min(ours), max(theirs_played), "share of the time", against="chorder", at_least=floor,
                  judge="ours")  # fmt: skip
    for style in GOSPEL:
        chosen = [i for i in range(len(pieces)) if GOSPEL[(i + i // len(tune_book())) % len(GOSPEL)] == style]
        score = f1([pieces[i] for i in chosen], [heard[i] for i in chosen])
        yield row(f"chord_f1_{style}", score, unit="F1, exact chord")


def main() -> None:
    wishes = parser(__doc__)
    wishes.add_argument("--pieces", type=int, default=280, help="arrangements to hear")
    wishes.add_argument("--rounds", type=int, default=5, help="of hearing, for its speed")
    options = wishes.parse_args()
    finish("harmony", measure(options.pieces, options.rounds), options.json)


if __name__ == "__main__":
    main()
