"""Which pieces are the same, nearly the same, or one tune."""

from __future__ import annotations

from corpus_helpers import hymn
from hypothesis import given, settings
from hypothesis import strategies as st

from plagal.corpus.duplicates import (
    SimilarPieces,
    candidate_pairs,
    heard_melody,
    intervals,
    melody_grams,
    melody_steps,
    melody_text,
    notes_digest,
    same_tune,
    signature,
    texture_grams,
)
from plagal.music.edits import transpose
from plagal.music.score import Score


def tune_of(score: Score):
    return melody_grams(intervals(heard_melody(score)))


def test_the_line_on_top_is_heard_and_inner_notes_are_not():
    from corpus_helpers import melody

    wanted = [pitch + 12 for _, pitch, _ in melody(3)]
    assert intervals(heard_melody(hymn(3))) == intervals(wanted)


@given(st.integers(0, 40), st.integers(-5, 7), st.sampled_from([1, 2]))
@settings(deadline=None, max_examples=20)
def test_key_and_note_values_change_nothing_in_melody_or_texture(seed: int, semitones: int, stretch: int):
    plain, moved = hymn(seed), hymn(seed, semitones=semitones, stretch=stretch)
    assert intervals(heard_melody(plain)) == intervals(heard_melody(moved))
    assert (texture_grams(plain) == texture_grams(moved)).all()


def test_another_harmony_leaves_the_tune_and_changes_the_piece():
    one, other = hymn(5), hymn(5, harmony=1, semitones=3)
    assert same_tune(tune_of(one), tune_of(other))
    seen = SimilarPieces()
    assert seen.twin_of(notes_digest(one), signature(texture_grams(one)), "one") is None
    assert seen.twin_of(notes_digest(other), signature(texture_grams(other)), "other") is None


def test_different_tunes_are_told_apart():
    tunes = [tune_of(hymn(seed)) for seed in range(60)]
    assert not [(a, b) for a in range(60) for b in range(a) if same_tune(tunes[a], tunes[b])]


def test_candidate_pairs_hold_every_pair_of_one_tune_once():
    sets = [tune_of(hymn(seed, harmony=copy)) for copy in range(2) for seed in range(40)]
    pairs = list(candidate_pairs(sets))
    assert len(pairs) == len(set(pairs))
    assert {(seed, seed + 40) for seed in range(40)} <= set(pairs)


def test_a_piece_is_met_again_exactly_and_nearly():
    seen = SimilarPieces()
    first, same, moved, other = hymn(1), hymn(1, tempo=140), transpose(hymn(1), 2), hymn(2)
    assert seen.twin_of(notes_digest(first), signature(texture_grams(first)), "first") is None
    assert seen.twin_of(notes_digest(same), signature(texture_grams(same)), "same") == ("duplicate", "first")
    assert seen.twin_of(notes_digest(moved), signature(texture_grams(moved)), "moved") == ("near-duplicate", "first")
    assert seen.twin_of(notes_digest(other), signature(texture_grams(other)), "other") is None


@given(st.lists(st.integers(-40, 40).filter(bool)))
def test_a_melody_comes_back_from_its_text(steps: list[int]):
    assert melody_steps(melody_text(steps)) == steps


def test_an_empty_piece_is_like_nothing():
    import numpy as np

    nothing = np.zeros(0, dtype=np.uint32)
    assert not same_tune(nothing, nothing)
    assert list(candidate_pairs([nothing, nothing])) == []
