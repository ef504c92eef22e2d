"""What users hand in: every reader fuzzed, and archives that nobody should trust.

The fuzzer is atheris (libFuzzer), guided by the coverage of our own code; hypothesis adds music and words of the
right shape. The whole form fuzzes each reader for PLAGAL_FUZZ_SECONDS (600; with 0 it only reports);
`tests/faults/fuzz/run.py` does it for hours. Both add what they ran to results/fuzzing.json, which the rows count."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import json
import logging
import os
import resource
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from faults.campaign import Row
from faults.fuzz.run import KEPT, LEDGER, SECONDS_AN_INPUT, add_to_ledger, fuzz
from faults.fuzz.targets import TARGETS

WHAT = {
    "midi": "MIDI", "abc": "ABC", "notation": "MusicXML, .mxl and Humdrum", "tunebook": "the tune book's ABC",
    "chords": "chords, keys and progressions", "words": "words to decode", "jsonl": "JSONL to convert",
    "params": "params.yaml", "profile": "profiles", "sources": "lists of sources",
    "answers": "answers of models, and requests", "checkpoint": "checkpoints", "gguf": "GGUF files",
    "archive": "zip and tar files", "model": "model folders and adapters",
}  # fmt: skip
FUZZ_SECONDS = int(os.environ.get("PLAGAL_FUZZ_SECONDS", "600"))
SHORT_TARGETS, SHORT_RUNS, SHORT_SECONDS = 3, 400, 60
"""In the short form: so many readers, drawn by the seed, so many inputs each (and never longer than this)."""
MOST_GROWTH_BYTES, MOST_SECONDS = 400_000_000, 60.0
"""That one archive may cost."""


def rows(short: bool, seed: int) -> Iterator[Row]:
    yield _kept()
    yield _shaped(short, seed)
    if not short:
        yield _endless()
    yield from _archives(short)
    names = list(TARGETS)
    chosen = [names[(seed * 5 + 4 * number) % len(names)] for number in range(SHORT_TARGETS)] if short else names
    for name in tqdm(chosen, "fuzz", disable=None):
        yield _fuzzed(name, short, seed)


def _kept() -> Row:
    """Inputs that once broke a promise, and the corpora."""
    tried, broken = 0, []
    logging.disable(logging.WARNING)  # each bad line of JSONL has one
    for name, target in TARGETS.items():
        try_one = target.prepare()
        for path in sorted((KEPT / name).iterdir()):
            tried += 1
            try:
                with contextlib.redirect_stderr(io.StringIO()):  # music21 warns there of each odd sign
                    try_one(path.read_bytes())
            except Exception as error:  # a promise broken in whatever way
                broken.append(f"{name}/{path.name}: {error}")
    logging.disable(logging.NOTSET)
    happened = f"all are; among them every input that broke a promise before ({KEPT.name}/)"
    return Row("inputs kept from fuzzing, for each reader", tried, "each is taken or refused in one line",
               "; ".join(broken)[:300] or happened, len(broken))  # fmt: skip


def _fuzzed(name: str, short: bool, seed: int) -> Row:
    promised = f"{TARGETS[name].promised}; within {SECONDS_AN_INPUT} s and 1 GB, nothing else written or started"
    with tempfile.TemporaryDirectory() as folder:
        fuzzed = fuzz(name, SHORT_SECONDS, seed, Path(folder), SHORT_RUNS) if short else fuzz(name, FUZZ_SECONDS, seed)
    broken = [path.name for path in fuzzed.findings]
    tried, cpu = fuzzed.executions, fuzzed.cpu_seconds
    if not short:
        if tried:
            add_to_ledger(name, fuzzed)
        ledger = json.loads(LEDGER.read_text(encoding="utf-8"))[name]
        tried, cpu = int(ledger["executions"]), ledger["cpu_seconds"]
    happened = f"{cpu / 60:.1f} minutes of processor time, all runs together" if not short else f"{cpu:.0f} s"
    return Row(f"fuzzed: {WHAT[name]}", tried, promised, "; ".join([happened, *broken]), len(broken))


def _shaped(short: bool, seed: int) -> Row:
    """Scores, words and records as hypothesis makes them: right in their shape, odd in all else."""
    from faults.fuzz.shaped import PROPERTIES, examples

    tried, broken = 0, []
    for check in PROPERTIES:
        try:
            tried += examples(check, 60 if short else 1500, seed)
        except Exception as error:
            broken.append(f"{check.__name__}: {type(error).__name__} {error}"[:200])
    return Row("scores, words and records of the right shape (hypothesis)", tried,
               "MIDI and words come back as they were; records are converted or refused in one line",
               "; ".join(broken) or "they do", len(broken))  # fmt: skip


_ENDLESS = (
    ("NOTE_ON_60",), ("NOTE_ON_60", "DUR_WHOLE_TIED"), ("DUR_WHOLE_TIED",), ("BEAT_11", "NOTE_ON_60", "BEAT_0"),
    ("REPEAT_START", "BAR_START", "REPEAT_END"), ("TIMESIG_12_4", "BEAT_11"), ("BAR_START",), ("SECTION_VERSE",),
    ("PEDAL_ON", "PEDAL_OFF"), ("CHORD_Cmaj", "BASS_F"), ("NOTE_OFF_60", "DUR_HOLD"), ("TRILL",),
    ("SONG_START",), ("x",),
)  # fmt: skip
ENDLESS_WORDS = 200_000


def _endless() -> Row:
    """More words than a piece of the longest kind can hold."""
    from plagal.tokens import grammar
    from plagal.tokens.codec import decode, encode

    broken = []
    for words in _ENDLESS:
        try:
            decoded = decode(words * (ENDLESS_WORDS // len(words)))
            if not grammar.accepts(encode(decoded.score, chords=False)):
                broken.append(f"{' '.join(words)}: no grammatical piece")
        except Exception as error:
            broken.append(f"{' '.join(words)}: {type(error).__name__}")
    return Row(f"{ENDLESS_WORDS:,} words to decode, of one kind or a few", len(_ENDLESS),
               "mended into a piece of the longest length", "; ".join(broken) or "they are", len(broken))  # fmt: skip


class _Server:
    """Archives on loopback, for `collect` to fetch."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        files = self.files

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(files[self.path])))
                self.end_headers()
                self.wfile.write(files[self.path])

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def _archives(short: bool) -> Iterator[Row]:
    from faults.archives_made import HOSTILE, SLOW

    groups: dict[str, list[str]] = {}
    for name in HOSTILE:
        if not (short and name in SLOW):
            groups.setdefault(_group(name), []).append(name)
    server = _Server()
    for group, names in groups.items():
        broken, refused = [], 0
        for name in tqdm(names, group, disable=None):
            problem, taken = _collected(name, HOSTILE[name](), server)
            refused += not taken
            broken += [f"{name}: {problem}"] if problem else []
        happened = f"{len(names) - refused} unpacked but for the bad members, {refused} refused whole"
        yield Row(f"archives through `collect`: {group}", len(names),
                  "good members read, bad ones listed, or one line; nothing outside the cache's folder, no link, no"
                  f" device; under {MOST_SECONDS:.0f} s and {MOST_GROWTH_BYTES // 10**6} MB",
                  "; ".join([happened, *broken])[:400], len(broken))  # fmt: skip
    server.server.shutdown()


def _group(name: str) -> str:
    for word, group in (("leave", "zip slip"), ("link", "links"), ("device", "devices"), ("name", "names"),
                        ("cut", "damage"), ("damaged", "damage"), ("neither", "damage")):  # fmt: skip
        if word in name:
            return group
    return "bombs"


def _collected(name: str, data: bytes, server: _Server) -> tuple[str, bool]:
    """What promise was broken ("" for none), and whether anything was taken."""
    from plagal.corpus.archives import CACHE_VARIABLE
    from plagal.corpus.collect import collect
    from plagal.plumbing.errors import PlagalError
    from plagal.plumbing.params import load_params
    from plagal.plumbing.workers import Workers

    server.files["/music"] = data
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        root = Path(folder)
        (root / "sources.yaml").write_text(json.dumps({"sources": [{
            "kind": "archive", "name": "net", "genre": "gospel", "licence": "CC0", "attribution": "x", "enabled": True,
            "url": f"{server.url}/music", "sha256": hashlib.sha256(data).hexdigest()}]}))  # fmt: skip
        settings = load_params(ROOT / "params.yaml").collect_stage1.model_copy(
            update={"sources": "sources.yaml", "target_files": 1, "quotas": {"gospel": 1}, "fill_from_arranger": {}}
        )
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        os.environ[CACHE_VARIABLE] = str(root / "cache")
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                taken = collect("stage1", settings, root / "out", 1, Workers(1))["found"]
        except PlagalError as error:
            taken = 0
            if not str(error).isprintable():
                return f"no plain line: {error}", False
        except Exception as error:
            return f"{type(error).__name__}: {error}"[:200], False
        finally:
            del os.environ[CACHE_VARIABLE]
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        seconds = time.monotonic() - began
        return _traces(root, grown, seconds), bool(taken)


ROOT = Path(__file__).parents[2]
_OUTSIDE = ("/plagal-out.mid", "/tmp/plagal-out.mid", "/etc/plagal-out.mid")  # noqa: S108  (where members want to go)


def _traces(root: Path, grown: int, seconds: float) -> str:
    beside = {path.name for path in root.iterdir()} - {"cache", "out", "sources.yaml"}
    odd = [path for path in root.rglob("*") if path.is_symlink() or not (path.is_file() or path.is_dir())]
    outside = [path for path in _OUTSIDE if Path(path).exists()]
    if beside or odd or outside:
        return f"made {sorted(beside)} {odd} {outside}"
    if seconds > MOST_SECONDS or grown > MOST_GROWTH_BYTES:
        return f"{seconds:.0f} s, {grown // 10**6} MB"
    return ""
