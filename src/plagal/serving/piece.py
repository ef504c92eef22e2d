"""One piece for one prompt: what the prompt names is read, forced where the grammar can force it, and told back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from plagal.corpus.controls import Controls, parse_prompt
from plagal.errors import InputError
from plagal.model.base import LanguageModel, load
from plagal.model.decoding import Request, generate
from plagal.music.midi import write_midi
from plagal.music.score import Score
from plagal.music.tunebook import key_name
from plagal.tokens.codec import decode
from plagal.tokens.vocabulary import key_word, metre_word, tempo_word

USUAL_BARS = 16
"""Where neither prompt nor option says: four phrases of four bars."""
MOST_BARS = 64
USUAL_METRE = (4, 4)
_WORDS_A_BAR = 160
"""Room for a dense bar of two hands with chords; a piece closes in good order before it runs out."""
_LONGEST_PROMPT = 2000


@dataclass(frozen=True)
class Piece:
    """A generated piece: its words, from SONG_START to SONG_END, and its score."""

    prompt: str
    words: tuple[str, ...]

    @cached_property
    def score(self) -> Score:
        return decode(self.words).score

    @property
    def description(self) -> str:
        """Key, tempo, metre, bars and notes, for people."""
        score, bars = self.score, self.words.count("BAR_START")
        key = f"{key_name(score.keys[0])}, " if score.keys else ""
        metre, tempo = score.metres[0], score.tempos[0].quarters_per_minute
        return (
            f"{key}{metre.numerator}/{metre.denominator}, {tempo:g} quarters a minute, {bars} bars, "
            f"{len(score.notes)} notes"
        )

    def write(self, path: str | Path) -> None:
        """Write the MIDI, whole or not at all. Raises DiskError."""
        write_midi(self.score, path)


def generate_piece(
    prompt: str,
    model: str | Path = "models/fused",
    *,
    bars: int | None = None,
    seed: int = 0,
    temperature: float = 0.9,
    top_p: float = 0.95,
) -> Piece:
    """Write a piece for `prompt` with the model in a folder (loaded once a process). Same arguments, same piece.
    Raises ModelError for a folder that is no whole model, InputError for a prompt that cannot be served."""
    if len(prompt) > _LONGEST_PROMPT:
        raise InputError(f"the prompt has {len(prompt)} characters; at most {_LONGEST_PROMPT} are read")
    wanted = parse_prompt(prompt)
    length = bars or wanted.bars or USUAL_BARS
    if length > MOST_BARS:
        raise InputError(f"{length} bars asked for; at most {MOST_BARS} can be written at once")
    request = Request(prompt, forced_head(wanted), length)
    words = generate(
        _loaded(Path(model)), [request], seed=seed, temperature=temperature, top_p=top_p,
        max_words=length * _WORDS_A_BAR, progress=True,
    )[0]  # fmt: skip
    return Piece(prompt, tuple(words))


def forced_head(wanted: Controls) -> tuple[str, ...]:
    """The words that a piece must begin with: key, metre and tempo where named. A named tempo needs a metre before it,
    as all training pieces have one."""
    head = [] if wanted.key is None else [key_word(wanted.key.fifths, wanted.key.minor)]
    if wanted.metre is not None or wanted.tempo is not None:
        head.append(metre_word(*(wanted.metre or USUAL_METRE)))
    if wanted.tempo is not None:
        head.append(tempo_word(wanted.tempo))
    return tuple(head)


@lru_cache(maxsize=1)
def _loaded(folder: Path) -> LanguageModel:
    return load(folder)
