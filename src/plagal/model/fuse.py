"""Adapters merged into the base's weights, and proof that the merged model is the one that was trained."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from plagal.model import adapters
from plagal.model.adapters import FUSE_REPORT
from plagal.model.base import LanguageModel, find_folder, load, load_tokenizer, read_config, read_weights
from plagal.model.cpu.kernels import cpu_kernels
from plagal.model.cpu.lanes import Gradients
from plagal.model.loss import Window, make_loss, make_windows
from plagal.model.memory import FUSE_TOKENS, FUSE_WINDOWS
from plagal.model.scorer import windows_that_fit
from plagal.model.trainer import validation_loss
from plagal.model.words import EMBEDDING, HEAD, GrownEmbedding, has_words
from plagal.plumbing.errors import ModelError
from plagal.plumbing.files import atomic_path, write_json, write_text

log = logging.getLogger(__name__)

DRAFT = "draft"
"""Folder within the fused one."""
_SAME_NATS = 1e-3  # sums taken in another order differ by less
_PARTS = ("weight", "scales", "biases", "bias")
_LEAST_GROUP = 32  # of what is packed again, in MLX's affine way: a base in nvfp4 has groups of 16


@dataclass(frozen=True)
class FuseReport:
    """Mean loss on held-out text [nats per token] of the base, the base with adapters, and the fused model reloaded."""

    base_loss: float
    adapted_loss: float
    fused_loss: float
    lost_share: float
    """Share of what training gained that fusing cost; 0 where nothing was gained."""
    touched_bits: int
    """Bits of the layers that adapters touched; 0: plain weights."""
    plain_layers: tuple[str, ...]
    """Layers of a quantized base that are plain now."""

    def keeps(self, max_lost_share: float) -> bool:
        return abs(self.fused_loss - self.adapted_loss) <= _SAME_NATS or self.lost_share <= max_lost_share


def fuse(
    base: str | Path, adapter: str | Path, out: str | Path, valid_texts: Sequence[str], *, quantize_bits: int = 0,
    max_lost_share: float = 0.01, max_tokens: int = FUSE_TOKENS, card: str = "", draft: str | Path | None = None,
) -> FuseReport:  # fmt: skip
    """Merge `adapter` into `base` and write `out`, an ordinary MLX model folder that stock mlx_lm loads.

    `quantize_bits`: what the touched layers of a quantized base are packed in again; where that costs more than
    `max_lost_share` of what training gained, 8 bits are tried, then plain weights. 0: plain at once. Layers that no
    adapter touches stay bit for bit. `card`: what its README.md says. `draft`: a small model that goes along and
    guesses ahead while this one writes (plagal.compose.write). Raises ModelError, and writes nothing, where even plain
    weights lose that much.
    """
    lm = load(base)
    windows = make_windows(lm, valid_texts, max_tokens, "the validation data")
    base_loss = loss_on(lm, windows)
    window = int(adapters.load_adapters(lm, adapter).get("window", max_tokens))
    adapted_loss = loss_on(lm, windows)
    attempts = dict.fromkeys((quantize_bits, 8, 0) if quantize_bits and "quantization" in lm.config else (0,))
    with atomic_path(out) as temporary:
        for bits in attempts:
            if lm.model is None:  # the attempt before used it up; two models at once may be more than the machine holds
                lm = load(base)
                adapters.load_adapters(lm, adapter)
            plain = _write_merged(lm, bits, window, temporary)
            loss, gained = loss_on(load(temporary), windows), base_loss - adapted_loss
            lost = max(loss - adapted_loss, 0.0) / gained if gained > 0 else 0.0
            report = FuseReport(base_loss, adapted_loss, loss, lost, bits, plain)
            if report.keeps(max_lost_share):
                break
            log.warning("touched layers in %d bits would lose %.1f %% of the gain", bits, 100 * report.lost_share)
        else:
            raise ModelError(
                f"{out}: fused, the loss is {loss:.4f} instead of {adapted_loss:.4f}, {report.lost_share:.1%} of what"
                f" training gained (fuse.max_lost_share={max_lost_share}); nothing was written"
            )
        write_json(temporary / FUSE_REPORT, asdict(report))
        if card:
            write_text(temporary / "README.md", card)
        if draft is not None:
            _add_draft(find_folder(draft), temporary)
    return report


def _add_draft(draft: Path, folder: Path) -> None:
    """Put the model of `draft` into `folder`, and its place there into config.json."""
    if not has_words(load_tokenizer(draft)):
        raise ModelError(f"{draft}: fuse.draft must have one token for each music word, and this model spells them")
    (folder / DRAFT).mkdir()
    for file in (*draft.glob("model*.safetensors*"), *draft.glob("*.json")):
        shutil.copyfile(file, folder / DRAFT / file.name)
    config = read_config(folder)
    write_json(folder / "config.json", {**config, "plagal": {**config.get("plagal", {}), "draft": DRAFT}})


def _write_merged(lm: LanguageModel, bits: int, window: int, folder: Path) -> tuple[str, ...]:
    """Write the fused model into a folder that is made anew. -> the layers of a quantized base that are plain now.

    Uses `lm`'s model up (it is None then): one dense layer exists at a time, and a layer of the base goes when its
    merged one is there, so that the peak is one model and a layer, not a model, all its dense layers and what is made
    of them (28 GB more for a base of 14 B parameters, where a Mac of 16 GB has 11.5)."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    touched = touched_layers(lm)
    lm.model = None
    weights = read_weights(lm.folder)  # read from disk when they are written
    if "quantization" not in lm.config and lm.config.get("torch_dtype") == "float32":
        # The base may be kept in half precision on disk; it was adapted in fp32, and what is merged stays so.
        weights = {name: value.astype(mx.float32) for name, value in weights.items()}
    config = adapters.with_window(lm.config, window)
    quantization = dict(config.get("quantization", {}))
    plain = []
    for name in list(touched):
        packs = bool(bits and quantization) and not name.endswith((EMBEDDING, HEAD))
        group_size = max(quantization["group_size"], _LEAST_GROUP) if quantization else 0
        merged = merge_layer(touched.pop(name), bits if packs else 0, group_size)
        for part in _PARTS:
            weights.pop(f"{name}.{part}", None)
        if packs:
            quantization[name] = {"group_size": group_size, "bits": bits, "mode": "affine"}
        elif quantization:
            quantization[name] = False
            plain.append(name)
        weights |= {f"{name}.{part}": value for part, value in merged.items()}
    adapters.write_folder(lm, weights, config | ({"quantization": quantization} if quantization else {}), folder)
    return tuple(sorted(plain))


def touched_layers(lm: LanguageModel) -> dict[str, Any]:
    """Name -> module of each layer with an adapter, and of those with the music words' rows."""
    from mlx_lm.tuner.lora import LoRALinear

    modules = lm.model.named_modules()
    touched = {name: module for name, module in modules if isinstance(module, LoRALinear)}
    return touched | {name: module for name, module in modules if isinstance(module, GrownEmbedding)}


def merge_layer(module: Any, bits: int = 0, group_size: int = 0) -> dict[str, Any]:
    """The tensors of a layer with its adapter, or of an embedding or head with the music words' rows; packed in `bits`,
    plain with 0."""
    if isinstance(module, GrownEmbedding):
        merged = {"weight": module.merged()}
    else:
        linear = module.fuse(dequantize=True)
        merged = {"weight": linear.weight} | ({"bias": linear.bias} if "bias" in linear else {})
    if bits:
        packed = mx.quantize(merged["weight"], group_size=group_size, bits=bits)
        merged |= dict(zip(("weight", "scales", "biases"), packed, strict=True))
    mx.eval(merged)
    mx.clear_cache()
    return merged


def loss_on(lm: LanguageModel, windows: Sequence[Window]) -> float:
    """Mean loss [nats per token], of as many windows at once as there is memory for."""
    longest = max(len(window.ids) for window in windows)
    batch = max(windows_that_fit(lm, longest, FUSE_WINDOWS) // 2, 1)  # each lane takes one
    lm.model.freeze()
    with cpu_kernels(lm.model):
        return validation_loss(Gradients(lm.model, make_loss(lm), lm.words.pad_id), lm, windows, batch)[0]
