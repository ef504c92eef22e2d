"""The calls that the plan shows, and the ways back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plagal.plumbing.errors import InputError
from plagal.tokens import text_token_service
from plagal.tokens.vocabulary import ID_OF, WORD_OF, WORDS


def test_the_plan_s_calls_work_word_for_word():
    assert text_token_service.remi_to_text_tokens([0, 30, 210, 240]) == [
        "SONG_START", "NOTE_ON_21", "DUR_WHOLE", "VEL_SILENT"
    ]  # fmt: skip
    assert text_token_service.validate_round_trip([0, 30, 210, 240])
    info = text_token_service.get_vocab_info()
    assert info["vocab_size"] == len(WORDS) > 600


@given(st.lists(st.sampled_from(list(WORD_OF))))
def test_all_ids_come_back_from_words_and_strings(ids):
    words = text_token_service.remi_to_text_tokens(ids)
    assert text_token_service.text_to_remi_tokens(words) == ids
    assert text_token_service.string_to_tokens(text_token_service.tokens_to_string(ids)) == ids
    assert text_token_service.validate_round_trip(ids)


@given(st.lists(st.one_of(st.integers(-5, 3000), st.text(max_size=3), st.none())))
def test_validating_never_raises_and_is_true_only_where_every_id_has_a_word(ids):
    assert text_token_service.validate_round_trip(ids) == all(type(n) is int and n in WORD_OF for n in ids)


def test_an_id_without_a_word_is_named_with_its_place():
    with pytest.raises(InputError, match="token 2 is 27,"):
        text_token_service.remi_to_text_tokens([0, 9, 27])


def test_a_word_without_an_id_is_named_with_its_place():
    with pytest.raises(InputError, match="word 1 is 'BEAT_9000',"):
        text_token_service.string_to_tokens("SONG_START BEAT_9000")


def test_the_vocabulary_is_told_word_for_word():
    words = text_token_service.get_vocab_info()["words"]
    assert {row["word"]: row["id"] for row in words} == ID_OF
    assert all(row["meaning"] for row in words)
