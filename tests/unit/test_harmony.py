"""Hearing chords and keys: by hand-annotated progressions, by arrangements, and on odd input."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from plagal.music.arranger.arrange import arrange
from plagal.music.chords import parse_chord
from plagal.music.harmony import hear_chords, hear_key, hear_keys, held_until
from plagal.music.midi import read_midi, to_midi_bytes
from plagal.music.score import Marker, Metre, Pedal, Score

# Last on the path: one script there is named as Python's own `tokenize`.
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
benchmark = import_module("harmony")
textures = import_module("shared.textures")
COMMON_TIME = Metre(0, 4, 4)


def score_of(*chords: tuple[list[int], int], metre: Metre = COMMON_TIME) -> Score:
    """Block chords of (keys, beats), one after another."""
    rows, onset = [], 0
    for keys, beats in chords:
        rows += [(onset, key, beats * 24, 80) for key in keys]
        onset += beats * 24
    return Score(np.array(sorted(rows), dtype=np.int32), (metre,))


def names(score: Score) -> list[str]:
    return [chord.symbol for _, chord in hear_chords(score)]


@pytest.mark.parametrize("piece", benchmark.annotated(), ids=lambda piece: piece[1][0][1].symbol)
def test_the_ear_names_every_chord_of_a_progression_annotated_by_hand(piece: benchmark.Piece) -> None:
    score, truth, _ = piece
    assert [chord.symbol for _, chord in hear_chords(score)] == [chord.symbol for _, chord in truth]


@pytest.mark.parametrize("piece", benchmark.annotated(), ids=lambda piece: piece[1][0][1].symbol)
def test_the_ear_hears_the_key_of_each_progression(piece: benchmark.Piece) -> None:
    heard = hear_key(piece[0])
    assert (heard.fifths, heard.minor) == (piece[2].fifths, piece[2].minor)


def test_arranged_gospel_is_heard_above_the_target() -> None:
    pieces = benchmark.arranged(64)
    heard = [hear_chords(score) for score, _, _ in pieces]
    assert benchmark.f1(pieces, heard) > 0.89
    assert benchmark.key_accuracy(pieces) > 0.95


def test_markers_and_titles_change_nothing_that_is_heard() -> None:
    score = arrange("amazing_grace", "traditional_gospel", seed=3)
    misled = replace(score, markers=(Marker(0, "chord", "F#min7"),), title="Wrong", keys=())
    assert hear_chords(misled) == hear_chords(score)
    assert hear_key(misled) == hear_key(score)


def test_a_score_that_went_through_midi_is_heard_the_same() -> None:
    score = arrange("it_is_well", "contemporary_gospel", seed=4)
    assert hear_chords(read_midi(to_midi_bytes(score))) == hear_chords(score)


def test_transposing_the_notes_transposes_the_chords() -> None:
    score = arrange("what_a_friend", "gospel_jazz", key="C", seed=5)
    moved = score.notes.copy()
    moved[:, 1] += 5
    higher = hear_chords(Score(moved, score.metres))
    lower = hear_chords(Score(score.notes, score.metres))
    same = sum(a == (onset, chord.transposed(5)) for a, (onset, chord) in zip(higher, lower, strict=True))
    assert same >= 0.99 * len(lower)  # A tie may fall the other way.


def test_only_changes_are_listed() -> None:
    score = score_of(*[([36, 52, 55, 60], 4)] * 6)
    assert hear_chords(score) == [(0, parse_chord("Cmaj"))]


def test_a_chord_over_a_bass_that_is_no_tone_of_it_is_named_with_its_bass() -> None:
    assert names(score_of(([36, 55, 60, 64], 4), ([43, 53, 57, 60], 4), ([36, 55, 60, 64], 4)))[1] in (
        "Fmaj/G",
        "G9sus",
    )


def test_silence_has_no_chords_and_c_major() -> None:
    empty = Score(np.zeros((0, 4), dtype=np.int32))
    assert hear_chords(empty) == []
    assert (hear_key(empty).fifths, hear_key(empty).minor) == (0, False)
    assert hear_keys(empty) == []


def test_a_modulation_by_a_semitone_is_heard_and_the_first_key_is_the_key() -> None:
    home = [([36, 52, 55, 60], 2), ([41, 53, 57, 60], 2), ([43, 53, 59, 62], 2), ([36, 52, 55, 64], 2)]
    away = [([key + 1 for key in keys], beats) for keys, beats in home]
    keys = hear_keys(score_of(*home * 6, *away * 6))
    assert [key.fifths for key in keys] == [0, -5]
    assert hear_key(score_of(*home * 6, *away * 6)).fifths == 0


@pytest.mark.parametrize("metre", [Metre(0, 7, 8), Metre(0, 5, 4), Metre(0, 12, 8), Metre(0, 3, 32), Metre(0, 2, 2)])
def test_any_metre_is_heard(metre: Metre) -> None:
    assert names(score_of(*[([36, 52, 55, 60], 4)] * 3, metre=metre)) == ["Cmaj"]


def test_one_note_at_an_absurd_time_costs_neither_time_nor_memory() -> None:
    rows = np.array([(0, 60, 24, 80), (0, 64, 24, 80), (40_000_000, 64, 30_000_000, 80)], dtype=np.int32)
    assert len(hear_chords(Score(rows))) >= 1


def test_metre_changes_in_mid_piece_move_the_beats() -> None:
    notes = score_of(([36, 52, 55, 60], 4), ([43, 53, 59, 62], 3), ([36, 52, 55, 60], 3)).notes
    heard = hear_chords(Score(notes, (Metre(0, 4, 4), Metre(96, 3, 4))))
    assert [(onset, chord.symbol) for onset, chord in heard] == [(0, "Cmaj"), (96, "Gdom7"), (168, "Cmaj")]


@pytest.mark.parametrize("texture", textures.TEXTURES)
def test_a_chart_is_heard_in_every_texture_that_a_pianist_plays_it_in(texture: str) -> None:
    shares = []
    for sheet in textures.lead_sheets()[::3]:
        score = textures.played(sheet, texture, seed=9)
        end = int((score.notes[:, 0] + score.notes[:, 2]).max())
        shares.append(textures.share_right(sheet[3], hear_chords(score), end))
    assert sum(shares) / len(shares) >= benchmark.FLOORS[texture]


def broken_chords(pedals: tuple[Pedal, ...] = ()) -> Score:
    """C, F, G7 and C as eighths from the bass up, a bar each."""
    chords = [(36, 52, 55, 60), (41, 53, 57, 60), (43, 53, 59, 62), (36, 52, 55, 60)]
    rows = [(bar * 96 + step * 12, chords[bar][step % 4], 12, 80) for bar in range(4) for step in range(8)]
    return Score(np.array(rows, dtype=np.int32), (COMMON_TIME,), pedals=pedals)


def test_a_voice_that_breaks_chords_has_the_chords_that_it_spells() -> None:
    assert names(broken_chords()) == ["Cmaj", "Fmaj", "Gdom7", "Cmaj"]


def test_the_pedal_holds_the_notes_whose_keys_are_let_go() -> None:
    pedals = tuple(Pedal(bar * 96, state) for bar in range(4) for state in ("off", "on"))[1:]
    held = broken_chords((*pedals, Pedal(384, "off")))
    # Each key rings until it is struck again or the foot is lifted, at the next bar line.
    assert held_until(held)[:8].tolist() == [48, 60, 72, 84, 96, 96, 96, 96]
    assert names(held) == ["Cmaj", "Fmaj", "Gdom7", "Cmaj"]


def test_one_voice_alone_is_given_no_chord_a_note() -> None:
    steps = [67, 69, 71, 72, 74, 76, 77, 79, 77, 74, 72, 71, 69, 72, 67, 66]
    rows = [(number * 24, pitch, 24, 80) for number, pitch in enumerate(steps)]
    assert names(Score(np.array(rows, dtype=np.int32), (COMMON_TIME,))) == []


def test_a_chord_pushed_by_an_eighth_belongs_to_the_beat_that_it_runs_into() -> None:
    rows = [(0, key, 84, 80) for key in (36, 52, 55, 60)] + [(84, key, 108, 80) for key in (41, 53, 57, 60)]
    heard = hear_chords(Score(np.array(sorted(rows), dtype=np.int32), (COMMON_TIME,)))
    assert [(onset, chord.symbol) for onset, chord in heard] == [(0, "Cmaj"), (96, "Fmaj")]


def test_the_first_key_window_has_as_many_bars_as_the_others() -> None:
    # A first window of three bars put bar 12, still in C, together with the first three in E.
    scale_c, scale_e = [60, 64, 67, 72, 65, 69, 71, 72], [64, 68, 71, 76, 69, 73, 75, 76]
    bars = [scale_c] * 12 + [scale_e] * 12
    rows = [(bar * 96 + step * 12, key, 12, 80) for bar, scale in enumerate(bars) for step, key in enumerate(scale)]
    rows += [(bar * 96, 36 if bar < 12 else 40, 96, 80) for bar in range(24)]
    keys = hear_keys(Score(np.array(sorted(rows), dtype=np.int32), (COMMON_TIME,)))
    assert [(key.onset, key.fifths) for key in keys] == [(0, 0), (12 * 96, 4)]


def heard_under(core: str) -> bytes:
    """Chords, keys and words of a few pieces, heard by a process whose BLAS has the kernels of that processor."""
    code = (
        "from plagal.music.arranger.arrange import arrange\n"
        "from plagal.music.harmony import hear_chords, hear_keys\n"
        "from plagal.tokens.codec import encode\n"
        "for seed, tune in enumerate(('amazing_grace', 'it_is_well', 'what_a_friend', 'go_down_moses')):\n"
        "    for style in ('worship', 'gospel_jazz'):\n"
        "        score = arrange(tune, style, seed=seed)\n"
        "        print(hear_chords(score), hear_keys(score), ' '.join(encode(score)))\n"
    )
    environment = {**os.environ, "OPENBLAS_CORETYPE": core, "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout


def test_every_processor_hears_the_same_words() -> None:
    heard = heard_under("Nehalem")
    assert len(heard) > 10_000
    assert heard == heard_under("Haswell")
