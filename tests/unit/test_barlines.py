"""Upbeats, metres and keys heard in files whose own are wrong: hymns as notation programs write them to MIDI."""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from plagal.asking.wording import facts_of
from plagal.music.arranger.tunebook import tune_book
from plagal.music.barlines import with_heard_bars
from plagal.music.grid import bar_lines, regular
from plagal.music.harmony import with_heard_keys
from plagal.music.keys import same_key
from plagal.music.load import load
from plagal.music.midi import read_midi, to_midi_bytes
from plagal.music.score import ONSET, VELOCITY, Key, Marker, Metre, Score
from plagal.tokens.codec import encode

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
textures = import_module("shared.textures")

HYMNAL = Path(os.environ.get("PLAGAL_OPENHYMNAL", Path(__file__).parents[3] / "shared" / "corpus" / "openhymnal"))
CASES = Path(__file__).parents[3] / "shared" / "cases" / "reading"


def tunes_from_their_first_note() -> list[tuple[Score, int]]:
    """The tune book over block chords, each moved to tick 0 with its metre, and the true length of its upbeat."""
    pieces = []
    for tune, sheet in zip(tune_book(), textures.lead_sheets(), strict=False):
        score = textures.played(sheet, "octaves", seed=1)
        first = int(score.notes[0, ONSET])
        notes = score.notes.copy()
        notes[:, ONSET] -= first
        pieces.append((Score(notes, score.metres, keys=(tune.key,)), -first % tune.metre.bar_ticks))
    return pieces


def upbeat_of(score: Score) -> int:
    """Ticks of the first bar where it is shorter than the next, else 0."""
    first, *others = score.metres
    return first.bar_ticks if others and others[0].onset == first.bar_ticks < others[0].bar_ticks else 0


def test_most_upbeats_of_the_book_are_heard_and_hardly_a_right_bar_line_is_moved() -> None:
    right, of = Counter[bool](), Counter[bool]()
    for score, upbeat in tunes_from_their_first_note():
        heard = regular(with_heard_bars(score))
        right[upbeat > 0] += upbeat_of(heard) == upbeat
        of[upbeat > 0] += 1
    assert right[True] >= 0.75 * of[True]
    assert right[False] >= 0.9 * of[False]


def test_an_upbeat_is_reported_and_takes_nothing_away() -> None:
    score, upbeat = next(piece for piece in tunes_from_their_first_note() if upbeat_of(with_heard_bars(piece[0])))
    heard = regular(with_heard_bars(score))
    assert heard.losses["upbeat_quarters"] == upbeat / 24
    assert np.array_equal(heard.notes, score.notes)
    assert heard.metres == (replace(heard.metres[0], onset=0), replace(score.metres[0], onset=upbeat))


def test_a_prompt_names_the_metre_of_the_bars_and_not_of_the_upbeat() -> None:
    score, _ = next(piece for piece in tunes_from_their_first_note() if upbeat_of(with_heard_bars(piece[0])))
    metre = score.metres[0]
    words = encode(regular(with_heard_bars(score)), chords=False)
    assert facts_of(words, "gospel", "hymn").metre == f"{metre.numerator}/{metre.denominator}"


def test_an_upbeat_that_the_file_writes_itself_stays() -> None:
    for score, upbeat in tunes_from_their_first_note()[:20]:
        if upbeat:
            whole = score.metres[0]
            written = replace(score, metres=(Metre(0, upbeat // 12, 8), replace(whole, onset=upbeat)))
            assert with_heard_bars(written) is written


def test_what_plagal_wrote_keeps_its_bar_lines() -> None:
    score, _ = next(piece for piece in tunes_from_their_first_note() if upbeat_of(with_heard_bars(piece[0])))
    ours = replace(score, markers=(Marker(0, "chord", "Cmaj"),))
    assert with_heard_bars(ours) is ours


def hymn_with_fermatas(accents: int = 127) -> tuple[Score, list[int]]:
    """Quarters in four voices whose first of each bar has this velocity, a fermata after every fourth bar, and the bar
    lines."""
    rows, lines, now = [], [], 0
    for bar in range(16):
        lines.append(now)
        beats = 5 if bar % 4 == 3 else 4
        for beat in range(beats):
            loud = accents if beat == 0 else 110 if beat % 2 else 100
            rows += [(now + 24 * beat, key + (bar * 5 + beat) % 7, 24, loud) for key in (43, 55, 62, 67)]
        now += 24 * beats
    return Score(np.array(rows, dtype=np.int32), (Metre(0, 4, 4),)), lines


def test_bars_that_a_fermata_made_longer_keep_their_lines_where_the_stress_shows_them() -> None:
    score, lines = hymn_with_fermatas()
    heard = regular(with_heard_bars(score))
    assert bar_lines(heard.metres, int(score.notes[-1, ONSET]))[0].tolist()[: len(lines)] == lines
    assert heard.losses["bars_irregular"] == 3  # after the last one no bar line follows
    assert np.array_equal(heard.notes, score.notes)


def test_a_metre_told_twice_at_its_beginning_is_one_metre() -> None:
    score, lines = hymn_with_fermatas()
    heard = regular(with_heard_bars(replace(score, metres=score.metres * 2)))
    assert bar_lines(heard.metres, int(score.notes[-1, ONSET]))[0].tolist()[: len(lines)] == lines


def test_accents_here_and_there_move_no_bar_line() -> None:
    score, _ = hymn_with_fermatas(accents=110)
    for chosen in (slice(37, 39), slice(0, 300, 61), slice(5, 300, 40)):
        notes = score.notes.copy()
        notes[chosen, VELOCITY] = 127
        assert "bars_irregular" not in with_heard_bars(replace(score, notes=notes)).losses


def test_chords_of_a_bar_and_a_half_that_are_all_as_loud_make_no_bars() -> None:
    rows = [(144 * number, key + number % 5, 144, 80) for number in range(30) for key in (43, 62, 67)]
    assert "bars_irregular" not in with_heard_bars(Score(np.array(rows, dtype=np.int32), (Metre(0, 4, 4),))).losses


@pytest.mark.parametrize("nonsense", [Metre(0, 1, 4), Metre(0, 65, 4)])
def test_a_metre_that_no_music_has_is_heard_instead(nonsense: Metre) -> None:
    right = of = 0
    for score, upbeat in tunes_from_their_first_note():
        true = score.metres[0]
        if (true.numerator, true.denominator) in ((3, 4), (4, 4)) and not upbeat:
            heard = regular(with_heard_bars(replace(score, metres=(nonsense,))))
            assert heard.losses["metre_heard"] == 1
            right += heard.metres[0].bar_ticks == true.bar_ticks
            of += 1
    assert right >= 0.85 * of


@pytest.mark.skipif(not HYMNAL.is_dir(), reason="Open Hymnal is not here; PLAGAL_OPENHYMNAL names its folder")
def test_the_bar_lines_of_the_open_hymnal_are_those_that_its_stress_shows() -> None:
    # abc2midi plays the first note of each bar louder than all others: its own bar lines, whatever the metre at tick 0.
    upbeats, right, blind, files = 0, 0, 0, 0
    for path in sorted(HYMNAL.glob("*/*.mid"))[::3]:
        score = read_midi(path)
        bar = score.metres[0].bar_ticks
        loud = score.notes[(score.notes[:, VELOCITY] == 127) & (score.notes[:, ONSET] > 0), ONSET] % bar
        if len(score.metres) > 1 or not len(loud):
            continue
        true, times = Counter(loud.tolist()).most_common(1)[0]
        if times < 0.8 * len(loud):
            continue
        flat = score.notes.copy()
        flat[:, VELOCITY] = 80
        files += 1
        upbeats += true > 0
        right += upbeat_of(load(path)) == true
        blind += upbeat_of(regular(with_heard_bars(replace(score, notes=flat)))) == true
    assert upbeats > 25
    assert right >= 0.99 * files
    assert blind >= 0.85 * files


def test_a_default_of_c_major_gives_way_to_the_key_that_sounds() -> None:
    scores = [replace(score, keys=(Key(0, 0),)) for score, _ in tunes_from_their_first_note()]
    keys = [tune.key for tune in tune_book()]
    heard = [with_heard_keys(score) for score in scores]
    right = [same_key(score.keys[0], key) for score, key in zip(heard, keys, strict=True)]
    assert sum(right) >= 0.9 * len(right)
    assert all(score.losses.get("keys_corrected") == 1 for score in heard if score.keys[0].fifths)


def test_a_stated_signature_keeps_its_spelling() -> None:
    for score, _ in tunes_from_their_first_note()[::5]:
        moved = score.notes.copy()
        moved[:, 1] += (6 - score.keys[0].fifths * 7) % 12 if not score.keys[0].minor else 0
        if not score.keys[0].minor:
            sharp = replace(score, notes=moved, keys=(Key(0, 6),))
            assert with_heard_keys(sharp).keys[0].fifths == 6


def test_a_file_without_a_key_has_the_one_heard(tmp_path: Path) -> None:
    score, _ = tunes_from_their_first_note()[0]
    (tmp_path / "a.mid").write_bytes(to_midi_bytes(replace(score, keys=())))
    assert same_key(load(tmp_path / "a.mid").keys[0], score.keys[0])


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not here")
@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("midi-key-told-wrong/daw_default_c_major.mid", Key(0, -5)),
        ("midi-key-told-wrong/musescore_minor_as_major.mid", Key(0, 0, minor=True)),
        ("midi-key-told-wrong/According_to_thy_gracious_word_BANGOR.mid", Key(0, -3, minor=True)),
        ("midi-pickup/pickup_lilypond.mid", 24),
        ("midi-pickup/Amazing_Grace_New_Britain.mid", 24),
        ("midi-pickup/A_Mighty_Fortress_EIN_FESTE_BURG.mid", 24),
        ("midi-mpe-channel-10/mpe.mid", "32"),
        ("midi-last-chord-held/all_notes_off.mid", "12"),
        ("midi-last-chord-held/held_to_the_end.mid", "7"),
        ("midi-running-status-after-sysex/test-running-status-sysex.mid", "8"),
    ],
)
def test_the_cases_that_were_read_wrong_are_read_right(file: str, expected: Key | int | str) -> None:
    score = load(CASES / file)
    if isinstance(expected, Key):
        assert score.keys == (expected,)
    elif isinstance(expected, int):
        assert upbeat_of(score) == expected
    else:
        assert len(score.notes) == int(expected)
