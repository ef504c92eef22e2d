"""Checkpoints that rot: each kind of damage, then training goes on."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from faults.campaign import Row
from faults.tally import Tally

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

KINDS = ("flipped", "truncated", "of zero length", "gone")
_STEPS = 6


def damage(file: Path, kind: str, draw: random.Random) -> None:
    data = bytearray(file.read_bytes())
    file.chmod(0o644)
    if kind == "flipped":
        for _ in range(draw.choice((1, 1, 2, 64))):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif kind == "truncated":
        del data[draw.randrange(1, len(data)) :]
    elif kind == "of zero length":
        data.clear()
    else:
        file.unlink()
        return
    file.write_bytes(data)


def damaged_checkpoints(folder: Path, count: int, seed: int) -> Iterator[Row]:
    """A row for each kind. One training is stopped at every checkpoint once; damage is done to copies of that."""
    import plagal.model  # noqa: F401, I001  # the fast BLAS first
    from model_helpers import settings, texts, tiny_base
    from plagal.model import base, trainer

    folder.mkdir(parents=True)
    made, draw = tiny_base(folder), random.Random(seed)

    def train(name: str, stop_after: int | None = None) -> int:
        chosen = settings(steps=_STEPS, save_every=1, evaluate_every=2)
        report = trainer.train(base.load(made), texts(6), texts(2, 1), chosen, folder / name, folder / f"{name}-out",
                               seed=5, stop_after=stop_after)  # fmt: skip
        return report.resumed_from

    train("straight")
    whole = (folder / "straight-out" / "model.safetensors").read_bytes()
    train("stopped", stop_after=4)
    for kind in tqdm(KINDS, desc="damaged checkpoints", disable=None):
        tally, resumed = Tally(), set[int]()
        for _ in range(max(count // len(KINDS), 1)):
            shutil.copytree(folder / "stopped", folder / "hurt")
            places = sorted(path for path in (folder / "hurt").iterdir() if path.is_dir())
            hurt = draw.sample(places, draw.choice((1, 1, 2, len(places))))
            for place in hurt:
                damage(draw.choice(sorted(place.iterdir())), kind, draw)
            try:
                resumed.add(train("hurt"))
                same = (folder / "hurt-out" / "model.safetensors").read_bytes() == whole
                tally.check(same, f"other weights after {kind} {[place.name for place in hurt]}")
            except Exception as error:  # whatever it is, the promise is broken
                tally.check(False, f"{kind} {[place.name for place in hurt]}: {type(error).__name__}: {error}")
            shutil.rmtree(folder / "hurt")
            shutil.rmtree(folder / "hurt-out", ignore_errors=True)
        yield tally.row(
            f"checkpoints and best weights {kind}, one or several, in random places",
            "goes back to the last that is whole; ends bit for bit as if nothing had been",
            f"resumed at steps {', '.join(map(str, sorted(resumed)))} of {_STEPS}; always the same weights",
        )
