"""Pieces that a model, or the arranger, writes for an evaluation, as the MIDI that a user would get."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from plagal.asking.arranged import arranged
from plagal.compose.row import Constraint
from plagal.compose.write import write
from plagal.evaluation.asking import request_for
from plagal.evaluation.control import Asked
from plagal.model.base import LanguageModel
from plagal.model.scorer import ModelScorer
from plagal.music.midi import read_midi, to_midi_bytes
from plagal.music.pianoroll import write_piano_roll
from plagal.music.score import Score
from plagal.plumbing.errors import InputError
from plagal.plumbing.files import atomic_path
from plagal.plumbing.params import EvaluateSettings
from plagal.tokens.codec import decode, encode


@dataclass(frozen=True)
class Sample:
    """A generated piece; what follows from its words is computed once."""

    asked: Asked
    words: tuple[str, ...]

    @cached_property
    def score(self) -> Score:
        return decode(self.words).score

    @cached_property
    def midi(self) -> bytes:
        return to_midi_bytes(self.score)

    @cached_property
    def read_back(self) -> Score:
        """What the written MIDI says."""
        return read_midi(self.midi) if len(self.score.notes) else self.score

    @cached_property
    def validity(self) -> Validity:
        return check_midi(self.midi)


def write_samples(
    lm: LanguageModel, asked: Sequence[Asked], settings: EvaluateSettings, seed: int, constraint: Constraint = "asked"
) -> list[Sample]:
    """One piece for each prompt, through the door that users come by. `constraint` "none": nothing is forced nor
    listened to, and the prompt alone has to do."""
    requests = [request_for(one, settings).again((seed << 20) + number) for number, one in enumerate(asked)]
    pieces = write(ModelScorer(lm), requests, max_words=settings.max_words, constraint=constraint, progress=True)
    return [Sample(one, tuple(words)) for one, words in zip(asked, pieces, strict=True)]


def arrangers_answer(asked: Asked, settings: EvaluateSettings, seed: int) -> Sample | None:
    """The arranger's piece for a prompt; None where it has no tune for what is asked."""
    try:
        return Sample(asked, tuple(encode(arranged(request_for(asked, settings).again(seed)))))
    except InputError:
        return None


def valid_share(samples: Sequence[Sample]) -> float | None:
    """None where there are no samples."""
    return sum(sample.validity.valid for sample in samples) / len(samples) if samples else None


def one_of_each_style(samples: Sequence[Sample], count: int) -> list[Sample]:
    """The first of each style, then the second of each, ..., up to `count`; valid ones before others."""
    turns: dict[str | None, int] = {}
    ranked = []
    for place, sample in enumerate(samples):
        turn = turns.get(sample.asked.style, 0)
        turns[sample.asked.style] = turn + 1
        ranked.append((not sample.validity.valid, turn, place))
    return [samples[place] for _, _, place in sorted(ranked)[:count]]


def keep_samples(samples: Sequence[Sample], folder: Path) -> list[Path]:
    """Write MIDI and a piano roll of each into `folder`, replaced as a whole. Returns the pictures' paths."""
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        for number, sample in enumerate(samples, 1):
            (temporary / f"sample{number}.mid").write_bytes(sample.midi)
            write_piano_roll(sample.read_back, temporary / f"sample{number}.png", title=sample.asked.prompt)
    return [folder / f"sample{number}.png" for number in range(1, len(samples) + 1)]


# --- Whether a file is valid, by two parsers that know nothing of each other (mido and symusic) ---
#
# A file is valid when both read it, both find the same notes (at least one), every note that begins also ends after it
# began, and its bars are full: every change of metre stands on a bar line, and no bar from the first to the last is
# silent.


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
