"""Which weights a run trains, and how they are written: mlx-lm's LoRA layers and files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from plagal.model.base import LanguageModel, load
from plagal.model.checkpoint import sha256_of
from plagal.model.tensors import save_tensors
from plagal.model.words import GrownEmbedding, merge_grown, word_text
from plagal.plumbing.errors import ModelError, TrainingError
from plagal.plumbing.files import read_json, write_json
from plagal.plumbing.params import LoraSettings, TrainSettings
from plagal.tokens.vocabulary import END_MARK, MUSIC_WORDS

ADAPTERS, ADAPTER_CONFIG = "adapters.safetensors", "adapter_config.json"
TRAIN_REPORT = "train.json"
"""Beside a stage's model: what training it saw."""
STAGES = ("base", "stage1", "stage2", "fused")
FUSE_REPORT = "fuse.json"
"""Beside the fused model: what fusing cost."""

_GENERATION = "generation_config.json"
_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", _GENERATION,
    "chat_template.jinja", "vocab.json", "merges.txt",
)  # fmt: skip
_HOMES = {"q_proj": "self_attn", "k_proj": "self_attn", "v_proj": "self_attn", "o_proj": "self_attn",
          "gate_proj": "mlp", "up_proj": "mlp", "down_proj": "mlp"}  # fmt: skip


def make_trainable(lm: LanguageModel, settings: TrainSettings) -> None:
    """Freeze and unfreeze `lm`'s weights. In mode `lora` LoRA layers are laid over them, drawn from MLX's random
    state, unless loaded ones are there already: then those go on."""
    lm.model.freeze()
    if settings.mode == "full":
        if "quantization" in lm.config:
            raise TrainingError(f"{lm.folder} is quantized, so it cannot be trained whole; set train's mode to lora")
        merge_grown(lm.model)
        lm.model.unfreeze()
    else:
        _make_lora_trainable(lm, settings.lora)
    if not tree_flatten(lm.model.trainable_parameters()):
        raise TrainingError(f"{lm.folder}: nothing to train; check train's mode and lora.projections")


def _make_lora_trainable(lm: LanguageModel, lora: LoraSettings) -> None:
    from mlx_lm.tuner.lora import LoRALinear

    config = lora_config(lm, lora)
    if lm.adapters is None:
        add_lora(lm, config)
    elif lm.adapters["num_layers"] != config["num_layers"] or any(
        lm.adapters["lora_parameters"][key] != config["lora_parameters"][key] for key in ("rank", "scale", "keys")
    ):  # dropout may differ
        raise TrainingError(
            f"{lm.folder}: the adapters to go on from have another rank, alpha, layers or projections "
            "than params.yaml; set them alike, or train stage 1 anew"
        )
    for module in lm.model.modules():
        if isinstance(module, GrownEmbedding):
            module.unfreeze(keys=["new_rows"], recurse=False)
        elif isinstance(module, LoRALinear):
            module.unfreeze(keys=["lora_a", "lora_b"], recurse=False)
            module.dropout = nn.Dropout(p=lora.dropout)


def lora_config(lm: LanguageModel, lora: LoraSettings) -> dict[str, Any]:
    """mlx-lm's adapter_config.json for these settings (`scale` is alpha / rank there)."""
    unknown = [name for name in lora.projections if name not in _HOMES]
    if unknown:
        raise TrainingError(f"lora.projections: {unknown[0]!r} is none of {', '.join(_HOMES)}")
    return {
        "fine_tune_type": "lora",
        "num_layers": min(lora.layers, len(lm.model.layers)),
        "lora_parameters": {
            "rank": lora.rank,
            "scale": lora.alpha / lora.rank,
            "dropout": lora.dropout,
            "keys": [f"{_HOMES[name]}.{name}" for name in lora.projections],
        },
    }


def add_lora(lm: LanguageModel, config: dict[str, Any]) -> None:
    from mlx_lm.tuner.utils import linear_to_lora_layers

    linear_to_lora_layers(lm.model, config["num_layers"], config["lora_parameters"])


def remove_lora(lm: LanguageModel) -> None:
    """The layers as they were without adapters."""
    from mlx_lm.tuner.utils import remove_lora_layers

    remove_lora_layers(lm.model)


def write_adapters(lm: LanguageModel, settings: TrainSettings, folder: Path) -> None:
    save_tensors(folder / ADAPTERS, dict(tree_flatten(lm.model.trainable_parameters())))
    config = {"window": settings.max_tokens, "base_sha256": base_sha256(lm.folder), **lora_config(lm, settings.lora)}
    if lm.encoding == "text":
        config["encoding"] = lm.encoding
    write_json(folder / ADAPTER_CONFIG, config)


def write_folder(lm: LanguageModel, weights: dict[str, Any], config: dict[str, Any], folder: Path) -> None:
    """An ordinary MLX model folder: weights, config, and `lm`'s tokenizer, which knows the music words if `lm` does."""
    save_tensors(folder / "model.safetensors", weights, {"format": "mlx"})
    # A base that was not tuned for chat ends at another mark; what comes of it ends at ours, in stock generators too.
    end = lm.words.end_id
    config = {**config, "eos_token_id": end}
    if "quantization_config" in config:  # some readers know this name only
        config["quantization_config"] = config["quantization"]
    write_json(folder / "config.json", config)
    write_tokenizer(lm, folder)
    generation = folder / _GENERATION
    if generation.exists():
        write_json(generation, {**read_json(generation), "eos_token_id": end})


def write_tokenizer(lm: LanguageModel, folder: Path) -> None:
    """`lm`'s tokenizer, ending at our end mark; as it is on disk where it knows the music words there."""
    lm.tokenizer.eos_token = END_MARK
    known = lm.folder / "tokenizer.json"
    if not known.exists() or json.dumps(word_text(MUSIC_WORDS[-1])) not in known.read_text(encoding="utf-8"):
        # The words, the chat template or both are new.
        lm.tokenizer.save_pretrained(str(folder))
        settings = read_json(folder / "tokenizer_config.json")
        # transformers 5 writes a list under a name where 4 wants a dictionary; both read the list under the old name.
        if isinstance(marks := settings.get("extra_special_tokens"), list):
            settings["additional_special_tokens"] = settings.pop("extra_special_tokens", marks)
            write_json(folder / "tokenizer_config.json", settings)
        if (lm.folder / _GENERATION).exists():
            shutil.copyfile(lm.folder / _GENERATION, folder / _GENERATION)
        return
    for name in _TOKENIZER_FILES:
        if (lm.folder / name).exists():
            shutil.copyfile(lm.folder / name, folder / name)


def with_window(config: dict[str, Any], max_tokens: int) -> dict[str, Any]:
    """config.json with the window that a model has learned [tokens]: it writes well no further than that."""
    return {**config, "plagal": {**config.get("plagal", {}), "window": max_tokens}}


def load_adapters(lm: LanguageModel, folder: str | Path) -> dict[str, Any]:
    """Lay trained adapters over `lm`. Returns their config. Raises ModelError where they are damaged or were
    trained on another base."""
    folder = Path(folder)
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        weights: Any = mx.load(str(folder / ADAPTERS))
        config["lora_parameters"]["scale"]
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError, RuntimeError) as error:
        raise ModelError(
            f"{folder} holds no adapters that can be read: {' '.join(str(error).split())[:120]}"
        ) from error
    if config.get("base_sha256") not in (None, base_sha256(lm.folder)):
        raise ModelError(f"{folder}: these adapters were trained on another base than {lm.folder}; train them again")
    if config.get("encoding", "event") != lm.encoding:
        raise ModelError(
            f"{folder}: these adapters are of the encoding {config.get('encoding', 'event')!r}, and {lm.folder} was"
            f" read as {lm.encoding!r}; run the stage train_stage1 again"
        )
    try:
        add_lora(lm, config)
    except Exception as error:  # mlx-lm believes all that the config says
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise ModelError(f"{folder}/{ADAPTER_CONFIG} does not fit {lm.folder} ({reason}); train it again") from error
    lm.adapters = dict(config)
    known = dict(tree_flatten(lm.model.parameters()))
    wrong = [name for name, value in weights.items() if name not in known or known[name].shape != value.shape]
    if wrong:
        raise ModelError(f"{folder}: adapter {wrong[0]} does not fit {lm.folder}; train it again on this base")
    lm.model.load_weights(list(weights.items()), strict=False)
    mx.eval(lm.model.parameters())
    return dict(config)


def base_sha256(folder: Path) -> str:
    """Of a model folder's weights: one hash over its files' hashes, in name order."""
    import hashlib

    sums = [sha256_of(path) for path in sorted(folder.glob("model*.safetensors"))]
    return hashlib.sha256("".join(sums).encode()).hexdigest()


# --- The models of a pipeline, as they stand in its models/ folder ---


def whole_model_under_stage2(folder: Path) -> Path:
    """What stage 2's adapters lie over: stage 1's model, or the base where stage 1 made adapters too."""
    stage1 = folder / "stage1"
    return folder / "base" if (stage1 / ADAPTER_CONFIG).exists() else stage1


def load_stage(folder: Path, name: str) -> LanguageModel:
    """One of STAGES. A stage that was trained as adapters is loaded over the newest whole model before it. Whoever
    loads several lets one go before the next: two may be more than a machine holds."""
    if name == "base":
        return load(folder / "base")
    own = folder / name
    if not (own / ADAPTER_CONFIG).exists():
        return load(own)
    model = load(whole_model_under_stage2(folder) if name == "stage2" else folder / "base")
    load_adapters(model, own)
    return model


def trained_window(folder: Path) -> int:
    """Tokens that a model's training windows held; 512 where its folder does not say."""
    for file, way in ((folder / "config.json", ("plagal", "window")), (folder / ADAPTER_CONFIG, ("window",))):
        if file.exists():
            value: Any = read_json(file)
            for name in way:
                value = value.get(name, {}) if isinstance(value, dict) else {}
            if isinstance(value, int):
                return value
    if not folder.exists():
        raise ModelError(f"{folder} is missing; run the stage that makes it")
    return 512
