"""Guesses of a small model change how fast a piece is written, never the piece; and both ways to read agree."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_helpers import mx, pretrained, tiny_base

from plagal.asking.request import Request, read_request
from plagal.compose.write import draft
from plagal.model import base
from plagal.model.scorer import ModelScorer
from plagal.plumbing.errors import ModelError
from plagal.tokens.vocabulary import prompt_text


def ask(prompt: str = "x", **asked: Any) -> Request:
    return read_request({"prompt": prompt, **asked})


def with_draft(folder: Path, small: Path) -> Path:
    """A model folder that names a draft."""
    shutil.copytree(small, folder / "draft")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "plagal": {"draft": "draft"}}))
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def agreeing(small: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelScorer, ModelScorer]:
    """The same model alone, and with itself as its draft."""
    folder = tiny_base(tmp_path_factory.mktemp("large"))
    return ModelScorer(base.load(small)), ModelScorer(base.load(with_draft(folder, small)))


@pytest.fixture(scope="module")
def halfway(small: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelScorer, ModelScorer]:
    """The same model alone, and with a draft that is the model and as much noise again."""
    folder = tmp_path_factory.mktemp("halfway")
    noisy = tiny_base(folder / "noisy")
    weights: dict[str, Any] = mx.load(str(noisy / "model.safetensors"))
    for number, (name, value) in enumerate(sorted(weights.items())):
        weights[name] = value + 0.02 * mx.random.normal(value.shape, key=mx.random.key(number))
    mx.save_safetensors(str(noisy / "model.safetensors"), weights, {"format": "mlx"})
    return ModelScorer(base.load(small)), ModelScorer(base.load(with_draft(tiny_base(folder), noisy)))


@pytest.fixture(scope="module", params=["event", "text"])
def strangers(request: Any, small: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelScorer, ModelScorer]:
    """A larger base alone, in either encoding, and with a draft that knows nothing of it."""
    folder = tmp_path_factory.mktemp("stranger")
    alone = base.load(pretrained(folder / "alone", tied=True), encoding=request.param)
    helped = base.load(with_draft(pretrained(folder / "helped", tied=True), small), encoding=request.param)
    return ModelScorer(alone), ModelScorer(helped)


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_a_piece_is_word_for_word_what_it_is_without_guesses(
    halfway: tuple[ModelScorer, ModelScorer], temperature: float
) -> None:
    requests = [
        ask(key="Db", bars=4, seed=5, temperature=temperature),
        ask("y", chords="Cmaj7 | Fmaj9", feel="swing", bars=2, temperature=temperature),
        ask("z", key="F", density="dense", bars=3, temperature=temperature),
    ]
    alone, helped = (draft(scorer, requests, max_words=500) for scorer in halfway)
    assert helped == alone
    assert draft(halfway[1], requests[:1], max_words=500) == alone[:1]


def test_a_piece_is_the_same_with_guesses_that_are_nearly_always_wrong(
    strangers: tuple[ModelScorer, ModelScorer],
) -> None:
    requests = [ask(key="Eb", bars=2, seed=2), ask("y", bars=1, seed=4)]
    alone, helped = (draft(scorer, requests, max_words=200) for scorer in strangers)
    assert helped == alone


def test_a_context_cut_at_the_window_is_cut_at_the_same_word_with_guesses(
    agreeing: tuple[ModelScorer, ModelScorer],
) -> None:
    for scorer in agreeing:
        scorer.lm.config["plagal"] = {**scorer.lm.config.get("plagal", {}), "window": 96}
    try:
        alone, helped = (draft(scorer, [ask(bars=8), ask("y", bars=2)], max_words=400) for scorer in agreeing)
    finally:
        for scorer in agreeing:
            del scorer.lm.config["plagal"]["window"]
    assert helped == alone and len(alone[0]) > 96


def test_words_come_out_as_often_with_guesses_as_without_over_20000_words(
    halfway: tuple[ModelScorer, ModelScorer],
) -> None:
    """Other seeds on either side: that the same seed gives the same piece is the test above."""
    shares = []
    for number, scorer in enumerate(halfway):
        pieces: list[list[str]] = []
        while sum(map(len, pieces)) <= 20_000:
            first = 100_000 * number + len(pieces)
            requests = [ask(seed=first + seed) for seed in range(128)]
            pieces += draft(scorer, requests, max_words=200, constraint="grammar")
        shares.append([{word: n / len(words) for word, n in Counter(words).items()} for words in pieces])
    words = Counter(word for side in shares for piece in side for word in piece)
    for word, _ in words.most_common(25):
        one, other = (np.array([piece.get(word, 0.0) for piece in side]) for side in shares)
        error = math.sqrt(one.var() / len(one) + other.var() / len(other))
        assert abs(one.mean() - other.mean()) < 4.5 * error, word


def test_one_pass_of_the_large_model_is_enough_for_several_words_where_both_agree(
    agreeing: tuple[ModelScorer, ModelScorer],
) -> None:
    counts = []
    for scorer in agreeing:
        before = scorer.passes
        (words,) = draft(scorer, [ask(key="C", bars=4)], max_words=600)
        counts.append(len(words) / (scorer.passes - before))
    assert counts[1] > 2.2 * counts[0]


def test_guesses_stop_where_they_are_rejected_too_often(small: Path, tmp_path: Path) -> None:
    other = with_draft(tiny_base(tmp_path, seed=2), small)
    scorer = ModelScorer(base.load(other))
    assert scorer.ahead is not None
    (words,) = draft(scorer, [ask(bars=8)], max_words=600, constraint="none")
    assert scorer.ahead.passes < len(words) / 4


def test_a_draft_that_is_not_there_or_spells_its_words_is_named(small: Path, tmp_path: Path) -> None:
    folder = with_draft(tiny_base(tmp_path / "one"), small)
    shutil.rmtree(folder / "draft")
    with pytest.raises(ModelError, match="names the draft 'draft'"):
        draft(ModelScorer(base.load(folder)), [ask()])
    spelling = pretrained(tmp_path / "spelling", tied=True)
    config = json.loads((spelling / "config.json").read_text())
    (spelling / "config.json").write_text(json.dumps({**config, "plagal": {"encoding": "text"}}))
    shutil.copytree(spelling, folder / "draft")
    with pytest.raises(ModelError, match="one token for each music word"):
        draft(ModelScorer(base.load(folder)), [ask()])


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("grown", [True, False])
def test_rows_of_any_length_are_read_as_mlx_lm_reads_each_alone(tmp_path: Path, tied: bool, grown: bool) -> None:
    """Grown rows are read by MLX, plain ones by NumPy."""
    folder = pretrained(tmp_path / "base", tied, bits=0) if grown else tiny_base(tmp_path)
    lm = base.load(folder)
    scorer = ModelScorer(lm)
    columns = lm.words.ids[:-1]
    prompt = lm.encode_text(prompt_text("worship in Db"))
    rows = [[*prompt, *columns[5:9].tolist()], [*prompt[:3], int(columns[7])], [*prompt, *columns[20:60].tolist()]]
    with scorer.writing():
        reader = scorer.open(3, columns)
        reader.read(rows, [1, 1, 1])
        rows = [[*rows[0][:-2], 420, 421, 422], [*rows[1], 430], rows[2]]
        got = reader.read(rows, [3, 1, 0])
        reader.keep([1, 0])
        again = reader.read([[*rows[1], 440], rows[0]], [1, 2])
    expected = [_stock(lm, ids, columns) for ids in rows]
    np.testing.assert_allclose(got[0], expected[0][-3:], atol=2e-4)
    np.testing.assert_allclose(got[1, 0], expected[1][-1], atol=2e-4)
    np.testing.assert_allclose(again[0, 0], _stock(lm, [*rows[1], 440], columns)[-1], atol=2e-4)
    np.testing.assert_allclose(again[1], expected[0][-2:], atol=2e-4)


def _stock(lm: Any, ids: list[int], columns: Any) -> Any:
    return np.array(lm.model(mx.array([ids]))[0][:, mx.array(columns)])
