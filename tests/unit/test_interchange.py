"""Ids of a real miditok REMI to words and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import symusic

from plagal.music.midi import read_midi
from plagal.plumbing.errors import InputError
from plagal.tokens import grammar
from plagal.tokens.codec import decode, encode
from plagal.tokens.interchange import ids_to_words, remi_tokenizer, words_to_ids

FIXTURES = Path(__file__).parents[1] / "fixtures" / "midi"
PITCHED = sorted(path for path in FIXTURES.glob("*.mid") if path.stem != "instruments")


@pytest.fixture(scope="module")
def remi():
    return remi_tokenizer()


@pytest.mark.parametrize("path", PITCHED, ids=lambda path: path.stem)
def test_remi_ids_come_back_from_words(remi, path):
    for sequence in remi.encode(symusic.Score.from_midi(path.read_bytes())):
        words = ids_to_words(remi, sequence.ids)
        assert grammar.accepts(words)
        assert words_to_ids(remi, words) == sequence.ids


@pytest.mark.parametrize("name", ["scale", "triplets", "metre_7_8", "metre_12_8", "metre_5_4", "late_by_a_tick"])
def test_remi_s_notes_are_ours(remi, name):
    score = read_midi(FIXTURES / f"{name}.mid")
    ids = words_to_ids(remi, encode(score, chords=False))
    theirs = remi.decode([ids]).tracks[0].notes.numpy()
    per_tick = remi.time_division // 24
    told = sorted(zip(theirs["time"] // per_tick, theirs["pitch"], theirs["duration"] // per_tick, strict=True))
    assert told == [(onset, pitch, duration) for onset, pitch, duration, _ in score.notes.tolist()]


def test_words_that_remi_can_say_come_back_from_its_ids(remi):
    text = (
        "SONG_START TIMESIG_4_4 BAR_START BEAT_0 PEDAL_ON NOTE_ON_48 DUR_WHOLE_TIED DUR_SIXTEENTH VEL_FF NOTE_ON_60 "
        "DUR_TRIPLET_EIGHTH VEL_PPP BAR_START BAR_START TIMESIG_7_8 BEAT_0.042 PEDAL_OFF NOTE_ON_60 DUR_0.042 VEL_MF "
        "SONG_END"
    )
    words = text.split()
    assert ids_to_words(remi, words_to_ids(remi, words)) == words


def test_ends_of_sequences_stay(remi):
    ids = [remi.vocab[token] for token in ("BOS_None", "Bar_None", "TimeSig_4/4", "Position_0", "EOS_None", "PAD_None")]
    words = ids_to_words(remi, ids[:3] + ids[4:])
    assert words == ["BOS", "SONG_START", "TIMESIG_4_4", "BAR_START", "SONG_END", "EOS", "PAD"]
    assert words_to_ids(remi, words) == ids[:3] + ids[4:]


def test_what_remi_cannot_say_is_named_or_left_out(remi):
    words = "SONG_START KEY_Db BAR_START BEAT_0 CHORD_Dbmaj9 NOTE_ON_61 DUR_QUARTER VEL_P SONG_END".split()  # noqa: SIM905
    with pytest.raises(InputError, match="word 1 is 'KEY_Db'"):
        words_to_ids(remi, words)
    left = decode(ids_to_words(remi, words_to_ids(remi, words, leave_out=True)), strict=True).score
    assert left.notes.tolist() == [[0, 61, 24, 50]]


def test_what_words_cannot_say_is_named(remi):
    drum = remi.vocab["PitchDrum_36"]
    with pytest.raises(InputError, match="token 0 is 'PitchDrum_36'"):
        ids_to_words(remi, [drum])
    between = [remi.vocab[token] for token in ("Bar_None", "TimeSig_7/8", "Position_1")]
    with pytest.raises(InputError, match="between the ticks"):
        ids_to_words(remi, between)


def test_a_tokenizer_off_our_grid_is_refused():
    import miditok

    with pytest.raises(InputError, match="beat_res is not 24"):
        ids_to_words(miditok.REMI(miditok.TokenizerConfig(num_velocities=8)), [4])
    with pytest.raises(InputError, match="has no word of its own"):
        ids_to_words(miditok.REMI(miditok.TokenizerConfig(num_velocities=32)), [4])
