"""Progressions as musicians write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plagal.asking.progression import Progression, approximated, read_progression
from plagal.music.chords import QUALITIES, parse_chord, read_chord
from plagal.music.keys import parse_key
from plagal.plumbing.errors import ChordError, InputError

OTHERS_CASES = Path(__file__).parents[3] / "shared/cases/using/progressions.tsv"
"""Kept beside the checkout; the rows skip where it is not."""


def rows() -> list[tuple[str, ...]]:
    if not OTHERS_CASES.exists():
        return [("", "")]
    lines = OTHERS_CASES.read_text(encoding="utf-8").splitlines()
    return [tuple(line.split("\t")) for line in lines if line and line[0] != "#"]


def bars(text: str) -> Progression:
    """Bars of plain symbols, without what is under test."""
    return tuple(
        () if bar == "N.C." else tuple(parse_chord(symbol) for symbol in bar.split()) for bar in text.split(" | ")
    )


@pytest.mark.skipif(not OTHERS_CASES.exists(), reason="the cases are not beside this checkout")
@pytest.mark.parametrize(("typed", "wanted"), rows())
def test_charts_of_other_people_are_read(typed: str, wanted: str) -> None:
    if wanted == "error":
        with pytest.raises(InputError, match="as in Dbmaj9"):
            read_progression(typed)
    else:
        assert read_progression(typed) == bars(wanted)


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("C - Am - F - G", "C | Am | F | G"),
        ("C\u2192Am\u2192F", "C | Am | F"),
        ("| C | F G |", "C | F G"),
        ("|: C | F :| G ||", "C | F | C | F | G"),
        ("C / / G7", "C C C G7"),
        ("C13 (G7) F", "C13 | G7 | F"),
        ("C7(b9, b13) F", "C7b9b13 | F"),
        ("A:min7 D:7", "Am7 | D7"),
        ("C NC", "C | N.C."),
        ("2-5-1 in Bb", "Cm7 | F7 | Bbmaj7"),
        ("6 2 5 1 in Ab", "Fm7 | Bbm7 | Eb7 | Abmaj7"),
        ("1 6 2 5 in Eb", "Eb | Cm | Fm | Bb"),
        ("I-vi-IV-V in D", "D | Bm | G | A"),
        ("bVII IV I in C", "Bb | F | C"),
        ("i iv V7 in A minor", "Am | Dm | E7"),
        ("1 5/7 6- 4 in G", "G | D/F# | Em | C"),
        ("1 | 4 5 | 1 in F", "F | Bb C | F"),
    ],
)
def test_repeats_beats_and_degrees_are_written_out(typed: str, wanted: str) -> None:
    assert read_progression(typed) == bars(wanted)


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("Cmja7 | F", "did you mean Cmaj7"),
        ("H7 | E", "write B7"),
        ("2 5 1", "need a key"),
        ("C | | F", "write %"),
        ("% | C", "none"),
        ("C N.C. | F", "whole bar"),
        ("N.C.", "needs a chord"),
        ("", "needs a chord"),
        ("|", "needs a chord"),
        ("C D E F G A B C D | C", "9 chords"),
    ],
)
def test_what_is_no_progression_is_refused_with_the_way_out(typed: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_progression(typed)


@pytest.mark.parametrize(("symbol", "nearest"), [("C9#11", "C7#11"), ("C7b9#5", "C7b9b13"), ("Cm11b5", "Cm7b5")])
def test_what_the_vocabulary_lacks_becomes_the_nearest_with_the_same_third_and_seventh(
    symbol: str, nearest: str
) -> None:
    assert parse_chord(symbol) == parse_chord(nearest)


def test_an_approximation_is_told() -> None:
    assert approximated("C9#11 | F") == ("C9#11 (as C7#11)",)
    assert approximated("C9 | F", parse_key("F")) == ()


@given(st.sampled_from(list(QUALITIES)), st.text("mM7913b#+-()susdimadgj^/ ", max_size=8))
def test_a_chord_keeps_its_root_and_any_text_is_a_chord_or_an_error(quality: str, tail: str) -> None:
    assert read_chord(f"Eb{quality}")[0].quality == quality
    try:
        assert parse_chord(f"Eb{tail}").root in (2, 3, 4)  # a tail may begin with another flat or a sharp
    except ChordError as error:
        assert "Eb" in str(error)


@given(st.text("CDEFGABb#m7| /%:.N-,()1245IVi", max_size=30))
def test_any_text_is_a_progression_or_an_error(text: str) -> None:
    try:
        assert read_progression(text, parse_key("C"))
    except InputError as error:
        assert "\n" not in str(error)
