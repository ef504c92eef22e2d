"""How much gospel is in a model's pieces, the arranger's and real ones, and how well bare tunes are harmonised.

    python benchmarks/gospel.py [FOLDER] [--json] [--pieces N] [--free FOLDER]

FOLDER holds a model's pieces as MIDI, best in a folder a style (FOLDER/shout/*.mid; other names count as gospel): they
are `ours`, the arranger is the peer. Without one, the arranger is `ours` and the real pieces are the peer: the Open
Hymnal and the gospel songs of `--free` (skipped where they are not there). Arrangements: five styles, the tunes of the
book in turn, fixed seeds. Every measure is explained in shared/gospel_figures.py; for `devices` and its like, a ratio
between 2/3 and 1.5 is asked of the model. The rows that are kept come from 200 pieces of the default model, forty a
style in eight keys, each `plagal generate --style STYLE --key KEY --bars 16 --seed N -o out/gospel/STYLE/N.mid`, and
from 20 in 4/4 with `--feel swing` in out/gospel/swing (row `swing_kept`).

`harmonised_as_the_book` are the beats of twenty bare tunes whose chord has the function that the book's own has there,
`clashes_on_strong_beats` bar lines at which their melody lies a semitone over a tone of the chord.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from plagal.music.arranger.arrange import arrange
from plagal.music.arranger.styles import STYLES
from plagal.music.arranger.tunebook import Tune, clashes, harmonize, tune_book
from plagal.music.chords import Chord
from plagal.music.harmony import beat_ticks
from plagal.music.midi import read_midi
from plagal.music.score import Score
from plagal.plumbing.errors import PlagalError
from shared.gospel_figures import Figures, mean_figures
from shared.places import ROOT, hymns
from shared.rows import Row, finish, parser, row

GOSPEL = ("traditional_gospel", "contemporary_gospel", "gospel_jazz", "worship", "shout")
FIRST_SEED = 90_000
WITHIN = 1.5
BOUNDED = {"ended": 0.95, "unplayable": 0.0, "pedal_over_changes": 1.0}
"""What is held to a bound of its own."""
SWING = "swing"
"""A folder of pieces that were asked to swing; elsewhere a style swings when it likes, and nothing is asked of that."""
FREE = ROOT.parent / "shared" / "corpus" / "free"
FUNCTIONS = {False: "TDSTTSSDSTSD", True: "TDSTTSSDSSDD"}
"""Tonic, subdominant or dominant by the root's semitones above the tonic, in major and in minor."""


def arranged(pieces: int) -> Iterator[tuple[Score, str]]:
    book = tune_book()
    for number in range(pieces):
        style = GOSPEL[number % len(GOSPEL)]
        yield arrange(book[number % len(book)], style, seed=FIRST_SEED + number), style


def read(folder: Path, most: int, style: str = "") -> Iterator[tuple[Score, str]]:
    """MIDI below a folder, evenly drawn; what cannot be read is left out and said."""
    files = sorted(file for file in folder.rglob("*.mid") if file.parent == folder or file.parent.name != SWING)
    for file in files[:: max(1, len(files) // most)][:most]:
        try:
            score = read_midi(file)
        except PlagalError as error:
            print(f"left out: {error}")
            continue
        yield score, style or (file.parent.name if file.parent.name in STYLES else "gospel")


def compared(ours: Figures, peer: Figures, against: str, judged: bool) -> Iterator[Row]:
    for name, value in ours.items():
        other = peer.get(name)
        found = row(name, value if value is not None else [], other, against=against)
        if judged and name in BOUNDED:
            bound = BOUNDED[name]
            sense = {"at_least": bound} if name == "ended" else {"at_most": bound}
            found = row(name, value if value is not None else [], other, against=against, judge="ours", **sense)
        elif judged and name != SWING and found["ratio"] is not None:
            found |= {"target": WITHIN, "sense": "within", "ok": 1 / WITHIN <= found["ratio"] <= WITHIN}
        yield found


def bare_tunes() -> Iterator[Row]:
    agree, beats, rubs = 0, 0, 0
    for tune in [tune for number, tune in enumerate(tune_book()) if number % 15 in (0, 4, 8, 12)]:
        chords = harmonize(tune.notes, tune.key, tune.metre, tune.pickup_ticks)
        rubs += sum(
            onset % tune.metre.bar_ticks == 0 and (at := chord_at(chords, onset)) is not None and clashes(pitch, at)
            for onset, pitch, _ in tune.notes
        )
        for mine, theirs in beat_by_beat(tune, chords):
            functions = [FUNCTIONS[tune.key.minor][(chord.root - tune.tonic) % 12] for chord in (mine, theirs)]
            agree += functions[0] == functions[1]
            beats += 1
    yield row("harmonised_as_the_book", agree / beats, unit="share of beats", at_least=0.70)
    yield row("clashes_on_strong_beats", rubs, unit="bar lines", at_most=0)


def chord_at(chords: list[tuple[int, Chord]] | tuple[tuple[int, Chord], ...], tick: int) -> Chord | None:
    return next((chord for onset, chord in reversed(chords) if onset <= tick), None)


def beat_by_beat(tune: Tune, chords: list[tuple[int, Chord]]) -> Iterator[tuple[Chord, Chord]]:
    beat = beat_ticks(tune.metre)
    for tick in range(chords[0][0], max(onset + ticks for onset, _, ticks in tune.notes), beat):
        mine, theirs = chord_at(chords, tick), chord_at(tune.chords, tick)
        sounds = any(onset < tick + beat and onset + ticks > tick for onset, _, ticks in tune.notes)
        if mine is not None and theirs is not None and sounds:
            yield mine, theirs


def speed(rounds: int) -> Row:
    seconds = []
    for number in range(rounds):
        started = time.perf_counter()
        arrange("what_a_friend", GOSPEL[number % len(GOSPEL)], seed=number, bars=32)
        seconds.append(time.perf_counter() - started)
    return row("arranging_32_bars", seconds, unit="s", at_most=0.3)


def measure(folder: Path | None, free: Path, pieces: int) -> Iterator[Row]:
    ours = mean_figures(arranged(pieces))
    if folder is not None:
        yield from compared(mean_figures(read(folder, pieces)), ours, "arranger", judged=True)
        asked = list(read(folder / SWING, pieces))
        if asked:
            theirs = mean_figures(
                (arrange(tune_book()[number % 75], style, seed=FIRST_SEED + number, metre=(4, 4), feel=SWING), style)
                for number, style in enumerate(GOSPEL * 4)
            )
            found = row("swing_kept", mean_figures(asked)[SWING] or 0.0, theirs[SWING], against="arranger")
            yield found | {"target": WITHIN, "sense": "within", "ok": 1 / WITHIN <= (found["ratio"] or 0) <= WITHIN}
    for name, found in (("Open Hymnal", [(read_midi(file), "hymnal") for file in hymns()[:: 4]]),
                        ("gospel songs", list(read(free / "gospel_songs", 60, "gospel")))):  # fmt: skip
        if found:
            for line in compared(ours, mean_figures(found), name, judged=False):
                yield line | {"what": f"arranger_{line['what']}_{name.lower().replace(' ', '_')}"}
    yield from bare_tunes()
    yield speed(20)


def main() -> None:
    wishes = parser(__doc__)
    wishes.add_argument("folder", type=Path, nargs="?", help="a model's pieces as MIDI")
    wishes.add_argument("--free", type=Path, default=FREE, help="the folder of free pieces")
    wishes.add_argument("--pieces", type=int, default=200)
    options = wishes.parse_args()
    finish("gospel", measure(options.folder, options.free, options.pieces), options.json)


if __name__ == "__main__":
    main()
