"""Pieces that an n-gram writes under the grammar: what counting alone can do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plagal.evaluation.ngram import Bools, NGram
from plagal.music.score import Score
from plagal.tokens import grammar
from plagal.tokens.codec import decode
from plagal.tokens.vocabulary import MUSIC_WORDS

_BAR = MUSIC_WORDS.index("BAR_START")
_END = MUSIC_WORDS.index("SONG_END")


class _Rules:
    """The grammar's state of each piece being written, and when it must end."""

    def __init__(self, pieces: int, bars: int):
        self.states = [grammar.start()] * pieces
        self.read = [0] * pieces
        self.bars = bars

    def allowed(self, piece: int, words: Sequence[str]) -> Bools | None:
        for word in words[self.read[piece] :]:
            self.states[piece] = grammar.advance(self.states[piece], word)
        self.read[piece] = len(words)
        state = self.states[piece]
        if state.done:
            return None
        mask = np.append(grammar.allowed_mask(state), False)
        if state.bars < self.bars:
            mask[_END] = False
        else:
            mask[_BAR] = False
        return mask


def write_with_ngram(model: NGram, heads: Sequence[Sequence[str]], bars: int, max_words: int, seed: int) -> list[Score]:
    """One piece of `bars` bars for each head (words from SONG_START on); one that is not done after `max_words` ends
    where it stands."""
    rules = _Rules(len(heads), bars)
    return [decode(words).score for words in model.sample(heads, rules.allowed, max_words, seed)]


def head_of(words: Sequence[str]) -> list[str]:
    """A piece's words before its first bar."""
    return list(words[: words.index("BAR_START")]) if "BAR_START" in words else list(words[:1])
