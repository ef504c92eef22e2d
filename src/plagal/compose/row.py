"""One piece while it is being written: what it has, what may come next, what of that is forced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from functools import cache
from itertools import chain
from typing import Any, Literal

import numpy as np

from plagal.asking.request import Request
from plagal.asking.wording import bars_of, prompt_for
from plagal.compose import masks
from plagal.compose.masks import Mask
from plagal.compose.opening import carried_words, opening_words
from plagal.compose.sampling import Floats, Scorer, Speller, Typed
from plagal.compose.steering import Steering
from plagal.plumbing.errors import WordsError
from plagal.tokens import grammar
from plagal.tokens.grammar import HELD_PREFIXES, cut_bars, held_words
from plagal.tokens.vocabulary import BAR_WORD, FIRST_WORD, MUSIC_WORDS, count_bars, prompt_text

OnWord = Callable[[int, str], None]
"""Called with (request, word) as each word is written; may raise to stop."""

_CLOSING_WORDS = 16
"""Words before the limit at which a piece starts to close: enough to finish a note and a bar."""
_PLACE = masks.PLACE
_QUICK = np.array([word.startswith(("NOTE_ON", "DUR_", "VEL_")) and not word.endswith("_TIED") for word in MUSIC_WORDS])


Constraint = Literal["asked", "grammar", "none"]
"""What holds a model while it writes: all that the request asks for; the grammar alone (pieces are valid, the rest is
left to the prompt); or nothing (for measuring: only music words come out, in any order)."""
_LEAST_WINDOW = 64
PROMPT_SHARE = 4
"""A prompt may take this part of the model's window; of a longer one the model reads what was understood."""


class Context:
    """What a model reads of a piece: the prompt, and the words as far back as its window goes, with the bars that are
    left counted as in training text (where the model has such words)."""

    def __init__(self, scorer: Scorer, request: Request):
        self.window, self._spelling = max(scorer.window, _LEAST_WINDOW), scorer.spelling
        prompt, plain = prompt_for(request)
        self._prompt = scorer.encode_text(prompt_text(prompt))
        if len(self._prompt) > scorer.window // PROMPT_SHARE:
            self._prompt = scorer.encode_text(prompt_text(plain))
        self._ids, self._count = list(self._prompt), 0
        self._left = bars_of(request)
        """Bars from the next bar line on."""

    def read(self, words: Sequence[str], typed: Sequence[int] = ()) -> list[int]:
        """The tokens to read before what comes next: all, or the prompt and the last bars, at most half the window.
        Once cut, it grows until it fills the window again, whatever other rows do: a piece is the same in any batch.
        `words` go on from those of the call before; `typed`: tokens of a word that is being spelled."""
        new = words[self._count :]
        self._ids += self._encode(new, self._left)
        self._left -= new.count(BAR_WORD)
        self._count = len(words)
        if len(self._ids) + len(typed) > self.window:
            self._cut(words, len(typed))
        return [*self._ids, *typed]

    def __deepcopy__(self, _: Any) -> Context:
        other = copy(self)
        other._ids = list(self._ids)
        return other

    def _cut(self, words: Sequence[str], typed: int) -> None:
        head, bars = cut_bars(words)
        read = [self._encode(bar.words, self._left + len(bars) - number) for number, bar in enumerate(bars)]
        sizes = list(map(len, read))
        first = len(bars) - 1
        while first > 0 and sum(sizes[first - 1 : -1]) <= self.window // 2:
            first -= 1
        held = bars[first].held if bars else held_words(head).values()
        ids = [*self._encode([*held], 0), *chain.from_iterable(read[max(first, 0) :])]
        # A bar that fills the window (nothing holds a piece without the grammar back) is cut within: else all of it
        # would be read again for every word.
        if len(self._prompt) + len(ids) + typed >= self.window:
            ids = ids[-(self.window // 2 - typed) :]
        self._ids = [*self._prompt, *ids]

    def _encode(self, words: Sequence[str], left: int) -> list[int]:
        """`left`: bars from the first bar line in `words` on."""
        ids: list[int] = self._spelling.encode(count_bars(words, left) if self._spelling.counts else words).tolist()
        return ids


class Row:
    """One request's piece. `words`: whole words so far; `typed`: columns of one that is being spelled;
    `columns`: those that may come next, once `take_forced` has gone as far as there is no choice; `new`: those written
    since somebody emptied it; `context`: what the model reads."""

    def __init__(self, scorer: Scorer, speller: Speller, number: int, request: Request, max_words: int,
                 constraint: Constraint = "asked"):  # fmt: skip
        """`number`: its place among those written together; `max_words`: new ones, so that a long beginning leaves as
        much room as a short one. Raises WordsError where what is kept breaks the grammar."""
        self.number, self.request = number, request
        self.asked, self.grammatical = constraint == "asked", constraint != "none"
        self.random = np.random.Generator(np.random.Philox(key=[request.seed, 0]))
        self.speller = speller
        self.context = Context(scorer, request)
        self._ahead = Context(scorer.ahead, request) if scorer.ahead is not None else self.context
        self.words: list[str] = []
        self.typed: Typed = ()
        self.new: list[int] = []
        self.columns: Mask = masks.ALL
        self.state = grammar.start()
        opening = opening_words(request) if self.asked else ()
        self.max_words = max_words + len(opening)
        self._steering = Steering(request, self.speller.whole)
        self._last_bar = request.kept_bars + request.new_bars
        self._kept = _kept(tuple(held for held in HELD_PREFIXES if any(word.startswith(held) for word in opening)))
        self._carried = carried_words(request)
        self._owed: list[str] = []
        """What the bar at hand still has to bring: its metre, key and tempo."""
        self._silent = False
        for word in (FIRST_WORD, *opening):
            self._add(word)

    @property
    def done(self) -> bool:
        return self.state.done or (len(self.words) >= self.max_words and not self.grammatical)

    def _columns(self) -> Mask:
        """Columns that may come next."""
        words = self._mask()
        if self.speller.whole:
            return words if words.any() else grammar.allowed_mask(self.state)
        mask = self.speller.columns(words, self.typed)
        place = self.speller.place_of.get(self.typed)
        if place is not None and words[place]:  # it may be a whole word already, as BEAT_1 is before .5
            after = grammar.following_mask(self.state, MUSIC_WORDS[place])
            mask = mask | self.speller.columns(after)
        elif not mask.any():  # the word before was cut short, and steering wants none that begins so
            mask = self.speller.columns(grammar.allowed_mask(self.state), self.typed)
        return mask

    def take(self, column: int) -> None:
        """Write one more column, and the word that it ends; what belongs before that word first."""
        if self.asked and self.speller.whole:  # columns are words
            column = _PLACE[self._steering.played_as(MUSIC_WORDS[column])]
            for word in self._steering.inserted_before(MUSIC_WORDS[column]):
                self.take(_PLACE[word])
        self.new.append(column)
        typed = (*self.typed, column)
        if self.typed and not self.speller.beginning(typed).any():
            self._add(MUSIC_WORDS[self.speller.place_of[self.typed]])
            typed = (column,)
        self.typed = typed
        place = self.speller.place_of.get(typed)
        if place is not None and (self.speller.whole or not self._goes_on(place)):
            self.typed = ()
            self._add(MUSIC_WORDS[place])

    def reads(self) -> list[int]:
        """Tokens that the model has to read before it says what comes next."""
        return self.context.read(self.words, self.speller.ids[list(self.typed)].tolist())

    def reads_ahead(self) -> list[int]:
        """The same for the model that guesses, without what is being spelled."""
        return self._ahead.read(self.words)

    def take_forced(self) -> None:
        """Write as long as there is no choice."""
        while not self.done:
            self.columns = self._columns()
            if np.count_nonzero(self.columns) != 1:
                return
            self.take(int(self.columns.argmax()))

    def leant(self, logits: Floats) -> Floats:
        """Logits [columns] as the style leans where a chord is chosen."""
        if not (self.asked and self.speller.whole):  # columns are words
            return logits
        leaning = self._steering.leaning(self.state)
        return logits if leaning is None else logits + leaning

    def fork(self) -> Row:
        """A copy to write ahead with; the same uniforms will be drawn."""
        shared = (self.request, self.speller, self.columns, self._kept, self._carried)
        fork = deepcopy(self, {id(value): value for value in shared} | {id(self.words): [*self.words]})
        fork.new = []
        return fork

    def in_one_bar(self) -> list[int]:
        """What is new, up to the next bar line where a model reads a count of bars behind it."""
        line = _PLACE[BAR_WORD]
        return self.new[: self.new.index(line)] if self.speller.counting and line in self.new else self.new

    def likely(self) -> Mask:
        """Words that may come next, or that the word that is being spelled may become."""
        return self.columns if self.speller.whole else self._mask() & self.speller.beginning(self.typed)

    def take_word(self, place: int) -> None:
        for column in self.speller.spellings[place][len(self.typed) :]:
            self.take(column)

    def _add(self, word: str) -> None:
        try:
            self.state = grammar.advance(self.state, word)
        except WordsError as error:
            if self.grammatical:
                raise error.at(len(self.words)) from None
            self.state = self.state._replace(kind=grammar.SONG_END) if word == "SONG_END" else self.state
        self.words.append(word)
        self._silent = word == BAR_WORD or (self._silent and not word.startswith("NOTE_ON_"))
        if word == BAR_WORD:
            self._owed = list(self._carried.get(self.state.bars - 1, ()))
        elif self._owed and word == self._owed[0]:
            self._owed.pop(0)
        if self.asked:
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
        closing = len(self.words) >= self.max_words - _CLOSING_WORDS
        if not self.asked:
            return _close(mask) if closing else mask
        if self._owed and mask[_PLACE[self._owed[0]]]:
            return masks.one(self._owed[0])
        mask = mask & self._kept
        if self._silent:  # a bar without a note is not music that anybody asked for
            mask = mask & ~masks.BAR_ENDS
        if self.state.bars >= self._last_bar:
            mask = mask & ~masks.one(BAR_WORD)
        elif not closing:
            mask = mask & ~masks.PIECE_ENDS
        return _close(mask) if closing else self._steering.narrow(mask, self.state)


@cache
def _kept(held: tuple[str, ...]) -> Mask:
    """All words but those that would change a key, metre or tempo (by their prefixes) that the piece begins with."""
    return np.array([not word.startswith(held) for word in MUSIC_WORDS]) if held else masks.ALL


def _close(mask: Mask) -> Mask:
    """What is left of a mask when a piece must end: its end, or the shortest way there."""
    for word in ("SONG_END", "REPEAT_END"):
        if mask[_PLACE[word]]:
            return masks.one(word)
    quick = mask & _QUICK
    return quick if quick.any() else mask
