"""A prompt in, an arrangement out: what the app's own generator answers, without a model."""

from __future__ import annotations

from plagal.asking.prompt import read_prompt
from plagal.asking.styles import arranger_style
from plagal.music.arranger.arrange import arrange
from plagal.music.score import Score


def generate_melody(
    prompt_or_style: str, key: str | None = None, tempo: float | None = None, bars: int | None = None, seed: int = 0
) -> Score:
    """A piece in the style that a prompt names, about the tune that it names or one that the seed picks. `tempo` counts
    beats. Arguments win over the prompt; where neither says, the style and the seed decide."""
    said = read_prompt(prompt_or_style.replace("_", " "))
    return arrange(
        said.tune,
        arranger_style(said.style),
        key or said.key,
        tempo or said.tempo,
        seed,
        bars or said.bars,
    )
