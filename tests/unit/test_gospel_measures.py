"""The measures of gospel: each is what it says on pieces made for it, and the arranger stays within its promises."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from plagal import cli
from plagal.music.arranger.arrange import arrange
from plagal.music.midi import read_midi
from plagal.music.score import Key, Marker, Metre, Pedal, Score

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from shared.gospel_figures import MEASURES, gospel_figures, mean_figures

C = Key(0, 0)


def piece(rows: list[tuple[int, int, int]], chords: str = "", pedals: tuple[Pedal, ...] = (),
          metre: tuple[int, int] = (4, 4)) -> Score:  # fmt: skip
    """Notes (onset, pitch, ticks) in C, a chord a bar."""
    notes = np.array(sorted((onset, pitch, ticks, 80) for onset, pitch, ticks in rows), dtype=np.int32)
    marks = tuple(Marker(96 * bar, "chord", symbol) for bar, symbol in enumerate(chords.split()))
    return Score(notes, (Metre(0, *metre),), keys=(C,), pedals=pedals, markers=marks)


WHOLE = [(96 * bar, 60, 96) for bar in range(8)]


def test_devices_and_families_are_counted_for_16_bars() -> None:
    figures = gospel_figures(piece(WHOLE, "C F Gbdim7 C/G A7b9 Dm7 G9sus C"))
    assert figures["devices"] == 2 * 4  # the raised four, VI7 to ii, 1-6-2-5, 2-5-1
    assert (figures["dominants"], figures["diminished"], figures["suspended"]) == (2, 2, 2)
    assert gospel_figures(piece(WHOLE, "C F C C Am F C C"))["devices"] == 2 * 2  # two plagal steps


def test_foreign_notes_are_those_outside_the_key() -> None:
    rows = [(0, 60, 24), (24, 61, 24), (48, 63, 24), (72, 64, 24)]
    assert gospel_figures(piece(rows, "C"))["foreign_notes"] == 0.5


@pytest.mark.parametrize(
    ("rows", "chords", "ended"),
    [
        ([(0, 67, 96), (96, 60, 96)], "G C", 1),
        ([(0, 67, 96), (96, 60, 24)], "G C", 0),
        ([(0, 67, 96), (96, 60, 96)], "C G", 0),
    ],
)
def test_a_piece_has_ended_where_its_tonic_is_held(rows: list[tuple[int, int, int]], chords: str, ended: int) -> None:
    assert gospel_figures(piece(rows, chords))["ended"] == ended


def test_changes_under_one_pedal_are_counted() -> None:
    through = (Pedal(0, "on"), Pedal(300, "off"))
    each = tuple(Pedal(96 * bar + place, state) for bar in range(4) for place, state in ((0, "on"), (90, "off")))
    assert gospel_figures(piece(WHOLE[:4], "C F G C", through))["pedal_over_changes"] == 3
    assert gospel_figures(piece(WHOLE[:4], "C F G C", each))["pedal_over_changes"] == 0
    assert gospel_figures(piece(WHOLE[:4], "C Cmaj7 C6 C", through))["pedal_over_changes"] == 0


def test_a_bar_that_comes_back_a_step_higher_has_come_back() -> None:
    motif = [(0, 60, 24), (36, 64, 12), (48, 62, 48)]
    bars = [[(96 * bar + onset, pitch + up, ticks) for onset, pitch, ticks in motif] for bar, up in ((0, 0), (1, 2))]
    other = [(192, 70, 24), (216, 69, 24), (240, 65, 24)]
    assert gospel_figures(piece([*bars[0], *bars[1], *other], "C F G"))["melody_returns"] == pytest.approx(1 / 3)


def test_swing_is_the_share_of_late_second_eighths_and_compound_metres_have_none() -> None:
    rows = [(0, 60, 16), (16, 62, 8), (24, 64, 12), (36, 65, 12)]
    assert gospel_figures(piece(rows, "C"))["swing"] == 0.5
    assert gospel_figures(piece(rows, "C", metre=(12, 8)))["swing"] is None


def test_quarters_in_which_nothing_is_struck_are_silent() -> None:
    assert gospel_figures(piece([(0, 60, 96)], "C"))["silent_quarters"] == 0.75


def test_a_score_without_notes_has_no_figures_and_counts_nowhere() -> None:
    assert set(gospel_figures(piece([], "C")).values()) == {None}
    both = mean_figures([(piece([], "C"), "gospel"), (piece(WHOLE, "C"), "gospel")])
    assert set(both) == set(MEASURES) and both["ended"] == 1


@pytest.mark.parametrize("style", ["traditional_gospel", "gospel_jazz", "shout", "quartet"])
def test_the_arranger_ends_its_pieces_changes_its_pedal_and_fits_the_hands(style: str) -> None:
    figures = mean_figures((arrange(None, style, seed=seed), style) for seed in range(6))
    assert (figures["ended"], figures["pedal_over_changes"], figures["unplayable"]) == (1, 0, 0)
    assert (figures["devices"] or 0) > 4


def test_arrange_at_the_terminal_plays_an_own_tune_over_own_chords(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.abc").write_text("X:1\nT:Mine\nM:4/4\nL:1/4\nK:C\nC E G E | F A G2 | G F E D | C4 |\n")
    arguments = ["my.abc", "--style", "quartet", "--chords", "C | F G7 | Dm7 G7 | C", "--bars", "8", "--feel", "12/8",
                 "--tempo", "60", "--roll", "mine.png", "--sheet", "mine.musicxml", "--wav", "mine.wav"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["plagal", "arrange", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.app()
    assert left.value.code in (0, None)
    assert "Mine, quartet, C major, 12/8, ♩. = 60, 8 bars" in capsys.readouterr().out
    score = read_midi(tmp_path / "out" / "mine.mid")
    assert score.tempos[0].quarters_per_minute == pytest.approx(90, abs=0.1)
    assert all((tmp_path / f"mine.{ending}").stat().st_size > 1000 for ending in ("png", "musicxml", "wav"))
