"""What two hands can hold, roll and reach."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from plagal.music.arranger.arrange import arrange
from plagal.music.arranger.voicing import drop_two
from plagal.music.hands import LARGEST_SPAN, MOST_NOTES, hands_for, in_two_hands, reachable, unplayable
from plagal.music.score import DURATION, ONSET, PITCH, Pedal, Score


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


def played(*notes: tuple[int, int, int]) -> Score:
    """Of onset, pitch and duration."""
    return Score(np.array([(*note, 80) for note in sorted(notes)], dtype=np.int32).reshape(-1, 4))


@pytest.mark.parametrize("style", ["traditional_gospel", "shout", "blues", "worship"])
def test_the_hands_of_an_arrangement_are_heard_in_nine_of_ten_notes(style: str) -> None:
    score = arrange("what_a_friend", style, seed=11)
    assert score.hands is not None and {0, 1} == set(score.hands.tolist())
    assert (hands_for(score.notes) == score.hands).mean() > 0.9


def test_a_hand_that_leaps_over_the_other_comes_back() -> None:
    # The right holds a chord; the left plays a bass under it, then two notes above it, as in many a virtuoso's piece.
    under, over = [(0, 36, 12), (96, 36, 12)], [(48, 84, 12), (144, 84, 12)]
    chord = [(onset, pitch, 48) for onset in (0, 48, 96, 144) for pitch in (60, 64, 67)]
    score = played(*under, *over, *chord)
    hands = dict(zip(map(tuple, score.notes[:, [ONSET, PITCH]].tolist()), hands_for(score.notes).tolist(), strict=True))
    assert {hands[onset, 36] for onset, _, _ in under} == {0}
    assert all(hands[onset, pitch] == hands[onset, 60] for onset, pitch, _ in chord)


def test_a_tune_alone_is_one_hand_s() -> None:
    assert set(hands_for(played(*((24 * step, 67 + step % 5, 24) for step in range(16))).notes).tolist()) == {1}
    assert set(hands_for(played(*((24 * step, 40 + step % 5, 24) for step in range(16))).notes).tolist()) == {0}


def test_what_no_two_hands_can_play_gets_a_hand_for_every_note_all_the_same() -> None:
    score = in_two_hands(played(*((0, 24 + 3 * step, 24) for step in range(27))))
    assert score.hands is not None and sorted(score.hands.tolist()) == score.hands.tolist()
    assert unplayable(score.notes) == [0]


def test_no_notes_have_no_hands() -> None:
    assert in_two_hands(played()).hands.tolist() == []


def test_the_hands_that_a_source_says_stay() -> None:
    score = played((0, 40, 24), (0, 80, 24), (24, 60, 24))
    crossed = np.array([1, 0, -1], dtype=np.int8)
    assert in_two_hands(replace(score, hands=crossed)).hands.tolist()[:2] == [1, 0]
    assert in_two_hands(replace(score, hands=crossed)).hands.tolist()[2] in (0, 1)
