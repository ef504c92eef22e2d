"""The models of a pipeline, as they stand in its models/ folder: base, stage1, stage2, fused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plagal.model.adapters import ADAPTER_CONFIG, load_adapters
from plagal.model.base import (
    BASE_POINTER,
    LanguageModel,
    find_folder,
    load,
    make_embedded,
    read_config,
    with_encoding,
)  # fmt: skip
from plagal.plumbing.errors import ModelError
from plagal.plumbing.files import atomic_path, read_json, write_json
from plagal.plumbing.params import ModelSettings

STAGES = ("untrained", "stage1", "stage2", "fused")
FUSE_REPORT = "fuse.json"
"""Beside the fused model: what fusing cost."""

EMBEDDED, SMOLLM2 = "embedded", "smollm2"


def place_base(settings: ModelSettings, folder: Path, seed: int) -> Path:
    """Make the base that params name under `folder`: the embedded model, SmolLM2 from its package, or for a folder or a
    hub's name a note of where it is, so that gigabytes are not copied. The encoding is named there, too. Raises
    ModelError."""
    if settings.base not in (EMBEDDED, SMOLLM2):
        read_config(find_folder(settings.base))
        note = {"base": settings.base} | ({"encoding": "text"} if settings.encoding == "text" else {})
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            write_json(temporary / BASE_POINTER, note)
        return folder
    if settings.base == EMBEDDED:
        make_embedded(folder, settings.embedded, seed)
    else:
        from plagal.model.gguf import make_from_gguf, smollm2_file

        make_from_gguf(folder, smollm2_file())
    if settings.encoding == "text":
        write_json(folder / "config.json", with_encoding(read_config(folder), settings.encoding))
    return folder


def whole_model_under_stage2(folder: Path) -> Path:
    """What stage 2's adapters lie over: stage 1's model, or the base where stage 1 made adapters too."""
    stage1 = folder / "stage1"
    return folder / "base" if (stage1 / ADAPTER_CONFIG).exists() else stage1


def stage_models(folder: Path, names: tuple[str, ...] = STAGES) -> Iterator[tuple[str, LanguageModel]]:
    """(name, model) one at a time, so that only one is in memory. Raises ModelError where one is missing."""
    for name in names:
        yield name, load_stage(folder, name)


def load_stage(folder: Path, name: str) -> LanguageModel:
    """One of STAGES. A stage that was trained as adapters is loaded over the newest whole model before it."""
    if name == "untrained":
        return load(folder / "base")
    own = folder / name
    if not (own / ADAPTER_CONFIG).exists():
        return load(own)
    model = load(whole_model_under_stage2(folder) if name == "stage2" else folder / "base")
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
