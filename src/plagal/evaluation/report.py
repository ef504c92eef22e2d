"""The figures of an evaluation as one tree, its targets, and the tables that people read.

The tree's shape is a contract (reviewers' diffs depend on it): rows may be added, never renamed. Every leaf is a number
or None. Shares are 0 to 1; nats per note and perplexity are better when smaller.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from plagal.corpus.formats import LIMITS, provenance_tables, read_provenance
from plagal.evaluation.likelihood import ratio_interval
from plagal.plumbing.errors import InputError, RecordError
from plagal.plumbing.files import read_json, read_jsonl

Tree = dict[str, Any]

SPLITS = ("gospel_real", "gospel_synthetic", "general")
MODELS = ("base", "stage1", "stage2", "fused", "ngram", "xz")
CONTROLS = ("key", "tempo", "metre", "bars", "style", "chords")
COHERENCE_ROWS = ("real", "arranger", "model", "model_free", "bars_shuffled", "notes_shuffled", "ngram", "random")
STRUCTURE = ("returns_2", "returns_4", "returns_8", "compression", "distance")
STRUCTURE_SIDES = ("model", "model_free", "real", "arranger")
COPYING = ("longest_run", "bars_seen", "inner_bars_seen")
BESIDE = ("", "_real", "_arranger")
"""Ends of the rows of the model, of held-out music and of the arranger."""
GOSPEL_SIGNS = ("sevenths", "ninths", "sus", "passing")

_DIGITS = 4


@dataclass(frozen=True)
class Target:
    """What a figure should come to: `at_least` or `at_most` the bound. `meaning` is for people."""

    path: str
    bound: float
    at_least: bool
    meaning: str

    def met_by(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    @property
    def text(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"


TARGETS = (
    Target("plan.perplexity", 2.0, False, "perplexity in Qwen2.5 sub-words, gospel"),
    Target("plan.perplexity_stage1", 2.5, False, "the same after stage 1, general music"),
    Target("plan.token_accuracy", 0.95, True, "sub-words foretold right"),
    Target("plan.valid_midi", 1.0, True, "generated pieces that are valid MIDI"),
    Target("plan.coherence", 7.0, True, "coherence of 10, by a program"),
    Target("ratio.gospel_real.stage2_vs_ngram", 0.9, False, "real gospel, nats: stage 2 over n-gram"),
    Target("ratio.gospel_real.stage2_vs_stage1", 0.9, False, "real gospel, nats: stage 2 over stage 1"),
    Target("ratio.gospel_synthetic.stage2_vs_ngram", 0.9, False, "synthetic gospel, nats: stage 2 over n-gram"),
    Target("ratio.gospel_synthetic.stage2_vs_stage1", 0.9, False, "synthetic gospel, nats: stage 2 over stage 1"),
    Target("control.metre", 0.9, True, "heard in the metre asked for"),
    Target("control.chords", 0.8, True, "chords asked for that are heard"),
    Target("control_free.key", 0.95, True, "by itself: in the key asked for"),
    Target("control_free.metre", 0.9, True, "by itself: in the metre asked for"),
    Target("control_free.bars", 0.9, True, "by itself, told how many are left: ends where asked"),
    Target("control_free.chords", 0.8, True, "by itself: chords asked for that are heard"),
    Target("control_free.style", 0.8, True, "by itself: heard as the style asked for"),
    Target("coherence.real", 8.0, True, "coherence of held-out real music"),
)

BY_CONSTRUCTION = {
    "control.tempo": "the grammar forces the word, and the file plays it",
    "control.bars": "the grammar forces the length",
    "control.key": "a piece in which another key is heard is written again, by the ear that judges it here",
}
"""Rows that cannot fail, or that were chosen by who judges them: shown, and no targets. What the model does by itself
stands in `control_free`."""

_LOWER_IS_BETTER = (
    "plan.perplexity", "nats_per_note.", "nats_split.", "ratio.", "distribution.frechet", "distribution.kl",
    "copying.longest_run", "copying.bars_seen", "copying.inner_bars_seen", "targets.missed", "structure.distance.",
)  # fmt: skip
_HIGHER_IS_BETTER = (
    "plan.", "choice_accuracy.", "control.", "control_free.", "coherence.model", "coherence.real",
    "distribution.overlap", "targets.met",
)  # fmt: skip
_YARDSTICKS = (".base", ".ngram", ".xz", "_real", ".real", "arranger")
"""Ends of rows that other rows are held against: a change there is neither better nor worse."""


def empty_tree() -> Tree:
    """Every row of the contract, nothing in it yet."""
    per_model = {split: dict.fromkeys(MODELS) for split in SPLITS}
    return {
        "plan": dict.fromkeys(("perplexity", "perplexity_stage1", "token_accuracy", "valid_midi", "coherence")),
        "nats_per_note": {split: dict(row) for split, row in per_model.items()},
        "choice_accuracy": {split: dict(row) for split, row in per_model.items()},
        "ratio": {split: dict.fromkeys(("stage2_vs_ngram", "stage2_vs_stage1")) for split in SPLITS[:2]},
        "control": dict.fromkeys(CONTROLS),
        "control_free": dict.fromkeys((*CONTROLS, "valid_midi")),
        "control_arranger": dict.fromkeys(("answered", *CONTROLS, "valid_midi")),
        "control_ceiling": dict.fromkeys(("key", "metre", "style")),
        "coherence": dict.fromkeys(COHERENCE_ROWS),
        "distribution": {f"{figure}{side}": None for figure in ("overlap", "kl", "frechet") for side in BESIDE},
        "gospel": {sign: dict.fromkeys(("model", "real", "arranger")) for sign in GOSPEL_SIGNS},
        "copying": {f"{figure}{side}": None for figure in COPYING for side in BESIDE},
        "structure": {figure: dict.fromkeys(STRUCTURE_SIDES) for figure in STRUCTURE},
        "training": {stage: {"notes_seen": None} for stage in ("stage1", "stage2")},
        "held_out": {split: {"pieces": None, "tunes": None, "notes": None} for split in SPLITS},
        "interval": {},
        "targets": {"met": None, "missed": None},
        "nats_split": {},
    }


def put(tree: Tree, path: str, value: float | None) -> None:
    """Set a row by its dotted path, making what is missing on the way."""
    *way, leaf = path.split(".")
    for name in way:
        tree = tree.setdefault(name, {})
    tree[leaf] = value


def put_interval(tree: Tree, path: str, interval: tuple[float, float] | None) -> None:
    if interval is not None:
        put(tree, f"interval.{path}.low", interval[0])
        put(tree, f"interval.{path}.high", interval[1])


def get(tree: Tree, path: str) -> float | None:
    """A row by its dotted path; None where it is missing or holds nothing."""
    value: Any = tree
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return None if isinstance(value, dict) else value


def leaves(tree: Tree, above: str = "") -> Iterator[tuple[str, float | None]]:
    """(dotted path, figure) of every row, in order."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def finish(tree: Tree) -> Tree:
    """The tree as it is written: targets beside it and counted, every figure rounded to four digits, so that the same
    inputs give the same bytes. Raises ValueError where a leaf is not a finite number."""
    finished: Tree = {}
    for path, value in leaves(tree):
        put(finished, path, _rounded(path, value))
    met = [target.met_by(value) for target in TARGETS if (value := judged_value(finished, target.path)) is not None]
    put(finished, "targets.met", sum(met))
    put(finished, "targets.missed", len(met) - sum(met))
    for target in TARGETS:
        put(finished, f"targets.{target.path}", target.bound)
    return finished


def judged_value(tree: Tree, path: str) -> float | None:
    """What is held against a target: the worst of the seeds where there were several."""
    worst = get(tree, f"worst.{path}")
    return get(tree, path) if worst is None else worst


def _rounded(path: str, value: Any) -> float | None:
    if value is None:
        return None
    number = value.item() if hasattr(value, "item") else value
    if isinstance(number, bool) or not isinstance(number, int | float) or number - number != 0:
        raise ValueError(f"{path} is {value!r}, which is not a number")
    return number if isinstance(number, int) else float(f"{number:.{_DIGITS}g}")


# --- What people read ---


@dataclass(frozen=True)
class Figured:
    """One line of the table: `verdict` is "pass", "FAIL", "no figure yet", "by construction" or empty; `interval` the
    95 % interval, or the worst of the seeds."""

    path: str
    value: str
    interval: str
    target: str
    verdict: str
    meaning: str


def table_rows(tree: Tree) -> list[Figured]:
    """Targets first, then what stands beside them."""
    rows = [_target_row(tree, target) for target in TARGETS]
    asked = {target.path for target in TARGETS}
    shown = (
        "nats_per_note", "choice_accuracy", "control", "control_free", "control_arranger", "coherence", "structure",
        "distribution", "gospel", "copying",
    )  # fmt: skip
    for path, value in leaves({name: tree.get(name) or {} for name in shown}):
        if value is not None and path not in asked:
            verdict = "by construction" if path in BY_CONSTRUCTION else ""
            rows.append(Figured(path, _shown(value), _interval(tree, path), "", verdict, BY_CONSTRUCTION.get(path, "")))
    return rows


def _target_row(tree: Tree, target: Target) -> Figured:
    value, judged = get(tree, target.path), judged_value(tree, target.path)
    verdict = "no figure yet" if judged is None else "pass" if target.met_by(judged) else "FAIL"
    return Figured(target.path, _shown(value), _interval(tree, target.path), target.text, verdict, target.meaning)


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.{_DIGITS}g}" if isinstance(value, float) else f"{value:,}"


def _interval(tree: Tree, path: str) -> str:
    if (worst := get(tree, f"worst.{path}")) is not None:
        return f"worst seed {_shown(worst)}"
    low, high = (get(tree, f"interval.{path}.{end}") for end in ("low", "high"))
    return "" if low is None or high is None else f"{_shown(low)} to {_shown(high)}"


HEADINGS = ("figure", "value", "95 % interval, or worst seed", "target", "", "what it says")


def markdown_table(tree: Tree) -> str:
    return _markdown(HEADINGS, [astuple(replace(row, path=f"`{row.path}`")) for row in table_rows(tree)])


def terminal_table(tree: Tree) -> str:
    """The same, in aligned columns of plain text."""
    lines = [tuple(HEADINGS), *map(astuple, table_rows(tree))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    lines.insert(1, tuple("─" * width for width in widths))
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def _markdown(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    rule = ["---" if place == 0 else "---:" if place < 4 else ":---" for place in range(len(headings))]
    return "\n".join("| " + " | ".join(line) + " |" for line in [headings, rule, *cells])


def direction(path: str) -> int:
    """1 where more is better, -1 where less is, 0 where a change says neither."""
    if path.endswith(_YARDSTICKS) and path != "coherence.real":
        return 0
    if path.startswith(_LOWER_IS_BETTER):
        return -1
    return 1 if path.startswith(_HIGHER_IS_BETTER) else 0


def metrics_diff(before: Tree, now: Tree) -> str:
    """The verdict in one line, then a Markdown table of every figure that changed, with better or worse beside it; a
    change that stays inside either side's interval says so. Intervals and target bounds are left out. One line where
    nothing changed."""
    old, new = dict(leaves(before)), dict(leaves(now))
    cells = []
    for path in dict.fromkeys([*new, *old]):
        if path.startswith(("interval.", "targets.")) and path not in ("targets.met", "targets.missed"):
            continue
        was, is_now = old.get(path), new.get(path)
        if was != is_now:
            change = "" if was is None or is_now is None else f"{is_now - was:+.3g}"
            cells.append((f"`{path}`", _shown(was), _shown(is_now), change, _judged(path, was, is_now, before, now)))
    if not cells:
        return "No figure changed."
    return f"{_verdict([cell[-1] for cell in cells], old, new)}\n\n" + _markdown(
        ("figure", "before", "now", "change", ""), cells
    )


def _verdict(judged: Sequence[str], old: Mapping[str, float | None], new: Mapping[str, float | None]) -> str:
    """ "**Better in 3 figures, worse in 1, within the interval in 5; targets met: 8, before 7.**" """
    better, worse = judged.count("**better**"), judged.count("**worse**")
    inside = sum(one.endswith("within the interval") for one in judged)
    met = [f"{count:g}" for tree in (new, old) if (count := tree.get("targets.met")) is not None]
    line = f"Better in {better} figure{'s' * (better != 1)}, worse in {worse}, within the interval in {inside}"
    return f"**{line}{'; targets met: ' + ', before '.join(met) if len(met) == 2 else ''}.**"


def _judged(path: str, was: float | None, is_now: float | None, before: Tree, now: Tree) -> str:
    if was is None or is_now is None:
        return "new" if was is None else "gone"
    way = direction(path)
    if not way:
        return ""
    verdict = "better" if (is_now - was) * way > 0 else "worse"
    inside = _inside(was, now, path) or _inside(is_now, before, path)
    return f"{verdict}, within the interval" if inside else f"**{verdict}**"


def _inside(value: float, tree: Tree, path: str) -> bool:
    low, high = (get(tree, f"interval.{path}.{end}") for end in ("low", "high"))
    return low is not None and high is not None and low <= value <= high


METRICS = Path("metrics/metrics.json")


def metrics_at(revision: str) -> dict[str, Any]:
    """metrics.json of a commit. Raises InputError where git knows no such commit or the commit no metrics."""
    if revision.startswith("-"):
        raise InputError(f"{revision!r} is not a name of a commit")
    show = ["git", "show", f"{revision}:./{METRICS.as_posix()}"]
    done = subprocess.run(show, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"no {METRICS} at {revision}: {done.stderr.strip().splitlines()[0]}")
    tree: dict[str, Any] = json.loads(done.stdout)
    return tree


def diff_against(revision: str) -> str:
    """A Markdown table of the figures that differ from those of a commit."""
    return metrics_diff(metrics_at(revision), read_json(METRICS))


_HEAD = """# Model card: Plagal gospel piano

Writes two-handed gospel piano as words (one event a word), from a prompt that names a style, key, tempo, metre, length
or chords. Trained by the pipeline of this repository: general music first, then gospel, fused into one ordinary MLX
model folder, `models/fused`, whose own README.md says the same of data, licences and limits.
"""


def model_card(tree: Tree, text: Path) -> str:
    """Markdown. `text`: the folder of both stages' training text. Raises InputError where it lacks provenance.json."""
    parts = [_HEAD, provenance_tables(read_provenance(text)), "## Figures\n"]
    parts += ["What each means, and how it was measured, stands in docs/evaluation.md.\n", markdown_table(tree), ""]
    return "\n".join([*parts, LIMITS])


# --- What people said: ratings from 1 to 10, and which of two pieces they liked better, blind ---
#
# The page writes one object a line:
# {"kind": "rating", "rater": "...", "piece": "...", "system": "...", "rating": 1-10} and
# {"kind": "ab", "rater": "...", "a": SYSTEM, "b": SYSTEM, "choice": "a" | "b" | "tie"}.

_ROUNDS = 500
_PRIOR = 0.5
"""Half a win each way between any two that were compared: keeps a system that always won finite."""


@dataclass(frozen=True)
class Ratings:
    """`mean` of 1-10 with its 95 % interval by rater (None for a single rater); strengths by Bradley-Terry, in
    logits over the mean of the systems."""

    mean: float | None
    interval: tuple[float, float] | None
    raters: int
    strengths: dict[str, float]


def read_ratings(path: str | Path) -> list[dict[str, Any]]:
    """Checked rows; none where there is no file. Raises RecordError that names the line."""
    if not Path(path).exists():
        return []
    rows = []
    for number, row in enumerate(read_jsonl(path), 1):
        if not _sound(row):
            raise RecordError(
                f"{path}:{number} is neither a rating of 1 to 10 nor a choice of a, b or tie; remove the line"
            )
        rows.append(row)
    return rows


def _sound(row: dict[str, Any]) -> bool:
    names = ["rater", "a", "b"] if row.get("kind") == "ab" else ["rater"]
    if not all(isinstance(row.get(name), str) for name in names):
        return False
    if row.get("kind") == "rating":
        return type(row.get("rating")) in (int, float) and 1 <= row["rating"] <= 10
    return row.get("kind") == "ab" and row.get("choice") in ("a", "b", "tie")


def summarise_ratings(rows: Sequence[dict[str, Any]], seed: int) -> Ratings | None:
    """Ratings and the strengths of all that were compared. None where nobody has said
    anything yet, never a number."""
    rated = [row for row in rows if row["kind"] == "rating"]
    compared = [row for row in rows if row["kind"] == "ab"]
    if not rated and not compared:
        return None
    values = np.array([float(row["rating"]) for row in rated])
    raters = [row["rater"] for row in rated]
    return Ratings(
        mean=float(values.mean()) if rated else None,
        interval=ratio_interval(values, np.ones(len(values)), raters, seed) if rated else None,
        raters=len({row["rater"] for row in [*rated, *compared]}),
        strengths=bradley_terry([(row["a"], row["b"], row["choice"]) for row in compared]),
    )


def bradley_terry(choices: Sequence[tuple[str, str, str]]) -> dict[str, float]:
    """Strength of each system from (a, b, "a" | "b" | "tie"), by Hunter's (2004) iteration; a tie is half a win each.
    Of two systems of strengths x and y, x is chosen with probability 1 / (1 + exp(y - x))."""
    names = sorted({name for a, b, _ in choices for name in (a, b)})
    place = {name: index for index, name in enumerate(names)}
    wins = np.zeros((len(names), len(names)))
    for a, b, choice in choices:
        if a == b:
            continue
        wins[place[a], place[b]] += {"a": 1.0, "b": 0.0, "tie": 0.5}[choice]
        wins[place[b], place[a]] += {"a": 0.0, "b": 1.0, "tie": 0.5}[choice]
    wins += _PRIOR * ((wins + wins.T) > 0)
    games = wins + wins.T
    strength = np.ones(len(names))
    for _ in range(_ROUNDS):
        weight = (games / np.maximum(strength[:, None] + strength[None, :], 1e-12)).sum(axis=1)
        strength = np.divide(wins.sum(axis=1), weight, out=np.ones_like(strength), where=weight > 0)
        strength /= np.exp(np.log(strength).mean()) if len(names) else 1.0
    return {name: float(np.log(value)) for name, value in zip(names, strength, strict=True)}


def ratings_lines(file: Path) -> Iterator[str]:
    """What people said, for a terminal: by system the mean of 1-10 with its 95 % interval by rater, and the strengths
    that blind pairs showed [logits]. Raises InputError where nobody has said anything."""
    rows = read_ratings(file)
    if not rows:
        raise InputError(f"{file}: nobody has rated anything yet; `plagal serve` writes there what listeners say")
    ratings = [(str(row.get("system", "unnamed")), row) for row in rows if row["kind"] == "rating"]
    for system in sorted({system for system, _ in ratings}):
        rated = [row for of_system, row in ratings if of_system == system]
        if (found := summarise_ratings(rated, seed=0)) is not None:
            interval = "" if found.interval is None else " ({:.2f} to {:.2f})".format(*found.interval)
            yield f"{system}: {found.mean:.2f} of 10{interval}, ratings: {len(rated)}, raters: {found.raters}"
    compared = [(row["a"], row["b"], row["choice"]) for row in rows if row["kind"] == "ab"]
    for system, strength in bradley_terry(compared).items():
        yield f"{system}: strength {strength:+.2f} in blind pairs"
