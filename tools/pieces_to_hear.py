"""The two pieces on the first page: docs/music/*.mid and *.mp3, and the tops of their sheets in docs/images.

    python tools/pieces_to_hear.py [--model models/fused]

The sound is that of `plagal.music.piano`, whatever SoundFonts the machine has.
"""

from __future__ import annotations

import argparse
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

import plagal
from plagal.asking.request import read_request
from plagal.music.midi import write_midi
from plagal.music.piano import rendered, to_mp3
from plagal.music.score import Score
from plagal.serving.service import write_pieces
from plagal.sheet import to_png_pages

DOCS = Path(__file__).parents[1] / "docs"
PROMPT, BARS, SEED = "traditional gospel in Ab", 8, 1
"""Of seeds 1 to 8 the one with the most harmony."""
LEFT, UPPER, RIGHT, LOWER = 30, 60, 1210, range(780, 860)
"""Two systems of a page of 150 dots an inch, cut where there is least ink."""


def keep(score: Score, name: str) -> None:
    write_midi(score, DOCS / "music" / f"{name}.mid")
    sound = to_mp3(rendered(score))
    assert len(sound) < 300_000, f"{name}.mp3 takes {len(sound)} bytes"  # noqa: S101  # what the first page promises
    (DOCS / "music" / f"{name}.mp3").write_bytes(sound)
    page = Image.open(io.BytesIO(to_png_pages(score)[0])).convert("L")
    ink = (np.asarray(page)[LOWER.start : LOWER.stop] < 255).sum(axis=1)
    top = page.crop((LEFT, UPPER, RIGHT, LOWER[int(ink.argmin())]))
    top.quantize(16).save(DOCS / "images" / f"{name}.png", optimize=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", type=Path, default=Path("models/fused"))
    model = options.parse_args().model
    keep(plagal.arrange("amazing_grace", "shout", bars=16), "arranged")
    (piece,) = write_pieces([read_request({"prompt": PROMPT, "bars": BARS, "seed": SEED})], model)
    keep(replace(piece.score, title=PROMPT), "generated")


if __name__ == "__main__":
    main()
