"""Pieces as training text."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus_helpers import collect_settings, sources_file, text_settings, write_hymns

from plagal.asking.prompt import read_prompt
from plagal.asking.wording import facts_of
from plagal.corpus.collect import collect, read_pieces
from plagal.corpus.formats import STAGES, fused_card, read_provenance
from plagal.corpus.prepare import KEPT_METADATA, prepare
from plagal.corpus.prepare import rows_of as text_rows
from plagal.music.grid import regular
from plagal.music.score import Key, Metre, Score, Tempo
from plagal.plumbing.errors import CorpusError
from plagal.plumbing.params import ConvertSettings, TextSettings
from plagal.plumbing.workers import Workers
from plagal.tokens.codec import encode
from plagal.tokens.grammar import accepts
from plagal.tokens.vocabulary import ID_OF, TRAINING_TEMPLATE, count_bars, without_counts


def settings_with(stage1: TextSettings, stage2: TextSettings, **changes: Any) -> ConvertSettings:
    values = {"chords": True, "split": {"valid_percent": 20, "test_percent": 20}} | changes
    return ConvertSettings.model_validate(values | {"stage1": stage1.model_dump(), "stage2": stage2.model_dump()})


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("collected")
    write_hymns(root / "jazz", range(24))
    write_hymns(root / "gospel", range(12, 36), harmony=1, semitones=2)
    for stage, genre in (("stage1", "jazz"), ("stage2", "gospel")):
        sources = sources_file(root / f"{stage}.yaml", (genre, root / genre))
        collect(stage, collect_settings(sources, 24, {genre: 24}), root / stage, 1, Workers(1))
    return root


@pytest.fixture(scope="module")
def text(collected: Path) -> Path:
    settings = settings_with(text_settings(), text_settings(keep_original=False))
    prepare(collected / "stage1", collected / "stage2", collected / "text", settings, 3, Workers(1))
    return collected / "text"


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def parts_of(row: dict[str, Any]) -> tuple[str, list[str]]:
    """Prompt and words of the music."""
    prompt, _, answer = row["text"].removeprefix("<|im_start|>user\n").partition("<|im_end|>\n<|im_start|>assistant\n")
    return prompt, without_counts(answer.removesuffix("<|im_end|>").split(" "))


def every_row(text: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(text.glob("stage?/*.jsonl")) for row in rows_of(file)]


def test_every_row_is_the_template_around_words_that_the_grammar_accepts(text: Path):
    for row in every_row(text):
        prompt, words = parts_of(row)
        named = next((int(word.removeprefix("BARS_")) for word in prompt.split() if word.startswith("BARS_")), 0)
        if named and not row["metadata"]["excerpt"]:
            words = count_bars(words, named)
            assert words[-1] == "SONG_END" and f"BARS_{named}" in words and "BARS_1" in words
        assert row["text"] == TRAINING_TEMPLATE.format(prompt=prompt, words=" ".join(words))
        assert accepts(without_counts(words))


def test_bars_are_counted_down_only_where_the_prompt_names_a_length_and_the_piece_comes_to_its_end(text: Path):
    kinds = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
    for row in every_row(text):
        named, whole = " BARS_" in row["text"].partition("assistant")[0], not row["metadata"]["excerpt"]
        kinds[named, whole] += 1
        assert ("BAR_START BARS_" in row["text"]) == (named and whole)
    assert all(kinds.values())


def test_what_a_prompt_says_of_its_piece_is_true(text: Path):
    said = 0
    for row in every_row(text):
        prompt, words = parts_of(row)
        read, facts = read_prompt(prompt), facts_of(words, "x", "x")
        if read.bars is not None:
            said += 1
            assert read.bars == words.count("BAR_START") == facts.bars
        if read.metre is not None:
            assert f"{read.metre[0]}/{read.metre[1]}" == facts.metre
        if "BPM" in prompt:
            assert read.quarters_per_minute == pytest.approx(facts.tempo, rel=0.01)
    assert said > 5


def test_no_tune_of_validation_or_test_is_in_any_training_set(text: Path):
    seed_of = {split: set() for split in ("train", "valid", "test")}
    for file in text.glob("stage?/*.jsonl"):
        for row in rows_of(file):
            seed_of[file.stem].add(Path(row["metadata"]["path"]).stem)
    assert all(seed_of.values())
    assert not seed_of["train"] & (seed_of["valid"] | seed_of["test"])
    assert not seed_of["valid"] & seed_of["test"]


def test_training_has_copies_and_excerpts_and_the_others_each_piece_once_as_it_is(text: Path, collected: Path):
    report = json.loads((text / "stage1" / "report.json").read_text())
    assert report["rows"]["train"] == 3 * report["pieces"]["train"]
    assert report["rows"]["valid"] == report["pieces"]["valid"]
    bars = {row["metadata"]["bars"] for row in rows_of(text / "stage1" / "train.jsonl") if row["metadata"]["excerpt"]}
    assert bars <= {4, 8}
    tokens = {json.dumps(row["tokens"]) for row in rows_of(collected / "stage1" / "pieces.jsonl")}
    from plagal.tokens.vocabulary import ID_OF

    for row in rows_of(text / "stage1" / "test.jsonl"):
        assert json.dumps([ID_OF[word] for word in parts_of(row)[1]]) in tokens


def test_without_an_original_every_training_row_is_augmented(text: Path):
    shifts = {row["metadata"]["key"] for row in rows_of(text / "stage2" / "train.jsonl")}
    assert len(shifts) >= 5


def test_stage_one_is_the_same_bytes_whatever_stage_two_holds(collected: Path, text: Path, tmp_path: Path):
    settings = settings_with(text_settings(), text_settings(copies=1))
    write_hymns(tmp_path / "gospel", range(100, 130))
    sources = sources_file(tmp_path / "s.yaml", ("gospel", tmp_path / "gospel"))
    collect("stage2", collect_settings(sources, 30, {"gospel": 30}), tmp_path / "stage2", 1, Workers(1))
    prepare(collected / "stage1", tmp_path / "stage2", tmp_path / "text", settings, 3, Workers(1))
    for name in ("train.jsonl", "valid.jsonl", "test.jsonl", "report.json"):
        assert (tmp_path / "text" / "stage1" / name).read_bytes() == (text / "stage1" / name).read_bytes()


def test_workers_change_nothing_and_the_seed_changes_training_alone(collected: Path, text: Path, tmp_path: Path):
    settings = settings_with(text_settings(), text_settings(keep_original=False))
    prepare(collected / "stage1", collected / "stage2", tmp_path / "two", settings, 3, Workers(2))
    for file in text.glob("stage?/*"):
        assert (tmp_path / "two" / file.relative_to(text)).read_bytes() == file.read_bytes()
    prepare(collected / "stage1", collected / "stage2", tmp_path / "other", settings, 4, Workers(1))
    train = "stage1/train.jsonl"
    assert (tmp_path / "other" / train).read_bytes() != (text / train).read_bytes()


def test_copies_of_an_arrangement_are_other_arrangements_of_its_tune(tmp_path: Path):
    sources = tmp_path / "sources.yaml"
    sources.write_text("sources:\n- {kind: arranger, name: a, genre: worship, licence: MIT, attribution: us}\n")
    collect(
        "stage2",
        collect_settings(sources, 2, {"worship": 2}, fill_from_arranger={"worship": 2}),
        tmp_path / "stage2",
        1,
        Workers(1),
    )
    piece = next(read_pieces(tmp_path / "stage2"))
    few = text_settings(copies=3, keep_original=True, excerpts=0, live_share=0.0, revoice_share=0.0)
    anew = few.model_copy(update={"arrange_anew": True})

    def rhythms(text: TextSettings) -> list[list[str]]:
        rows = [json.loads(line)["text"].split() for line in text_rows(piece, "train", True, text, 1)[1]]
        return [[word for word in row if word.startswith(("BEAT_", "DUR_"))] for row in rows]

    copied, arranged = rhythms(few), rhythms(anew)
    assert copied[0] == copied[1] == copied[2], "a transposed copy keeps every onset and length"
    assert arranged[0] == copied[0] and len({tuple(row) for row in arranged}) == 3


def test_chords_are_left_out_where_params_say_so(collected: Path, tmp_path: Path):
    settings = settings_with(text_settings(), text_settings(), chords=False)
    prepare(collected / "stage1", collected / "stage2", tmp_path / "text", settings, 3, Workers(1))
    assert not any("CHORD_" in row["text"] for row in every_row(tmp_path / "text"))


def test_the_stock_mlx_lm_reads_the_rows_as_they_are(text: Path):
    from mlx_lm.tuner.datasets import TextDataset, create_dataset

    import plagal.model  # noqa: F401  # its BLAS must be there before MLX is imported

    class Config:
        mask_prompt = False

    rows = rows_of(text / "stage1" / "train.jsonl")
    dataset = create_dataset(rows, tokenizer=None, config=Config())
    assert isinstance(dataset, TextDataset)
    assert dataset[0] == rows[0]


def test_too_few_tunes_for_a_split_are_told_with_the_way_out(collected: Path, tmp_path: Path):
    write_hymns(tmp_path / "gospel", range(1))
    sources = sources_file(tmp_path / "s.yaml", ("gospel", tmp_path / "gospel"))
    collect("stage2", collect_settings(sources, 1, {"gospel": 1}), tmp_path / "stage2", 1, Workers(1))
    settings = settings_with(text_settings(), text_settings())
    with pytest.raises(CorpusError, match=r"valid_percent"):
        prepare(collected / "stage1", tmp_path / "stage2", tmp_path / "text", settings, 3, Workers(1))
    assert not (tmp_path / "text" / "stage2").exists()


def test_the_licences_and_names_of_all_that_is_trained_on_reach_the_models_card(text: Path, collected: Path) -> None:
    trained = {row["metadata"]["id"] for stage in STAGES for row in rows_of(text / stage / "train.jsonl")}
    pieces = [row["metadata"] for stage in STAGES for row in read_pieces(collected / stage)]
    provenance = read_provenance(text)
    assert sum(sum(origins.values()) for origins in provenance.values()) == sum(
        metadata["id"] in trained for metadata in pieces
    )
    card = fused_card(text)
    for metadata in pieces:
        if metadata["id"] in trained:
            assert f"| {metadata['licence']} |" in card and metadata["attribution"] in card
    assert "## Limits" in card


def test_an_excerpt_played_live_keeps_every_note_of_its_first_downbeat_and_its_number_of_bars(tmp_path: Path):
    """Four notes on every quarter: whatever a cut loses, it loses here."""
    chord = [(48, 24), (60, 24), (64, 24), (67, 24)]
    rows = [(quarter * 24, pitch + quarter % 5, length, 80) for quarter in range(64) for pitch, length in chord]
    score = regular(Score(np.array(rows, dtype=np.int32), (Metre(0, 4, 4),), (Tempo(0, 90.0),), (Key(0, 0),)))
    text = text_settings(
        copies=1, excerpts=40, excerpt_bars=(4,), live_share=1.0, transpose_semitones=0, revoice_share=0
    )
    metadata = dict.fromkeys(KEPT_METADATA, "x") | {"id": "1", "genre": "gospel", "style": "gospel"}
    row = {"tokens": [ID_OF[word] for word in encode(score)], "metadata": metadata}
    lines = [json.loads(line) for line in text_rows(row, "train", True, text, 1)[1]]
    excerpts = [parts_of(line)[1] for line in lines if line["metadata"]["excerpt"]]
    assert len(excerpts) == 40
    for words in excerpts:
        assert words.count("BAR_START") == 4
        assert sum(word.startswith("NOTE_ON") for word in words) == 4 * 16


MADE_ON_ONE_KERNEL = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[2]]
from corpus_helpers import collect_settings, sources_file, text_settings, write_hymns
from plagal.corpus.collect import collect
from plagal.plumbing.workers import Workers
from plagal.corpus.prepare import prepare
from test_prepare import settings_with

root = Path(sys.argv[1])
write_hymns(root / "jazz", range(8))
arrangements = "  - {kind: arranger, name: made, genre: gospel, style: worship, licence: CC0, attribution: us}\\n"
sources = sources_file(root / "sources.yaml", ("jazz", root / "jazz"), extra=arrangements)
for stage, settings in (
    ("stage1", collect_settings(sources, 8, {"jazz": 8})),
    ("stage2", collect_settings(sources, 8, {"gospel": 8}, fill_from_arranger={"gospel": 8})),
):
    collect(stage, settings, root / stage, 1, Workers(1))
settings = settings_with(text_settings(), text_settings(), split={"valid_percent": 40, "test_percent": 10})
prepare(root / "stage1", root / "stage2", root / "text", settings, 3, Workers(1))
"""


def test_every_processor_collects_and_converts_the_same_bytes(tmp_path: Path):
    made = []
    for core in ("Nehalem", "Haswell"):
        environment = {**os.environ, "OPENBLAS_CORETYPE": core, "OPENBLAS_NUM_THREADS": "1"}
        folder = tmp_path / core
        folder.mkdir()
        command = [sys.executable, "-c", MADE_ON_ONE_KERNEL, str(folder), str(Path(__file__).parent)]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        files = [file for stage in ("stage1", "stage2", "text") for file in sorted((folder / stage).rglob("*.jsonl"))]
        made.append({str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files})
    assert len(made[0]) > 5
    assert made[0] == made[1]
