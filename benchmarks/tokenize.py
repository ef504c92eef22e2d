"""How many notes a second go from MIDI bytes to words and back, compared with miditok's REMI.

    python benchmarks/tokenize.py [--json] [--files N] [--rounds N] [--before COMMIT]

Both sides start from the same MIDI bytes in memory and end there: `encode` from bytes to words (ids for miditok),
`decode` back to bytes. Chords are off but in `encode_with_chords`, whose peer is still miditok without chords. miditok
gets our grid, tempos, metres and pedals, and each file merged into one track first (untimed): four separate tracks
would make it write four sequences. Times of one process are CPU seconds, so that a busy machine troubles both sides
alike; `two_workers` is wall time by nature and wants two idle cores. Rows that end in `_since` stand beside our own
code at `--before` (0.1.0, where it is not said), on the same bytes: each side in a process of its own, in turn; none
where git knows no such commit. Files: chorales of music21's corpus, and the Open
Hymnal where its folder is named by PLAGAL_OPENHYMNAL or stands at ../shared/corpus/openhymnal.
"""

# ruff: noqa: A005  (the name is the benchmark's; what it hides is given back below)

from __future__ import annotations

import sys

# This script's name hides Python's own `tokenize` from all scripts of this folder, which Python puts first on the path.
_FOLDER = sys.path.pop(0) if sys.path[0].rstrip("/").endswith("benchmarks") else None
if __name__ == "tokenize":
    del sys.modules["tokenize"]
    sys.modules["tokenize"] = __import__("tokenize")
    if _FOLDER is not None:
        sys.path.insert(0, _FOLDER)
else:
    if _FOLDER is not None:
        sys.path.append(_FOLDER)  # last, where it hides nothing
    import os
    import subprocess
    import tempfile
    import time
    from collections.abc import Callable, Iterator
    from concurrent.futures import ProcessPoolExecutor
    from contextlib import ExitStack
    from dataclasses import replace
    from pathlib import Path
    from typing import Any

    import numpy as np
    import symusic

    from plagal.music.load import load
    from plagal.music.midi import read_midi, to_midi_bytes
    from plagal.music.score import Score
    from plagal.tokens.codec import decode, encode
    from plagal.tokens.interchange import remi_tokenizer
    from shared.places import ROOT, chorales, hymns, unpack_commit
    from shared.rows import Row, finish, parser, row


def midi_files(count: int) -> list[bytes]:
    """Up to `count` files of each set, as bytes of one track."""
    paths = [*chorales()[: count // 2], *hymns()[:count]]
    return [to_midi_bytes(replace(load(path), hands=None)) for path in paths]


def encode_all(files: list[bytes], chords: bool) -> list[list[str]]:
    return [encode(read_midi(data), chords=chords) for data in files]


def cpu_seconds(task: Callable[[], Any]) -> float:
    begun = time.process_time()
    task()
    return time.process_time() - begun


def side_by_side(
    ours: Callable[[], Any], peer: Callable[[], Any], notes: int, rounds: int
) -> tuple[list[float], list[float]]:
    """Notes a CPU second of both, in turn."""
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for rate, task in zip(rates, (ours, peer), strict=True):
            rate.append(notes / cpu_seconds(task))
    return rates


def two_workers(files: list[bytes], rounds: int) -> Iterator[Row]:
    """How many times faster two worker processes encode than one, by the clock; beside it the CPU seconds of one worker
    over those of the busier of two, which is what that comes to where both cores are free."""
    halves = [files[::2] * 20, files[1::2] * 20]
    seconds: dict[int, list[float]] = {1: [], 2: []}
    busiest: dict[int, list[float]] = {1: [], 2: []}
    with ProcessPoolExecutor(1) as one, ProcessPoolExecutor(2) as two:
        pools = {1: one, 2: two}
        for pool in pools.values():
            list(pool.map(_encoding_seconds, [files[:4]] * 4))
        for _ in range(rounds):
            for workers, pool in pools.items():
                begun = time.perf_counter()
                used = list(pool.map(_encoding_seconds, halves))
                seconds[workers].append(time.perf_counter() - begun)
                busiest[workers].append(sum(used) if workers == 1 else max(used))
    speeds = ([len(files) * 20 / each for each in seconds[workers]] for workers in (2, 1))
    yield row("two_workers", *speeds, "files/s", against="one worker", at_least=1.7)
    speeds = ([len(files) * 20 / each for each in busiest[workers]] for workers in (2, 1))
    yield row("two_workers_cpu", *speeds, "files/CPU s of the busier", against="one worker")


def _encoding_seconds(files: list[bytes]) -> float:
    return cpu_seconds(lambda: encode_all(files, chords=False))


def cost_growth(files: list[bytes], rounds: int) -> Row:
    """CPU time a note of a piece ten times as long, over that of the piece: the worse of both directions."""
    score = max(map(read_midi, files), key=lambda score: len(score.notes))
    pieces = [_repeated(score, max(1, 2000 // len(score.notes)) * times) for times in (1, 10)]
    data = [to_midi_bytes(piece) for piece in pieces]
    words = [encode(piece, chords=False) for piece in pieces]
    found = []
    for task, inputs in (
        (lambda b: encode(read_midi(b), chords=False), data),
        (lambda w: to_midi_bytes(decode(w).score), words),
    ):
        short, long = [], []
        for _ in range(rounds * 3):
            # Ten runs of the short piece weigh against one of the long one.
            short.append(cpu_seconds(lambda: [task(inputs[0]) for _ in range(10)]))  # noqa: B023
            long.append(cpu_seconds(lambda: task(inputs[1])))  # noqa: B023
        scale = 1e6 / len(pieces[1].notes)
        sides = [[each * scale for each in side] for side in (long, short)]
        found.append(row("cost_growth", *sides, "CPU us/note", against="a tenth of the notes", at_most=1.1))
    return max(found, key=lambda each: each["ratio"])


def _repeated(score: Score, times: int) -> Score:
    length = -(-int((score.notes[:, 0] + score.notes[:, 2]).max()) // 96) * 96
    notes = np.concatenate([score.notes + np.array([length * turn, 0, 0, 0], np.int32) for turn in range(times)])
    return Score(notes)


_SIDE = """
import sys, time
from pathlib import Path
from plagal.music.midi import read_midi, to_midi_bytes
from plagal.tokens.codec import decode, encode
files = [path.read_bytes() for path in sorted(Path(sys.argv[1]).glob("*.mid"))]
words = [encode(read_midi(data), chords=False) for data in files]
tasks = {
    "encode": lambda: [encode(read_midi(data), chords=False) for data in files],
    "decode": lambda: [to_midi_bytes(decode(each).score) for each in words],
    "encode_with_chords": lambda: [encode(read_midi(data)) for data in files],
}
for task in map(str.strip, sys.stdin):
    began = time.process_time()
    tasks[task]()
    print(time.process_time() - began, flush=True)
"""


def since(before: str, files: list[bytes], notes: int, rounds: int) -> Iterator[Row]:
    """Notes a CPU second of this code and of that of a commit."""
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as running:
        if not unpack_commit(before, scratch, "src"):
            return
        for number, data in enumerate(files):
            (Path(scratch) / f"{number:05}.mid").write_bytes(data)
        sides = [
            running.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", _SIDE, scratch],
                    env={**os.environ, "PYTHONPATH": f"{source}/src"},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for source in (ROOT, scratch)
        ]

        def seconds(side: subprocess.Popen[str], task: str) -> float:
            assert side.stdin is not None
            assert side.stdout is not None
            print(task, file=side.stdin, flush=True)
            return float(side.stdout.readline())

        for task in ("encode", "decode", "encode_with_chords"):
            rates: tuple[list[float], list[float]] = ([], [])
            for turn in range(3 * rounds):
                # Whoever begins has the colder caches, so both begin as often.
                for number in (0, 1) if turn % 2 else (1, 0):
                    rates[number].append(notes / seconds(sides[number], task))
            yield row(f"{task}_since", *rates, "notes/CPU s", against=before, at_least=0.91)


def measure(files: list[bytes], before: str, rounds: int) -> Iterator[Row]:
    tokenizer = remi_tokenizer()
    notes = sum(symusic.Score.from_midi(data).note_num() for data in files)
    words = encode_all(files, chords=False)
    ids = [tokenizer.encode(symusic.Score.from_midi(data)) for data in files]

    def peer_encode() -> None:
        for data in files:
            tokenizer.encode(symusic.Score.from_midi(data))

    def peer_decode() -> None:
        for each in ids:
            tokenizer.decode(each).dumps_midi()

    def our_decode() -> None:
        for each in words:
            to_midi_bytes(decode(each).score)

    tasks = (
        ("encode", lambda: encode_all(files, chords=False), peer_encode, 1.0),
        ("decode", our_decode, peer_decode, 1.0),
        ("encode_with_chords", lambda: encode_all(files, chords=True), peer_encode, 0.5),
    )
    for what, ours, peer, target in tasks:
        rates = side_by_side(ours, peer, notes, rounds)
        yield row(what, *rates, "notes/CPU s", against="miditok REMI", at_least=target)
    yield from since(before, files, notes, rounds)
    yield from two_workers(files, rounds)
    yield cost_growth(files, rounds)


def main() -> None:
    wishes = parser(__doc__)
    wishes.add_argument("--files", type=int, default=100, help="files of the hymnal; half as many chorales")
    wishes.add_argument("--rounds", type=int, default=7)
    wishes.add_argument("--before", default="f193edd", help="a commit; if none is named, 0.1.0's")
    options = wishes.parse_args()
    files = midi_files(options.files)
    finish("tokenize", measure(files, options.before, options.rounds), options.json, files=len(files))


if __name__ == "__main__":
    main()
