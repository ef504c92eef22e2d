"""Which bytes are playable MIDI."""

import io

import mido
import pytest

from plagal.evaluation.samples import check_midi

QUARTER = 480


def midi(events: list[mido.Message | mido.MetaMessage]) -> bytes:
    """One track; times in the messages are ticks since the one before, 480 to the quarter."""
    file, out = mido.MidiFile(ticks_per_beat=QUARTER), io.BytesIO()
    file.tracks.append(mido.MidiTrack(events))
    file.save(file=out)
    return out.getvalue()


def note(pitch: int, rest: int = 0, length: int = QUARTER) -> list[mido.Message]:
    return [
        mido.Message("note_on", note=pitch, velocity=64, time=rest),
        mido.Message("note_off", note=pitch, time=length),
    ]


def problem(data: bytes) -> str:
    found = check_midi(data)
    assert not found.valid
    return found.problems[0]


def test_a_bar_of_music_is_valid() -> None:
    assert check_midi(midi([*note(60), *note(64), *note(67), *note(72)])).valid


def test_a_note_on_without_velocity_ends_a_note() -> None:
    events = [mido.Message("note_on", note=60, velocity=64), mido.Message("note_on", note=60, velocity=0, time=480)]
    assert check_midi(midi(events)).valid


@pytest.mark.parametrize("data", [b"", b"MThd", b"RIFF" * 20, midi(note(60))[:30]])
def test_bytes_that_are_no_midi_are_invalid_and_raise_nothing(data: bytes) -> None:
    assert not check_midi(data).valid


def test_a_file_without_notes_is_invalid() -> None:
    assert problem(midi([mido.MetaMessage("set_tempo", tempo=500_000)])) == "no notes"


def test_a_hanging_note_is_invalid() -> None:
    assert problem(midi([*note(60), mido.Message("note_on", note=64, velocity=64)])) == "1 notes never end"


def test_a_silent_bar_is_invalid_but_a_held_one_is_not() -> None:
    assert problem(midi([*note(60), *note(60, rest=8 * QUARTER)])) == "bar 2 is silent"
    assert check_midi(midi([*note(60, length=9 * QUARTER)])).valid


def test_a_metre_that_changes_inside_a_bar_is_invalid() -> None:
    waltz = mido.MetaMessage("time_signature", numerator=3, denominator=4)
    assert check_midi(midi([waltz, *note(60), waltz.copy(time=2 * QUARTER), *note(62)])).valid
    changed = waltz.copy(numerator=2, time=QUARTER)
    assert "inside a bar" in problem(midi([waltz, *note(60), changed, *note(62)]))


def test_a_file_is_read_by_its_path_too(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "piece.mid").write_bytes(midi(note(60)))
    assert check_midi(tmp_path / "piece.mid").valid
