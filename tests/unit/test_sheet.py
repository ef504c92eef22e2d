"""A score on paper: what stands there, and that other programs read it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from plagal.music.arranger.arrange import arrange
from plagal.music.score import Score
from plagal.plumbing.errors import ChordError, InputError
from plagal.sheet import to_musicxml, to_pdf, to_png_pages, to_svg_pages, write_sheet


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
