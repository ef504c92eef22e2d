"""The memory plan: grows with what costs memory, refuses what cannot fit, and agrees with a measurement."""

from __future__ import annotations

from pathlib import Path

import pytest
from model_helpers import LORA, settings, texts, tiny_base

from plagal.model import base, trainer
from plagal.model.memory import GIGA, MAC_BUDGETS_GB, check_fits, longest_sequence, mac_table, predict
from plagal.plumbing.errors import TrainingError

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


@pytest.mark.parametrize(
    ("hidden", "layers", "heads", "vocabulary", "length", "batch", "rank", "checkpointing", "measured_mb"),
    [
        (256, 6, 4, 20_000, 512, 2, 16, True, 318.3),
        (512, 8, 8, 20_000, 1024, 1, 16, True, 476.1),
        (512, 8, 8, 49_152, 512, 2, 32, True, 493.0),
        (256, 6, 4, 152_064, 512, 1, 16, True, 560.4),
        (256, 6, 4, 49_152, 1024, 1, 16, False, 539.0),
        (256, 6, 4, 8_000, 512, 2, 16, False, 403.2),
    ],
)
def test_the_text_encodings_plan_is_within_a_tenth_of_what_was_measured(
    hidden: int, layers: int, heads: int, vocabulary: int, length: int, batch: int, rank: int, checkpointing: bool,
    measured_mb: float,
) -> None:  # fmt: skip
    """Peaks of benchmarks/memory.py."""
    config = {
        "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": 2,
        "intermediate_size": {256: 704, 512: 1408}[hidden], "vocab_size": vocabulary, "torch_dtype": "float32",
    }  # fmt: skip
    wanted = qwen_settings()
    lora = wanted.lora.model_copy(update={"rank": rank})  # type: ignore[attr-defined]
    changes = {"lora": lora, "max_tokens": length, "batch": batch, "gradient_checkpointing": checkpointing}
    asked = wanted.model_copy(update={**changes, "accumulation": 1})  # type: ignore[attr-defined]
    planned = predict(config, asked, encoding="text", grown=False).total
    assert planned == pytest.approx(measured_mb * 1e6, rel=0.1)


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


def test_training_asks_attention_for_the_causal_mask_that_is_no_array_however_long_its_windows_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only for that does Metal's backward pass build no scores; shorter windows are padded at their ends."""
    from mlx_lm.models import qwen2

    asked, plain = [], qwen2.scaled_dot_product_attention
    monkeypatch.setattr(
        "plagal.model.cpu.kernels._OURS",
        {"scaled_dot_product_attention": lambda *a, **b: (asked.append(b.get("mask")), plain(*a, **b))[1]},
    )
    pieces = [*texts(4, bars=1), *texts(4, 1, bars=4)]
    trainer.train(
        base.load(tiny_base(tmp_path)), pieces, texts(2, 2), settings(steps=2), tmp_path / "a", tmp_path / "out"
    )
    assert asked and set(asked) == {"causal"}


def test_the_profiles_for_a_mac_of_16_gb_fit_it_with_and_without_scores() -> None:
    from plagal.plumbing.params import check_params, with_profile
    from plagal.rehearsal.machine import KNOWN

    root = Path(__file__).parents[2]
    for name in ("qwen14b-16gb", "qwen7b-16gb"):
        params = check_params(with_profile(root / "profiles" / f"{name}.yaml", root / "params.yaml"), name)
        for stage in (params.train_stage1, params.train_stage2):
            for scoreless in (False, True):
                need = predict(KNOWN[params.model.base], stage, activation_bytes=2, scoreless=scoreless)
                assert need.total <= MAC_BUDGETS_GB[16] * GIGA
        if name == "qwen14b-16gb":  # the longest that does
            config, budget = KNOWN[params.model.base], MAC_BUDGETS_GB[16] * GIGA
            assert longest_sequence(config, params.train_stage1, budget, activation_bytes=2) == stage.max_tokens
