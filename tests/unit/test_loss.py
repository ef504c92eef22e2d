"""The loss: only words are targets, only their rows are built, and kernels agree with MLX's own."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
from model_helpers import pretrained, text_of, texts, tiny_base

from plagal.model import base
from plagal.model.cpu import blas, kernels
from plagal.model.loss import (
    batch_arrays,
    batches_from,
    chunked_loss,
    collate,
    head_logits,
    hidden_states,
    make_loss,
    make_windows,
    plan_epoch,
    takes_all_rows,
)
from plagal.plumbing.errors import TrainingError
from plagal.tokens.grammar import cut_bars
from plagal.tokens.vocabulary import split_text


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> base.LanguageModel:
    return base.load(tiny_base(tmp_path_factory.mktemp("base")))


def test_the_loss_is_that_of_mlx_over_the_words_alone(lm: base.LanguageModel) -> None:
    given = texts(3)
    batch = collate(make_windows(lm, given, 512), lm.words.pad_id)
    assert batch is not None
    expected = 0.0
    for text in given:
        ids = lm.encode_text(text)
        first = len(lm.encode_text(split_text(text).prompt))
        logits = lm.model(mx.array([ids[:-1]]))[0, first - 1 :]
        expected += nn.losses.cross_entropy(logits, mx.array(ids[first:])).sum().item()
    with kernels.cpu_kernels(lm.model):
        assert make_loss(lm)(lm.model, batch_arrays(batch)).item() == pytest.approx(expected, rel=1e-5)


def test_fewer_rows_give_the_loss_over_those_rows(lm: base.LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert takes_all_rows(lm)
    batch = collate(make_windows(lm, texts(2), 512), lm.words.pad_id)
    assert batch is not None
    logits = lm.model(mx.array(batch.ids[:, :-1])).reshape(-1, lm.config["vocab_size"])[
        mx.array(batch.positions[: batch.count])
    ]
    rows = [*lm.words.ids.tolist(), *lm.words.counts]
    logits = logits[:, mx.array(rows)]
    column = {i: n for n, i in enumerate(rows)}
    targets = mx.array([column[int(i)] for i in batch.targets[: batch.count]])
    monkeypatch.setattr("plagal.model.loss._SMALL_VOCABULARY", 0.0)
    loss = make_loss(lm)(lm.model, batch_arrays(batch)).item()
    assert loss == pytest.approx(nn.losses.cross_entropy(logits, targets).sum().item(), rel=1e-5)


def test_kernels_give_the_gradients_of_mlx(lm: base.LanguageModel) -> None:
    batch = collate(make_windows(lm, texts(2), 512), lm.words.pad_id)
    differentiate = nn.value_and_grad(lm.model, make_loss(lm))
    _, stock = differentiate(lm.model, batch_arrays(batch))
    with kernels.cpu_kernels(lm.model):
        _, ours = differentiate(lm.model, batch_arrays(batch))
    for (name, a), (_, b) in zip(nn.utils.tree_flatten(stock), nn.utils.tree_flatten(ours), strict=True):
        scale = float(mx.abs(a).max().item()) + 1e-6
        assert float(mx.abs(a - b).max().item()) <= 2e-4 * scale, name


def test_windows_cover_every_word_once_and_start_at_bar_lines(lm: base.LanguageModel) -> None:
    text = texts(1, bars=20)[0]
    words = list(split_text(text).words)
    windows = make_windows(lm, [text], 90)
    assert len(windows) > 2 and all(len(window.ids) <= 90 for window in windows)
    seen = [i for window in windows for i in window.ids[window.first :]]
    assert lm.words.decode(seen) == words and seen[-1] == lm.words.end_id
    for window in windows[1:]:
        assert lm.words.decode(window.ids[window.first :])[0] == "BAR_START"
        assert lm.words.decode(window.ids[: window.first]) == ["KEY_C", "TIMESIG_4_4", "TEMPO_80"]
        assert words[window.place] == "BAR_START"
    assert sum(window.notes for window in windows) == sum(word.startswith("NOTE_ON") for word in words)


def test_words_without_a_bar_are_all_head() -> None:
    assert cut_bars(["SONG_START", "KEY_C", "NOTE_ON_60"]) == (("SONG_START", "KEY_C", "NOTE_ON_60"), [])


def test_a_later_window_carries_the_key_that_holds_there(lm: base.LanguageModel) -> None:
    bar = ["BAR_START", "BEAT_0", "NOTE_ON_60", "DUR_QUARTER", "VEL_MF"]
    words = ["SONG_START", "KEY_C", *bar * 8, "BAR_START", "BEAT_0", "KEY_Db", *bar[2:], *bar * 30, "SONG_END"]
    last = make_windows(lm, [text_of(words)], 100)[-1]
    assert lm.words.decode(last.ids[: last.first]) == ["KEY_Db"]


def test_a_bar_longer_than_the_window_is_cut_at_a_note(lm: base.LanguageModel) -> None:
    notes = [word for pitch in range(30, 100) for word in (f"NOTE_ON_{pitch}", "DUR_QUARTER", "VEL_MF")]
    windows = make_windows(lm, [text_of(["SONG_START", "BAR_START", "BEAT_0", *notes, "SONG_END"])], 80)
    assert lm.words.decode(windows[0].ids)[-1] == "VEL_MF" and len(windows[0].ids) <= 80


def test_a_prompt_without_room_for_music_is_refused(lm: base.LanguageModel) -> None:
    with pytest.raises(TrainingError, match="max_tokens"):
        make_windows(lm, [text_of(["SONG_START", "BAR_START", "SONG_END"], "x" * 300)], 100)


def test_an_epoch_holds_every_window_once(lm: base.LanguageModel) -> None:
    windows = make_windows(lm, texts(11), 90)
    for epoch in range(3):
        order = [i for batch in plan_epoch(windows, 3, 5, epoch) for i in batch]
        assert sorted(order) == list(range(len(windows)))
    assert plan_epoch(windows, 3, 5, 0) != plan_epoch(windows, 3, 5, 1)
    straight = batches_from(windows, 3, 5, 0)
    first = [next(straight) for _ in range(30)]
    later = batches_from(windows, 3, 5, 17)
    assert [next(later) for _ in range(13)] == first[17:]


@pytest.mark.parametrize(("tied", "bits"), [(True, 4), (False, 4), (True, 0), (False, 0)])
def test_a_loss_in_chunks_is_the_loss_over_the_whole_vocabulary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tied: bool, bits: int
) -> None:
    monkeypatch.setattr("plagal.model.memory._CHUNK_LOGITS", 1)  # so that a chunk is 128 positions
    lm = base.load(pretrained(tmp_path / "base", tied, bits), "text")
    windows = make_windows(lm, texts(4), 400)
    batch = collate(windows, lm.words.pad_id)
    assert batch is not None and len(batch.targets) > 300

    def whole(model: object, arrays: dict[str, object]) -> mx.array:
        hidden = hidden_states(model, arrays["ids"])
        hidden = hidden.reshape(-1, hidden.shape[-1])[arrays["positions"]]
        losses = nn.losses.cross_entropy(head_logits(model, hidden), arrays["targets"])
        return (losses * arrays["weights"]).sum()

    if bits:
        lm.model.freeze()
        lm.model.model.norm.unfreeze()
    expected, stock = nn.value_and_grad(lm.model, whole)(lm.model, batch_arrays(batch))
    loss, ours = nn.value_and_grad(lm.model, make_loss(lm))(lm.model, batch_arrays(batch))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for (name, a), (_, b) in zip(nn.utils.tree_flatten(stock), nn.utils.tree_flatten(ours), strict=True):
        scale = float(mx.abs(a).max().item()) + 1e-6
        assert float(mx.abs(a - b).max().item()) <= 2e-4 * scale, name


def test_a_loss_in_chunks_never_holds_the_whole_logits(tmp_path: Path) -> None:
    from mlx_lm.models import qwen2

    lm = base.load(pretrained(tmp_path / "base", True, 0), "text")
    vocabulary, positions = 32_768, 2048
    config = {**lm.config, "vocab_size": vocabulary}
    model = qwen2.Model(qwen2.ModelArgs.from_dict(config))
    hidden = mx.random.normal((positions, config["hidden_size"]))
    targets, weights = mx.arange(positions), mx.ones(positions)
    differentiate = mx.grad(lambda x: chunked_loss(model, x, targets, weights, 32))
    blas.set_threads(1)
    mx.eval(model.parameters(), hidden)
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(differentiate(hidden))
    assert mx.get_peak_memory() - before < 0.5 * 4 * positions * vocabulary


def test_prompts_and_padding_are_no_targets_in_text(tmp_path: Path) -> None:
    lm = base.load(pretrained(tmp_path / "base", True), "text")
    given = texts(3)
    batch = collate(make_windows(lm, given, 4096), lm.words.pad_id)
    assert batch is not None
    trained = batch.targets[: batch.count].tolist()
    expected = [[*lm.words.encode(split_text(text).words), lm.words.end_id] for text in given]
    assert sorted(trained) == sorted(int(i) for ids in expected for i in ids)
    assert not batch.weights[batch.count :].any()
