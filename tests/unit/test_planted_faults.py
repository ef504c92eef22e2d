"""Faults planted in a pipeline, each caught by the figure that is there to catch it. (A model that ignores its prompts:
test_control.)"""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from make_coherence import one_bar_repeated
from mlx.utils import tree_flatten
from model_helpers import settings, text_of, texts, tiny_base
from music_helpers import arranged

from plagal.evaluation.coherence import shipped
from plagal.evaluation.features import window
from plagal.evaluation.likelihood import TextPiece, make_scorer, score_model, summarise
from plagal.evaluation.structure import TrainingMusic
from plagal.model import base, trainer
from plagal.model.adapters import load_stage, write_folder

WINDOW = 96


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learned something, and a fused one whose head was scrambled."""
    folder = tmp_path_factory.mktemp("models")
    lm = base.load(tiny_base(folder))
    trainer.train(lm, texts(12), texts(3, 1), settings(steps=40), folder / "run", folder / "stage2", seed=1)
    broken = base.load(folder / "stage2")
    rows = broken.model.model.embed_tokens.weight
    broken.model.model.embed_tokens.weight = mx.take(
        rows, mx.array(np.random.default_rng(0).permutation(len(rows))), axis=0
    )
    (folder / "fused").mkdir()
    write_folder(broken, dict(tree_flatten(broken.model.parameters())), broken.config, folder / "fused")
    return folder


def pieces() -> list[TextPiece]:
    return [TextPiece(text, {"id": str(number), "tune": str(number)}) for number, text in enumerate(texts(3, 2))]


def nats(models: Path, name: str) -> float:
    figures = summarise(score_model(load_stage(models, name), pieces(), make_scorer(), WINDOW), seed=0)
    assert figures is not None
    return figures.nats_per_note


def test_a_head_scrambled_after_fuse_shows_in_nats_per_note(models: Path) -> None:
    assert nats(models, "fused") > 1.5 * nats(models, "stage2")


def test_a_model_that_copies_training_pieces_shows_in_copying() -> None:
    training = [arranged("worship", seed) for seed in range(6)]
    copies = [window(piece, 2, 8) for piece in training]
    others = [window(arranged("worship", seed), 2, 8) for seed in range(40, 46)]
    copied, honest = (TrainingMusic(training).measure(some) for some in (copies, others))
    assert copied is not None
    assert honest is not None
    assert copied.longest_run > 4 * honest.longest_run
    assert (copied.bars_seen or 0) > 0.9 > (honest.bars_seen or 0) + 0.4


def test_a_model_that_repeats_a_bar_shows_in_coherence() -> None:
    rng = np.random.default_rng(0)
    whole = [window(arranged("worship", seed), 0, 8) for seed in range(40, 46)]
    stuck = [one_bar_repeated(piece, rng) for piece in whole]
    honest, caught = shipped().mean_score(whole), shipped().mean_score(stuck)
    assert (caught or 0) < (honest or 0) - 2


def test_likelihoods_agree_with_stock_mlx_lm_on_the_same_tokens(models: Path) -> None:
    from mlx_lm.tuner.trainer import default_loss

    lm = load_stage(models, "stage2")
    piece = TextPiece(texts(1, 5, bars=2)[0], {"id": "one"})
    scored = score_model(lm, [piece], make_scorer(), 512)[0]
    ids = lm.encode_text(piece.text)
    prompt = len(lm.encode_text(piece.text[: piece.text.index("SONG_START")]))
    # Stock loss, over the words that can be meant: ours never builds the other rows.
    outside = np.full(lm.config["vocab_size"], -1e9, dtype=np.float32)
    outside[lm.words.ids] = 0.0
    loss, count = default_loss(
        lambda x: lm.model(x) + mx.array(outside), mx.array([ids]), mx.array([[prompt, len(ids)]])
    )
    assert int(count) == len(piece.words) + 1
    assert sum(scored.nats) / len(ids[prompt:]) == pytest.approx(float(loss), abs=1e-4)


def test_a_bar_too_long_for_the_window_is_charged_as_a_guess(models: Path) -> None:
    bar = ["BAR_START", "BEAT_0"] + [
        word for pitch in range(40, 80) for word in (f"NOTE_ON_{pitch}", "DUR_HALF", "VEL_F")
    ]
    piece = TextPiece(text_of(["SONG_START", *bar, "SONG_END"]), {"id": "one"})
    scored = score_model(load_stage(models, "stage2"), [piece], make_scorer(), WINDOW)[0]
    assert scored.notes == 40
    whole = score_model(load_stage(models, "stage2"), [piece], make_scorer(), 512)[0]
    assert (scored.subwords, scored.choices) == (whole.subwords, whole.choices)
