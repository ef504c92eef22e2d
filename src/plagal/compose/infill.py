"""Bars between bars that stay: several drafts are written, and the one that leads best into what follows is kept.

A model that reads from left to right does not see the bars behind a gap while it fills it; but it can say afterwards
how likely it finds them there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from plagal.compose.decoding import generate, window_of
from plagal.compose.rerank import reseeded
from plagal.compose.writing import OnWord, Request
from plagal.model.base import LanguageModel
from plagal.model.scoring import word_scores
from plagal.tokens.bars import cut_bars
from plagal.tokens.template import FIRST_WORD, prompt_text

DRAFTS = 8
"""Written together, they take about three times as long as one."""
FOLLOWING_BARS = 2
"""So many bars behind the gap are listened to: what comes later says more about itself than about the gap."""


def fill(
    lm: LanguageModel,
    request: Request,
    after: Sequence[str],
    *,
    seed: int = 0,
    on_word: OnWord | None = None,
    **how: Any,
) -> list[str]:
    """Write a piece's bars up to `after`, words of the bars that follow. -> its words as `generate` ends them; the same
    arguments, the same piece. `on_word` is told each draft's number and words."""
    requests = [reseeded(request, number) for number in range(DRAFTS)]
    drafts = generate(lm, requests, seed=seed, on_word=on_word, **how)
    return drafts[int(np.argmax(leads(lm, request.prompt, drafts, after)))]


def leads(lm: LanguageModel, prompt: str, drafts: Sequence[Sequence[str]], after: Sequence[str]) -> list[float]:
    """How likely the model finds what follows behind each draft: nats a word (at most 0), over the first bars of
    `after`."""
    texts, counts = zip(*(_crossing(lm, prompt, draft, after) for draft in drafts), strict=True)
    scores = word_scores(lm, texts, max_tokens=window_of(lm))
    found = []
    for score, count in zip(scores, counts, strict=True):
        log_probs = score.log_probs[-count - 1 : -1]  # the end mark is last
        found.append(float(np.nanmean(log_probs)) if np.isfinite(log_probs).any() else -np.inf)
    return found


def _crossing(lm: LanguageModel, prompt: str, draft: Sequence[str], after: Sequence[str]) -> tuple[str, int]:
    """The bars on both sides of a draft's end as a text that fills a window at most, and how many of its words belong
    to what follows."""
    _, bars = cut_bars([*draft[:-1], *after])  # without SONG_END
    join = len(cut_bars(draft)[1])
    end = min(join + FOLLOWING_BARS, len(bars))
    sizes = [len(lm.word_tokens.encode(bar.words)) for bar in bars[:end]]
    opening = prompt_text(prompt) + FIRST_WORD
    room = window_of(lm) - len(lm.encode_text(opening)) - len(bars[join - 1].held) - 1
    first = join - 1
    while first > 0 and sum(sizes[first - 1 :]) <= room:
        first -= 1
    words = [*bars[first].held, *(word for bar in bars[first:end] for word in bar.words)]
    return " ".join([opening, *words]), sum(len(bar.words) for bar in bars[join:end])
