"""docs/prompts.md: what is understood of each prompt in its tables, and the table of all words by themselves.

    python tools/write_prompts.py

A prompt's row is yours to add; what stands beside it comes from the reader of prompts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from plagal.asking.lexicon import FEEL_WORDS, LEVEL_WORDS, METRE_WORDS, MOOD_WORDS, STYLES_BY_NAME, TEMPO_WORDS
from plagal.asking.request import read_request
from plagal.music.arranger.form import ENDINGS, INTROS

PAGE = Path(__file__).parents[1] / "docs" / "prompts.md"
BEGIN, END = "<!-- made of the reader's own tables -->\n", "<!-- end -->\n"


def words() -> Iterator[str]:
    """Everything that the reader has a name for, in English."""
    yield from (style.name.replace("_", " ") for style in STYLES_BY_NAME.values() if style.words)
    for table in (TEMPO_WORDS, METRE_WORDS):
        for _, pattern in table:
            yield re.sub(r"\(\?:[^)]*\)\?", "", pattern.split("|")[0]).strip()
    for named in (FEEL_WORDS, MOOD_WORDS, LEVEL_WORDS):
        yield from (name for name, _ in named)
    for part, names in (("intro", INTROS), ("ending", ENDINGS)):
        yield from (f"{name} {part} in C" for name in names if name[0].isalpha())


def understood(prompt: str) -> str:
    return read_request({"prompt": prompt}).summary.removeprefix("understood: ")


def row(prompt: str) -> str:
    cells = (cell.replace("|", "\\|") for cell in (prompt, understood(prompt)))
    return f"| {' | '.join(cells)} |"


def written(page: str) -> str:
    """The page with both filled in."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    lines = []
    for line in before.splitlines():
        prompt = re.match(r"\| (.*?)(?<!\\) \| ", line)
        lines.append(row(prompt[1].replace("\\|", "|")) if prompt and prompt[1] != "prompt" else line)
    table = ["| prompt | understood |", "|---|---|", *dict.fromkeys(row(word) for word in words())]
    return "\n".join(lines) + "\n" + BEGIN + "\n" + "\n".join(table) + "\n\n" + END + after


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
