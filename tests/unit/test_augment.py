"""Copies of a piece that are still the same piece."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from corpus_helpers import hymn
from hypothesis import given, settings
from hypothesis import strategies as st

from plagal.corpus.duplicates import heard_melody, intervals
from plagal.corpus.prepare import play_live, revoice
from plagal.corpus.reading import bar_count
from plagal.music.edits import change_tempo, excerpt, shifts_that_fit, transpose
from plagal.music.grid import regular
from plagal.music.score import PITCH, Key, Marker, Metre, Pedal, Tempo
from plagal.tokens.codec import encode

seeds = st.integers(0, 60)


@given(seeds, st.integers(-6, 6))
@settings(deadline=None, max_examples=25)
def test_transposing_moves_every_note_key_and_chord_and_back_again(seed: int, semitones: int):
    score = replace(hymn(seed), markers=(Marker(0, "chord", "Bbmin7/Eb"), Marker(0, "section", "VERSE")))
    moved = transpose(score, semitones)
    assert (moved.notes[:, PITCH] - score.notes[:, PITCH] == semitones).all()
    assert transpose(moved, -semitones) == score


def test_the_key_word_and_the_chords_follow():
    score = replace(hymn(1), keys=(Key(0, 0),), markers=(Marker(0, "chord", "Cmaj7"),))
    words = encode(transpose(score, 1))
    assert "KEY_Db" in words
    assert "CHORD_Dbmaj7" in words


def test_a_shift_beyond_the_keyboard_is_refused_and_never_offered():
    score = transpose(hymn(1), 108 - int(hymn(1).notes[:, PITCH].max()))
    assert max(shifts_that_fit(score, 6)) == 0
    with pytest.raises(ValueError, match="88 keys"):
        transpose(score, 1)


def test_tempos_are_multiplied_and_stay_within_their_words():
    score = replace(hymn(1), tempos=(Tempo(0, 100.0), Tempo(96, 295.0)))
    assert [tempo.quarters_per_minute for tempo in change_tempo(score, 1.1).tempos] == pytest.approx([110, 300])


@given(seeds, st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_voicing_anew_keeps_melody_bass_rhythm_and_pitch_classes(seed: int, draw: int):
    score = hymn(seed)
    voiced = revoice(score, random.Random(draw))
    assert regular(voiced) == voiced
    assert len(voiced.notes) == len(score.notes)
    assert intervals(heard_melody(voiced)) == intervals(heard_melody(score))
    for onset in set(score.notes[:, 0].tolist()):
        before = score.notes[score.notes[:, 0] == onset]
        after = voiced.notes[voiced.notes[:, 0] == onset]
        assert before[:, PITCH].min() == after[:, PITCH].min()
        assert sorted(before[:, PITCH] % 12) == sorted(after[:, PITCH] % 12)


def test_voicing_anew_does_change_voicings():
    changed = sum(revoice(hymn(seed), random.Random(seed)) != hymn(seed) for seed in range(20))
    assert changed > 10


@given(seeds, st.integers(0, 7), st.integers(1, 5))
@settings(deadline=None, max_examples=30)
def test_an_excerpt_has_the_bars_asked_for_and_notes_of_nowhere_else(seed: int, first: int, bars: int):
    score = hymn(seed)
    cut = excerpt(score, first, bars)
    assert regular(cut) == cut
    assert bar_count(cut) == bars
    assert (cut.notes[:, 0] + cut.notes[:, 2]).max() <= bars * 96
    inside = (score.notes[:, 0] >= first * 96) & (score.notes[:, 0] < (first + bars) * 96)
    assert len(cut.notes) == inside.sum()


def test_an_excerpt_begins_under_what_held_there():
    score = replace(
        hymn(1),
        keys=(Key(0, 0), Key(96, -5)),
        tempos=(Tempo(0, 60.0), Tempo(150, 72.0)),
        metres=(Metre(0, 4, 4), Metre(96, 2, 4)),
        markers=(Marker(48, "chord", "G7"), Marker(200, "chord", "Cmaj"), Marker(96, "section", "CHORUS")),
        pedals=(Pedal(10, "on"), Pedal(100, "off")),
    )
    cut = excerpt(score, 1, 4)
    assert cut.keys == (Key(0, -5),)
    assert cut.tempos == (Tempo(0, 60.0), Tempo(54, 72.0))
    assert cut.metres == (Metre(0, 2, 4),)
    assert cut.markers == (Marker(0, "section", "CHORUS"), Marker(0, "chord", "Gdom7"), Marker(104, "chord", "Cmaj"))
    assert cut.pedals == (Pedal(0, "on"), Pedal(4, "off"))


def test_the_score_that_is_augmented_stays_as_it_was():
    score = hymn(1)
    before = score.notes.copy()
    revoice(transpose(score, 3), random.Random(1))
    excerpt(score, 1, 2)
    assert np.array_equal(score.notes, before)


@given(seeds, st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_a_piece_played_live_keeps_its_notes_and_strays_a_few_ticks_at_most(seed: int, draw: int):
    score = hymn(seed)
    live = play_live(score, random.Random(draw))
    assert regular(live) == live
    assert len(live.notes) >= 0.95 * len(score.notes)
    assert abs(float(live.notes[:, 0].mean()) - float(score.notes[:, 0].mean())) < 2 * 24
    grid = np.unique(score.notes[:, 0])
    nearest = np.abs(live.notes[:, 0][:, None] - grid[None, :]).min(axis=1)
    assert nearest.max() <= 8


def test_playing_live_leaves_the_grid_and_is_the_same_for_the_same_seed():
    first, again = (play_live(hymn(1), random.Random(3)) for _ in range(2))
    assert first == again
    assert (first.notes[:, 0] % 6 != 0).mean() > 0.1
