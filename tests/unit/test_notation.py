"""ABC and MusicXML as scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from plagal.music.load import load
from plagal.music.notation import load_all, load_notation, score_from_abc, split_tunes
from plagal.music.score import Key, Marker, Metre
from plagal.plumbing.errors import AbcError, InputError

HEAD = "X:1\nT:A Tune\nM:{metre}\nL:1/4\nK:{key}\n"


def abc(body: str, metre: str = "4/4", key: str = "C") -> str:
    return HEAD.format(metre=metre, key=key) + body + "\n"


def onsets_and_pitches(text: str) -> list[tuple[int, int]]:
    return [(int(onset), int(pitch)) for onset, pitch, _, _ in score_from_abc(text).notes]


def test_a_tune_has_its_title_metre_key_notes_and_chord_symbols():
    score = score_from_abc(abc('"Am"A B c d | "E7"e2 ^g2 |]', key="Am"))
    assert score.title == "A Tune"
    assert score.metres == (Metre(0, 4, 4),)
    assert score.keys == (Key(0, 0, True),)
    assert score.notes[:, 1].tolist() == [69, 71, 72, 74, 76, 80]
    assert score.markers == (Marker(0, "chord", "Amin"), Marker(96, "chord", "Edom7"))


def test_an_upbeat_ends_the_first_bar():
    assert onsets_and_pitches(abc("G | c d e f | g4 |]"))[:2] == [(72, 67), (96, 72)]


def test_repeats_with_two_endings_are_played_out():
    played = [pitch for _, pitch in onsets_and_pitches(abc("|: c d e f |1 g4 :|2 a4 |]"))]
    assert played == [72, 74, 76, 77, 79, 72, 74, 76, 77, 81]


def test_a_repeat_after_an_upbeat_keeps_one_metre_and_whole_bars():
    score = score_from_abc(abc("|: G | c d e f | g2 e :|"))
    assert score.metres == (Metre(0, 4, 4),)
    once = [72, 96, 120, 144, 168, 192, 240]
    assert score.notes[:, 0].tolist() == once + [onset + 192 for onset in once]


def test_tied_notes_are_one_note_over_the_bar_line():
    score = score_from_abc(abc("c2 d2- | d2 e2 |]"))
    assert score.notes[:, 2].tolist() == [48, 96, 48]


def test_grace_notes_are_left_out_and_counted():
    score = score_from_abc(abc("{d}c d e f | g4 |]"))
    assert len(score.notes) == 5
    assert score.losses["grace_notes"] == 1


def test_a_file_of_many_tunes_gives_each(tmp_path: Path):
    file = tmp_path / "tunes.abc"
    file.write_text(
        "% a book\n\n" + abc("c d e f |]") + "\n" + abc("g a b c' |]").replace("X:1", "X:2"), encoding="utf-8"
    )
    assert len(split_tunes(file.read_text(encoding="utf-8"))) == 2
    assert [int(score.notes[0, 1]) for score in load_all(file)] == [72, 79]
    assert int(load(file).notes[0, 1]) == 72


def test_musicxml_of_four_voices_is_one_piano_part():
    from plagal.corpus.sources import music21_folder

    score = load_notation(music21_folder() / "bach" / "bwv66.6.mxl")
    # 165 note heads, two of them tied on.
    assert len(score.notes) + score.losses["notes_unison_merged"] == 163
    assert score.keys == (Key(0, 3, True),)
    assert score.metres == (Metre(0, 4, 4),)
    assert int(score.notes[0, 0]) == 72


@pytest.mark.parametrize("name", ["empty.abc", "noise.xml", "noise.mxl", "cut.mxl", "noise.krn"])
def test_a_broken_file_is_named_in_one_line(tmp_path: Path, name: str):
    from plagal.corpus.sources import music21_folder

    file = tmp_path / name
    whole = (music21_folder() / "bach" / "bwv66.6.mxl").read_bytes()
    file.write_bytes({"empty.abc": b"", "cut.mxl": whole[: len(whole) // 2]}.get(name, b"\x00\x01 no music <"))
    with pytest.raises(InputError, match=name) as caught:
        load_notation(file)
    assert "\n" not in str(caught.value)


def test_abc_that_does_not_parse_is_named():
    with pytest.raises((AbcError, InputError), match="my tune"):
        score_from_abc("X:1\nK:C\n", "my tune")


def test_a_bomb_is_refused_by_its_unpacked_size(tmp_path: Path):
    import zipfile

    bomb = tmp_path / "bomb.mxl"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("score.xml", b"0" * 20_000_000)
    with pytest.raises(InputError, match="larger than 8 MB"):
        load_notation(bomb)
