"""Training texts -> windows of at most `max_tokens` tokens, cut at bar lines, and their order in batches.

A piece's first window is the whole text's beginning. A later one is the prompt, the words that hold at its first bar
(KEY, TIMESIG, TEMPO) and then its bars; prompt and those words are context, not trained on. It has no
SONG_START: that tells a model that a piece is running, not beginning.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from plagal.model.words import LanguageModel, WordTokens
from plagal.plumbing.errors import TrainingError
from plagal.tokens.grammar import BAR_WORD, cut_bars
from plagal.tokens.vocabulary import split_text

log = logging.getLogger(__name__)

Ids = npt.NDArray[np.int32]
_LENGTH_STEP, _TARGETS_STEP = 32, 128  # batches are padded to multiples of these, so that few shapes are compiled
_POOL_BATCHES = 16  # batches whose windows are sorted by length together


@dataclass(frozen=True)
class Window:
    """`ids` [length]; training targets are ids[first:] (each predicted from those before it)."""

    ids: Ids
    first: int
    notes: int
    """Notes that begin among the targets."""
    text: int
    """Index of its text."""
    place: int = 0
    """Index of the first target among its text's words."""


@dataclass(frozen=True)
class Batch:
    """`ids` [rows, longest], padded at the end; `positions` [n]: flat indices into ids[:, :-1] that predict
    `targets` [n];
    `weights` [n]: 1, or 0 where n was padded; `count` of ones."""

    ids: Ids
    positions: Ids
    targets: Ids
    weights: npt.NDArray[np.float32]
    count: int


def make_windows(lm: LanguageModel, texts: Sequence[str], max_tokens: int, source: str = "the data") -> list[Window]:
    """Cut every text. A bar that no window holds is cut at a note; what is lost is logged.

    Raises TrainingError for no text, or for a prompt and header that leave no room for a bar."""
    if not texts:
        raise TrainingError(f"{source} holds no text to train or measure on; run the stage convert again")
    windows: list[Window] = []
    lost = 0
    for index, text in enumerate(texts):
        made, left_out = _windows_of(lm, text, max_tokens, index, source)
        windows += made
        lost += left_out
    if lost:
        log.warning("%s: %d words of bars longer than max_tokens=%d were left out", source, lost, max_tokens)
    return windows


def _windows_of(lm: LanguageModel, text: str, max_tokens: int, index: int, source: str) -> tuple[list[Window], int]:
    tokens = lm.word_tokens
    parts = split_text(text)
    prompt = np.array(lm.encode_text(parts.prompt), dtype=np.int32)
    head, bars = cut_bars(parts.words)
    end = np.array([tokens.end_id] if parts.after else [], dtype=np.int32)
    windows: list[Window] = []
    current = [prompt, tokens.encode(head)]
    size, first, notes, held_bars, lost, place, seen = sum(map(len, current)), len(prompt), 0, 0, 0, 0, len(head)
    if size + len(tokens.spelling_of[BAR_WORD]) > max_tokens:
        raise TrainingError(
            f"{source}: text {index}: prompt and header take {size} of max_tokens={max_tokens}; raise it"
        )
    cut = False
    for number, bar in enumerate(bars):
        ids = tokens.encode(bar.words)
        if number == len(bars) - 1:
            ids = np.concatenate([ids, end])
        if held_bars and (cut or size + len(ids) > max_tokens):
            windows.append(Window(np.concatenate(current), first, notes, index, place))
            context = tokens.encode(bar.held)
            current, size = [prompt, context], len(prompt) + len(context)
            first, notes, held_bars, place = size, 0, 0, seen
        cut = size + len(ids) > max_tokens
        kept = _fit(tokens, bar.words, max_tokens - size) if cut else len(bar.words)
        if cut:
            ids = tokens.encode(bar.words[:kept])
        lost, seen = lost + len(bar.words) - kept, seen + len(bar.words)
        current.append(ids)
        size, held_bars = size + len(ids), held_bars + 1
        notes += sum(word.startswith("NOTE_ON") for word in bar.words[:kept])
    windows.append(Window(np.concatenate(current), first, notes, index, place))
    return windows, lost


def _fit(tokens: WordTokens, words: Sequence[str], room: int) -> int:
    """How many of a bar's words fit into `room` tokens, up to the last note that ends there."""
    sizes = np.cumsum([len(tokens.spelling_of[word]) for word in words])
    kept = max(int(np.searchsorted(sizes, room, side="right")), 1)
    while kept > 1 and not words[kept - 1].startswith("VEL_"):
        kept -= 1
    return kept


def plan_epoch(windows: Sequence[Window], batch: int, seed: int, epoch: int) -> list[list[int]]:
    """Indices of windows, batch by batch: every window once. A function of its arguments alone, so that a place in the
    data is a number. Windows of a batch are of similar length, to pad little."""
    random = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    order = random.permutation(len(windows))
    batches: list[list[int]] = []
    pool = batch * _POOL_BATCHES
    for start in range(0, len(order), pool):
        by_length = sorted(order[start : start + pool].tolist(), key=lambda i: (len(windows[i].ids), i))
        batches += [by_length[i : i + batch] for i in range(0, len(by_length), batch)]
    return [batches[i] for i in random.permutation(len(batches))]


def batches_from(windows: Sequence[Window], batch: int, seed: int, start: int) -> Iterator[list[int]]:
    """Endless batches of indices, epoch after epoch, beginning with number `start`."""
    per_epoch = len(plan_epoch(windows, batch, seed, 0))
    epoch, skipped = divmod(start, per_epoch)
    while True:
        yield from plan_epoch(windows, batch, seed, epoch)[skipped:]
        epoch, skipped = epoch + 1, 0


def collate(windows: Sequence[Window], pad_id: int) -> Batch | None:
    """Windows -> one padded batch; None for no windows."""
    if not windows:
        return None
    longest = -(-(max(len(window.ids) for window in windows) - 1) // _LENGTH_STEP) * _LENGTH_STEP + 1
    ids = np.full((len(windows), longest), pad_id, dtype=np.int32)
    positions, targets = [], []
    for row, window in enumerate(windows):
        ids[row, : len(window.ids)] = window.ids
        positions.append(np.arange(window.first - 1, len(window.ids) - 1) + row * (longest - 1))
        targets.append(window.ids[window.first :])
    found = np.concatenate(positions).astype(np.int32)
    spare = -len(found) % _TARGETS_STEP
    weights = np.pad(np.ones(len(found), dtype=np.float32), (0, spare))
    return Batch(ids, np.pad(found, (0, spare)), np.pad(np.concatenate(targets), (0, spare)), weights, len(found))


def count(windows: Sequence[Window]) -> dict[str, Any]:
    """Windows, tokens trained on, and notes."""
    return {
        "windows": len(windows),
        "targets": sum(len(window.ids) - window.first for window in windows),
        "notes": sum(window.notes for window in windows),
    }
