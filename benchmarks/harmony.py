"""Chords and keys heard in pieces whose harmony is known, beside miditok's chord detection on the same pieces.

    python benchmarks/harmony.py [--json] [--pieces N]

Pieces: gospel arrangements (each tune of the book, in the four gospel styles, seeds that nothing was tuned on), whose
chord markers are the truth and are taken off before anybody listens; and progressions annotated by hand in
tests/fixtures/harmony.

F1 is counted in time. The piece is cut into frames of half a quarter note; each chord, true or heard, labels the frames
from its onset to the next one's. A frame is right where root, quality and bass are all exactly right: no partial
credit, no classes of chords. Precision is right frames over frames that the listener labelled, recall is right frames
over frames that the truth labels (a pick-up before the first chord is in neither). `chord_root_f1` asks for the root
only.

`chords_block` to `chords_walking`: lead sheets played in seven textures (`shared/textures.py`), the symbols that people
wrote as the truth: mean share of the time in which root, third, seventh and bass are all right. Judged by the worst of
three seeds, beside miditok's better try on the same scores. `song_root` and `song_seventh`: the same sheets as pop
songs at the piano, of the kind that POP909 has; share of the time in which the root, or root, third and seventh, are
right.

miditok names a chord only where the notes struck together are exactly one of its maps. It gets two tries and the better
one counts: its own maps, and every spelling of all our qualities that it could match (root lowest, up to five keys, two
octaves). Its chords last until the next one, like ours.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import product

import numpy as np
import yaml

from plagal.music.arranger.arrange import arrange, played_chords
from plagal.music.arranger.tunebook import tune_book
from plagal.music.chords import QUALITIES, Chord, parse_chord
from plagal.music.harmony import hear_chords, hear_key
from plagal.music.keys import parse_key
from plagal.music.score import DURATION, ONSET, PITCH, TICKS_PER_QUARTER, Key, Metre, Score
from shared.rows import Row, finish, parser, row
from shared.textures import FIXTURES, SONG, TEXTURES, lead_sheets, played, share_right

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


def f1(pieces: list[Piece], heard: list[Heard], root_only: bool = False) -> float:
    right = labelled = true = 0
    for (score, truth, _), chords in zip(pieces, heard, strict=True):
        end = int((score.notes[:, ONSET] + score.notes[:, DURATION]).max())
        for expected, got in zip(frames(truth, end), frames(chords, end), strict=True):
            if expected is None:
                continue
            true += 1
            labelled += got is not None
            right += got is not None and (got.root == expected.root if root_only else got == expected)
    if not right:
        return 0.0
    precision, recall = right / labelled, right / true
    return 2 * precision * recall / (precision + recall)


def spellings() -> dict[str, tuple[int, ...]]:
    """Every stack of keys that miditok could match for our qualities, root lowest."""
    maps: dict[str, tuple[int, ...]] = {}
    for quality, steps in QUALITIES.items():
        upper = [step for step in steps if step]
        for number, octaves in enumerate(product((0, 12), repeat=len(upper))):
            stack = tuple(sorted(step + octave for step, octave in zip(upper, octaves, strict=True)))
            if len(stack) <= 4 and stack[-1] <= 24:
                maps[f"{quality}~{number}"] = (0, *stack)
    return maps


def miditok_hears(score: Score, maps: dict[str, tuple[int, ...]]) -> Heard:
    import symusic
    from miditok.utils import detect_chords

    notes = [symusic.Note(int(row[ONSET]), int(row[DURATION]), int(row[PITCH]), 80) for row in score.notes]
    notes.sort(key=lambda note: (note.time, note.pitch))
    end = int((score.notes[:, ONSET] + score.notes[:, DURATION]).max()) + 1
    events = detect_chords(notes, np.array([[end, TICKS_PER_QUARTER]]), maps)
    names = {"7dom": "dom7", "7min": "min7", "7maj": "maj7", "7halfdim": "halfdim7", "7dim": "dim7", "7aug": "maj7#5"}
    names |= {"9maj": "dom9", "9min": "7b9"}  # what its maps spell, whatever it calls them
    heard = []
    for event in events:
        root, _, quality = str(event.value).partition(":")
        quality = quality.partition("~")[0]
        heard.append((int(event.time), parse_chord(f"{root}{names.get(quality, quality)}")))
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
    from miditok.constants import CHORD_MAPS

    sheets = lead_sheets()
    pieces, fixtures, maps = arranged(count), annotated(), (dict(CHORD_MAPS), spellings())
    rates = []
    for _ in range(rounds):
        started = time.process_time()
        heard = [hear_chords(score) for score, _, _ in pieces]
        rates.append(sum(len(score.notes) for score, _, _ in pieces) / (time.process_time() - started))
    by_hand = [hear_chords(score) for score, _, _ in fixtures]
    theirs = [[miditok_hears(score, tried) for score, _, _ in pieces] for tried in maps]
    theirs_by_hand = [[miditok_hears(score, tried) for score, _, _ in fixtures] for tried in maps]

    def scored(what: str, of: list[Piece], ours: list[Heard], tries: list[list[Heard]], *, root: bool = False,
               at_least: float | None = None) -> Row:  # fmt: skip
        peer = max(f1(of, each, root) for each in tries)
        unit = "F1, root" if root else "F1, exact chord"
        return row(what, f1(of, ours, root), peer, unit, against="miditok", at_least=at_least, judge="ours")

    yield scored("chord_f1", pieces, heard, theirs, at_least=0.90)
    yield scored("chord_root_f1", pieces, heard, theirs, root=True)
    yield scored("chord_f1_by_hand", fixtures, by_hand, theirs_by_hand)
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
            tries = ([(sheet[3], miditok_hears(score, tried), score) for sheet, score in scores] for tried in maps)
            theirs_played.append(max(_mean_right(each, of) for each in tries))
        yield row(what, min(ours), max(theirs_played), "share of the time", against="miditok", at_least=floor,
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
