"""What two hands can hold, roll and reach."""

from __future__ import annotations

import numpy as np

from plagal.music.arranger.voicing import LARGEST_SPAN, MOST_NOTES, drop_two
from plagal.music.hands import reachable, unplayable
from plagal.music.score import DURATION, ONSET, PITCH, Pedal


def test_a_hand_lets_go_what_it_cannot_hold() -> None:
    held = reachable([(0, 40, 96, 80), (24, 60, 24, 80)])
    assert held == [(0, 40, 24, 80), (24, 60, 24, 80)]
    assert (
        len([note for note in reachable([(0, 60 + step, 24, 80) for step in range(7)]) if note[0] == 0]) == MOST_NOTES
    )


def test_what_no_two_hands_can_hold_is_found() -> None:
    wide = np.array([(0, 30, 24, 80), (0, 60, 24, 80), (0, 90, 24, 80)], dtype=np.int32)
    assert unplayable(wide) == [0]
    many = np.array([(0, 60 + step, 24, 80) for step in range(11)], dtype=np.int32)
    assert unplayable(many) == [0]
    fine = np.array([(0, 36, 24, 80), (0, 52, 24, 80), (24, 90, 24, 80)], dtype=np.int32)
    assert unplayable(fine) == []


def test_a_wide_chord_is_playable_only_rolled_and_only_under_the_pedal() -> None:
    right = (0, 79, 96, 80)
    struck = np.array([(0, 36, 96, 80), (0, 43, 96, 80), (0, 52, 96, 80), (0, 59, 96, 80), (0, 67, 96, 80), right])
    rolled = struck.copy()
    rolled[:4, ONSET] = [0, 1, 2, 3]
    rolled[:4, DURATION] -= [0, 1, 2, 3]
    rolled = rolled[np.lexsort((rolled[:, PITCH], rolled[:, ONSET]))]
    pedals = (Pedal(0, "on"), Pedal(96, "off"))
    assert unplayable(struck) and unplayable(struck, pedals) == [0]
    assert unplayable(rolled) and unplayable(rolled, pedals) == []
    assert unplayable(rolled, (Pedal(0, "on"), Pedal(48, "off")))


def test_a_hand_that_rolls_lets_the_low_keys_ring() -> None:
    rolled = [(0, 36, 96, 80), (1, 43, 95, 80), (2, 52, 94, 80), (3, 59, 93, 80)]
    assert reachable(rolled) == rolled
    assert reachable([*rolled, (48, 36, 24, 80)])[-1] == (48, 36, 24, 80)
    apart = reachable([(0, 36, 96, 80), (12, 59, 84, 80)])
    assert apart == [(0, 36, 12, 80), (12, 59, 84, 80)]


def test_drop_two_takes_the_second_voice_down_an_octave() -> None:
    assert drop_two([4, 7, 0], 71, 50) == (55, 60, 64)
    voices = drop_two([9, 5, 2], 72, 50)
    assert voices == (57, 62, 65)
    assert drop_two([9, 5, 2], 72, 60) is None
    assert voices is not None and 72 - voices[0] <= LARGEST_SPAN
