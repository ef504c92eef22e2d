"""Which temperature and top-p write best, on tunes that neither training nor `evaluate` looks at.

    python benchmarks/sampling.py [--json] [--models models] [--data data] [--pieces 64]

Of pieces that the fused model writes when asked about tunes of the validation set, as docs/evaluation.md defines it:
coherence, and the shares in the key, in the metre and with the chords asked for. One figure for each of SEEDS; the
peer is what stands in params.yaml.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from plagal.evaluation.coherence import shipped
from plagal.evaluation.control import follows_score, mean_verdicts
from plagal.evaluation.likelihood import choose, load_texts, read_texts
from plagal.evaluation.run import train_ears
from plagal.evaluation.samples import asked_for, write_samples
from plagal.model.adapters import load_stage
from plagal.plumbing.params import load_params
from shared.places import ROOT
from shared.rows import Row, finish, parser, row

TRIED = ((0.9, 0.95), (0.8, 0.95), (0.9, 0.9), (0.8, 0.9))
"""Temperature, top-p."""
SEEDS = (11, 12)
HEARD = ("key", "metre", "chords")

Figures = dict[str, list[float]]
"""What was measured -> one figure for each of SEEDS."""


def measure(models: Path, data: Path, count: int) -> Iterator[Row]:
    params = load_params(ROOT / "params.yaml")
    settings = params.evaluate
    tunes = read_texts(data / "text" / "stage2" / "valid.jsonl")
    fused = load_stage(models, "fused")
    ears = train_ears(load_texts(data / "text", settings.max_pieces, params.seed), settings.bars, params.seed)

    def figures(temperature: float, top_p: float) -> Figures:
        chosen = settings.model_copy(update={"temperature": temperature, "top_p": top_p})
        found: Figures = {}
        for seed in SEEDS:
            some = choose(tunes, settings.max_pieces, seed)
            asked = [asked_for(some[n % len(some)], settings.bars, seed, n) for n in range(count)]
            written = write_samples(fused, asked, chosen, seed)
            heard = mean_verdicts([follows_score(one.asked, one.read_back, ears) for one in written])
            coherence = shipped().mean_score([one.read_back for one in written])
            for what, value in {"coherence": coherence, **{name: heard.get(name) for name in HEARD}}.items():
                found.setdefault(what, []).append(float(value or 0.0))
        return found

    now = (settings.temperature, settings.top_p)
    peer = figures(*now)
    for temperature, top_p in TRIED:
        mine = peer if (temperature, top_p) == now else figures(temperature, top_p)
        for what, values in mine.items():
            unit = f"{'of 10' if what == 'coherence' else 'share'}, {len(SEEDS)} x {count} pieces"
            against = f"temperature {now[0]}, top-p {now[1]}"
            yield row(f"{what}: {temperature}, {top_p}", values, peer[what], unit, against=against)


def main() -> None:
    wishes = parser(__doc__)
    wishes.add_argument("--models", type=Path, default=ROOT / "models")
    wishes.add_argument("--data", type=Path, default=ROOT / "data")
    wishes.add_argument("--pieces", type=int, default=64)
    options = wishes.parse_args()
    finish("sampling", measure(options.models, options.data, options.pieces), options.json)


if __name__ == "__main__":
    main()
