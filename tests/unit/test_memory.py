"""The memory plan: grows with what costs memory, refuses what cannot fit, and agrees with a measurement."""

from __future__ import annotations

from pathlib import Path

import pytest
from model_helpers import LORA, settings, texts, tiny_base

from plagal.errors import TrainingError
from plagal.model import base, trainer
from plagal.model.memory import GIGA, MAC_BUDGETS_GB, check_fits, longest_sequence, mac_table, predict

QWEN_14B = {
    "hidden_size": 5120, "num_hidden_layers": 48, "num_attention_heads": 40, "num_key_value_heads": 8,
    "intermediate_size": 13824, "vocab_size": 152064, "tie_word_embeddings": False,
    "quantization": {"bits": 4, "group_size": 64},
}  # fmt: skip


def qwen_settings(**changes: object) -> object:
    lora = LORA.model_copy(update={"rank": 32, "layers": 32, "projections": (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")})  # fmt: skip
    return settings(mode="lora", lora=lora, batch=1, max_tokens=1024, gradient_checkpointing=True, **changes)


def test_14b_weights_and_adapters_are_counted_right() -> None:
    from plagal.model.memory import Model

    model = Model.of_config(QWEN_14B)
    assert model.weights * model.bits / 8 == pytest.approx(8.3e9, rel=0.02)
    assert model.lora_weights(qwen_settings().lora) == pytest.approx(91.8e6, rel=0.01)  # type: ignore[attr-defined]


def test_the_whole_logits_cost_what_the_plan_overlooked() -> None:
    ours = predict(QWEN_14B, qwen_settings(), activation_bytes=2)
    plain = predict(QWEN_14B, qwen_settings(), activation_bytes=2, plain_loss=True, encoding="text")
    assert ours.logits < 0.02 * plain.logits


def test_checkpointing_rank_and_length_move_the_need_the_right_way() -> None:
    need = predict(QWEN_14B, qwen_settings(), activation_bytes=2).total
    without = qwen_settings().model_copy(update={"gradient_checkpointing": False})  # type: ignore[attr-defined]
    longer = qwen_settings().model_copy(update={"max_tokens": 2048})  # type: ignore[attr-defined]
    assert need < predict(QWEN_14B, longer, activation_bytes=2).total
    assert need < predict(QWEN_14B, without, activation_bytes=2).total


def test_the_longest_sequence_is_the_last_that_fits() -> None:
    budget = MAC_BUDGETS_GB[16] * GIGA
    length = longest_sequence(QWEN_14B, qwen_settings(), budget, activation_bytes=2)
    for tokens, fits in ((length, True), (length + 32, False)):
        changed = qwen_settings().model_copy(update={"max_tokens": tokens})  # type: ignore[attr-defined]
        assert (predict(QWEN_14B, changed, activation_bytes=2).total <= budget) == fits


def test_every_mac_holds_more_notes_with_our_loss() -> None:
    table = mac_table(QWEN_14B, qwen_settings())
    assert [row["memory_gb"] for row in table] == [16, 24, 32, 64]
    assert all(row["ours_notes"] > 4 * row["stock_notes"] for row in table)


def test_what_cannot_fit_is_refused_with_the_params_to_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrainingError, match="max_tokens=1024 to"):
        check_fits(QWEN_14B, qwen_settings(), 11.2e9, activation_bytes=2)
    with pytest.raises(TrainingError, match="smaller base"):
        check_fits(QWEN_14B, qwen_settings(), 8e9, activation_bytes=2)
    lm = base.load(tiny_base(tmp_path))
    monkeypatch.setattr("plagal.model.trainer.budget_bytes", lambda: 1e6)
    with pytest.raises(TrainingError, match="plagal plan"):
        trainer.train(lm, texts(2), texts(1), settings(), tmp_path / "a", tmp_path / "out")
    assert not (tmp_path / "a").exists()
