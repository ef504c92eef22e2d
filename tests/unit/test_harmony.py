"""Hearing chords and keys: by hand-annotated progressions, by arrangements, and on odd input."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from plagal.music.arranger.arrange import arrange
from plagal.music.chords import parse_chord
from plagal.music.harmony import hear_chords, hear_key, hear_keys
from plagal.music.midi import read_midi, to_midi_bytes
from plagal.music.score import Marker, Metre, Score

# Last on the path: one script there is named as Python's own `tokenize`.
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
benchmark = import_module("harmony")
COMMON_TIME = Metre(0, 4, 4)


def score_of(*chords: tuple[list[int], int], metre: Metre = COMMON_TIME) -> Score:
    """Block chords of (keys, beats), one after another."""
    rows, onset = [], 0
    for keys, beats in chords:
        rows += [(onset, key, beats * 24, 80) for key in keys]
        onset += beats * 24
    return Score(np.array(sorted(rows), dtype=np.int32), (metre,))


def names(score: Score) -> list[str]:
    return [chord.symbol for _, chord in hear_chords(score)]


@pytest.mark.parametrize("piece", benchmark.annotated(), ids=lambda piece: piece[1][0][1].symbol)
def test_the_ear_names_every_chord_of_a_progression_annotated_by_hand(piece: benchmark.Piece) -> None:
    score, truth, _ = piece
    assert [chord.symbol for _, chord in hear_chords(score)] == [chord.symbol for _, chord in truth]


@pytest.mark.parametrize("piece", benchmark.annotated(), ids=lambda piece: piece[1][0][1].symbol)
def test_the_ear_hears_the_key_of_each_progression(piece: benchmark.Piece) -> None:
    heard = hear_key(piece[0])
    assert (heard.fifths, heard.minor) == (piece[2].fifths, piece[2].minor)


def test_arranged_gospel_is_heard_above_the_target() -> None:
    pieces = benchmark.arranged(64)
    heard = [hear_chords(score) for score, _, _ in pieces]
    assert benchmark.f1(pieces, heard) > 0.89
    assert benchmark.key_accuracy(pieces) > 0.95


def test_markers_and_titles_change_nothing_that_is_heard() -> None:
    score = arrange("amazing_grace", "traditional_gospel", seed=3)
    misled = replace(score, markers=(Marker(0, "chord", "F#min7"),), title="Wrong", keys=())
    assert hear_chords(misled) == hear_chords(score)
    assert hear_key(misled) == hear_key(score)


def test_a_score_that_went_through_midi_is_heard_the_same() -> None:
    score = arrange("it_is_well", "contemporary_gospel", seed=4)
    assert hear_chords(read_midi(to_midi_bytes(score))) == hear_chords(score)


def test_transposing_the_notes_transposes_the_chords() -> None:
    score = arrange("what_a_friend", "gospel_jazz", key="C", seed=5)
    moved = score.notes.copy()
    moved[:, 1] += 5
    higher = hear_chords(Score(moved, score.metres))
    lower = hear_chords(Score(score.notes, score.metres))
    same = sum(a == (onset, chord.transposed(5)) for a, (onset, chord) in zip(higher, lower, strict=True))
    assert same >= 0.99 * len(lower)  # A tie may fall the other way.


def test_only_changes_are_listed() -> None:
    score = score_of(*[([36, 52, 55, 60], 4)] * 6)
    assert hear_chords(score) == [(0, parse_chord("Cmaj"))]


def test_a_chord_over_a_bass_that_is_no_tone_of_it_is_named_with_its_bass() -> None:
    assert names(score_of(([36, 55, 60, 64], 4), ([43, 53, 57, 60], 4), ([36, 55, 60, 64], 4)))[1] in (
        "Fmaj/G",
        "G9sus",
    )


def test_silence_has_no_chords_and_c_major() -> None:
    empty = Score(np.zeros((0, 4), dtype=np.int32))
    assert hear_chords(empty) == []
    assert (hear_key(empty).fifths, hear_key(empty).minor) == (0, False)
    assert hear_keys(empty) == []


def test_a_modulation_by_a_semitone_is_heard_and_the_first_key_is_the_key() -> None:
    home = [([36, 52, 55, 60], 2), ([41, 53, 57, 60], 2), ([43, 53, 59, 62], 2), ([36, 52, 55, 64], 2)]
    away = [([key + 1 for key in keys], beats) for keys, beats in home]
    keys = hear_keys(score_of(*home * 6, *away * 6))
    assert [key.fifths for key in keys] == [0, -5]
    assert hear_key(score_of(*home * 6, *away * 6)).fifths == 0


@pytest.mark.parametrize("metre", [Metre(0, 7, 8), Metre(0, 5, 4), Metre(0, 12, 8), Metre(0, 3, 32), Metre(0, 2, 2)])
def test_any_metre_is_heard(metre: Metre) -> None:
    assert names(score_of(*[([36, 52, 55, 60], 4)] * 3, metre=metre)) == ["Cmaj"]


def test_one_note_at_an_absurd_time_costs_neither_time_nor_memory() -> None:
    rows = np.array([(0, 60, 24, 80), (40_000_000, 64, 30_000_000, 80)], dtype=np.int32)
    assert len(hear_chords(Score(rows))) >= 1


def test_metre_changes_in_mid_piece_move_the_beats() -> None:
    notes = score_of(([36, 52, 55, 60], 4), ([43, 53, 59, 62], 3), ([36, 52, 55, 60], 3)).notes
    heard = hear_chords(Score(notes, (Metre(0, 4, 4), Metre(96, 3, 4))))
    assert [(onset, chord.symbol) for onset, chord in heard] == [(0, "Cmaj"), (96, "Gdom7"), (168, "Cmaj")]
