"""The embedded base: an ordinary model folder, and text <-> tokens without loss."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_helpers import SHAPE, text_of, texts, tiny_base
from model_helpers import settings as train_settings

from plagal.model import base
from plagal.model.fuse import fuse
from plagal.model.trainer import train
from plagal.model.words import word_text
from plagal.plumbing.errors import ModelError, RecordError
from plagal.tokens.vocabulary import MUSIC_WORDS, split_text


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> base.LanguageModel:
    return base.load(tiny_base(tmp_path_factory.mktemp("base")))


def test_every_music_word_is_one_token(lm: base.LanguageModel) -> None:
    for word in MUSIC_WORDS:
        assert tuple(lm.encode_text(word_text(word))) == lm.words.spelling_of[word]
        assert len(lm.words.spelling_of[word]) == 1


def test_a_text_comes_back_exactly(lm: base.LanguageModel) -> None:
    for text in texts(3):
        assert lm.tokenizer.decode(lm.encode_text(text)) == text


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="<|>"), max_size=40))
def test_any_prompt_comes_back_exactly(lm: base.LanguageModel, prompt: str) -> None:
    import unicodedata

    prompt = unicodedata.normalize("NFC", prompt)
    assert lm.tokenizer.decode(lm.encode_text(prompt)) == prompt


def test_words_by_table_are_words_by_tokenizer(lm: base.LanguageModel) -> None:
    text = texts(1)[0]
    parts = split_text(text)
    assert parts.prompt + " ".join(parts.words) + parts.after == text
    ids = [*lm.encode_text(parts.prompt), *lm.words.encode(parts.words), *lm.encode_text(parts.after)]
    assert ids == lm.encode_text(text)
    assert lm.words.decode(ids) == list(parts.words)


def test_the_chat_template_is_the_one_of_the_training_text(lm: base.LanguageModel) -> None:
    words = ["SONG_START", "BAR_START", "SONG_END"]
    chat = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": " ".join(words)}]
    assert lm.tokenizer.apply_chat_template(chat, tokenize=False) == text_of(words, "hello")
    opened = lm.tokenizer.apply_chat_template(chat[:1], tokenize=False, add_generation_prompt=True)
    assert text_of(words, "hello").startswith(opened)


def test_stock_mlx_lm_loads_it_and_its_detokenizer_spells_words(tmp_path: Path) -> None:
    import mlx_lm

    model, tokenizer = mlx_lm.load(str(tiny_base(tmp_path)))
    detokenizer = tokenizer.detokenizer
    detokenizer.reset()
    for token in tokenizer.encode("SONG_START KEY_Db NOTE_ON_60", add_special_tokens=False):
        detokenizer.add_token(token)
    detokenizer.finalize()
    assert detokenizer.text == "SONG_START KEY_Db NOTE_ON_60"
    assert model.args.hidden_size == SHAPE.hidden_size


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    first = base.make_embedded(tmp_path / "a", SHAPE, 3)
    second = base.make_embedded(tmp_path / "b", SHAPE, 3)
    other = base.make_embedded(tmp_path / "c", SHAPE, 4)
    files = sorted(path.name for path in first.iterdir())
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in files)
    assert (first / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()


def test_a_base_in_half_precision_computes_in_fp32_and_fuses_to_fp32(tmp_path: Path) -> None:
    import mlx.core as mx
    from mlx.utils import tree_flatten

    folder = tiny_base(tmp_path)
    whole = dict(mx.load(str(folder / "model.safetensors")))
    mx.save_safetensors(str(folder / "model.safetensors"), {k: v.astype(mx.float16) for k, v in whole.items()})
    lm = base.load(folder)
    assert {value.dtype for _, value in tree_flatten(lm.model.parameters())} == {mx.float32}
    train(lm, texts(3), texts(2, 1), train_settings(mode="lora"), tmp_path / "run", tmp_path / "adapters", seed=1)
    fuse(folder, tmp_path / "adapters", tmp_path / "fused", texts(2, 1))
    fused = dict(mx.load(str(tmp_path / "fused" / "model.safetensors")))
    assert {value.dtype for value in fused.values()} == {mx.float32}
    assert json.loads((tmp_path / "fused" / "config.json").read_text())["torch_dtype"] == "float32"


@pytest.mark.parametrize(("file", "content", "said"), [
    ("config.json", None, "config.json is missing"), ("config.json", "{", "not JSON"),
    ("config.json", '{"model_type": "nothing"}', "not supported"), ("model.safetensors", None, "no weights"),
    ("model.safetensors", "short", "cannot be loaded as a model"),
])  # fmt: skip
def test_a_broken_folder_is_a_named_error(tmp_path: Path, file: str, content: str | None, said: str) -> None:
    folder = tiny_base(tmp_path)
    (folder / file).unlink() if content is None else (folder / file).write_text(content)
    with pytest.raises(ModelError, match=said) as caught:
        base.load(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_a_named_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model folder"):
        base.load(tmp_path / "nothing")


def test_a_text_without_a_piece_is_refused() -> None:
    with pytest.raises(RecordError, match="SONG_START"):
        split_text("no music here")
