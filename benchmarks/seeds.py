"""How much of each headline figure is luck: stages 1 and 2 trained, fused and evaluated with several seeds.

    python benchmarks/seeds.py [--json] [--seeds 7 8 9] [--quick] [--work FOLDER]

The collected music and its text stay those of data/; the seed decides the adapters' random weights, the order of the
text and the pieces that are written. A figure's spread is its lowest and highest, and a target counts as met where the
worst seed meets it. Half an hour on two idle cores. `--work` keeps what was trained there, and goes on with it;
`--quick` trains ten steps and writes a few pieces, to see that it runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from plagal.plumbing.files import read_json
from shared.places import ROOT
from shared.rows import Row, finish, parser, row

STAGES = ("train_stage1", "train_stage2", "fuse", "evaluate")
OWN = {"models", "metrics", "logs", "params.yaml", ".checkpoints", ".git", ".dvc", ".venv"}
"""What a seed's folder does not share with this one."""
HEADLINES: dict[str, tuple[str, float, bool]] = {
    "coherence": ("coherence.model", 8.4, True),
    "coherence_unsteered": ("coherence.model_free", 8.2, True),
    "style_heard": ("control.style", 0.8, True),
    "metre_heard": ("control.metre", 0.9, True),
    "key_by_itself": ("control_free.key", 0.95, True),
    "metre_by_itself": ("control_free.metre", 0.9, True),
    "bars_by_itself": ("control_free.bars", 0.9, True),
    "style_by_itself": ("control_free.style", 0.8, True),
    "chords_by_itself": ("control_free.chords", 0.8, True),
    "overlap": ("distribution.overlap", 0.9, True),
    "nats_gospel": ("nats_per_note.gospel_synthetic.fused", 2.3, False),
    "nats_general": ("nats_per_note.general.stage1", 3.9, False),
}
"""Row -> its place in metrics.json, the target, and whether that is the least."""
QUICK = {"train_stage1": {"steps": 10, "evaluate_every": 10}, "train_stage2": {"steps": 10, "evaluate_every": 10},
         "evaluate": {"max_pieces": 4, "generated": 6, "samples": 1, "bars": 2}}  # fmt: skip


def lay_out(folder: Path, seed: int, quick: bool) -> None:
    """A project like this one, of links, with a seed of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in ROOT.iterdir():
        link = folder / source.name
        if source.name not in OWN and not link.is_symlink():
            link.symlink_to(source)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")) | {"seed": seed}
    for stage, settings in QUICK.items() if quick else ():
        params[stage] |= settings
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def train(folder: Path) -> dict[str, Any]:
    """metrics.json of one seed. A stage whose log stands there is done."""
    environment = {name: value for name, value in os.environ.items() if name != "DVC_STAGE"}
    for stage in STAGES:
        if not (folder / "logs" / f"{stage}.json").exists():
            subprocess.run([sys.executable, "-m", "plagal.stages", stage], cwd=folder, env=environment, check=True)
    found: dict[str, Any] = read_json(folder / "metrics" / "metrics.json")
    return found


def figure(metrics: dict[str, Any], place: str) -> float | None:
    for name in place.split("."):
        metrics = metrics[name]
    return metrics  # type: ignore[return-value]


def measure(seeds: list[int], quick: bool, work: Path) -> Iterator[Row]:
    found = []
    for seed in tqdm(seeds, desc="seeds", disable=None):
        lay_out(work / str(seed), seed, quick)
        found.append(train(work / str(seed)))
    for what, (place, target, least) in HEADLINES.items():
        values = [value for metrics in found if (value := figure(metrics, place)) is not None]
        told = row(what, values, unit="", **{"at_least" if least else "at_most": target})
        if values:  # not the median: a figure that one seed misses was luck in the others
            told["ok"] = bool(min(values) >= target if least else max(values) <= target)
        yield told | {"of_seeds": [round(value, 4) for value in values]}


def main() -> None:
    wishes = parser(__doc__)
    wishes.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9])
    wishes.add_argument("--quick", action="store_true")
    wishes.add_argument("--work", type=Path, help="folder that keeps what is trained; else it is thrown away")
    options = wishes.parse_args()
    if not (ROOT / "data" / "text").is_dir():
        sys.exit("data/text is not there: run `make convert` first")
    place = nullcontext(options.work) if options.work else tempfile.TemporaryDirectory()
    with place as work:
        finish("seeds", measure(options.seeds, options.quick, Path(work).resolve()), options.json)


if __name__ == "__main__":
    main()
