"""Stage 2's adapter as Hugging Face PEFT keeps it: adapter_model.safetensors and adapter_config.json.

mlx-lm's lora_a is [in, rank] and lora_b [rank, out]; PEFT's lora_A and lora_B are their transposes, scaled by
alpha / rank. The music words' rows go along as whole tables (`modules_to_save`), as PEFT saves a vocabulary that grew.
Format: https://huggingface.co/docs/peft/developer_guides/checkpoint
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from plagal.export.report import GRAMMAR_UNTOLD, Export, ids_to_compare
from plagal.plumbing.errors import ModelError
from plagal.plumbing.files import atomic_path, read_json, write_json

_PREFIX, _A, _B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def to_peft(models: Path, out: Path) -> Export:
    """Write the folder `out` from the adapters of `models`/stage2. Raises ModelError where they are missing or
    damaged."""
    from safetensors.numpy import save_file

    from plagal.model.adapters import load_stage, whole_model_under_stage2, write_tokenizer
    from plagal.model.base import BASE_POINTER
    from plagal.model.exchange import as_floats
    from plagal.model.grow import merged_rows

    lm = load_stage(models, "stage2")
    if lm.adapters is None:
        raise ModelError(f"{models / 'stage2'} holds no adapter; run the stage train_stage2")
    ours, lora = lm.adapters, lm.adapters["lora_parameters"]
    tensors: dict[str, Any] = {}
    for name, module in lm.model.named_modules():
        if "lora_a" in module:
            tensors[f"{_PREFIX}{name}{_A}"] = np.ascontiguousarray(as_floats(module.lora_a).T)
            tensors[f"{_PREFIX}{name}{_B}"] = np.ascontiguousarray(as_floats(module.lora_b).T)
    tables = {name: as_floats(rows) for name, rows in merged_rows(lm.model).items()}
    layers = len(lm.model.layers)
    base = whole_model_under_stage2(models)
    pointer = base / BASE_POINTER
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": read_json(pointer)["base"] if pointer.exists() else str(base),
        "r": lora["rank"],
        "lora_alpha": lora["scale"] * lora["rank"],
        "lora_dropout": lora["dropout"],
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": sorted(key.rpartition(".")[2] for key in lora["keys"]),
        "layers_to_transform": list(range(layers - ours["num_layers"], layers)),
        "layers_pattern": "layers",
        "modules_to_save": sorted(name.rpartition(".")[2] for name in tables) or None,
    }
    with atomic_path(out) as temporary:
        temporary.mkdir()
        save_file(tensors | {f"{_PREFIX}{name}.weight": rows for name, rows in tables.items()},
                  temporary / WEIGHTS, {"format": "pt"})  # fmt: skip
        write_json(temporary / CONFIG, config)
        write_tokenizer(lm, temporary)
        size = sum(file.stat().st_size for file in temporary.iterdir())
        off, scale = _compared(lm, base, temporary)
    untold = [GRAMMAR_UNTOLD, f"the window that was learned, {ours.get('window')} tokens"]
    if tables:
        untold.append(
            f"the base's new size: call resize_token_embeddings({lm.config['vocab_size']}) before you load it"
        )
    if "quantization" in lm.config:
        untold.append("the packed base: PEFT wants it in a format of torch's, on which last digits differ")
    return Export(out, size, off, scale, tuple(untold))


def _compared(lm: Any, base: Path, folder: Path) -> tuple[float, float]:
    """The largest difference of a logit between `lm` and `base` with what `folder` says added to it, and the largest
    logit."""
    from safetensors.numpy import load_file

    from plagal.model.base import load
    from plagal.model.exchange import dense_of, logits_of, put_weights

    tensors, config = load_file(folder / WEIGHTS), read_json(folder / CONFIG)
    other, scale = load(base, "text" if config["modules_to_save"] else None), config["lora_alpha"] / config["r"]
    modules, weights = dict(other.model.named_modules()), {}
    for key, value in tensors.items():
        name = key.removeprefix(_PREFIX)
        if name.endswith(_A):
            name = name.removesuffix(_A)
            weights[name] = dense_of(modules[name]) + scale * (tensors[f"{_PREFIX}{name}{_B}"] @ value)
        elif not name.endswith(_B):
            weights[name.removesuffix(".weight")] = value
    put_weights(other.model, weights)
    ids = ids_to_compare(lm)
    ours, theirs = logits_of(lm.model, ids), logits_of(other.model, ids)
    return float(np.abs(ours - theirs).max()), float(np.abs(ours).max())
