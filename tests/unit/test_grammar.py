"""Which word may come next."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plagal.plumbing.errors import WordsError
from plagal.tokens import grammar
from plagal.tokens.vocabulary import MUSIC_WORDS

HEAD = "SONG_START KEY_Db TIMESIG_3_4 TEMPO_66 "


def after(text: str) -> set[str]:
    return set(grammar.allowed(grammar.check((HEAD + text).split())))


@given(st.lists(st.integers(0, 10**6), max_size=80))
@settings(max_examples=100, deadline=None)
def test_the_mask_allows_exactly_the_words_that_advance_takes(choices):
    state = grammar.start()
    for choice in choices:
        mask = grammar.allowed_mask(state)
        options = grammar.allowed(state)
        assert [MUSIC_WORDS[place] for place in np.flatnonzero(mask)] == options
        if not options:
            assert state.done
            break
        for word in random.Random(choice).sample(MUSIC_WORDS, 30):
            if word in options:
                grammar.advance(state, word)
            else:
                with pytest.raises(WordsError):
                    grammar.advance(state, word)
        state = grammar.advance(state, options[choice % len(options)])


@given(st.lists(st.integers(0, 10**6), max_size=60))
@settings(max_examples=100, deadline=None)
def test_no_prefix_is_a_dead_end(choices):
    state = grammar.start()
    for choice in choices:
        if options := grammar.allowed(state):
            state = grammar.advance(state, options[choice % len(options)])
    for word in (
        "NOTE_ON_108",
        "DUR_QUARTER",
        "VEL_MF",
        "BAR_START",
        "PEDAL_ON",
        "REPEAT_END",
        "SONG_START",
        "BAR_START",
    ):
        if word in grammar.allowed(state):
            state = grammar.advance(state, word)
    for _ in range(4):
        ends = [word for word in ("SONG_END", "REPEAT_END", "DUR_QUARTER", "VEL_MF", "NOTE_ON_108", "BAR_START")
                if word in grammar.allowed(state)]  # fmt: skip
        state = grammar.advance(state, ends[0]) if ends else state
    assert state.done


def test_every_reachable_kind_of_state_leads_to_the_end():
    rng = random.Random(3)
    for _ in range(300):
        state = grammar.start()
        for _ in range(rng.randrange(40)):
            if options := grammar.allowed(state):
                state = grammar.advance(state, rng.choice(options))
        steps = 0
        while not state.done:
            options = grammar.allowed(state)
            ending = [w for w in ("SONG_END", "REPEAT_END", "VEL_MF", "DUR_QUARTER", "BAR_START") if w in options]
            state = grammar.advance(state, ending[0] if ending else options[-1])
            steps += 1
            assert steps < 12


def test_positions_stay_inside_their_bar_and_rise():
    assert "BEAT_2.958" in after("BAR_START") and "BEAT_3" not in after("BAR_START")
    later = after("BAR_START BEAT_1 NOTE_ON_60 DUR_QUARTER VEL_MF")
    assert "BEAT_1.042" in later and "BEAT_1" not in later and "BEAT_0" not in later


def test_pitches_rise_within_a_position():
    later = after("BAR_START BEAT_1 NOTE_ON_60 DUR_QUARTER VEL_MF")
    assert "NOTE_ON_61" in later and "NOTE_ON_60" not in later
    assert "NOTE_ON_21" in after("BAR_START BEAT_1 NOTE_ON_60 DUR_QUARTER VEL_MF BEAT_2")
    assert "ARPEGGIO" not in after("BAR_START NOTE_ON_108 DUR_QUARTER VEL_MF")


def test_a_note_is_pitch_then_duration_then_velocity():
    assert all(word.startswith("DUR_") for word in after("BAR_START NOTE_ON_60"))
    assert all(word.startswith("DUR_") for word in after("BAR_START NOTE_ON_60 DUR_WHOLE_TIED"))
    assert all(word.startswith("VEL_") for word in after("BAR_START NOTE_ON_60 DUR_HALF"))


def test_the_metre_changes_only_at_a_bar():
    assert "TIMESIG_4_4" in after("BAR_START")
    assert "TIMESIG_4_4" not in after("BAR_START BEAT_0 CHORD_C5")
    assert "BEAT_3" in after("BAR_START TIMESIG_4_4")


def test_repeats_are_balanced():
    assert "REPEAT_END" not in after("BAR_START")
    opened = after("BAR_START REPEAT_START")
    assert "SONG_END" not in opened and "REPEAT_END" in opened
    assert after("BAR_START REPEAT_START REPEAT_END") == {"BAR_START", "SONG_END"}
    assert "REPEAT_START" not in after("BAR_START REPEAT_START BAR_START")


def test_a_bass_stands_only_after_its_chord():
    assert "BASS_F" in after("BAR_START CHORD_Dbmaj9")
    assert "BASS_F" not in after("BAR_START CHORD_Dbmaj9 BASS_Db")


def test_the_state_tells_where_the_piece_stands():
    state = grammar.check(
        (HEAD + "BAR_START BEAT_0 NOTE_ON_60 DUR_HALF VEL_P BAR_START TIMESIG_7_8 BEAT_1.333").split()
    )
    assert (state.bars, state.position, state.bar_ticks, state.done) == (2, 32, 84, False)
    assert grammar.check([*HEAD.split(), "BAR_START", "SONG_END"]).done


def test_an_error_names_place_word_and_what_could_stand_there():
    with pytest.raises(WordsError, match=r"word 5 is 'VEL_MF', but here could stand only: DUR_WHOLE") as raised:
        grammar.check((HEAD + "BAR_START NOTE_ON_60 VEL_MF").replace("KEY_Db ", "").split())
    assert (raised.value.position, raised.value.word) == (5, "VEL_MF")


def test_an_error_says_of_a_word_that_nobody_knows_that_it_is_none():
    with pytest.raises(WordsError, match=r"word 1 is 'KEY_H', which is not a word of the language; here could"):
        grammar.check(["SONG_START", "KEY_H"])


def test_nothing_but_a_whole_piece_is_accepted():
    assert grammar.accepts([*HEAD.split(), "BAR_START", "SONG_END"])
    assert not grammar.accepts([])
    assert not grammar.accepts(["SONG_START", "SONG_END"])
    assert not grammar.accepts([*HEAD.split(), "BAR_START"])
    assert not grammar.accepts([*HEAD.split(), "BAR_START", "SONG_END", "SONG_END"])
    assert not grammar.accepts(["SONG_START", "PAD", "BAR_START", "SONG_END"])


def test_masks_cannot_be_changed_by_those_who_share_them():
    with pytest.raises(ValueError, match="read-only"):
        grammar.allowed_mask(grammar.start())[0] = False
