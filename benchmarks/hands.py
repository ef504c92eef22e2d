"""How many notes get the right hand, compared with a split at middle C.

    python benchmarks/hands.py [--json] [--notes 250]

- hands_arranged: every style of the arranger, six pieces of each, whose hands it knows itself.
- hands_real: files in which two tracks are the two hands (rags, spirituals and songs by Florence Price, classical
  piano; the first notes of each). From every second of them, in mixed order, the costs were learnt
  (`tools/learn_hands.py`); `hands_unseen` is the others alone.

Where the folder of two-track files is not there, only arrangements are measured. Of the programs that assign hands,
pianoplayer (3.0.2) takes the hands from the staves and finds fingers alone; midi2hands (0.0.3) runs with NumPy 1.26
only, in an environment of its own, and is not measured yet.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from plagal.music.arranger.arrange import STYLES, arrange
from plagal.music.hands import hands_for
from plagal.music.midi import read_midi
from plagal.music.score import PITCH, Hands, Notes
from plagal.plumbing.errors import InputError
from shared.places import two_track_files
from shared.rows import Row, finish, parser, row

_MIDDLE_C = 60
Known = tuple[Notes, Hands]


def arranged() -> Iterator[Known]:
    for style in STYLES:
        for seed in range(6):
            score = arrange(None, style, seed=seed)
            assert score.hands is not None
            yield score.notes, score.hands


def real(most: int) -> list[Known]:
    """In a fixed order that mixes composers."""
    found = []
    for path in two_track_files():
        try:
            score = read_midi(path, heard=True)
        except InputError:  # one file of them holds no piano
            continue
        if score.hands is not None and (score.hands >= 0).mean() >= 0.9:
            found.append((score.notes[:most], score.hands[:most]))
    random.Random(0).shuffle(found)
    return found


def shares(pieces: Iterable[Known]) -> tuple[float, float, int]:
    """The share of notes [%] that we and a split at middle C put in the right hand, and how many there were."""
    right = split = count = 0
    for notes, hands in pieces:
        known = hands >= 0
        right += int(((hands_for(notes) == hands) & known).sum())
        split += int((((notes[:, PITCH] >= _MIDDLE_C) == hands) & known).sum())
        count += int(known.sum())
    return 100 * right / count, 100 * split / count, count


def measure(most: int) -> Iterator[Row]:
    ours, peer, count = shares(arranged())
    yield row("hands_arranged", ours, peer, "% of notes", against="split at middle C", at_least=97, judge="ours",
              notes=count)  # fmt: skip
    files = real(most)
    if files:
        ours, peer, count = shares(files)
        yield row("hands_real", ours, peer, "% of notes", against="split at middle C", at_least=93, judge="ours",
                  notes=count, files=len(files))  # fmt: skip
        ours, peer, count = shares(files[1::2])
        yield row("hands_unseen", ours, peer, "% of notes", against="split at middle C", at_least=93, judge="ours",
                  notes=count, files=len(files) // 2)  # fmt: skip


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--notes", type=int, default=250, help="of each file")
    chosen = options.parse_args()
    finish("hands", measure(chosen.notes), chosen.json)


if __name__ == "__main__":
    main()
