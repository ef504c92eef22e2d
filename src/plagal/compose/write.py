"""From requests to whole pieces: drafts, many at once, and which of them is handed over.

Each word is drawn from those that the grammar and the request allow. Rows of a batch share passes of the model. What is
forced is not drawn: it enters together with what comes next, in one pass. When a context outgrows the window that the
model was trained with, it is cut at a bar line exactly as training cuts its windows.

Guessing ahead: a small model writes some words, the large one says in one pass what it would have written there. Each
word that comes out is drawn from the large model's own probabilities with the piece's own uniform; a guess only decides
for how many words one pass is enough. So a piece is word for word what it is without guesses, whatever they are. Both
models draw with the same uniform, so that they agree by more than chance. To accept a guess by chance instead
(Leviathan et al. 2023) agrees more often, of two models in 75 of 100 draws, not 66, but each length of guess would then
write another piece.

A piece that was asked for in a key and sounds in another is written again: steering keeps its notes in the key, but on
which degrees it leans is the model's own choice, and an ear may take F major for D minor. So is one that goes beyond
the level it was asked for: which hand has which note shows when all are there. Bars between others are
drafted several times, and the draft is kept behind which the model finds what follows likeliest: reading from left to
right, it does not see the bars behind a gap while it fills it, but it can say afterwards how well they fit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from plagal.asking.request import Request
from plagal.asking.wording import bars_of, prompt_for
from plagal.compose.opening import following_words
from plagal.compose.row import Constraint, OnWord, Row
from plagal.compose.sampling import Floats, Sampler, Scorer, Speller
from plagal.music.harmony import hear_key
from plagal.music.keys import same_key
from plagal.music.levels import beyond
from plagal.tokens.codec import decode
from plagal.tokens.grammar import cut_bars
from plagal.tokens.vocabulary import FIRST_WORD, count_bars, prompt_text, without_counts

_MOST_WORDS = 8
_LEAST_CHANCE = 0.25
"""A guess is as long as all of it will be right so often."""
_AGREEMENT = 0.7
"""Share of guessed words that are right, at first."""
_MEMORY = 0.9
_REST_PASSES = 32
"""Where not even one word is worth a guess, so many passes go by before the next."""


class Guesser:
    """Guesses for rows side by side; how far, each row's own agreement tells."""

    def __init__(self, small: Scorer, rows: int, sampler: Sampler):
        self._reader, self._sampler = small.open(rows, small.spelling.ids[:-1]), sampler
        self._agreement = [_AGREEMENT] * rows
        self._resting = [0] * rows

    def keep(self, rows: Sequence[int]) -> None:
        self._reader.keep(rows)
        self._agreement = [self._agreement[row] for row in rows]
        self._resting = [self._resting[row] for row in rows]

    def guess(self, rows: Sequence[Row], rooms: Sequence[int]) -> list[list[int]]:
        """The columns that each row may go on with, at most as many as it has room for."""
        lengths = [0 if row.done else self._length(place) for place, row in enumerate(rows)]
        forks = [row.fork() if length else None for row, length in zip(rows, lengths, strict=True)]
        for step in range(max(lengths)):
            going = [
                (place, fork, mask) for place, (fork, length) in enumerate(zip(forks, lengths, strict=True))
                if fork is not None and step < length and not fork.done and (mask := fork.likely()).any()
            ]  # fmt: skip
            if not going:
                break
            contexts: list[list[int]] = [[] for _ in rows]
            wanted = [0] * len(rows)
            for place, fork, _ in going:
                contexts[place], wanted[place] = fork.reads_ahead(), 1
            read = self._reader.read(contexts, wanted)
            logits = np.stack([fork.leant(read[place, 0]) for place, fork, _ in going])
            uniforms = np.array([fork.random.random() for _, fork, _ in going], dtype=np.float32)
            drawn = self._sampler.draw(logits, np.stack([mask for _, _, mask in going]), uniforms)
            for (_, fork, _), word in zip(going, drawn, strict=True):
                fork.take_word(int(word))
                fork.take_forced()
        return [
            fork.in_one_bar()[: max(room, 0)] if fork is not None else []
            for fork, room in zip(forks, rooms, strict=True)
        ]

    def learn(self, guesses: Sequence[list[int]], agreed: Sequence[tuple[int, int]]) -> None:
        """How often each row's guess was right, and wrong."""
        for place, (guess, (right, wrong)) in enumerate(zip(guesses, agreed, strict=True)):
            if not guess:
                continue
            for hit in [1.0] * right + [0.0] * wrong:
                self._agreement[place] = _MEMORY * self._agreement[place] + (1 - _MEMORY) * hit

    def _length(self, place: int) -> int:
        """Words worth a guess."""
        agreement = self._agreement[place]
        length = int(math.log(_LEAST_CHANCE) / math.log(min(agreement, 0.99))) if agreement > 0 else 0
        if length == 0:
            self._resting[place] += 1
            if self._resting[place] < _REST_PASSES:
                return 0
            self._resting[place], length = 0, 1
        return min(length, _MOST_WORDS)


def take_drawn(
    rows: Sequence[Row], guesses: Sequence[list[int]], logits: Floats, sampler: Sampler
) -> list[tuple[int, int]]:
    """Draw for each row as long as it agrees with its guess, and once more; what is drawn it takes, and what that
    forces. `logits` [rows, longest guess + 1, columns]. -> draws that agreed with each guess, and that did not."""
    agreed = [(0, 0)] * len(rows)
    going = [(row, place, 0) for place, row in enumerate(rows) if not row.done]
    while going:
        uniforms = np.array([row.random.random() for row, _, _ in going], dtype=np.float32)
        masks = np.stack([row.columns for row, _, _ in going])
        drawn = sampler.draw(np.stack([row.leant(logits[place, at]) for row, place, at in going]), masks, uniforms)
        further = []
        for (row, place, at), column in zip(going, drawn, strict=True):
            row.new = []
            row.take(int(column))
            row.take_forced()
            end, guess = at + len(row.new), guesses[place]
            right, wrong = agreed[place]
            if at < len(guess):
                agreed[place] = (right + 1, wrong) if row.new[0] == guess[at] else (right, wrong + 1)
            if not row.done and row.new == guess[at:end]:
                further.append((row, place, end))
        going = further
    return agreed


BATCH = 64
"""Pieces written at once. More is faster per piece and holds more memory."""
MOST_WORDS = 1200
_COMPACT_SHARE = 0.75
"""Rows still writing, of a batch's, under which the finished ones are dropped from it."""


def draft(
    scorer: Scorer,
    requests: Sequence[Request],
    *,
    max_words: int = MOST_WORDS,
    constraint: Constraint = "asked",
    on_word: OnWord | None = None,
    progress: bool = False,
) -> list[list[str]]:
    """Write one piece for each request, once: its words from SONG_START to SONG_END. Requests share temperature and
    top_p. Same requests, same pieces, whatever else is in the batch.

    `max_words`: new words; a piece that comes near it is closed in good order. Raises WordsError where music that is
    kept breaks the grammar.
    """
    sampler, speller = Sampler(requests[0].temperature, requests[0].top_p), Speller(scorer.spelling)
    rows = [Row(scorer, speller, number, request, max_words, constraint) for number, request in enumerate(requests)]
    with scorer.writing(), tqdm(total=len(rows), unit="piece", desc="write", disable=not progress) as bar:
        for start in range(0, len(rows), BATCH):
            _draft_batch(scorer, rows[start : start + BATCH], sampler, on_word, bar)
    return [row.words for row in rows]


def _draft_batch(scorer: Scorer, rows: list[Row], sampler: Sampler, on_word: OnWord | None, bar: Any) -> None:
    passed_on = dict.fromkeys((row.number for row in rows), 0)

    def pass_on(row: Row) -> None:
        if on_word is not None:
            for word in row.words[passed_on[row.number] :]:
                on_word(row.number, word)
            passed_on[row.number] = len(row.words)

    for row in rows:
        row.take_forced()
        pass_on(row)
    writing = [row for row in rows if not row.done]
    bar.update(len(rows) - len(writing))
    side_by_side = writing
    reader = scorer.open(len(writing), rows[0].speller.ids)
    guesser = Guesser(scorer.ahead, len(writing), sampler) if scorer.ahead is not None else None
    while writing:
        contexts = [row.reads() for row in side_by_side]
        rooms = [row.context.window - len(ids) for row, ids in zip(side_by_side, contexts, strict=True)]
        guesses = guesser.guess(side_by_side, rooms) if guesser is not None else [[] for _ in side_by_side]
        ids = [[*known, *rows[0].speller.ids[guess].tolist()] for known, guess in zip(contexts, guesses, strict=True)]
        wanted = [0 if row.done else 1 + len(guess) for row, guess in zip(side_by_side, guesses, strict=True)]
        agreed = take_drawn(side_by_side, guesses, reader.read(ids, wanted), sampler)
        if guesser is not None:
            guesser.learn(guesses, agreed)
        for row in writing:
            pass_on(row)
        still = [row for row in writing if not row.done]
        bar.update(len(writing) - len(still))
        writing = still
        if 0 < len(writing) < _COMPACT_SHARE * len(side_by_side):
            places = [place for place, row in enumerate(side_by_side) if not row.done]
            reader.keep(places)
            if guesser is not None:
                guesser.keep(places)
            side_by_side = writing


FILLINGS = 8
"""Drafts of a gap. Written together, they take about three times as long as one."""
FOLLOWING_BARS = 2
"""Bars behind a gap that judge its drafts: what comes later says more about itself than about the gap."""
WORDS_A_BAR = 160
"""Room for a dense bar of two hands with chords; a piece closes in good order before it runs out."""
_NEXT_SEED = 1_000_003


def room_for(bars: int) -> int:
    """New words that so many new bars may have: those of the next power of two, so that pieces of about one length can
    be written together."""
    return WORDS_A_BAR * (1 << (bars - 1).bit_length())


def write(
    scorer: Scorer,
    requests: Sequence[Request],
    *,
    max_words: int = MOST_WORDS,
    constraint: Constraint = "asked",
    on_draft: OnWord | None = None,
    on_word: OnWord | None = None,
    progress: bool = False,
) -> list[list[str]]:
    """Write one piece for each request: its words from SONG_START to SONG_END. Same requests, same pieces.

    Requests share temperature, top_p and `tries`, and all of them are refills or none. `on_draft` hears of each word
    as it is drawn, also of drafts that go, and may raise to stop; `on_word` of the words that stay, in order: at once
    where a piece is written once, else when it is whole. `max_words`, `constraint`: as in `draft`.
    """

    def draft_words(row: int, word: str) -> None:
        if on_word is not None and at_once:
            on_word(row, word)
        if on_draft is not None:
            on_draft(row, word)

    at_once = requests[0].refill is None and (requests[0].tries == 1 or constraint != "asked")
    if requests[0].refill is not None:
        pieces = [
            _fill(scorer, request, max_words, lambda _, word, row=row: draft_words(row, word))  # type: ignore[misc]
            for row, request in enumerate(requests)
        ]
    else:
        pieces = draft(
            scorer, requests, max_words=max_words, constraint=constraint, on_word=draft_words, progress=progress
        )
        for number in range(1, 1 if at_once else requests[0].tries):
            again = [row for row, request in enumerate(requests) if not keeps(request, pieces[row])]
            if again:
                others = [_number_of(requests[row], number) for row in again]
                for row, words in zip(
                    again,
                    draft(scorer, others, max_words=max_words,
                          on_word=lambda place, word: draft_words(again[place], word)),  # noqa: B023  # called at once
                    strict=True,
                ):  # fmt: skip
                    pieces[row] = words
    if on_word is not None and not at_once:
        for row, words in enumerate(pieces):
            for word in words:
                on_word(row, word)
    return pieces


def keeps(request: Request, words: Sequence[str]) -> bool:
    """Whether the key that a request asks for is heard in a piece, and its level kept; True where it asks for none.
    What is heard is what a listener or an evaluation would hear: the notes alone."""
    key, score = request.key_in_force, decode(words).score
    if request.level is not None and request.continue_ is None and beyond(score, request.level):
        return False
    return key is None or same_key(hear_key(score), key)


def _fill(scorer: Scorer, request: Request, max_words: int, on_word: OnWord) -> list[str]:
    """The piece with its gap filled as leads best into what follows."""
    after = following_words(request)
    drafts = draft(
        scorer, [_number_of(request, number) for number in range(FILLINGS)], max_words=max_words, on_word=on_word
    )
    best = drafts[int(np.argmax(leads_into(scorer, request, drafts, after)))] if after else drafts[0]
    return [*best[:-1], *after, best[-1]]


def leads_into(scorer: Scorer, request: Request, drafts: Sequence[Sequence[str]], after: Sequence[str]) -> list[float]:
    """How likely the model finds what follows behind each draft: nats a word (at most 0), over the first bars of
    `after`. The text that it reads crosses the join and fills a window at most."""
    opening = prompt_text(prompt_for(request)[0]) + FIRST_WORD
    texts, counts = [], []
    for words in drafts:
        whole = [*words[:-1], *after]  # without SONG_END
        _, bars = cut_bars(count_bars(whole, bars_of(request)) if scorer.spelling.counts else whole)
        join = len(cut_bars(words)[1])
        end = min(join + FOLLOWING_BARS, len(bars))
        sizes = [len(scorer.spelling.encode(bar.words)) for bar in bars[:end]]
        room = scorer.window - len(scorer.encode_text(opening)) - len(bars[join - 1].held) - 1
        first = join - 1
        while first > 0 and sum(sizes[first - 1 :]) <= room:
            first -= 1
        texts.append(" ".join([opening, *bars[first].held, *(word for bar in bars[first:end] for word in bar.words)]))
        counts.append(sum(len(without_counts(bar.words)) for bar in bars[join:end]))
    scores = []
    for log_probs, count in zip(scorer.log_probs(texts), counts, strict=True):
        behind = log_probs[-count - 1 : -1]  # the end mark is last
        scores.append(float(np.nanmean(behind)) if np.isfinite(behind).any() else -np.inf)
    return scores


def _number_of(request: Request, number: int) -> Request:
    """A request's number-th draft; the first, 0, is the request itself."""
    return request.again(request.seed + number * _NEXT_SEED)
