"""Pieces that a model writes for an evaluation, as the MIDI that a user would get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from plagal.compose.decoding import Request, generate
from plagal.compose.rerank import generate_as_asked
from plagal.evaluation.asking import request_for
from plagal.evaluation.control import Asked
from plagal.evaluation.validity import Validity, check_midi
from plagal.model.base import LanguageModel
from plagal.music.midi import read_midi, to_midi_bytes
from plagal.music.pianoroll import write_piano_roll
from plagal.music.score import Score
from plagal.plumbing.files import atomic_path
from plagal.plumbing.params import EvaluateSettings
from plagal.tokens.codec import decode


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
    lm: LanguageModel, asked: Sequence[Asked], settings: EvaluateSettings, seed: int, grammar: bool = True
) -> list[Sample]:
    """One piece for each prompt. Without the grammar nothing is forced nor listened to: the prompt alone has to do."""
    requests = [request_for(one) if grammar else Request(one.prompt) for one in asked]
    write = generate_as_asked if grammar else partial(generate, grammar=False)
    pieces = write(
        lm, requests, seed=seed, temperature=settings.temperature, top_p=settings.top_p,
        max_words=settings.max_words, progress=True,
    )  # fmt: skip
    return [Sample(one, tuple(words)) for one, words in zip(asked, pieces, strict=True)]


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
