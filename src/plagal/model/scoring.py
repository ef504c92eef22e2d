"""How likely a model finds each word of given texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from plagal.model.kernels import cpu_kernels, log_sum_exp
from plagal.model.lanes import on_lanes
from plagal.model.language_model import LanguageModel
from plagal.model.loss import head_logits, hidden_states
from plagal.model.windows import Window, collate, make_windows
from plagal.model.words import split_text

END = "<|im_end|>"
"""Stands for the end mark where a word is asked for."""

Floats = npt.NDArray[np.float32]
Distributions = Callable[[int, int, Floats], None]
"""Called with (text, first target's index in the text's words, log-probabilities [targets, words + 1])."""


@dataclass(frozen=True)
class WordScores:
    """Of one text: for each word from SONG_START on, and the end mark last.

    `log_probs` [words + 1]: nats (at most 0), over all music words and the end mark; `hits`: whether the word was
    the most likely one. Words that no window could hold are NaN and False.
    """

    words: tuple[str, ...]
    log_probs: Floats
    hits: npt.NDArray[np.bool_]


def word_scores(
    lm: LanguageModel,
    texts: Sequence[str],
    *,
    max_tokens: int = 512,
    batch: int = 8,
    distributions: Distributions | None = None,
    progress: bool = False,
) -> list[WordScores]:
    """Score every word of every text (of the stage `convert`), in the windows that training uses.

    `distributions` is called with the log-probabilities of all words at each place: columns in the order of
    MUSIC_WORDS, the end mark last.
    """
    windows = make_windows(lm, texts, max_tokens, "the texts to score")
    found = [_empty(text) for text in texts]
    lm.model.eval()
    order = sorted(range(len(windows)), key=lambda i: (len(windows[i].ids), i))
    groups = [order[i : i + batch] for i in range(0, len(order), batch)]
    with cpu_kernels(lm.model), tqdm(total=len(windows), unit="window", desc="score", disable=not progress) as bar:
        for group, results in zip(groups, _scored(lm, windows, groups), strict=True):
            for i, (log_probs, targets) in zip(group, results, strict=True):
                window, place = windows[i], windows[i].place
                scores, rows = found[window.text], np.arange(len(targets))
                scores.log_probs[place : place + len(targets)] = log_probs[rows, targets]
                scores.hits[place : place + len(targets)] = log_probs.argmax(axis=1) == targets
                if distributions is not None:
                    distributions(window.text, place, log_probs)
            bar.update(len(group))
    return found


def _empty(text: str) -> WordScores:
    words = split_text(text).words
    return WordScores((*words, END), np.full(len(words) + 1, np.nan, np.float32), np.zeros(len(words) + 1, np.bool_))


def _scored(lm: LanguageModel, windows: Sequence[Window], groups: list[list[int]]) -> Iterator[list[Any]]:
    """For each group: for each window, log-probabilities [targets, words + 1] and targets as columns."""
    tokens = lm.word_tokens
    rows = mx.array(tokens.ids)
    column = np.full(int(max(tokens.ids)) + 1, -1, dtype=np.int32)
    column[tokens.ids] = np.arange(len(tokens.ids))
    for group in groups:
        halves = [half for half in (group[0::2], group[1::2]) if half]
        made = on_lanes([partial(_log_probs, lm, [windows[i] for i in half], rows) for half in halves])
        mx.eval(made)
        results = {}
        for half, log_probs in zip(halves, made, strict=True):
            values, start = np.array(log_probs), 0
            for i in half:
                targets = column[windows[i].ids[windows[i].first :]]
                results[i] = (values[start : start + len(targets)], targets)
                start += len(targets)
        yield [results[i] for i in group]


def _no_windows() -> NoReturn:
    raise ValueError("no windows to score")


def _log_probs(lm: LanguageModel, windows: list[Window], rows: Any) -> Any:
    batch = collate(windows, lm.word_tokens.pad_id) or _no_windows()
    hidden = hidden_states(lm.model, mx.array(batch.ids[:, :-1]))
    hidden = hidden.reshape(-1, hidden.shape[-1])[mx.array(batch.positions[: batch.count])]
    logits = head_logits(lm.model, hidden, rows).astype(mx.float32)
    return logits - log_sum_exp(logits)[:, None]
