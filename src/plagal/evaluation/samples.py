"""Pieces that a model, or the arranger, writes for an evaluation, as the MIDI that a user would get."""

from __future__ import annotations

import io
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path

from plagal.asking.prompt import read_prompt
from plagal.asking.request import Request, arranged, read_request
from plagal.asking.wording import facts_of, held_out_prompt
from plagal.compose.row import Constraint
from plagal.compose.write import write
from plagal.evaluation.control import Asked
from plagal.evaluation.likelihood import TextPiece
from plagal.model.base import LanguageModel
from plagal.model.scorer import ModelScorer
from plagal.music.chords import parse_chord
from plagal.music.keys import parse_key
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
    listened to; the prompt has to do, and the bars that are left, which the model reads as in training text."""
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
    turns: Counter[str | None] = Counter()
    ranked = []
    for sample in samples:
        ranked.append((not sample.validity.valid, turns[sample.asked.style], sample))
        turns[sample.asked.style] += 1
    return [sample for *_, sample in sorted(ranked, key=lambda rank: rank[:2])[:count]]


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
    return Validity((*problems, *_by_symusic(data, heard)))


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
        if hanging := sum(map(len, sounding.values())):
            problems.append(f"{hanging} notes never end")
    return ended, problems if ended else [*problems, "no notes"]


def _by_symusic(data: bytes, heard: int) -> list[str]:
    """Problems of a file in which mido `heard` so many notes: another count, and bars that are not full."""
    import symusic

    try:
        score = symusic.Score.from_midi(data)
    except Exception as error:  # symusic raises RuntimeError and ValueError of several kinds
        return [f"symusic cannot read it: {error}"]
    notes = [(note.start, note.end) for track in score.tracks for note in track.notes]
    if len(notes) != heard:
        return [f"symusic finds {len(notes)} notes, mido {heard}"]
    if not notes:
        return []
    waiting = sorted((metre.time, metre.numerator, metre.denominator) for metre in score.time_signatures)
    last, whole = max(end for _, end in notes), 4 * score.ticks_per_quarter
    lines: list[int] = []
    problems, line, length = [], 0, whole
    while line < last or not lines:
        while waiting and waiting[0][0] <= line:
            time, numerator, denominator = waiting.pop(0)
            if time < line:
                problems.append(f"the metre changes inside a bar, at tick {time}")
            length = max(1, whole * numerator // denominator)
        lines.append(line)
        line += length
    problems += [f"the metre changes inside a bar, at tick {time}" for time, *_ in waiting if time < line]
    changes = [0] * (len(lines) + 1)
    for start, end in notes:
        changes[bisect_right(lines, start) - 1] += 1
        changes[bisect_right(lines, max(start, end - 1))] -= 1
    silent = [bar for bar, sounding in enumerate(accumulate(changes[:-1]), 1) if not sounding]
    return problems + [f"bar {bar} is silent" for bar in silent]


# --- What the generated pieces are asked for: prompts in wordings that training never saw, about held-out tunes. ---


def asked_for(piece: TextPiece, bars: int, seed: int, number: int) -> Asked:
    """A true prompt about a held-out piece, but for its length; what it names is what counts."""
    facts = replace(facts_of(piece.words, piece.genre, piece.style), bars=bars)
    prompt = held_out_prompt(facts, random.Random(f"{seed} {number}"))
    named = read_prompt(prompt)
    numerator, _, denominator = facts.metre.partition("/")
    return Asked(
        prompt=prompt,
        key=parse_key(facts.key) if named.key is not None and facts.key else None,
        tempo=facts.tempo if named.tempo is not None and not named.tempo_named else None,
        metre=(int(numerator), int(denominator)) if named.metre is not None else None,
        bars=bars,
        style=piece.style if named.style is not None else None,
        chords=tuple(parse_chord(symbol) for symbol in facts.chords) if named.chords else (),
    )


def true_of(piece: TextPiece) -> Asked:
    """What is true of a piece as it stands: how well ears hear real music is the ceiling of what they hear in ours."""
    facts = facts_of(piece.words, piece.genre, piece.style)
    numerator, _, denominator = facts.metre.partition("/")
    return Asked(
        prompt="",
        key=parse_key(facts.key) if facts.key else None,
        tempo=facts.tempo,
        metre=(int(numerator), int(denominator)),
        style=piece.style or None,
    )


def request_for(asked: Asked, settings: EvaluateSettings) -> Request:
    """What a user would send: the prompt, and as controls what it names."""
    return read_request({
        "prompt": asked.prompt, "key": asked.key, "tempo": asked.tempo, "metre": asked.metre, "bars": asked.bars,
        "beat": "quarter" if asked.tempo is not None else None,
        "chords": tuple((chord,) for chord in asked.chords) or None,
        "temperature": settings.temperature, "top_p": settings.top_p,
    })  # fmt: skip
