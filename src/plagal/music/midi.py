"""The only reader and writer of MIDI.

Reading brings every file onto the grid of 24 ticks to the quarter, as one piano part:
- all pitched tracks are merged; drum tracks (channel 10) and sound effects (programs 112-127) are left out and counted,
  and in files from elsewhere whatever is not a piano (`piano_tracks`);
- a constant offset of the whole file under half a grid step is removed and reported [offset_quarters];
- onsets and ends go to the nearest grid tick, so an onset moves by at most 1/48 quarter;
- a pedal is the highest of all tracks' (controller 64: up to 41 is off, up to 85 half, above on);
- chords, sections and repeats that Plagal asserted come back from marker events ("Chord: Dbmaj9/F", "Section: VERSE",
  "Repeat: START"); sections also from the names that other programs write ("Verse 2"). Other texts are counted.

Hostile files are bounded: size, length in time and every count are checked before anything is built from them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from plagal.music.grid import LONGEST_BAR, PEDAL_STATES, SECTIONS, regular
from plagal.music.score import DURATION, ONSET, PITCH, TICKS_PER_QUARTER, Key, Marker, Metre, Pedal, Score, Tempo
from plagal.music.smf import sequence_name, sound_bytes
from plagal.plumbing.errors import InputError, MidiError
from plagal.plumbing.files import atomic_path

if TYPE_CHECKING:
    import symusic

Ints = npt.NDArray[np.int64]

MAX_FILE_BYTES = 64 << 20
"""A four-hour piano recording is about 2 MiB."""

FILE_TICKS_PER_QUARTER = 480
"""Of written files: what sequencers expect, and 20 to a grid tick."""

PEDAL_CONTROLLER = 64
RIGHT_HAND, LEFT_HAND = "Right hand", "Left hand"
"""Names of the two tracks of written files."""
_PEDAL_VALUES = {"off": 0, "half": 64, "on": 127}
_PEDAL_BOUNDS = (42, 86)
FIRST_EFFECT_PROGRAM = 112
_MARKER = re.compile(r"(Chord|Section|Repeat): (\S+)")
_SHARE_AT_OFFSET = 0.9
"""So many of the onsets must lie at one distance from the grid before it is taken for the file's own offset."""


def read_midi(source: str | Path | bytes, *, heard: bool = False) -> Score:
    """A regular score from a MIDI file or its bytes; `losses` says what was left out or bent. `heard`: the upbeat, the
    metre and the key are judged by ear where the file's own cannot be right (`barlines`, `harmony.with_heard_keys`), as
    in any file from elsewhere; else what is stated stands. Raises MidiError for bytes that are no MIDI or hold nothing
    to play, InputError where there is no such file."""
    name = "MIDI bytes" if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else file_bytes(Path(source))
    try:
        return _read(data, heard)
    except MidiError as error:
        raise MidiError(f"{name}: {error}") from None


def file_bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise MidiError(f"{path}: {path.stat().st_size} bytes; MIDI files up to {MAX_FILE_BYTES} are read")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None


def parse(data: bytes) -> symusic.Score:
    """The file as symusic reads it, in its own ticks. Raises MidiError for what cannot be read."""
    return _parse(sound_bytes(data)[0])


def _parse(data: bytes) -> symusic.Score:
    import symusic

    if len(data) > MAX_FILE_BYTES:
        raise MidiError(f"{len(data)} bytes; MIDI up to {MAX_FILE_BYTES} is read")
    try:
        score = symusic.Score.from_midi(data)
    except RuntimeError as error:
        told = " ".join(str(error).split()).removesuffix(": iostream error")
        raise MidiError(f"is damaged ({told}): save it again from a program that opens it") from None
    if score.ticks_per_quarter <= 0:
        raise MidiError("gives 0 ticks to the quarter note: its header is damaged")
    return score


def _read(data: bytes, heard: bool) -> Score:
    data, losses = sound_bytes(data)
    source = _parse(data)
    per_quarter = source.ticks_per_quarter
    tracks = _pitched(source.tracks, losses)
    if heard:
        tracks = piano_tracks(tracks, losses)
    columns = [track.notes.numpy() for track in tracks]
    if not any(map(len, columns)):
        raise MidiError(_nothing_to_play(source))
    onset, duration, pitch, velocity = (
        np.concatenate([column[name] for column in columns]).astype(np.int64)
        for name in ("time", "duration", "pitch", "velocity")
    )
    if onset.min() < 0 or duration.min() < 0:
        raise MidiError("lasts longer than MIDI readers can count: its times are damaged")
    offset = whole_offset(onset, per_quarter)
    report: dict[str, float] = {"offset_quarters": offset / per_quarter} if offset else {}
    start = np.maximum(to_grid(onset - offset, per_quarter), 0)
    end = to_grid(onset + duration - offset, per_quarter)
    notes: npt.NDArray[Any] = np.stack([start, pitch, np.maximum(end - start, 1), velocity], axis=1)

    def grid(time: int) -> int:
        if time < 0:
            raise MidiError("lasts longer than MIDI readers can count: its times are damaged")
        return max(int(to_grid(time - offset, per_quarter)), 0)

    tempos, markers = _tempos(source, grid, losses), _markers(source, grid, losses)
    if not tempos:
        losses["tempo_unknown"] = 1
    score = Score(
        notes,
        tuple(Metre(grid(m.time), m.numerator, m.denominator) for m in source.time_signatures),
        tempos,
        tuple(Key(grid(key.time), key.key, key.tonality == 1) for key in source.key_signatures if abs(key.key) <= 7),
        _pedals(tracks, offset, per_quarter),
        markers,
        sequence_name(data) if _is_ours(tracks) else next((track.name for track in source.tracks), ""),
        report | {name: count for name, count in losses.items() if count},
    )
    if heard:
        from plagal.music.barlines import with_heard_bars  # the ears are asked only here
        from plagal.music.harmony import with_heard_keys

        score = with_heard_bars(replace(_without_late_events(score), title=_title(data, score.title)))
    score = regular(score)
    if not len(score.notes):
        raise MidiError("holds no notes on a piano's 88 keys")
    hands = hands_of(tracks) if heard or _is_ours(tracks) else None
    if hands is not None:
        # The places of a file's notes, sorted; of a place that both hands strike the later track's is the last.
        places = start * 128 + pitch
        order = np.argsort(places, kind="stable")
        wanted = score.notes[:, ONSET].astype(np.int64) * 128 + score.notes[:, PITCH]
        found = order[np.searchsorted(places, wanted, side="right", sorter=order) - 1]
        by_note = np.repeat(np.array(hands, np.int8), [len(column["time"]) for column in columns])
        score = replace(score, hands=by_note[found])
    return with_heard_keys(score) if heard else score


def _nothing_to_play(source: symusic.Score) -> str:
    why = []
    if drums := sum(len(track.notes) for track in source.tracks if track.is_drum):
        why.append(f"{drums} notes are on channel 10 (drums)")
    effects = [track for track in source.tracks if not track.is_drum and len(track.notes)]
    for program in sorted({track.program for track in effects}):
        count = sum(len(track.notes) for track in effects if track.program == program)
        why.append(f"{count} notes have program {program} (an effect)")
    return f"holds no notes to play on a piano{': ' if why else ''}{', '.join(why)}"


_NO_TITLE = re.compile(
    r"\w*:\w*|(midi |control |conductor |tempo |master |note |smf )*(track|out|in|channel|staff|sequence|voice|part)?"
    r"[ #-]*\d*|untitled.*|.*\b(piano|keyboards?|keys|organ|guitar|strings?|violins?|violas?|cello|flute|oboe|clarinet|"
    r"bassoon|trumpet|horn|trombone|sax|choir|soprano|alto|tenor|bass|melody|vocals?|lead|hands?|[lr]h)\b.{0,6}",
    re.IGNORECASE,
)
"""Names that programs give to tracks: LilyPond's "id:soprano", "Track 1", instruments and voices."""


def _title(data: bytes, fallback: str) -> str:
    """The name of the sequence, which the first track holds, unless it names a track and no piece."""
    name = sequence_name(data) or fallback
    return "" if _NO_TITLE.fullmatch(name.strip()) else name.strip()


def _without_late_events(score: Score) -> Score:
    """What a program wrote long after the last note would make silent bars, up to hundreds of them."""
    latest = int((score.notes[:, ONSET] + score.notes[:, DURATION]).max()) + LONGEST_BAR
    kinds = ("metres", "tempos", "keys", "pedals")
    events: dict[str, Any] = {
        kind: tuple(event for event in getattr(score, kind) if event.onset <= latest) for kind in kinds
    }
    kept = replace(score, **events)
    if late := sum(len(getattr(score, kind)) - len(getattr(kept, kind)) for kind in kinds):
        kept.losses["events_after_the_end"] = late
    return kept


def to_grid(time: Any, per_quarter: int) -> Any:
    """The nearest tick of 24 to the quarter; exactly between two, the later. Integers throughout."""
    return (2 * TICKS_PER_QUARTER * time + per_quarter) // (2 * per_quarter)


def whole_offset(onsets: Ints, per_quarter: int) -> int:
    """The distance [file ticks] that nearly all onsets keep from our grid or, where music is finer, from one twice or
    four times as fine: under half a step of it, 0 where they keep none."""
    for steps in (TICKS_PER_QUARTER, 2 * TICKS_PER_QUARTER, 4 * TICKS_PER_QUARTER):
        beyond = onsets * steps % per_quarter
        if not beyond.any():
            return 0
        values, counts = np.unique(beyond, return_counts=True)
        most = int(np.argmax(counts))
        if counts[most] >= _SHARE_AT_OFFSET * len(onsets):
            signed = int(values[most]) - (per_quarter if 2 * int(values[most]) > per_quarter else 0)
            # Only whole file ticks can be taken off: where a step is a fraction of them, nothing is off in common.
            return signed // steps if signed % steps == 0 else 0
    return 0


def _pitched(tracks: Iterable[symusic.Track], losses: Counter[str]) -> list[symusic.Track]:
    kept = []
    for track in tracks:
        if track.is_drum:
            losses["notes_drums"] += len(track.notes)
        elif track.program >= FIRST_EFFECT_PROGRAM:
            losses["notes_effects"] += len(track.notes)
        elif len(track.notes) or len(track.controls):
            kept.append(track)
    merged = sum(len(track.notes) > 0 for track in kept)
    if merged > 1 and not _is_ours(kept):
        losses["tracks_merged"] = merged
    return kept if merged else []


def _is_ours(tracks: list[symusic.Track]) -> bool:
    """Whether these are the two hands of a file that Plagal wrote."""
    return [track.name for track in tracks if track.name or len(track.notes)] == [RIGHT_HAND, LEFT_HAND]


def _tempos(source: symusic.Score, grid: Any, losses: Counter[str]) -> tuple[Tempo, ...]:
    tempos = []
    for tempo in source.tempos:
        if tempo.mspq > 0:
            tempos.append(Tempo(grid(tempo.time), _plain_tempo(tempo.mspq)))
        else:
            losses["tempos_zero"] += 1
    return tuple(tempos)


def _plain_tempo(microseconds: int) -> float:
    """The shortest number of quarters a minute that may have been stored as so many microseconds a quarter, whether
    they were rounded or cut off: 909091 and 909090 -> 66.0."""
    exact = 60e6 / microseconds
    return next(
        (plain for digits in range(5) if (plain := round(exact, digits)) > 0 and abs(60e6 / plain - microseconds) < 1),
        exact,
    )


def _pedals(tracks: list[symusic.Track], offset: int, per_quarter: int) -> tuple[Pedal, ...]:
    """Pedal changes on the grid, the highest of all tracks."""
    curves: list[tuple[Ints, Ints]] = []
    for controls in (track.controls.numpy() for track in tracks if len(track.controls)):
        chosen = controls["number"] == PEDAL_CONTROLLER
        if chosen.any():
            time = np.maximum(to_grid(controls["time"][chosen].astype(np.int64) - offset, per_quarter), 0)
            state = np.digitize(controls["value"][chosen], _PEDAL_BOUNDS)
            # The same pedal stands on the tracks of both hands; as the highest of two it would lose what is lifted and
            # pressed again within a tick.
            if not any(np.array_equal(time, at) and np.array_equal(state, was) for at, was in curves):
                curves.append((time, state))
    if not curves:
        return ()
    if len(curves) == 1:
        times, states = curves[0]
    else:
        times = np.unique(np.concatenate([time for time, _ in curves]))
        states = np.zeros(len(times), np.int64)
        for time, state in curves:
            held = np.concatenate([[0], state])[np.searchsorted(time, times, side="right")]
            states = np.maximum(states, held)
    changed = np.flatnonzero(np.diff(states, prepend=0))
    return tuple(Pedal(int(times[place]), PEDAL_STATES[states[place]]) for place in changed)


def pedal_state(value: int) -> str:
    """What a value of controller 64 means: "off", "half" or "on"."""
    return PEDAL_STATES[int(np.digitize(value, _PEDAL_BOUNDS))]


def _markers(source: symusic.Score, grid: Any, losses: Counter[str]) -> tuple[Marker, ...]:
    markers = []
    for event in source.markers:
        if match := _MARKER.fullmatch(event.text):
            markers.append(Marker(grid(event.time), match[1].lower(), match[2]))
        elif (section := event.text.strip().upper().rstrip(" 0123456789:")) in SECTIONS:
            markers.append(Marker(grid(event.time), "section", section))
        else:
            losses["markers_left_out"] += 1
    return tuple(markers)


_PIANO = range(8)
_ORGAN = range(16, 21)
"""General MIDI's programs: pianos and clavichords; organs, whose hymns lie under two hands as well."""
_PIANO_NAME = re.compile(r"\b(piano|pno|keys|keyboards?|rhodes|[lr]\.? ?h\.?|(left|right)[ _-]?hand)\b", re.IGNORECASE)
_VOICE_NAME = re.compile(r"\b(melody|vocals?|voice|lead|sing\w*|soprano|alto|tenor|choir|solo)\b", re.IGNORECASE)
_LEFT_NAME = re.compile(r"\b(l\.? ?h\.?|left|lower|bass clef)\b", re.IGNORECASE)
_RIGHT_NAME = re.compile(r"\b(r\.? ?h\.?|right|upper|treble)\b", re.IGNORECASE)


def piano_tracks(tracks: Sequence[symusic.Track], losses: Counter[str]) -> list[symusic.Track]:
    """The tracks that are the piano, in order: those named so and other pianos that are no voice's; else all pianos;
    else the organ. The notes of the rest are counted as `notes_other_parts`. Where there is no keyboard all tracks
    stay, and `no_piano_part` says so."""
    named = [track for track in tracks if _PIANO_NAME.search(track.name)]
    pianos = [track for track in tracks if track.program in _PIANO]
    if named:
        chosen = [t for t in tracks if t in named or (t in pianos and not _VOICE_NAME.search(t.name))]
    else:
        chosen = pianos or [track for track in tracks if track.program in _ORGAN]
    if not any(len(track.notes) for track in chosen):
        losses["no_piano_part"] += 1
        return list(tracks)
    losses["notes_other_parts"] += sum(len(track.notes) for track in tracks if track not in chosen)
    return chosen


def hands_of(tracks: Sequence[symusic.Track]) -> list[int] | None:
    """For each track 0 where it is the left hand's and 1 where it is the right's; None where they are not just two with
    notes. Names decide, else which lies higher. Of four voices, as in a hymn, the upper two are the right hand's."""
    playing = [number for number, track in enumerate(tracks) if len(track.notes)]
    if len(playing) == 4 and all(_is_voice(tracks[number]) for number in playing):
        by_height = sorted(playing, key=lambda number: -float(tracks[number].notes.numpy()["pitch"].mean()))
        return [int(number in by_height[:2]) for number in range(len(tracks))]
    if len(playing) != 2:
        return None
    first, second = (tracks[number] for number in playing)
    says = [bool(_RIGHT_NAME.search(track.name)) - bool(_LEFT_NAME.search(track.name)) for track in (first, second)]
    # "upper 1" and "upper 2" are staves that LilyPond named after the first: names that agree say nothing.
    if says[0] != says[1]:
        first_is_right = says[0] > says[1]
    else:
        heights = [int(track.notes.numpy()["pitch"].astype(np.int64).sum()) * len(other.notes)
                   for track, other in ((first, second), (second, first))]  # fmt: skip
        first_is_right = heights[0] > heights[1]
    hands = [0] * len(tracks)
    hands[playing[0 if first_is_right else 1]] = 1
    return hands


def _is_voice(track: symusic.Track) -> bool:
    """Whether its notes come one after the other."""
    columns = track.notes.numpy()
    order = np.argsort(columns["time"], kind="stable")
    begins, ticks = columns["time"][order], columns["duration"][order]
    return len(begins) < 2 or bool((begins[1:] >= begins[:-1] + ticks[:-1]).mean() > 0.95)


def to_midi_bytes(score: Score) -> bytes:
    """A MIDI file, 480 ticks to the quarter: one piano track or, where the score knows that both hands play, one for
    each, the pedal on both. `read_midi` gives back an equal score where the score is regular and its tempos have
    words."""
    import symusic

    scale = FILE_TICKS_PER_QUARTER // TICKS_PER_QUARTER
    file = symusic.Score(FILE_TICKS_PER_QUARTER)
    title = score.title.encode("utf-8", "replace").decode()
    parts = [(title, score.notes)]
    if score.hands is not None and score.hands.shape == score.notes.shape[:1]:
        right, left = score.notes[score.hands != 0], score.notes[score.hands == 0]
        if len(right) and len(left):
            file.tracks.append(symusic.Track(name=title, program=0, is_drum=False))  # becomes the one without notes
            parts = [(RIGHT_HAND, right), (LEFT_HAND, left)]
    for name, notes in parts:
        track = symusic.Track(name=name, program=0, is_drum=False)
        onset, pitch, duration, velocity = np.ascontiguousarray(notes.T, dtype=np.int32)
        track.notes = symusic.Note.from_numpy(
            onset * scale, duration * scale, pitch.astype(np.int8), velocity.astype(np.int8), "tick"
        )
        for pedal in score.pedals:
            value = _PEDAL_VALUES[pedal.state]
            track.controls.append(symusic.ControlChange(pedal.onset * scale, PEDAL_CONTROLLER, value))
        file.tracks.append(track)
    for metre in score.metres:
        file.time_signatures.append(symusic.TimeSignature(metre.onset * scale, metre.numerator, metre.denominator))
    for tempo in score.tempos:
        microseconds = min(max(round(60e6 / tempo.quarters_per_minute), 1), (1 << 24) - 1)
        file.tempos.append(symusic.Tempo(tempo.onset * scale, mspq=microseconds))
    for key in score.keys:
        file.key_signatures.append(symusic.KeySignature(key.onset * scale, key.fifths, int(key.minor)))
    for marker in score.markers:
        text = f"{marker.kind.capitalize()}: {marker.text}"
        file.markers.append(symusic.TextMeta(marker.onset * scale, text))
    return bytes(file.dumps_midi())


def write_midi(score: Score, path: str | Path) -> None:
    """Write a MIDI file, whole or not at all. Raises DiskError."""
    data = to_midi_bytes(score)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
