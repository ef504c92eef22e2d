"""The ear for coherence: it ranks whole music over broken music."""

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from make_coherence import DAMAGES, LEVELS, fit, to_json, training_pieces
from model_helpers import piece, text_of
from music_helpers import EMPTY, arranged

from plagal.evaluation.coherence import CoherenceModel, bars_shuffled, shipped
from plagal.evaluation.features import FEATURES, bars_of, window
from plagal.evaluation.likelihood import read_texts
from plagal.music.score import Score
from plagal.plumbing.files import write_jsonl

STYLES = ("traditional_gospel", "contemporary_gospel", "gospel_jazz", "worship")
PIECES = [window(arranged(style, seed), 4, 16) for style in STYLES for seed in (900, 901, 902)]


def mean(kind: str) -> float:
    rng = np.random.default_rng(0)
    pieces = PIECES if kind == "real" else [DAMAGES[kind](piece, rng) for piece in PIECES]
    score = shipped().mean_score(pieces)
    assert score is not None
    return score


def test_whole_music_ranks_over_shuffled_bars_over_shuffled_notes_over_random_ones() -> None:
    real, bars, notes, chance = (mean(kind) for kind in ("real", "bars_shuffled", "notes_shuffled", "random"))
    assert real > bars + 0.5
    assert bars > notes + 1.0
    assert notes > chance + 1.0


def test_a_bar_over_and_over_is_no_music() -> None:
    assert mean("one_bar_repeated") < 4 < mean("real")


def test_the_shipped_calibration_holds_each_step_far_outside_its_error() -> None:
    for kinds in shipped().calibration.values():
        assert kinds["real"]["mean"] > 8
        steps = [("real", "bars_shuffled"), ("bars_shuffled", "notes_shuffled"), ("bars_shuffled", "ngram"),
                 ("notes_shuffled", "random"), ("ngram", "random")]  # fmt: skip
        for better, worse in steps:
            error = np.hypot(kinds[better]["error"], kinds[worse]["error"])
            assert kinds[better]["mean"] - kinds[worse]["mean"] > 5 * error


def test_silence_scores_nothing() -> None:
    assert shipped().score(EMPTY) is None
    assert shipped().mean_score([EMPTY]) == 0.0
    assert shipped().mean_score([]) is None


def test_a_model_survives_json_and_refuses_other_features() -> None:
    stored = to_json(shipped())
    again = CoherenceModel.from_json(stored)
    assert again.score(PIECES[0]) == pytest.approx(shipped().score(PIECES[0]), abs=1e-2)
    with pytest.raises(ValueError, match="other features"):
        CoherenceModel.from_json({**stored, "features": ["one"]})


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_training_is_the_same_for_the_same_seed() -> None:
    rng = np.random.default_rng(1)
    kinds = [kind for kind in LEVELS for _ in range(12)]
    rows = rng.normal(size=(len(kinds), len(FEATURES))) + np.array([LEVELS[kind] for kind in kinds])[:, None]
    bars = [8 if place % 2 else 16 for place in range(len(kinds))]
    held_out = np.arange(len(kinds)) % 4 < 2
    first, again = (fit(rows, kinds, bars, held_out, seed=2) for _ in range(2))
    assert first.raw(rows) == pytest.approx(again.raw(rows))
    assert first.raw(rows)[0] > first.raw(rows)[-1]


def test_damage_keeps_what_it_should() -> None:
    piece, rng = PIECES[0], np.random.default_rng(3)
    for damage in DAMAGES.values():
        broken = damage(piece, rng)
        assert isinstance(broken, Score)
        assert len(bars_of(broken)) <= len(bars_of(piece))
    shuffled = bars_shuffled(piece, rng)
    assert len(shuffled.notes) == len(piece.notes)
    assert sorted(shuffled.notes[:, 1]) == sorted(piece.notes[:, 1])


def test_the_ear_is_fitted_on_training_texts_alone(tmp_path: Path) -> None:
    for stage in ("stage1", "stage2"):
        (tmp_path / stage).mkdir()
        rows = [{"text": text_of(piece(np.random.default_rng(number)), "Play"),
                 "metadata": {"id": f"{stage} {number}", "tune": f"{stage} {number}", "synthetic": number == 2}}
                for number in (0, 0, 1, 2)]  # fmt: skip
        write_jsonl(tmp_path / stage / "train.jsonl", rows)
        for split in ("test", "valid"):
            (tmp_path / stage / f"{split}.jsonl").write_text("to read this is a fault")
    found = training_pieces(tmp_path)
    assert sorted(found_piece.tune for found_piece in found) == sorted(
        f"{stage} {number}" for stage in ("stage1", "stage2") for number in range(3)
    )


@pytest.mark.skipif(not Path("data/text/stage2/test.jsonl").exists(), reason="no texts here: run `dvc repro convert`")
def test_the_shipped_ear_knows_no_tune_of_the_test_split() -> None:
    stored = json.loads(files("plagal.evaluation").joinpath("coherence.json").read_text(encoding="utf-8"))
    held_out = {piece.tune for stage in ("stage1", "stage2") for split in ("valid", "test")
                for piece in read_texts(Path("data/text") / stage / f"{split}.jsonl")}  # fmt: skip
    assert not held_out & set(stored["tunes"])
