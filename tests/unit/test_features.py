"""What a piece is like, on cases worked by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from music_helpers import EMPTY, arranged, melody, transposed
from music_strategies import scores

from plagal.evaluation.features import FEATURES, bars_of, entropy, features, window, windows
from plagal.music.grid import regular
from plagal.music.score import Metre, Score

FOUR_BARS = melody([60, 62, 64, 65] * 4)


def value(score: Score, name: str) -> float:
    return float(features(score)[FEATURES.index(name)])


def test_entropy_of_even_shares_is_their_logarithm() -> None:
    assert entropy(np.array([3.0, 3.0, 3.0, 3.0])) == pytest.approx(2.0)
    assert entropy(np.array([5.0, 0.0])) == 0.0
    assert value(FOUR_BARS, "pitch_class_entropy") == pytest.approx(2.0)


def test_a_scale_is_consistent_and_its_chromatic_neighbours_are_not() -> None:
    assert value(FOUR_BARS, "scale_consistency") == 1.0
    assert value(melody(list(range(60, 72))), "scale_consistency") == pytest.approx(7 / 12)


def test_silent_bars_do_not_groove() -> None:
    # Agreeing silence counts for nothing: three empty bars between two notes make no groove.
    far_apart = Score(np.array([[0, 60, 24, 80], [384, 60, 24, 80]], dtype=np.int32))
    assert value(far_apart, "groove_consistency") == 0.0
    assert value(FOUR_BARS, "groove_consistency") == 1.0


def test_a_repeated_bar_is_found() -> None:
    assert value(FOUR_BARS, "bars_repeated") == 1.0
    assert value(FOUR_BARS, "distinct_bars") == 0.25
    assert value(melody(list(range(60, 76))), "bars_repeated") == 0.0


def test_form_is_heard_at_its_own_distance() -> None:
    # A B A B: bars two apart are alike, neighbours are not.
    form = melody([60, 62, 64, 65, 67, 69, 71, 72] * 2)
    assert value(form, "content_likeness_2") > 0 > value(form, "content_likeness_1")


def test_lags_longer_than_the_piece_are_unknown_not_zero() -> None:
    assert np.isnan(value(FOUR_BARS, "chroma_likeness_8"))


def test_polyphony_counts_what_sounds() -> None:
    chord = Score(np.array([[0, 60, 96, 80], [0, 64, 96, 80], [0, 67, 96, 80], [96, 60, 96, 80]], dtype=np.int32))
    assert value(chord, "polyphony") == 2.0
    assert value(chord, "polyphony_rate") == 0.5


@pytest.mark.parametrize("name", [name for name in FEATURES if name != "mean_pitch" and not name.startswith("bass")])
def test_transposing_changes_only_the_mean_pitch_and_what_counts_as_bass(name: str) -> None:
    piece = window(arranged(), 0, 8)
    assert value(transposed(piece, 2), name) == pytest.approx(value(piece, name), nan_ok=True, abs=1e-9)


def test_nothing_to_hear_is_all_unknown() -> None:
    assert np.isnan(features(EMPTY)).all()


@settings(max_examples=40, deadline=None)
@given(scores)
def test_no_score_breaks_the_ear(score: Score) -> None:
    found = features(regular(score))
    assert found.shape == (len(FEATURES),)
    assert not np.isinf(found).any()


def test_windows_are_scores_of_their_own() -> None:
    piece = Score(FOUR_BARS.notes, (Metre(0, 4, 4), Metre(192, 3, 4)))
    last = window(piece, 2, 2)
    assert [(bar.begin, bar.end) for bar in bars_of(last)] == [(0, 72), (72, 144)]
    assert last.notes[0, 0] == 0
    assert [len(bars_of(one)) for one in windows(FOUR_BARS, 2, 3)] == [2, 2, 2]
    assert windows(EMPTY, 2, 3) == []
