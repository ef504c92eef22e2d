"""Pictures of pieces."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plagal.music.pianoroll import bars_of, chords_of, pretty_chord, write_piano_roll
from plagal.music.score import Marker, Metre, Score, Tempo

NOTES = np.array(
    [[0, 48, 96, 70], [0, 64, 24, 80], [24, 67, 24, 80], [96, 43, 72, 70], [96, 71, 72, 90]], dtype=np.int32
)
SCORE = Score(
    NOTES,
    (Metre(0, 4, 4), Metre(96, 3, 4)),
    (Tempo(0, 66.0),),
    markers=(Marker(0, "chord", "Cmaj9"), Marker(96, "chord", "G13")),
)


def test_the_same_piece_gives_the_same_picture(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        write_piano_roll(SCORE, tmp_path / name, title="Amen")
    data = (tmp_path / "one.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert data == (tmp_path / "two.png").read_bytes()


def test_a_piece_without_notes_is_still_a_picture(tmp_path: Path) -> None:
    write_piano_roll(Score(np.zeros((0, 4), dtype=np.int32), markers=SCORE.markers), tmp_path / "empty.png")
    assert (tmp_path / "empty.png").stat().st_size > 0


def test_bars_follow_changes_of_metre() -> None:
    assert [(bar.begin, bar.end) for bar in bars_of(SCORE)] == [(0, 96), (96, 168)]


def test_the_picture_has_the_hands_that_the_score_says(tmp_path: Path) -> None:
    told = [0, 1, 1, 0, 1], [1, 0, 1, 0, 1]
    for name, hands in zip(("judged", "crossed"), told, strict=True):
        write_piano_roll(replace(SCORE, hands=np.array(hands, dtype=np.int8)), tmp_path / name)
    write_piano_roll(SCORE, tmp_path / "nobody_says")
    pictures = [(tmp_path / name).read_bytes() for name in ("nobody_says", "judged", "crossed")]
    assert pictures[0] == pictures[1] != pictures[2]


def test_asserted_chords_are_shown_as_they_are() -> None:
    assert chords_of(SCORE) == [(0, "Cmaj9"), (96, "G13")]


@pytest.mark.parametrize(
    ("symbol", "shown"),
    [("Dbmaj9", "D♭maj9"), ("Cdom7", "C7"), ("Amin7", "Am7"), ("Bhalfdim7", "Bø7"), ("Fmaj", "F"),
     ("Cmin7/Eb", "Cm7/E♭"),     ("G7b9", "G7♭9"), ("Edim7", "E°7"), ("Cminmaj7", "Cm(maj7)")],
)  # fmt: skip
def test_chords_are_written_as_musicians_write_them(symbol: str, shown: str) -> None:
    assert pretty_chord(symbol) == shown
