"""A score on paper: what stands there, and that other programs read it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from plagal.music.arranger.arrange import arrange
from plagal.music.load import load
from plagal.music.midi import read_midi
from plagal.music.notation.musicxml import score_from_musicxml
from plagal.music.score import Key, Marker, Metre, Score
from plagal.plumbing.errors import ChordError, InputError
from plagal.sheet import to_musicxml, to_pdf, to_png_pages, to_svg_pages, write_sheet
from plagal.sheet.engrave import placed
from plagal.sheet.spelling import spelled
from plagal.tokens.codec import encode

MIDI = sorted((Path(__file__).parents[1] / "fixtures" / "midi").glob("*.mid"))


def played(*notes: tuple[int, int, int], **more: object) -> Score:
    """Of onset, pitch and duration."""
    return Score(np.array([(*note, 80) for note in sorted(notes)], dtype=np.int32).reshape(-1, 4), **more)


@pytest.fixture(scope="module")
def piece() -> Score:
    return arrange("amazing_grace", "traditional_gospel", seed=3)


def test_a_sheet_is_written_in_the_form_that_its_name_says(piece: Score, tmp_path: Path) -> None:
    begins = {".musicxml": b"<?xml", ".svg": b"<svg", ".png": b"\x89PNG", ".pdf": b"%PDF"}
    for ending, first in begins.items():
        (path, *_) = write_sheet(piece, tmp_path / f"a{ending}")
        assert path.read_bytes().startswith(first)
    assert (tmp_path / "a-2.svg").exists() == (len(to_svg_pages(piece)) > 1)


def test_another_ending_is_refused_in_a_line(piece: Score, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.doc: a sheet ends with \.musicxml"):
        write_sheet(piece, tmp_path / "a.doc")


def test_the_same_score_makes_the_same_pages(piece: Score) -> None:
    assert to_pdf(piece) == to_pdf(piece)
    assert to_png_pages(piece)[0] == to_png_pages(piece)[0]


def test_a_lead_sheet_is_one_staff_with_the_tune_and_its_chords(piece: Score) -> None:
    root = ET.fromstring(to_musicxml(piece, lead=True))  # noqa: S314
    assert root.findtext(".//staves") == "1"
    assert len(root.findall(".//harmony")) == sum(marker.kind == "chord" for marker in piece.markers)
    assert not root.findall(".//note/chord") and not root.findall(".//pedal")


def test_an_unknown_key_is_named(piece: Score) -> None:
    with pytest.raises(ChordError, match="H flat"):
        to_musicxml(piece, key="H flat")


def test_a_score_without_notes_is_refused() -> None:
    with pytest.raises(InputError, match="no notes"):
        to_musicxml(played())


# --- read again


@pytest.mark.parametrize("style", ["traditional_gospel", "gospel_jazz", "hymnal", "shout"])
def test_words_and_hands_come_back_from_an_arrangement_s_sheet(style: str, tmp_path: Path) -> None:
    score = arrange("blessed_assurance", style, seed=4)
    (path,) = write_sheet(score, tmp_path / "a.musicxml")
    again = load(path)
    assert encode(again) == encode(score)
    assert again.losses == {} and again.hands.tolist() == score.hands.tolist()


@pytest.mark.parametrize("path", MIDI, ids=lambda path: path.stem)
def test_words_come_back_from_the_sheet_of_odd_files_too(path: Path) -> None:
    score = read_midi(path)
    if score.keys:  # a sheet has a signature: where no key is known the heard one is written
        assert encode(score_from_musicxml(to_musicxml(score).encode(), "a")) == encode(score)


def test_repeats_half_pedals_and_an_upbeat_come_back() -> None:
    score = played(
        *((72 + 24 * step, 60 + step, 20) for step in range(12)), metres=(Metre(0, 4, 4),), keys=(Key(0, -3, True),),
        markers=(Marker(96, "repeat", "START"), Marker(96, "section", "CHORUS"), Marker(288, "repeat", "END")),
    )  # fmt: skip
    document = to_musicxml(score)
    assert 'number="0" implicit="yes"' in document
    assert encode(score_from_musicxml(document.encode(), "a"), chords=False) == encode(score, chords=False)


def test_other_programs_files_are_read_as_ever(tmp_path: Path) -> None:
    theirs = to_musicxml(played((0, 60, 24), (25, 64, 23), keys=(Key(0, 0),))).replace("Plagal", "Other")
    notes = score_from_musicxml(theirs.encode(), "a").notes
    assert notes[:, :3].tolist() == [[0, 60, 24], [24, 64, 24]]


# --- music that is hard to write


MANY = [(6 * (step // 2), 36 + 40 * (step % 2) + step // 2 % 12, 6) for step in range(10_000)]
HARD = {
    "no two hands can play it": played(*((0, 24 + 3 * step, 24) for step in range(27)), keys=(Key(0, 0),)),
    "10,000 notes": played(*MANY, keys=(Key(0, 0),)),
    "64 bars of 32nds": played(*((3 * step, 60 + step % 13, 3) for step in range(64 * 32)), keys=(Key(0, 0),)),
    "seven flats": played(*((24 * step, 59 + step % 12, 24) for step in range(32)), keys=(Key(0, -7),)),
    "7/8": played(*((12 * step, 60 + step % 7, 12) for step in range(28)), metres=(Metre(0, 7, 8),), keys=(Key(0, 1),)),
}


@pytest.mark.parametrize("name", HARD)
def test_hard_music_becomes_a_score_that_gives_its_words_back(name: str) -> None:
    document = to_musicxml(HARD[name])
    assert encode(score_from_musicxml(document.encode(), name)) == encode(HARD[name])


def test_a_rolled_chord_s_sign_stands_upright_on_the_page() -> None:
    place = placed(np.eye(3), "rotate(-90 10,20) translate(10, 20) scale(2, 2)")
    along = place @ (5, 0, 1)  # five units to the right, laid flat
    assert along[:2] == pytest.approx((10, 10))


def test_in_d_flat_major_no_f_sharp_stands_under_a_chord_on_b() -> None:
    chord = played(
        *((0, pitch, 96) for pitch in (47, 54, 61, 63)), keys=(Key(0, -5),), markers=(Marker(0, "chord", "Badd9"),)
    )
    assert spelled(chord) == [-7, -6, -5, -3]  # C flat, G flat, D flat, E flat


def test_octaves_struck_at_once_have_one_name() -> None:
    """Adim7 between Ab and Bbm: the hands had an A natural and a B double flat."""
    walk = [(0, 32, 36), (0, 44, 36), (0, 63, 36), (36, 33, 36), (36, 45, 36), (36, 63, 36), (36, 66, 36), (36, 69, 36),
            (72, 34, 36), (72, 46, 36), (72, 65, 36), (72, 68, 36), (72, 73, 36)]  # fmt: skip
    symbols = tuple(Marker(onset, "chord", text) for onset, text in ((0, "Abmaj"), (36, "Adim7"), (72, "Bbmin7")))
    score = played(*walk, keys=(Key(0, -4),), metres=(Metre(0, 12, 8),), markers=symbols)
    names = spelled(score)
    assert {name for name, note in zip(names, score.notes, strict=True) if note[1] % 12 == 9} == {3}


def test_an_upbeat_s_own_metre_is_not_printed() -> None:
    upbeat = played((0, 60, 24), (24, 64, 96), metres=(Metre(0, 1, 4), Metre(24, 4, 4)), keys=(Key(0, 0),))
    document = to_musicxml(upbeat)
    assert document.count("<time>") == document.count('<time print-object="no">') == 1
    assert encode(score_from_musicxml(document.encode(), "a")) == encode(upbeat)
