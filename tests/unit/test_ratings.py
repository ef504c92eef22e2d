"""What people said, and only what they said."""

from pathlib import Path

import pytest

from plagal.evaluation.report import bradley_terry, read_ratings, summarise_ratings
from plagal.plumbing.errors import RecordError
from plagal.plumbing.files import write_jsonl


def rating(value: float, rater: str = "a", system: str = "fused") -> dict[str, object]:
    return {"kind": "rating", "rater": rater, "piece": "x", "system": system, "rating": value}


def test_nobody_has_rated_is_none_and_never_a_number(tmp_path: Path) -> None:
    assert read_ratings(tmp_path / "none.jsonl") == []
    assert summarise_ratings([], seed=0) is None


def test_mean_and_raters_and_an_interval_by_rater() -> None:
    found = summarise_ratings([rating(6), rating(8), rating(7, "b")], seed=0)
    assert found is not None
    assert (found.mean, found.raters) == (7.0, 2)
    assert found.interval is not None
    one = summarise_ratings([rating(6), rating(8)], seed=0)
    assert one is not None
    assert one.interval is None


@pytest.mark.parametrize(
    "row", [rating(11), rating(0), {"kind": "rating", "rater": "a", "rating": "good"}, {"kind": "vote"}, {"rater": 3}]
)
def test_a_row_that_is_no_rating_is_refused_with_its_line(tmp_path: Path, row: dict[str, object]) -> None:
    write_jsonl(tmp_path / "ratings.jsonl", [rating(5), row])
    with pytest.raises(RecordError, match=r"ratings\.jsonl:2"):
        read_ratings(tmp_path / "ratings.jsonl")


def test_bradley_terry_finds_the_odds() -> None:
    # "new" is chosen three times of four: odds of 3, a little less for the prior.
    strengths = bradley_terry([("new", "old", "a")] * 300 + [("old", "new", "a")] * 100)
    assert strengths["new"] - strengths["old"] == pytest.approx(1.0986, abs=0.02)
    assert sum(strengths.values()) == pytest.approx(0, abs=1e-9)


def test_a_system_that_always_wins_stays_finite_and_ties_are_even() -> None:
    assert bradley_terry([("new", "old", "a")] * 5)["new"] < 10
    assert bradley_terry([("new", "old", "tie")] * 5) == pytest.approx({"new": 0.0, "old": 0.0})
    assert bradley_terry([]) == {}
