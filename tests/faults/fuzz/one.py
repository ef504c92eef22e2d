"""The process that feeds one target: `python -m faults.fuzz.one TARGET FINDINGS [libFuzzer's options and corpora]`.

A promise that Python sees broken is written to FINDINGS, each place in the code once, and fuzzing goes on. What ends
the process (a crash in native code, a hang, too much memory) leaves its input in FINDINGS too, by libFuzzer."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import traceback
from pathlib import Path

import atheris

PLACES = 3
"""So many innermost lines of a traceback tell findings apart."""


def main() -> None:
    name, findings = sys.argv[1], Path(sys.argv[2])
    logging.disable(logging.CRITICAL)
    os.environ["TQDM_DISABLE"] = "1"
    with atheris.instrument_imports(include=["plagal"]):
        from faults.fuzz.targets import TARGETS

        try_one = TARGETS[name].prepare()
    seen: set[str] = set()

    def feed(data: bytes) -> None:
        try:
            try_one(data)
        except Exception as error:  # a finding: kept, so that the next one is found too
            told = "".join(traceback.format_exception(error))
            lines = [line for line in told.splitlines() if line.startswith("  File")]
            place = hashlib.sha256(repr((type(error), lines[-PLACES:])).encode()).hexdigest()[:12]
            if place not in seen and not (findings / place).exists():
                (findings / place).write_bytes(data)
                (findings / f"{place}.txt").write_text(told, encoding="utf-8")
            seen.add(place)

    atheris.Setup([sys.argv[0], *sys.argv[3:]], feed)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
