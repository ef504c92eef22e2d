"""Whether a MIDI file is one, by two parsers that know nothing of each other (mido and symusic).

A file is valid when both read it, both find the same notes (at least one), every note that begins also ends after it
began, and its bars are full: every change of metre stands on a bar line, and no bar from the first to the last is
silent.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Validity:
    """What is wrong with a file, in words; valid when nothing is."""

    problems: tuple[str, ...]

    @property
    def valid(self) -> bool:
        return not self.problems


def check_midi(source: str | Path | bytes) -> Validity:
    """Check a MIDI file by path or its bytes. Never raises for what stands in it; OSError where it cannot be opened."""
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    heard, problems = _by_mido(data)
    problems += _by_symusic(data, heard)
    return Validity(tuple(problems))


def _by_mido(data: bytes) -> tuple[int, list[str]]:
    """Notes that end, and problems, from the raw events."""
    import mido

    try:
        midi = mido.MidiFile(file=io.BytesIO(data))
    except Exception as error:  # mido raises OSError, EOFError, KeySignatureError, ValueError, IndexError, ...
        return 0, [f"mido cannot read it: {error}"]
    ended, problems = 0, []
    for track in midi.tracks:
        sounding: dict[tuple[int, int], list[int]] = {}
        now = 0
        for message in track:
            now += message.time
            if message.type not in ("note_on", "note_off"):
                continue
            key = (message.channel, message.note)
            if message.type == "note_on" and message.velocity:
                sounding.setdefault(key, []).append(now)
            elif sounding.get(key):
                if now <= sounding[key].pop(0):
                    problems.append(f"note {message.note} lasts no time at tick {now}")
                ended += 1
        hanging = sum(len(begun) for begun in sounding.values())
        if hanging:
            problems.append(f"{hanging} notes never end")
    if not ended:
        problems.append("no notes")
    return ended, problems


def _by_symusic(data: bytes, heard: int) -> list[str]:
    import symusic

    try:
        score = symusic.Score.from_midi(data)
    except Exception as error:  # symusic raises RuntimeError and ValueError of several kinds
        return [f"symusic cannot read it: {error}"]
    notes = [(note.start, note.end) for track in score.tracks for note in track.notes]
    if len(notes) != heard:
        return [f"symusic finds {len(notes)} notes, mido {heard}"]
    metres = sorted((metre.time, metre.numerator, metre.denominator) for metre in score.time_signatures)
    return _bars_not_full(notes, metres, score.ticks_per_quarter) if notes else []


def _bars_not_full(notes: list[tuple[int, int]], metres: list[tuple[int, int, int]], quarter: int) -> list[str]:
    """`notes`: (start, end); `metres`: (time, numerator, denominator); all times and `quarter` in ticks."""
    last = max(end for _, end in notes)
    lines, problems = _bar_lines(metres, last, quarter)
    changes = [0] * (len(lines) + 1)
    for start, end in notes:
        changes[bisect_right(lines, start) - 1] += 1
        changes[bisect_right(lines, max(start, end - 1))] -= 1
    sounding = 0
    for bar, change in enumerate(changes[: len(lines)]):
        sounding += change
        if not sounding:
            problems.append(f"bar {bar + 1} is silent")
    return problems


def _bar_lines(metres: list[tuple[int, int, int]], last: int, quarter: int) -> tuple[list[int], list[str]]:
    """Where bars begin, up to the tick where the last note ends; and what is wrong with them."""
    lines: list[int] = []
    problems, line = [], 0
    waiting = list(metres)
    length = 4 * quarter
    while line < last or not lines:
        while waiting and waiting[0][0] <= line:
            time, numerator, denominator = waiting.pop(0)
            if time < line:
                problems.append(f"the metre changes inside a bar, at tick {time}")
            length = max(1, 4 * quarter * numerator // denominator)
        lines.append(line)
        line += length
    problems += [f"the metre changes inside a bar, at tick {time}" for time, *_ in waiting if time < line]
    return lines, problems
