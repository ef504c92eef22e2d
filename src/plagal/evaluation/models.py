"""The four models of a pipeline, as they stand in its models/ folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plagal.errors import ModelError
from plagal.files import read_json
from plagal.model.adapters import ADAPTER_CONFIG, load_adapters
from plagal.model.base import LanguageModel, load

STAGES = ("untrained", "stage1", "stage2", "fused")


def stage_models(folder: Path, names: tuple[str, ...] = STAGES) -> Iterator[tuple[str, LanguageModel]]:
    """(name, model) one at a time, so that only one is in memory. Raises ModelError where one is missing."""
    for name in names:
        yield name, load_stage(folder, name)


def load_stage(folder: Path, name: str) -> LanguageModel:
    """A stage that was trained as adapters is loaded over what it was trained on: the newest whole model before it."""
    if name == "untrained":
        return load(folder / "base")
    own = folder / name
    if not (own / ADAPTER_CONFIG).exists():
        return load(own)
    before = folder / "stage1"
    whole = name == "stage2" and not (before / ADAPTER_CONFIG).exists() and (before / "config.json").exists()
    model = load(before if whole else folder / "base")
    load_adapters(model, own)
    return model


def window_of(folder: Path, usual: int = 512) -> int:
    """Tokens that a model's training windows held."""
    for file, way in ((folder / "config.json", ("plagal", "window")), (folder / ADAPTER_CONFIG, ("window",))):
        if file.exists():
            value: Any = read_json(file)
            for name in way:
                value = value.get(name, {}) if isinstance(value, dict) else {}
            if isinstance(value, int):
                return value
    if not folder.exists():
        raise ModelError(f"{folder} is missing; run the stage that makes it")
    return usual
