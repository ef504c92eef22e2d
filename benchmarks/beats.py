"""How well beats, bars and metre are heard in playing without a click, compared with partitura's estimator.

    python benchmarks/beats.py [--json] [--pieces N] [--performances N]

F is mir_eval's, at 70 ms either side, the first five seconds left out as is usual there. `made_*` and `hymnal_*`
perform scores whose tunes nothing was trained on: arrangements of the tune book's test tunes in all styles, and the
Open Hymnal's files, their tempo maps thrown away; `transcribed_*` adds a transcriber's errors. `asap_*`: concert
pianists, annotated by others; nothing of them was trained on. `positions`: share of notes put on the 24th of a beat
where they stand in the score, given the right beats; swing of 3:2 and more counts as triplets, a roll as one chord.
`played_back`: share of onsets within 60 ms of the playing, when the written score is played by its own tempos.
`sure_*`: of the made pieces that the tracker is 0.8 sure of or more, the share with a downbeat F over 0.8.

Judged on three sets of seeds, the worst counts.
"""

from __future__ import annotations

import random
import sys
import time
import tracemalloc
import warnings
from collections.abc import Iterator

import mir_eval.beat
import numpy as np

from plagal.corpus.duplicates import melody_key, split_of
from plagal.corpus.reading import book_melodies
from plagal.music.arranger.arrange import STYLES, arrange
from plagal.music.midi import read_midi
from plagal.music.performance.hear import Heard, hear
from plagal.music.performance.performer import Performance, draw_manner, perform
from plagal.music.performance.played import Played, read_played, seconds_at
from plagal.music.performance.written import place_notes, write_down
from plagal.music.score import ONSET, PITCH
from plagal.plumbing.errors import PlagalError
from plagal.plumbing.params import load_params
from shared.places import ROOT, hymns
from shared.rows import Row, finish, parser, row

PERFORMANCES = ROOT.parent / "shared" / "corpus" / "performances"
SEEDS = (1, 2, 3)
SURE = 0.8


def f_measure(truth: np.ndarray, heard: np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where nothing is left of a short piece
        return float(mir_eval.beat.f_measure(mir_eval.beat.trim_beats(truth), mir_eval.beat.trim_beats(heard)))


class Counted:
    """Figures of one set of performances."""

    def __init__(self) -> None:
        self.beat: list[float] = []
        self.down: list[float] = []
        self.metre: list[float] = []
        self.confidence: list[float] = []

    def add(self, heard: Heard, beats: np.ndarray, downbeats: np.ndarray, metre: str) -> None:
        self.beat.append(f_measure(beats, heard.pulse.seconds))
        self.down.append(f_measure(downbeats, heard.pulse.downbeats))
        self.metre.append(float(heard.pulse.metre == metre))
        self.confidence.append(heard.confidence)


def test_tunes() -> list[str]:
    split = load_params(ROOT / "params.yaml").convert.split
    keys = {name: melody_key(melody) for name, melody in book_melodies().items()}
    return sorted(
        name for name, key in keys.items() if split_of(key, split.valid_percent, split.test_percent) == "test"
    )


def made(pieces: int, seed: int, transcribed: bool) -> Iterator[Performance]:
    settings = [(tune, style) for tune in test_tunes() for style in STYLES]
    random.Random(seed).shuffle(settings)
    for number, (tune, style) in enumerate(settings[:pieces]):
        yield perform(arrange(tune, style, seed=900 + number), 10_000 * seed + number, transcribed=transcribed)


def performed_hymns(pieces: int, seed: int) -> Iterator[Performance]:
    for number, file in enumerate(random.Random(seed).sample(hymns(), pieces)):
        try:
            yield perform(read_midi(file), 20_000 * seed + number)
        except PlagalError as error:
            print(error, file=sys.stderr)


def counted(performances: Iterator[Performance]) -> Counted:
    figures = Counted()
    for performance in performances:
        pulse = performance.pulse
        figures.add(hear(performance.played), pulse.seconds, pulse.downbeats, pulse.metre)
    return figures


def rows_of(name: str, sets: list[Counted], targets: tuple[float, float, float]) -> Iterator[Row]:
    for what, target in zip(("beat", "down", "metre"), targets, strict=True):
        means = [float(np.mean(getattr(figures, what))) for figures in sets]
        label = {"beat": "beat_f1", "down": "downbeat_f1", "metre": "metre"}[what]
        yield row(f"{name}_{label}", min(means), unit="worst of three" if len(sets) > 1 else "", at_least=target)


def positions(pieces: int, seed: int) -> tuple[float, float]:
    """Shares of notes at the right 24th, and of onsets within 60 ms when played back; the right beats are given."""
    right, back = [], []
    settings = [(tune, style) for tune in test_tunes() for style in STYLES]
    random.Random(seed).shuffle(settings)
    for number, (tune, style) in enumerate(settings[:pieces]):
        manner = draw_manner(np.random.default_rng([seed, number]))
        performance = perform(arrange(tune, style, seed=950 + number), 30_000 * seed + number, manner)
        placed = place_notes(performance.played, performance.pulse)
        swung = manner.swing >= 1.5 and not performance.pulse.compound.any()
        off = (placed.ticks - _as_triplets(_unrolled(performance.ticks), swung))[performance.ticks >= 0]
        # Both count from a bar line of their own, so the commonest distance is none.
        right.append(float(np.bincount(off - off.min()).max() / len(off)))
        score = write_down(performance.played, performance.pulse)
        sounding = seconds_at(score, placed.ticks) - performance.played.notes[:, ONSET]
        back.append(float(np.mean(np.abs(sounding - np.median(sounding)) <= 0.06)))
    return float(np.mean(right)), float(np.mean(back))


def _unrolled(ticks: np.ndarray) -> np.ndarray:
    """Onsets in which the arranger's rolls, a tick from note to note, are chords."""
    base: dict[int, int] = {}
    for tick in np.unique(ticks).tolist():
        base[tick] = base[tick - 1] if tick > 0 and tick - 1 in base and tick - base[tick - 1] <= 4 else tick
    return np.array([base[tick] for tick in ticks.tolist()])


def _as_triplets(ticks: np.ndarray, swung: bool) -> np.ndarray:
    """Onsets in which swung eighths and sixteenths stand where they sound, at 2:1."""
    if not swung:
        return ticks
    inside = ticks % 24
    beats_in_thirds = np.unique(ticks[np.isin(inside, (8, 16))] // 24)
    bent = np.select([inside == 6, inside == 12, inside == 18], [8, 16, 20], inside)
    return np.where(np.isin(ticks // 24, beats_in_thirds) | (ticks < 0), ticks, ticks - inside + bent)


def annotated(most: int) -> list[tuple[Played, np.ndarray, np.ndarray, str]]:
    """The performances, with what people wrote down of them: beats, downbeats, the commonest metre."""
    pieces = []
    files = sorted((PERFORMANCES / "asap").glob("*.mid"))
    for file in [files[round(number)] for number in np.linspace(0, len(files) - 1, min(most, len(files)))]:
        rows = [line.split("\t") for line in file.with_suffix(".beats.tsv").read_text().splitlines()]
        beats = np.array([float(second) for second, *_ in rows])
        downbeats = np.array([float(second) for second, kind, *_ in rows if kind == "downbeat"])
        metres = [metre for _, _, metre in rows if metre]
        pieces.append((read_played(file), beats, downbeats, max(metres, key=metres.count)))
    return pieces


def partitura_f1(pieces: list[tuple[Played, np.ndarray, np.ndarray, str]]) -> tuple[list[float], list[float]] | None:
    """The peer's beat and downbeat F; None where it is not installed."""
    try:
        from partitura.musicanalysis.meter import estimate_time
    except ImportError:
        return None
    beat, down = [], []
    for played, beats, downbeats, _ in pieces:
        notes = np.zeros(len(played.notes), dtype=[("onset_sec", "f4"), ("duration_sec", "f4"), ("pitch", "i4"),
                                                   ("velocity", "i4")])  # fmt: skip
        notes["onset_sec"], notes["pitch"] = played.notes[:, ONSET], played.notes[:, PITCH]
        notes["duration_sec"], notes["velocity"] = played.notes[:, 2], played.notes[:, 3]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = estimate_time(notes)
        heard = np.unique(np.asarray(found["beats"], dtype=np.float64))  # it gives some twice and out of order
        beat.append(f_measure(beats, heard))
        down.append(f_measure(downbeats, heard[:: max(1, int(found["meter_numerator"]))]))
    return beat, down


def long_playing(notes: int) -> Played:
    """Arrangements one after the other until there are so many notes, at 4,000 notes in five minutes."""
    rows, begin = [], 0.0
    for performance in made(1000, 9, False):
        chosen = performance.played.notes.copy()
        chosen[:, ONSET] += begin
        rows.append(chosen)
        begin = float(chosen[-1, ONSET]) + 1.0
        if sum(map(len, rows)) >= notes:
            break
    whole = np.concatenate(rows)[:notes]
    whole[:, [0, 2]] *= (notes / 4000 * 300.0) / whole[-1, ONSET]
    return Played(whole)


def seconds_for(played: Played) -> float:
    began = time.process_time()
    write_down(played, hear(played).pulse)
    return time.process_time() - began


def measure(pieces: int, performances: int, shared: int) -> Iterator[Row]:
    plain = [counted(made(pieces, seed, False)) for seed in SEEDS]
    yield from rows_of("made", plain, (0.97, 0.93, 0.93))
    transcribed = [counted(made(pieces, seed, True)) for seed in SEEDS]
    yield from rows_of("transcribed", transcribed, (0.94, 0.88, 0.88))
    everything = [(c, f) for one in (*plain, *transcribed) for c, f in zip(one.confidence, one.down, strict=True)]
    sure = [down for confidence, down in everything if confidence >= SURE]
    yield row("sure_and_right", float(np.mean(np.array(sure) > 0.8)) if sure else 0.0,
              unit="of the pieces said 0.8 or more", at_least=SURE)  # fmt: skip
    yield row("sure_of", len(sure) / len(everything), unit="of all made pieces")
    if hymns():
        yield from rows_of("hymnal", [counted(performed_hymns(pieces, seed)) for seed in SEEDS], (0.97, 0.93, 0.93))
    if concerts := annotated(performances):
        figures = Counted()
        for played, beats, downbeats, metre in concerts:
            figures.add(hear(played), beats, downbeats, metre)
        yield row("asap_beat_f1", float(np.mean(figures.beat)), at_least=0.8)
        yield row("asap_downbeat_f1", float(np.mean(figures.down)), at_least=0.6)
        yield row("asap_metre", float(np.mean(figures.metre)))
        shortest = sorted(range(len(concerts)), key=lambda number: concerts[number][1][-1])[:shared]
        theirs = partitura_f1([concerts[number] for number in shortest])
        for what, mine, peer in zip(("beat", "downbeat"), (figures.beat, figures.down), theirs or (), strict=False):
            yield row(f"asap_shortest_{what}_f1", float(np.mean([mine[number] for number in shortest])),
                      float(np.mean(peer)), f"{shared} performances", against="partitura")  # fmt: skip
    both = [positions(pieces, seed) for seed in SEEDS]
    yield row("positions", min(right for right, _ in both), unit="of notes, worst of three", at_least=0.95)
    yield row("played_back", min(back for _, back in both), unit="of onsets within 60 ms", at_least=0.9)
    live = sorted((PERFORMANCES / "live_hymns").glob("*.mid"))
    if live:
        sure_of = sum(hear(read_played(file)).confidence > SURE for file in live)
        yield row("live_usable", sure_of, unit=f"of {len(live)} said over 0.8", at_least=12)
    times = {notes: min(seconds_for(long_playing(notes)) for _ in range(2)) for notes in (2000, 4000, 16000)}
    yield row("seconds_4000", times[4000], unit="s of one core", at_most=3.0)
    yield row("growth", float(np.log(times[16000] / times[2000]) / np.log(8)), unit="exponent", at_most=1.1)
    yield row("hour_memory", hour_memory(), unit="MB at the peak, NumPy's and Python's", at_most=500)


def hour_memory() -> float:
    played = long_playing(48_000)
    tracemalloc.start()
    hear(played)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def main() -> None:
    wishes = parser(__doc__)
    wishes.add_argument("--pieces", type=int, default=30, help="made performances in each of three sets")
    wishes.add_argument("--performances", type=int, default=51, help="annotated performances, evenly over composers")
    wishes.add_argument("--shared", type=int, default=8, help="of these, the shortest that the peer hears, too")
    options = wishes.parse_args()
    finish("beats", measure(options.pieces, options.performances, options.shared), options.json)


if __name__ == "__main__":
    main()
