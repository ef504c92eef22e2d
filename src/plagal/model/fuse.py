"""Adapters merged into plain weights, and proof that the merged model is the one that was trained."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_unflatten

from plagal.errors import ModelError
from plagal.files import atomic_path, write_json
from plagal.model import adapters
from plagal.model.base import LanguageModel, load
from plagal.model.kernels import cpu_kernels
from plagal.model.lanes import Gradients
from plagal.model.loss import make_loss
from plagal.model.trainer import validation_loss
from plagal.model.windows import make_windows

log = logging.getLogger(__name__)

_SAME_NATS = 1e-3  # fp32 sums taken in another order differ by less


@dataclass(frozen=True)
class FuseReport:
    """Mean loss on held-out text [nats per token] of the base, the base with adapters, and the fused model as
    reloaded."""

    base_loss: float
    adapted_loss: float
    fused_loss: float
    lost_share: float
    """Share of what training gained that fusing cost; 0 where nothing was gained."""
    kept_precision: tuple[str, ...]
    """Layers left in higher precision because quantizing them again cost too much."""


def fuse(
    base: str | Path | LanguageModel,
    adapter: str | Path,
    out: str | Path,
    valid_texts: Sequence[str],
    *,
    quantize_bits: int = 0,
    max_lost_share: float = 0.01,
    max_tokens: int = 512,
    batch: int = 4,
) -> FuseReport:
    """Merge `adapter` into `base` and write `out`, an ordinary MLX model folder that stock mlx_lm loads.

    `quantize_bits`: 0 keeps every touched layer in plain weights of the base's precision. The fused model is written
    only when its loss on `valid_texts` says that it is the trained one; else ModelError.
    """
    lm = base if isinstance(base, LanguageModel) else load(base)
    windows = make_windows(lm, valid_texts, max_tokens, "the validation data")
    base_loss = _loss(lm, windows, batch)
    adapter_config = adapters.load_adapters(lm, adapter)
    adapted_loss = _loss(lm, windows, batch)
    merged = merge(lm)
    config, kept = adapters.with_window(lm.config, adapter_config.get("window", max_tokens)), tuple(merged)
    if quantize_bits and "quantization" not in config:
        raise ModelError(f"fuse.quantize_bits={quantize_bits}, but the base is not quantized; set it to 0")
    if "quantization" in config:
        config["quantization"] = {**config["quantization"], **dict.fromkeys(merged, False)}
    fused = LanguageModel(lm.model, lm.tokenizer, lm.words, config, lm.folder, lm.encoding)
    with atomic_path(out) as temporary:
        temporary.mkdir()
        adapters.write_model(fused, temporary)
        reloaded = load(temporary)
        fused_loss = _loss(reloaded, windows, batch)
        gained = base_loss - adapted_loss
        lost = max(fused_loss - adapted_loss, 0.0) / gained if gained > 0 else 0.0
        report = FuseReport(base_loss, adapted_loss, fused_loss, lost, kept if "quantization" in config else ())
        if abs(fused_loss - adapted_loss) > _SAME_NATS and lost > max_lost_share:
            raise ModelError(
                f"{out}: fused, the loss is {fused_loss:.4f} instead of {adapted_loss:.4f}, {lost:.1%} of what training"
                f" gained (fuse.max_lost_share={max_lost_share}); nothing was written"
            )
        write_json(temporary / "fuse.json", asdict(report))
    return report


def merge(lm: LanguageModel) -> list[str]:
    """Replace every LoRA layer in `lm` by a plain one with the merged weight. Returns the layers' names."""
    from mlx_lm.tuner.lora import LoRALinear

    merged: list[tuple[str, Any]] = [
        (name, module.fuse(dequantize=True))
        for name, module in lm.model.named_modules()
        if isinstance(module, LoRALinear)
    ]
    if merged:
        lm.model.update_modules(tree_unflatten(merged))
    mx.eval(lm.model.parameters())
    return sorted(name for name, _ in merged)


def _loss(lm: LanguageModel, windows: Any, batch: int) -> float:
    with cpu_kernels(lm.model):
        return validation_loss(Gradients(lm.model, make_loss(lm), lm.word_tokens.pad_id), lm, windows, batch)[0]
