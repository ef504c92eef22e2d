"""Whose bar lines a MIDI file has: those that each of its voices shows by stress, or those of the notation it comes
from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from plagal.music.grid import bar_lines
from plagal.music.notation import load_notation
from plagal.music.score import HIGHEST_PITCH, LOWEST_PITCH, ONSET, PITCH, TICKS_PER_QUARTER, VELOCITY, Metre, Score
from shared.places import chorales

USUAL_VELOCITY = 80
FEWEST_BARS = 8


@dataclass
class Stressed:
    """A file that abc2midi wrote: what sounds, and the first notes of bars, which it plays loudest, voice by voice."""

    notes: list[tuple[int, int]]
    """(onset, pitch), each once."""
    voices: list[tuple[set[int], set[int]]]
    """Of each voice that shows its bars: onsets played loudest, and the others."""
    stated_bar: int
    """[ticks] What the file says of its metre, 4/4 where it says nothing."""


def stressed(path: Path) -> Stressed:
    """By mido alone. A voice that is loud in fewer than half as many places as the loudest one shows nothing."""
    import mido

    file = mido.MidiFile(path, clip=True)
    times = [m for track in file.tracks for m in track if m.type == "time_signature"]
    bar = 4 * TICKS_PER_QUARTER * times[0].numerator // times[0].denominator if times else 4 * TICKS_PER_QUARTER
    tracks = []
    for track in file.tracks:
        now, struck = 0, []
        for message in track:
            now += message.time
            if message.type == "note_on" and message.velocity and message.channel != 9:
                onset = (2 * TICKS_PER_QUARTER * max(now - 1, 0) + file.ticks_per_beat) // (2 * file.ticks_per_beat)
                struck.append((onset, message.note, message.velocity))
        tracks.append(struck)
    every = [note for struck in tracks for note in struck]
    loudest = max(velocity for *_, velocity in every)
    voices = [
        ({onset for onset, _, velocity in struck if velocity == loudest}, {onset for onset, *_ in struck})
        for struck in tracks
    ]
    most = max(len(loud) for loud, _ in voices)
    shown = [(loud, every_onset - loud) for loud, every_onset in voices if 2 * len(loud) >= most]
    heard = sorted({(onset, pitch) for onset, pitch, _ in every if LOWEST_PITCH <= pitch <= HIGHEST_PITCH})
    return Stressed(heard, shown, bar)


def lines_of(score: Score) -> list[int]:
    end = int(score.notes[:, ONSET].max())
    return [int(line) for line in bar_lines(score.metres, end)[0] if 0 < line <= end]


def agrees(lines: list[int], loud: set[int], soft: set[int], bar: int) -> bool:
    """Whether these are the bar lines of a voice: all that it stresses, each within a tick, and no other that it
    strikes, but in music of two bars and more without a bar line."""
    if any(not _near(onset, set(lines)) for onset in loud if onset > 1):
        return False
    known = sorted({0, *loud})
    bar = min(bar, int(np.median(np.diff(known))))
    for line in lines:
        if not _near(line, loud) and _near(line, soft):
            before = max(onset for onset in known if onset <= line + 1)
            after = min((onset for onset in known if onset > line + 1), default=line + 2 * bar)
            if after - before < 2 * bar - 1:
                return False
    return True


def _near(onset: int, others: set[int]) -> bool:
    return not others.isdisjoint((onset - 1, onset, onset + 1))


def same_notes(score: Score, notes: list[tuple[int, int]]) -> bool:
    """Whether each key that is struck is one of ours, within a tick, or counted among the parts that are not the
    piano's; and nothing else is."""
    ours = {(int(row[ONSET]), int(row[PITCH])) for row in score.notes}
    left = sum(all((onset + late, pitch) not in ours for late in (-1, 0, 1)) for onset, pitch in notes)
    theirs = set(notes)
    added = sum(all((onset + late, pitch) not in theirs for late in (-1, 0, 1)) for onset, pitch in ours)
    return not added and left <= score.losses.get("notes_other_parts", 0)


def upbeat_of(score: Score, bar: int) -> int:
    """Ticks of the first bar where it is shorter than `bar`, which the file states, and than the next, else 0."""
    first, *others = score.metres
    short = bool(others) and others[0].onset == first.bar_ticks < min(bar, others[0].bar_ticks)
    return first.bar_ticks if short else 0


def flat(score: Score) -> Score:
    """All notes equally loud, as LilyPond writes a piece without dynamics."""
    notes = score.notes.copy()
    notes[:, VELOCITY] = USUAL_VELOCITY
    return replace(score, notes=notes)


def notated(every: int) -> list[tuple[Path, Score, int]]:
    """Chorales in one metre, one of `every`, as programs write them to MIDI: the first note at tick 0, the metre too,
    all equally loud; and how long their upbeats are by their notation [ticks]."""
    found = []
    for path in chorales()[::every]:
        score = load_notation(path)
        metre = score.metres[0]
        first = int(score.notes[:, ONSET].min())
        if len(score.metres) > 1 or int(score.notes[:, ONSET].max()) < FEWEST_BARS * metre.bar_ticks:
            continue
        notes = score.notes - np.array([first if column == ONSET else 0 for column in range(4)], dtype=np.int32)
        found.append((path, flat(Score(notes, (metre,))), -first % metre.bar_ticks))
    return found


def with_own_upbeat(score: Score, upbeat: int) -> Score:
    """MuseScore's way: the upbeat is a bar of its own in the file."""
    metre = score.metres[0]
    return replace(score, metres=(Metre(0, upbeat // 3, 32), replace(metre, onset=upbeat))) if upbeat else score
