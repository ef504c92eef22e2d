"""One stage's corpus from folders, the arranger and bad files."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus_helpers import collect_settings, hymn, sources_file, write_hymns

from plagal.corpus.collect import PieceWriter, collect, piece_files, read_pieces
from plagal.music.edits import transpose
from plagal.music.midi import write_midi
from plagal.plumbing.errors import CorpusError, DiskError
from plagal.plumbing.workers import Workers
from plagal.tokens.grammar import accepts
from plagal.tokens.vocabulary import WORD_OF

ARRANGER = (
    "  - {kind: arranger, name: arranged, genre: gospel, style: traditional_gospel, licence: MIT, attribution: us}\n"
)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return list(read_pieces(folder))


def discards(folder: Path) -> dict[str, str]:
    lines = (folder / "discards.jsonl").read_text(encoding="utf-8").splitlines()
    return {Path(row["path"]).name: row["reason"] for row in map(json.loads, lines)}


def adds_up(report: dict[str, Any]) -> bool:
    return bool(report["offered"] == report["found"] + sum(report["discarded"].values()))


def test_quotas_are_filled_from_real_pieces_first_then_the_arranger_then_surplus(tmp_path: Path):
    write_hymns(tmp_path / "gospel", range(3))
    write_hymns(tmp_path / "jazz", range(10, 20))
    sources = sources_file(
        tmp_path / "s.yaml", ("gospel", tmp_path / "gospel"), ("jazz", tmp_path / "jazz"), extra=ARRANGER
    )
    settings = collect_settings(
        sources, 16, {"gospel": 8, "jazz": 4}, fill_from_arranger={"gospel": 4}, fill_from_surplus=True
    )
    report = collect("stage1", settings, tmp_path / "out", 1)
    gospel, jazz = report["genres"]["gospel"], report["genres"]["jazz"]
    assert (gospel["real"], gospel["synthetic"], gospel["short"]) == (3, 4, 1)
    assert (jazz["real"], jazz["surplus"], jazz["discarded"]) == (4, 5, {"not needed": 1})
    assert report["found"] == 16
    assert adds_up(report)
    assert sum(row["metadata"]["synthetic"] for row in rows_of(tmp_path / "out")) == 4


def test_nothing_is_synthetic_unless_params_say_so(tmp_path: Path):
    write_hymns(tmp_path / "gospel", range(2))
    sources = sources_file(tmp_path / "s.yaml", ("gospel", tmp_path / "gospel"), extra=ARRANGER)
    report = collect("stage1", collect_settings(sources, 10, {"gospel": 10}), tmp_path / "out", 1)
    assert (report["found"], report["genres"]["gospel"]["short"]) == (2, 8)


def test_quotas_shrink_with_the_target(tmp_path: Path):
    write_hymns(tmp_path / "a", range(8))
    write_hymns(tmp_path / "b", range(10, 18))
    sources = sources_file(tmp_path / "s.yaml", ("a", tmp_path / "a"), ("b", tmp_path / "b"))
    report = collect("stage1", collect_settings(sources, 5, {"a": 60, "b": 40}), tmp_path / "out", 1)
    assert (report["genres"]["a"]["real"], report["genres"]["b"]["real"]) == (3, 2)


def test_what_rounding_leaves_of_a_quota_goes_to_the_largest_remainder(tmp_path: Path):
    write_hymns(tmp_path / "worship", range(8))
    sources = sources_file(tmp_path / "s.yaml", ("worship", tmp_path / "worship"))
    quotas = {"traditional_gospel": 200, "contemporary_gospel": 150, "gospel_jazz": 100, "worship": 50}
    report = collect("stage2", collect_settings(sources, 8, quotas), tmp_path / "out", 1)
    assert [genre["wanted"] for genre in report["genres"].values()] == [3, 2, 2, 1]
    assert report["genres"]["worship"]["real"] == 1


def test_where_only_genres_without_a_share_are_offered_it_says_so(tmp_path: Path):
    write_hymns(tmp_path / "worship", range(3))
    sources = sources_file(tmp_path / "s.yaml", ("worship", tmp_path / "worship"))
    with pytest.raises(CorpusError, match="worship's share of 2 is 0"):
        collect("stage2", collect_settings(sources, 2, {"gospel": 450, "worship": 50}), tmp_path / "out", 1)


def test_each_bad_file_gives_a_row_with_its_reason(tmp_path: Path):
    folder = tmp_path / "gospel"
    write_hymns(folder, range(2))
    write_midi(hymn(0), folder / "renamed.mid")
    write_midi(transpose(hymn(1), 3), folder / "transposed.mid")
    write_midi(hymn(5, bars=2), folder / "short.mid")
    write_midi(hymn(6, bars=30), folder / "long.mid")
    (folder / "noise.mid").write_bytes(b"MThd\x00\x00 nothing")
    (folder / "empty.mid").touch()
    (folder / "paper.pdf").write_bytes(b"%PDF")
    (folder / "wrong.xml").write_text("<html></html>")
    (folder / "песня.abc").write_text("X:1\nM:4/4\nK:none of these\nthis is not a tune\n")
    with (folder / "huge.mid").open("wb") as handle:
        handle.truncate(2 << 30)
    settings = collect_settings(
        sources_file(tmp_path / "s.yaml", ("gospel", folder)), 20, {"gospel": 20}, max_bars=20, min_notes=30
    )
    report = collect("stage1", settings, tmp_path / "out", 1)
    found = discards(tmp_path / "out")
    assert {found.pop(name) for name in ("renamed.mid", "hymn0.mid") if name in found} == {"duplicate"}
    assert {found.pop(name) for name in ("transposed.mid", "hymn1.mid") if name in found} == {"near-duplicate"}
    assert found == {
        "short.mid": "too short", "long.mid": "too long", "noise.mid": "unreadable", "empty.mid": "empty file",
        "paper.pdf": "no music file", "wrong.xml": "unreadable", "песня.abc": found["песня.abc"],
        "huge.mid": "too large",
    }  # fmt: skip
    assert report["found"] == 2
    assert adds_up(report)


def test_a_row_holds_prompt_ids_and_all_that_the_manifest_promises(tmp_path: Path):
    write_hymns(tmp_path / "gospel", range(1))
    sources = sources_file(tmp_path / "s.yaml", ("gospel", tmp_path / "gospel"))
    collect("stage2", collect_settings(sources, 1, {"gospel": 1}), tmp_path / "out", 1)
    (row,) = rows_of(tmp_path / "out")
    assert accepts([WORD_OF[number] for number in row["tokens"]])
    assert row["prompt"] == "Generate Gospel in C major"
    metadata = row["metadata"]
    assert len(metadata["sha256"]) == 64
    assert metadata["path"] == "gospel/hymn0.mid"
    expected = {
        "source": "own_gospel", "licence": "test", "attribution": "test", "genre": "gospel", "style": "gospel",
        "title": "hymn0", "tune": "", "key": "C major", "metre": "4/4", "tempo": 90, "bars": 12, "synthetic": False,
        "domain": "gospel_real",
    }  # fmt: skip
    assert {name: metadata[name] for name in expected} == expected


def test_what_forbids_commercial_use_is_left_out_where_params_say_so(tmp_path: Path):
    write_hymns(tmp_path / "gospel", range(2))
    sources = sources_file(tmp_path / "s.yaml", ("gospel", tmp_path / "gospel"))
    sources.write_text(sources.read_text().replace("licence: test", "licence: CC BY-NC 4.0") + ARRANGER)
    settings = collect_settings(sources, 4, {"gospel": 4}, commercial_use_only=True, fill_from_arranger={"gospel": 1})
    report = collect("stage1", settings, tmp_path / "out", 1)
    assert report["discarded"] == {"licence": 2}
    assert report["genres"]["gospel"]["synthetic"] == 1


def test_the_outcome_depends_on_files_settings_and_seed_alone(tmp_path: Path):
    write_hymns(tmp_path / "gospel", range(30))
    sources = sources_file(tmp_path / "s.yaml", ("gospel", tmp_path / "gospel"), extra=ARRANGER)
    settings = collect_settings(sources, 22, {"gospel": 20, "jazz": 2}, fill_from_surplus=True)
    collect("stage1", settings, tmp_path / "one", 1, Workers(1))
    collect("stage1", settings, tmp_path / "two", 1, Workers(2))
    collect("stage1", settings, tmp_path / "three", 2, Workers(1))
    one, two, three = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two", "three")
    )
    assert one == two
    assert one != three


def test_no_piece_at_all_is_an_error_that_says_why_and_what_to_do(tmp_path: Path):
    folder = tmp_path / "gospel"
    folder.mkdir()
    (folder / "paper.pdf").write_bytes(b"%PDF")
    sources = sources_file(tmp_path / "s.yaml", ("gospel", folder))
    with pytest.raises(CorpusError, match=r"1 no music file.*data/midi_sources"):
        collect("stage1", collect_settings(sources, 5, {"gospel": 5}), tmp_path / "out", 1)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_somebody_elses_files_is_not_replaced(tmp_path: Path):
    write_hymns(tmp_path / "gospel", range(2))
    sources = sources_file(tmp_path / "s.yaml", ("gospel", tmp_path / "gospel"))
    settings = collect_settings(sources, 2, {"gospel": 2})
    with pytest.raises(CorpusError, match="gospel contains other files"):
        collect("stage1", settings, tmp_path / "gospel", 1)
    assert (tmp_path / "gospel" / "hymn0.mid").exists()
    for _ in range(2):  # what collecting wrote, it may replace
        collect("stage1", settings, tmp_path / "out", 1)


@pytest.mark.parametrize("name", ["ハレルヤ.mid", "שיר.mid", "a\nb.mid", "\u202egnp.mid", "🎹.mid", b"\xff\xfe.mid"])
def test_a_name_in_any_script_is_a_row_like_any_other(tmp_path: Path, name: str | bytes):
    write_hymns(tmp_path / "gospel", range(1))
    file = tmp_path / "gospel" / os.fsdecode(name)
    (tmp_path / "gospel" / "hymn0.mid").rename(file)
    file.with_suffix(".pdf").touch()
    sources = sources_file(tmp_path / "s.yaml", ("gospel", tmp_path / "gospel"))
    report = collect("stage1", collect_settings(sources, 2, {"gospel": 2}), tmp_path / "out", 1)
    assert (report["found"], report["discarded"]) == (1, {"no music file": 1})
    assert len(rows_of(tmp_path / "out")) == len(discards(tmp_path / "out")) == 1


def test_a_full_disk_leaves_what_was_there(tmp_path: Path):
    import resource

    write_hymns(tmp_path / "gospel", range(8))
    sources = sources_file(tmp_path / "s.yaml", ("gospel", tmp_path / "gospel"))
    settings = collect_settings(sources, 8, {"gospel": 8})
    collect("stage1", settings, tmp_path / "out", 1, Workers(1))
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(DiskError, match="out"):
            collect("stage1", settings, tmp_path / "out", 2, Workers(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


def test_the_table_names_every_genre_what_was_wanted_found_and_why_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_hymns(tmp_path / "gospel", range(3))
    (tmp_path / "gospel" / "paper.pdf").write_bytes(b"%PDF")
    sources = sources_file(tmp_path / "s.yaml", ("gospel", tmp_path / "gospel"))
    collect("stage1", collect_settings(sources, 7, {"gospel": 5, "jazz": 2}), tmp_path / "out", 1)
    lines = capsys.readouterr().out.splitlines()
    header = "genre wanted real synthetic surplus found played short left out, and why"
    shown = [" ".join(line.split()) for line in lines]
    assert shown[0] == header
    assert shown[2] == "gospel 5 3 0 0 3 0 2 1 no music file"
    assert shown[3] == "jazz 2 0 0 0 0 0 2"
    assert lines[5] == "stage1: 3 of 7 pieces, 3 tunes"


@pytest.mark.parametrize(("expected", "names"), [(5, ["p.jsonl"]), (11, ["p-00000.jsonl", "p-00001.jsonl"])])
def test_past_a_shards_size_the_output_is_shards_in_order(tmp_path: Path, expected: int, names: list[str]):
    with PieceWriter(tmp_path, "p", expected, shard_pieces=10) as writer:
        for number in range(expected):
            writer.write({"n": number})
    assert [path.name for path in piece_files(tmp_path, "p")] == names
    assert [row["n"] for row in read_pieces(tmp_path, "p")] == list(range(expected))


HYMNAL = Path(__file__).parents[3] / "shared" / "corpus" / "openhymnal"


@pytest.mark.skipif(not HYMNAL.exists(), reason="Open Hymnal is not there")
def test_the_hymns_of_open_hymnal_add_up(tmp_path: Path):
    sources = sources_file(tmp_path / "s.yaml", ("traditional_gospel", HYMNAL / "gospel_song"))
    count = len(list((HYMNAL / "gospel_song").glob("*.mid")))
    report = collect("stage2", collect_settings(sources, count, {"traditional_gospel": count}), tmp_path / "out", 1)
    assert report["offered"] == count
    assert adds_up(report)
    assert report["found"] > 0.9 * count


def test_how_hot_a_file_was_recorded_does_not_reach_the_words() -> None:
    from plagal.corpus.reading import USUAL_VELOCITY, level_loudness
    from plagal.music.arranger.arrange import arrange
    from plagal.music.score import VELOCITY

    score = arrange(None, "worship", seed=3)
    hot = replace(score, notes=score.notes.copy())
    hot.notes[:, VELOCITY] += 20
    assert (level_loudness(hot).notes == level_loudness(score).notes).all()
    assert np.median(level_loudness(hot).notes[:, VELOCITY]) == USUAL_VELOCITY


def test_what_reading_loses_stands_in_the_report_and_in_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "own"
    folder.mkdir()
    body = " ".join(
        f"{{d}}{letter}{octave}|" for letter in "CDEFGABc" for octave in ("2 E2 G2 c2", "4 G4", "2 B2 d2 f2")
    )
    (folder / "tune.abc").write_text(f"X:1\nT:Graces\nM:4/4\nL:1/8\nQ:1/4=90\nK:C\n{body}\n", encoding="utf-8")
    sources = sources_file(tmp_path / "s.yaml", ("gospel", folder))
    report = collect("stage1", collect_settings(sources, 1, {"gospel": 1}), tmp_path / "out", 1)
    assert report["losses"]["grace_notes"] == {"files": 1, "count": 24}
    assert "grace_notes" in capsys.readouterr().out
