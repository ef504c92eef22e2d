"""What the benchmarks say of what they measured: their rows, and the page made of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
# Last on the path: one script there is named as Python's own `tokenize`.
sys.path.append(str(BENCHMARKS))

from plagal.music.arranger.arrange import arrange  # noqa: E402
from plagal.music.notation import score_from_abc  # noqa: E402
from shared.abc import abc_of  # noqa: E402
from shared.page import write_page  # noqa: E402
from shared.rows import row  # noqa: E402


def test_a_ratio_is_the_median_of_those_measured_in_turn_and_its_spread_their_extremes() -> None:
    found = row("speed", [10.0, 30.0, 12.0], [5.0, 10.0, 12.0], at_least=2.0)
    assert (found["ratio"], found["spread"], found["ok"]) == (2.0, [1.0, 3.0], True)


def test_a_missed_target_is_said_to_be_missed() -> None:
    assert row("cost", 1.2, 1.0, at_most=1.1)["ok"] is False
    assert row("cost", 1.2, 4.0, at_most=1.1, judge="ours")["ok"] is False
    assert row("found", 19, 20, at_least=20, judge="ours")["ok"] is False


def test_what_nobody_measured_has_no_figure_and_no_verdict() -> None:
    found = row("preferred", [], at_least=0.5)
    assert (found["ours"], found["ratio"], found["ok"]) == (None, None, None)


def test_a_peer_of_nothing_gives_no_ratio_and_ours_is_judged() -> None:
    found = row("triplets", 1.0, 0.0, at_least=1.0, judge="ours")
    assert (found["ratio"], found["peer"], found["ok"]) == (None, 0, True)


def test_the_committed_page_is_made_of_the_committed_results(tmp_path: Path) -> None:
    for script in BENCHMARKS.glob("*.py"):
        (tmp_path / script.name).write_bytes(script.read_bytes())
    write_page(BENCHMARKS / "results", tmp_path)
    assert (tmp_path / "README.md").read_text("utf-8") == (BENCHMARKS / "README.md").read_text("utf-8")


@pytest.mark.parametrize("style", ["traditional_gospel", "gospel_jazz"])
def test_the_abc_that_the_peer_is_given_holds_every_note(style: str) -> None:
    score = arrange(None, style, seed=3, bars=4)
    again = score_from_abc(abc_of(score))
    assert again.notes[:, :3].tolist() == score.notes[:, :3].tolist()
