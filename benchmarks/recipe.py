"""Whether the base's recipe also helps the adapters of the two stages, three seeds: Muon for matrices, beside AdamW;
and, for a base that is given rows for the music words, rows for the counts of the bars that are left, beside none.

    python benchmarks/recipe.py [--text data/text] [--profiles embedded smollm2] [--recipes muon counts] [--steps 80]
                                [--seeds 7 8 9] [--json]

A LoRA of the profile's own shape learns stage 1's text for a few steps of the profile's own batches, once with AdamW as
the profile says, once with Muon (rate 0.02, as the base had; no weight decay) for the adapters' matrices of the blocks.
With counts, a model reads BARS_5 behind the fifth bar line from the end, and has to foretell that, too.
Rows: nats a note on eight validation pieces at the end, and this process's CPU seconds. Profiles whose base is not
installed are skipped, and said.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from plagal.model.base import load, place_base
from plagal.model.trainer import train
from plagal.model.words import grow
from plagal.plumbing.errors import PlagalError
from plagal.plumbing.files import read_jsonl
from plagal.plumbing.params import TrainSettings, check_params, profile_path, with_profile
from plagal.tokens.vocabulary import COUNT_WORDS, MUSIC_WORDS
from shared.places import ROOT
from shared.rows import Row, finish, parser, row

MUON_LEARNING_RATE = 0.02
VALIDATED = 8


def after(
    base: Path, texts: list[str], valid: list[str], settings: TrainSettings, seed: int, counts: bool = False
) -> tuple[float, float]:
    """Nats a note on `valid` at the end, and CPU seconds. `counts`: the base is given rows for counts of bars, too."""
    with tempfile.TemporaryDirectory() as scratch:
        began = time.process_time()
        lm = grow(load(base, "text"), (*MUSIC_WORDS, *COUNT_WORDS)) if counts else load(base)
        report = train(lm, texts, valid, settings, Path(scratch) / "checkpoints", Path(scratch) / "adapter", seed=seed)
        return report.rows[-1].valid_nats_per_note or float("nan"), time.process_time() - began


def measure(
    text: Path, profiles: list[str], recipes: list[str], steps: int, seeds: list[int], scratch: Path
) -> Iterator[Row]:
    texts = [found["text"] for found in read_jsonl(text / "stage1" / "train.jsonl")]
    every = [found["text"] for found in read_jsonl(text / "stage1" / "valid.jsonl")]
    valid = every[:: max(1, len(every) // VALIDATED)][:VALIDATED]
    for name in profiles:
        params = check_params(with_profile(profile_path(name, ROOT / "profiles"), ROOT / "params.yaml"), name)
        try:
            base = place_base(params.model, scratch / name, params.seed)
        except PlagalError as error:
            sys.stderr.write(f"skipped {name}: {error}\n")
            continue
        short = {"steps": steps, "evaluate_every": steps, "save_every": steps}
        plain = params.train_stage1.model_copy(update=short)
        muon = plain.model_copy(update={"muon_learning_rate": MUON_LEARNING_RATE, "weight_decay": 0.0})
        as_it_is = [after(base, texts, valid, plain, seed) for seed in seeds]
        for recipe, settings, against in (("muon", muon, "AdamW"), ("counts", plain, "the music words alone")):
            counts = recipe == "counts"
            if recipe not in recipes or (counts and load(base).words.counts):  # which has them
                continue
            ours = [after(base, texts, valid, settings, seed, counts) for seed in seeds]
            for place, (what, unit) in enumerate((("nats", "nats a note"), ("cpu", "CPU s"))):
                sides = [[found[place] for found in side] for side in (ours, as_it_is)]
                yield row(f"{recipe}_{what}_{name}", *sides, f"{unit} after {steps} steps", against=against)


def main() -> None:
    wishes = parser(__doc__)
    wishes.add_argument("--text", type=Path, default=Path("data/text"))
    wishes.add_argument("--profiles", nargs="+", default=["embedded", "smollm2"])
    wishes.add_argument("--recipes", nargs="+", default=["muon", "counts"], choices=["muon", "counts"])
    wishes.add_argument("--steps", type=int, default=80)
    wishes.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9])
    options = wishes.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows = measure(options.text, options.profiles, options.recipes, options.steps, options.seeds, Path(scratch))
        finish("recipe", rows, options.json)


if __name__ == "__main__":
    main()
