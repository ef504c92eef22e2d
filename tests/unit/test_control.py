"""Asked against heard: notes decide, not what words assert."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from music_helpers import EMPTY, arranged, melody

from plagal.evaluation.control import (
    Asked,
    Ears,
    MetreEar,
    StyleEar,
    chords_kept,
    family,
    follows_score,
    heard_bars,
    mean_verdicts,
    played_tempo,
)
from plagal.evaluation.features import bars_of, window
from plagal.evaluation.structure import gospel_signs, has_ninth, has_seventh, is_sus
from plagal.music.chords import parse_chord
from plagal.music.harmony import hear_key
from plagal.music.midi import read_midi, to_midi_bytes
from plagal.music.score import Key, Marker, Metre, Tempo

STYLES = ("traditional_gospel", "worship")


@cache
def ears() -> Ears:
    pieces = [(style, arranged(style, seed)) for style in STYLES for seed in range(14)]
    return Ears(MetreEar([score for _, score in pieces]), StyleEar(pieces, 8, seed=0))


def test_a_piece_that_does_as_asked_gets_full_marks() -> None:
    piece = arranged("worship", 50)
    bar = bars_of(piece)[0]
    asked = Asked(
        "",
        hear_key(piece),
        played_tempo(piece),
        (bar.metre.numerator, bar.metre.denominator),
        heard_bars(piece),
        "worship",
    )
    verdict = follows_score(asked, read_midi(to_midi_bytes(piece)), ears())
    assert {name: verdict[name] for name in ("key", "tempo", "metre", "bars")} == dict.fromkeys(
        ("key", "tempo", "metre", "bars"), 1.0
    )
    assert verdict["chords"] is None


def test_a_key_that_is_only_asserted_does_not_count() -> None:
    piece = replace(
        melody([60, 64, 67, 72, 65, 69, 67, 64] * 4), keys=(Key(0, 6),), markers=(Marker(0, "chord", "Gbmaj"),)
    )
    assert follows_score(Asked("", key=Key(0, 6)), piece, ears())["key"] == 0.0
    assert follows_score(Asked("", key=Key(0, 0)), piece, ears())["key"] == 1.0


def test_chords_that_are_only_asserted_do_not_count() -> None:
    piece = melody([60, 64, 67, 72] * 4)
    asserting = replace(piece, markers=(Marker(0, "chord", "Gb13"), Marker(96, "chord", "Bmaj7")))
    asked = Asked("", chords=(parse_chord("Gb13"), parse_chord("Bmaj7")))
    assert follows_score(asked, asserting, ears())["chords"] == 0.0


def test_tempo_is_the_average_that_is_played() -> None:
    piece = replace(melody([60] * 16), tempos=(Tempo(0, 60.0), Tempo(192, 120.0)))
    assert played_tempo(piece) == pytest.approx(80.0)
    assert follows_score(Asked("", tempo=60.0), piece, ears())["tempo"] == 0.0
    assert follows_score(Asked("", tempo=82.0), piece, ears())["tempo"] == 1.0


def test_a_waltz_is_no_march() -> None:
    waltz = next(piece for piece in (arranged("traditional_gospel", seed) for seed in range(40)) if _is(piece, (3, 4)))
    assert follows_score(Asked("", metre=(3, 4)), waltz, ears())["metre"] == 1.0
    assert follows_score(Asked("", metre=(4, 4)), waltz, ears())["metre"] == 0.0


def _is(piece: object, metre: tuple[int, int]) -> bool:
    metres = piece.metres  # type: ignore[attr-defined]
    return [(one.numerator, one.denominator) for one in metres] == [metre]


def test_bars_count_to_the_last_note_struck() -> None:
    assert heard_bars(melody([60] * 9)) == 3
    assert heard_bars(melody([60] * 9, metre=Metre(0, 3, 4))) == 3
    assert follows_score(Asked("", bars=4), melody([60] * 9), ears())["bars"] == 0.0


def test_silence_does_nothing_as_asked() -> None:
    verdict = follows_score(Asked("", Key(0, 0), 90.0, (4, 4), 4, "worship", (parse_chord("C"),)), EMPTY, ears())
    assert set(verdict.values()) == {0.0}


def test_what_was_not_asked_is_not_judged() -> None:
    assert set(follows_score(Asked(""), melody([60] * 8), ears()).values()) == {None}
    assert mean_verdicts([{"key": 1.0, "bars": None}, {"key": 0.0, "bars": None}]) == {"key": 0.5, "bars": None}


@pytest.mark.parametrize(
    ("symbol", "name"),
    [("Cmaj9", "major"), ("C13", "dominant"), ("C7b9", "dominant"), ("Cm9", "minor"), ("Cdim7", "diminished"),
     ("Cm7b5", "diminished"), ("C13sus", "suspended"), ("Caug", "augmented"), ("C5", "open"), ("C7#5", "dominant")],
)  # fmt: skip
def test_chords_belong_to_a_family(symbol: str, name: str) -> None:
    assert family(parse_chord(symbol)) == name


def test_chords_must_come_in_order() -> None:
    asked = [parse_chord(symbol) for symbol in ("C", "F", "G7", "C")]
    heard = [parse_chord(symbol) for symbol in ("Cmaj7", "F6", "Dm7", "G13", "C")]
    assert chords_kept(asked, heard) == 1.0
    assert chords_kept(asked, heard[::-1]) < 1.0
    assert chords_kept(asked, []) == 0.0


def test_an_ear_that_learned_nothing_hears_nothing() -> None:
    deaf = StyleEar([], 8, seed=0)
    assert deaf.hear(melody([60] * 8)) is None
    assert MetreEar([]).hear(melody([60] * 8)) is None


def test_a_model_that_ignores_its_prompts_is_caught() -> None:
    pieces = [window(arranged("worship", seed), 0, 8) for seed in range(12)]
    asked = [Asked("", hear_key(piece), played_tempo(piece), bars=8) for piece in pieces]
    obedient = mean_verdicts([follows_score(one, piece, ears()) for one, piece in zip(asked, pieces, strict=True)])
    deaf = mean_verdicts([follows_score(one, pieces[0], ears()) for one in asked])
    assert obedient["key"] == 1.0
    assert obedient["tempo"] == 1.0
    assert (deaf["key"] or 0) < 0.6
    assert (deaf["tempo"] or 0) < 0.6


def test_the_signs_of_gospel_are_read_from_chords() -> None:
    assert has_seventh(parse_chord("Cmaj7")) and not has_seventh(parse_chord("C6"))
    assert has_ninth(parse_chord("Cadd9")) and has_ninth(parse_chord("C7#9")) and not has_ninth(parse_chord("Csus2"))
    assert is_sus(parse_chord("C9sus")) and not is_sus(parse_chord("C11"))
    jazz, plain = gospel_signs(arranged("gospel_jazz", 2)), gospel_signs(melody([60, 64, 67, 72] * 8))
    assert jazz["sevenths"] > 0.4 > plain["sevenths"]
    assert gospel_signs(EMPTY) == dict.fromkeys(("sevenths", "ninths", "sus", "passing"), 0.0)
