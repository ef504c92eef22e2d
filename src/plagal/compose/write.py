"""From requests to whole pieces: drafts, and which of them is handed over.

A piece that was asked for in a key and sounds in another is written again: steering keeps its notes in the key, but on
which degrees it leans is the model's own choice, and an ear may take F major for D minor. So is one that goes beyond
the level it was asked for: which hand has which note shows when all are there. Bars between others are
drafted several times, and the draft is kept behind which the model finds what follows likeliest: reading from left to
right, it does not see the bars behind a gap while it fills it, but it can say afterwards how well they fit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plagal.asking.request import Request
from plagal.asking.wording import prompt_for
from plagal.compose.decode import MOST_WORDS, draft
from plagal.compose.opening import following_words
from plagal.compose.row import Constraint, OnWord
from plagal.compose.scorer import Scorer
from plagal.music.harmony import hear_key
from plagal.music.keys import same_key
from plagal.music.levels import beyond
from plagal.tokens.bars import cut_bars
from plagal.tokens.codec import decode
from plagal.tokens.template import FIRST_WORD, prompt_text

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
        _, bars = cut_bars([*words[:-1], *after])  # without SONG_END
        join = len(cut_bars(words)[1])
        end = min(join + FOLLOWING_BARS, len(bars))
        sizes = [len(scorer.spelling.encode(bar.words)) for bar in bars[:end]]
        room = scorer.window - len(scorer.encode_text(opening)) - len(bars[join - 1].held) - 1
        first = join - 1
        while first > 0 and sum(sizes[first - 1 :]) <= room:
            first -= 1
        texts.append(" ".join([opening, *bars[first].held, *(word for bar in bars[first:end] for word in bar.words)]))
        counts.append(sum(len(bar.words) for bar in bars[join:end]))
    scores = []
    for log_probs, count in zip(scorer.log_probs(texts), counts, strict=True):
        behind = log_probs[-count - 1 : -1]  # the end mark is last
        scores.append(float(np.nanmean(behind)) if np.isfinite(behind).any() else -np.inf)
    return scores


def _number_of(request: Request, number: int) -> Request:
    """A request's number-th draft; the first, 0, is the request itself."""
    return request.again(request.seed + number * _NEXT_SEED)
