"""A prompt in, an arrangement out: what the app's own generator answers, without a model."""

from __future__ import annotations

from plagal.asking.prompt import read_prompt
from plagal.asking.request import Request
from plagal.asking.styles import arranger_style
from plagal.music.arranger.arrange import arrange
from plagal.music.levels import simplified
from plagal.music.score import TICKS_PER_QUARTER, Metre, Score

_INTENSITIES = {"sparse": 1, "medium": 2, "dense": 3}
"""The arranger's intensities that a density means; 4 is the shout chorus, which no request asks for."""


def arranged(request: Request) -> Score:
    """The arranger's answer to a request: its tune or melody, chords, key, metre, tempo, feel, form and seed, in its
    style, as easy as its level. Raises InputError for what the arranger cannot do."""
    beat = Metre(0, *request.metre).tempo_beat_ticks if request.metre is not None else None
    quarters = request.quarters_per_minute
    score = arrange(
        request.tune or request.melody,
        arranger_style(request.style),
        request.key,
        # Where no metre is asked for, the arranger chooses one, and the tempo counts that one's beats.
        request.tempo if beat is None or quarters is None else quarters * TICKS_PER_QUARTER / beat,
        request.seed,
        request.bars if request.sections else request.new_bars,  # sections have bars of their own
        chords=request.chords or None,
        metre=request.metre,
        feel=request.feel,
        sections=request.sections or None,
        intro=request.intro,
        ending=request.ending,
        modulate=request.modulate or 0,
        intensity=_INTENSITIES[request.density] if isinstance(request.density, str) else None,
    )
    return score if request.level is None else simplified(score, request.level)


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
