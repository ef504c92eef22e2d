"""What a file loses on its way through words and back, measured from outside.

Each file is read, written as words, decoded, written to disk as MIDI, read again, and written as words again. The last
score is held against the file itself as mido reads it, not against our own reader or our quantized reading of it.

Units: beats are quarter notes; ms at the tempo that holds at the note. A note of the file counts as kept where the last
score has its pitch within 1/48 quarter of its onset, once a constant offset of the whole file is taken off. Durations
and velocities are compared for notes that were neither merged as unisons nor cut at a re-strike, which are counted.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plagal.music import midi
from plagal.music.grid import FASTEST, SLOWEST
from plagal.music.load import load
from plagal.music.score import (
    DURATION,
    HIGHEST_PITCH,
    LOWEST_PITCH,
    ONSET,
    PITCH,
    TICKS_PER_QUARTER,
    VELOCITY,
    Notes,
    Score,
)
from plagal.plumbing.errors import InputError, PlagalError
from plagal.tokens import grammar
from plagal.tokens.codec import decode, encode

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MIDI_SUFFIXES = (".mid", ".midi", ".kar")
_NO_LOSSES = frozenset({"offset_quarters", "tracks_merged", "tempo_unknown"})
"""What reading reports and takes nothing away."""

Piece = tuple[str, Score]
"""A name, and a score from elsewhere than a file: from there on, the score is the source."""


@dataclass(frozen=True)
class _Source:
    """A file's own music: notes as (onset, pitch, duration, velocity) in its ticks, `per_quarter` to the quarter."""

    notes: Ints
    per_quarter: int
    tempos: list[tuple[int, float]]
    metres: list[tuple[int, int, int]]
    pedals: list[tuple[int, str]]


def roundtrip(pieces: Iterable[str | Path | Piece]) -> dict[str, Any]:
    """What each file or piece lost, and totals: {"files": [row], "totals": {...}}. Folders stand for all MIDI files in
    them. A file that cannot be read has a row with its `error`."""
    from tqdm import tqdm

    files = [each for piece in pieces for each in _expanded(piece)]
    rows = [roundtrip_file(each) for each in tqdm(files, unit="file", disable=None, leave=False)]
    return {"files": rows, "totals": totals(rows)}


def _expanded(piece: str | Path | Piece) -> list[Path | Piece]:
    if isinstance(piece, tuple):
        return [piece]
    path = Path(piece)
    if not path.is_dir():
        return [path]
    files: list[Path | Piece] = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in MIDI_SUFFIXES]
    if not files:
        raise InputError(f"{path} holds no MIDI file ({', '.join(MIDI_SUFFIXES)})")
    return files


def roundtrip_file(piece: str | Path | Piece) -> dict[str, Any]:
    """One file's row."""
    name = piece[0] if isinstance(piece, tuple) else str(piece)
    is_midi = not isinstance(piece, tuple) and Path(piece).suffix.lower() in MIDI_SUFFIXES
    # What words lose is counted against the file itself, so played notes are not set in bars anew before (`load`).
    read = midi.read_midi if is_midi else load
    try:
        score = piece[1] if isinstance(piece, tuple) else read(piece)
        words = encode(score)
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / "again.mid"
            midi.write_midi(decode(words, strict=True).score, written)
            again = midi.read_midi(written)
        source = _Source(
            score.notes.astype(np.int64),
            TICKS_PER_QUARTER,
            [(tempo.onset, tempo.quarters_per_minute) for tempo in score.tempos],
            [(metre.onset, metre.numerator, metre.denominator) for metre in score.metres],
            [(pedal.onset, pedal.state) for pedal in score.pedals],
        )
        if is_midi:
            source = _midi_source(Path(name).read_bytes())
    except PlagalError as error:
        return {"path": name, "error": str(error)}
    row: dict[str, Any] = {"path": name, "words": len(words), "idempotent": encode(again) == words}
    row |= {"grammatical": grammar.accepts(words), "offset_beats": score.losses.get("offset_quarters", 0)}
    row |= _note_report(source, again, score.losses)
    # Metres of the file that hold, as they are, from the same tick on.
    metres = 0
    for time, *metre in source.metres:
        in_force = [there for there in again.metres if there.onset <= _tick(time, source)][-1]
        metres += [in_force.numerator, in_force.denominator] == metre
    row |= {"tempo": _tempo_report(source, again), "metre": {"changes": len(source.metres), "kept": metres}}
    row["pedal"] = {"changes": len(source.pedals), "kept": len(again.pedals)}
    row["losses"] = {name: count for name, count in sorted(score.losses.items()) if name not in _NO_LOSSES}
    return row


def _midi_source(data: bytes) -> _Source:
    """The file as mido reads it: another reader than the one that is judged. Keys still down when their track ends are
    held to there; what All Notes Off (controller 123) releases ends with it. What mido refuses (a key signature that
    no key has, more tracks claimed than there are) is taken as symusic reads it."""
    import mido

    if data[:4] == b"RIFF":
        data = data[data.find(b"MThd") :]
    try:
        file = mido.MidiFile(file=io.BytesIO(data), clip=True)
    except Exception:  # mido raises nearly anything on damaged files
        readable = midi.parse(data)
        readable.key_signatures.clear()
        file = mido.MidiFile(file=io.BytesIO(readable.dumps_midi()), clip=True)
    notes: list[tuple[int, int, int, int]] = []
    tempos: list[tuple[int, float]] = []
    metres: list[tuple[int, int, int]] = []
    feet: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for number, track in enumerate(file.tracks):
        now, programs = 0, [0] * 16
        down: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for message in track:
            now += message.time
            kind = message.type
            if kind == "set_tempo" and message.tempo:
                tempos.append((now, 60e6 / message.tempo))
            elif kind == "time_signature":
                metres.append((now, message.numerator, message.denominator))
            elif kind == "program_change":
                programs[message.channel] = message.program
            elif kind == "control_change" and message.control == midi.PEDAL_CONTROLLER:
                feet.setdefault((number, message.channel), []).append((now, message.value))
            elif kind == "control_change" and message.control in (120, 123):
                for channel, note in [place for place in down if place[0] == message.channel]:
                    notes += [(on, note, now - on, loud) for on, loud in down.pop((channel, note))]
            elif kind == "note_on" and message.velocity:
                if message.channel != 9 and programs[message.channel] < midi.FIRST_EFFECT_PROGRAM:
                    down.setdefault((message.channel, message.note), []).append((now, message.velocity))
            elif kind in ("note_on", "note_off") and down.get((message.channel, message.note)):
                on, loud = down[message.channel, message.note].pop(0)
                notes.append((on, message.note, now - on, loud))
        notes += [(on, note, now - on, loud) for (_, note), struck in down.items() for on, loud in struck]
    return _Source(
        np.array(sorted(notes), dtype=np.int64).reshape(-1, 4),
        file.ticks_per_beat,
        sorted(tempos, key=lambda tempo: tempo[0]),
        sorted(metres, key=lambda metre: metre[0]),
        _pedal_changes(feet.values()),
    )


def _pedal_changes(feet: Iterable[list[tuple[int, int]]]) -> list[tuple[int, str]]:
    """The changes of the highest of all tracks' and channels' pedals, by time."""
    events = sorted((time, number, value) for number, foot in enumerate(feet) for time, value in foot)
    values: dict[int, int] = {}
    changes: list[tuple[int, str]] = []
    for time, number, value in events:
        values[number] = value
        state = midi.pedal_state(max(values.values()))
        if state != (changes[-1][1] if changes else "off"):
            changes.append((time, state))
    return changes


def _note_report(source: _Source, again: Score, losses: dict[str, float]) -> dict[str, Any]:
    in_range = (source.notes[:, PITCH] >= LOWEST_PITCH) & (source.notes[:, PITCH] <= HIGHEST_PITCH)
    notes = source.notes[in_range & (source.notes[:, VELOCITY] > 0)]
    offset = round(losses.get("offset_quarters", 0) * source.per_quarter)
    match, distance = _match(notes, offset, source.per_quarter, again.notes)
    kept = 2 * distance <= source.per_quarter
    kept |= notes[:, ONSET] < offset  # nothing begins before tick 0
    per_beat = TICKS_PER_QUARTER * source.per_quarter
    beat_ms = 60_000 / _tempo_at(source.tempos, notes[:, ONSET])
    alone, restruck = _compared(match, again.notes)
    shorter = notes[:, DURATION] * TICKS_PER_QUARTER - again.notes[match, DURATION] * source.per_quarter
    # Rounding both ends takes a tick at most: what lost more before its re-strike was cut there.
    compared = alone & ~(restruck & (shorter > source.per_quarter))
    lengths, length_ms = np.abs(shorter / per_beat)[compared], beat_ms[compared]
    louder = np.abs(again.notes[match, VELOCITY] - notes[:, VELOCITY])[alone]
    onsets = distance / per_beat
    return {
        "notes": len(source.notes),
        "notes_out_of_range": int(np.count_nonzero(~in_range)),
        "notes_in_range": len(notes),
        "notes_kept": int(np.count_nonzero(kept)),
        "notes_unison_merged": len(notes) - len(np.unique(match)),
        "notes_written": len(again.notes),
        "onset_error_beats": _mean_and_max(onsets),
        "onset_error_ms": _mean_and_max(onsets * beat_ms),
        "duration_error_beats": _mean_and_max(lengths),
        "duration_error_ms": _mean_and_max(lengths * length_ms),
        "velocity_error": _mean_and_max(louder),
    }


def _match(notes: Ints, offset: int, per_quarter: int, again: Notes) -> tuple[Ints, Ints]:
    """For each note of the file the note of the same pitch that begins nearest, and how far off it begins
    [1/(24 `per_quarter`) quarter]."""
    far = 1 << 50
    places = again[:, PITCH].astype(np.int64) * far + again[:, ONSET].astype(np.int64) * per_quarter
    order = np.argsort(places)
    wanted = notes[:, PITCH] * far + np.maximum(notes[:, ONSET] - offset, 0) * TICKS_PER_QUARTER
    after = np.searchsorted(places[order], wanted)
    # The later one first: exactly between two ticks, reading rounds up.
    sides = order[np.clip(np.stack([after, after - 1]), 0, len(again) - 1)]
    distances = np.abs(places[sides] - wanted)
    nearer = np.argmin(distances, axis=0)
    each = np.arange(len(notes))
    return sides[nearer, each], distances[nearer, each]


def _compared(match: Ints, again: Notes) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which notes of the file are alone in their match, and which matches end where their pitch is struck again."""
    alone = np.bincount(match, minlength=len(again))[match] == 1
    order = np.lexsort((again[:, ONSET], again[:, PITCH]))
    ordered = again[order]
    meets = ordered[:-1, PITCH] == ordered[1:, PITCH]
    meets &= ordered[:-1, ONSET] + ordered[:-1, DURATION] == ordered[1:, ONSET]
    restruck = np.zeros(len(again), np.bool_)
    restruck[order[:-1][meets]] = True
    return alone, restruck[match]


def _tempo_at(tempos: Sequence[tuple[int, float]], ticks: Ints) -> Floats:
    times = np.array([-1, *(time for time, _ in tempos)])
    values = np.array([120.0, *(value for _, value in tempos)])
    return np.asarray(values[np.searchsorted(times, ticks, side="right") - 1])


def _tempo_report(source: _Source, again: Score) -> dict[str, Any]:
    """How far the tempo in force is off at each change of the file that holds for a grid tick or more."""
    wanted = {_tick(time, source): min(max(value, SLOWEST), FASTEST) for time, value in source.tempos}
    given = _tempo_at(
        [(tempo.onset, tempo.quarters_per_minute) for tempo in again.tempos], np.array([*wanted], dtype=np.int64)
    )
    errors = [abs(have / want - 1) for want, have in zip(wanted.values(), given, strict=True)]
    return {
        "changes": len(source.tempos),
        "kept": len(wanted),
        "error_max_percent": round(100 * float(max(errors, default=0)), 4),
    }


def _tick(time: int, source: _Source) -> int:
    return int(midi.to_grid(time, source.per_quarter))


def _mean_and_max(errors: npt.NDArray[Any]) -> dict[str, float]:
    if not len(errors):
        return {"mean": 0.0, "max": 0.0}
    return {"mean": round(float(np.mean(errors)), 6), "max": round(float(np.max(errors)), 6)}


_ERRORS = ("onset_error_beats", "onset_error_ms", "duration_error_beats", "duration_error_ms", "velocity_error")
_COUNTS = ("words", "notes", "notes_out_of_range", "notes_in_range", "notes_kept", "notes_unison_merged",
           "notes_written")  # fmt: skip


def totals(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Sums over the rows of files that could be read; means are weighted by notes."""
    read = [row for row in rows if "error" not in row]
    total: dict[str, Any] = {
        "files": len(rows),
        "unreadable": len(rows) - len(read),
        "idempotent": sum(row["idempotent"] for row in read),
        "grammatical": sum(row["grammatical"] for row in read),
        "onsets_exact": sum(row["onset_error_beats"]["max"] == 0 for row in read),
        "with_offset": sum(row["offset_beats"] != 0 for row in read),
    }
    total |= {name: sum(row[name] for row in read) for name in _COUNTS}
    for name in _ERRORS:
        weighted = sum(row[name]["mean"] * row["notes_in_range"] for row in read)
        total[name] = {
            "mean": round(weighted / max(total["notes_in_range"], 1), 6),
            "max": max((row[name]["max"] for row in read), default=0.0),
        }
    for name in ("tempo", "metre", "pedal"):
        total[name] = {key: sum(row[name][key] for row in read) for key in ("changes", "kept")}
    total["tempo"]["error_max_percent"] = max((row["tempo"]["error_max_percent"] for row in read), default=0.0)
    names = sorted({name for row in read for name in row["losses"]})
    total["losses"] = {name: sum(row["losses"].get(name, 0) for row in read) for name in names}
    return total


def as_table(report: dict[str, Any]) -> str:
    """The report as lines of text: one a file, then the totals."""
    lines = []
    for row in report["files"]:
        if "error" in row:
            lines.append(row["error"])
            continue
        lines.append(
            f"{row['path']}: {row['notes_kept']} of {row['notes_in_range']} notes kept, "
            f"{row['notes_unison_merged']} merged, onsets off by {row['onset_error_ms']['max']:.1f} ms at most, "
            f"durations by {row['duration_error_ms']['max']:.1f} ms, "
            f"{'the same' if row['idempotent'] else 'OTHER'} words again"
        )
    total = report["totals"]
    lines.append(
        f"{total['files']} files ({total['unreadable']} unreadable): {total['idempotent']} idempotent, "
        f"{total['notes_kept']} of {total['notes_in_range']} notes kept, onsets exact in {total['onsets_exact']}"
    )
    return "\n".join(lines)
