"""What music loses when it becomes words, then a MIDI file, then words again; this makes the table in docs/words.md.

    python benchmarks/losses.py [--json]

Three sets: the Open Hymnal (where its folder is named by PLAGAL_OPENHYMNAL or stands at ../shared/corpus/openhymnal),
all that the default sources take from music21's corpus, and the test fixtures that can be read. Every file goes through
`plagal.tokens.roundtrip`, which holds the result against the file itself. There is no peer.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed
from tqdm import tqdm

from plagal.corpus.sources import candidates, load_sources
from plagal.music.load import load
from plagal.music.notation import read_text, score_from_abc, split_tunes
from plagal.music.score import Score
from plagal.plumbing.errors import PlagalError
from plagal.tokens.roundtrip import roundtrip_file, totals
from shared.places import ROOT, hymns
from shared.rows import Row, finish, parser, row

FIXTURES = ROOT / "tests" / "fixtures" / "midi"


def music21_pieces() -> Iterator[tuple[str, str, int]]:
    """(name, file, tune of the file) of all that the default sources take from music21."""
    for stage in ("stage1", "stage2"):
        for source in load_sources(ROOT / "sources" / f"{stage}.yaml"):
            if source.kind == "music21":
                for candidate in candidates(source, seed=0):
                    if not candidate.problem:
                        yield candidate.path, candidate.file, candidate.part


def notated(name: str, file: str, part: int) -> dict[str, Any]:
    try:
        return roundtrip_file((name, _score(Path(file), part)))
    except PlagalError as error:
        return {"path": name, "error": str(error)}


def _score(file: Path, part: int) -> Score:
    if file.suffix == ".abc":
        return score_from_abc(split_tunes(read_text(file))[part])
    return load(file)


def measure() -> dict[str, dict[str, Any]]:
    """Totals of each set. The broken fixtures are not among them: they raise an error by right."""
    sets = {
        "Open Hymnal": [delayed(roundtrip_file)(path) for path in hymns()],
        "music21": [delayed(notated)(*piece) for piece in sorted(set(music21_pieces()))],
        "fixtures": [delayed(roundtrip_file)(path) for path in sorted(FIXTURES.glob("*.mid"))],
    }
    told = {}
    for name, tasks in sets.items():
        if tasks:
            results = Parallel(n_jobs=2, return_as="generator")(tasks)
            reports = list(tqdm(results, total=len(tasks), unit="file", desc=name, disable=None, leave=False))
            for report in reports:
                if "error" in report or not report["idempotent"]:
                    print(f"{report['path']}: {report.get('error', 'other words again')}", file=sys.stderr)
            told[name] = totals(reports)
    return told


LINES = (
    ("files", lambda t: f"{t['files'] - t['unreadable']:,}"),
    ("words the same again, through a file on disk", lambda t: f"{t['idempotent']:,}"),
    ("accepted by the grammar", lambda t: f"{t['grammatical']:,}"),
    ("notes in range", lambda t: f"{t['notes_in_range']:,}"),
    ("kept", lambda t: f"{t['notes_kept']:,}"),
    ("merged with an equal one", lambda t: f"{t['losses'].get('notes_unison_merged', 0):,}"),
    ("cut where their pitch is struck again", lambda t: f"{t['losses'].get('notes_cut_at_restrike', 0):,}"),
    ("grace notes of the notation, left out", lambda t: f"{t['losses'].get('grace_notes', 0):,}"),
    ("out of range", lambda t: f"{t['notes_out_of_range']:,}"),
    ("files with a constant offset, taken off", lambda t: f"{t['with_offset']:,}"),
    ("files whose onsets are all exact", lambda t: f"{t['onsets_exact']:,}"),
    ("onset error, beats: mean / max", lambda t: _pair(t["onset_error_beats"])),
    ("onset error, ms: mean / max", lambda t: _pair(t["onset_error_ms"])),
    ("duration error, beats: mean / max", lambda t: _pair(t["duration_error_beats"])),
    ("duration error, ms: mean / max", lambda t: _pair(t["duration_error_ms"])),
    ("velocity error: mean / max", lambda t: _pair(t["velocity_error"])),
    ("tempo error at most", lambda t: f"{t['tempo']['error_max_percent']:.2f} %"),
    ("metres as they were", lambda t: f"{t['metre']['kept']} of {t['metre']['changes']}"),
    ("pedal changes kept", lambda t: f"{t['pedal']['kept']} of {t['pedal']['changes']}"),
)


def _pair(error: dict[str, float]) -> str:
    return f"{error['mean']:.4g} / {error['max']:.4g}"


def table(told: dict[str, dict[str, Any]]) -> str:
    lines = [["", *told], ["---", *("---:" for _ in told)]]
    lines += [[name, *(show(total) for total in told.values())] for name, show in LINES]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def rows(told: dict[str, dict[str, Any]]) -> Iterator[Row]:
    shares = (("idempotent", "files"), ("grammatical", "files"), ("notes_kept", "notes_in_range"))
    for name, total in told.items():
        for part, whole in shares:
            share = total[part] / ((total[whole] - total["unreadable"]) if whole == "files" else total[whole])
            yield row(f"{part}: {name}", share, unit=f"share of {whole}", at_least=1.0)


def main() -> None:
    options = parser(__doc__).parse_args()
    told = measure()
    print(table(told))
    finish("losses", rows(told), options.json, totals=told)


if __name__ == "__main__":
    main()
