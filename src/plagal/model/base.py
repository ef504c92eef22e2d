"""Base models: the embedded one that the project makes itself, a folder, or a name on a hub.

All come out as an ordinary MLX model folder, so every later step takes one road.
"""

from __future__ import annotations

import importlib
import json
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from plagal.model.cpu import blas
from plagal.model.cpu.kernels import on_cpu
from plagal.model.memory import UNPACKED_SHARE
from plagal.model.tensors import save_tensors
from plagal.model.words import (
    Encoding,
    LanguageModel,
    WordTokens,
    add_rows,
    find_words,
    grow,
    rows_of,
    word_text,
)
from plagal.plumbing.errors import ModelError
from plagal.plumbing.files import atomic_path, read_json, write_json
from plagal.plumbing.params import EmbeddedShape, ModelSettings
from plagal.tokens.vocabulary import CHAT_TEMPLATE, END_MARK, MUSIC_WORDS, PAD_MARK, PROMPT_WORDS, USER_MARK

__all__ = [
    "BASE_POINTER", "Encoding", "LanguageModel", "find_folder", "load", "load_tokenizer",
    "make_embedded", "named_encoding", "read_config", "read_weights", "total_bytes", "unpack", "with_encoding",
]  # fmt: skip

log = logging.getLogger(__name__)

BASE_POINTER = "base.json"
"""In the place of a base that lies elsewhere: {"base": folder or name on a hub}, and its encoding if that is text."""

EMBEDDED, SMOLLM2 = "embedded", "smollm2"
_MOST_POINTERS = 8
_MOST_LAYERS = 1000

# Words of the prompts that a byte-level tokenizer would spend most positions on; those with a space first.
COMMON_WORDS = (
    " gospel", " traditional", " contemporary", " jazz", " worship", " blues", " classical", " neo", " soul", " Gospel",
    " in", " for", " of", " and", " with", " at", " bars", " BPM", " tempo", " key", " time", " style", " piece",
    " piano", " hymn", " ballad", " slow", " fast", " major", " minor", "user", "assistant", "Generate",
)  # fmt: skip

_QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


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


def make_embedded(folder: str | Path, shape: EmbeddedShape, seed: int) -> Path:
    """Write the embedded base: a Qwen2-shaped model with random weights, fp32, and its own tokenizer.

    The folder is an ordinary MLX (and Hugging Face) model folder. Same shape and seed, same bytes.
    """
    from mlx_lm.models import qwen2

    folder = Path(folder)
    tokenizer = _embedded_tokenizer()
    config: dict[str, Any] = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.layers,
        "intermediate_size": shape.intermediate_size,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": 1e-6,
        "vocab_size": tokenizer.get_vocab_size(),
        "max_position_embeddings": 8192,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        "torch_dtype": "float32",
        "eos_token_id": tokenizer.token_to_id(END_MARK),
        "pad_token_id": tokenizer.token_to_id(PAD_MARK),
    }
    model = qwen2.Model(qwen2.ModelArgs.from_dict(config))
    weights = _random_weights(dict(tree_flatten(model.parameters())), seed, shape.layers)
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        save_tensors(temporary / "model.safetensors", weights, {"format": "mlx"})
        write_json(temporary / "config.json", config)
        _write_tokenizer(temporary, tokenizer)
    return folder


def _random_weights(parameters: dict[str, Any], seed: int, layers: int) -> dict[str, Any]:
    """Normal, deviation 0.02, the projections back into the residual stream smaller by sqrt(2 layers) (GPT-2);
    norms one, biases nought. Each tensor has its own key, so a shape's change in one leaves the others' draws."""
    weights = {}
    key = mx.random.key(seed)
    for number, (name, value) in enumerate(sorted(parameters.items())):
        if name.endswith("bias"):
            weights[name] = mx.zeros(value.shape)
        elif "norm" in name:
            weights[name] = mx.ones(value.shape)
        else:
            last = name.endswith(("o_proj.weight", "down_proj.weight"))
            draw = mx.random.normal(value.shape, key=mx.random.split(key, number + 1)[number])
            weights[name] = draw * (0.02 / ((2 * layers) ** 0.5 if last else 1.0))
    return weights


def _embedded_tokenizer() -> Any:
    """Bytes, common prompt words and, as added tokens, the chat marks and every music word.

    transformers reads any tokenizer of model type qwen2 as Qwen2's: byte-level BPE behind Qwen2's own splitting; what
    stands here must mean the same there. Each prompt word is merged letter by letter from its beginning.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    merges: dict[tuple[str, str], None] = {}
    for word in (word.replace(" ", "Ġ") for word in COMMON_WORDS):
        merges.update(dict.fromkeys((word[:i], word[i]) for i in range(1, len(word))))
    names = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=list(merges)))
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(_QWEN2_SPLIT), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(m, special=True) for m in (PAD_MARK, USER_MARK, END_MARK)])
    tokenizer.add_tokens([AddedToken(word_text(word), normalized=False) for word in MUSIC_WORDS + PROMPT_WORDS])
    return tokenizer


def _write_tokenizer(folder: Path, tokenizer: Any) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": END_MARK,
        "pad_token": PAD_MARK,
        "additional_special_tokens": [USER_MARK],
        "clean_up_tokenization_spaces": False,
        "model_max_length": 8192,
        "chat_template": CHAT_TEMPLATE,
    }
    write_json(folder / "tokenizer_config.json", settings)


def load(path_or_name: str | Path, encoding: Encoding | None = None, lazy: bool = False) -> LanguageModel:
    """Read a base from a folder, or from a hub by name, in the encoding that its folder names (`event` where it names
    none) or in `encoding`. Raises ModelError where it is missing, half written or of a kind that mlx-lm does not
    know."""
    folder = find_folder(path_or_name)
    from mlx_lm.utils import load_model

    config = read_config(folder)
    encoding = encoding or named_encoding(Path(path_or_name), config)
    try:
        model, config = load_model(folder, lazy=lazy)
        if on_cpu():
            unpack(model)
            config = _widened(model, config)
        tokenizer = load_tokenizer(folder)
        words = find_words(tokenizer, str(folder))
    except ModelError:
        raise
    except Exception as error:  # what a damaged folder makes mlx-lm and transformers raise can be anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ModelError(f"{folder} cannot be loaded as a model ({reason}); make or fetch it again") from error
    lm = LanguageModel(model, tokenizer, words, config, folder, "text")
    lm.tokenizer.chat_template = CHAT_TEMPLATE
    if encoding == "event":
        return grow(lm)
    lm.config = with_encoding(config, "text")
    return lm


def load_stock(folder: Path) -> Any:
    """The module that mlx-lm itself makes of a folder."""
    from mlx_lm.utils import load_model

    return load_model(folder)[0]


def with_encoding(config: dict[str, Any], encoding: Encoding) -> dict[str, Any]:
    """config.json of a model in `encoding`; it names `text` alone."""
    return config if encoding == "event" else {**config, "plagal": {**config.get("plagal", {}), "encoding": encoding}}


def named_encoding(folder: Path, config: dict[str, Any]) -> Encoding:
    """What a folder's note or config.json names, else `event`."""
    note = _note(folder) if (folder / BASE_POINTER).is_file() else config.get("plagal", {})
    return "text" if note.get("encoding") == "text" else "event"


def unpack(model: Any) -> None:
    """Replace quantized linear layers by plain fp32 ones of the same values, if they fit into a quarter of memory:
    MLX's CPU backend multiplies packed weights thirty times slower than plain ones."""
    packed = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.QuantizedLinear)]
    size = sum(module.weight.size * 32 // module.bits * 4 for _, module in packed)
    if not packed or size > UNPACKED_SHARE * blas.memory_bytes():
        return
    plain = []
    for name, module in packed:
        layer = nn.Linear(1, 1, bias=False)
        layer.weight = rows_of(module, slice(None))
        if "bias" in module:
            layer.bias = module.bias
        plain.append((name, layer))
    model.update_modules(tree_unflatten(plain))
    mx.eval(model.parameters())


def _widened(model: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Half precision is for the disk where there is no GPU: MLX's CPU backend multiplies it many times slower than
    fp32. Weights that would then take a quarter of memory stay as they are. -> config.json of what is in memory."""
    sizes = [value.size for _, value in tree_flatten(model.parameters()) if value.dtype in (mx.float16, mx.bfloat16)]
    if not sizes or "quantization" in config or sum(sizes) * 4 > 0.25 * blas.memory_bytes():
        return config
    model.set_dtype(mx.float32)
    return {**config, "torch_dtype": "float32"}


def read_weights(folder: Path) -> dict[str, Any]:
    """All tensors of a model folder, as they are on disk (packed ones stay packed), read when they are used."""
    weights: dict[str, Any] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        loaded: Any = mx.load(str(path))
        weights.update(loaded)
    return weights


def write_half(folder: Path, out: Path) -> int:
    """Write the model of `folder`, trained in fp32, to the new folder `out` in half precision. -> its parameters."""
    weights = {name: value.astype(mx.float16) for name, value in read_weights(folder).items()}
    out.mkdir()
    save_tensors(out / "model.safetensors", weights, {"format": "mlx"})
    write_json(out / "config.json", read_config(folder) | {"torch_dtype": "float16"})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(folder / name, out / name)
    return sum(int(value.size) for value in weights.values())


def find_folder(path_or_name: str | Path) -> Path:
    """The folder of a model. A text such as "owner/model" that is not a folder is fetched from the hub, a Path never:
    who asks for `models/fused` from another folder wants no stranger's model of that name."""
    folder = Path(path_or_name)
    for _ in range(_MOST_POINTERS):
        if (folder / BASE_POINTER).is_file():
            path_or_name = _note(folder)["base"]
            folder = Path(path_or_name)
    if (folder / BASE_POINTER).is_file():
        raise ModelError(f"{folder}/{BASE_POINTER} leads round in a circle; name the base's own folder there")
    if folder.is_dir():
        return folder
    if isinstance(path_or_name, Path):
        raise ModelError(f"{folder}: no such model folder; `make repro` makes models/fused, `--model` names another")
    name = str(path_or_name)
    if name.startswith((".", "/", "~")) or name.count("/") != 1 or folder.parent.is_dir():
        raise ModelError(
            f"{name}: no such model folder; check model.base in params.yaml, or run the stage that makes it"
        )
    from mlx_lm.utils import _download

    try:
        return Path(_download(name))
    except Exception as error:  # the hub's client raises many kinds, and each means the same here
        reason = " ".join(str(error).split())[:160]
        raise ModelError(f"model.base {name!r} is not a folder, and the hub did not give it: {reason}") from error


def _note(folder: Path) -> dict[str, str]:
    """What stands in the place of a base that lies elsewhere."""
    note = read_json(folder / BASE_POINTER)
    if not isinstance(note, dict) or not isinstance(note.get("base"), str):
        raise ModelError(f'{folder}/{BASE_POINTER} names no base; write it as in {{"base": "models/mine"}}')
    return note


def read_config(folder: Path) -> dict[str, Any]:
    """config.json, with a look at whether weights are there. Raises ModelError."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{folder}: config.json is missing, so this is not a model folder") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{folder}/config.json is not JSON: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise ModelError(f"{folder}/config.json names no model_type")
    if not isinstance(config.get("plagal", {}), dict):
        raise ModelError(
            f"{folder}/config.json: plagal is {config['plagal']!r}, and must be a table of names and values"
        )
    layers = config.get("num_hidden_layers", 0)
    if not isinstance(layers, int) or not 0 <= layers <= _MOST_LAYERS:  # each takes time and memory before any weight
        raise ModelError(f"{folder}/config.json: num_hidden_layers is {layers!r}, no number up to {_MOST_LAYERS}")
    if not any(folder.glob("model*.safetensors")):
        raise ModelError(f"{folder} holds no weights (model*.safetensors); fetch or make the base again")
    return config


def load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    # Left out, it asks on the terminal whether to run what the folder holds.
    return AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)


def total_bytes(tensors: Iterable[Any]) -> int:
    return sum(int(tensor.nbytes) for tensor in tensors)


# --- A base of a given shape with random weights, in memory alone: what a rehearsal trains without the real one ---
#
# It takes the room and the time of the real one: packed where that is packed, in the precision that it has on this
# device, grown by the music words. What it writes is noise.

_TOKENIZER = EmbeddedShape(hidden_size=8, layers=1, heads=1, kv_heads=1, intermediate_size=8)
"""The least model of our own: its tokenizer is what is wanted."""


def make_random(config: dict[str, Any], folder: Path, encoding: Encoding = "event", seed: int = 0) -> LanguageModel:
    """A base as `config` (config.json) describes it. `folder` gets a tokenizer and no weights. In the `text` encoding
    words are spelled letter by letter: three times as long as a real tokenizer spells them. Raises ModelError for a
    kind that mlx-lm does not know."""
    try:
        module = importlib.import_module(f"mlx_lm.models.{config['model_type']}")
    except ImportError:
        raise ModelError(f"model_type {config['model_type']!r}: mlx-lm knows no model of that kind") from None
    mx.random.seed(seed)
    model = module.Model(module.ModelArgs.from_dict(config))
    if not on_cpu():  # half precision is slow on CPUs
        model.set_dtype(mx.bfloat16)
    packed = config.get("quantization")
    if packed:
        nn.quantize(model, packed["group_size"], packed["bits"])
    for _, module_ in model.named_modules():  # one by one: all dense weights at once are eight times the packed ones
        mx.eval(module_.parameters() if not module_.children() else [])
    mx.clear_cache()
    if on_cpu():
        unpack(model)
    words, tokenizer = _words(folder, encoding, config["vocab_size"])
    lm = LanguageModel(model, tokenizer, words, dict(config), folder, encoding)
    if encoding == "event":
        shape, precision = (len(MUSIC_WORDS), config["hidden_size"]), model.model.norm.weight.dtype
        add_rows(lm, config["vocab_size"], lambda _: (mx.random.normal(shape) * 0.02).astype(precision))
    mx.eval(model.parameters())
    return lm


def _words(folder: Path, encoding: Encoding, vocabulary: int) -> tuple[WordTokens, Any]:
    made = make_embedded(folder, _TOKENIZER, 0)
    (made / "model.safetensors").unlink()
    if encoding == "text":
        tokenizer = read_json(made / "tokenizer.json")
        ours = {word_text(word) for word in MUSIC_WORDS}
        tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["content"] not in ours]
        write_json(made / "tokenizer.json", tokenizer)
        loaded = load_tokenizer(made)
        return find_words(loaded, str(made)), loaded
    loaded = load_tokenizer(made)
    marks = find_words(loaded, str(made))
    # The words' rows stand behind all of the base's own, as `grow` puts them.
    rows = tuple((vocabulary + place,) for place in range(len(MUSIC_WORDS)))
    return WordTokens(rows, marks.end_id, marks.pad_id), loaded


def held_bytes(lm: LanguageModel) -> int:
    """Of all weights in memory."""
    return total_bytes(value for _, value in tree_flatten(lm.model.parameters()))
