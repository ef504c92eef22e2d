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
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

from plagal.corpus.duplicates import SimilarPieces, Tunes, melodies_of
from plagal.corpus.reading import Discard, Limits, Piece, read_candidate
from plagal.corpus.sources import ArrangerSource, Candidate, Source, candidates, load_sources
from plagal.plumbing.errors import CorpusError, InputError
from plagal.plumbing.files import atomic_path, read_jsonl, write_json, write_jsonl
from plagal.plumbing.params import CollectSettings
from plagal.plumbing.workers import Workers

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

    def choose(self, pool: Workers, draft: PieceWriter) -> None:
        """Take all that is wanted, in the order that stands above, and count what is left."""
        for name, genre in list(self.genres.items()):
            # One source after the other.
            queue = chain.from_iterable(self.queues.get(name, []))
            self._fill(pool, draft, name, genre.wanted, "real", queue)
        for name, most in self.settings.fill_from_arranger.items():
            genre = self.genre(name)
            # One of each in turn, for arrangers are endless, and several share a genre.
            queue = chain.from_iterable(zip(*self.arrangers.get(name, []), strict=False))
            self._fill(pool, draft, name, min(most, genre.wanted - genre.real), "synthetic", queue)
        rest = chain.from_iterable(chain.from_iterable(self.queues.values()))
        # Real pieces of any genre until the target: spare ones first, then what the sources still offer.
        while self.settings.fill_from_surplus and (short := self.target - self.taken) > 0:
            if not self.spare:
                batch = list(islice(rest, short + _ahead(short)))
                if not batch:
                    break
                self.spare.extend(self._read(pool, batch))
            while self.spare and self.taken < self.target:
                piece = self.spare.popleft()
                self._keep(draft, piece)
                self.genre(piece.candidate.genre).surplus += 1
        for piece in self.spare:
            self._discard(Discard(piece.candidate, "not needed"))
        for candidate in rest:  # never read
            self.offered += 1
            self._discard(Discard(candidate, candidate.problem or "not needed"))

    def _fill(
        self, pool: Workers, draft: PieceWriter, name: str, wanted: int, kind: str, queue: Iterator[Candidate]
    ) -> None:
        """Take up to `wanted` pieces of one genre; good ones beyond that are kept as spare."""
        genre, before = self.genre(name), self.taken
        tries = 0
        while (short := wanted - (self.taken - before)) > 0 and tries < 3 * wanted + _AHEAD:
            batch = list(islice(queue, short + (_ahead(short) if kind == "real" else 0)))
            if not batch:
                break
            tries += len(batch) if kind == "synthetic" else 0
            for piece in self._read(pool, batch):
                if self.taken - before < wanted:
                    self._keep(draft, piece)
                    setattr(genre, kind, getattr(genre, kind) + 1)
                elif kind == "real":
                    self.spare.append(piece)
                else:
                    self.offered -= 1

    def _read(self, pool: Workers, batch: list[Candidate]) -> Iterator[Piece]:
        """The usable pieces of a batch in its order; discards are counted on the way."""
        settings = self.settings
        limits = Limits(settings.min_notes, settings.max_notes, settings.min_bars, settings.max_bars,
                        settings.min_confidence)  # fmt: skip
        self.offered += len(batch)
        jobs = ((candidate, limits, settings.commercial_use_only) for candidate in batch)
        for result in pool.map(read_candidate, jobs, len(batch), f"collect {self.stage}"):
            if isinstance(result, Discard):
                self._discard(result)
            elif twin := self.similar.twin_of(result.digest, result.texture, result.candidate.path):
                self._discard(Discard(result.candidate, *twin))
            else:
                yield result

    def _keep(self, draft: PieceWriter, piece: Piece) -> None:
        draft.write(piece.row)
        self.taken += 1
        self.genre(piece.candidate.genre).played += piece.row["metadata"]["played"]
        for name, count in piece.losses.items():
            files, before = self.losses.get(name, (0, 0))
            self.losses[name] = [files + 1, before + count]

    def _discard(self, discard: Discard) -> None:
        self.discards.append(discard)
        self.genre(discard.candidate.genre).discards[discard.reason] += 1

    def report(self, tunes: int) -> dict[str, Any]:
        reasons = Counter(discard.reason for discard in self.discards)
        losses = sorted(self.losses.items(), key=lambda loss: (-loss[1][0], loss[0]))
        return {
            "stage": self.stage,
            "target": self.target,
            "found": self.taken,
            "tunes": tunes,
            "offered": self.offered,
            "discarded": dict(reasons.most_common()),
            "genres": {
                name: {kind: getattr(genre, kind) for kind in ("wanted", "real", "synthetic", "surplus", "played")}
                | {"short": max(0, genre.wanted - genre.real - genre.synthetic)}
                | {"discarded": dict(genre.discards.most_common())}
                for name, genre in self.genres.items()
            },
            "losses": {name: {"files": int(files), "count": round(count, 3)} for name, (files, count) in losses},
        }


def collect(
    stage: str, settings: CollectSettings, out: Path, seed: int, workers: Workers | None = None
) -> dict[str, Any]:
    """Collect one stage's pieces into the folder `out` (whole or not at all), print the table by genre, and return the
    report. Raises CorpusError where nothing at all was found, DiskError where the disk is full."""
    if out.is_dir() and any(out.iterdir()) and not (out / "report.json").exists():
        raise CorpusError(f"{out} contains other files, which collecting would delete; name another folder")
    selection = _Selection(stage, settings, load_sources(settings.sources), seed)
    with atomic_path(out) as folder, workers or Workers() as pool:
        folder.mkdir()
        with PieceWriter(folder, "draft") as draft:
            selection.choose(pool, draft)
        selection.similar = SimilarPieces()  # the tunes' index is as large: never both
        if not selection.taken:
            raise CorpusError(_nothing_found(settings, selection))
        # The draft is written anew, each row with the group of its tune.
        tunes = Tunes(melodies_of(row["metadata"]) for row in read_pieces(folder, "draft"))
        with PieceWriter(folder, "pieces", selection.taken) as final:
            for number, row in enumerate(read_pieces(folder, "draft")):
                row["metadata"]["tune_group"] = tunes.key[tunes.label[number]][:12]
                final.write(row)
        for part in folder.glob("draft*.jsonl"):
            part.unlink()
        report = selection.report(len(tunes.key))
        write_jsonl(folder / "discards.jsonl", [_discard_row(discard) for discard in selection.discards])
        write_json(folder / "report.json", report)
    sys.stdout.write(corpus_table(report))
    return report


def _nothing_found(settings: CollectSettings, selection: _Selection) -> str:
    reasons = Counter(discard.reason for discard in selection.discards)
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(3)) or "the sources offer no file"
    unwanted = {discard.candidate.genre for discard in selection.discards if discard.reason == "not needed"}
    shares = [f"{name}'s share of {selection.target} is 0" for name in sorted(unwanted)]
    if shares and not any(genre.wanted for name, genre in selection.genres.items() if name in unwanted):
        return f"{settings.sources}: no usable piece ({why}): {', '.join(shares)}; ask for more with --target-files"
    return f"{settings.sources}: no usable piece ({why}); put MIDI into data/midi_sources/<genre>/ or correct this list"


def _scaled(quotas: dict[str, int], target: int) -> dict[str, int]:
    """Quotas shrunk in proportion where they ask for more than the target; what rounding leaves goes to the largest
    remainders (Hare's method), so that no genre loses its place while another gets one too many."""
    total = sum(quotas.values())
    if total <= target:
        return dict(quotas)
    scaled = {genre: quota * target // total for genre, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda genre: -(quotas[genre] * target % total))
    for genre in by_remainder[: target - sum(scaled.values())]:
        scaled[genre] += 1
    return scaled


def _ahead(short: int) -> int:
    return min(_MOST_AHEAD, max(_AHEAD, short // 8))


def _discard_row(discard: Discard) -> dict[str, str]:
    candidate = discard.candidate
    row = {"path": candidate.path, "source": candidate.source, "genre": candidate.genre, "reason": discard.reason}
    return row | ({"detail": discard.detail} if discard.detail else {})


_COUNTS = ("wanted", "real", "synthetic", "surplus", "found", "played", "short")


def corpus_table(report: dict[str, Any]) -> str:
    """The report for people: a line for each genre with its four commonest discards, one for the total, one for each
    loss in reading what was taken; ends in a newline."""

    def row(name: str, counts: dict[str, int], discarded: dict[str, int]) -> list[str]:
        why = ", ".join(f"{count} {reason}" for reason, count in list(discarded.items())[:4])
        return [name, *(str(counts[column]) for column in _COUNTS), why]

    genres = {
        name: genre | {"found": genre["real"] + genre["synthetic"] + genre["surplus"]}
        for name, genre in report["genres"].items()
    }
    total = {column: sum(genre[column] for genre in genres.values()) for column in _COUNTS}
    rows = [["genre", *_COUNTS, "left out, and why"]]
    rows += [row(name, genre, genre["discarded"]) for name, genre in genres.items()]
    rows.append(row("total", total, report["discarded"]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    lines = [
        "  ".join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:-1], widths[1:-1]), cells[-1]]).rstrip()
        for cells in rows
    ]
    lines.append(f"{report['stage']}: {report['found']} of {report['target']} pieces, {report['tunes']} tunes")
    if losses := report["losses"]:
        wide = max(len(name) for name in losses)
        lines.append("left out or bent in reading, among the pieces taken:")
        lines += [f"  {name.ljust(wide)}  {loss['files']:>5} files  {loss['count']:g}" for name, loss in losses.items()]
    return "\n".join(lines) + "\n"


SHARD_PIECES = 10_000


class PieceWriter(ExitStack):
    """Writes rows into `<folder>/<name>.jsonl`, or into shards where more are `expected` than one holds."""

    def __init__(self, folder: Path, name: str, expected: int = 0, shard_pieces: int = SHARD_PIECES) -> None:
        super().__init__()
        self._stem, self._shard_pieces = folder / name, shard_pieces
        self._sharded = expected > shard_pieces
        self._count = 0
        self._file = None if self._sharded else self._opened(".jsonl")

    def _opened(self, ending: str) -> TextIO:
        self.close()  # the shard before
        return self.enter_context(Path(f"{self._stem}{ending}").open("w", encoding="utf-8"))

    def write(self, row: dict[str, Any]) -> None:
        if self._file is None or (self._sharded and self._count % self._shard_pieces == 0):
            self._file = self._opened(f"-{self._count // self._shard_pieces:05d}.jsonl")
        self._file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
        self._count += 1


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
