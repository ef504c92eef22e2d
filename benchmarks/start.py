"""How long Plagal takes to start (`import plagal`, `plagal --help`, its tune book), compared with similar tools.

    python benchmarks/start.py [--json] [--rounds 15]

Milliseconds from starting a process to its end, by the clock and of the processor (`_cpu`: what other work on the
machine does not lengthen), in turn, after one round that fills the caches. Peers: `import miditok`,
`mlx_lm.generate --help`, music21 reading the tune book's files; `interpreter` is Python alone, which is part of all.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import plagal
from shared.rows import Row, finish, parser, row

BIN = Path(sys.executable).parent
COMMANDS = {
    "import plagal": [sys.executable, "-c", "import plagal"],
    "import miditok": [sys.executable, "-c", "import miditok"],
    "plagal --help": [str(BIN / "plagal"), "--help"],
    "mlx_lm.generate --help": [str(BIN / "mlx_lm.generate"), "--help"],
    "the tune book": [sys.executable, "-c", "from plagal.music.arranger.tunebook import tune_book; tune_book()"],
    "the tune book by music21": [
        sys.executable,
        "-c",
        "import sys, music21; [music21.converter.parse(path, forceSource=True) for path in sys.argv[1:]]",
        *sorted(str(path) for path in Path(plagal.__file__).parent.glob("music/tunes/*.abc")),
    ],
    "python": [sys.executable, "-c", "pass"],
}


def milliseconds(command: list[str]) -> tuple[float, float]:
    """By the clock, and of the processor."""
    clock, used = time.perf_counter(), os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    now = os.times()
    cpu = now.children_user + now.children_system - used.children_user - used.children_system
    return 1000 * (time.perf_counter() - clock), 1000 * cpu


def measure(rounds: int) -> Iterator[Row]:
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for number in range(rounds + 1):
        for name, command in COMMANDS.items():
            found = milliseconds(command)
            if number:
                took[name].append(found)
    for place, unit, ending in ((0, "ms", ""), (1, "CPU ms", "_cpu")):
        side = {name: [each[place] for each in found] for name, found in took.items()}
        for what, name, peer, target in (
            ("import_plagal", "import plagal", "import miditok", 150),
            ("plagal_help", "plagal --help", "mlx_lm.generate --help", 400),
            ("tune_book", "the tune book", "the tune book by music21", 500),
        ):
            yield row(what + ending, side[name], side[peer], unit, against=peer, at_most=target, judge="ours")
        yield row(f"interpreter{ending}", side["python"], unit=unit)


def main() -> None:
    wishes = parser(__doc__)
    wishes.add_argument("--rounds", type=int, default=15)
    options = wishes.parse_args()
    finish("start", measure(options.rounds), options.json)


if __name__ == "__main__":
    main()
