"""Make src/plagal/evaluation/subwords.json: the sub-words of Qwen2.5 that spell each music word.

    python tools/make_subwords.py qwen.tiktoken

The argument is a file of Qwen's byte-pair merges in tiktoken's form (a token in base64 and its rank on each line);
Qwen2.5's own tokenizer shares them. Run this whenever the vocabulary grew.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from itertools import pairwise
from pathlib import Path

from plagal.plumbing.files import write_text
from plagal.tokens.vocabulary import END_MARK, MUSIC_WORDS

OUT = Path(__file__).parents[1] / "src/plagal/evaluation/subwords.json"

_END_ID = 151645
"""<|im_end|> in Qwen2.5."""

_PIECES = re.compile(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\na-zA-Z0-9]?[a-zA-Z]+|[0-9]| ?[^\sa-zA-Z0-9]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Qwen2's pre-tokenizer, for ASCII (all that music words hold)."""


def read_ranks(path: str | Path) -> dict[bytes, int]:
    """Token -> rank, which is its id."""
    lines = Path(path).read_bytes().splitlines()
    return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}


def encode(text: str, ranks: dict[bytes, int]) -> list[int]:
    """Ids of an ASCII text by byte-pair encoding: in each piece the pair of lowest rank is merged first."""
    ids = []
    for piece in _PIECES.findall(text):
        parts = [bytes([byte]) for byte in piece.encode("ascii")]
        while len(parts) > 1:
            pairs = [ranks.get(left + right, len(ranks)) for left, right in pairwise(parts)]
            place = min(range(len(pairs)), key=pairs.__getitem__)
            if pairs[place] == len(ranks):
                break
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        ids += [ranks[part] for part in parts]
    return ids


def main(merges: str) -> None:
    ranks = read_ranks(merges)
    table = {word: encode(word if word == "SONG_START" else f" {word}", ranks) for word in MUSIC_WORDS} | {
        END_MARK: [_END_ID]
    }
    lines = ",\n".join(f"{json.dumps(word)}: {json.dumps(ids, separators=(',', ':'))}" for word, ids in table.items())
    write_text(OUT, f"{{\n{lines}\n}}\n")
    sys.stdout.write(f"{len(table)} words\n")


if __name__ == "__main__":
    main(sys.argv[1])
