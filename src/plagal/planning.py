"""`plagal plan`: the memory that training will need, before it starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from plagal.model.memory import GIGA, mac_table, predict
from plagal.plumbing.files import read_json
from plagal.plumbing.params import TrainSettings

_HALF, _FULL = 2, 4


def plan_lines(config: Path, stages: Mapping[str, TrainSettings], encoding: str = "event") -> Iterator[str]:
    """Lines for a terminal. `config`: config.json of a base, or its folder. Raises InputError where there is none.

    Predictions: fitted to measured peaks on the CPU (benchmarks/memory.py); Metal's own scratch memory is not in them.
    """
    shape = read_json(config / "config.json" if config.is_dir() else config)
    activation_bytes = _FULL if shape.get("torch_dtype") == "float32" else _HALF
    yield (
        "Fitted to measured peaks of MLX's CPU backend, whose attention is unfused; for Metal and CUDA a prediction "
        "that leaves out their own scratch memory."
    )
    for name, settings in stages.items():
        need = predict(shape, settings, encoding=encoding, activation_bytes=activation_bytes)
        parts = ("weights", "trained", "activations", "attention", "logits")
        shares = ", ".join(f"{part} {getattr(need, part) / GIGA:.2f}" for part in parts)
        yield f"{name}: {need.total / GIGA:.2f} GB at {settings.batch} x {settings.max_tokens} tokens ({shares})"
        for row in mac_table(shape, settings):
            yield (
                f"  {row['memory_gb']:>3} GB Mac, {row['metal_gb']} GB for Metal: ours {row['ours_tokens']} tokens, "
                f"{row['ours_notes']} notes; stock mlx-lm {row['stock_tokens']} tokens, {row['stock_notes']} notes"
            )
