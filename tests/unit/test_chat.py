"""A conversation: what is there is changed there, note for note; the rest is written anew; what is unknown asks."""

from __future__ import annotations

import numpy as np
import pytest

from plagal.asking.chat import Talk
from plagal.compose.opening import notes_a_bar, opening_words
from plagal.music.arranger.arrange import arrange
from plagal.music.edits import bar_edges
from plagal.music.keys import parse_key
from plagal.music.score import DURATION, ONSET, PITCH, VELOCITY, Score
from plagal.plumbing.errors import InputError


@pytest.fixture(scope="module")
def piece() -> Score:
    return arrange("amazing_grace", "worship", "Db", 66, seed=1, bars=16)


def talking(prompt: str = "slow worship in Db", tempo: float = 66) -> Talk:
    talk = Talk()
    talk.understand(prompt, 1)
    talk.tempo = tempo
    return talk


def edited(line: str, piece: Score, talk: Talk | None = None) -> Score:
    done = (talk or talking()).edit(line, piece)
    assert done is not None
    return done


@pytest.mark.parametrize("line", ["slower", "a bit slower", "now at 50", "54 bpm"])
def test_slower_keeps_every_note(piece: Score, line: str) -> None:
    done = edited(line, piece)
    assert np.array_equal(done.notes, piece.notes)
    assert done.tempos[0].quarters_per_minute < 0.9 * piece.tempos[0].quarters_per_minute


@pytest.mark.parametrize(
    ("line", "semitones", "key"),
    [("in G", 6, "G"), ("play it in Eb", 2, "Eb"), ("up a half step", 1, "D"), ("down a whole step", -2, "B"),
     ("take it up 3 semitones", 3, "E")],
)  # fmt: skip
def test_another_key_moves_every_note_by_the_same(piece: Score, line: str, semitones: int, key: str) -> None:
    talk = talking()
    done = edited(line, piece, talk)
    moved = done.notes[:, PITCH] - piece.notes[:, PITCH]
    assert len(set(moved.tolist())) == 1 and (moved[0] - semitones) % 12 == 0 and abs(moved[0]) <= 12
    assert np.array_equal(done.notes[:, ONSET], piece.notes[:, ONSET])
    assert talk.request is not None and talk.request.key == parse_key(key) == done.keys[0]


def test_louder_and_softer_change_nothing_but_how_hard_keys_are_struck(piece: Score) -> None:
    for line, sign in (("louder", 1), ("softer", -1)):
        done = edited(line, piece)
        assert np.array_equal(done.notes[:, :VELOCITY], piece.notes[:, :VELOCITY])
        assert (sign * (done.notes[:, VELOCITY] - piece.notes[:, VELOCITY]) > 0).all()


def test_swing_it_moves_straight_eighths_alone(piece: Score) -> None:
    straight = arrange(None, "contemporary_gospel", "C", seed=3, bars=8, feel="straight", metre=(4, 4))
    done = edited("swing it", straight)
    assert np.array_equal(done.notes[:, PITCH], straight.notes[:, PITCH])
    within = straight.notes[:, ONSET] % 24
    assert (within == 12).any() and (done.notes[within == 12, ONSET] % 24 == 16).all()
    assert np.array_equal(done.notes[within == 0, ONSET], straight.notes[within == 0, ONSET])
    compound = arrange(None, "traditional_gospel", seed=3, bars=8, metre=(12, 8))
    with pytest.raises(InputError, match="threes already"):
        talking().edit("swing it", compound)


def test_shorter_leaves_out_the_middle_and_keeps_beginning_and_ending(piece: Score) -> None:
    talk = talking()
    done = edited("shorter", piece, talk)
    edges, whole = bar_edges(done), bar_edges(piece)
    assert len(edges) - 1 == (len(whole) - 1) // 2 == 8 and talk.request is not None and talk.request.bars == 8
    first = done.notes[done.notes[:, ONSET] < edges[6], :DURATION]
    assert np.array_equal(first, piece.notes[piece.notes[:, ONSET] < whole[6], :DURATION])
    last, was = done.notes[done.notes[:, ONSET] >= edges[6]], piece.notes[piece.notes[:, ONSET] >= whole[14]]
    assert np.array_equal(last[:, PITCH], was[:, PITCH])


@pytest.mark.parametrize("line", ["denser", "8 bars", "over C | F", "again", "fast blues in F", "in C minor"])
def test_what_needs_other_notes_is_no_edit(piece: Score, line: str) -> None:
    assert talking().edit(line, piece) is None


def test_follow_ups_that_need_other_notes_change_the_last_request() -> None:
    talk = talking("slow worship in Db, 4 bars")
    asked = talk.understand("denser", 4)
    assert notes_a_bar(asked) == (18, 36) and opening_words(asked)[0] == "KEY_Db" and asked.bars == 4
    assert talk.understand("8 bars", 5).bars == 8
    assert talk.understand("over C | F", 6).chords
    assert talk.understand("fast blues in F", 7).density is None


@pytest.mark.parametrize("line", ["again", "slower", "up a half step", "shorter", "swing it"])
def test_a_follow_up_without_a_piece_says_so(line: str) -> None:
    with pytest.raises(InputError, match="none yet"):
        Talk().understand(line, 1)


@pytest.mark.parametrize("line", ["thanks, lovely", "tell me the history of gospel", "what is a tritone?", "asdf"])
def test_an_unknown_line_asks_instead_of_composing(line: str) -> None:
    for talk in (Talk(), talking()):
        with pytest.raises(InputError, match="not understood"):
            talk.understand(line, 1)
