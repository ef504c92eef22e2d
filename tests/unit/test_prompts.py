"""Prompts that tell the truth, and controls read from what people write."""

from __future__ import annotations

import random
import re
import unicodedata

import pytest
from corpus_helpers import hymn
from hypothesis import given, settings
from hypothesis import strategies as st

from plagal.asking.lexicon import STYLE_NAMES
from plagal.asking.prompt import read_prompt
from plagal.asking.wording import (
    HELD_OUT_WORDINGS,
    WORDINGS,
    Facts,
    basic_prompt,
    facts_of,
    held_out_prompt,
    training_prompt,
)
from plagal.music.chords import QUALITIES, ROOT_NAMES, parse_chord
from plagal.music.keys import parse_key
from plagal.music.score import Key
from plagal.tokens.codec import encode
from plagal.tokens.vocabulary import KEY_OF, METRES, PROMPT_STYLES

STYLES = (
    "traditional_gospel",
    "contemporary_gospel",
    "gospel_jazz",
    "worship",
    "hymnal",
    "neo_soul",
    "jazz",
    "blues",
    "chorale",
)
chord_symbols = st.tuples(st.sampled_from(ROOT_NAMES), st.sampled_from(list(QUALITIES))).map("".join)
facts = st.builds(
    Facts,
    genre=st.just("gospel"),
    style=st.sampled_from(STYLES),
    key=st.tuples(st.sampled_from(ROOT_NAMES), st.sampled_from(("major", "minor"))).map(" ".join),
    tempo=st.sampled_from((40.0, 54.5, 66.0, 84.0, 120.0, 178.0, 300.0)),
    metre=st.sampled_from(("4/4", "3/4", "12/8", "6/8", "5/4")),
    bars=st.sampled_from((4, 8, 11, 16, 18, 32)),
    chords=st.lists(chord_symbols, max_size=4).map(tuple),
)


def test_there_are_thirty_wordings_and_the_held_out_ones_are_others():
    assert len(set(WORDINGS)) >= 30
    assert len(set(HELD_OUT_WORDINGS)) >= 8
    assert not set(WORDINGS) & set(HELD_OUT_WORDINGS)


def test_the_plans_own_wording_is_among_them():
    assert basic_prompt("gospel", "C major") == "Generate Gospel in C major"
    rng = random.Random(1)
    facts = Facts("gospel", "gospel", "C major", 90.0, "4/4", 8)
    drawn = [training_prompt(facts, rng) for _ in range(100)]
    assert 10 < sum(prompt.startswith("Generate Gospel in C major") for prompt in drawn) < 50


def test_words_behind_a_training_prompt_are_true_and_each_is_missing_at_times():
    rng = random.Random(1)
    facts = Facts("gospel", "gospel_jazz", "C major", 90.0, "4/4", 8, density="dense")
    drawn = [" ".join(re.findall("[A-Z]+_.*", training_prompt(facts, rng))).split() for _ in range(200)]
    true = {"STYLE_GOSPEL_JAZZ", "BARS_8", "DENSITY_DENSE", "KEY_C", "TIMESIG_4_4", "TEMPO_90"}
    assert all(set(words) <= true for words in drawn)
    assert all(20 < sum(word in words for words in drawn) < 180 for word in true)
    assert 10 < sum(not words for words in drawn) < 60


def test_every_style_that_can_be_asked_for_has_its_word():
    assert set(PROMPT_STYLES) == set(STYLE_NAMES)


@pytest.mark.parametrize("worded", [training_prompt, held_out_prompt])
@given(facts=facts, seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=300)
def test_what_is_read_from_a_prompt_is_true_of_its_piece(worded, facts: Facts, seed: int):
    prompt = re.sub(r" [A-Z]{3,}_.*", "", worded(facts, random.Random(seed)))
    read = read_prompt(prompt)
    assert read.style in (None, facts.style, "gospel")
    if read.key is not None:
        assert read.key == parse_key(facts.key)
    if read.tempo is not None and not read.tempo_named:
        assert read.quarters_per_minute == pytest.approx(facts.tempo, rel=0.005)
    if read.metre is not None:
        assert f"{read.metre[0]}/{read.metre[1]}" == facts.metre
    if read.bars is not None:
        assert read.bars == facts.bars
    if read.chords:
        assert read.chords == tuple((parse_chord(symbol),) for symbol in facts.chords[: len(read.chords)])


@pytest.mark.parametrize("wording", WORDINGS + HELD_OUT_WORDINGS)
def test_every_field_of_every_wording_is_read_back(wording: str):
    prompt = wording.format(
        genre="Gospel", style="worship", key="Eb minor", tempo=72, speed="slow", metre="6/8", bars=8, mood="solemn",
        chords="Ebm9 Ab13 Dbmaj9",
    )  # fmt: skip
    read = read_prompt(prompt)
    assert ("{key}" in wording) == (read.key == Key(0, -6, True))
    assert ("{metre}" in wording) == (read.metre == (6, 8))
    assert ("{bars}" in wording) == (read.bars == 8)
    assert ("{mood}" in wording) == (read.mood == "solemn")
    assert ("{chords}" in wording) == (len(read.chords) == 3)
    assert ("{tempo}" in wording) == (read.tempo == 72)
    assert not read.problems
    assert ("{style}" in wording) == (read.style == "worship")


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("slow worship ballad in Db", {"style": "worship", "key": Key(0, -5), "tempo": 66.0}),
        ("a blues in a minor key", {"style": "blues", "key": None}),
        ("gospel in A flat, 12/8, 16 bars", {"key": Key(0, -4), "metre": (12, 8), "bars": 16}),
        ("Gospel waltz in f# minor at 92 bpm", {"key": Key(0, 3, True), "metre": (3, 4), "tempo": 92.0}),
        ("eight bars of jazz over Dm7-G7-Cmaj7", {"bars": 8, "style": "jazz"}),
        ("In the key of B♭ major", {"key": Key(0, -2)}),
        ("a gentle hymn in F", {"style": "hymnal", "key": Key(0, -1)}),
        ("gospel hymn", {"style": "traditional_gospel"}),
        ("up-tempo shout", {"style": "shout", "tempo": 152.0}),
        ("a lively praise break in F", {"style": "shout", "tempo": 152.0}),
        ("tempo=9999 bars 3", {"tempo": None, "bars": 3}),
        ("0 bars in 7/9", {"bars": None, "metre": None}),
        ("", {"style": None, "key": None, "tempo": None, "metre": None, "bars": None, "chords": (), "mood": None}),
    ],
)
def test_plain_prompts_are_understood(prompt: str, wanted: dict[str, object]):
    read = read_prompt(prompt)
    assert {name: getattr(read, name) for name in wanted} == wanted


@given(st.text(max_size=200))
def test_no_text_at_all_breaks_the_reader(text: str):
    read = read_prompt(text)
    assert read.metre is None or read.metre in METRES
    assert read.problems or read.bars is None or 1 <= read.bars <= 64
    assert read.problems or read.quarters_per_minute is None or 20 <= read.quarters_per_minute <= 300
    assert all(part.strip() in unicodedata.normalize("NFC", text) for part in read.not_understood if "(as " not in part)


@given(st.integers(0, 30), st.sampled_from(list(KEY_OF.values())))
@settings(deadline=None, max_examples=20)
def test_the_facts_are_those_of_the_words(seed: int, key: tuple[int, bool]):
    from dataclasses import replace

    from plagal.corpus.reading import bar_count

    score = replace(hymn(seed), keys=(Key(0, *key),))
    found = facts_of(encode(score), "gospel", "worship")
    assert parse_key(found.key) == Key(0, *key) or abs(key[0]) > 5
    assert found.metre == "4/4"
    assert found.tempo == 90
    assert found.bars == bar_count(score)
    assert all(parse_chord(symbol) for symbol in found.chords)
