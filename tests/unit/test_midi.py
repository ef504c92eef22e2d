"""Reading and writing MIDI: real, odd and broken."""

from __future__ import annotations

import runpy
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from music_strategies import scores

from plagal.music import midi
from plagal.music.arranger.arrange import arrange
from plagal.music.grid import last_event, regular
from plagal.music.hands import in_two_hands
from plagal.music.load import load
from plagal.music.midi import parse, read_midi, to_midi_bytes, write_midi
from plagal.music.score import Key, Marker, Metre, Pedal, Score, Tempo
from plagal.plumbing.errors import InputError, MidiError
from plagal.tokens import grammar
from plagal.tokens.codec import decode, encode

FIXTURES = Path(__file__).parents[1] / "fixtures" / "midi"
MAKE = runpy.run_path(str(FIXTURES / "make.py"))
GOOD = sorted(FIXTURES.glob("*.mid"))
BROKEN = sorted((FIXTURES / "broken").glob("*.mid"))


def fixture(name: str) -> Score:
    return read_midi(FIXTURES / name)


def test_the_fixtures_are_those_that_their_maker_makes():
    made = {**MAKE["GOOD"], **{f"broken/{name}": data for name, data in MAKE["BROKEN"].items()}}
    found = {path.relative_to(FIXTURES).as_posix(): path.read_bytes() for path in [*GOOD, *BROKEN]}
    assert found == made


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_words_of_a_fixture_come_back_from_its_words_in_midi(path):
    words = encode(read_midi(path))
    assert grammar.accepts(words)
    assert encode(read_midi(to_midi_bytes(decode(words, strict=True).score))) == words


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_a_broken_file_raises_one_line_that_names_it(path):
    with pytest.raises(MidiError) as raised:
        read_midi(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@given(
    st.sampled_from(sorted(MAKE["GOOD"])),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    st.integers(0, 10**6),
)
@settings(max_examples=400, deadline=None)
def test_damaged_bytes_are_read_or_refused_and_nothing_else(name, changes, length):
    data = bytearray(MAKE["GOOD"][name] if name != "bar_of_10000_notes.mid" else MAKE["GOOD"]["scale.mid"])
    for place, value in changes:
        data[place % len(data)] = value
    data = bytes(data[: 14 + length % len(data)])
    try:
        score = read_midi(data)
    except MidiError as error:
        assert "\n" not in str(error)
        return
    words = encode(score, chords=False)
    assert grammar.accepts(words)
    assert encode(read_midi(to_midi_bytes(decode(words).score)), chords=False) == words


def test_hostile_files_take_little_memory():
    tracemalloc.start()
    for data in [*MAKE["BROKEN"].values(), MAKE["GOOD"]["bar_of_10000_notes.mid"], MAKE["GOOD"]["long_note.mid"]]:
        try:
            encode(read_midi(data), chords=False)
        except MidiError:
            pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 << 20


@given(scores)
@settings(max_examples=150, deadline=None)
def test_a_regular_score_comes_back_from_midi_exactly(score):
    expected = regular(score)
    if len(expected.notes):
        again = read_midi(to_midi_bytes(expected))
        assert again == expected
        assert again.losses == {}


def test_a_constant_offset_of_the_whole_file_is_taken_off_and_reported():
    score = fixture("late_by_a_tick.mid")
    assert score.losses == {"offset_quarters": 1 / 480}
    assert set(score.notes[:, 0] % 24) == {0}
    assert score.metres == (Metre(0, 4, 4),)
    assert score.tempos == (Tempo(0, 110.0),)


@pytest.mark.parametrize("offset", [-9, -1, 1, 9])
def test_an_offset_is_found_whichever_side_it_lies(offset):
    onsets = np.arange(1, 40) * 120 + offset
    assert midi.whole_offset(onsets, 480) == offset


def test_sixty_fourths_do_not_hide_an_offset():
    onsets = np.arange(1, 40) * 30 + 1
    assert midi.whole_offset(onsets, 480) == 1


def test_a_performance_has_no_offset_and_moves_by_a_48th_at_most():
    source = midi.parse(MAKE["GOOD"]["performance.mid"]).tracks[0].notes.numpy()
    score = fixture("performance.mid")
    assert "offset_quarters" not in score.losses
    # In units of 1/480 quarter, where 1/48 quarter is 10.
    assert np.abs(20 * np.sort(score.notes[:, 0]) - np.sort(source["time"])).max() <= 10


def test_drums_and_effects_are_left_out_and_other_tracks_merged_and_all_is_counted():
    score = fixture("instruments.mid")
    assert score.losses == {
        "notes_drums": 2, "notes_effects": 1, "tracks_merged": 2, "notes_out_of_range": 2, "tempo_unknown": 1,
    }  # fmt: skip
    assert len(score.notes) == 9


def test_unisons_merge_to_the_longest_and_loudest():
    assert fixture("unisons.mid").notes.tolist() == [[0, 60, 48, 100], [0, 64, 48, 80]]


def test_a_note_that_is_struck_again_ends_there():
    assert fixture("overlapping.mid").notes[:2].tolist() == [[0, 60, 24, 80], [24, 60, 72, 80]]


def test_a_metre_change_in_mid_bar_shortens_the_bar_or_waits_for_the_next_and_is_counted():
    score = fixture("mid_bar_changes.mid")
    assert score.metres == (Metre(0, 2, 4), Metre(48, 3, 4), Metre(192, 7, 8))
    assert (score.losses["metres_in_mid_bar"], score.losses["metres_moved"]) == (1, 1)
    assert score.tempos == (Tempo(0, 120.0), Tempo(35, 66.0))


def test_a_pedal_pressed_again_at_once_keeps_its_lift():
    assert fixture("pedals.mid").pedals == (
        Pedal(0, "on"), Pedal(48, "off"), Pedal(48, "on"), Pedal(96, "half"), Pedal(144, "off")
    )  # fmt: skip


def test_asserted_chords_sections_and_repeats_are_read_from_markers_and_other_texts_counted():
    score = fixture("markers.mid")
    assert score.title == "A Hymn"
    assert score.markers == (
        Marker(0, "repeat", "START"), Marker(0, "section", "VERSE"), Marker(0, "chord", "Dbmaj9/F"),
        Marker(96, "section", "CHORUS"), Marker(192, "repeat", "END"),
    )  # fmt: skip
    assert score.losses == {"markers_left_out": 2, "tempo_unknown": 1}


def test_tempos_outside_the_words_are_clamped_and_counted():
    assert fixture("extreme_tempos.mid").losses == {"tempos_clamped": 2}
    assert fixture("zero_tempo.mid").losses == {"tempos_zero": 1, "tempo_unknown": 1}


def test_of_two_tempos_at_one_tick_the_last_one_holds_even_if_the_first_is_out_of_bounds():
    score = Score(np.array([[0, 60, 24, 80]], np.int32), tempos=(Tempo(0, 400.0), Tempo(0, 100.0)))
    assert regular(score).tempos == (Tempo(0, 100.0),)


@pytest.mark.parametrize("tempo", [20, 20.25, 66, 73.5, 120, 299.99, 300])
def test_tempos_come_back_as_they_were_written(tempo):
    score = Score(np.array([[0, 60, 24, 80]], np.int32), tempos=(Tempo(0, tempo),))
    assert read_midi(to_midi_bytes(score)).tempos == (Tempo(0, tempo),)


def test_every_key_signature_comes_back():
    for minor in (False, True):
        keys = tuple(Key(24 * (fifths + 7), fifths, minor) for fifths in range(-7, 8))
        score = Score(np.array([[0, 60, 24, 80]], np.int32), keys=keys)
        assert read_midi(to_midi_bytes(score)).keys == keys


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.mid"):
        load(tmp_path / "nothing.mid")


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "huge.mid"
    with path.open("wb") as file:
        file.truncate(midi.MAX_FILE_BYTES + 1)
    with pytest.raises(MidiError, match="bytes"):
        read_midi(path)


def test_writing_replaces_a_file_whole(tmp_path):
    score = fixture("scale.mid")
    write_midi(score, tmp_path / "a.mid")
    write_midi(score, tmp_path / "a.mid")
    assert read_midi(tmp_path / "a.mid") == score
    assert [path.name for path in tmp_path.iterdir()] == ["a.mid"]


def smf(*tracks: bytes, division: bytes = b"\x01\xe0", kind: int = 1) -> bytes:
    """A MIDI file of these tracks, 480 ticks to the quarter; each is given its end."""
    header = b"MThd" + bytes([0, 0, 0, 6, 0, kind, 0, len(tracks)]) + division
    ended = [track + b"\x00\xff\x2f\x00" for track in tracks]
    return header + b"".join(b"MTrk" + len(track).to_bytes(4, "big") + track for track in ended)


QUARTER = b"\x83\x60"
"""480 ticks."""


def notes_of(data: bytes) -> list[list[int]]:
    return read_midi(data).notes[:, :3].tolist()


def test_keys_still_down_at_the_end_are_held_to_it():
    held = b"\x00\x90\x3c\x50\x00\x40\x50" + QUARTER + b"\x80\x3c\x00" + QUARTER + b"\xff\x01\x00"
    assert notes_of(smf(held)) == [[0, 60, 24], [0, 64, 48]]


def test_all_notes_off_releases_the_keys_of_its_channel_alone():
    track = b"\x00\x90\x3c\x50\x00\x91\x40\x50" + QUARTER + b"\xb0\x7b\x00" + QUARTER + b"\x81\x40\x00"
    assert notes_of(smf(track)) == [[0, 60, 24], [0, 64, 48]]


def test_a_name_late_in_a_track_keeps_its_place_where_all_keys_are_released():
    name = QUARTER + b"\xff\x03\x01A"
    track = b"\x00\x90\x3c\x50" + QUARTER + b"\xb0\x7b\x00" + name + b"\x00\x91\x40\x50" + QUARTER + b"\x81\x40\x00"
    assert notes_of(smf(track)) == [[0, 60, 24], [48, 64, 24]]


def test_running_status_goes_on_after_a_system_exclusive_message():
    track = b"\x00\x90\x3c\x50" + QUARTER + b"\x3c\x00\x00\xf0\x02\x7e\xf7\x00\x40\x50" + QUARTER + b"\x40\x00"
    assert notes_of(smf(track)) == [[0, 60, 24], [24, 64, 24]]


def test_a_pedal_in_a_track_of_its_own_is_kept():
    notes = b"\x00\x90\x3c\x50" + QUARTER + b"\x80\x3c\x00"
    pedal = b"\x00\xb0\x40\x7f" + QUARTER + b"\xb0\x40\x00"
    for tracks in ((notes, pedal), (pedal, notes)):
        assert read_midi(smf(*tracks)).pedals == (Pedal(0, "on"), Pedal(24, "off"))


def test_a_file_wrapped_in_riff_is_unwrapped():
    data = MAKE["GOOD"]["scale.mid"]
    wrapped = b"RIFF" + (len(data) + 12).to_bytes(4, "little") + b"RMIDdata" + len(data).to_bytes(4, "little") + data
    assert read_midi(wrapped) == read_midi(data)


def test_a_metre_whose_denominator_overflows_is_left_out_and_counted():
    track = b"\x00\xff\x58\x04\x04\x20\x18\x08\x00\x90\x3c\x50" + QUARTER + b"\x80\x3c\x00"
    score = read_midi(smf(track))
    assert (score.metres, score.losses["metres_unwritable"]) == ((Metre(0, 4, 4),), 1)


def test_channel_10_is_a_voice_where_an_mpe_zone_holds_it_and_drums_elsewhere():
    zone = b"\x00\xb0\x65\x00\x00\x64\x06\x00\x06\x0f"
    notes = b"\x00\x91\x3c\x50\x00\x99\x40\x50" + QUARTER + b"\x81\x3c\x00\x00\x89\x40\x00"
    assert notes_of(smf(zone + notes)) == [[0, 60, 24], [0, 64, 24]]
    assert notes_of(smf(notes)) == [[0, 60, 24]]


def test_a_file_in_smpte_time_is_refused_for_that_and_not_as_damaged():
    with pytest.raises(MidiError, match="SMPTE"):
        read_midi(smf(b"\x00\x90\x3c\x50\x10\x80\x3c\x00", division=b"\xe7\x28"))


def test_a_file_without_piano_notes_says_what_it_has():
    with pytest.raises(MidiError, match=r"1 notes are on channel 10 \(drums\), 1 notes have program 120"):
        read_midi(smf(b"\x00\xc0\x78\x00\x90\x3c\x50\x00\x99\x3c\x50" + QUARTER + b"\x80\x3c\x00\x00\x89\x3c\x00"))


def test_a_file_that_states_no_tempo_says_so():
    assert read_midi(smf(b"\x00\x90\x3c\x50" + QUARTER + b"\x80\x3c\x00")).losses == {"tempo_unknown": 1}


def test_what_happens_long_after_the_last_note_makes_no_bars(tmp_path):
    late = b"\x00\x90\x3c\x50" + QUARTER + b"\x80\x3c\x00\xff\xff\x00\xb0\x40\x7f\xff\xff\x00\xff\x51\x03\x07\xa1\x20"
    (tmp_path / "late.mid").write_bytes(smf(late))
    score = load(tmp_path / "late.mid")
    assert score.losses["events_after_the_end"] == 2
    assert last_event(score) < 96


@pytest.mark.parametrize(
    ("name", "title"),
    [(b"Amazing Grace", "Amazing Grace"), (b":soprano", ""), (b"Track 1", ""), (b"Right Hand", ""), (b"Piano RH", ""),
     (b"control track", ""), (b"Jesus: Name above all", "Jesus: Name above all"), (b"Untitled", "")],
)  # fmt: skip
def test_a_title_names_a_piece_and_no_track(tmp_path, name, title):
    conductor = b"\x00\xff\x03" + bytes([len(name)]) + name
    (tmp_path / "a.mid").write_bytes(smf(conductor, b"\x00\x90\x3c\x50" + QUARTER + b"\x80\x3c\x00"))
    assert load(tmp_path / "a.mid").title == title


@pytest.mark.parametrize("heard", [False, True])
def test_two_hands_are_two_piano_tracks_under_one_pedal_and_say_the_same_words(heard):
    score = arrange("amazing_grace", "gospel_jazz", seed=3)
    data = to_midi_bytes(score)
    right, left = parse(data).tracks
    assert [(track.name, track.program) for track in (right, left)] == [("Right hand", 0), ("Left hand", 0)]
    assert len(right.controls) == len(left.controls) == len(score.pedals) > 0
    back = read_midi(data, heard=heard)
    assert encode(back) == encode(score)
    assert back == score and back.losses == {} and back.hands.tolist() == score.hands.tolist()


@given(scores)
@settings(max_examples=60, deadline=None)
def test_words_are_the_same_from_one_track_and_from_two(score):
    score = regular(score)
    if len(score.notes):
        assert encode(read_midi(to_midi_bytes(in_two_hands(score)))) == encode(read_midi(to_midi_bytes(score)))
