"""Score -> words -> score, and any words at all."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from music_strategies import likely_word_lists, scores, word_lists

from plagal.music.chords import QUALITIES, ROOT_NAMES
from plagal.music.grid import regular
from plagal.music.midi import read_midi, to_midi_bytes, write_midi
from plagal.music.score import Key, Marker, Metre, Pedal, Score, Tempo
from plagal.plumbing.errors import MidiError, WordsError
from plagal.tokens import grammar
from plagal.tokens.codec import decode, encode
from plagal.tokens.vocabulary import DURATION_TICKS, MUSIC_WORDS, VELOCITY_LEVELS


def notes(*rows: tuple[int, int, int, int]) -> np.ndarray:
    return np.array(rows, dtype=np.int32).reshape(-1, 4)


def played(text: str) -> list[list[int]]:
    """Notes of a bar of 4/4 with the given words."""
    return decode(
        f"SONG_START TIMESIG_4_4 TEMPO_120 BAR_START {text} SONG_END".split(), strict=True
    ).score.notes.tolist()


@given(scores)
@settings(max_examples=300)
def test_a_score_made_regular_stays_so_and_comes_back_exactly_from_words_that_the_grammar_accepts(score):
    expected = regular(score)
    again = regular(expected)
    assert again == expected and again.losses == expected.losses
    words = encode(score, chords=any(marker.kind == "chord" for marker in expected.markers))
    assert grammar.accepts(words) and grammar.accepts(encode(score))
    decoded = decode(words, strict=True)
    assert decoded.score == expected
    assert decoded.repairs == []


@given(scores)
@settings(max_examples=100)
def test_words_come_back_through_a_midi_file(score):
    words = encode(score)
    decoded = decode(words).score
    if len(decoded.notes):
        assert encode(read_midi(to_midi_bytes(decoded))) == words


@given(st.one_of(word_lists, likely_word_lists))
@settings(max_examples=400)
def test_lenient_decoding_never_fails_and_repairs_what_the_grammar_refuses(words):
    decoded = decode(words)
    assert bool(decoded.repairs) == (not grammar.accepts(words))
    assert regular(decoded.score) == decoded.score
    again = encode(decoded.score)
    assert grammar.accepts(again)
    assert encode(decode(again).score) == again


@given(likely_word_lists)
@settings(max_examples=300)
def test_strict_decoding_raises_at_the_first_word_that_may_not_stand(words):
    state, place = grammar.start(), 0
    while place < len(words) and words[place] in grammar.allowed(state):
        state, place = grammar.advance(state, words[place]), place + 1
    if place == len(words) and state.done:
        decode(words, strict=True)
        return
    with pytest.raises(WordsError) as raised:
        decode(words, strict=True)
    assert raised.value.position == place
    assert raised.value.allowed == grammar.allowed(state)


@given(st.lists(st.integers(0, 10**9), min_size=5, max_size=150))
@settings(max_examples=150)
def test_whatever_the_automaton_lets_through_decodes_without_repairs(choices):
    state, words = grammar.start(), []
    for choice in choices:
        options = grammar.allowed(state)
        if not options:
            break
        words.append(options[choice % len(options)])
        state = grammar.advance(state, words[-1])
    if state.done:
        assert decode(words, strict=True).repairs == []
    else:
        decoded = decode(words)
        assert decoded.repairs[-1].position == len(words)


def test_every_duration_is_exact_in_as_few_words_as_there_can_be():
    for duration in range(1, 500):
        score = Score(notes((0, 60, duration, 80)))
        words = encode(score, chords=False)
        assert decode(words).score == score
        ties = 0 if duration == 144 else (duration - 1) // 96 - (duration > 96 and duration % 96 == 48)
        assert len(words) == 9 + ties


def test_every_chord_with_every_bass_comes_back():
    symbols = [f"{root}{quality}{bass}" for root in ROOT_NAMES for quality in QUALITIES for bass in ("", "/E")]
    score = Score(
        notes((0, 60, 24, 80)),
        markers=tuple(Marker(24 * place, "chord", symbol) for place, symbol in enumerate(symbols)),
    )
    assert decode(encode(score)).score == regular(score)


def test_the_plan_s_short_form_without_beats_means_beat_0():
    short = ["SONG_START", "BAR_START", "CHORD_Cmaj7", "NOTE_ON_60", "DUR_QUARTER", "VEL_MF", "SONG_END"]
    score = decode(short, strict=True).score
    assert score.notes.tolist() == [[0, 60, 24, 80]]
    assert score.markers == (Marker(0, "chord", "Cmaj7"),)


def test_a_piece_reads_as_the_specification_shows_it():
    score = Score(
        notes((0, 37, 36, 80), (40, 61, 8, 65)),
        (Metre(0, 12, 8),),
        (Tempo(0, 66.0),),
        (Key(0, -5),),
        (Pedal(0, "on"), Pedal(40, "off"), Pedal(40, "on")),
        (Marker(0, "repeat", "START"), Marker(0, "section", "VERSE"), Marker(0, "chord", "Dbmaj9/F"),
         Marker(144, "repeat", "END")),
    )  # fmt: skip
    assert " ".join(encode(score)) == (
        "SONG_START KEY_Db TIMESIG_12_8 TEMPO_66 BAR_START REPEAT_START SECTION_VERSE BEAT_0 PEDAL_ON "
        "CHORD_Dbmaj9 BASS_F NOTE_ON_37 DUR_DOTTED_QUARTER VEL_MF BEAT_1.667 PEDAL_OFF PEDAL_ON "
        "NOTE_ON_61 DUR_TRIPLET_EIGHTH VEL_MP REPEAT_END SONG_END"
    )
    assert decode(encode(score)).score == score


def test_velocities_go_to_the_nearest_level_that_sounds():
    for velocity in range(1, 128):
        level = decode(encode(Score(notes((0, 60, 24, velocity))), chords=False)).score.notes[0, 3]
        assert abs(level - velocity) == min(abs(other - velocity) for other in VELOCITY_LEVELS.values())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("NOTE_ON_60 DUR_QUARTER VEL_SILENT", []),
        ("NOTE_ON_60 DUR_QUARTER VEL_CRESC NOTE_ON_64 DUR_QUARTER VEL_CRESC", [[0, 60, 24, 95], [0, 64, 24, 110]]),
        ("NOTE_ON_60 DUR_QUARTER VEL_DECRESC", [[0, 60, 24, 65]]),
        ("NOTE_ON_60 DUR_QUARTER VEL_ACCENT NOTE_ON_64 DUR_QUARTER VEL_TENUTO", [[0, 60, 24, 110], [0, 64, 96, 80]]),
        ("NOTE_ON_60 DUR_QUARTER VEL_SOFT_ACCENT", [[0, 60, 24, 95]]),
        ("NOTE_ON_60 DUR_QUARTER VEL_STACCATO", [[0, 60, 12, 80]]),
        ("NOTE_ON_60 DUR_QUARTER VEL_MARCATO", [[0, 60, 18, 110]]),
        ("NOTE_ON_60 DUR_HOLD VEL_P", [[0, 60, 96, 50]]),
        ("BEAT_1 NOTE_ON_60 DUR_RELEASE VEL_P BEAT_2 NOTE_ON_64 DUR_RELEASE VEL_P",
         [[24, 60, 24, 50], [48, 64, 48, 50]]),
        ("NOTE_ON_60 DUR_SUSTAIN VEL_P BEAT_2 NOTE_OFF_60", [[0, 60, 48, 50]]),
        ("NOTE_ON_60 DUR_SUSTAIN VEL_P BAR_START", [[0, 60, 192, 50]]),
        ("NOTE_ON_60 DUR_WHOLE VEL_P BEAT_1 NOTE_OFF_60 NOTE_OFF_61", [[0, 60, 24, 50]]),
        ("STACCATO NOTE_ON_60 DUR_HALF VEL_P", [[0, 60, 24, 50]]),
        ("LEGATO NOTE_ON_60 DUR_EIGHTH VEL_P BEAT_3 NOTE_ON_62 DUR_EIGHTH VEL_P", [[0, 60, 72, 50], [72, 62, 12, 50]]),
        ("ACCENT NOTE_ON_60 DUR_EIGHTH VEL_P", [[0, 60, 12, 65]]),
        ("GRACE_NOTE NOTE_ON_60 DUR_HALF VEL_P", [[0, 60, 3, 50]]),
        ("BEAT_1 GRACE_BEFORE NOTE_ON_60 DUR_HALF VEL_P", [[21, 60, 3, 50]]),
        ("GRACE_AFTER NOTE_ON_60 DUR_HALF VEL_P", [[3, 60, 3, 50]]),
        ("TRILL NOTE_ON_60 DUR_EIGHTH VEL_P", [[0, 60, 3, 50], [3, 62, 3, 50], [6, 60, 3, 50], [9, 62, 3, 50]]),
        ("FERMATA NOTE_ON_60 DUR_HALF VEL_P", [[0, 60, 72, 50]]),
        ("ARPEGGIO NOTE_ON_60 DUR_HALF VEL_P NOTE_ON_64 DUR_HALF VEL_P NOTE_ON_67 DUR_HALF VEL_P",
         [[0, 60, 48, 50], [1, 64, 47, 50], [2, 67, 46, 50]]),
        ("NOTE_ON_60 DUR_WHOLE_TIED DUR_HALF_TIED DUR_0.042 VEL_P", [[0, 60, 145, 50]]),
    ],
)  # fmt: skip
def test_words_that_the_encoder_never_writes_do_what_their_definition_says(words, expected):
    assert played(words) == expected


@pytest.mark.parametrize("word", [word for word in MUSIC_WORDS if word in DURATION_TICKS])
def test_every_length_word_lasts_as_long_as_it_says(word):
    assert played(f"NOTE_ON_60 {word} VEL_MF")[0][2] == DURATION_TICKS[word]


def test_bars_past_twelve_quarters_are_split_as_evenly_as_their_beats_allow_and_counted():
    score = Score(notes((0, 60, 24, 80), (24 * 16, 62, 24, 80)), (Metre(0, 15, 4),))
    words = encode(score, chords=False)
    assert [word for word in words if word.startswith("TIMESIG")] == ["TIMESIG_8_4", "TIMESIG_7_4", "TIMESIG_8_4"]
    assert regular(score).losses["bars_split"] == 2
    assert decode(words).score.notes.tolist() == score.notes.tolist()


def test_trailing_empty_bars_are_not_written_and_inner_ones_are():
    score = Score(notes((0, 60, 24, 80), (96 * 3, 60, 24, 80)))
    assert encode(score, chords=False).count("BAR_START") == 4


def test_a_tempo_that_no_word_tells_from_the_one_before_makes_no_bars():
    score = Score(notes((0, 60, 24, 80)), tempos=(Tempo(0, 110.006), Tempo(960, 110.0)))
    words = encode(score)
    assert words.count("BAR_START") == 1
    assert encode(decode(words, strict=True).score) == words


def test_asserted_chords_win_over_those_heard():
    score = Score(notes((0, 60, 24, 80), (0, 64, 24, 80), (0, 67, 24, 80)), markers=(Marker(0, "chord", "Gb7alt"),))
    assert [word for word in encode(score) if word.startswith("CHORD")] == ["CHORD_Gb7alt"]


def test_words_survive_a_file_and_a_new_process(tmp_path):
    score = Score(
        notes((0, 60, 30, 80), (7, 64, 100, 65), (100, 60, 24, 95)),
        (Metre(0, 7, 8), Metre(84, 5, 4)),
        (Tempo(0, 66.0), Tempo(84, 20.25)),
        (Key(0, 3, True),),
        markers=(Marker(0, "section", "CHORUS"),),
    )
    words = encode(score)
    write_midi(decode(words).score, tmp_path / "piece.mid")
    code = "import sys, json; from plagal.music.midi import read_midi; from plagal.tokens.codec import encode; "
    code += "print(json.dumps(encode(read_midi(sys.argv[1]))))"
    told = subprocess.run([sys.executable, "-c", code, tmp_path / "piece.mid"], capture_output=True, check=True)
    assert json.loads(told.stdout) == words


@pytest.mark.parametrize(
    "word", ["BAR_START", "DUR_WHOLE_TIED", "BEAT_11", "NOTE_ON_60", "REPEAT_START", "NOTE_OFF_60"]
)
def test_a_hundred_thousand_times_the_same_word_is_no_trouble(word):
    words = ["SONG_START", "TIMESIG_12_4", "BAR_START", "NOTE_ON_60", *[word] * 100_000]
    decoded = decode(words)
    assert decoded.repairs
    again = encode(decoded.score)
    assert encode(decode(again).score) == again


def test_a_line_of_text_is_words_as_well():
    line = "SONG_START BAR_START NOTE_ON_60 DUR_QUARTER VEL_MF SONG_END"
    assert decode(line).score == decode(line.split()).score
    assert decode(line, strict=True).repairs == []


@pytest.mark.parametrize("odd", [None, 5, b"SONG_START", ["SONG_START"], {}])
def test_what_is_no_word_at_all_is_left_out_or_named(odd):
    words = ["SONG_START", odd, "BAR_START", "SONG_END"]
    assert [repair.position for repair in decode(words).repairs] == [1]
    assert not grammar.accepts(words)
    with pytest.raises(WordsError) as error:
        decode(words, strict=True)
    assert error.value.position == 1


@pytest.mark.parametrize(
    "score",
    [
        Score(np.array([(-1, 60, 9, 80)])),
        Score(np.array([(0, 60, 9, 128)])),
        Score(np.array([(0, 60, 9, 80)]), keys=(Key(0, 8, False),)),
        Score(np.array([(0, 60, 9, 80)]), pedals=(Pedal(0, "down"),)),
        Score(np.array([(0, 60, 9, 80)]), tempos=(Tempo(-3, 90.0),)),
    ],
)
def test_a_score_that_no_midi_file_could_hold_is_refused_by_name(score):
    with pytest.raises(MidiError):
        encode(score)


def test_strict_decoding_refuses_a_piece_that_lasts_for_days():
    words = ["SONG_START", "TIMESIG_12_4", *["BAR_START"] * 20_000, "SONG_END"]
    assert grammar.accepts(words)
    with pytest.raises(MidiError, match="lasts longer"):
        decode(words, strict=True)
    assert decode(words).repairs[0].what.startswith("past the longest piece")


@pytest.mark.parametrize(
    "words",
    [
        ["REPEAT_START", "BAR_START", "REPEAT_END"],
        ["BEAT_11", "NOTE_ON_60", "BEAT_0"],
        ["TIMESIG_12_4", "BEAT_11", "NOTE_ON_60"],
    ],
)
def test_words_past_the_longest_piece_are_left_out_whatever_begins_their_bar(words: list[str]):
    decoded = decode(words * 45_000)
    assert "past the longest piece" in str(decoded.repairs[-2])
    assert grammar.accepts(encode(decoded.score, chords=False))
