"""How well sheet music is spelled, compared with music21's speller, and whether other programs can read it.

    python benchmarks/sheet.py [--json] [--files 25] [--pieces 30]

- spelling: notes of notated scores in music21's corpus (Bach to Beethoven, MusicXML and Humdrum) that we name as their
  editions do, given sounding pitches and the key signature; music21 names them by `simplifyMultipleEnharmonics`.
- musicxml_same: arrangements, and hymns where the folder is, whose MusicXML gives music21, Verovio and partitura the
  same bars, keys and notes in the same hands, music21 and partitura at the same place, too, and our own reader the same
  words and hands. Grace notes are counted only: programs place them as they like.
- musicxml_valid: of these, those that are valid by the schema of MusicXML 4.0, which the package musicxml ships.
"""

from __future__ import annotations

import json
import random
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np

from plagal.music.arranger.arrange import STYLES, arrange
from plagal.music.grid import bar_lines, last_event, regular
from plagal.music.hands import in_two_hands
from plagal.music.midi import read_midi
from plagal.music.notation.musicxml import score_from_musicxml
from plagal.music.score import Score
from plagal.plumbing.errors import InputError
from plagal.sheet import to_musicxml
from plagal.sheet.spelling import LETTERS, names
from plagal.tokens.codec import encode
from shared.places import hymns
from shared.rows import Row, finish, parser, row

_COMPOSERS = ("bach", "beethoven", "haydn", "mozart")
_WITHIN_TICKS = 4
"""A rolled chord is struck within so many ticks, and stands at its first."""

_ASKED, _AT_ONCE = 240, 12
"""Notes of a score that music21 names, from its first, and so many at a time."""

Place = tuple[int, int, int]
"""Bar from 0, hand, pitch."""
Placed = dict[Place, list[float]]
"""Ticks from the bar line at which it is struck."""


# --- spelling


def notated(most: int) -> Iterator[tuple[Any, Any, list[int], list[Any]]]:
    """Pitches, onsets, key signatures in force, and music21's pitches of scores, in the order that they sound."""
    import music21

    folder = Path(music21.__file__).parent / "corpus"
    files = [
        path for name in _COMPOSERS for path in sorted((folder / name).rglob("*")) if path.suffix in (".mxl", ".krn")
    ]
    random.Random(1).shuffle(files)
    for path in files[:most]:
        score = music21.converter.parse(path)
        signatures = [
            (sign.getOffsetInHierarchy(score), sign.sharps)
            for sign in score.parts[0].recurse().getElementsByClass("KeySignature")
        ]
        found = sorted(
            (
                (float(note.getOffsetBySite(part)), pitch.midi, number, pitch)
                for number, (part, note) in enumerate(
                    (part, note) for part in (part.flatten() for part in score.parts) for note in part.notes
                )
                if not note.duration.isGrace and (note.tie is None or note.tie.type == "start")
                for pitch in note.pitches
            ),
            key=lambda one: one[:3],
        )
        keys = [next((f for at, f in reversed(signatures) if at <= one[0]), 0) for one in found]
        yield np.array([one[1] for one in found]), np.array([one[0] for one in found]), keys, [one[3] for one in found]


def spelling(most: int) -> Row:
    import music21

    ours = peer = count = asked = 0
    for pitches, onsets, keys, truth in notated(most):
        said = [LETTERS.index(pitch.step) - 1 + 7 * int(pitch.alter) for pitch in truth]
        ours += sum(one == other for one, other in zip(names(pitches, onsets, keys), said, strict=True))
        # It looks at all pairs of what it is given: 40 at a time take a second a note.
        for first in range(0, min(len(pitches), _ASKED), _AT_ONCE):
            of = slice(first, first + _AT_ONCE)
            named = music21.pitch.simplifyMultipleEnharmonics([int(pitch) for pitch in pitches[of]])
            peer += sum(one.name == other.name for one, other in zip(named, truth[of], strict=True))
            asked += len(named)
        count += len(pitches)
    mine, theirs = 100 * ours / count, 100 * peer / asked
    return row("spelling", mine, theirs, "% of notes", against="music21", at_least=98, judge="ours", notes=count)


# --- what other programs read


def _by_place(notes: Iterable[tuple[int, int, int, float]]) -> Placed:
    """Places in the first bar are counted from its first note: an upbeat is written without the rests before it."""
    found: Placed = defaultdict(list)
    notes = list(notes)
    silent = min((ticks for bar, _, _, ticks in notes if bar == 0), default=0.0)
    for bar, hand, pitch, ticks in notes:
        found[bar, hand, pitch].append(ticks if bar else ticks - silent)
    return {place: sorted(ticks) for place, ticks in found.items()}


def by_music21(document: str) -> tuple[Placed, list[int], int]:
    """Notes, key signatures and bars."""
    import music21

    score = music21.converter.parse(document, format="musicxml")
    notes = [
        (bar, 1 - staff, pitch.midi, 24 * float(note.getOffsetInHierarchy(measure)))
        for staff, part in enumerate(score.parts)
        for bar, measure in enumerate(part.getElementsByClass("Measure"))
        for note in measure.recurse().notes
        if "Harmony" not in note.classes and not note.duration.isGrace
        and (note.tie is None or note.tie.type == "start")
        for pitch in note.pitches
    ]  # fmt: skip
    keys = [sign.sharps for sign in score.parts[0].recurse().getElementsByClass("KeySignature")]
    return _by_place(notes), keys, len(score.parts[0].getElementsByClass("Measure"))


def by_partitura(document: str) -> tuple[Placed, list[int], int]:
    import partitura

    with NamedTemporaryFile("w", suffix=".musicxml", encoding="utf-8") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file.write(document)
        file.flush()
        part = partitura.load_musicxml(file.name).parts[0]
    bars = [(part.quarter_map(bar.start.t), bar.start.t) for bar in part.iter_all(partitura.score.Measure)]
    starts = [tick for _, tick in bars]
    notes = []
    for note in part.notes_tied:
        if not isinstance(note, partitura.score.GraceNote):
            bar = int(np.searchsorted(starts, note.start.t, side="right")) - 1
            ticks = 24 * float(part.quarter_map(note.start.t) - bars[bar][0])
            notes.append((bar, 2 - note.staff, note.midi_pitch, ticks))
    return _by_place(notes), [sign.fifths for sign in part.iter_all(partitura.score.KeySignature)], len(bars)


def by_verovio(document: str) -> tuple[Placed, list[int], int]:
    """Without places."""
    import verovio
    from lxml import etree

    tools = verovio.toolkit()
    tools.loadData(document)
    tools.renderToMIDI()
    tree = etree.fromstring(tools.getMEI().encode())
    for element in tree.iter("{*}*"):
        element.tag = etree.QName(element).localname
    tied = {tie.get("endid", "").removeprefix("#") for tie in tree.iter("tie")}
    called = "{http://www.w3.org/XML/1998/namespace}id"
    bars = list(tree.iter("measure"))
    notes = []
    for bar, measure in enumerate(bars):
        for staff in measure.iter("staff"):
            for note in staff.iter("note"):
                if note.get(called) not in tied and not any(
                    one.get("grace") for one in (note, *note.iterancestors("chord"))
                ):
                    heard = tools.getMIDIValuesForElement(note.get(called))
                    pitch = (heard if isinstance(heard, dict) else json.loads(heard))["pitch"]
                    notes.append((bar, 2 - int(staff.get("n")), pitch, 0.0))
    signs = [sign.get("keysig") or sign.get("sig") for sign in tree.iter("scoreDef", "staffDef", "keySig")]
    keys = [int(sign[:-1] or 0) * (-1 if sign.endswith("f") else 1) for sign in signs if sign]
    return _by_place(notes), list(dict.fromkeys(keys)), len(bars)


def same(score: Score, document: str) -> list[str]:
    """What of a written score is read otherwise, by whom; empty where nothing is."""
    again = score_from_musicxml(document.encode(), "ours")
    wrong = []
    if encode(again) != encode(score):
        wrong.append("our reader: other words")
    if again.hands is None or score.hands is None or again.hands.tolist() != score.hands.tolist():
        wrong.append("our reader: other hands")
    # The last note may sound into a bar that no other event is in.
    lines = bar_lines(score.metres, max(last_event(score), int((score.notes[:, 0] + score.notes[:, 2]).max()) - 1))[0]
    first = np.searchsorted(lines, score.notes[:, 0], side="right") - 1
    hands = score.hands if score.hands is not None else [-1] * len(score.notes)
    ours = _by_place(
        (int(bar), int(hand), int(pitch), float(onset - lines[bar]))
        for bar, hand, (onset, pitch, _, _) in zip(first, hands, score.notes, strict=True)
    )
    crushed, fifths = document.count("<grace "), [key.fifths for key in score.keys]
    for name, read in (("music21", by_music21), ("partitura", by_partitura), ("verovio", by_verovio)):
        try:
            theirs, keys, bars = read(document)
        except Exception as error:  # whatever another program says, it does not take the file
            wrong.append(f"{name}: {error}")
            continue
        if bars != len(lines):
            wrong.append(f"{name}: {bars} bars of {len(lines)}")
        if [key for number, key in enumerate(keys) if not number or key != keys[number - 1]] != fifths:
            wrong.append(f"{name}: keys {keys}")
        missing = sum(len(ticks) - len(theirs.get(place, ())) for place, ticks in ours.items())
        if missing != crushed or not theirs.keys() <= ours.keys():
            wrong.append(f"{name}: other notes")
        elif name != "verovio" and any(
            min(abs(tick - other) for other in ours[place]) > _WITHIN_TICKS
            for place, ticks in theirs.items() for tick in ticks
        ):  # fmt: skip
            wrong.append(f"{name}: notes elsewhere")
    return wrong


# --- the schema


def schema() -> Any:
    """MusicXML 4.0's, from the package musicxml; what it imports from the network comes with xmlschema."""
    import xmlschema

    package = find_spec("musicxml")
    assert package is not None and package.submodule_search_locations
    folder = Path(package.submodule_search_locations[0])
    return xmlschema.XMLSchema(str(folder / "generate_classes" / "musicxml_4_0.xsd"), allow="local")


def written(pieces: int) -> Iterator[tuple[str, Score]]:
    styles = list(STYLES)
    for seed in range(pieces):
        yield f"{styles[seed % len(styles)]} {seed}", arrange(None, styles[seed % len(styles)], seed=seed, bars=8)
    for path in hymns()[: pieces // 3]:
        try:
            yield path.stem, in_two_hands(regular(read_midi(path, heard=True)))
        except InputError:
            continue


def measure(files: int, pieces: int) -> Iterator[Row]:
    yield spelling(files)
    rules, alike, valid, count = schema(), 0, 0, 0
    for name, score in written(pieces):
        document = to_musicxml(score)
        faults = same(score, document)
        alike += not faults
        against = [f"schema: {error.reason} at {error.path}" for error in rules.iter_errors(document)][:1]
        valid += not against
        count += 1
        for fault in [*faults, *against]:
            print(f"  {name}: {fault}")
    yield row("musicxml_same", alike, count, "pieces", against="written", at_least=1.0)
    yield row("musicxml_valid", valid, count, "pieces", against="written", at_least=1.0)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--files", type=int, default=25, help="notated scores")
    options.add_argument("--pieces", type=int, default=30, help="arrangements, and a third as many hymns")
    chosen = options.parse_args()
    finish("sheet", measure(chosen.files, chosen.pieces), chosen.json)


if __name__ == "__main__":
    main()
