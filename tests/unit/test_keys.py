"""Keys: what they are called, and how notes and chords are spelled in them."""

from __future__ import annotations

import pytest

from plagal.music.chords import QUALITIES, Chord, parse_chord, parse_pitch_class
from plagal.music.keys import (
    MAJOR_KEYS,
    MINOR_KEYS,
    chord_symbol,
    fifths_of,
    key_name,
    key_of,
    key_symbol,
    key_tonic,
    parse_key,
    same_key,
    signature,
    spell_pitch_class,
)
from plagal.music.score import Key
from plagal.plumbing.errors import ChordError

ALL_KEYS = [Key(0, fifths, minor) for fifths in range(-7, 8) for minor in (False, True)]


@pytest.mark.parametrize(
    ("written", "shown", "fifths"),
    [
        ("F# minor", "F# minor", 3),
        ("F#m", "F# minor", 3),
        ("f#", "F# major", 6),
        ("Gb", "Gb major", -6),
        ("Db", "Db major", -5),
        ("C#", "C# major", 7),
        ("Cb", "Cb major", -7),
        ("Fb", "E major", 4),
        ("E#", "F major", -1),
        ("Db minor", "C# minor", 4),
        ("G# minor", "G# minor", 5),
        ("G#", "Ab major", -4),
        ("B♭", "Bb major", -2),
        ("Bbm", "Bb minor", -5),
        ("A-", "A minor", 0),
    ],
)  # fmt: skip
def test_a_key_is_shown_as_it_was_asked_for_where_it_has_a_signature(written: str, shown: str, fifths: int) -> None:
    key = parse_key(written)
    assert (key_name(key), key.fifths) == (shown, fifths)


@pytest.mark.parametrize("name", ["H", "Db dorian", "", "Dbb minor seventh", "8"])
def test_what_is_no_key_is_refused_by_name(name: str) -> None:
    with pytest.raises(ChordError, match=repr(name)):
        parse_key(name)


@pytest.mark.parametrize("key", ALL_KEYS)
def test_every_key_is_read_back_from_its_names(key: Key) -> None:
    assert parse_key(key_name(key)) == parse_key(key_symbol(key)) == key
    assert same_key(key_of(key_tonic(key), key.minor), key)
    assert len(signature(key)) == abs(key.fifths)


@pytest.mark.parametrize("key", ALL_KEYS)
def test_a_name_in_a_key_is_that_pitch_and_a_scale_has_every_letter_once(key: Key) -> None:
    names = [spell_pitch_class(pitch_class, key) for pitch_class in range(12)]
    assert [parse_pitch_class(name) for name in names] == [(pitch_class, "") for pitch_class in range(12)]
    major = key_tonic(key) + (3 if key.minor else 0)
    scale = [names[(major + step) % 12] for step in (0, 2, 4, 5, 7, 9, 11)]
    assert {name[0] for name in scale} == set("ABCDEFG")
    assert {name for name in scale if len(name) > 1} == {
        letter + ("#" if by > 0 else "b") for letter, by in signature(key).items()
    }
    assert not any("bb" in name or "##" in name for name in names)


@pytest.mark.parametrize(
    ("symbol", "key", "shown"),
    [
        ("F#min7", "F# minor", "F#m7"),
        ("Gbmin7", "E", "F#m7"),
        ("Abdom7", "A minor", "G#7"),
        ("Gbdom13", "Db", "Gb13"),
        ("Bbdom7", "C", "Bb7"),
        ("Bdom7", "Eb minor", "Cb7"),
        ("Edom7/G#", "Ab", "E7/G#"),
        ("Ddom7/F#", "Ab", "D7/F#"),
        ("C/Bb", "F", "C/Bb"),
        ("Cmaj", "C", "C"),
        ("Bhalfdim7", "C", "Bm7b5"),
        ("Cdim7/Gb", "C", "Cdim7/Gb"),
        ("Abdom7", "C# minor", "G#7"),
        ("Cdom7", "C# minor", "B#7"),
    ],
)  # fmt: skip
def test_chords_are_spelled_by_their_key(symbol: str, key: str, shown: str) -> None:
    assert chord_symbol(parse_chord(symbol), parse_key(key)) == shown


def test_every_chord_is_read_back_from_its_symbol_in_every_key() -> None:
    for key in (None, *ALL_KEYS):
        for root in range(12):
            for number, quality in enumerate(QUALITIES):
                chord = Chord(root, quality, (root + number) % 12)
                assert parse_chord(chord_symbol(chord, key)) == chord


def test_the_line_of_fifths_tells_enharmonic_names_apart() -> None:
    assert [fifths_of(name) for name in ("F#", "Gb", "C", "Fb", "B#")] == [6, -6, 0, -8, 12]
    assert [key_symbol(Key(0, fifths)) for fifths in range(-7, 8)] == list(MAJOR_KEYS)
    assert [key_symbol(Key(0, fifths, True)) for fifths in range(-7, 8)] == list(MINOR_KEYS)
