"""The campaign of faults, and docs/reliability.md's table of what happened.

    python tests/faults/run.py [--short] [--seed 1] [NAME ...]

Whole, it takes hours and keeps each kind's rows in tests/faults/results/; `--short` is CI's form: a few minutes,
nothing written. Ends with 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults.campaign import keep, kept, write_report

KINDS = tuple(
    name for name in ("killed", "disk", "together", "inputs", "server", "security", "determinism")
    if Path(__file__).with_name(f"{name}.py").exists()
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(KINDS))
    parser.add_argument("--short", action="store_true", help="CI's form")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    # What a shell's `&` starts ignores Ctrl-C, and so would all that is started here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    broken = []
    for name in options.names or KINDS:
        began = time.monotonic()
        rows = []
        for row in import_module(f"faults.{name}").rows(short=options.short, seed=options.seed):
            rows.append(row)
            told = f"{name}: {row.fault}: {row.tried} tried, {row.lost} broken; {row.happened}"
            print(told, flush=True)
            if row.lost:
                broken.append(told)
        if not options.short:
            keep(name, time.monotonic() - began, rows)
            write_report(kept(KINDS))
    for told in broken:  # once more: hundreds of lines up nobody sees them
        print(f"PROMISE BROKEN: {told}", file=sys.stderr, flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
