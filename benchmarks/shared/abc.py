"""A score as ABC text, exact to the tick: what the notation can hold of it."""

from __future__ import annotations

from plagal.music.score import DURATION, ONSET, Key, Score

UNIT = 96
"""A tick is a 96th of a whole note."""
_SHARP = ("=C", "^C", "=D", "^D", "=E", "=F", "^F", "=G", "^G", "=A", "^A", "=B")
_FLAT = ("=C", "_D", "=D", "_E", "=E", "=F", "_G", "=G", "_A", "=A", "_B", "=B")
_MAJOR = ("Cb", "Gb", "Db", "Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#")
_MINOR = ("Abm", "Ebm", "Bbm", "Fm", "Cm", "Gm", "Dm", "Am", "Em", "Bm", "F#m", "C#m", "G#m", "D#m", "A#m")

Event = tuple[int, int, list[int]]
"""Onset, duration [ticks], pitches struck together."""


def abc_of(score: Score) -> str:
    """One tune; the first key and tempo stand for all, metres change between bars. Velocities and pedals are lost."""
    key = score.keys[0] if score.keys else Key(0, 0)
    spelled = _FLAT if key.fifths < 0 else _SHARP
    name = (_MINOR if key.minor else _MAJOR)[key.fifths + 7]
    first = score.metres[0]
    head = ["X:1", "T:tune", f"M:{first.numerator}/{first.denominator}", f"L:1/{UNIT}"]
    head += [f"Q:1/4={score.tempos[0].quarters_per_minute:g}", f"K:{name}"]
    bars = _bars(score)
    chords = {mark.onset: mark.text for mark in score.markers if mark.kind == "chord"}
    for number, voice in enumerate(_voices(score), 1):
        head.append(f"V:{number}")
        head += _voice_lines(voice, bars, spelled, chords if number == 1 else {})
    return "\n".join(head) + "\n"


def _bars(score: Score) -> list[tuple[int, int, str]]:
    """(begin, end, what is to be said before it) of each bar."""
    end = int((score.notes[:, ONSET] + score.notes[:, DURATION]).max())
    found: list[tuple[int, int, str]] = []
    begin, place = 0, 0
    while begin < end:
        said = ""
        if place + 1 < len(score.metres) and score.metres[place + 1].onset <= begin:
            place += 1
            said = f"M:{score.metres[place].numerator}/{score.metres[place].denominator}"
        found.append((begin, begin + score.metres[place].bar_ticks, said))
        begin += score.metres[place].bar_ticks
    return found


def _voices(score: Score) -> list[list[Event]]:
    """As few as it takes for none to sound two lengths at once."""
    together: dict[tuple[int, int], list[int]] = {}
    for onset, pitch, duration, _ in score.notes.tolist():
        together.setdefault((onset, duration), []).append(pitch)
    voices: list[list[Event]] = []
    for (onset, duration), pitches in sorted(together.items()):
        free = next((voice for voice in voices if voice[-1][0] + voice[-1][1] <= onset), None)
        if free is None:
            voices.append(free := [])
        free.append((onset, duration, pitches))
    return voices


def _voice_lines(voice: list[Event], bars: list[tuple[int, int, str]], spelled: tuple[str, ...],
                 chords: dict[int, str]) -> list[str]:  # fmt: skip
    lines, waiting = [], list(reversed(voice))
    for begin, end, said in bars:
        text, now = [], begin
        while now < end:
            if not waiting or waiting[-1][0] >= end:
                until, pitches, goes_on = end, [], False
            elif waiting[-1][0] > now:
                until, pitches, goes_on = waiting[-1][0], [], False
            else:
                onset, duration, pitches = waiting.pop()
                until = min(onset + duration, end)
                goes_on = onset + duration > end
                if goes_on:
                    waiting.append((end, onset + duration - end, pitches))
            symbol = f'"{chords.pop(now)}"' if now in chords else ""
            # A chord that changes in mid-note is written where the next note begins.
            text.append(f"{symbol}{_spelled(pitches, spelled)}{until - now}{'-' if goes_on else ''}")
            now = until
        lines += [said] if said else []
        lines.append(" ".join(text) + "|")
    return lines


def _spelled(pitches: list[int], spelled: tuple[str, ...]) -> str:
    names = []
    for pitch in pitches:
        octave, step = divmod(pitch, 12)
        name = spelled[step]
        names.append(name.lower() + "'" * (octave - 6) if octave >= 6 else name + "," * (5 - octave))
    return names[0] if len(names) == 1 else f"[{''.join(names)}]" if names else "z"
