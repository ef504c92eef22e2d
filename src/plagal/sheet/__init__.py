"""A score as a page: MusicXML 4.0, and SVG, PNG or PDF engraved by Verovio.

    to_musicxml(score) -> str       to_svg_pages(score) -> list of str
    to_pdf(score) -> bytes          to_png_pages(score) -> list of bytes
    write_sheet(score, path): what the path's ending says

All take `lead` (the melody with its chords, and nothing else), `numbers` (Nashville numbers for chord names) and `key`
(a tonic such as "Db", to transpose there).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np

from plagal.music.chords import parse_chord
from plagal.music.edits import shifts_that_fit
from plagal.music.grid import regular
from plagal.music.hands import in_two_hands
from plagal.music.harmony import hear_chords, hear_key
from plagal.music.keys import key_tonic, parse_key
from plagal.music.score import DURATION, HIGHEST_PITCH, LOWEST_PITCH, ONSET, PITCH, Marker, Score
from plagal.plumbing.errors import InputError
from plagal.plumbing.files import atomic_path
from plagal.sheet.musicxml import document
from plagal.sheet.written import swings, written

__all__ = ["SHEET_SUFFIXES", "check_name", "to_musicxml", "to_pdf", "to_png_pages", "to_svg_pages", "write_sheet"]

SHEET_SUFFIXES = (".musicxml", ".xml", ".pdf", ".svg", ".png")


class Look(TypedDict, total=False):
    """How a page is to be, as `to_musicxml` takes it."""

    lead: bool
    numbers: bool
    key: str | None


def to_musicxml(score: Score, *, lead: bool = False, numbers: bool = False, key: str | None = None) -> str:
    """The score as a MusicXML document, from which `plagal.music.load` reads the same words where all of the score is
    on the page. Raises ChordError for an unknown key, InputError for a score without notes."""
    if not len(score.notes):
        raise InputError("the score holds no notes: there is nothing to write")
    if not score.keys:
        score = replace(score, keys=(hear_key(score),))
    if not any(marker.kind == "chord" for marker in score.markers):
        heard = tuple(Marker(onset, "chord", chord.symbol) for onset, chord in hear_chords(score))
        score = replace(score, markers=(*score.markers, *heard))
    if key is not None:
        score = transposed(score, key)
    score = _melody(in_two_hands(score)) if lead else in_two_hands(score)
    swung = swings(score)
    hands = np.ones(len(score.notes), dtype=np.int8) if score.hands is None else score.hands
    staves = written(score, hands, swung)
    return document(score, staves[:1] if lead else staves, swung, lead=lead, numbers=numbers)


def to_svg_pages(score: Score, **look: Unpack[Look]) -> list[str]:
    """The score as SVG, one text for each page of A4. Raises as `to_musicxml`."""
    from plagal.sheet.engrave import svg_pages

    return svg_pages(to_musicxml(score, **look))


def to_pdf(score: Score, **look: Unpack[Look]) -> bytes:
    """The score as a PDF of A4 pages. Raises as `to_musicxml`."""
    from plagal.sheet.engrave import pdf

    return pdf(to_svg_pages(score, **look), score.title)


def to_png_pages(score: Score, **look: Unpack[Look]) -> list[bytes]:
    """The score as PNG, one picture for each page of A4. Raises as `to_musicxml`."""
    from plagal.sheet.engrave import png

    return [png(page) for page in to_svg_pages(score, **look)]


def write_sheet(score: Score, path: str | Path, **look: Unpack[Look]) -> list[Path]:
    """Write the sheet in the form that the path's ending says; SVG and PNG have a file a page ("-2" and on). The files
    written, each whole or not at all. Raises InputError for another ending, DiskError, and as `to_musicxml`."""
    path = Path(path)
    ending = check_name(path)
    pages: list[bytes]
    if ending == ".pdf":
        pages = [to_pdf(score, **look)]
    elif ending == ".png":
        pages = to_png_pages(score, **look)
    elif ending == ".svg":
        pages = [page.encode() for page in to_svg_pages(score, **look)]
    else:
        pages = [to_musicxml(score, **look).encode()]
    names = [path.with_stem(f"{path.stem}-{number}") if number > 1 else path for number in range(1, len(pages) + 1)]
    for name, page in zip(names, pages, strict=True):
        with atomic_path(name) as temporary:
            temporary.write_bytes(page)
    return names


def check_name(path: Path) -> str:
    """The ending that says what a sheet is to be. Raises InputError for any other."""
    ending = path.suffix.lower()
    if ending not in SHEET_SUFFIXES:
        raise InputError(f"{path}: a sheet ends with {', '.join(SHEET_SUFFIXES)}")
    return ending


def _melody(score: Score) -> Score:
    """The top line alone: the right hand's notes with none above them that sounds."""
    notes = score.notes
    kept = np.zeros(len(notes), dtype=bool)
    top, until = -1, -1
    for row in range(len(notes) - 1, -1, -1):  # of what is struck together the highest comes first
        kept[row] = row + 1 == len(notes) or notes[row + 1, ONSET] != notes[row, ONSET]
    for row in np.flatnonzero(kept).tolist():
        onset, pitch = int(notes[row, ONSET]), int(notes[row, PITCH])
        under = onset < until and pitch < top
        kept[row] = not under and (score.hands is None or score.hands[row] == 1)
        if kept[row]:
            top, until = pitch, onset + int(notes[row, DURATION])
    if not kept.any():
        kept[:] = True
    chosen = notes[kept].copy()
    after = np.append(chosen[1:, ONSET], 1 << 30)
    chosen[:, DURATION] = np.minimum(chosen[:, DURATION], np.maximum(after - chosen[:, ONSET], 1))
    return replace(score, notes=chosen, hands=np.ones(len(chosen), dtype=np.int8), pedals=())


def transposed(score: Score, key: str) -> Score:
    """The score in a key, by the shorter way, or the other where the piano ends; modes stay as they are, whatever the
    key's name says. The score must have a key. Raises ChordError for an unknown key."""
    first = score.keys[0]
    wanted = parse_key(key)
    if wanted.minor != first.minor:
        wanted = parse_key(key.rstrip("m ") + ("m" if first.minor else ""))
    by = (key_tonic(wanted) - key_tonic(first) + 6) % 12 - 6
    fit = shifts_that_fit(score, 12)
    by = next((way for way in (by, by - 12, by + 12) if way in fit), by)
    pitches = score.notes[:, PITCH] + by
    pitches = np.where(pitches < LOWEST_PITCH, pitches + 12, np.where(pitches > HIGHEST_PITCH, pitches - 12, pitches))
    notes = score.notes.copy()
    notes[:, PITCH] = pitches
    turn = wanted.fifths - first.fifths
    keys = tuple(replace(old, fifths=_within(old.fifths + turn)) for old in score.keys)
    markers = tuple(
        replace(marker, text=parse_chord(marker.text).transposed(by).symbol) if marker.kind == "chord" else marker
        for marker in score.markers
    )
    return regular(replace(score, notes=notes, keys=keys, markers=markers, hands=score.hands))


def _within(fifths: int) -> int:
    return fifths if -7 <= fifths <= 7 else fifths - 12 if fifths > 0 else fifths + 12
