"""Notation that other programs read wrongly: cases that people reported, and twins of ours that need no such folder.

The cases lie beside the project (`../shared/cases/reading`, each with an `expected.txt`); where the folder is absent
they are skipped. The twins are other music with the same fault in it, in `tests/fixtures/notation/twins.yaml`.
"""

from __future__ import annotations

import cProfile
import gc
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from plagal.music.grid import bar_lines
from plagal.music.notation import load_all, load_notation, score_from_abc, split_tunes
from plagal.music.notation.abc import LONGEST_TUNE
from plagal.music.notation.bars import MAX_NOTATION_BYTES, MOST_NOTES, MOST_PLAYED, Marks, played_order
from plagal.music.notation.musicxml import score_from_musicxml
from plagal.music.score import TICKS_PER_QUARTER, Score
from plagal.plumbing.errors import InputError

CASES = Path(__file__).parents[3] / "shared" / "cases" / "reading"
TWINS = Path(__file__).parents[1] / "fixtures" / "notation" / "twins.yaml"

needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="the reported cases are not beside the project")


def case(name: str) -> Score:
    return load_notation(CASES / name)


def pitches(score: Score) -> list[int]:
    return [int(pitch) for pitch in score.notes[:, 1]]


def onsets(score: Score) -> list[float]:
    return [int(onset) / TICKS_PER_QUARTER for onset in score.notes[:, 0]]


def lines(score: Score) -> list[float]:
    return [int(line) / TICKS_PER_QUARTER for line in bar_lines(score.metres, int(score.notes[-1, 0]))[0]]


def symbols(score: Score) -> list[tuple[float, str]]:
    return [(mark.onset / TICKS_PER_QUARTER, mark.text) for mark in score.markers if mark.kind == "chord"]


def quarters(score: Score) -> float:
    return float((score.notes[:, 0] + score.notes[:, 2]).max()) / TICKS_PER_QUARTER


# ---------------------------------------------------------------- reported cases


@needs_cases
def test_a_tie_carries_its_accidental_over_the_bar_line() -> None:
    notes = case("abc-accidental-tie/accidental_over_tie.abc").notes.tolist()
    # The case's text says four quarters; a quarter tied to a half, as abc2midi plays too, are three.
    assert [72, 71, 72, 80] in notes
    assert [note[1] for note in notes] == [69, 74, 71, 70, 69]


@needs_cases
def test_all_quoted_chords_of_gospel_are_read() -> None:
    found = dict(symbols(case("abc-chords-lost/gospel_chords.abc")))
    found.pop(32, None)  # "N.C.": what is heard there, if anything
    names = ["Dbmaj9", "Gb69", "Ab13sus", "Dbadd9", "Bb7#9", "Ebhalfdim7", "Ab7b9", "Dbmaj/F", "Dbmaj"]
    assert list(found.values()) == names


@needs_cases
@pytest.mark.parametrize(
    ("name", "notes", "bars"),
    [
        ("abc-double-colon/double_colon.abc", 32, 8),
        ("abc-end-repeat-without-start/two_strains.abc", 32, 8),
        ("abc-end-repeat-without-start/strains_10.abc", 160, 40),
        ("xml-end-repeat-without-start/two_strains_no_forward.musicxml", 32, 8),
        ("xml-end-repeat-without-start/variations_8.musicxml", 128, 32),
        ("xml-end-repeat-without-start/variations_12.musicxml", 192, 48),
    ],
)
def test_each_strain_is_played_twice(name: str, notes: int, bars: int) -> None:
    score = case(name)
    assert (len(score.notes), quarters(score)) == (notes, 4 * bars)


@needs_cases
def test_letters_of_decorations_are_no_notes() -> None:
    score = case("abc-fermata-letter/decorations_std.abc")
    assert (len(score.notes), onsets(score)[0], score.losses["articulations"]) == (12, 0, 3)


@needs_cases
def test_the_file_header_holds_for_each_tune() -> None:
    first, second = load_all(CASES / "abc-file-header" / "file_header.abc")
    assert len(first.notes) == 27
    assert [tempo.quarters_per_minute for score in (first, second) for tempo in score.tempos] == [90, 90]
    assert set(first.notes[:, 2].tolist()) == {24, 48, 96}
    assert (second.metres[0].numerator, second.metres[0].denominator) == (3, 4)


@needs_cases
def test_free_text_after_a_tune_is_no_music() -> None:
    assert [len(score.notes) for score in load_all(CASES / "abc-free-text" / "free_text_between.abc")] == [16, 4]


@needs_cases
def test_inline_fields_change_metre_unit_tempo_and_key() -> None:
    score = case("abc-inline-fields/inline_m_l.abc")
    assert [(m.onset // 24, m.numerator, m.denominator) for m in score.metres] == [(0, 4, 4), (4, 3, 4), (10, 6, 8)]
    modes = case("abc-inline-fields/k_modes.abc")
    # E dorian with C#, A mixolydian with G, Bb with Eb, F# minor, C.
    assert pitches(modes) == [64, 66, 67, 69, 71, 73, 74, 76, 69, 71, 73, 74, 76, 78, 79, 81,
                              70, 72, 74, 75, 66, 68, 69, 71, 60, 62, 64, 65]  # fmt: skip


@needs_cases
def test_rests_of_bars_last_bars() -> None:
    assert onsets(case("abc-multirest/multirest.abc"))[4:8] == [12, 13, 14, 15]


@needs_cases
@pytest.mark.parametrize(("name", "lowest"), [("midi_transpose", 48), ("voice_octave", 36), ("voice_transpose", 60)])
def test_what_is_transposed_sounds_where_it_sounds(name: str, lowest: int) -> None:
    assert pitches(case(f"abc-transpose-octave/{name}.abc"))[0] == lowest


@needs_cases
def test_a_chord_beside_an_annotation_counts() -> None:
    assert symbols(case("abc-two-quoted/annotations.abc")) == [(4, "Cmaj"), (12, "Gdom7")]


@needs_cases
@pytest.mark.parametrize(
    ("name", "notes", "length", "tempo"),
    [
        ("abc-voices-alternating/voices_at_line_start.abc", 16, 12, 80),
        ("abc-voices-inline/voices_inline.abc", 32, 12, 80),
        ("abc-voices-inline/amazing-grace.abc", 127, 50, 100),
        ("generate-melody-abc-header/amazing-grace.abc", 127, 50, 100),
    ],
)
def test_voices_sound_together(name: str, notes: int, length: float, tempo: float) -> None:
    score = case(name)
    assert len(score.notes) + score.losses.get("notes_unison_merged", 0) == notes
    assert (quarters(score), score.tempos[0].quarters_per_minute) == (length, tempo)


@needs_cases
def test_degrees_make_the_chord_that_they_spell() -> None:
    names = ["Cmaj", "Dmin7", "G7b5", "C6", "A7b9", "D7#9", "G9sus", "Cadd9", "Fmin6", "Bbdom13", "Ehalfdim7", "A7#5",
             "Dminmaj7", "Cmaj/G"]  # fmt: skip
    found = symbols(case("xml-chord-degrees/altered_chords.musicxml"))
    assert found[:14] == [(4.0 * number, name) for number, name in enumerate(names)]
    assert found[-1] == (60, "C5")


@needs_cases
def test_a_chord_keeps_its_notes_whatever_stands_between_them() -> None:
    score = case("xml-chord-element-between/21f-Chord-ElementInBetween.xml")
    assert (pitches(score), onsets(score)) == ([62, 66, 69], [0, 0, 0])


@needs_cases
def test_a_short_bar_keeps_its_bar_lines() -> None:
    assert lines(case("xml-irregular-bar/irregular_bar.musicxml")) == [0, 4, 6, 10, 14]
    assert lines(case("xml-irregular-bar/46f-IncompleteMeasures.xml")) == [0, 4, 8, 10]


@needs_cases
def test_a_signature_without_a_mode_is_heard() -> None:
    key = case("xml-minor-without-mode/musescore_minor_no_mode.musicxml").keys[0]
    assert (key.fifths, key.minor) == (0, True)


@needs_cases
def test_one_symbol_is_no_assertion_for_the_whole_piece() -> None:
    found = symbols(case("xml-one-chord-symbol/chord_only_at_start.musicxml"))
    assert found == [(0, "Cmaj"), (4, "Fmaj"), (8, "Gmaj"), (12, "Amin")]


@needs_cases
@pytest.mark.parametrize(("name", "lost"), [("slash_notes", 8), ("slash_measure_style", 4)])
def test_slashes_are_silent_and_counted(name: str, lost: int) -> None:
    score = case(f"xml-slash-notes/{name}.musicxml")
    assert (pitches(score), score.losses["notes_slash"]) == ([65, 69, 72, 77], lost)


@needs_cases
def test_transposing_instruments_sound_where_they_sound() -> None:
    scale = [60, 62, 64, 65, 67, 69, 71, 72]
    assert pitches(case("xml-transposing/72a-TransposingInstruments.xml")) == scale
    clarinet = case("xml-transposing/clarinet_with_piano.musicxml")
    assert sorted({pitch % 12 for pitch in pitches(clarinet)}) == [0, 2, 4, 5, 7, 9, 11]
    assert [(key.fifths, key.minor) for key in clarinet.keys] == [(0, False)]
    assert pitches(case("xml-transposing/bass_octave_transpose.musicxml"))[0] == 36


# ------------------------------------------------------------------------- twins


def twins() -> dict[str, dict[str, Any]]:
    return dict(yaml.safe_load(TWINS.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", twins())
def test_a_twin_reads_as_a_musician_plays_it(name: str) -> None:
    twin = twins()[name]
    score = score_from_abc(twin["abc"], name)
    if "pitches" in twin:
        assert pitches(score) == twin["pitches"]
    if "onsets" in twin:
        assert onsets(score) == twin["onsets"]
    if "lines" in twin:
        assert lines(score) == twin["lines"]
    if "chords" in twin:
        assert symbols(score) == [tuple(pair) for pair in twin["chords"]]
    for loss, count in twin.get("losses", {}).items():
        assert score.losses.get(loss, 0) == count, loss


def musicxml(*measures: str, key: str = "<key><fifths>0</fifths><mode>major</mode></key>", more: str = "") -> bytes:
    """One part in 4/4, two divisions a quarter; `more` stands in the first attributes."""
    first = (f"<attributes><divisions>2</divisions>{key}<time><beats>4</beats><beat-type>4</beat-type></time>{more}"
             "</attributes>")  # fmt: skip
    inside = "".join(
        f'<measure number="{number}">{"" if number > 1 else first}{text}</measure>'
        for number, text in enumerate(measures, 1)
    )
    return f'<score-partwise version="4.0"><part-list/><part id="P1">{inside}</part></score-partwise>'.encode()


def note(step: str, octave: int = 4, duration: int = 2, more: str = "", before: str = "") -> str:
    return (f"<note>{before}<pitch><step>{step}</step><octave>{octave}</octave></pitch><duration>{duration}</duration>"
            f"<voice>1</voice>{more}</note>")  # fmt: skip


FOUR = note("C") + note("D") + note("E") + note("F")


def test_voltas_play_each_ending_in_its_turn() -> None:
    def bar(step: str, left: str = "", right: str = "") -> str:
        return (f'<barline location="left">{left}</barline>{note(step, duration=8)}'
                f'<barline location="right">{right}</barline>')  # fmt: skip

    back, forward = '<repeat direction="backward"/>', '<repeat direction="forward"/>'
    data = musicxml(
        bar("C", forward),
        bar("D", '<ending number="1,3" type="start"/>', f'<ending number="1,3" type="stop"/>{back}'),
        bar("E", '<ending number="2" type="start"/>', f'<ending number="2" type="stop"/>{back}'),
        bar("F", '<ending number="4" type="start"/>', '<ending number="4" type="discontinue"/>'),
        bar("G"),
    )
    assert pitches(score_from_musicxml(data, "x")) == [60, 62, 60, 64, 60, 62, 60, 65, 67]


def test_da_capo_al_fine_and_dal_segno_al_coda_are_walked_once() -> None:
    capo = [Marks(), Marks(fine=True), Marks(), Marks(jump="capo")]
    assert played_order(capo) == [0, 1, 2, 3, 0, 1]
    segno = [Marks(), Marks(segno=True), Marks(to_coda=True), Marks(jump="segno"), Marks(coda=True), Marks()]
    assert played_order(segno) == [0, 1, 2, 3, 1, 2, 4, 5]


def test_repeats_are_not_taken_again_after_a_da_capo() -> None:
    marks = [Marks(start=True), Marks(times=2, fine=True), Marks(jump="capo")]
    assert played_order(marks) == [0, 1, 0, 1, 2, 0, 1]


def test_endings_that_never_come_are_never_lost_without_a_word() -> None:
    score = score_from_abc("X:1\nM:4/4\nL:1/4\nK:C\n|: C D E F |1 G4 :|3 A4 |]\n", "x")
    assert score.losses["bars_never_played"] == 1


def test_endings_as_printed_scores_have_them_are_all_played() -> None:
    def ending(*numbers: int, **more: Any) -> Marks:
        return Marks(ending=frozenset(numbers), ending_stops=True, **more)

    # The bracket stops a bar before the repeat sign; a second ending without a first; one that opens the next repeat.
    assert played_order([Marks(), ending(1), Marks(times=2), ending(2), Marks()]) == [0, 1, 2, 0, 3, 4]
    assert played_order([Marks(times=2), ending(2), Marks()]) == [0, 0, 1, 2]
    assert played_order([Marks(), ending(1, times=2), ending(2, start=True), Marks(times=2)]) == [0, 1, 0, 2, 3, 2, 3]


def test_what_stands_before_an_ending_in_its_bar_is_played_before_each_of_the_endings() -> None:
    printed = score_from_abc("X:1\nM:C\nL:1/4\nK:C\nCDEF|GA[1Bc:|[2 ^Gc|]\n")
    assert pitches(printed) == [60, 62, 64, 65, 67, 69, 71, 72, 60, 62, 64, 65, 67, 69, 68, 72]
    assert lines(printed) == [0, 4, 8, 12]
    assert "endings_in_mid_bar" not in printed.losses


def test_an_accidental_before_an_ending_in_mid_bar_holds_in_it() -> None:
    printed = score_from_abc("X:1\nM:C\nL:1/4\nK:C\nCDEF|^GA[1Gc:|[2 Gc|]\n")
    assert pitches(printed)[4:8] == [68, 69, 68, 72]


def test_broken_rhythm_between_notes_that_are_not_alike_changes_neither_and_is_counted() -> None:
    printed = score_from_abc("X:1\nM:C\nL:1/4\nK:C\nC>D E<F|G>A2 B|c>||\n")
    assert onsets(printed) == [0, 1.5, 2, 2.5, 4, 5, 7, 8]
    assert printed.losses["broken_rhythms_unlike"] == 2


def test_a_rest_in_a_chord_takes_no_time() -> None:
    assert onsets(score_from_abc("X:1\nM:C\nL:1/4\nK:C\n[C2z2]D2|E4|\n")) == [0, 2, 4]


def test_a_bracket_with_no_notes_before_the_bar_line_is_no_chord() -> None:
    bracket, plain = (score_from_abc(f"X:1\nK:C\nCDEF|G{sign}|A2B2|c4|\n") for sign in ("[ ", ""))
    assert bracket == plain


def test_a_chord_between_plus_signs_is_a_chord() -> None:
    printed = score_from_abc("X:1\nM:C\nL:1/4\nK:C\n+EGc+ d +D2A2+|c4|\n")
    assert onsets(printed) == [0, 0, 0, 1, 2, 2, 4]
    assert quarters(printed) == 8


def test_dynamics_of_a_part_hold_for_all_its_voices() -> None:
    def loud(mark: str) -> str:
        return f"<direction><direction-type><dynamics><{mark}/></dynamics></direction-type></direction>"

    second = "<backup><duration>8</duration></backup>" + "".join(note(step, 3) for step in "CDEF")
    data = musicxml(loud("p") + note("C") + note("D") + loud("ff") + note("E") + note("F") + second)
    score = score_from_musicxml(data, "x")
    assert score.notes[:, 3].tolist() == [50] * 4 + [110] * 4


def test_cue_notes_are_silent_and_counted() -> None:
    score = score_from_musicxml(musicxml(FOUR, note("G", before="<cue/>") * 4), "x")
    assert (len(score.notes), score.losses["notes_cue"]) == (4, 4)


def test_rehearsal_marks_and_pedals_become_what_they_mean() -> None:
    def direction(text: str) -> str:
        return f"<direction><direction-type>{text}</direction-type></direction>"

    marks = direction("<rehearsal>Verse 1</rehearsal>") + direction('<pedal type="start"/>')
    marks += direction("<rehearsal>17</rehearsal>")
    score = score_from_musicxml(musicxml(marks + FOUR + direction('<pedal type="stop"/>'), FOUR), "x")
    assert [(mark.kind, mark.text) for mark in score.markers] == [("section", "VERSE")]
    assert [(pedal.onset, pedal.state) for pedal in score.pedals] == [(0, "on"), (96, "off")]
    assert score.losses["rehearsal_marks"] == 1


def test_an_unknown_symbol_ends_the_chord_before_it() -> None:
    def harmony(step: str, kind: str, text: str = "") -> str:
        return f'<harmony><root><root-step>{step}</root-step></root><kind text="{text}">{kind}</kind></harmony>'

    chord = note("F", 3, 8) + "".join(note(s, o, 8, before="<chord/>") for s, o in (("A", 4), ("C", 5)))
    score = score_from_musicxml(musicxml(harmony("C", "major") + FOUR, harmony("F", "other", "?!") + chord), "x")
    assert symbols(score) == [(0, "Cmaj"), (4, "Fmaj")]
    assert score.losses["chord_symbols"] == 1


def test_a_compressed_file_is_read_by_its_container(tmp_path: Path) -> None:
    file = tmp_path / "song.mxl"
    container = '<container><rootfiles><rootfile full-path="deep/real.xml"/></rootfiles></container>'
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a_decoy.xml", musicxml(note("G") * 4))
        archive.writestr("META-INF/container.xml", container)
        archive.writestr("deep/real.xml", musicxml(FOUR))
    assert pitches(load_notation(file)) == [60, 62, 64, 65]


def test_a_voice_that_does_not_fill_its_bar_is_counted() -> None:
    text = "X:1\nM:4/4\nL:1/4\nK:C\nV:1\nC D E F|G A B c|\nV:2\nC, D, E,|G, A, B, C|\n"
    assert score_from_abc(text, "x").losses["voices_uneven"] == 1


def test_the_whole_text_of_a_file_is_one_melody() -> None:
    """What a person hands over with --melody: a file, header and all."""
    text = "%abc-2.1\n% a book of tunes\nL:1/4\n\nX:7\nT:One\nM:3/4\nK:F\nF G A|\n\nX:8\nK:C\nC|\n"
    assert pitches(score_from_abc(text, "melody.abc")) == [65, 67, 69]
    assert len(split_tunes(text)) == 2


LILYPOND = r"""
\header { title = "Evening" }
\score { \new PianoStaff <<
  \new Staff { \tempo 4=92 \key g \major \time 3/4 \partial 4
    \relative c'' { g4 | \repeat volta 2 { b4 a g | d'2 } \alternative { { b4 | } { c4 | } } g'2. } }
  \new Staff { \clef bass \key g \major \partial 4
    \relative c { g4 | \repeat volta 2 { <g d' b'>2. | d'2 } \alternative { { d4 } { d4 } } g,2. } } >> }
"""


def test_lilypond_sounds_as_it_is_engraved(tmp_path: Path) -> None:
    file = tmp_path / "evening.ly"
    file.write_text(LILYPOND, encoding="utf-8")
    score = load_notation(file)
    treble = [int(note[1]) for note in score.notes if note[1] > 60]
    assert treble == [67, 71, 69, 67, 74, 71, 71, 69, 67, 74, 72, 79]
    assert (score.title, onsets(score)[0], lines(score)) == ("Evening", 2, [0, 3, 6, 9, 12, 15])
    assert (score.keys[0].fifths, score.tempos[0].quarters_per_minute) == (1, 92)


@pytest.mark.parametrize("text", [r"\score { { c'4", "dear all, here is the music"])
def test_lilypond_with_an_error_is_refused_with_its_place(tmp_path: Path, text: str) -> None:
    file = tmp_path / "cut.ly"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"cut\.ly: line 1, column \d+: "):
        load_notation(file)


def test_humdrum_of_four_voices_has_all_its_notes() -> None:
    from plagal.corpus.sources import music21_folder

    printed = load_notation(music21_folder() / "bach" / "bwv281.krn")
    # 124 by lytk and by music21 alike.
    assert (len(printed.notes), printed.metres[0].numerator) == (124, 4)


# -------------------------------------------------------------------- bad input


MOST_CALLS = 30_000_000
"""Calls that the largest bomb may cost: 3 to 5 s."""
MOST_BYTES = 400_000_000
HEADER = "X:1\nM:4/4\nL:1/8\nK:C\n"
NOTE = "<note><pitch><step>C</step><octave>4</octave></pitch><duration>1</duration></note>"


def part(*measures: str) -> str:
    return "<part id='P1'>" + "".join(f"<measure>{inside}</measure>" for inside in measures) + "</part>"


def musicxml_of(*parts: str) -> bytes:
    return ("<score-partwise><part-list/>" + "".join(parts) + "</score-partwise>").encode()


def cost(read: Callable[[], Score]) -> tuple[int, int]:
    """Calls of Python and C functions, and bytes held at most, until a score is read or refused in one line."""
    profile = cProfile.Profile()
    gc.collect()
    tracemalloc.start()
    profile.enable()
    try:
        read()
    except InputError as error:
        assert "bomb" in str(error)
        assert "\n" not in str(error)
    finally:
        profile.disable()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return sum(function.callcount for function in profile.getstats()), peak


@pytest.mark.parametrize(
    "body",
    [
        "|:" + "C99999" + ":|",
        "C9999|" * 5000,
        "C|Z9999|",
        "Z400|" * 5000,
        "[M:99999/4]C|",
        "".join(f"[V:{n}]C|" for n in range(400)),
        "|:" + "C" * 5000 + "|1-99" + "CCCC" * 100 + ":|",
        "|:" * 5000 + "C" + ":|" * 5000,
        "|:C" + "".join(f"|[{n % 100} D:" for n in range(2000)),
        "|: C |1-99 " + "D|" * 2000 + ":|",
        '"D.S."SC|' * 1500,
    ],
)
def test_a_few_letters_of_abc_never_cost_more_than_a_long_tune(body: str) -> None:
    calls, held = cost(lambda: score_from_abc(HEADER + body + "\n", "bomb"))
    assert calls <= MOST_CALLS // 4
    assert held <= MOST_BYTES // 4


@pytest.mark.parametrize(
    "piece",
    ["|:C:|", "C:|", "(3", "(9:9:99C", "C&", "[C", "[A:", "[V:1]", '"C"C', "!C", "+CD", "C////", "C-", "C>",
     "{", '"D.C."C|', "SC|", "[M:3/4]C|", "[Q:120]C", "[K:Eb]C", "C % x\n", "\\%", "[CE]", "CDEFGABc|", "|", ":"],
)  # fmt: skip
def test_what_a_tune_costs_grows_as_its_length(piece: str) -> None:
    lengths = [250 // len(piece), 1000 // len(piece)]
    (few, _), (many, held) = (cost(lambda n=n: score_from_abc(HEADER + piece * n + "\n", "bomb")) for n in lengths)
    assert many <= 5 * few + 2500
    # As long as a tune may be, or with as many notes, bars or symbols, whichever is least.
    limits = {"C": MOST_NOTES, "|": MOST_PLAYED, '"C"': MOST_PLAYED}
    times = min(
        [
            LONGEST_TUNE / 1000,
            *(most / piece.count(sign) / lengths[1] for sign, most in limits.items() if sign in piece),
        ]
    )
    assert many * times <= MOST_CALLS
    assert held * times <= MOST_BYTES


@pytest.mark.parametrize(
    ("piece", "most"),
    [
        (f"<measure>{NOTE}</measure>", MOST_PLAYED),
        (f"<measure>{NOTE}<barline><repeat direction='backward' times='2'/></barline></measure>", MOST_PLAYED),
        (f"<measure>{NOTE}<barline><ending type='start' number='1,2,3'/></barline></measure>", MOST_PLAYED),
        (NOTE, MOST_NOTES),
        (NOTE + "<backup><duration>1</duration></backup>", MOST_NOTES),
        (NOTE.replace("</note>", "<tie type='start'/></note>"), MOST_NOTES),
        ("<harmony><root><root-step>C</root-step></root><kind>major</kind></harmony>", 0),
        ("<direction><direction-type><words>Verse</words></direction-type></direction>", 0),
    ],
)
def test_what_musicxml_costs_grows_as_its_length(piece: str, most: int) -> None:
    def data(times: int) -> bytes:
        inside = piece * times if "<measure>" in piece else f"<measure>{piece * times}{NOTE}</measure>"
        return musicxml_of(f"<part id='P1'>{inside}</part>")

    (few, _), (many, held) = (cost(lambda n=n: score_from_musicxml(data(n), "bomb")) for n in (50, 200))
    assert many <= 5 * few + 5000
    times = (most or MAX_NOTATION_BYTES / len(piece)) / 200
    assert many * times <= MOST_CALLS
    assert held * times <= MOST_BYTES


@pytest.mark.parametrize(
    "data",
    [
        musicxml_of(part(*[NOTE.replace(">1<", ">999999<")] * 300)),
        musicxml_of(part(NOTE.replace(">1<", ">1e999999999<"))),
        musicxml_of(part("<harmony><root><root-step>C</root-step></root><kind>major</kind>"
                         + "<degree><degree-value>9</degree-value></degree>" * 3000 + "</harmony>" + NOTE)),
        musicxml_of(*[part(NOTE)] * 1000),
        b"<score-partwise>" + b"<part>" * 100_000,
    ],
)  # fmt: skip
def test_numbers_degrees_parts_and_depth_of_musicxml_cost_little(data: bytes) -> None:
    calls, held = cost(lambda: score_from_musicxml(data, "bomb"))
    assert calls <= MOST_CALLS // 20
    assert held <= MOST_BYTES // 4


def test_a_compressed_bomb_is_refused_before_it_is_unpacked_and_a_lie_about_its_size_when_it_ends(
    tmp_path: Path,
) -> None:
    bomb = tmp_path / "bomb.mxl"
    inside = b"0" * 20_000_000
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("score.xml", inside)
    packed = bomb.read_bytes()
    assert cost(lambda: load_notation(bomb))[1] < 5_000_000
    bomb.write_bytes(packed.replace(len(inside).to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    assert cost(lambda: load_notation(bomb))[1] < 5_000_000


@pytest.mark.parametrize(
    "data",
    [
        b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><score-partwise>&b;</score-partwise>',
        b"<score-partwise><part-list/></score-partwise>",
        b"<html></html>",
        musicxml(note("C", duration=10**9)),
        musicxml(note("H")),
        musicxml(note("C", octave=10**7)),
    ],
)
def test_bad_musicxml_is_refused_in_one_line_with_its_name(data: bytes) -> None:
    with pytest.raises(InputError, match=r"song\.xml") as caught:
        score_from_musicxml(data, "song.xml")
    assert "\n" not in str(caught.value)
