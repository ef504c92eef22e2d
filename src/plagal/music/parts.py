"""Which tracks of a file are the piano, which hand each plays, and what two hands can play where none is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from plagal.music.hands import reachable, together
from plagal.music.score import Hands, Score

if TYPE_CHECKING:
    import symusic

_PIANO = range(8)
_ORGAN = range(16, 21)
"""General MIDI's programs: pianos and clavichords; organs, whose hymns lie under two hands as well."""
_PIANO_NAME = re.compile(r"\b(piano|pno|keys|keyboards?|rhodes|[lr]\.? ?h\.?|(left|right)[ _-]?hand)\b", re.IGNORECASE)
_VOICE_NAME = re.compile(r"\b(melody|vocals?|voice|lead|sing\w*|soprano|alto|tenor|choir|solo)\b", re.IGNORECASE)
_LEFT_NAME = re.compile(r"\b(l\.? ?h\.?|left|lower|bass clef)\b", re.IGNORECASE)
_RIGHT_NAME = re.compile(r"\b(r\.? ?h\.?|right|upper|treble)\b", re.IGNORECASE)
_MIDDLE = 60
"""Middle C: where the hands part in a reduction."""


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


def reduced(score: Score) -> Score:
    """The score in two hands that can play it: the left keeps the bass and what lies near it, the right the top line
    and what lies near that. How many notes went is counted in `losses` as `notes_reduced`."""
    notes = [(int(a), int(b), int(c), int(d)) for a, b, c, d in score.notes]
    right = reachable(note for note in notes if note[1] >= _MIDDLE)
    left = reachable((note for note in notes if note[1] < _MIDDLE), left=True)
    kept = together(left, right)
    array = np.array(kept, dtype=np.int32).reshape(-1, 4)
    hands: Hands = (array[:, 1] >= _MIDDLE).astype(np.int8)
    losses = score.losses | {"notes_reduced": len(notes) - len(kept)}
    return Score(array, score.metres, score.tempos, score.keys, (), score.markers, score.title, losses, hands)
