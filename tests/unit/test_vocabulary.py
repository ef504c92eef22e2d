"""The words and their ids are a contract."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest

from plagal.music.grid import TEMPOS, nearest_tempo
from plagal.tokens.vocabulary import (
    BEAT_TICKS,
    DURATION_TICKS,
    ID_OF,
    METRES,
    MUSIC_WORDS,
    NAMED_DURATIONS,
    PROMPT_WORDS,
    SPECIAL_WORDS,
    WORD_OF,
    WORDS,
    definition,
    duration_words,
)

ROOTS = ["C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B"]
FIXED_CHORDS = (
    "maj", "min", "dim", "aug", "maj7", "min7", "dom7", "dim7", "halfdim7", "maj9", "min9", "dom9", "maj11", "min11",
    "dom11", "maj13", "min13", "dom13", "sus2", "sus4", "6", "min6", "add9", "minadd9",
)  # fmt: skip
FIXED = {
    0: "SONG_START SONG_END SECTION_INTRO SECTION_VERSE SECTION_CHORUS SECTION_BRIDGE SECTION_OUTRO REPEAT_START "
    "REPEAT_END BAR_START BEAT_0 BEAT_1 BEAT_2 BEAT_3 BEAT_0.5 BEAT_1.5 BEAT_2.5 BEAT_3.5 BEAT_0.25 BEAT_0.75 "
    "BEAT_1.25 BEAT_1.75 BEAT_2.25 BEAT_2.75 BEAT_3.25 BEAT_3.75",
    30: " ".join(f"NOTE_ON_{pitch}" for pitch in range(21, 109)),
    120: " ".join(f"NOTE_OFF_{pitch}" for pitch in range(21, 109)),
    210: "DUR_WHOLE DUR_HALF DUR_QUARTER DUR_EIGHTH DUR_SIXTEENTH DUR_THIRTYSECOND DUR_DOTTED_WHOLE DUR_DOTTED_HALF "
    "DUR_DOTTED_QUARTER DUR_DOTTED_EIGHTH DUR_DOTTED_SIXTEENTH DUR_TRIPLET_WHOLE DUR_TRIPLET_HALF DUR_TRIPLET_QUARTER "
    "DUR_TRIPLET_EIGHTH DUR_TRIPLET_SIXTEENTH DUR_WHOLE_TIED DUR_HALF_TIED DUR_QUARTER_TIED DUR_EIGHTH_TIED "
    "DUR_SIXTEENTH_TIED DUR_SUSTAIN DUR_RELEASE DUR_HOLD",
    240: "VEL_SILENT VEL_PPP VEL_PP VEL_P VEL_MP VEL_MF VEL_F VEL_FF VEL_FFF VEL_CRESC VEL_DECRESC VEL_ACCENT "
    "VEL_SOFT_ACCENT VEL_STACCATO VEL_TENUTO VEL_MARCATO",
    300: " ".join(f"CHORD_{root}{quality}" for root in ROOTS for quality in FIXED_CHORDS),
    600: "PEDAL_ON PEDAL_OFF PEDAL_HALF STACCATO LEGATO ACCENT GRACE_NOTE GRACE_BEFORE GRACE_AFTER TRILL ARPEGGIO "
    "FERMATA",
    1000: "PAD BOS EOS MASK UNKNOWN",
}


@pytest.mark.parametrize("first", FIXED)
def test_the_ids_of_the_plan_s_table_hold(first):
    for number, word in enumerate(FIXED[first].split(), first):
        assert WORD_OF[number] == word
        assert ID_OF[word] == number


def test_no_id_has_ever_moved():
    # New words go to the end: then this digest of the first ones stays as it is.
    told = "\n".join(f"{number} {word}" for number, word in WORD_OF.items() if number <= 1657)
    assert (
        hashlib.sha256(told.encode()).hexdigest() == "c0aa7e214af710e61b1f6d227026260fa29dd714c7f983edd28905575bf5b6b5"
    )


def test_over_600_words_and_no_word_twice():
    assert len(WORDS) == len(set(WORDS)) == len(WORD_OF) == len(ID_OF) > 600
    assert list(WORD_OF) == sorted(WORD_OF)
    assert len(MUSIC_WORDS) == len(WORDS) - len(SPECIAL_WORDS) - len(PROMPT_WORDS)


def test_no_word_holds_a_space():
    assert all(word.split() == [word] for word in WORDS)


def test_every_position_of_twelve_quarters_has_one_word_with_at_most_three_decimals():
    assert sorted(BEAT_TICKS.values()) == list(range(288))
    for word, ticks in BEAT_TICKS.items():
        assert abs(float(word[5:]) - ticks / 24) <= 0.0005
        assert len(word.partition(".")[2]) <= 3


def test_every_length_up_to_a_whole_note_has_one_word_and_names_come_first():
    assert sorted(DURATION_TICKS.values()) == [*range(1, 97), 144]
    assert {DURATION_TICKS[word] for word in NAMED_DURATIONS} == set(NAMED_DURATIONS.values())
    assert duration_words(240) == ["DUR_WHOLE_TIED", "DUR_DOTTED_WHOLE"]
    assert duration_words(97) == ["DUR_WHOLE_TIED", "DUR_0.042"]


def test_every_tempo_from_20_to_300_is_within_one_percent_of_a_word():
    assert TEMPOS[0] == 20 and TEMPOS[-1] == 300
    assert all(1 < after / before < 1.02 for before, after in pairwise(TEMPOS))
    for tenth in range(200, 3001):
        assert abs(nearest_tempo(tenth / 10) / (tenth / 10) - 1) <= 0.01
    assert {66.0, 120.0} <= set(TEMPOS)
    assert nearest_tempo(1) == 20 and nearest_tempo(1e9) == 300


def test_every_metre_up_to_twelve_quarters_has_a_word():
    assert set(METRES) == {(n, d) for d in (1, 2, 4, 8, 16, 32) for n in range(1, 385) if 4 * n / d <= 12}


def test_every_word_has_a_definition_of_one_line():
    for word in WORDS:
        assert 5 < len(definition(word)) < 100
        assert "\n" not in definition(word)


def test_a_word_that_is_none_has_no_definition():
    with pytest.raises(KeyError):
        definition("CHORD_H7")


def test_definitions_say_what_the_chord_holds():
    assert "Bb D F A C" in definition("CHORD_Bbmaj9")
    assert "B Gb" in definition("CHORD_B5")
