"""The tree of figures and the tables that people read."""

import json

import pytest

from plagal.evaluation.report import (
    BY_CONSTRUCTION,
    MODELS,
    SPLITS,
    TARGETS,
    Tree,
    direction,
    empty_tree,
    finish,
    get,
    leaves,
    markdown_table,
    metrics_diff,
    put,
    put_interval,
    terminal_table,
)


def filled(**figures: float) -> Tree:
    tree = empty_tree()
    for path, value in figures.items():
        put(tree, path.replace("__", "."), value)
    return finish(tree)


def test_the_rows_that_reviewers_rely_on_are_there() -> None:
    tree = finish(empty_tree())
    rows = dict(leaves(tree))
    for path in ("plan.perplexity", "plan.token_accuracy", "plan.valid_midi", "plan.coherence", "control.chords",
                 "coherence.bars_shuffled", "distribution.frechet_real", "copying.bars_seen",
                 "structure.returns_4.model",
                 "training.stage2.notes_seen", "targets.met"):  # fmt: skip
        assert path in rows
    assert all(f"nats_per_note.{split}.{model}" in rows for split in SPLITS for model in MODELS)


def test_what_was_not_measured_is_null_and_neither_met_nor_missed() -> None:
    tree = finish(empty_tree())
    assert get(tree, "plan.perplexity") is None
    assert (get(tree, "targets.met"), get(tree, "targets.missed")) == (0, 0)


def test_targets_are_counted() -> None:
    tree = filled(plan__perplexity=1.9, plan__token_accuracy=0.9, plan__valid_midi=1.0)
    assert (get(tree, "targets.met"), get(tree, "targets.missed")) == (2, 1)
    assert get(tree, "targets.plan.perplexity") == 2.0


def test_a_target_is_met_only_when_the_worst_seed_meets_it() -> None:
    lucky, steady = filled(plan__coherence=7.2), filled(plan__coherence=7.2)
    put(lucky, "worst.plan.coherence", 6.9)
    put(steady, "worst.plan.coherence", 7.1)
    assert get(finish(lucky), "targets.missed") == 1 and get(finish(steady), "targets.met") == 1
    (line,) = (line for line in terminal_table(finish(lucky)).splitlines() if line.startswith("plan.coherence"))
    assert "FAIL" in line and "worst seed 6.9" in line


def test_what_cannot_fail_is_marked_and_is_no_target() -> None:
    assert not set(BY_CONSTRUCTION) & {target.path for target in TARGETS}
    tree = filled(control__tempo=1.0, control__key=0.97, control__bars=1.0)
    assert (get(tree, "targets.met"), get(tree, "targets.missed")) == (0, 0)
    for path in BY_CONSTRUCTION:
        (line,) = (line for line in terminal_table(tree).splitlines() if line.split()[0] == path)
        assert "by construction" in line and "pass" not in line


def test_figures_are_rounded_so_that_noise_does_not_show() -> None:
    assert filled(plan__perplexity=1.234567891) == filled(plan__perplexity=1.234567899)
    assert get(filled(training__stage1__notes_seen=1234567), "training.stage1.notes_seen") == 1234567


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "much", True])
def test_a_leaf_that_is_no_number_is_refused(value: object) -> None:
    tree = empty_tree()
    put(tree, "plan.perplexity", value)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"plan\.perplexity"):
        finish(tree)


def test_the_tree_is_json() -> None:
    assert json.loads(json.dumps(filled(plan__perplexity=1.9), allow_nan=False))


def test_both_tables_say_pass_and_fail_beside_the_target() -> None:
    tree = filled(plan__perplexity=1.9, plan__token_accuracy=0.9)
    for table in (markdown_table(tree), terminal_table(tree)):
        lines = {line.replace("|", "").replace("`", "").split()[0]: line for line in table.splitlines()}
        assert "pass" in lines["plan.perplexity"]
        assert "≤ 2" in lines["plan.perplexity"]
        assert "FAIL" in lines["plan.token_accuracy"]
        assert "no figure yet" in lines["plan.coherence"]


@pytest.mark.parametrize(
    ("path", "way"),
    [("plan.perplexity", -1), ("plan.token_accuracy", 1), ("nats_per_note.general.stage1", -1), ("control.key", 1),
     ("nats_per_note.general.ngram", 0), ("choice_accuracy.general.base", 0), ("choice_accuracy.general.fused", 1),
     ("distribution.frechet", -1), ("distribution.frechet_real", 0), ("copying.bars_seen", -1), ("targets.met", 1),
     ("coherence.real", 1), ("coherence.random", 0), ("targets.missed", -1), ("structure.distance.model", -1),
     ("structure.distance.arranger", 0), ("structure.returns_4.model", 0), ("training.stage1.notes_seen", 0)],
)  # fmt: skip
def test_each_figure_knows_which_way_is_better(path: str, way: int) -> None:
    assert direction(path) == way


def test_a_diff_says_better_or_worse_and_hides_what_stayed() -> None:
    before = filled(plan__perplexity=1.9, plan__token_accuracy=0.9, plan__valid_midi=1.0)
    now = filled(plan__perplexity=1.8, plan__token_accuracy=0.8, plan__valid_midi=1.0, control__key=0.5)
    lines = metrics_diff(before, now).splitlines()
    assert lines[0].startswith("**Better in 1 figure, worse in 1, within the interval in 0")
    found = {line.split("`")[1]: line for line in lines if "`" in line}
    assert "**better**" in found["plan.perplexity"]
    assert "**worse**" in found["plan.token_accuracy"]
    assert "new" in found["control.key"]
    assert "plan.valid_midi" not in found
    assert metrics_diff(now, now) == "No figure changed."


def test_a_change_inside_the_interval_is_not_sold_as_one() -> None:
    before, now = empty_tree(), empty_tree()
    path = "nats_per_note.gospel_real.stage2"
    for tree, value in ((before, 4.0), (now, 3.9)):
        put(tree, path, value)
        put_interval(tree, path, (3.5, 4.5))
    assert "better, within the interval" in metrics_diff(finish(before), finish(now))
