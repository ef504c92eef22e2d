"""The whole evaluation, on models so small that it takes seconds."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from model_helpers import LiveModels, piece, text_of, tiny_base

from plagal.corpus.formats import Origin, write_provenance
from plagal.evaluation import run
from plagal.evaluation.control import Asked
from plagal.evaluation.report import get, leaves
from plagal.evaluation.run import evaluate
from plagal.evaluation.samples import Sample
from plagal.plumbing.files import write_jsonl
from plagal.plumbing.params import EvaluateSettings

SETTINGS = EvaluateSettings(
    max_pieces=4, generated=4, samples=2, bars=4, temperature=0.9, top_p=0.95, max_words=120, ngram_orders=(2, 3)
)


def rows(count: int, seed: int, synthetic: bool = True) -> list[dict[str, object]]:
    random = np.random.default_rng(seed)
    styles = ("traditional_gospel", "worship")
    return [
        {
            "text": text_of(piece(random), "Play gospel in C major"),
            "metadata": {
                "id": f"{seed}-{number}", "tune": f"tune {seed}-{number}", "genre": "gospel",
                "style": styles[number % 2], "synthetic": synthetic,
            },
        }
        for number in range(count)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("evaluate")
    for stage in ("stage1", "stage2"):
        (root / "text" / stage).mkdir(parents=True)
        for split, count in (("train", 8), ("test", 4)):
            write_jsonl(root / "text" / stage / f"{split}.jsonl", rows(count, len(stage + split), split == "train"))
        origin = Origin("gospel", synthetic=True, licence="CC BY 4.0", commercial=True, attribution="A. Composer")
        write_provenance(root / "text" / stage, Counter({origin: 8}))
    base = tiny_base(root)
    for name in ("base", "stage1", "stage2", "fused"):
        shutil.copytree(base, root / "models" / name)
    return root


@pytest.fixture(scope="module")
def tree(project: Path) -> dict[str, object]:
    return evaluate(SETTINGS, 3, project / "text", project / "models", project / "metrics")


def test_one_model_is_in_memory_at_a_time(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = LiveModels(run.load_stage)
    monkeypatch.setattr(run, "load_stage", models)
    monkeypatch.setattr(run, "write_samples", lambda *_, **__: [])
    evaluate(SETTINGS, 3, project / "text", project / "models", tmp_path)
    assert models.alive == [0] * 5


def test_every_generated_piece_is_valid_midi(tree: dict[str, object]) -> None:
    assert get(tree, "plan.valid_midi") == 1.0


def test_models_that_are_the_same_get_the_same_figures(tree: dict[str, object]) -> None:
    figures = {name: get(tree, f"nats_per_note.gospel_real.{name}") for name in ("base", "stage1", "stage2", "fused")}
    assert len(set(figures.values())) == 1
    assert get(tree, "ratio.gospel_real.stage2_vs_stage1") == 1.0


def test_what_the_split_does_not_hold_is_null(tree: dict[str, object]) -> None:
    assert get(tree, "nats_per_note.gospel_synthetic.fused") is None
    assert "ratings" not in tree  # what people said is in no versioned file, so it is in no versioned figure


def test_every_prompt_is_written_with_and_without_the_grammar_from_three_seeds(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int, list[int | None]]] = []

    def written(_: object, asked: list[Asked], __: object, seed: int, constraint: str = "asked") -> list[Sample]:
        calls.append((constraint, seed, [wish.bars for wish in asked]))
        return [Sample(wish, tuple(piece(np.random.default_rng(seed)))) for wish in asked]

    monkeypatch.setattr(run, "write_samples", written)
    tree = evaluate(SETTINGS, 3, project / "text", project / "models", tmp_path)
    for constraint in ("asked", "none"):
        mine = [(seed, bars) for way, seed, bars in calls if way == constraint]
        assert len({seed for seed, _ in mine}) == 3
        assert sorted(bars for _, group in mine for bars in group) == [4, 4, 8, 8]
    assert get(tree, "worst.plan.coherence") <= get(tree, "plan.coherence")
    assert get(tree, "control_free.bars") is not None
    assert get(tree, "structure.returns_2.model") is not None and get(tree, "structure.returns_2.real") is not None


def test_fewer_pieces_than_seeds_are_measured_too(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = SETTINGS.model_copy(update={"generated": 1})
    words = tuple(piece(np.random.default_rng(0)))
    monkeypatch.setattr(run, "write_samples", lambda _, asked, *__, **___: [Sample(wish, words) for wish in asked])
    tree = evaluate(wanted, 3, project / "text", project / "models", tmp_path)
    assert get(tree, "worst.plan.coherence") == get(tree, "plan.coherence") is not None


def test_samples_and_pictures_are_there(project: Path, tree: dict[str, object]) -> None:
    names = {file.name for file in (project / "metrics" / "samples").iterdir()}
    assert names == {"sample1.mid", "sample1.png", "sample2.mid", "sample2.png"}
    page = (project / "metrics" / "report.html").read_text(encoding="utf-8")
    assert "plan.perplexity" in page
    assert page.count("data:audio/mpeg") == 4, "of each sample: the model's piece and the arranger's"
    assert page.count("The first page of its sheet") == 4, "a picture and its caption"
    card = (project / "metrics" / "model_card.md").read_text(encoding="utf-8")
    assert "| 2 | gospel | 0 | 8 |" in card
    assert "| CC BY 4.0 | yes | 16 | A. Composer |" in card
    assert "http:" not in page and "https:" not in page


def test_the_arranger_answers_the_same_prompts_and_is_measured_as_the_model_is(tree: dict[str, object]) -> None:
    assert get(tree, "control_arranger.answered") == get(tree, "control_arranger.valid_midi") == 1.0
    measured = {path.rsplit(".", 1)[-1] for path, value in leaves(tree) if "arranger" in path and value is not None}
    assert measured >= {"arranger", "key", "overlap_arranger", "kl_arranger", "frechet_arranger", "bars_seen_arranger"}


def test_the_report_says_first_what_is_not_measured_and_then_which_code_was(project: Path, tree: dict[str, object]):
    page = (project / "metrics" / "report.html").read_text(encoding="utf-8")
    beginning = page[: page.index("<h2>Targets</h2>")]
    assert "Nobody has listened" in beginning
    assert "These targets have no figure: synthetic gospel" in beginning
    assert re.search(r"Made by commit [0-9a-f]{7,}(, with changes)?; machine \w+, device", beginning)
    assert page.index("FAIL") < page.index("pass</td>")


def test_the_same_seed_gives_the_same_bytes(project: Path, tree: dict[str, object], tmp_path: Path) -> None:
    evaluate(SETTINGS, 3, project / "text", project / "models", tmp_path)
    for file in ("metrics.json", "report.html", "samples/sample1.mid", "plots/nats_per_note.csv"):
        assert (tmp_path / file).read_bytes() == (project / "metrics" / file).read_bytes()
    stored = json.loads((tmp_path / "metrics.json").read_text())
    assert all(value is None or isinstance(value, int | float) for _, value in leaves(stored))
