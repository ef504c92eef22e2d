"""What a request asks for is kept by the words themselves, whatever the model would rather write."""

from __future__ import annotations

import numpy as np
import pytest
from model_helpers import tiny_base

from plagal.compose.decoding import PromptMemory, Request, generate
from plagal.compose.rerank import generate_as_asked, in_its_key
from plagal.compose.steering import Wishes
from plagal.evaluation.control import chords_kept
from plagal.model import base
from plagal.model.words import LanguageModel
from plagal.music.chords import parse_chord
from plagal.music.harmony import hear_chords, hear_key
from plagal.music.keys import parse_key
from plagal.music.placed import PlacedNote, spread_chords
from plagal.music.score import DURATION, ONSET, PITCH
from plagal.tokens import grammar
from plagal.tokens.codec import decode
from plagal.tokens.vocabulary import key_word

HEAD = ("TIMESIG_4_4", "TEMPO_80")
BAR = 96


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """Random weights: what is kept is kept by steering alone."""
    return base.load(tiny_base(tmp_path_factory.mktemp("base")))


@pytest.fixture(scope="module", params=["event", "text"])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return base.load(tiny_base(tmp_path_factory.mktemp(request.param)), encoding=request.param)


def test_asked_chords_stand_where_asked_and_nowhere_else(lm: LanguageModel) -> None:
    asked = [parse_chord(symbol) for symbol in ("Dbmaj9", "Gb13", "Ab13sus", "Abdom7/C")]
    placed = spread_chords([[asked[0]], [asked[1]], asked[2:]], 6, BAR)
    for words in generate(lm, [Request("x", HEAD, 6, wishes=Wishes(chords=placed))] * 4, seed=1, max_words=4000):
        assert grammar.accepts(words)
        found, bar, beat = [], -1, ""
        for number, word in enumerate(words):
            if word == "BAR_START":
                bar, beat = bar + 1, "BEAT_0"
            beat = word if word.startswith("BEAT_") else beat
            if word.startswith("CHORD_"):
                slash = words[number + 1].removeprefix("BASS_") if words[number + 1].startswith("BASS_") else ""
                symbol = word.removeprefix("CHORD_") + (f"/{slash}" if slash else "")
                found.append((bar, {"BEAT_0": 0, "BEAT_2": 48}[beat], parse_chord(symbol)))
        assert found == [(one.bar, one.tick, one.chord) for one in placed]


def test_asked_chords_are_heard_in_the_notes_even_from_random_weights(lm: LanguageModel) -> None:
    asked = [parse_chord(symbol) for symbol in ("Cmaj7", "Amin7", "Dmin7", "Gdom7")]
    wishes = Wishes(key=parse_key("C"), chords=spread_chords([[chord] for chord in asked], 8, BAR))
    request = Request("x", ("KEY_C", *HEAD), 8, wishes=wishes)
    pieces = [decode(words).score for words in generate(lm, [request] * 6, seed=2, max_words=6000)]
    kept = [chords_kept(asked, [chord for _, chord in hear_chords(score)]) for score in pieces]
    free = Request("x", ("KEY_C", *HEAD), 8)
    loose = [decode(words).score for words in generate(lm, [free] * 6, seed=2, max_words=6000)]
    assert np.mean(kept) > 0.6
    assert np.mean(kept) > np.mean([chords_kept(asked, [c for _, c in hear_chords(score)]) for score in loose]) + 0.2


def test_a_melody_sounds_as_asked_and_nothing_above_it(lm: LanguageModel) -> None:
    melody = tuple(
        PlacedNote(bar, tick, pitch, 24) for bar in range(3) for tick, pitch in ((0, 72), (24, 74), (48, 76), (72, 74))
    )
    for words in generate(lm, [Request("x", HEAD, 3, wishes=Wishes(melody=melody))] * 4, seed=3, max_words=4000):
        notes = decode(words).score.notes
        for note in melody:
            onset = note.bar * BAR + note.tick
            struck = notes[notes[:, ONSET] == onset]
            assert struck[:, PITCH].max() == note.pitch
            assert struck[struck[:, PITCH] == note.pitch, DURATION].tolist() == [note.ticks]
            during = notes[(notes[:, ONSET] > onset) & (notes[:, ONSET] < onset + note.ticks)]
            assert not len(during) or during[:, PITCH].max() < note.pitch


def test_no_bar_strikes_more_notes_than_asked(lm: LanguageModel) -> None:
    wishes = Wishes(density=(2, 5))
    for words in generate(lm, [Request("x", HEAD, 6, wishes=wishes)] * 6, seed=4, max_words=4000):
        counts = np.bincount(decode(words).score.notes[:, ONSET] // BAR, minlength=6)
        assert counts.max() <= 5


@pytest.mark.parametrize("name", ["C", "Db", "F#m", "Bbm"])
def test_a_piece_asked_in_a_key_keeps_to_its_notes_and_its_chords(lm: LanguageModel, name: str) -> None:
    key = parse_key(name)
    request = Request("x", (key_word(key.fifths, key.minor), *HEAD), 8, wishes=Wishes(key=key))
    pieces = generate_as_asked(lm, [request] * 4, seed=5, max_words=6000)
    heard = [hear_key(decode(words).score) for words in pieces]
    assert sum(in_its_key(request, words) for words in pieces) >= 2, heard


def test_a_piece_that_sounds_in_its_key_at_once_is_not_written_again(lm: LanguageModel) -> None:
    request = Request("x", HEAD, 2)
    assert generate_as_asked(lm, [request] * 2, seed=6) == generate(lm, [request] * 2, seed=6)


def test_wishes_that_cannot_all_hold_still_give_a_valid_piece(lm: LanguageModel) -> None:
    """A melody below the bass, chords far from the key, two notes a bar: nothing hangs, nothing breaks."""
    wishes = Wishes(
        key=parse_key("C"),
        chords=spread_chords([[parse_chord("Gb7alt"), parse_chord("B13#11")]], 3, BAR),
        melody=tuple(PlacedNote(bar, tick, 23, 5) for bar in range(3) for tick in range(0, 96, 7)),
        density=(1, 2),
    )
    for words in generate(lm, [Request("x", ("KEY_C", *HEAD), 3, wishes=wishes)] * 3, seed=7, max_words=3000):
        assert grammar.accepts(words) and words.count("BAR_START") == 3


def test_both_encodings_write_valid_pieces_in_canonical_spelling(either: LanguageModel) -> None:
    chords = spread_chords([[parse_chord("Cmaj7")], [parse_chord("Fmaj9")]], 2, BAR)
    requests = [Request("a", HEAD, 2), Request("b", HEAD, 2, wishes=Wishes(chords=chords))]
    pieces = generate(either, requests, seed=8, max_words=800)
    assert all(grammar.accepts(words) and words.count("BAR_START") == 2 for words in pieces)
    assert pieces == generate(either, requests, seed=8, max_words=800)


def test_a_prompt_with_the_same_beginning_is_not_read_again_and_changes_nothing(either: LanguageModel) -> None:
    memory = PromptMemory()
    first = Request("a slow piece", (*HEAD, "BAR_START", "BEAT_0", "NOTE_ON_60", "DUR_HALF", "VEL_MF"), 2, seed=3)
    alone = generate(either, [first], max_words=300)
    assert generate(either, [first], max_words=300, memory=memory) == alone
    again = generate(either, [first], max_words=300, memory=memory)
    assert memory.reused > 10
    assert [word for word in again[0] if word.startswith("BAR")] == [w for w in alone[0] if w.startswith("BAR")]
