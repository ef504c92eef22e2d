"""Pieces on disk: pieces.jsonl, or past 10,000 of them pieces-00000.jsonl, pieces-00001.jsonl and so on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from plagal.plumbing.errors import InputError
from plagal.plumbing.files import read_jsonl

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
