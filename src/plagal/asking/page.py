"""A prompt as a page: readers take out of it what they understand, and what is left is said not to be understood."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any

from plagal.asking import lexicon
from plagal.music.keys import key_name
from plagal.music.score import Key


class Page:
    """A prompt out of which readers take words. `cased` is the text without accents, `plain` the same in lower case;
    both are as long as the text, and what is taken is blanked in both."""

    def __init__(self, text: str) -> None:
        self.text = unicodedata.normalize("NFC", text)
        self.cased = "".join(map(without_accent, self.text))
        self.plain = "".join(char.lower()[0] for char in self.cased)
        self.german = re.search(rf"(?<!\w)(?:{lexicon.GERMAN})(?!\w)", self.plain) is not None
        self.lost: list[str] = []
        self.problems: list[str] = []
        self.typed_tempo = False
        self.modulate: int | None = None

    def take(
        self,
        pattern: str,
        cased: bool = False,
        whole_words: bool = False,
        keep: Callable[[re.Match[str]], bool] | None = None,
    ) -> re.Match[str] | None:
        """The first match that is kept, taken out."""
        if whole_words:
            pattern = rf"(?<![\w]){spaced(pattern)}(?![\w])"
        for match in re.finditer(pattern, self.cased if cased else self.plain):
            if keep is None or keep(match):
                self.blank(*match.span())
                return match
        return None

    def blank(self, start: int, end: int) -> None:
        gap = "\0" * (end - start)
        self.cased = self.cased[:start] + gap + self.cased[end:]
        self.plain = self.plain[:start] + gap + self.plain[end:]

    def refuse(self, pattern: str, cased: bool = False) -> None:
        """Take out what nothing here understands, and say so."""
        while match := self.take(pattern, cased):
            self.lost.append(self.text[slice(*match.span())].strip('"\u201c\u201d\u201e\u00ab\u00bb ,'))

    def one_of(self, name: str, found: list[tuple[Any, tuple[int, int]]]) -> Any:
        """The first of the values found. Another one is a contradiction, unless the text speaks of a change."""
        if not found:
            return None
        first, others = found[0][0], [(value, span) for value, span in found[1:] if value != found[0][0]]
        for value, span in others:
            self.lost.append(self.text[slice(*span)].strip())
            if not re.search(lexicon.CHANGES, self.plain[found[0][1][1] : span[0]]):
                self.problems.append(f"{name} {shown(first)} and {shown(value)}: ask for one of them")
        return first

    def left_over(self) -> tuple[str, ...]:
        """What was refused, and runs of words that nothing took and that are no fillers."""
        for run in re.finditer(r"[^\0,;:.!?()|\[\]\n\"=]+", self.plain):
            every = list(re.finditer(r"[\w&%#'\u2669]+(?:-\w+)*", run[0]))
            words = [
                word for word in every if _has_meaning(word[0]) or self._is_note(run.start() + word.start(), word[0])
            ]
            capitals = [word for word in every if self.cased[run.start() + word.start()].isupper()]
            if len(capitals) > 2 and not {word[0] for word in capitals} <= {"in", "the", "key", "of", "time"}:
                words = sorted({*words, *capitals}, key=lambda word: word.start())  # a title: "Great I Am"
            if words:
                start = run.start()
                self.lost.append(self.text[start + words[0].start() : start + words[-1].end()])
        return tuple(dict.fromkeys(part for part in self.lost if part))

    def _is_note(self, start: int, word: str) -> bool:
        """Whether a word is a capital B to G (an A may be an article)."""
        return len(word) == 1 and self.cased[start] in "BCDEFG"


def without_accent(char: str) -> str:
    if char in "\u266d\u266f":
        return "b" if char == "\u266d" else "#"
    if char in "\u2010\u2011\u2012\u2013\u2014\u2212":
        return "-"
    if char in "\u201c\u201d\u201e\u00ab\u00bb":
        return '"'
    if char in "\u2018\u2019":
        return "'"
    return unicodedata.normalize("NFKD", char)[0]


def spaced(pattern: str) -> str:
    """A pattern of words, a space in it standing for spaces or a hyphen."""
    return "(?:" + pattern.replace(" ", "[ -]+") + ")"


def _has_meaning(word: str) -> bool:
    return any(part not in lexicon.FILLERS for part in re.split(r"['-]", word) if len(part) > 1 or part.isdigit())


def shown(value: Any) -> str:
    if isinstance(value, Key):
        return key_name(value)
    return "/".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"
