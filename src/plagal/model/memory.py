"""How much memory a training step needs, from a model's config and the params alone.

Counted: weights as they are packed; trained weights, their gradients and moments; what each layer keeps for its
gradient; attention scores, which MLX's CPU backend builds in training (its Metal backend does not where the mask is
causal and no array, which is what our windows, padded at their ends, ask for); logits.
The counts are multiplied by factors fitted to mx.get_peak_memory() on the CPU (one lane; benchmarks/memory.py holds
them against fresh measurements). That says nothing about Metal's own scratch memory, so there it is a prediction.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from plagal.model.cpu.blas import memory_bytes
from plagal.plumbing.errors import TrainingError
from plagal.plumbing.params import LoraSettings, TrainSettings
from plagal.tokens.vocabulary import MUSIC_WORDS

GIGA = 1e9
MAC_BUDGETS_GB = {16: 11.5, 24: 17.3, 32: 23.0, 64: 48.0}
"""Unified memory [GB] -> what Metal may use for one process, with a little left free [GB]."""
TOKENS_PER_NOTE = {"event": 3.5, "text": 15.3}
_LARGE_SEQUENCE = 1 << 17
_CHUNK_LOGITS = 1 << 22  # built at once over a whole vocabulary: 16 MB
_CHUNK_STEP = 32  # positions
_CHUNKS_AHEAD = 17  # that MLX allots while the first is computed, measured
_CHUNKED_LOGITS = 5.0  # where there are fewer chunks than that
_BESIDE_LAYER = 0.6  # of logits and a layer's temporaries, whichever is less, where no layer is computed again

FUSE_WINDOWS, FUSE_TOKENS = 8, 512
"""What fusing measures its losses in, where memory allows."""
SCORED_WINDOWS, WRITTEN_PIECES = 8, 64
"""What evaluating takes on at once, where memory allows."""
UNPACKED_SHARE = 0.25
"""Of a machine's memory: what the linear layers of a packed base may take unpacked, where a CPU computes."""
_CACHES = 2.0  # of a piece's keys and values: MLX writes a grown cache beside the old one
# Of a layer's hidden and inner width and of its attention scores, where nothing is kept: within a tenth of six models
# from 256 to 1,792 units and 128 to 512 tokens, in two lanes; at 1,024 tokens an eighth too little.
_FORWARD, _FORWARD_INNER, _FORWARD_SCORES = 3.5, 4.9, 2.5
# Of a layer's queries, where the backward pass builds no scores: mlx PR 4563 has 0.7 GiB instead of 12.5 at 8,192
# tokens. Nobody has measured it in this project.
_SCORELESS = 11.0

# Fitted; see the module. Kept activations, kept scores, logits, gradients and update, one layer's temporaries.
_KEPT, _SCORES, _LOGITS, _TRAINED, _LAYER, _LAYER_SCORES = 1.03, 0.47, 2.64, 0.52, 14.1, 3.66


@dataclass(frozen=True)
class Need:
    """[bytes] at the peak of one training step."""

    weights: float
    trained: float
    """Adapters or trained weights, with gradients and both moments."""
    activations: float
    attention: float
    logits: float

    @property
    def total(self) -> float:
        return self.weights + self.trained + self.activations + self.attention + self.logits


@dataclass(frozen=True)
class Model:
    """What counts of a config.json. `kv`: width of keys; `bits`: of packed weights, scales and biases included, or
    32, 16."""

    hidden: int
    layers: int
    heads: int
    kv: int
    intermediate: int
    vocabulary: int
    tied: bool
    bits: float
    group_size: int
    """0 where weights are plain."""
    embedding_bits: float
    """As `bits`, of the embedding."""

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Model:
        heads = config["num_attention_heads"]
        quantization = config.get("quantization")
        plain = 16.0 if "16" in str(config.get("torch_dtype", config.get("dtype", "float32"))) else 32.0
        packed = quantization and quantization.get("model.embed_tokens", quantization)
        # Each group has a scale and a bias of 16 bits.
        bits, embedding_bits = (
            own["bits"] + 32 / own["group_size"] if own else plain for own in (quantization, packed)
        )
        return cls(
            hidden=config["hidden_size"], layers=config["num_hidden_layers"], heads=heads,
            kv=config["hidden_size"] // heads * config.get("num_key_value_heads", heads),
            intermediate=config["intermediate_size"], vocabulary=config["vocab_size"],
            tied=config.get("tie_word_embeddings", True), bits=bits,
            group_size=quantization["group_size"] if quantization else 0, embedding_bits=embedding_bits,
        )  # fmt: skip

    @property
    def quantized(self) -> bool:
        return self.group_size > 0

    @property
    def layer_weights(self) -> int:
        return 2 * self.hidden * (self.hidden + self.kv) + 3 * self.hidden * self.intermediate

    @property
    def weights(self) -> int:
        tables = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return self.layers * self.layer_weights + tables

    @property
    def weight_bytes(self) -> float:
        embedding = self.vocabulary * self.hidden
        return (self.weights - embedding) * self.bits / 8 + embedding * self.embedding_bits / 8

    def lora_weights(self, lora: LoraSettings) -> int:
        d, kv, i = self.hidden, self.kv, self.intermediate
        ends = {"q_proj": 2 * d, "k_proj": d + kv, "v_proj": d + kv, "o_proj": 2 * d}
        ends |= {"gate_proj": d + i, "up_proj": d + i, "down_proj": d + i}
        layers = min(lora.layers, self.layers)
        return layers * lora.rank * sum(ends[name] for name in lora.projections)


def chunk_positions(vocabulary: int) -> int:
    """Positions whose logits over a whole vocabulary are built at once (plagal.model.loss)."""
    return max(_CHUNK_LOGITS // vocabulary // _CHUNK_STEP, 1) * _CHUNK_STEP


def predict(
    config: Mapping[str, Any], settings: TrainSettings, *, encoding: str = "event", plain_loss: bool = False,
    grown: bool = True, activation_bytes: int = 4, scoreless: bool = False, unpacked: bool = False,
) -> Need:  # fmt: skip
    """Peak of one training step. `plain_loss`: logits of the whole vocabulary at every position, as stock mlx-lm builds
    them; `grown`: the music words are new rows, trained beside a pretrained base; `activation_bytes`: 2 in half
    precision; `scoreless`: attention's backward pass builds no scores, as on Metal; `unpacked`: see `_model`."""
    m = _model(config, unpacked)
    lora, s = settings.mode == "lora", activation_bytes
    rank = settings.lora.rank if lora else 0
    rows = new_rows(m, grown and lora, encoding)
    trained = m.lora_weights(settings.lora) + rows if lora else m.weights
    positions = settings.batch * settings.max_tokens
    scores = settings.batch * m.heads * settings.max_tokens**2
    # New rows lie under all layers, so their gradient passes through all of them, adapters or not.
    passed = m.layers if rows or not lora else min(settings.lora.layers, m.layers)
    kept = 1 if settings.gradient_checkpointing else passed
    per_position = 7 * m.hidden + 3 * m.intermediate + 2 * m.kv + 7 * rank
    inputs = passed * positions * m.hidden if settings.gradient_checkpointing else 0
    logits = _LOGITS * positions * (m.vocabulary if plain_loss else len(MUSIC_WORDS) + 1)
    if scoreless:
        attention = s * _SCORELESS * positions * m.hidden + 4.0 * kept * m.heads * positions
    else:
        attention = s * (_SCORES * kept + _LAYER_SCORES) * scores
    layer = s * (_LAYER * positions * (m.hidden + m.intermediate) + (0 if scoreless else _LAYER_SCORES * scores))
    if encoding == "text" and not plain_loss:
        # What logits add to a layer's temporaries: with checkpointing the logits are gone before the first layer is
        # computed again, so the larger of both is the peak; without, most of both are there at once.
        chunked = min(_CHUNKED_LOGITS * positions, _CHUNKS_AHEAD * chunk_positions(m.vocabulary)) * m.vocabulary
        beside = 0.0 if settings.gradient_checkpointing else _BESIDE_LAYER
        logits = max(chunked, layer / 4) + beside * min(chunked, layer / 4) - layer / 4
    frozen = m.weight_bytes if lora else 0
    return Need(
        weights=frozen + rows * 4 if lora else trained * 4.0,
        trained=trained * 4 * (2 + _TRAINED + (1 if lora else 0) + (1 if settings.accumulation > 1 else 0))
        - (rows * 4 if lora else 0),
        activations=s
        * (_KEPT * kept * positions * per_position + inputs + _LAYER * positions * (m.hidden + m.intermediate)),
        attention=attention,
        logits=4 * logits,
    )


def predict_fuse(
    config: Mapping[str, Any], settings: TrainSettings, quantize_bits: int, budget: float, **options: Any
) -> Need:
    """Peak of fusing within `budget` bytes: the base with its adapters, or the fused model, while its loss is measured.
    Merging itself holds one dense layer, less than that. `options` as of `predict`."""
    m, s = _model(config, options.get("unpacked", False)), options.get("activation_bytes", 4)
    rows = new_rows(m, options.get("grown", True), options.get("encoding", "event"))
    adapted = m.weight_bytes + 4.0 * (m.lora_weights(settings.lora) + rows)
    weights = max(fused_bytes(m, settings, quantize_bits, rows), adapted)
    batch = max(windows_at_once(config, FUSE_TOKENS, budget - weights, FUSE_WINDOWS, s), 2)  # one in each lane
    return replace(_forward(m, batch, FUSE_TOKENS, s), weights=weights)


def predict_evaluate(
    config: Mapping[str, Any], settings: TrainSettings, quantize_bits: int, budget: float, **options: Any
) -> Need:
    """Peak of evaluating within `budget` bytes, one model at a time: the fused one while it scores windows, or while it
    writes as many pieces at once as fit. `options` as of `predict`."""
    m, s = _model(config, options.get("unpacked", False)), options.get("activation_bytes", 4)
    rows = new_rows(m, options.get("grown", True), options.get("encoding", "event"))
    weights, tokens = fused_bytes(m, settings, quantize_bits, rows), settings.max_tokens
    scoring = _forward(m, windows_at_once(config, tokens, budget - weights, SCORED_WINDOWS, s), tokens, s)
    pieces = pieces_at_once(config, tokens, budget - weights, WRITTEN_PIECES, s)
    writing = Need(0.0, 0.0, _CACHES * pieces * _cache_bytes(m, tokens, s), 0.0, 0.0)
    return replace(max(scoring, writing, key=lambda need: need.total), weights=weights)


def windows_at_once(config: Mapping[str, Any], tokens: int, free_bytes: float, most: int, activation_bytes: int) -> int:
    """Windows of `tokens` whose forward pass fits into `free_bytes`; one at least, `most` at most. Eight of 512 keep
    two lanes busy; beside the 11 GB of a fused model of 14 B parameters a Mac of 16 GB has room for one or two."""
    each = _forward(Model.of_config(config), 1, tokens, activation_bytes).total
    return int(min(max(free_bytes // each, 1), most))


def pieces_at_once(config: Mapping[str, Any], tokens: int, free_bytes: float, most: int, activation_bytes: int) -> int:
    """Pieces of up to `tokens` whose keys and values fit into `free_bytes`; one at least, `most` at most."""
    each = _CACHES * _cache_bytes(Model.of_config(config), tokens, activation_bytes)
    return int(min(max(free_bytes // each, 1), most))


def _model(config: Mapping[str, Any], unpacked: bool) -> Model:
    """`unpacked`: with its linear layers in fp32, as `base.unpack` makes them where a CPU computes."""
    m = Model.of_config(config)
    return replace(m, bits=32.0) if unpacked else m


def _cache_bytes(m: Model, tokens: int, activation_bytes: int) -> float:
    """Keys and values that one piece of `tokens` leaves in all layers while it is written."""
    return float(2 * m.layers * m.kv * tokens * activation_bytes)


def new_rows(m: Model, grown: bool, encoding: str) -> int:
    """Weights of the music words' rows, where they are new in a pretrained base."""
    return len(MUSIC_WORDS) * m.hidden * (1 if m.tied else 2) if grown and encoding == "event" else 0


def fused_bytes(m: Model, settings: TrainSettings, quantize_bits: int, new_rows: int) -> float:
    """Of the fused model's weights: touched layers in `quantize_bits`, or plain with 0; embedding and head are plain
    once music words have rows in them."""
    plain = 2.0 if m.quantized else 4.0
    packed = quantize_bits + 32 / m.group_size if quantize_bits and m.quantized else 8 * plain
    packed = max(packed, m.bits) if m.bits == 32 else packed  # unpacked again where it is loaded
    touched = min(settings.lora.layers, m.layers) * m.layer_weights if settings.mode == "lora" else 0
    tables = m.vocabulary * m.hidden * (1 if m.tied else 2)
    table_bytes = plain * (tables + new_rows) if new_rows else tables * m.bits / 8
    return touched * packed / 8 + (m.layers * m.layer_weights - touched) * m.bits / 8 + table_bytes


def _forward(m: Model, batch: int, tokens: int, activation_bytes: int) -> Need:
    """A forward pass without gradients, weights left out: one layer's temporaries at a time."""
    positions = batch * tokens
    activations = activation_bytes * positions * (_FORWARD * m.hidden + _FORWARD_INNER * m.intermediate)
    attention = activation_bytes * _FORWARD_SCORES * batch * m.heads * tokens**2
    return Need(0.0, 0.0, activations, attention, logits=4.0 * _LOGITS * positions * (len(MUSIC_WORDS) + 1))


def longest_sequence(config: Mapping[str, Any], settings: TrainSettings, budget_bytes: float, **options: Any) -> int:
    """The largest max_tokens, a multiple of 32, whose training step fits `budget_bytes`; 0 where none does."""

    def fits(length: int) -> bool:
        changed = settings.model_copy(update={"max_tokens": length})
        return predict(config, changed, **options).total <= budget_bytes

    lengths = range(32, _LARGE_SEQUENCE + 1, 32)
    return 32 * bisect_left(lengths, True, key=lambda length: not fits(length))


def mac_table(config: Mapping[str, Any], settings: TrainSettings) -> list[dict[str, Any]]:
    """For each size of Mac: the longest sequence in tokens and in notes, stock (text, whole logits) and ours."""
    rows = []
    for memory, budget in MAC_BUDGETS_GB.items():
        row: dict[str, Any] = {"memory_gb": memory, "metal_gb": budget}
        for name, encoding, plain in (("stock", "text", True), ("ours", "event", False)):
            length = longest_sequence(
                config, settings, budget * GIGA, encoding=encoding, plain_loss=plain, activation_bytes=2, scoreless=True
            )
            row[f"{name}_tokens"], row[f"{name}_notes"] = length, int(length / TOKENS_PER_NOTE[encoding])
        rows.append(row)
    return rows


def check_fits(config: Mapping[str, Any], settings: TrainSettings, budget_bytes: float, **options: Any) -> Need:
    """The step's need. Raises TrainingError, naming the params to change, if it is more than `budget_bytes`."""
    options = {"scoreless": on_metal(), **options}
    need = predict(config, settings, **options)
    if need.total <= budget_bytes:
        return need
    wanted, given = need.total / GIGA, budget_bytes / GIGA
    fitting = longest_sequence(config, settings, budget_bytes, **options)
    if fitting >= 64:
        advice = f"max_tokens={settings.max_tokens} to {fitting}"
    elif not settings.gradient_checkpointing:
        advice = "gradient_checkpointing to true"
    else:
        advice = f"lora.rank={settings.lora.rank} or lora.layers={settings.lora.layers} lower, or take a smaller base"
    raise TrainingError(
        f"this training needs about {wanted:.2g} GB, and {given:.2g} GB are free; set {advice} (see `plagal plan`)"
    )


def unpacks(config: Mapping[str, Any]) -> bool:
    """Whether the linear layers of a packed base are unpacked here (`base.unpack`)."""
    import mlx.core as mx

    m = Model.of_config(config)
    head = 0 if m.tied else m.vocabulary * m.hidden
    plain = 4 * (m.layers * m.layer_weights + head)
    return bool(m.quantized and mx.default_device() == mx.cpu and plain <= UNPACKED_SHARE * memory_bytes())


def budget_bytes() -> float:
    """What one process may use here: Metal's or CUDA's limit, else nine tenths of the machine's memory."""
    import mlx.core as mx

    limit: Any = mx.device_info().get("max_recommended_working_set_size") if mx.default_device() != mx.cpu else None
    return float(limit) if limit else 0.9 * memory_bytes()


def on_metal() -> bool:
    import mlx.core as mx

    return bool(mx.metal.is_available() and mx.default_device() != mx.cpu)


def peak_bytes(start_anew: bool = False) -> int:
    """The most that MLX has held at once since the last call with `start_anew`."""
    import mlx.core as mx

    peak = int(mx.get_peak_memory())
    if start_anew:
        mx.clear_cache()
        mx.reset_peak_memory()
    return peak
