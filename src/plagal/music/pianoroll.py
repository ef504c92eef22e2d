"""Pictures of music. A piece as a musician reads it at once: keys at the left, bars from left to right, chords above,
the hands in two colours, louder notes darker, the pedal below. And what was played, under the beats heard in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plagal.music.grid import bar_lines
from plagal.music.hands import in_two_hands
from plagal.music.harmony import hear_chords
from plagal.music.performance.hear import Heard
from plagal.music.performance.played import Played
from plagal.music.score import DURATION, ONSET, PITCH, TICKS_PER_QUARTER, VELOCITY, Metre, Score
from plagal.plumbing.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RIGHT, LEFT, INK, FAINT, PAPER = "#1f5f8b", "#c0562f", "#22262b", "#d9d4cb", "#fffdf8"
_BLACK_KEYS = frozenset({1, 3, 6, 8, 10})
_MOST_ROWS = 6
_DPI = 110
_FLATS = {"b": "♭", "#": "♯"}


@dataclass(frozen=True)
class _Bar:
    number: int
    begin: int
    end: int
    metre: Metre


def bars_of(score: Score) -> list[_Bar]:
    """The bars from the start to the end of the last note, in ticks."""
    last = int((score.notes[:, ONSET] + score.notes[:, DURATION]).max(initial=1))
    starts, lengths = bar_lines(score.metres, last - 1)
    metres = np.searchsorted([metre.onset for metre in score.metres], starts, side="right") - 1
    rows = zip(starts.tolist(), (starts + lengths).tolist(), metres.tolist(), strict=True)
    return [
        _Bar(number, begin, end, score.metres[at]) for number, (begin, end, at) in enumerate(rows, 1) if begin < last
    ]


def write_piano_roll(
    score: Score, path: str | Path, title: str = "", bars_per_row: int = 4, max_bars: int = 16
) -> None:
    """Write a PNG of the first `max_bars` bars, `bars_per_row` to a row. Chords are those that the score asserts, or,
    where it asserts none, those heard in it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    bars = bars_of(score)[:max_bars]
    rows = [bars[begin : begin + bars_per_row] for begin in range(0, len(bars), bars_per_row)][:_MOST_ROWS] or [[]]
    low, high = _range(score, bars[-1].end if bars else 1)
    height = 1.1 + len(rows) * (0.8 + (high - low) * 0.075)
    figure = Figure(figsize=(12.5, height), dpi=_DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    picture = _Picture(in_two_hands(score), low, high, chords_of(score))
    widest = max((row[-1].end - row[0].begin for row in rows if row), default=1)
    for place, row in enumerate(rows):
        top = 1 - (0.8 + place * (height - 1.0) / len(rows)) / height
        tall = ((height - 1.0) / len(rows) - 0.62) / height
        keyboard = figure.add_axes((0.025, top - tall - 0.1 / height, 0.032, tall))
        wide = 0.925 * ((row[-1].end - row[0].begin) / widest if row else 1)
        roll = figure.add_axes((0.057, top - tall - 0.1 / height, wide, tall))
        picture.keyboard(keyboard)
        picture.roll(roll, row)
    _head(figure, score, title, height)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def chords_of(score: Score) -> list[tuple[int, str]]:
    """(onset [ticks], symbol) of each chord that the score asserts, else of each that is heard in it."""
    asserted = [(marker.onset, marker.text) for marker in score.markers if marker.kind == "chord"]
    return asserted or [(onset, chord.symbol) for onset, chord in hear_chords(score)]


def pretty_chord(symbol: str) -> str:
    """As musicians write it: Dbmaj9 -> D♭maj9, Cdom7 -> C7, Amin7 -> Am7, Bhalfdim7 -> Bø7, Fmaj -> F."""
    head, slash, bass = symbol.partition("/")
    length = 2 if len(head) > 1 and head[1] in "b#" else 1
    root, quality = head[:length], head[length:]
    quality = {"maj": "", "min": "m", "halfdim7": "ø7", "dim7": "°7", "dim": "°", "aug": "+"}.get(quality, quality)
    quality = re.sub(r"^min((?:maj|add)\d+)$", r"m(\1)", quality.replace("dom", ""))
    quality = "m" + quality[3:] if quality.startswith("min") else quality
    for plain, sign in _FLATS.items():
        root, quality, bass = root.replace(plain, sign), quality.replace(plain, sign), bass.replace(plain, sign)
    return f"{root}{quality}{slash}{bass}"


def _range(score: Score, end: int) -> tuple[int, int]:
    """The keys that are played before `end` and one beside them, two octaves around middle C at least."""
    shown = score.notes[score.notes[:, ONSET] < end]
    pitches = shown[:, PITCH] if len(shown) else np.array([48, 71])
    low, high = int(pitches.min()) - 1, int(pitches.max()) + 1
    return max(21, min(low, 47)), min(108, max(high, 72))


def _head(figure: Any, score: Score, title: str, height: float) -> None:
    tempo = f"♩ = {score.tempos[0].quarters_per_minute:.0f}" if score.tempos else ""
    metre = f"{score.metres[0].numerator}/{score.metres[0].denominator}" if score.metres else ""
    figure.text(0.025, 1 - 0.36 / height, title or score.title, fontsize=15, weight="bold", color=INK, va="center")
    place = 0.982
    for text, colour in (("left hand", LEFT), ("right hand", RIGHT), (f"{metre}    {tempo}      ", INK)):
        label = figure.text(place, 1 - 0.36 / height, text, fontsize=10, color=colour, ha="right", va="center")
        place -= label.get_window_extent().width / figure.bbox.width + 0.014


@dataclass(frozen=True)
class _Picture:
    score: Score
    low: int
    high: int
    chords: list[tuple[int, str]]

    def keyboard(self, axes: Axes) -> None:
        from matplotlib.patches import Rectangle

        axes.set(xlim=(0, 1), ylim=(self.low - 0.5, self.high + 0.5), facecolor="white")
        for pitch in range(self.low, self.high + 1):
            if pitch % 12 in _BLACK_KEYS:
                axes.add_patch(Rectangle((0, pitch - 0.42), 0.62, 0.84, color=INK, linewidth=0, zorder=3))
                axes.plot([0.62, 1], [pitch, pitch], color="#a9a59d", linewidth=0.6)
            elif pitch % 12 in (4, 11):
                axes.plot([0, 1], [pitch + 0.5, pitch + 0.5], color="#a9a59d", linewidth=0.6)
            if pitch % 12 == 0:
                axes.text(-0.14, pitch, f"C{pitch // 12 - 1}", ha="right", va="center", fontsize=7.5, color=INK)
        self._frame(axes)

    def roll(self, axes: Axes, bars: list[_Bar]) -> None:
        axes.set(xlim=(bars[0].begin, bars[-1].end) if bars else (0, 1), facecolor="white")
        axes.set_ylim(self.low - 0.5, self.high + 0.5)
        for pitch in range(self.low, self.high + 1):
            if pitch % 12 in _BLACK_KEYS:
                axes.axhspan(pitch - 0.5, pitch + 0.5, color="#f3f1ec", linewidth=0, zorder=0)
            elif pitch % 12 == 0:
                axes.axhline(pitch - 0.5, color=FAINT, linewidth=0.9, zorder=1)
        for bar in bars:
            self._bar(axes, bar)
        if bars:
            self._chords(axes, bars)
            self._notes(axes, bars[0].begin, bars[-1].end)
            self._pedal(axes, bars[0].begin, bars[-1].end)
        self._frame(axes)

    def _frame(self, axes: Axes) -> None:
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set(color="#8d8a83", linewidth=0.8)

    def _bar(self, axes: Axes, bar: _Bar) -> None:
        axes.axvline(bar.begin, color="#77736b", linewidth=1.1, zorder=2)
        beat = TICKS_PER_QUARTER * (3 if bar.metre.denominator == 8 and bar.metre.numerator % 3 == 0 else 2) // 2
        beat = beat if bar.metre.denominator >= 4 else 2 * beat
        for tick in range(bar.begin + beat, bar.end, beat):
            axes.axvline(tick, color=FAINT, linewidth=0.7, linestyle=(0, (2, 2)), zorder=1)
        number = axes.annotate(
            str(bar.number), (bar.begin, 0), (1, -8), xycoords=("data", "axes fraction"), textcoords="offset points"
        )
        number.set(fontsize=8, color="#77736b", va="top")

    def _chords(self, axes: Axes, bars: list[_Bar]) -> None:
        begin, end = bars[0].begin, bars[-1].end
        before = [symbol for onset, symbol in self.chords if onset < begin]
        shown = [(onset, symbol, 1.0) for onset, symbol in self.chords if begin <= onset < end]
        if before and (not shown or shown[0][0] > begin):
            shown.insert(0, (begin, before[-1], 0.45))
        gaps = [after[0] - one[0] for one, after in pairwise(shown)]
        room = min(gaps, default=end - begin) / (end - begin) * 900
        size = 10.5 if room > 55 else 8.5 if room > 38 else 7
        for onset, symbol, strength in shown:
            label = axes.annotate(
                pretty_chord(symbol), (onset, 1), (2, 4), xycoords=("data", "axes fraction"), textcoords="offset points"
            )
            label.set(fontsize=size, weight="bold", color=INK, alpha=strength, va="bottom")

    def _notes(self, axes: Axes, begin: int, end: int) -> None:
        from matplotlib.colors import to_rgb
        from matplotlib.patches import FancyBboxPatch

        notes, hands = self.score.notes, self.score.hands
        ends = notes[:, ONSET] + notes[:, DURATION]
        for index in np.flatnonzero((notes[:, ONSET] < end) & (ends > begin)):
            start, stop = max(int(notes[index, ONSET]), begin), min(int(ends[index]), end)
            loud = 0.45 + 0.55 * min(1.0, notes[index, VELOCITY] / 100)
            shade = np.array(to_rgb(LEFT if hands is not None and hands[index] == 0 else RIGHT)) * loud + np.ones(3) * (
                1 - loud
            )
            box = FancyBboxPatch(
                (start + 0.3, notes[index, PITCH] - 0.36), max(stop - start - 0.9, 0.5), 0.72,
                boxstyle="round,pad=0,rounding_size=0.28", mutation_aspect=0.3, facecolor=tuple(shade),
                edgecolor=(*(shade * 0.72),), linewidth=0.6, zorder=4,
            )  # fmt: skip
            axes.add_patch(box)

    def _pedal(self, axes: Axes, begin: int, end: int) -> None:
        """A line under the roll wherever the sustain pedal is down."""
        down: int | None = None
        for onset, state in [*((pedal.onset, pedal.state) for pedal in self.score.pedals), (end, "off")]:
            if down is not None and min(onset, end) > max(down, begin):
                axes.plot(
                    [max(down, begin), min(onset, end) - 1], [-0.022, -0.022], transform=axes.get_xaxis_transform(),
                    clip_on=False, color="#9a8fb8", linewidth=2, solid_capstyle="butt",
                )  # fmt: skip
            down = None if state == "off" else onset


_SECONDS_A_ROW = 20.0


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
