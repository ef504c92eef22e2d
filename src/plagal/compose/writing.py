"""One piece while it is being written: what it has, what may come next, what of that is forced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from plagal.compose import masks
from plagal.compose.masks import Mask
from plagal.compose.sampling import Speller, Typed
from plagal.compose.steering import Steering, Wishes
from plagal.model.base import LanguageModel
from plagal.plumbing.errors import WordsError
from plagal.tokens import grammar
from plagal.tokens.bars import BAR_WORD, HELD_PREFIXES, cut_bars, held_words
from plagal.tokens.template import FIRST_WORD, prompt_text
from plagal.tokens.vocabulary import MUSIC_WORDS

OnWord = Callable[[int, str], None]
"""Called with (request, word) as each word is written; may raise to stop."""

_CLOSING_WORDS = 16  # words before the limit at which a piece starts to close: enough to finish a note and a bar
_PLACE = {word: place for place, word in enumerate(MUSIC_WORDS)}
_END, _BAR, _REPEAT_END = _PLACE["SONG_END"], _PLACE[BAR_WORD], _PLACE["REPEAT_END"]
_BAR_ENDS = [_END, _BAR, _REPEAT_END]
_QUICK = np.array([word.startswith(("NOTE_ON", "DUR_", "VEL_")) and not word.endswith("_TIED") for word in MUSIC_WORDS])


@dataclass(frozen=True)
class Request:
    """One piece to write. `head`: words that it begins with after SONG_START (KEY_, TIMESIG_, TEMPO_, even bars of
    music to go on from); `bars`: end after exactly so many, counting those in `head`; `seed`: its own, else drawn
    from the batch's; `wishes`: what it must keep besides."""

    prompt: str
    head: tuple[str, ...] = ()
    bars: int | None = None
    seed: int | None = None
    wishes: Wishes = field(default_factory=Wishes)


class Row:
    """One request's piece. `words`: whole words so far; `waiting`: columns written that the model has not read yet;
    `columns`: those that may come next, once `take_forced` has gone as far as there is no choice."""

    def __init__(
        self,
        lm: LanguageModel,
        speller: Speller,
        number: int,
        request: Request,
        seed: int,
        max_words: int,
        grammatical: bool,
    ):
        self.number, self.request, self.max_words, self.grammatical = number, request, max_words, grammatical
        key = [seed, number] if request.seed is None else [request.seed, 0]
        self.random = np.random.Generator(np.random.Philox(key=key))
        self.speller, self.tokens = speller, lm.word_tokens
        self.prompt = lm.encode_text(prompt_text(request.prompt))
        self.words: list[str] = []
        self.typed: Typed = ()
        self.waiting: list[int] = []
        self.columns: Mask = masks.ALL
        self.state = grammar.start()
        self._steering = Steering(request.wishes, request.bars)
        self._kept = _kept(request.head)
        self._silent = False
        self._first_bar = 0
        for word in (FIRST_WORD, *request.head):
            self._add(word)

    @property
    def done(self) -> bool:
        return self.state.done or (len(self.words) >= self.max_words and not self.grammatical)

    def _columns(self) -> Mask:
        """Columns that may come next."""
        words = self._mask()
        mask = self.speller.columns(words, self.typed)
        place = self.speller.place_of.get(self.typed)
        if place is not None and words[place]:  # it may be a whole word already, as BEAT_1 is before .5
            after = grammar.following_mask(self.state, MUSIC_WORDS[place])
            mask = mask | self.speller.columns(after)
        elif not mask.any():  # the word before was cut short, and steering wants none that begins so
            mask = self.speller.columns(grammar.allowed_mask(self.state), self.typed)
        return mask

    def take(self, column: int) -> None:
        """Write one more column, and the word that it ends."""
        self.waiting.append(column)
        typed = (*self.typed, column)
        if self.typed and not self.speller.beginning(typed).any():
            self._add(MUSIC_WORDS[self.speller.place_of[self.typed]])
            typed = (column,)
        self.typed = typed
        place = self.speller.place_of.get(typed)
        if place is not None and (self.speller.whole or not self._goes_on(place)):
            self.typed = ()
            self._add(MUSIC_WORDS[place])

    def take_forced(self) -> None:
        """Write as long as there is no choice."""
        while not self.done:
            self.columns = self._columns()
            allowed = np.flatnonzero(self.columns)
            if len(allowed) != 1:
                return
            self.take(int(allowed[0]))

    def context(self, window: int) -> list[int]:
        """The tokens to read before what comes next: all, or the prompt and the last bars, at most half the window.
        Once cut, it grows until it fills the window again, whatever other rows do: a piece is the same in any batch."""
        typed = [int(self.speller.ids[column]) for column in self.typed]
        ids = [*self.prompt, *self.tokens.encode(self._from_bar(self._first_bar)), *typed]
        if len(ids) < window:
            return ids
        _, bars = cut_bars(self.words)
        sizes = [len(self.tokens.encode(bar.words)) for bar in bars]
        size, first = 0, len(bars) - 1
        while first > 0 and size + sizes[first - 1] <= window // 2:
            size += sizes[first - 1]
            first -= 1
        self._first_bar = max(first, 0)
        return [*self.prompt, *self.tokens.encode(self._from_bar(first, whole=False)), *typed]

    def _from_bar(self, first: int, whole: bool = True) -> list[str]:
        """What holds at a bar and the words from there; with `whole` all words from the beginning of the piece."""
        if first == 0 and whole:
            return self.words
        head, bars = cut_bars(self.words)
        words = [*(bars[first].held if bars else held_words(head).values())]
        for bar in bars[max(first, 0) :]:
            words += bar.words
        return words

    def _add(self, word: str) -> None:
        try:
            self.state = grammar.advance(self.state, word)
        except WordsError as error:
            if self.grammatical:
                raise error.at(len(self.words)) from None
            self.state = self.state._replace(kind=grammar.SONG_END) if word == "SONG_END" else self.state
        self.words.append(word)
        self._silent = word == BAR_WORD or (self._silent and not word.startswith("NOTE_ON_"))
        if self.grammatical:
            self._steering.add(word, self.state)

    def _goes_on(self, place: int) -> bool:
        """Whether an allowed word's spelling begins with this word's and is longer."""
        longer = self._mask() & self.speller.beginning(self.speller.spellings[place])
        return int(longer.sum()) > int(longer[place])

    def _mask(self) -> Mask:
        """Words that may come next: the grammar's, less those that the request forbids."""
        if not self.grammatical:
            return masks.ALL
        mask = grammar.allowed_mask(self.state)
        bars = self.request.bars
        closing = len(self.words) >= self.max_words - _CLOSING_WORDS
        mask = mask & self._kept
        if self._silent:  # a bar without a note is no music that anybody asked for
            mask[_BAR_ENDS] = False
        if bars is not None and self.state.bars < bars and not closing:
            mask[_END] = False
        elif bars is not None:
            mask[_BAR] = False
        return _close(mask) if closing else self._steering.narrow(mask, self.state)


@cache
def _kept(head: tuple[str, ...]) -> Mask:
    """All words but those that would change a key, metre or tempo that a request's head asks for."""
    asked = tuple(held for held in HELD_PREFIXES if any(word.startswith(held) for word in head))
    return np.array([not word.startswith(asked) for word in MUSIC_WORDS]) if asked else masks.ALL


def _close(mask: Mask) -> Mask:
    """What is left of a mask when a piece must end: its end, or the shortest way there."""
    for place in (_END, _REPEAT_END):
        if mask[place]:
            only = np.zeros_like(mask)
            only[place] = True
            return only
    quick = mask & _QUICK
    return quick if quick.any() else mask
