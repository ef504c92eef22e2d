"""The grammar of gospel harmony: what may follow what, what a chord is there for, and that real music obeys it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from plagal.music.arranger.arrange import STYLES, arrange, played_chords
from plagal.music.arranger.harmony_grammar import (
    QUALITY_INDEX,
    allowed,
    allowed_basses,
    blue_notes,
    classify,
    devices_in,
    is_device,
    weight,
)
from plagal.music.arranger.tunebook import tune_book
from plagal.music.chords import QUALITIES, Chord, parse_chord
from plagal.music.harmony import hear_chords, hear_key
from plagal.music.keys import parse_key
from plagal.music.midi import read_midi
from plagal.music.score import Key, Score
from plagal.plumbing.errors import ParamsError

HYMNAL = Path(os.environ.get("PLAGAL_OPENHYMNAL", Path(__file__).parents[3] / "shared" / "corpus" / "openhymnal"))
GOSPEL = "traditional_gospel"


def chords(text: str) -> list[Chord]:
    return [parse_chord(symbol) for symbol in text.split()]


def accepted(row: list[Chord], key: Key, style: str, *, lifts: bool = False) -> list[bool]:
    return [weight(chord, before, key, style, lifts=lifts) > 0
            for before, chord in zip([None, *row[:-1]], row, strict=True)]  # fmt: skip


def key_at(score: Score, tick: int) -> Key:
    return [key for key in score.keys if key.onset <= tick][-1]


@pytest.mark.parametrize("style", STYLES)
def test_the_arranger_keeps_to_the_grammar(style: str) -> None:
    right = count = 0
    for number in range(12):
        score = arrange(tune_book()[number * 6], style, seed=number)
        named, before = played_chords(score), None
        for onset, chord in named:
            right += weight(chord, before, key_at(score, onset), style, lifts=True) > 0
            count += 1
            before = chord
    assert right >= 0.98 * count


@pytest.mark.skipif(not HYMNAL.is_dir(), reason="needs the Open Hymnal")
def test_real_hymns_keep_to_the_grammar_where_their_chords_are_heard() -> None:
    right = count = 0
    for file in sorted(HYMNAL.rglob("*.mid"))[::11]:
        score = read_midi(file)
        row = [chord for _, chord in hear_chords(score)]
        right += sum(accepted(row, hear_key(score), "hymnal"))
        count += len(row)
    assert count > 500 and right >= 0.95 * count


@pytest.mark.parametrize(
    "row",
    [
        "C F Gbdim7 C/G A7 D9 G13 C6",
        "C Bm7b5 E7#9b13 Am9 Dm9 G13 Cmaj9",
        "Gm9 C13 Fmaj9 Bb9 C",
        "F Fm6 C",
        "F Bb9 C",
        "Dm9 Db9 Cmaj9",
        "C C7/E F F#dim7 C/G",
        "C G/B A7b9 Dm7 G9sus G7 C",
        "Em7 Ebdim7 Dm9 G13",
        "C Dm7 C/E F",
        "C E7 Am",
        "C Cdim7 C",
        "Cmaj9 Abmaj7 Bb C",
        "F#m7b5 B7b9 Em7 A7 Dm7 G7 C",
        "Dm7 Ebm7 Dm7 G7",
    ],
)
def test_what_gospel_pianists_play_is_allowed(row: str) -> None:
    assert all(accepted(chords(row), parse_key("C"), GOSPEL)), row


@pytest.mark.parametrize(
    "row", ["A7b9 F#m7", "F#dim7 Bb", "C Gbmaj9", "G7 F", "Fm6 A", "C Ebm9", "E7#9b13 Bb", "Bb9 Dbmaj7", "C/F# F"]
)
def test_what_leads_nowhere_is_forbidden(row: str) -> None:
    assert not accepted(chords(row), parse_key("C"), GOSPEL)[-1] or not all(
        accepted(chords(row), parse_key("C"), GOSPEL)
    )


def test_the_blues_lets_five_fall_to_four_and_other_styles_do_not() -> None:
    key, before, after = parse_key("G"), parse_chord("D7"), parse_chord("C7")
    assert weight(after, before, key, "blues") > 0
    assert [weight(after, before, key, style) for style in ("traditional_gospel", "gospel_jazz")] == [0, 0]


@pytest.mark.parametrize(
    ("chord", "following", "name"),
    [
        ("F#dim7", "C/G", "sharp_four_diminished"), ("C#dim7", "Dm7", "leading_diminished"),
        ("E7#9b13", "Am9", "three_to_six"), ("A7b9", "Dm9", "six_to_two"), ("C13", "Fmaj9", "one_to_four"),
        ("Db9", "Cmaj9", "tritone_substitute"), ("Bb9", "C69", "backdoor"), ("Fm6", "C", "minor_plagal"),
        ("Gm9", "C13", "related_two"), ("D9", "G13", "two_to_five"), ("Dm7b5", "G7", "borrowed_two"),
        ("B7b9", "Em7", "secondary_dominant"), ("G7#9", "C", "altered_dominant"),
        ("Am7", "Dm7", None), ("A7b9", "F", None), ("G7", "C", None),
    ],
)  # fmt: skip
def test_a_device_is_named_where_it_resolves(chord: str, following: str, name: str | None) -> None:
    for semitones in range(12):
        tonic = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")[semitones]
        pair = [parse_chord(symbol).transposed(semitones) for symbol in (chord, following)]
        assert is_device(*pair, parse_key(tonic), GOSPEL) == name


def test_chords_are_diatonic_devices_or_foreign() -> None:
    key = parse_key("Bb")
    assert [classify(chord, key, GOSPEL) for chord in chords("Bbmaj9 Eb9 Cm11 Edim7 Gbmaj7#5 Cb13")] == [
        "diatonic", "diatonic", "diatonic", "sharp_four_diminished", "foreign", "tritone_substitute",
    ]  # fmt: skip
    assert classify(parse_chord("Edim7"), parse_key("Bb"), "worship") == "sharp_four_diminished"
    assert classify(parse_chord("Dm7"), parse_key("Gm"), GOSPEL) == "diatonic"
    assert classify(parse_chord("E7b9"), parse_key("Gm"), GOSPEL) != "diatonic"


def test_a_dominant_resolves_where_it_must() -> None:
    leads = allowed(parse_key("Db"), GOSPEL, parse_chord("E7b9")) > 0
    assert not leads[parse_chord("Db").root].any()
    leads = allowed(parse_key("Db"), GOSPEL, parse_chord("Bb7b9")) > 0  # VI7b9
    assert leads[parse_chord("Ebm7").root, QUALITY_INDEX["min7"]]


def test_progressions_are_counted_where_they_begin() -> None:
    found = devices_in(chords("C Dm7 G7 C F Gbdim7 C/G"), parse_key("C"), GOSPEL)
    assert (1, "two_five_one") in found and (5, "sharp_four_diminished") in found
    assert "two_five_one" not in {name for _, name in devices_in(chords("C Am F C"), parse_key("C"), GOSPEL)}


def test_one_five_wants_its_fifth_in_the_bass_after_the_raised_four() -> None:
    key, one = parse_key("Ab"), parse_chord("Ab")
    basses = allowed_basses(key, GOSPEL, one, parse_chord("Ddim7"))
    assert int(basses.argmax()) == parse_chord("Eb").root
    assert int(allowed_basses(key, GOSPEL, one, parse_chord("Eb7")).argmax()) == one.root


@pytest.mark.parametrize("style", ["gospel", "jazz", "worship", "hymnal", "blues"])
@pytest.mark.parametrize("mode", ["", "m"])
def test_from_every_chord_that_may_be_entered_there_is_a_way_home(style: str, mode: str) -> None:
    key = parse_key(f"F{mode}")
    reached = {(5, place) for place in range(len(QUALITIES))}  # chords from which F is in reach
    names, tables = list(QUALITIES), {}
    entered = np.argwhere(allowed(key, style) > 0).tolist()
    for root, place in entered:
        tables[root, place] = allowed(key, style, Chord(root, names[place], root)) > 0
    for _ in range(6):
        reached |= {at for at, table in tables.items() if any(table[goal] for goal in reached)}
    assert set(map(tuple, entered)) <= reached


def test_the_lift_is_there_only_where_it_is_asked_for() -> None:
    key, one, lift = parse_key("C"), parse_chord("C"), parse_chord("Ab9sus")
    assert weight(lift, one, key, GOSPEL) == 0
    assert weight(lift, one, key, GOSPEL, lifts=True) > 0
    assert weight(parse_chord("Db"), lift, parse_key("Db"), GOSPEL) > 0


def test_blue_notes_belong_to_the_styles_that_have_them() -> None:
    assert blue_notes(parse_key("Eb"), "blues") == {6, 1, 9}
    assert blue_notes(parse_key("Eb"), "worship") == frozenset()


def test_an_unknown_style_is_named_with_those_there_are() -> None:
    with pytest.raises(ParamsError, match=r"techno.*traditional_gospel"):
        allowed(parse_key("C"), "techno")
