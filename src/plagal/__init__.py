"""Plagal teaches a language model to play gospel piano.

    tokenize(path or Score) -> words        arrange(tune, style) -> Score
    detokenize(words, path) -> Score        generate(prompt) -> Score
    decode(words, path) -> Decoded          errors: the tree of what can go wrong

Everything heavy is imported when it is first called; only `generate` needs a model and MLX.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plagal.plumbing import __version__, errors

if TYPE_CHECKING:
    from plagal.music.score import Score
    from plagal.tokens.codec import Decoded

__all__ = ["__version__", "arrange", "decode", "detokenize", "errors", "generate", "tokenize"]


def tokenize(source: str | Path | Score, chords: bool = True) -> list[str]:
    """A MIDI, MusicXML or ABC file, or a Score, as words. `chords`: also write the chords heard. Raises InputError."""
    from plagal.music.load import load
    from plagal.music.score import Score
    from plagal.tokens.codec import encode

    return encode(source if isinstance(source, Score) else load(source), chords=chords)


def decode(words: Sequence[str], path: str | Path | None = None, strict: bool = False) -> Decoded:
    """Words as a Score with the list of repairs; the MIDI is written too where a path is given. Lenient decoding takes
    any sequence of words; with `strict` the first word that may not stand there raises WordsError."""
    from plagal.music.midi import write_midi
    from plagal.tokens.codec import decode as decoded

    result = decoded(words, strict=strict)
    if path is not None:
        write_midi(result.score, path)
    return result


def detokenize(words: Sequence[str], path: str | Path | None = None) -> Score:
    """`decode`, leniently, without the repairs."""
    return decode(words, path).score


def arrange(tune: str | None = None, style: str = "traditional_gospel", **wishes: Any) -> Score:
    """A rule-based piano arrangement; see `plagal.music.arranger.arrange.arrange`."""
    from plagal.asking.lexicon import known_arranger_style
    from plagal.music.arranger.arrange import arrange as arranged

    return arranged(tune, known_arranger_style(style), **wishes)


def generate(prompt: str, model: str | Path = "models/fused", **wishes: Any) -> Score:
    """A piece for a prompt, from a model folder; see `plagal.serving.service.write_piece`."""
    from plagal.serving.service import write_piece

    return write_piece(prompt, model, **wishes).score
