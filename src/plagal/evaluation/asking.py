"""What the generated pieces are asked for: prompts in wordings that training never saw, about held-out tunes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from plagal.asking.prompt import read_prompt
from plagal.asking.request import Request, read_request
from plagal.asking.wording import facts_of, held_out_prompt
from plagal.evaluation.control import Asked
from plagal.evaluation.heldout import TextPiece
from plagal.music.chords import parse_chord
from plagal.music.keys import parse_key
from plagal.plumbing.params import EvaluateSettings


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


def all_asked(pieces: Sequence[TextPiece], bars: int, count: int, seed: int) -> list[Asked]:
    """`count` of them, going round the pieces."""
    return [asked_for(pieces[number % len(pieces)], bars, seed, number) for number in range(count)]


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
    return read_request(
        {
            "prompt": asked.prompt,
            "key": asked.key,
            "tempo": asked.tempo,
            "beat": "quarter" if asked.tempo is not None else None,
            "metre": asked.metre,
            "bars": asked.bars,
            "chords": tuple((chord,) for chord in asked.chords) or None,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
        }
    )
