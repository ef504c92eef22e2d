"""Notes a second between MIDI bytes and words, beside miditok's REMI on the same files.

    python benchmarks/tokenize.py [--json] [--files N] [--rounds N]

Both sides start from the same MIDI bytes in memory and end there: `encode` from bytes to words (ids for miditok),
`decode` back to bytes. Chords are off but in `encode_with_chords`, whose peer is still miditok without chords. miditok
gets our grid, tempos, metres and pedals, and each file merged into one track first (untimed): four separate tracks
would make it write four sequences. Times of one process are CPU seconds, so that a busy machine troubles both sides
alike; `two_workers` is wall time by nature and wants two idle cores. Files: chorales of music21's corpus, and the Open
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
    import argparse
    import json
    import os
    import statistics
    import time
    from collections.abc import Callable
    from concurrent.futures import ProcessPoolExecutor
    from pathlib import Path
    from typing import Any

    import numpy as np
    import symusic

    from plagal.music.midi import load, read_midi, to_midi_bytes
    from plagal.music.score import Score
    from plagal.tokens.codec import decode, encode
    from plagal.tokens.interchange import remi_tokenizer

    ROOT = Path(__file__).parents[1]
    HYMNAL = Path(os.environ.get("PLAGAL_OPENHYMNAL", ROOT.parent / "shared" / "corpus" / "openhymnal"))

TARGETS = {"encode": 1.0, "decode": 1.0, "encode_with_chords": 0.5, "two_workers": 1.7, "cost_growth": 1.1}


def midi_files(count: int) -> list[bytes]:
    """Up to `count` files of each set, as bytes of one track."""
    import music21

    chorales = sorted((Path(music21.__file__).parent / "corpus" / "bach").glob("bwv*.mxl"))
    hymns = sorted(HYMNAL.rglob("*.mid")) if HYMNAL.is_dir() else []
    return [to_midi_bytes(load(path)) for path in [*chorales[: count // 2], *hymns[:count]]]


def encode_all(files: list[bytes], chords: bool) -> list[list[str]]:
    return [encode(read_midi(data), chords=chords) for data in files]


def cpu_seconds(task: Callable[[], Any]) -> float:
    begun = time.process_time()
    task()
    return time.process_time() - begun


def side_by_side(ours: Callable[[], Any], peer: Callable[[], Any], notes: int, rounds: int) -> dict[str, Any]:
    """Notes a CPU second of both, alternating; the median and the spread (highest - lowest over median) of each."""
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for rate, task in zip(rates, (ours, peer), strict=True):
            rate.append(notes / cpu_seconds(task))
    mine, theirs = map(statistics.median, rates)
    spread = [round((max(rate) - min(rate)) / statistics.median(rate), 3) for rate in rates]
    return {"ours": round(mine), "peer": round(theirs), "unit": "notes/s", "ratio": mine / theirs, "spread": spread}


def two_workers(files: list[bytes], rounds: int) -> dict[str, Any]:
    """Wall time of encoding in one worker process and in two; beside it `cpu_ratio`, the CPU seconds of one worker over
    those of the busier of two, which is what the ratio comes to where both cores are free."""
    halves = [files[::2] * 20, files[1::2] * 20]
    ratios: list[float] = []
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
            ratios.append(seconds[1][-1] / seconds[2][-1])
    ratio = statistics.median(ratios)
    return {
        "ours": round(statistics.median(seconds[2]), 3),
        "peer": round(statistics.median(seconds[1]), 3),
        "unit": "s, in two workers and in one",
        "ratio": ratio,
        "cpu_ratio": round(statistics.median(busiest[1]) / statistics.median(busiest[2]), 3),
        "spread": [round((max(ratios) - min(ratios)) / ratio, 3)],
    }


def _encoding_seconds(files: list[bytes]) -> float:
    return cpu_seconds(lambda: encode_all(files, chords=False))


def cost_growth(files: list[bytes], rounds: int) -> dict[str, Any]:
    """CPU time a note of a piece ten times as long, over that of the piece: the worse of both directions."""
    score = max(map(read_midi, files), key=lambda score: len(score.notes))
    pieces = [_repeated(score, max(1, 2000 // len(score.notes)) * times) for times in (1, 10)]
    data = [to_midi_bytes(piece) for piece in pieces]
    words = [encode(piece, chords=False) for piece in pieces]
    growth = []
    for task, inputs in (
        (lambda b: encode(read_midi(b), chords=False), data),
        (lambda w: to_midi_bytes(decode(w).score), words),
    ):
        # Ten runs of the short piece weigh against one of the long one.
        short = [cpu_seconds(lambda: [task(inputs[0]) for _ in range(10)]) for _ in range(rounds * 3)]  # noqa: B023
        long = [cpu_seconds(lambda: task(inputs[1])) for _ in range(rounds * 3)]  # noqa: B023
        growth.append(statistics.median(long) / statistics.median(short))
    return {"ours": round(max(growth), 3), "peer": None, "unit": "x", "ratio": max(growth), "spread": []}


def _repeated(score: Score, times: int) -> Score:
    length = -(-int((score.notes[:, 0] + score.notes[:, 2]).max()) // 96) * 96
    notes = np.concatenate([score.notes + np.array([length * turn, 0, 0, 0], np.int32) for turn in range(times)])
    return Score(notes)


def measure(count: int, rounds: int) -> dict[str, Any]:
    files = midi_files(count)
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

    rows = {
        "encode": side_by_side(lambda: encode_all(files, chords=False), peer_encode, notes, rounds),
        "decode": side_by_side(our_decode, peer_decode, notes, rounds),
        "encode_with_chords": side_by_side(lambda: encode_all(files, chords=True), peer_encode, notes, rounds),
        "two_workers": two_workers(files, rounds),
        "cost_growth": cost_growth(files, rounds),
    }
    told = []
    for what, row in rows.items():
        row["ratio"] = round(row["ratio"], 3)
        ok = row["ratio"] <= TARGETS[what] if what == "cost_growth" else row["ratio"] >= TARGETS[what]
        told.append({"what": what, **row, "target": TARGETS[what], "ok": ok})
    return {"name": "tokenize", "files": len(files), "notes": notes, "rows": told}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--files", type=int, default=100, help="files of the hymnal; half as many chorales")
    parser.add_argument("--rounds", type=int, default=7)
    wishes = parser.parse_args()
    result = measure(wishes.files, wishes.rounds)
    for row in result["rows"]:
        print(f"{row['what']:<20} {row['ours']:>9} {row['peer'] or '':>9} {row['unit']:<30} {row['ratio']:>7} "
              f"(target {row['target']}) {'ok' if row['ok'] else 'NOT MET'}", file=sys.stderr)  # fmt: skip
    if wishes.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
