"""Inputs of the right shape by hypothesis, and what must hold for each."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "unit"))
from music_strategies import chord_symbols, likely_word_lists, scores, word_lists

from plagal.corpus.formats import convert_record
from plagal.music.chords import parse_chord
from plagal.music.grid import regular
from plagal.music.midi import read_midi, to_midi_bytes
from plagal.plumbing.errors import MidiError, RecordError
from plagal.tokens import grammar
from plagal.tokens.codec import decode, encode

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
records = st.fixed_dictionaries(
    {"prompt": st.text(max_size=30) | anything, "tokens": st.lists(st.integers(-3, 1200), max_size=30) | anything},
    optional={"metadata": st.dictionaries(st.text(max_size=4), anything, max_size=3) | anything, "more": anything},
)


def a_score(score: Any) -> None:
    try:
        score = regular(score)
    except MidiError:
        return
    if len(score.notes):
        again = read_midi(to_midi_bytes(score))
        assert again.notes.tolist() == score.notes.tolist()
    words = encode(score)
    assert grammar.accepts(words)
    assert encode(decode(words, strict=True).score) == words


def some_words(words: list[str]) -> None:
    again = encode(decode(words).score)
    assert grammar.accepts(again)
    assert encode(decode(again, strict=True).score) == again


def a_record(record: Any) -> None:
    try:
        row = convert_record(record, "chatml", validate=True)
    except RecordError as error:
        assert str(error).isprintable()
        return
    assert json.loads(json.dumps(row)).keys() == {"messages", "metadata"} or "metadata" in row


def a_chord(symbol: str) -> None:
    assert parse_chord(parse_chord(symbol).symbol) == parse_chord(symbol)


PROPERTIES: tuple[Callable[[Any], None], ...] = (a_score, some_words, a_record, a_chord)
_OF = {
    a_score: scores,
    some_words: word_lists | likely_word_lists,
    a_record: records | anything,
    a_chord: chord_symbols,
}


def examples(check: Callable[[Any], None], count: int, first: int) -> int:
    """How many were tried. Raises what the check raises."""
    tried = [0]

    @seed(first)
    @settings(max_examples=count, deadline=None, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(_OF[check])
    def run(value: Any) -> None:
        tried[0] += 1
        check(value)

    run()
    return tried[0]
