"""Learn what a hand's movements cost (`plagal.music.hands`) from music whose hands are known, and ship it.

    nice -n 15 python tools/learn_hands.py --minutes 20

A structured perceptron with a margin: each passage is shared between the hands by the costs so far, as if every wrong
note were cheaper; what the wrong way did becomes dearer, what the right way does cheaper; the mean over the last
rounds is kept. The costs that the package ships saw 28 rounds, 20 minutes of one core.

It learns from every second file of those whose two tracks are the hands, in the order that benchmarks/hands.py mixes
them to, and from arrangements with seeds that it does not ask for; the other files are judged there as `hands_unseen`.
--out writes elsewhere than into the package.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path

import numpy as np

from plagal.music.arranger.arrange import STYLES, arrange
from plagal.music.hands import COSTS, Strike, as_tables, cases_of, chords_of, shared
from plagal.plumbing.files import write_text

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
from hands import Known, real

PASSAGE = 200
"""Notes of a file in a round, from anywhere in it."""
MARGIN, RATE = 0.5, 0.1
ARRANGED_A_ROUND = 60


def errors_of(chords: list[Strike], known: list[int]) -> list[list[int]]:
    """For each chord and each number of keys that the left hand may have: how many notes are wrong."""
    wrong, first = [], 0
    for chord in chords:
        of = known[first : first + len(chord.keys)]
        wrong.append([of[:cut].count(1) + of[cut:].count(0) for cut in range(len(of) + 1)])
        first += len(of)
    return wrong


def material() -> tuple[list[Known], list[Known]]:
    """Files that are not judged, and arrangements, with what is known of their hands."""
    files = [(notes[hands >= 0], hands[hands >= 0]) for notes, hands in real(sys.maxsize)[::2]]
    scores = [arrange(None, style, seed=seed) for style in STYLES for seed in range(100, 112)]
    return files, [(score.notes, score.hands) for score in scores if score.hands is not None]


def learn(minutes: float, out: Path) -> None:
    files, arranged = material()
    print(f"{len(files)} files, {len(arranged)} arrangements", flush=True)
    draw, until = random.Random(1), time.monotonic() + 60 * minutes
    costs, mean = np.zeros(COSTS), np.zeros(COSTS)
    number = 0
    while time.monotonic() < until:
        rate, wrong, seen = RATE / (1 + number / 6), 0, 0
        for notes, known in draw.sample(files, len(files)) + draw.sample(arranged, ARRANGED_A_ROUND):
            first = draw.randrange(max(1, len(notes) - PASSAGE))
            chords = chords_of(notes[first : first + PASSAGE])
            errors = errors_of(chords, known[first : first + PASSAGE].tolist())
            right = [of.index(min(of)) for of in errors]
            cheaper = [[-MARGIN * (error - min(of)) for error in of] for of in errors]
            found = shared(chords, costs.tolist(), cheaper)
            if found != right:
                step = rate / np.sqrt(sum(len(chord.keys) for chord in chords))
                np.subtract.at(costs, cases_of(chords, right), step)
                np.add.at(costs, cases_of(chords, found), step)
            mean += (costs - mean) / min(500 * (1 + number / 6), 1 + seen + number * (len(files) + ARRANGED_A_ROUND))
            wrong, seen = wrong + sum(of[cut] for of, cut in zip(errors, found, strict=True)), seen + 1
        number += 1
        tables = ",\n".join(f"  {json.dumps(name)}: {json.dumps(of)}" for name, of in as_tables(mean.tolist()).items())
        write_text(out, f"{{\n{tables}\n}}\n")
        print(f"round {number}: {wrong} notes wrong", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=20)
    options.add_argument("--out", type=Path, default=Path("src/plagal/music/hands.json"))
    chosen = options.parse_args()
    learn(chosen.minutes, chosen.out)


if __name__ == "__main__":
    main()
