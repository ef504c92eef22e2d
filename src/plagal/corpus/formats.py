"""Pieces as rows of training text: the plan's converter. `{"prompt", "tokens": [ids], "metadata"}` in; mlx, alpaca or
chatml out. Streaming, in parallel, in constant memory; bad lines are reported with their number and reason."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO, TypedDict

from plagal.corpus.parallel import Workers
from plagal.plumbing.errors import InputError, RecordError, WordsError
from plagal.plumbing.files import atomic_path
from plagal.tokens.template import TRAINING_TEMPLATE

logger = logging.getLogger(__name__)

MAX_LINE_BYTES = 64_000_000
"""A piece of the longest kind takes some hundred kB; what is longer is not a record, and would eat memory."""
_BATCH_BYTES = 1_000_000
_REMEMBERED = 100
Line = tuple[int, bytes]


FORMATS: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "mlx": lambda prompt, words: {"text": TRAINING_TEMPLATE.format(prompt=prompt, words=words)},
    "alpaca": lambda prompt, words: {"instruction": prompt, "input": "", "output": words},
    "chatml": lambda prompt, words: {
        "messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": words}]
    },
}


class ConvertReport(TypedDict):
    """How a conversion went. `bad` holds the first hundred bad lines: number (from 1) and reason."""

    records: int
    written: int
    bad_records: int
    bad: list[tuple[int, str]]


def text_row(prompt: str, words: str, metadata: dict[str, Any], kind: str = "mlx") -> dict[str, Any]:
    """One row in the named format, its metadata beside."""
    return FORMATS[kind](prompt, words) | {"metadata": metadata}


def convert_record(record: Any, kind: str = "mlx", validate: bool = False) -> dict[str, Any]:
    """One record in the named format. `validate` also holds the words to the grammar. Raises RecordError with the
    reason."""
    from plagal.tokens.grammar import check_whole
    from plagal.tokens.vocabulary import WORD_OF

    if not isinstance(record, dict):
        raise RecordError("not a JSON object")
    prompt, ids, metadata = record.get("prompt"), record.get("tokens"), record.get("metadata", {})
    if not isinstance(prompt, str) or not prompt.strip():
        raise RecordError("`prompt` must be a text that is not empty")
    if "<|im_" in prompt:
        raise RecordError("`prompt` holds a mark of the chat template")
    if not isinstance(ids, list) or not ids or not all(type(number) is int for number in ids):
        raise RecordError("`tokens` must be a list of whole numbers that is not empty")
    if not isinstance(metadata, dict):
        raise RecordError("`metadata` must be an object")
    if unknown := next((number for number in ids if number not in WORD_OF), None):
        raise RecordError(f"tokens contain the id {unknown}, which no word has")
    words = [WORD_OF[number] for number in ids]
    if validate:
        try:
            check_whole(words)
        except WordsError as error:
            raise RecordError(str(error)) from None
    return text_row(prompt, " ".join(words), metadata, kind)


def convert_file(
    input: str | Path,  # noqa: A002 (the plan's names)
    output: str | Path,
    format: str = "mlx",  # noqa: A002
    validate: bool = False,
    workers: int = 0,
) -> ConvertReport:
    """Convert a JSONL file line by line. Bad lines are left out, logged and counted. The output appears whole or not at
    all. Raises InputError where the input is missing, the format unknown, or no line is good."""
    source = Path(input)
    if format not in FORMATS:
        raise InputError(f"format {format!r} is not known; choose among {', '.join(FORMATS)}")
    if not source.is_file():
        raise InputError(f"{source} is missing or no file")
    report = ConvertReport(records=0, written=0, bad_records=0, bad=[])
    with atomic_path(output) as temporary, Workers(workers) as pool, source.open("rb") as lines:
        calls = ((batch, format, validate) for batch in _batches(lines))
        total = source.stat().st_size // _BATCH_BYTES + 1
        with temporary.open("w", encoding="utf-8") as out:
            for rows in pool.map(_convert_batch, calls, total, "convert", unit=" MB"):
                for number, text, good in rows:
                    report["records"] += 1
                    if good:
                        report["written"] += 1
                        out.write(text + "\n")
                        continue
                    report["bad_records"] += 1
                    logger.warning("line %d left out: %s", number, text)
                    if len(report["bad"]) < _REMEMBERED:
                        report["bad"].append((number, text))
        if not report["written"]:
            first = "line {}, {}".format(*report["bad"][0]) if report["bad"] else "the file is empty"
            raise RecordError(f"{source}: none of {report['records']} lines is a good record; first: {first}")
    return report


def _batches(lines: BinaryIO) -> Iterator[list[Line]]:
    batch: list[Line] = []
    size = number = 0
    while line := lines.readline(MAX_LINE_BYTES):
        number += 1
        if not line.endswith(b"\n") and len(line) == MAX_LINE_BYTES:
            while (part := lines.readline(MAX_LINE_BYTES)) and not part.endswith(b"\n"):
                pass
            line = b""
        batch.append((number, line))
        size += len(line)
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _convert_batch(batch: list[Line], kind: str, validate: bool) -> list[tuple[int, str, bool]]:
    """(line number, the row as JSON or the reason, good) of each line."""
    rows = []
    for number, line in batch:
        try:
            record = convert_record(_parsed(line), kind, validate)
            text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
            if not text.isascii() and any("\ud800" <= sign <= "\udfff" for sign in text):
                raise RecordError("holds half a character (a lone surrogate), which no file can hold")
            rows.append((number, text, True))
        except RecordError as error:
            rows.append((number, str(error), False))
    return rows


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


def _finite(digits: str) -> float:
    number = float(digits)
    return number if isfinite(number) else _no_number(digits)


def _parsed(line: bytes) -> Any:
    if not line.strip():
        raise RecordError("empty, or longer than a record may be")
    try:
        return json.loads(line.decode("utf-8"), parse_constant=_no_number, parse_float=_finite)
    except UnicodeDecodeError:
        raise RecordError("not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not JSON: {str(error)[:200]}") from None
