"""Scores performed with their beats known, and heard again from the playing alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from corpus_helpers import hymn
from music_helpers import as_written

from plagal.music.arranger.arrange import arrange
from plagal.music.performance.performer import Manner, draw_manner, perform
from plagal.music.performance.played import Played, Pulse, pedal_ends, read_played
from plagal.music.score import DURATION, ONSET, PITCH, VELOCITY, Metre, Score, Tempo
from plagal.plumbing.errors import InputError, MidiError

METRONOME = Manner(
    pace=1.0, drift=0.0, phrase_bars=4, phrase_end=0.0, breath=0.0, last_slowing=0.0, swing=1.0, together=0.0,
    steadiness=0.0, left_lead=0.0, melody_lead=0.0, rolled=0.0, roll_step=0.0, legato=1.0, pedal="none", loud=64.0,
    accent=0.0, missing=0.0, doubled=0.0, wrong=0.0, graced=0.0, trilled=0.0, transcribed=False,
)  # fmt: skip


def score_of(rows: list[tuple[int, int, int]], *metres: Metre, tempo: float = 100.0) -> Score:
    notes = np.array([(onset, pitch, ticks, 80) for onset, pitch, ticks in rows], dtype=np.int32)
    return Score(notes, metres or (Metre(0, 4, 4),), (Tempo(0, tempo),))


def test_the_same_seed_plays_the_same_and_another_seed_plays_otherwise():
    score = hymn(3)
    first, again, other = perform(score, 5), perform(score, 5), perform(score, 6)
    assert np.array_equal(first.played.notes, again.played.notes)
    assert np.array_equal(first.pulse.seconds, again.pulse.seconds)
    assert not np.array_equal(first.played.notes[:8], other.played.notes[:8])


def test_a_metronome_plays_the_score_to_the_letter_after_the_silence_before_it():
    score = arrange("amazing_grace", "hymnal", seed=2)
    performance = perform(score, 1, METRONOME)
    written = as_written(replace(score, tempos=score.tempos[:1]))
    heard = perform(replace(score, tempos=score.tempos[:1]), 1, METRONOME).played
    assert np.ptp(heard.notes[:, ONSET] - written.notes[:, ONSET]) < 1e-6
    assert (performance.ticks == score.notes[:, ONSET]).all()


def test_notes_of_the_score_stay_near_their_beats_however_free_the_playing_is():
    score = hymn(2)
    for seed in range(12):
        performance = perform(score, seed)
        pulse = performance.pulse
        assert (np.diff(pulse.seconds) > 0.1).all()
        on_beat = performance.played.notes[performance.ticks % 24 == 0, ONSET]
        inside = on_beat[(on_beat > pulse.seconds[0] - 0.2) & (on_beat < pulse.seconds[-1] + 0.2)]
        nearest = np.abs(inside[:, None] - pulse.seconds[None, :]).min(axis=1)
        assert np.quantile(nearest, 0.8) < 0.12


@pytest.mark.parametrize(
    ("metre", "beats", "compound"), [((3, 4), 3, False), ((6, 8), 2, True), ((12, 8), 4, True), ((2, 2), 2, False)]
)
def test_beats_are_counted_as_musicians_count_them(metre: tuple[int, int], beats: int, compound: bool):
    bar = Metre(0, *metre)
    score = score_of([(tick, 60 + tick % 7, 12) for tick in range(0, 8 * bar.bar_ticks, 12)], bar)
    pulse = perform(score, 1, METRONOME).pulse
    assert set(pulse.length.tolist()) == {beats}
    assert bool(pulse.compound.all()) is compound
    assert np.array_equal(pulse.in_bar, np.arange(len(pulse.in_bar)) % beats)


def test_an_upbeat_is_the_end_of_a_bar_and_no_bar():
    rows = [(tick, 60 + tick % 5, 24) for tick in range(0, 24 + 5 * 96, 24)]
    pulse = perform(score_of(rows, Metre(0, 1, 4), Metre(24, 4, 4)), 1, METRONOME).pulse
    assert pulse.in_bar[:6].tolist() == [3, 0, 1, 2, 3, 0]


def test_two_short_bars_around_a_repeat_are_one():
    rows = [(tick, 60 + tick % 5, 24) for tick in range(0, 8 * 96, 24)]
    metres = [Metre(0, 4, 4), Metre(288, 3, 4), Metre(360, 1, 4), Metre(384, 4, 4)]
    pulse = perform(score_of(rows, *metres), 1, METRONOME).pulse
    assert np.array_equal(pulse.in_bar, np.arange(len(pulse.in_bar)) % 4)


def test_swing_moves_the_second_eighth_and_leaves_written_triplets_alone():
    rows = [(0, 60, 12), (12, 62, 12), (24, 64, 8), (32, 65, 8), (40, 67, 8), (48, 69, 24), (72, 60, 24)]
    notes = perform(score_of(rows), 1, replace(METRONOME, swing=2.0)).played.notes
    beats = (notes[:, ONSET] - notes[0, ONSET]) / 0.6
    assert beats[:5] == pytest.approx([0, 2 / 3, 1, 4 / 3, 5 / 3], abs=1e-3)


def test_a_rolled_chord_goes_upward_and_its_notes_belong_to_one_place():
    rows = [(0, pitch, 96) for pitch in (48, 55, 60, 64)] + [(96, 50, 96)]
    performance = perform(score_of(rows), 1, replace(METRONOME, rolled=1.0, roll_step=0.04))
    notes = performance.played.notes
    assert notes[:4, PITCH].tolist() == [48, 55, 60, 64]
    assert np.diff(notes[:4, ONSET]) == pytest.approx([0.04] * 3)
    assert performance.ticks[:4].tolist() == [0, 0, 0, 0]


def test_a_transcriber_stays_within_30_ms_and_holds_notes_as_long_as_the_pedal():
    score = hymn(1)
    manner = replace(METRONOME, pedal="bar")
    clean = perform(score, 4, manner).played
    heard = perform(score, 4, replace(manner, transcribed=True))
    kept = heard.played.notes[heard.ticks >= 0]
    same = kept[np.lexsort((kept[:, PITCH], heard.ticks[heard.ticks >= 0]))]
    # The silence before the music is drawn anew, so only differences count.
    assert np.ptp(same[:, ONSET] - clean.notes[:, ONSET]) <= 0.06 + 1e-9
    assert np.mean(same[:, DURATION] > clean.notes[:, DURATION] + 0.2) > 0.3
    assert (heard.ticks == -1).any(), "harmonics that nobody played"


def test_every_manner_gives_keys_of_the_piano_and_velocities_of_midi():
    score = hymn(4)
    for seed in range(20):
        manner = draw_manner(np.random.default_rng(seed), transcribed=seed % 2 == 1)
        notes = perform(score, seed, manner).played.notes
        assert (notes[:, ONSET] >= 0).all() and (notes[:, DURATION] > 0).all()
        assert notes[:, PITCH].min() >= 21 and notes[:, PITCH].max() <= 108
        assert notes[:, VELOCITY].min() >= 1 and notes[:, VELOCITY].max() <= 127
        assert (np.diff(notes[:, ONSET]) >= 0).all()


def test_the_pedal_holds_notes_until_it_lifts():
    notes = np.array([[0.0, 60, 0.5, 80], [1.0, 62, 0.5, 80], [4.0, 64, 1.0, 80]])
    pedal = np.array([[0.2, 1.0], [2.0, 0.0]])
    assert pedal_ends(Played(notes, pedal)).tolist() == [2.0, 2.0, 5.0]


def test_a_pulse_names_its_commonest_metre_and_its_median_tempo():
    seconds = np.arange(14) * 0.5
    pulse = Pulse(seconds, np.arange(14) % 4, np.full(14, 4), np.ones(14, dtype=bool))
    assert (pulse.metre, pulse.bpm) == ("12/8", pytest.approx(120))
    assert pulse.downbeats.tolist() == [0, 2, 4, 6]


def test_files_without_notes_and_bytes_that_are_no_midi_are_refused_by_name(tmp_path):
    with pytest.raises(MidiError, match="no MIDI file"):
        read_played(b"RIFF")
    with pytest.raises(InputError, match="there is no note"):
        Played(np.zeros((0, 4)))
    with pytest.raises(InputError, match=r"gone\.mid"):
        read_played(tmp_path / "gone.mid")
