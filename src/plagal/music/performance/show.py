"""What a pulse looks and sounds like: a picture of the notes under its beats, the playing with a click beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from plagal.music.performance.hear import Heard
from plagal.music.performance.played import Played
from plagal.music.pianoroll import FAINT, INK, LEFT, PAPER, RIGHT
from plagal.music.score import DURATION, ONSET, PITCH
from plagal.plumbing.files import atomic_path

_SECONDS_A_ROW = 20.0
_MOST_ROWS = 6
_TICKS_A_SECOND = 960
"""Of the click's file: at 120 quarters a minute and 480 ticks to the quarter a tick is about a millisecond."""
_HIGH_CLICK, _LOW_CLICK = 76, 77
"""General MIDI's wood blocks: downbeat and beat."""


def write_picture(played: Played, heard: Heard, path: str | Path) -> None:
    """Write a PNG: keys against seconds in rows of 20 s (the first two minutes), a line for each beat, a thick one with
    its bar's number for each downbeat, and the tempo curve of the whole piece under them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    notes, pulse = played.notes, heard.pulse
    rows = min(_MOST_ROWS, int(played.seconds // _SECONDS_A_ROW) + 1)
    figure = Figure(figsize=(14, 1.9 * rows + 2.2), dpi=100, facecolor=PAPER)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(rows + 1, 1, left=0.05, right=0.98, top=0.94, bottom=0.07, hspace=0.35)
    low, high = notes[:, PITCH].min() - 2, notes[:, PITCH].max() + 4
    bar = np.cumsum(pulse.in_bar == 0)
    for row in range(rows):
        axes = figure.add_subplot(grid[row])
        begin, end = row * _SECONDS_A_ROW, (row + 1) * _SECONDS_A_ROW
        shown = notes[(notes[:, ONSET] < end) & (notes[:, ONSET] + notes[:, DURATION] > begin)]
        colours = np.where(shown[:, PITCH] >= 60, RIGHT, LEFT)
        axes.barh(
            shown[:, PITCH], shown[:, DURATION], left=shown[:, ONSET], height=0.9, color=colours.tolist(), linewidth=0
        )
        for second, place, number in zip(pulse.seconds, pulse.in_bar, bar, strict=True):
            if begin <= second < end:
                axes.axvline(second, color=INK if place == 0 else FAINT, linewidth=1.4 if place == 0 else 0.8, zorder=0)
                if place == 0:
                    axes.text(second, high - 1, f" {number}", fontsize=7, va="top", color=INK)
        axes.set(xlim=(begin, end), ylim=(low, high), facecolor=PAPER)
        axes.tick_params(labelsize=7)
    curve = figure.add_subplot(grid[rows])
    tempo = 60.0 / np.maximum(np.diff(pulse.seconds), 0.05)
    curve.step(pulse.seconds[:-1], tempo, where="post", color=RIGHT, linewidth=1.0)
    curve.set(facecolor=PAPER, xlim=(0, played.seconds), ylim=(0, 1.15 * float(np.quantile(tempo, 0.98))))
    curve.set_xlabel("seconds", fontsize=8)
    curve.set_ylabel("beats a minute", fontsize=8)
    curve.tick_params(labelsize=7)
    title = f"{pulse.metre}, about {pulse.bpm:.0f} beats a minute, confidence {heard.confidence:.2f}"
    if played.seconds > rows * _SECONDS_A_ROW:
        title += f"; keys of the first {rows * _SECONDS_A_ROW:.0f} of {played.seconds:.0f} seconds"
    figure.suptitle(title, fontsize=10, color=INK)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def write_click(played: Played, heard: Heard, path: str | Path) -> None:
    """Write a MIDI file of the playing as it was, and a wood block on channel 10 at each beat, higher at downbeats."""
    import symusic

    file = symusic.Score(480)
    file.tempos.append(symusic.Tempo(0, 120.0))
    piano = symusic.Track(name=played.title.encode("utf-8", "replace").decode(), program=0, is_drum=False)
    for onset, pitch, duration, velocity in played.notes.tolist():
        begin = round(onset * _TICKS_A_SECOND)
        ticks = max(1, round(duration * _TICKS_A_SECOND))
        piano.notes.append(symusic.Note(begin, ticks, int(pitch), int(velocity)))
    for second, down in played.pedal.tolist():
        piano.controls.append(symusic.ControlChange(round(second * _TICKS_A_SECOND), 64, 127 if down else 0))
    click = symusic.Track(name="click", program=0, is_drum=True)
    for second, place in zip(heard.pulse.seconds.tolist(), heard.pulse.in_bar.tolist(), strict=True):
        pitch = _LOW_CLICK if place else _HIGH_CLICK
        click.notes.append(symusic.Note(round(max(second, 0.0) * _TICKS_A_SECOND), 48, pitch, 80 if place else 110))
    file.tracks.append(piano)
    file.tracks.append(click)
    with atomic_path(path) as temporary:
        temporary.write_bytes(bytes(file.dumps_midi()))
