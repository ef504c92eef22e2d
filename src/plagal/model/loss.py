"""What is trained on, and the loss over it: texts -> windows of at most `max_tokens` tokens, cut at bar lines, their
order in batches, and cross-entropy that builds only the logits it needs.

A piece's first window is the whole text's beginning. A later one is the prompt, the words that hold at its first bar
(KEY, TIMESIG, TEMPO) and then its bars; prompt and those words are context, not trained on. It has no
SONG_START: that tells a model that a piece is running, not beginning.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from plagal.model.cpu.kernels import log_sum_exp
from plagal.model.memory import chunk_positions
from plagal.model.words import LanguageModel, WordTokens, rows_of
from plagal.plumbing.errors import TrainingError
from plagal.tokens.grammar import cut_bars
from plagal.tokens.vocabulary import BAR_WORD, split_text, without_counts

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
    """Index of the first target among its text's words, counts of bars left out."""


@dataclass(frozen=True)
class Batch:
    """`ids` [rows, longest], padded at the end; `positions` [n]: flat indices into ids[:, :-1] that predict `targets`
    [n]; `weights` [n]: 1, or 0 where n was padded; `count` of ones."""

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
    tokens = lm.words
    parts = split_text(text)
    prompt = np.array(lm.encode_text(parts.prompt), dtype=np.int32)
    head, bars = cut_bars(parts.words if tokens.counts else without_counts(parts.words))
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
        lost, seen = lost + len(bar.words) - kept, seen + len(without_counts(bar.words))
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


# --- Cross-entropy that builds only the logits it needs ---
#
# Where the music goes on, only a music word or the end mark can be meant, so logits are taken over those rows of the
# head alone: 1,591 instead of Qwen2.5's 152,064. Prompts and padding are no targets, so they get no logits at all. A
# base whose whole vocabulary is little larger than the music words (the embedded one) is trained over all rows: that
# costs a few per cent, and teaches it to give the other rows nothing, so that a stock generator without our grammar
# stays in the music words too.

Array = Any
_SMALL_VOCABULARY = 2.0  # times the music words

Arrays = dict[str, Array]
LossSum = Callable[[Any, Arrays], Array]
"""(model, arrays of a batch) -> summed loss over the batch's targets [nats]."""


def batch_arrays(batch: Batch) -> Arrays:
    """What a loss is given: `ids` [rows, length], `positions`, `targets` and `weights` [n] (see windows.Batch)."""
    return {
        "ids": mx.array(batch.ids[:, :-1]),
        "positions": mx.array(batch.positions),
        "targets": mx.array(batch.targets),
        "weights": mx.array(batch.weights),
    }


def takes_all_rows(lm: LanguageModel) -> bool:
    """Whether the loss runs over the whole vocabulary (see the module)."""
    return lm.encoding == "text" or lm.config["vocab_size"] <= _SMALL_VOCABULARY * len(lm.words.ids)


def hidden_states(model: Any, ids: Array, cache: Any = None) -> Array:
    """Last hidden states [rows, length, hidden] after the final norm."""
    return model.model(ids, cache) if cache is not None else model.model(ids)


def head_logits(model: Any, hidden: Array, rows: Array | None = None) -> Array:
    """Logits [n, rows or vocabulary] of hidden states [n, hidden]; `rows` are token ids."""
    head = model.lm_head if hasattr(model, "lm_head") else model.model.embed_tokens
    if rows is not None:
        return hidden @ rows_of(head, rows).T
    return head(hidden) if hasattr(model, "lm_head") else head.as_linear(hidden)


def make_loss(lm: LanguageModel) -> LossSum:
    """The loss for `lm`'s music words: what the trainer differentiates, and what the validation loss is."""
    tokens, vocabulary = lm.words, int(lm.config["vocab_size"])
    everything = takes_all_rows(lm)
    ids = np.array([*tokens.ids, *tokens.counts])
    rows = None if everything else mx.array(ids)
    place = None
    if not everything:  # token id -> its place among the rows [vocabulary]
        places = np.zeros(vocabulary, dtype=np.int32)
        places[ids] = np.arange(len(ids), dtype=np.int32)
        place = mx.array(places)
    chunk = chunk_positions(vocabulary) if everything and not tokens.whole else 0

    def loss_sum(model: Any, arrays: Arrays) -> Array:
        hidden = hidden_states(model, arrays["ids"])
        hidden = hidden.reshape(-1, hidden.shape[-1])[arrays["positions"]]
        if chunk:
            return chunked_loss(model, hidden, arrays["targets"], arrays["weights"], chunk)
        logits = head_logits(model, hidden, rows)
        targets = arrays["targets"] if place is None else place[arrays["targets"]]
        return _cross_entropy(logits, targets, arrays["weights"])

    return loss_sum


def _cross_entropy(logits: Array, targets: Array, weights: Array) -> Array:
    picked = mx.take_along_axis(logits, targets[:, None], axis=-1).squeeze(-1)
    return ((log_sum_exp(logits) - picked.astype(mx.float32)) * weights).sum()


def chunked_loss(model: Any, hidden: Array, targets: Array, weights: Array, chunk: int) -> Array:
    """Summed cross-entropy over the whole vocabulary; hidden [n, hidden], targets and weights [n]. Logits of `chunk`
    positions are built at once, and again for the gradient; each chunk waits for the one before."""
    head = model.lm_head if hasattr(model, "lm_head") else model.model.embed_tokens
    plain = "scales" not in head  # a packed head is frozen, and no gradient reaches it
    trained = plain and "weight" in head.trainable_parameters()
    parts = [slice(start, start + chunk) for start in range(0, hidden.shape[0], chunk)]

    def one(hidden: Array, rows: Array, part: slice) -> Array:
        logits = hidden @ rows.T if plain else head_logits(model, hidden)
        return _cross_entropy(logits, targets[part], weights[part])

    @mx.custom_function  # type: ignore[untyped-decorator, unused-ignore]
    def total(hidden: Array, rows: Array) -> Array:
        done = mx.array(0.0)
        for part in parts:
            (piece,) = mx.depends([hidden[part]], [done])
            done = done + one(piece, rows, part)
        return done

    @total.vjp  # type: ignore[untyped-decorator, unused-ignore]
    def gradient(primals: tuple[Array, Array], cotangent: Array, _: Array) -> tuple[Array, Array]:
        whole, rows = primals
        of_hidden, of_rows, last = [], mx.zeros_like(rows), [cotangent]
        for part in parts:
            (piece,) = mx.depends([whole[part]], last)
            _, made = mx.vjp(partial(one, part=part), [piece, rows], [cotangent])
            of_hidden.append(made[0])
            of_rows = of_rows + made[1]
            last = [made[0], of_rows] if trained else [made[0]]
        return mx.concatenate(of_hidden), of_rows

    return total(hidden, head.weight if plain else mx.zeros((1,)))
