"""Beats, bars and places in them, heard in playing alone."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import symusic
from corpus_helpers import collect_settings, sources_file
from music_helpers import as_written
from test_performance import METRONOME, score_of
from typer.testing import CliRunner

from plagal.cli import app
from plagal.corpus.collect import collect, read_pieces
from plagal.corpus.reading import Discard, Limits, read_candidate
from plagal.corpus.sources import candidates, load_sources
from plagal.music.arranger.arrange import arrange
from plagal.music.grid import regular
from plagal.music.load import BY_EAR, TO_CLICK, click_offset, keeps_grid, load, surest_stretch
from plagal.music.midi import parse, read_midi, write_midi
from plagal.music.performance.hear import Hints, calibrated, decode, hear, raw_of, read_bars
from plagal.music.performance.net import WEIGHTS, activations
from plagal.music.performance.performer import perform
from plagal.music.performance.played import Played, Pulse, seconds_at, write_click
from plagal.music.performance.written import group_strikes, place_notes, write_down
from plagal.music.pianoroll import write_picture
from plagal.music.score import DURATION, ONSET, Metre
from plagal.plumbing.errors import CorpusError, InputError

PERFORMANCES = Path(__file__).parents[3] / "shared" / "corpus" / "performances"


def impulses(beats: list[float], length: int, seconds: float, sure: float = 0.9) -> np.ndarray:
    """Activations of a net that hears these beats, the first a downbeat, bars of `length`."""
    heard = np.full((int(seconds * 50), 3), 0.01, dtype=np.float32)
    for number, beat in enumerate(beats):
        heard[round(beat * 50), 0] = sure
        heard[round(beat * 50), 1] = sure if number % length == 0 else 0.02
    return heard


def steady(beats: int, step: float, length: int = 4, compound: bool = False, begin: float = 0.0) -> Pulse:
    places = np.arange(beats)
    return Pulse(begin + places * step, places % length, np.full(beats, length), np.full(beats, compound))


def playing(*rows: tuple[float, int, float], pedal: list[tuple[float, float]] | None = None) -> Played:
    notes = np.array([(onset, pitch, held, 80.0) for onset, pitch, held in rows])
    return Played(notes, np.array(pedal or [], dtype=np.float64).reshape(-1, 2))


@pytest.mark.parametrize("length", [2, 3, 4])
def test_clear_beats_come_back_with_their_bars(length: int):
    beats = [1.0 + 0.6 * number for number in range(24)]
    path = decode(impulses(beats, length, 17.0), 50, round(beats[-1] * 50), Hints())
    assert path.frames.tolist() == [round(beat * 50) for beat in beats]
    assert path.in_bar.tolist() == [number % length for number in range(24)]
    assert set(path.length.tolist()) == {length}


def test_a_beat_that_nobody_plays_is_counted_all_the_same():
    beats = [1.0 + 0.5 * number for number in range(20)]
    heard = impulses(beats, 4, 12.0)
    heard[round(beats[9] * 50), :2] = 0.01
    path = decode(heard, 50, round(beats[-1] * 50), Hints())
    assert len(path.frames) == 20
    assert abs(int(path.frames[9]) - round(beats[9] * 50)) <= 2


def test_a_tempo_that_falls_by_half_is_followed():
    steps = np.geomspace(0.45, 0.9, 30)
    beats = (1.0 + np.cumsum(steps)).tolist()
    path = decode(impulses(beats, 4, beats[-1] + 1), round(beats[0] * 50), round(beats[-1] * 50), Hints())
    assert np.abs(path.frames - np.rint(np.array(beats) * 50)).max() <= 1


def test_a_stretch_of_unsure_weak_beats_keeps_the_tempo_of_the_piece():
    beats = [1.0 + 0.44 * number for number in range(150)]
    heard = impulses(beats, 3, 70.0, sure=0.8)
    for number in range(60, 105):
        if number % 3:
            heard[round(beats[number] * 50), 0] = 0.06
    path = read_bars(heard, 50, round(beats[-1] * 50), Hints())
    assert len(path.frames) == 150


def test_hints_win_over_the_ear():
    beats = [1.0 + 0.5 * number for number in range(32)]
    heard = impulses(beats, 4, 18.0)
    in_three = decode(heard, 50, round(beats[-1] * 50), Hints(metre="9/8"))
    assert set(in_three.length.tolist()) == {3}
    half_as_fast = decode(heard, 50, round(beats[-1] * 50), Hints(bpm=60.0))
    assert np.median(np.diff(half_as_fast.frames)) == 50
    moved = decode(heard, 50, round(beats[-1] * 50), Hints(first_downbeat=beats[2]))
    assert moved.in_bar[list(moved.frames).index(round(beats[2] * 50))] == 0


def test_what_cannot_be_hinted_is_refused_with_a_way_out():
    played = as_written(score_of([(tick, 60, 24) for tick in range(0, 480, 24)]))
    with pytest.raises(InputError, match=r"5/4.*give one of"):
        hear(played, Hints(metre="5/4"))
    with pytest.raises(InputError, match="20 to 340"):
        hear(played, Hints(bpm=5))
    with pytest.raises(InputError, match="outside the music"):
        hear(played, Hints(first_downbeat=900.0))


def test_a_hymn_played_freely_is_heard_in_its_metre_with_its_beats():
    performance = perform(arrange("amazing_grace", "hymnal", seed=3), 11)
    heard = hear(performance.played)
    truth = performance.pulse.seconds
    near = np.abs(heard.pulse.seconds[:, None] - truth[None, :]).min(axis=1) < 0.07
    assert near.mean() > 0.9
    assert heard.pulse.metre == performance.pulse.metre
    assert 0.0 <= heard.confidence <= 1.0


def test_hearing_twice_gives_the_same_and_activations_hang_on_no_rounding():
    played = perform(arrange("amazing_grace", "worship", seed=1), 4).played
    assert np.array_equal(hear(played).pulse.seconds, hear(played).pulse.seconds)
    rows = np.random.default_rng(1).uniform(size=(900, 22)).astype(np.float32)
    assert np.array_equal(activations(rows), np.round(activations(rows), 3))


def test_a_long_playing_is_run_in_pieces_that_meet_without_a_seam(monkeypatch):
    rows = np.random.default_rng(2).uniform(size=(4000, 22)).astype(np.float32)
    whole = activations(rows)
    monkeypatch.setattr("plagal.music.performance.net._CHUNK", 300)
    assert np.abs(activations(rows) - whole).max() <= 1.1e-3


def test_the_weights_are_small_enough_to_ship():
    assert WEIGHTS.stat().st_size < 2_000_000


# Places in the bar


def test_eighths_and_triplets_and_sixteenths_come_out_as_what_they_are():
    parts = [[0], [0, 12], [0, 8, 16], [0, 6, 12, 18], [0, 12], [0, 8, 16], [0, 16], [0, 6, 18]]
    rows = [(24 * beat + part, 60 + (beat + part) % 9, 5) for beat, inside in enumerate(parts) for part in inside]
    performance = perform(score_of(rows, tempo=90.0), 3, replace(METRONOME, steadiness=0.008, together=0.004))
    placed = place_notes(performance.played, performance.pulse)
    assert (placed.ticks == performance.ticks).all()


def test_swung_eighths_are_written_as_triplets():
    rows = [(12 * number, 60 + number % 5, 12) for number in range(64)]
    performance = perform(score_of(rows, tempo=120.0), 3, replace(METRONOME, swing=1.9))
    placed = place_notes(performance.played, performance.pulse)
    assert set((placed.ticks % 24).tolist()) == {0, 16}


def test_a_rolled_chord_is_one_chord_and_a_run_is_none():
    held = [(0.05 * number, pitch, 1.0) for number, pitch in enumerate((48, 52, 55, 60))]
    assert group_strikes(playing(*held).notes).tolist() == [0, 0, 0, 0]
    run = [(0.1 * number, 60 + number, 0.1) for number in range(5)]
    assert group_strikes(playing(*run).notes).tolist() == [0, 1, 2, 3, 4]


def test_a_grace_note_stands_just_before_its_note():
    played = playing((0.0, 60, 0.5), (0.5, 62, 0.5), (0.93, 63, 0.07), (1.0, 64, 0.5), (1.5, 65, 0.5))
    placed = place_notes(played, steady(4, 0.5))
    assert placed.ticks.tolist() == [0, 24, 45, 48, 72]
    assert placed.graces.tolist() == [False, False, True, False, False]


def test_an_upbeat_stands_at_the_end_of_the_first_bar():
    pulse = Pulse(np.arange(9) * 0.5, (np.arange(9) + 3) % 4, np.full(9, 4), np.zeros(9, dtype=bool))
    score = write_down(playing(*((0.5 * beat, 60 + beat, 0.45) for beat in range(9))), pulse)
    assert score.notes[:, ONSET].tolist() == [72 + 24 * beat for beat in range(9)]
    assert score.metres == (Metre(0, 4, 4),)


def test_keys_let_go_early_or_held_by_the_pedal_last_until_the_next_note():
    touch = playing(*((0.5 * beat, 60 + beat % 3, 0.3) for beat in range(8)))
    assert write_down(touch, steady(8, 0.5)).notes[:-1, DURATION].tolist() == [24] * 7
    short = [(0.5 * beat, 60 + beat % 3, 0.08) for beat in range(8)]
    assert set(write_down(playing(*short), steady(8, 0.5)).notes[:-1, DURATION].tolist()) == {12}
    held = playing(*short, pedal=[(0.05, 1.0), (3.9, 0.0)])
    assert write_down(held, steady(8, 0.5)).notes[:-1, DURATION].tolist() == [24] * 7


def test_tempos_follow_the_curve_at_most_once_a_beat_and_by_more_than_4_percent():
    draw = np.random.default_rng(4)
    seconds = np.concatenate([[0.0], np.cumsum(0.6 * np.exp(np.cumsum(draw.normal(0, 0.04, 120))))])
    pulse = Pulse(seconds, np.arange(121) % 4, np.full(121, 4), np.zeros(121, dtype=bool))
    played = playing(*((float(second), 60 + number % 7, 0.3) for number, second in enumerate(seconds)))
    score = write_down(played, pulse)
    tempos = [tempo.quarters_per_minute for tempo in score.tempos]
    assert all(max(a / b, b / a) > 1.04 for a, b in pairwise(tempos))
    assert all(tempo.onset % 24 == 0 for tempo in score.tempos)
    off = seconds_at(score, score.notes[:, ONSET]) - seconds
    assert np.quantile(np.abs(off - np.median(off)), 0.9) < 0.06


def test_a_steady_playing_needs_one_tempo():
    score = write_down(playing(*((0.6 * beat, 60 + beat % 7, 0.5) for beat in range(60))), steady(60, 0.6))
    assert [tempo.quarters_per_minute for tempo in score.tempos] == [100.0]


def test_a_made_performance_written_down_is_regular_and_plays_back_within_60_ms():
    for seed, style in enumerate(("worship", "traditional_gospel", "gospel_jazz")):
        performance = perform(arrange("amazing_grace", style, seed=seed), seed)
        score = write_down(performance.played, performance.pulse)
        assert regular(score) == score
        assert score.losses["played_onsets_ms"] <= 75
        assert len(score.notes) >= 0.97 * len(performance.played.notes)


# Whether a file keeps a grid


def test_written_files_keep_their_grid_and_played_ones_do_not():
    draw = np.random.default_rng(5)
    written = draw.choice(np.arange(0, 9600, 80), 300)
    assert keeps_grid(written, 480)
    swung = written // 480 * 480 + np.array([0, 291])[draw.integers(0, 2, 300)]
    assert keeps_grid(swung, 480), "a sequencer's swing repeats its places"
    played = draw.integers(0, 96_000, 300)
    assert not keeps_grid(played, 480)
    assert click_offset(played, 480) is None


def test_fingers_beside_a_click_are_known_from_none_and_their_lateness_is_measured():
    draw = np.random.default_rng(6)
    onsets = draw.integers(0, 400, 500) * 120 + np.rint(draw.normal(12, 12, 500)).astype(np.int64)
    assert not keeps_grid(onsets, 480)
    assert click_offset(onsets, 480) == pytest.approx(12 / 480, abs=0.006)


CASES = Path(__file__).parents[3] / "shared" / "cases" / "reading"


def written_file(path: Path, onsets: np.ndarray, pitches: np.ndarray, tempo: float = 120.0) -> Path:
    """A MIDI file of 480 ticks to the quarter with these notes of a hundred ticks."""
    file = symusic.Score(480)
    file.tempos.append(symusic.Tempo(0, tempo))
    track = symusic.Track(name="", program=0, is_drum=False)
    for onset, pitch in zip(onsets.tolist(), pitches.tolist(), strict=True):
        track.notes.append(symusic.Note(int(onset), 100, int(pitch), 80))
    file.tracks.append(track)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(bytes(file.dumps_midi()))
    return path


def test_a_file_that_keeps_its_grid_is_read_as_it_stands(tmp_path: Path):
    score = arrange("amazing_grace", "gospel_jazz", seed=2)
    write_midi(score, tmp_path / "written.mid")
    assert load(tmp_path / "written.mid") == read_midi(tmp_path / "written.mid")
    assert not {TO_CLICK, BY_EAR} & set(load(tmp_path / "written.mid").losses)


def test_sixteenths_to_a_click_come_out_as_sixteenths(tmp_path: Path):
    draw = np.random.default_rng(3)
    onsets = np.arange(256) * 120
    fingers = np.maximum(0, onsets + np.rint(draw.normal(15, 10, 256)).astype(int))
    score = load(written_file(tmp_path / "click.mid", fingers, 60 + np.arange(256) % 12, 90.0))
    assert TO_CLICK in score.losses
    assert (score.notes[:, ONSET] == np.arange(256) * 6).mean() > 0.98
    assert score.tempos[0].quarters_per_minute == 90.0


def test_free_playing_gets_its_own_bars_and_says_so(tmp_path: Path):
    performance = perform(arrange("amazing_grace", "hymnal", seed=3), 11)
    write_click(performance.played, hear(performance.played).pulse, tmp_path / "free.mid")
    score = load(tmp_path / "free.mid")
    assert BY_EAR in score.losses
    assert 0.0 <= score.losses["played_confidence"] <= 1.0
    assert score.metres[0].numerator == 3
    assert len(score.tempos) > 1


def test_the_surest_stretch_is_whole_bars_of_what_was_played(tmp_path: Path):
    performance = perform(arrange("amazing_grace", "hymnal", seed=3), 11)
    write_click(performance.played, hear(performance.played).pulse, tmp_path / "free.mid")
    stretch = surest_stretch(tmp_path / "free.mid", 0.05, 8)
    assert stretch is not None
    assert 0 < len(stretch.notes) <= len(performance.played.notes)
    assert surest_stretch(tmp_path / "free.mid", 0.05, 10_000) is None


def test_confidence_and_what_it_is_made_of_are_each_others_inverse():
    assert [calibrated(raw_of(chance)) for chance in (0.1, 0.5, 0.9)] == pytest.approx([0.1, 0.5, 0.9])


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not here")
def test_recordings_of_others_to_a_click_and_without_one_are_known():
    click = load(next((CASES / "click-recording-unquantised").glob("*.mid")))
    assert TO_CLICK in click.losses
    assert (click.notes[:, ONSET] % 6 == 0).mean() > 0.97
    free = load(next((CASES / "performance-without-click").glob("*.mid")))
    assert BY_EAR in free.losses


# The command


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    performance = perform(arrange("amazing_grace", "worship", seed=5), 8)
    write_click(performance.played, hear(performance.played).pulse, tmp_path / "recording.mid")
    return tmp_path / "recording.mid"


def test_beats_writes_what_it_is_asked_for(recording: Path, tmp_path: Path):
    files = [tmp_path / name for name in ("grid.mid", "beats.png", "click.mid")]
    options = ["-o", str(files[0]), "--picture", str(files[1]), "--click", str(files[2])]
    result = CliRunner().invoke(app, ["beats", str(recording), "--json", *options], catch_exceptions=False)
    shown = json.loads(result.stdout)
    assert set(shown) == {"beats", "downbeats", "metre", "bpm", "confidence"}
    assert set(shown["downbeats"]) <= set(shown["beats"])
    assert files[1].read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    drums = [track for track in parse(files[2].read_bytes()).tracks if track.is_drum]
    assert len(drums) == 1 and len(drums[0].notes) == len(shown["beats"])
    assert read_midi(files[0]).metres[0].numerator in (2, 3, 4, 6, 9, 12)


def test_beats_takes_hints_and_refuses_what_is_none(recording: Path):
    said = CliRunner().invoke(app, ["beats", str(recording), "--metre", "4/4", "--bpm", "80"], catch_exceptions=False)
    assert "4/4, about 8" in said.stdout or "4/4, about 7" in said.stdout
    refused = CliRunner().invoke(app, ["beats", str(recording), "--metre", "7/4"])
    assert isinstance(refused.exception, InputError)


def test_a_recording_goes_the_way_to_training_that_the_page_on_the_corpus_tells(tmp_path: Path):
    performance = perform(arrange("jesus_loves_me", "blues", seed=2), 12)
    folder = tmp_path / "midi_sources" / "traditional_gospel"
    folder.mkdir(parents=True)
    write_click(performance.played, hear(performance.played).pulse, folder / "recording.mid")
    settings = collect_settings(
        sources_file(tmp_path / "s.yaml", ("traditional_gospel", folder)), 1, {"traditional_gospel": 1},
        min_confidence=0.05,
    )  # fmt: skip
    report = collect("stage2", settings, tmp_path / "out", 1)
    assert report["genres"]["traditional_gospel"]["played"] == 1
    row = next(iter(read_pieces(tmp_path / "out")))["metadata"]
    assert row["played"] is True
    assert 0.05 <= row["confidence"] <= 1.0


def test_what_has_no_steady_beat_is_left_out_under_that_name(tmp_path: Path):
    draw = np.random.default_rng(9)
    onsets = np.sort(draw.integers(0, 60_000, 400))
    written_file(tmp_path / "noise" / "anywhere.mid", onsets, draw.integers(40, 80, 400))
    sources = sources_file(tmp_path / "s.yaml", ("gospel", tmp_path / "noise"))
    with pytest.raises(CorpusError):
        collect("stage2", collect_settings(sources, 1, {"gospel": 1}), tmp_path / "out", 1)
    limits = Limits(24, 6000, 4, 400)
    candidate = next(iter(candidates(load_sources(sources)[0], 1)))
    discard = read_candidate(candidate, limits)
    assert isinstance(discard, Discard)
    assert discard.reason == "no steady beat"


@pytest.mark.skipif(not PERFORMANCES.is_dir(), reason="the performances are not here")
def test_a_hymn_played_in_by_hand_is_heard_and_drawn(tmp_path: Path):
    file = PERFORMANCES / "live_hymns" / "English_mid_v1_dh181pn.mid"
    from plagal.music.performance.played import read_played

    played = read_played(file)
    heard = hear(played)
    assert heard.pulse.metre == "3/4"
    write_picture(played, heard, tmp_path / "hymn.png")
    assert (tmp_path / "hymn.png").stat().st_size > 10_000
