"""Pieces as rows of training text: the plan's converter, and where the rows come from.

`{"prompt", "tokens": [ids], "metadata"}` in; mlx, alpaca or chatml out. Streaming, in parallel, in constant memory; bad
lines are reported with their number and reason. What a model learned from, and under which licences, is counted where
the text is made, and told in model cards.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO, TypedDict

from plagal.plumbing.errors import InputError, RecordError, WordsError
from plagal.plumbing.files import atomic_path, read_json, write_json
from plagal.plumbing.workers import Workers
from plagal.tokens.vocabulary import BAR_WORD, TRAINING_TEMPLATE, count_bars, without_counts

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


def training_row(prompt: str, words: Sequence[str], metadata: dict[str, Any]) -> dict[str, Any]:
    """The same of a piece to learn or to test on: where the prompt names its bars in a word, its words count those that
    are left. Not those of an excerpt, which ends in the middle: what is counted down to comes to an end."""
    if not metadata.get("excerpt") and len(without_counts(asked := prompt.split())) < len(asked):
        words = count_bars(words, words.count(BAR_WORD))
    return text_row(prompt, " ".join(words), metadata)


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


def _finite(digits: str) -> float:
    if not isfinite(number := float(digits)):
        raise ValueError(f"{digits} is not a number")
    return number


def _parsed(line: bytes) -> Any:
    if not line.strip():
        raise RecordError("empty, or longer than a record may be")
    try:
        return json.loads(line.decode("utf-8"), parse_constant=_finite, parse_float=_finite)
    except UnicodeDecodeError:
        raise RecordError("not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not JSON: {str(error)[:200]}") from None


# --- where the rows come from


PROVENANCE = "provenance.json"
"""Beside a stage's text. Only of what is trained on, so that a piece more to test on changes nothing here."""

STAGES = ("stage1", "stage2")

LIMITS = """## Limits

- Synthetic pieces come from a rule-based arranger. What the model knows of gospel piano beyond hymns is mostly from it.
- Coherence is a program's score. Where no ratings stand, nobody has yet listened and said what they think.
- It writes for one piano. It knows no lyrics and no performer's timing.
- Made for teaching and practice. A piece that is close to a known tune may be one.
"""

_CARD = """# Plagal gospel piano

Writes two-handed gospel piano as words (one event a word), from a prompt that names a style, key, tempo, metre, length
or chords. Trained in two stages: general music, then gospel. An ordinary MLX model folder: `mlx_lm.generate` and
`plagal generate` read it as it is. What was measured stands in metrics/model_card.md of the project that made it, and
what fusing cost in fuse.json beside this file.

"""


@dataclass(frozen=True, slots=True)
class Origin:
    """Pieces of one kind: all that a card says of them."""

    genre: str
    synthetic: bool
    licence: str
    commercial: bool
    """Whether the licence allows commercial use, as far as it says."""
    attribution: str

    @staticmethod
    def of(metadata: dict[str, Any]) -> Origin:
        """Of a row of pieces.jsonl."""
        return Origin(**{name: metadata[name] for name in Origin.__slots__})


Origins = dict[Origin, int]
"""Origin -> how many pieces."""


def write_provenance(folder: Path, origins: Counter[Origin]) -> None:
    """Into `folder`/provenance.json, in the order of their fields."""
    rows = [asdict(origin) | {"pieces": origins[origin]} for origin in sorted(origins, key=astuple)]
    write_json(folder / PROVENANCE, rows)


def read_provenance(text: Path) -> dict[str, Origins]:
    """Of both stages' text under `text`. Raises InputError where a file is missing."""
    rows = {stage: read_json(text / stage / PROVENANCE) for stage in STAGES}
    return {stage: {Origin.of(row): int(row["pieces"]) for row in some} for stage, some in rows.items()}


def fused_card(text: Path) -> str:
    """The card that lies in the model's own folder, in Markdown: what it is, data, licences, limits."""
    return _CARD + provenance_tables(read_provenance(text)) + "\n" + LIMITS


def provenance_tables(provenance: dict[str, Origins]) -> str:
    """Markdown: pieces by stage and genre, then the licences with whom to name."""
    lines = ["## Data", "", "| stage | genre | real | synthetic |", "|---|---|---:|---:|"]
    for number, stage in enumerate(STAGES, 1):
        genres: Counter[tuple[str, bool]] = Counter()
        for origin, pieces in provenance[stage].items():
            genres[origin.genre, origin.synthetic] += pieces
        for genre in sorted({genre for genre, _ in genres}):
            counts = f"{genres[genre, False]} | {genres[genre, True]}"
            lines.append(f"| {number} | {genre.replace('_', ' ')} | {counts} |")
    lines += ["", "## Licences of the training pieces", ""]
    lines += ["| licence | commercial use | pieces | by |", "|---|---|---:|---|"]
    found = [(origin, pieces) for origins in provenance.values() for origin, pieces in origins.items()]
    for licence, commercial in sorted({(origin.licence, origin.commercial) for origin, _ in found}):
        under = [row for row in found if (row[0].licence, row[0].commercial) == (licence, commercial)]
        names = sorted({origin.attribution for origin, _ in under})
        cells = (licence, "yes" if commercial else "no", str(sum(pieces for _, pieces in under)), "; ".join(names))
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join([*lines, ""])
