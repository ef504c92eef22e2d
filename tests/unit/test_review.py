"""What listeners said, as a terminal shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from plagal.evaluation.report import ratings_lines
from plagal.plumbing.errors import InputError, RecordError
from plagal.plumbing.files import write_jsonl


def rating(rater: str, system: str, value: float) -> dict[str, object]:
    return {"kind": "rating", "rater": rater, "piece": "x", "system": system, "rating": value}


def test_ratings_are_told_by_system_and_blind_pairs_by_strength(tmp_path: Path):
    pairs = [{"kind": "ab", "rater": "ann", "pair": "p", "a": "new", "b": "old", "choice": "a"}] * 3
    write_jsonl(
        tmp_path / "r.jsonl", [rating("ann", "new", 8), rating("bob", "new", 6), rating("ann", "old", 3), *pairs]
    )
    lines = list(ratings_lines(tmp_path / "r.jsonl"))
    assert lines[0].startswith("new: 7.00 of 10 (") and lines[0].endswith("ratings: 2, raters: 2")
    assert lines[1] == "old: 3.00 of 10, ratings: 1, raters: 1"
    strengths = {line.split(":")[0]: float(line.split()[2]) for line in lines[2:]}
    assert strengths["new"] > 0 > strengths["old"]


def test_where_nobody_has_listened_that_is_said_in_one_line(tmp_path: Path):
    with pytest.raises(InputError, match="nobody has rated"):
        list(ratings_lines(tmp_path / "r.jsonl"))


def test_a_line_that_is_no_rating_is_named(tmp_path: Path):
    write_jsonl(tmp_path / "r.jsonl", [{"kind": "rating", "rater": "ann", "system": "x", "rating": 11}])
    with pytest.raises(RecordError, match=r"r\.jsonl:1"):
        list(ratings_lines(tmp_path / "r.jsonl"))
