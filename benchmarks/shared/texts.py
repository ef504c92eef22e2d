"""Made-up training texts, for what does not depend on the music."""

from __future__ import annotations

import numpy as np


def made_up_texts(count: int, seed: int, bars: int) -> list[str]:
    """Each of `bars` bars of four quarter notes."""
    draw = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        words = ["SONG_START", "KEY_C", "TIMESIG_4_4", "TEMPO_80"]
        for _ in range(bars):
            words.append("BAR_START")
            for beat in range(4):
                words += [f"BEAT_{beat}", f"NOTE_ON_{int(draw.integers(40, 80))}", "DUR_QUARTER", "VEL_MF"]
        made.append(f"<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n{' '.join(words)} SONG_END<|im_end|>")
    return made
