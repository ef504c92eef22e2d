"""The base's own pipeline: what is held out is not heard, and what it makes loads anywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from corpus_helpers import collect_settings, sources_file, text_settings, write_hymns
from model_helpers import LORA, settings

from plagal import pretraining
from plagal.corpus.collect import collect, read_pieces
from plagal.corpus.prepare import prepare
from plagal.plumbing.params import load_params
from plagal.plumbing.workers import Workers
from plagal.pretraining import PretrainParams, gather, pretrain, words

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PretrainParams:
    """Stages that hold hymns 0 to 23, a held-out folder with 24 to 26, and hymns 0 to 31 to be gathered."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    write_hymns(tmp_path / "own", range(24))
    write_hymns(tmp_path / "data/held_out/apart", range(24, 27), semitones=3)
    write_hymns(tmp_path / "free", range(32), semitones=2)
    for stage in ("stage1", "stage2"):
        sources = sources_file(tmp_path / f"{stage}.yaml", ("gospel", tmp_path / "own"))
        collect(stage, collect_settings(sources, 24, {"gospel": 24}), tmp_path / "data" / stage, 1, Workers(1))
    prepare(
        tmp_path / "data/stage1", tmp_path / "data/stage2", tmp_path / "data/text", load_params().convert, 1, Workers(1)
    )
    free = sources_file(tmp_path / "free.yaml", ("gospel", tmp_path / "free"))
    train = settings(lora=LORA, steps=2, max_tokens=128, evaluate_every=2)
    shape = {"hidden_size": 32, "layers": 1, "heads": 2, "kv_heads": 1, "intermediate_size": 48}
    arranged = {"pieces": 12, "styles": {"worship": 1, "shout": 1}, "book_share": 0.5, "short_share": 0.5,
                "short_bars": [4], "melody_styles": ["gospel"]}  # fmt: skip
    return PretrainParams(
        seed=1, begin_with="random", held_out=("data/held_out",),
        gather=collect_settings(free, 32, {"gospel": 32}), words=text_settings(),
        arranged=pretraining.ArrangedSettings.model_validate(arranged), train=train,
        model=pretraining.EmbeddedShape.model_validate(shape),
    )  # fmt: skip


def test_the_base_hears_no_tune_that_is_tested_on_and_says_how_many_were_left_out(project: PretrainParams) -> None:
    gather(project)
    words(project)
    heard = json.loads(Path("pretrain/data/text/heard.json").read_text())
    own = {row["metadata"]["id"]: row["metadata"]["title"] for row in read_pieces(Path("data/stage1"))}
    files = [Path(f"data/text/stage1/{split}.jsonl") for split in ("valid", "test")]
    tested = {own[json.loads(line)["metadata"]["id"]] for file in files for line in file.read_text().splitlines()}
    apart = {f"hymn{number}" for number in range(24, 27)}
    titles = {row["metadata"]["id"]: row["metadata"]["title"] for row in read_pieces(Path("pretrain/data/gathered"))}
    rows = [json.loads(line) for line in Path("pretrain/data/text/train.jsonl").read_text().splitlines()]
    taken = {titles[row["metadata"]["id"]] for row in rows if "id" in row["metadata"]}
    on_melodies = {titles[row["metadata"]["tune"]] for row in rows if row["metadata"].get("tune") in titles}
    assert tested and taken and on_melodies
    assert not (taken | on_melodies) & (tested | apart)
    assert heard["held_out_folders"] == {"held_out": 3}
    assert heard["gathered_left_out_by_ear"] == len(titles) - len(taken) >= len(tested) + 3


def test_the_base_is_half_precision_loads_in_stock_mlx_lm_and_its_card_names_its_sources(
    project: PretrainParams,
) -> None:
    import mlx.core as mx
    import mlx_lm

    gather(project)
    words(project)
    pretrain(project)
    model, _ = mlx_lm.load("base")
    assert model.model.embed_tokens.weight.dtype == mx.float16
    card = Path("base/README.md").read_text()
    left_out = json.loads(Path("base/heard.json").read_text())["gathered_left_out_by_ear"]
    assert f"| own_gospel | {32 - left_out} | test | test |" in card
    assert f"{left_out} pieces of these sources were left out because they share a tune" in card


def test_a_further_round_begins_with_the_base_and_its_card_counts_both(project: PretrainParams) -> None:
    import mlx.core as mx

    gather(project)
    words(project)
    pretrain(project)
    first, weights = json.loads(Path("base/heard.json").read_text()), mx.load("base/model.safetensors")
    still = project.train.model_copy(update={"learning_rate": 1e-12, "muon_learning_rate": 0.0})
    again = project.model_copy(update={"begin_with": "base", "seed": 2, "train": still})
    words(again)
    pretrain(again)
    second = json.loads(Path("base/heard.json").read_text())
    assert second["rounds_before"] == [first]
    tokens = first["tokens_trained_on"] + second["tokens_trained_on"]
    made = sum(n for each in (first, second) for style, n in each["arranged"].items() if "could not" not in style)
    card = Path("base/README.md").read_text()
    assert f"{tokens:,} tokens in 2 rounds" in card and f"; {made:,} arrangements" in card
    assert all(mx.array_equal(value, weights[name]) for name, value in mx.load("base/model.safetensors").items())


def test_the_committed_parameters_of_the_base_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = yaml.safe_load((ROOT / "pretrain/params.yaml").read_text())
    assert PretrainParams.model_validate(raw).model.hidden_size == 256
