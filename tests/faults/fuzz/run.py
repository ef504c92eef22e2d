"""Fuzzing for hours, target after target: `nice python tests/faults/fuzz/run.py [--seconds 120] [--until 08:00]`.

Corpora grow in out/fuzz/, where findings lie too; executions and processor time are added to results/fuzzing.json."""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "tests"))

from faults.fuzz.targets import TARGETS  # noqa: E402

WORK = ROOT / "out" / "fuzz"
KEPT = ROOT / "tests" / "fixtures" / "fuzz"
WORDS = Path(__file__).with_name("words")
LEDGER = ROOT / "tests" / "faults" / "results" / "fuzzing.json"
SECONDS_AN_INPUT = 20


@dataclass(frozen=True)
class Fuzzed:
    executions: int
    cpu_seconds: float
    findings: list[Path]
    """Inputs that broke a promise; where Python saw it, the traceback lies beside as .txt."""


def fuzz(name: str, seconds: int, seed: int, work: Path = WORK, runs: int = -1) -> Fuzzed:
    """Feed one target in a process of its own, begun anew where an input ended it; with `runs`, no more inputs than
    these, and the same on every machine."""
    target = TARGETS[name]
    corpus, findings, seeds = work / name / "corpus", work / name / "findings", work / name / "seeds"
    for folder in (corpus, findings, seeds):
        folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(target.seeds()):
        (seeds / f"seed{number}").write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    end, executions, number = time.monotonic() + seconds, 0, 0
    while (left := end - time.monotonic()) > 0 and number < 20 and (runs < 0 or executions < runs):
        executions += _process(name, work / name, int(left) + 1, seed + number, runs - executions if runs > 0 else -1)
        number += 1
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = sorted(path for path in findings.iterdir() if path.suffix not in (".txt", ".log"))
    return Fuzzed(executions, cpu, found)


def _process(name: str, work: Path, seconds: int, seed: int, runs: int) -> int:
    target = TARGETS[name]
    kept = KEPT / name
    shutil.rmtree(work / "tmp", ignore_errors=True)
    (work / "tmp").mkdir()
    options = [
        f"-max_total_time={seconds}", f"-runs={runs}", f"-seed={seed}", f"-max_len={target.most_bytes}",
        f"-timeout={SECONDS_AN_INPUT}", f"-rss_limit_mb={target.most_mb}", f"-dict={WORDS / name}.txt",
        f"-artifact_prefix={work / 'findings'}/", "-print_final_stats=1", "-report_slow_units=1000",
        "-verbosity=1", "-len_control=20",
    ]  # fmt: skip
    folders = [work / "corpus", work / "seeds", *([kept] if kept.is_dir() else [])]
    command = [sys.executable, "-m", "faults.fuzz.one", name, work / "findings", *options, *folders]
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), "OMP_NUM_THREADS": "1", "TMPDIR": str(work / "tmp")}
    log = work / "findings" / "last.log"
    # libFuzzer reads the whole corpus before it looks at the time; on busy cores that takes minutes.
    with log.open("w", encoding="utf-8") as out, suppress(subprocess.TimeoutExpired):
        subprocess.run(list(map(str, command)), stdout=out, stderr=out, env=variables, timeout=seconds + 300)
    text = log.read_text(encoding="utf-8", errors="replace")
    counts = [int(count) for count in re.findall(r"(?:^#|number_of_executed_units: )(\d+)", text, re.M)]
    return max(counts, default=0)


def add_to_ledger(name: str, fuzzed: Fuzzed) -> dict[str, dict[str, float]]:
    ledger = json.loads(LEDGER.read_text(encoding="utf-8")) if LEDGER.exists() else {}
    row = ledger.setdefault(name, {"executions": 0, "cpu_seconds": 0})
    row["executions"] += fuzzed.executions
    row["cpu_seconds"] = round(row["cpu_seconds"] + fuzzed.cpu_seconds)
    LEDGER.parent.mkdir(exist_ok=True)
    LEDGER.write_text(json.dumps(ledger, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return ledger


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzzing for hours, target after target.")
    parser.add_argument("names", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=120, help="of a target's turn")
    parser.add_argument("--until", default="", help="hour and minute when no new turn begins; one round where none")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    seed, found = options.seed, 0
    while True:
        for name in options.names or TARGETS:
            fuzzed = fuzz(name, options.seconds, seed)
            add_to_ledger(name, fuzzed)
            found += len(fuzzed.findings)
            clock = time.strftime("%H:%M")
            told = f"{fuzzed.executions:,} inputs, {fuzzed.cpu_seconds:.0f} s, {len(fuzzed.findings)} findings"
            print(f"{clock} {name}: {told}", flush=True)
            if options.until and clock >= options.until:
                return min(found, 1)
        seed += 1000
        if not options.until:
            return min(found, 1)


if __name__ == "__main__":
    sys.exit(main())
