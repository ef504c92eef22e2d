"""One stage's corpus: pieces chosen by genre quotas, each discard counted with its reason, nothing twice.

Order of choice: real pieces up to each genre's quota; pieces from the arranger where params allow it and real ones are
short; real surplus (of any genre) until the target is reached. Sources are tried in the order of their file.

Out comes a folder: pieces.jsonl (past 10,000 pieces pieces-00000.jsonl and so on), discards.jsonl, report.json.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from plagal.corpus.duplicates import SimilarPieces
from plagal.corpus.parallel import Workers
from plagal.corpus.reading import Discard, Limits, Piece, read_candidate
from plagal.corpus.sources import ArrangerSource, Candidate, Source, candidates, load_sources
from plagal.corpus.split import melodies_of, tune_groups
from plagal.plumbing.errors import CorpusError, InputError
from plagal.plumbing.files import atomic_path, read_jsonl, write_json, write_jsonl
from plagal.plumbing.params import CollectSettings

_AHEAD, _MOST_AHEAD = 8, 64
"""Read an eighth more candidates than are wanted, at least and at most this many: some will be discarded."""


@dataclass
class _Genre:
    wanted: int
    real: int = 0
    synthetic: int = 0
    surplus: int = 0
    played: int = 0
    """Of those found, the ones whose beats were heard or set right: nobody wrote them."""
    discards: Counter[str] = field(default_factory=Counter)


class _Selection:
    """What has been taken so far, and where the next candidates come from."""

    def __init__(self, stage: str, settings: CollectSettings, sources: tuple[Source, ...], seed: int) -> None:
        self.stage, self.settings = stage, settings
        self.target = settings.target_files
        quotas = _scaled(settings.quotas, self.target)
        self.genres = {genre: _Genre(wanted) for genre, wanted in quotas.items()}
        self.queues: dict[str, list[Iterator[Candidate]]] = {}
        self.arrangers: dict[str, list[Iterator[Candidate]]] = {}
        for source in sources:
            queues = self.arrangers if isinstance(source, ArrangerSource) else self.queues
            offered = candidates(source, seed)
            queues.setdefault(source.genre, []).extend([offered] * getattr(source, "in_turn", 1))
        self.spare: deque[Piece] = deque()
        self.similar = SimilarPieces()
        self.taken = self.offered = 0
        self.discards: list[Discard] = []
        self.losses: dict[str, list[float]] = {}
        """Name of a loss -> pieces taken that have it, and how often in all."""

    def genre(self, name: str) -> _Genre:
        return self.genres.setdefault(name, _Genre(0))

    def discard(self, discard: Discard) -> None:
        self.discards.append(discard)
        self.genre(discard.candidate.genre).discards[discard.reason] += 1


def collect(
    stage: str, settings: CollectSettings, out: Path, seed: int, workers: Workers | None = None
) -> dict[str, Any]:
    """Collect one stage's pieces into the folder `out` (whole or not at all), print the table by genre, and return the
    report. Raises CorpusError where nothing at all was found, DiskError where the disk is full."""
    if out.is_dir() and any(out.iterdir()) and not (out / "report.json").exists():
        raise CorpusError(f"{out} holds other files, and would be replaced as a whole; name another folder")
    selection = _Selection(stage, settings, load_sources(settings.sources), seed)
    with atomic_path(out) as folder, workers or Workers() as pool:
        folder.mkdir()
        with PieceWriter(folder, "draft") as draft:
            _choose(selection, pool, draft)
        selection.similar = SimilarPieces()  # the tunes' index is as large: never both
        if not selection.taken:
            raise CorpusError(_nothing_found(settings, selection))
        tunes = _write_final(folder, selection.taken)
        report = _report(selection, tunes)
        write_jsonl(folder / "discards.jsonl", [_discard_row(discard) for discard in selection.discards])
        write_json(folder / "report.json", report)
    sys.stdout.write(corpus_table(report))
    return report


def _nothing_found(settings: CollectSettings, selection: _Selection) -> str:
    reasons = Counter(discard.reason for discard in selection.discards)
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(3)) or "the sources offer no file"
    return f"{settings.sources}: no usable piece ({why}); put MIDI into data/midi_sources/<genre>/ or mend the sources"


def _scaled(quotas: dict[str, int], target: int) -> dict[str, int]:
    """Quotas shrunk in proportion where they ask for more than the target; rounding goes to the first genres."""
    total = sum(quotas.values())
    if total <= target:
        return dict(quotas)
    scaled = {genre: quota * target // total for genre, quota in quotas.items()}
    for genre in list(scaled)[: target - sum(scaled.values())]:
        scaled[genre] += 1
    return scaled


def _choose(selection: _Selection, pool: Workers, draft: PieceWriter) -> None:
    for name, genre in list(selection.genres.items()):
        _fill(selection, pool, draft, name, genre.wanted, "real", selection.queues.get(name, []))
    for name, most in selection.settings.fill_from_arranger.items():
        genre = selection.genre(name)
        short = min(most, genre.wanted - genre.real)
        _fill(selection, pool, draft, name, short, "synthetic", selection.arrangers.get(name, []))
    if selection.settings.fill_from_surplus:
        _fill_from_surplus(selection, pool, draft)
    _count_rest(selection)


def _fill(
    selection: _Selection,
    pool: Workers,
    draft: PieceWriter,
    name: str,
    wanted: int,
    kind: str,
    queues: list[Iterator[Candidate]],
) -> None:
    """Take up to `wanted` pieces of one genre; good ones beyond that are kept as spare."""
    genre, before = selection.genre(name), selection.taken
    queue = _in_turn(queues) if kind == "synthetic" else _chained(queues)
    tries = 0
    while (short := wanted - (selection.taken - before)) > 0 and tries < 3 * wanted + _AHEAD:
        batch = _take(queue, short + (_ahead(short) if kind == "real" else 0))
        if not batch:
            break
        tries += len(batch) if kind == "synthetic" else 0
        for piece in _read(selection, pool, batch):
            if selection.taken - before < wanted:
                _keep(selection, draft, piece)
                setattr(genre, kind, getattr(genre, kind) + 1)
            elif kind == "real":
                selection.spare.append(piece)
            else:
                selection.offered -= 1


def _ahead(short: int) -> int:
    return min(_MOST_AHEAD, max(_AHEAD, short // 8))


def _fill_from_surplus(selection: _Selection, pool: Workers, draft: PieceWriter) -> None:
    """Real pieces of any genre until the target: spare ones first, then what the sources still offer."""
    queue = _chained([queue for queues in selection.queues.values() for queue in queues])
    while (short := selection.target - selection.taken) > 0:
        if not selection.spare:
            batch = _take(queue, short + _ahead(short))
            if not batch:
                return
            selection.spare.extend(_read(selection, pool, batch))
        while selection.spare and selection.taken < selection.target:
            piece = selection.spare.popleft()
            _keep(selection, draft, piece)
            selection.genre(piece.candidate.genre).surplus += 1


def _chained(queues: list[Iterator[Candidate]]) -> Iterator[Candidate]:
    # Not `yield from`: that would close a source's generator together with this one, and the surplus still wants it.
    for queue in queues:
        for candidate in queue:  # noqa: UP028
            yield candidate


def _in_turn(queues: list[Iterator[Candidate]]) -> Iterator[Candidate]:
    """One of each: arrangers are endless, and several share a genre."""
    while queues:
        for queue in queues:
            candidate = next(queue, None)
            if candidate is None:
                return
            yield candidate


def _take(queue: Iterator[Candidate], count: int) -> list[Candidate]:
    return [candidate for _, candidate in zip(range(count), queue, strict=False)]


def _read(selection: _Selection, pool: Workers, batch: list[Candidate]) -> Iterator[Piece]:
    """The usable pieces of a batch in its order; discards are counted on the way."""
    settings = selection.settings
    limits = Limits(settings.min_notes, settings.max_notes, settings.min_bars, settings.max_bars,
                    settings.min_confidence)  # fmt: skip
    selection.offered += len(batch)
    jobs = ((candidate, limits, settings.commercial_use_only) for candidate in batch)
    for result in pool.map(read_candidate, jobs, len(batch), f"collect {selection.stage}"):
        if isinstance(result, Discard):
            selection.discard(result)
        elif twin := selection.similar.twin_of(result.digest, result.texture, result.candidate.path):
            selection.discard(Discard(result.candidate, *twin))
        else:
            yield result


def _keep(selection: _Selection, draft: PieceWriter, piece: Piece) -> None:
    draft.write(piece.row)
    selection.taken += 1
    selection.genre(piece.candidate.genre).played += piece.row["metadata"]["played"]
    for name, count in piece.losses.items():
        files_and_count = selection.losses.setdefault(name, [0, 0])
        files_and_count[0] += 1
        files_and_count[1] += count


def _count_rest(selection: _Selection) -> None:
    """Count what was not needed: spare pieces, and candidates never read."""
    for piece in selection.spare:
        selection.discard(Discard(piece.candidate, "not needed"))
    for queues in selection.queues.values():
        for candidate in _chained(queues):
            selection.offered += 1
            selection.discard(Discard(candidate, candidate.problem or "not needed"))


def _write_final(folder: Path, count: int) -> int:
    """Write the draft anew, each row with the group of its tune; returns the number of tunes."""
    tunes = tune_groups(melodies_of(row["metadata"]) for row in read_pieces(folder, "draft"))
    with PieceWriter(folder, "pieces", count) as final:
        for number, row in enumerate(read_pieces(folder, "draft")):
            row["metadata"]["tune_group"] = tunes.key[tunes.label[number]][:12]
            final.write(row)
    for part in folder.glob("draft*.jsonl"):
        part.unlink()
    return tunes.count


def _report(selection: _Selection, tunes: int) -> dict[str, Any]:
    reasons = Counter(discard.reason for discard in selection.discards)
    return {
        "stage": selection.stage,
        "target": selection.target,
        "found": selection.taken,
        "tunes": tunes,
        "offered": selection.offered,
        "discarded": dict(reasons.most_common()),
        "genres": {name: _genre_report(genre) for name, genre in selection.genres.items()},
        "losses": {
            name: {"files": int(files), "count": round(count, 3)}
            for name, (files, count) in sorted(selection.losses.items(), key=lambda loss: (-loss[1][0], loss[0]))
        },
    }


def _genre_report(genre: _Genre) -> dict[str, Any]:
    found = genre.real + genre.synthetic
    return {
        "wanted": genre.wanted,
        "real": genre.real,
        "synthetic": genre.synthetic,
        "surplus": genre.surplus,
        "played": genre.played,
        "short": max(0, genre.wanted - found),
        "discarded": dict(genre.discards.most_common()),
    }


def _discard_row(discard: Discard) -> dict[str, str]:
    candidate = discard.candidate
    row = {"path": candidate.path, "source": candidate.source, "genre": candidate.genre, "reason": discard.reason}
    return row | ({"detail": discard.detail} if discard.detail else {})


_COLUMNS = ("genre", "wanted", "real", "synthetic", "surplus", "found", "short", "left out, and why")


def corpus_table(report: dict[str, Any]) -> str:
    """A line for each genre, one for the total, one for each loss in reading what was taken; ends in a newline."""
    rows = [_row(name, genre) for name, genre in report["genres"].items()]
    totals = [sum(int(row[column]) for row in rows) for column in range(1, 7)]
    rows.append(("total", *(str(total) for total in totals), _why(report["discarded"], 4)))
    widths = [max(len(row[column]) for row in (_COLUMNS, *rows)) for column in range(len(_COLUMNS))]
    lines = [_line(_COLUMNS, widths), "  ".join("-" * width for width in widths)]
    lines += [_line(row, widths) for row in rows]
    found, target, tunes = report["found"], report["target"], report["tunes"]
    lines.append(f"{report['stage']}: {found} of {target} pieces, {tunes} tunes")
    if losses := report["losses"]:
        wide = max(len(name) for name in losses)
        lines.append("left out or bent in reading, among the pieces taken:")
        lines += [f"  {name.ljust(wide)}  {loss['files']:>5} files  {loss['count']:g}" for name, loss in losses.items()]
    return "\n".join(lines) + "\n"


def _row(name: str, genre: dict[str, Any]) -> tuple[str, ...]:
    found = genre["real"] + genre["synthetic"] + genre["surplus"]
    counts = (genre["wanted"], genre["real"], genre["synthetic"], genre["surplus"], found, genre["short"])
    return (name, *(str(count) for count in counts), _why(genre["discarded"], 4))


def _why(discarded: dict[str, int], most: int) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in list(discarded.items())[:most])


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    cells = [row[0].ljust(widths[0])]
    cells += [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
    return "  ".join([*cells, row[-1]]).rstrip()


SHARD_PIECES = 10_000


class PieceWriter:
    """Writes rows into `<folder>/<name>.jsonl`, or into shards where more are `expected` than one holds."""

    def __init__(self, folder: Path, name: str, expected: int = 0, shard_pieces: int = SHARD_PIECES) -> None:
        self._folder, self._name, self._shard_pieces = folder, name, shard_pieces
        self._sharded = expected > shard_pieces
        self._count = 0
        self._file: TextIO | None = None

    def __enter__(self) -> PieceWriter:
        if not self._sharded:
            self._file = (self._folder / f"{self._name}.jsonl").open("w", encoding="utf-8")
        return self

    def write(self, row: dict[str, Any]) -> None:
        if self._sharded and self._count % self._shard_pieces == 0:
            self._close()
            shard = self._count // self._shard_pieces
            self._file = (self._folder / f"{self._name}-{shard:05d}.jsonl").open("w", encoding="utf-8")
        if self._file is None:
            raise ValueError("the writer is not open")
        self._file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
        self._count += 1

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()


def piece_files(folder: Path, name: str = "pieces") -> list[Path]:
    """The one file or the shards, in order. Raises InputError where there is neither."""
    whole = folder / f"{name}.jsonl"
    files = [whole] if whole.exists() else sorted(folder.glob(f"{name}-[0-9][0-9][0-9][0-9][0-9].jsonl"))
    if not files:
        raise InputError(f"{whole} is missing; run the stage that collects it")
    return files


def read_pieces(folder: Path, name: str = "pieces") -> Iterator[dict[str, Any]]:
    """Every row, one at a time. Raises InputError that names file and line."""
    for file in piece_files(folder, name):
        yield from read_jsonl(file)
