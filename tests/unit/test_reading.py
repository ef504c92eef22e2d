"""What a collected piece says of its licence."""

from __future__ import annotations

from pathlib import Path

import pytest

from plagal.corpus.reading import Discard, Limits, Piece, read_candidate
from plagal.corpus.sources import FolderSource, folder_candidates

NOTE = "<note><pitch><step>{}</step><octave>4</octave></pitch><duration>1</duration></note>"
SCORE = (
    '<?xml version="1.0"?><score-partwise version="4.0"><identification><rights>{rights}</rights></identification>'
    '<part-list><score-part id="P1"><part-name>Piano</part-name></score-part></part-list><part id="P1">{bars}</part>'
    "</score-partwise>"
)
TIME = "<attributes><divisions>1</divisions><time><beats>4</beats><beat-type>4</beat-type></time></attributes>"
BARS = "".join(
    f'<measure number="{n + 1}">{TIME if n == 0 else ""}{"".join(map(NOTE.format, steps))}</measure>'
    for n, steps in enumerate(["CDEF", "GABA", "GFED", "CEGC"])
)


def read(folder: Path, licence: str, rights: str, commercial_use_only: bool = False) -> Piece | Discard:
    source = FolderSource(
        kind="folder", name="own", genre="gospel", path=str(folder), licence=licence, attribution="a friend",
        commercial="NC" not in licence,
    )  # fmt: skip
    (folder / "hymn.musicxml").write_text(SCORE.format(rights=rights, bars=BARS))
    (candidate,) = folder_candidates(source, folder)
    return read_candidate(candidate, Limits(1, 1000, 1, 100), commercial_use_only)


@pytest.mark.parametrize(
    ("licence", "rights", "commercial"),
    [
        ("CC BY-NC 4.0", "Public domain, use it as you like", False),
        ("CC0", "For non-commercial use only", False),
        ("CC0", "Public domain, engraved by a friend", True),
    ],
)
def test_rights_in_a_file_may_forbid_what_its_source_allows_and_never_allow_what_it_forbids(
    tmp_path: Path, licence: str, rights: str, commercial: bool
):
    piece = read(tmp_path, licence, rights)
    assert isinstance(piece, Piece)
    assert piece.row["metadata"]["commercial"] is commercial
    assert piece.row["metadata"]["licence"] == f"{licence}; the file says: {rights}"


def test_a_file_that_reserves_all_rights_is_left_out_whatever_its_source_says(tmp_path: Path):
    discard = read(tmp_path, "CC0", "Copyright 1998 by the engraver. All rights reserved.")
    assert isinstance(discard, Discard) and discard.reason == "licence"


def test_where_commercial_use_is_asked_for_a_file_cannot_free_itself_from_its_source(tmp_path: Path):
    discard = read(tmp_path, "CC BY-NC 4.0", "CC0", commercial_use_only=True)
    assert isinstance(discard, Discard) and "CC BY-NC 4.0" in discard.detail
