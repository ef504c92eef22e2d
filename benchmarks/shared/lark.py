"""Our words as a grammar for llguidance, and mlx-lm's generator under it, as users of both would set them up.

A context-free grammar says which word may follow which, in what order positions and pitches come, and how many bars
there are. What sounds well in a key or follows well on a chord it cannot say: that is our decoder's steering.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import mlx.core as mx
import numpy as np

from plagal.model.base import LanguageModel
from plagal.tokens.vocabulary import MUSIC_WORDS

HEAD = "SONG_START KEY_Db TIMESIG_4_4 TEMPO_66"
"""What the benchmark's prompt asks for, forced, as our decoder forces it."""


LOWEST, HIGHEST = 21, 108
_NO_LENGTH = ("DUR_WHOLE_TIED", "DUR_SUSTAIN", "DUR_RELEASE", "DUR_HOLD")
_LEVELS = ("PPP", "PP", "P", "MP", "MF", "F", "FF", "FFF")


def _one_of(words: Iterable[str]) -> str:
    return " | ".join(f'" {word}"' for word in words)


def _any(prefix: str) -> str:
    return _one_of(word for word in MUSIC_WORDS if word.startswith(prefix))


def lark_grammar(bars: int) -> str:
    """`bars` bars of 4/4: positions rise within a bar, pitches within a position; a position has a pedal, a chord or a
    note at least."""
    beats = sorted((word for word in MUSIC_WORDS if word.startswith("BEAT_")), key=lambda word: float(word[5:]))
    beats = [word for word in beats if float(word[5:]) < 4]
    lines = [
        '%llguidance {"no_forcing": true}',  # else what all lengths begin with, " DUR_", is spelled in letters
        f'start: "{HEAD}" bar{{{bars}}} " SONG_END"',
        f'bar: " BAR_START" {" ".join(f"at_{number}?" for number in range(len(beats)))}',
        *(f'at_{number}: " {word}" body' for number, word in enumerate(beats)),
        f"body: PEDAL (CHORD BASS?)? from_{LOWEST}? | CHORD BASS? from_{LOWEST}? | from_{LOWEST}",
        *(f"from_{key}: key_{key} from_{key + 1}? | from_{key + 1}" for key in range(LOWEST, HIGHEST)),
        f"from_{HIGHEST}: key_{HIGHEST}",
        *(f'key_{key}: " NOTE_ON_{key}" TIED* DURATION VELOCITY' for key in range(LOWEST, HIGHEST + 1)),
        f"PEDAL: {_any('PEDAL_')}",
        f"CHORD: {_any('CHORD_')}",
        f"BASS: {_any('BASS_')}",
        'TIED: " DUR_WHOLE_TIED"',
        f"DURATION: {_one_of(word for word in MUSIC_WORDS if word.startswith('DUR_') and word not in _NO_LENGTH)}",
        f"VELOCITY: {_one_of(f'VEL_{level}' for level in _LEVELS)}",
    ]
    return "\n".join(lines)


def constrained(lm: LanguageModel, bars: int) -> Callable[[], list[Callable[[mx.array, mx.array], mx.array]]]:
    """Makes mlx-lm's `logits_processors` for one piece. The grammar is compiled here, once."""
    from llguidance import LLMatcher
    from llguidance.hf import from_tokenizer
    from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

    tokenizer: Any = from_tokenizer(lm.tokenizer, n_vocab=lm.model.args.vocab_size)
    grammar = LLMatcher.grammar_from_lark(lark_grammar(bars))

    def processors() -> list[Callable[[mx.array, mx.array], mx.array]]:
        matcher, bits, prompt = LLMatcher(tokenizer, grammar), allocate_token_bitmask(1, tokenizer.vocab_size), [-1]

        def allowed_only(tokens: mx.array, logits: mx.array) -> mx.array:
            if prompt[0] < 0:
                prompt[0] = tokens.size
            elif not matcher.is_stopped():
                matcher.consume_token(int(tokens[-1].item()))
            fill_next_token_bitmask(matcher, bits)
            mask = np.unpackbits(bits.view(np.uint8), bitorder="little")[: logits.shape[-1]].astype(bool)
            return mx.where(mx.array(mask), logits, -mx.inf)

        return [allowed_only]

    return processors
