"""MIDI, ABC, MusicXML, Humdrum, chords and progressions."""
# ruff: noqa: E501  (samples of music are lines of their own length)

from __future__ import annotations

import io
import runpy
import zipfile
from collections.abc import Callable
from pathlib import Path

from .frame import Target, expect, own_folder, taken, watched

FIXTURES = Path(__file__).parents[2] / "fixtures"
MUSICXML = """<?xml version="1.0" encoding="UTF-8"?>
<score-partwise version="4.0"><work><work-title>A</work-title></work><identification><rights>CC0</rights></identification>
<part-list><score-part id="P1"><part-name>Piano</part-name></score-part></part-list><part id="P1"><measure number="1">
<attributes><divisions>4</divisions><key><fifths>-5</fifths><mode>major</mode></key><time><beats>3</beats>
<beat-type>4</beat-type></time></attributes><direction><sound tempo="66"/></direction><harmony><root><root-step>D</root-step>
<root-alter>-1</root-alter></root><kind>major-ninth</kind></harmony><note><pitch><step>D</step><alter>-1</alter>
<octave>4</octave></pitch><duration>4</duration><tie type="start"/></note><note><chord/><pitch><step>F</step>
<octave>4</octave></pitch><duration>4</duration></note><note><rest/><duration>2</duration></note><backup><duration>2
</duration></backup><note><grace/><pitch><step>G</step><octave>5</octave></pitch></note><barline location="right">
<repeat direction="backward"/></barline></measure></part></score-partwise>
"""
ABC = (
    'X:1\nT:One\nM:3/4\nL:1/8\nQ:1/4=66\nK:Db\n"Dbmaj9"D2 F>A (3cde|[DFA]6|]\n',
    "X:1\nT:Two\nM:C|\nL:1/4\nK:Am\n|:A,B,C D-|D/2E/2 z2 F:|1 G4:|2 ^c'4|]\n",
    "X:1\nM:6/8\nK:G clef=bass\nV:1\n[V:1]GAB {c}c3|\nV:2\n[V:2]G,6|\nw:one two-three\n",
    "X:2\nT:No body\nK:C\n",
    "X:1\nM:none\nL:1/16\nK:C dor\nP:A\n!f!C4 .D2 ~E ([CE]2- [CE]2) | d0 e1/0 |\n",
    "X:1\nK:\n[M:5/4][L:1/8][K:E]e8 z8 | [Q:120] x2 y A//// B3/2 |: :|\n",
    "X:1\nM:4/4\nL:1/1\nK:C\nC99999999 D/99999999|\n",
)
KERN = "**kern\t**kern\n*M3/4\t*M3/4\n*k[b-]\t*k[b-]\n=1\t=1\n4F\t8c\n.\t8d\n2.GG\t(2.e)\n=2\t=2\n[4A 4c\t4r\n==\t==\n*-\t*-\n"


def _midi() -> Callable[[bytes], bool]:
    from plagal.music.midi import read_midi, to_midi_bytes
    from plagal.tokens import grammar
    from plagal.tokens.codec import decode, encode

    own_folder()

    def try_one(data: bytes) -> bool:
        with watched():
            score = taken(lambda: read_midi(data))
            if score is None:
                return False
            again = read_midi(to_midi_bytes(score))
            expect(again == read_midi(to_midi_bytes(again)), "what was written and read again is not written the same")
            expect(again.notes.tolist() == score.notes.tolist(), "notes are not those that were written")
            expect((again.metres, again.keys, again.pedals, again.markers) == (
                score.metres, score.keys, score.pedals, score.markers), "marks are not those that were written")  # fmt: skip
            words = encode(score)
            expect(grammar.accepts(words), "the words are not grammatical")
            expect(encode(decode(words, strict=True).score) == words, "words do not come back from their score")
            return True

    return try_one


def _midi_seeds() -> list[bytes]:
    made = runpy.run_path(str(FIXTURES / "midi" / "make.py"))
    return [data for data in (*made["GOOD"].values(), *made["BROKEN"].values()) if len(data) <= 4096]


def _abc() -> Callable[[bytes], bool]:
    from plagal.music.notation import load_all
    from plagal.music.score import Score

    file = own_folder() / "tune.abc"

    def try_one(data: bytes) -> bool:
        file.write_bytes(data)
        with watched():
            scores = taken(lambda: list(load_all(file)))
            return bool(scores) and all(_playable(score) for score in scores if isinstance(score, Score))

    return try_one


def _playable(score: object) -> bool:
    from plagal.music.midi import read_midi, to_midi_bytes
    from plagal.music.score import Score
    from plagal.tokens import grammar
    from plagal.tokens.codec import encode

    assert isinstance(score, Score)
    expect(len(read_midi(to_midi_bytes(score)).notes) == len(score.notes), "notes are lost in MIDI")
    expect(grammar.accepts(encode(score)), "the words are not grammatical")
    return True


def _book() -> Callable[[bytes], bool]:
    from plagal.music.arranger.tunebook import parse_tune

    own_folder()

    def try_one(data: bytes) -> bool:
        text = data.decode("utf-8", "replace")
        with watched():
            tune = taken(lambda: parse_tune(text))
            if tune is None:
                return False
            expect(all(21 <= pitch <= 108 and ticks > 0 <= onset for onset, pitch, ticks in tune.notes), "no notes")
            return tune.bars > 0

    return try_one


def _book_seeds() -> list[bytes]:
    return [b"X:1\nT:One\nC:A. B.\nH:1850\nM:3/4\nL:1/8\nQ:1/4=80\nK:Ab\nE2|\"Ab\"A3c B2|\"Db/F\"A4 E>F|[P:CHORUS](3Ace c4|_A6-|A4|]\n",
            b"T:Two\nH:1901\nM:4/4\nL:1/4\nQ:1/4=66\nK:C minor\n\"Cmin\"C E G c'|\"G7\"B, z ^F/2G/2 G,|\"Cmin\"C4|]\n"]  # fmt: skip


def _notation() -> Callable[[bytes], bool]:
    """The first byte says which kind of file the rest is."""
    from plagal.music.load import load

    folder = own_folder()
    files = [folder / f"score{suffix}" for suffix in (".musicxml", ".mxl", ".krn", ".xml")]

    def try_one(data: bytes) -> bool:
        file = files[data[0] % 4] if data else files[0]
        file.write_bytes(data[1:])
        with watched():
            score = taken(lambda: load(file))
            return score is not None and _playable(score)

    return try_one


def _notation_seeds() -> list[bytes]:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "META-INF/container.xml", '<container><rootfiles><rootfile full-path="a.xml"/></rootfiles></container>'
        )
        archive.writestr("a.xml", MUSICXML)
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;"><!ENTITY d SYSTEM "file:///etc/hostname">]>'
    return [b"\0" + MUSICXML.encode(), b"\1" + packed.getvalue(), b"\2" + KERN.encode(),
            b"\3" + MUSICXML.replace("<score-partwise", f"{bomb}<score-partwise").replace(">A<", ">&c;&d;<").encode()]  # fmt: skip


def _chords() -> Callable[[bytes], bool]:
    from plagal.asking.progression import read_progression
    from plagal.compose.opening import spread_chords
    from plagal.music.chords import parse_chord
    from plagal.music.keys import chord_symbol, parse_key

    own_folder()

    def try_one(data: bytes) -> bool:
        text = data.decode("utf-8", "replace")
        with watched():
            chord = taken(lambda: parse_chord(text))
            if chord is not None:
                expect(parse_chord(chord.symbol) == chord, f"{chord.symbol} is not read as it was written")
                expect(parse_chord(chord_symbol(chord)) == chord, f"{chord_symbol(chord)} is another chord")
            taken(lambda: parse_key(text))
            bars = taken(lambda: read_progression(text))
            if bars is not None:
                placed = list(spread_chords(bars, 8, 96))
                expect(placed == sorted(placed), "bars out of order")
            return chord is not None or bars is not None

    return try_one


def _chord_seeds() -> list[bytes]:
    return [text.encode() for text in ("Dbmaj9 | Gb13 | Ab13sus Ab7", "F#m7b5/A", "C6/9", "Bb°7 - Ebm11", "% | %",
            "A♭7#9b13, D♭/F; G-7", "|: C G/B | Am | % :|", "H7", "C/", "Cmaj7/Bbb", "D# minor", "Gb major")]  # fmt: skip


_READ = "a score or one line that names the file; the score's MIDI is read again as it was, its words are grammatical"
TARGETS = {
    "midi": Target("a score or one line; written and read again it is the same; so are its words", _midi, _midi_seeds),
    "abc": Target(_READ, _abc, lambda: [text.encode() for text in (*ABC, "".join(ABC[:3]))], 1500),
    "notation": Target(_READ, _notation, _notation_seeds),
    "tunebook": Target("a tune of whole bars and notes on the piano, or one line", _book, _book_seeds, 1500),
    "chords": Target("chords read as they are written again, or one line", _chords, _chord_seeds, 400),
}
