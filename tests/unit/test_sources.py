"""What sources offer, and what they say of files that are no music."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from corpus_helpers import hymn, sources_file

from plagal.corpus.reading import Discard, Limits, Piece, read_candidate
from plagal.corpus.sources import ArrangerSource, candidates, load_sources
from plagal.music.midi import write_midi
from plagal.plumbing.errors import CorpusError


def offered(folder: Path, tmp_path: Path) -> dict[str, str]:
    """Path below the folder -> problem."""
    (source,) = load_sources(sources_file(tmp_path / "sources.yaml", ("gospel", folder)))
    return {candidate.path.partition("/")[2]: candidate.problem for candidate in candidates(source, 1)}


def test_every_file_of_a_user_comes_with_its_problem_or_none(tmp_path: Path):
    folder = tmp_path / "music"
    (folder / "deep" / "er").mkdir(parents=True)
    for name in ("a.mid", "B.MID", "c.kar", "deep/er/d.midi", "зима 冬 🎹.mid"):
        write_midi(hymn(1), folder / name)
    (folder / "scan.pdf").write_bytes(b"%PDF-1.7")
    (folder / "empty.mid").touch()
    (folder / ".hidden.mid").touch()
    (folder / "two.abc").write_text("X:1\nK:C\nCDEF|\n\nX:2\nK:C\nGABc|\n")
    (folder / "none.abc").write_text("no tune here")
    (folder / "dangling.mid").symlink_to(folder / "gone.mid")
    assert offered(folder, tmp_path) == {
        "a.mid": "", "B.MID": "", "c.kar": "", "deep/er/d.midi": "", "зима 冬 🎹.mid": "", "two.abc#1": "",
        "two.abc#2": "", "scan.pdf": "no music file", "empty.mid": "empty file", "none.abc": "unreadable",
        "dangling.mid": "unreadable",
    }  # fmt: skip


def test_links_that_form_a_loop_are_walked_once(tmp_path: Path):
    folder = tmp_path / "music"
    (folder / "inner").mkdir(parents=True)
    write_midi(hymn(1), folder / "inner" / "a.mid")
    (folder / "inner" / "up").symlink_to(folder)
    (folder / "self.mid").symlink_to(folder / "self.mid")
    assert offered(folder, tmp_path) == {"inner/a.mid": "", "self.mid": "unreadable"}


def test_a_file_of_two_gigabytes_is_not_read(tmp_path: Path):
    folder = tmp_path / "music"
    folder.mkdir()
    with (folder / "huge.mid").open("wb") as handle:
        handle.truncate(2 << 30)
    assert offered(folder, tmp_path) == {"huge.mid": "too large"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_the_right_to_read_is_unreadable(tmp_path: Path):
    folder = tmp_path / "music"
    folder.mkdir()
    write_midi(hymn(1), folder / "a.mid")
    (folder / "a.mid").chmod(0)
    assert offered(folder, tmp_path) == {"a.mid": "unreadable"}


def test_a_pipe_is_not_waited_for(tmp_path: Path):
    folder = tmp_path / "music"
    folder.mkdir()
    os.mkfifo(folder / "pipe.mid")
    assert offered(folder, tmp_path) == {"pipe.mid": "unreadable"}


def test_a_folder_that_is_not_there_offers_nothing(tmp_path: Path):
    assert offered(tmp_path / "nowhere", tmp_path) == {}


def test_an_arranger_never_ends_and_varies_tune_key_and_seed():
    source = ArrangerSource(
        kind="arranger", name="a", genre="gospel", style="worship", licence="MIT", attribution="x", keys=("Db", "F")
    )
    endless = candidates(source, 3)
    drawn = [next(endless) for _ in range(200)]
    assert len({candidate.path for candidate in drawn}) == 200
    assert {candidate.key.removesuffix("m") for candidate in drawn} == {"Db", "F"}
    again = candidates(source, 3)
    assert [next(again) for _ in range(200)] == drawn
    assert all(candidate.synthetic for candidate in drawn)


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_the_sources_of_the_project_are_readable_and_no_archive_is_on(stage: str):
    sources = load_sources(Path(__file__).parents[2] / "sources" / f"{stage}.yaml")
    assert all(source.licence and source.attribution for source in sources)
    archives = [source for source in sources if source.kind == "archive"]
    assert archives and not any(source.enabled for source in archives)
    assert all(not list(candidates(source, 1)) for source in archives)


def test_every_music21_file_that_the_project_names_is_there():
    sources = load_sources(Path(__file__).parents[2] / "sources" / "stage1.yaml")
    for source in sources:
        if source.kind == "music21":
            missing = [candidate.path for candidate in candidates(source, 1) if candidate.problem]
            assert not missing


def test_a_file_that_does_not_state_the_rights_its_source_demands_is_left_out(tmp_path: Path):
    folder = tmp_path / "music"
    folder.mkdir()
    for name, rights in (("free.ly", "Public Domain"), ("held.ly", "Creative Commons Attribution-ShareAlike 3.0")):
        notes = "c'4 d' e' f' g' a' g' f' " * 16
        (folder / name).write_text(f'\\header {{\n copyright = "{rights}"\n}}\n\\score {{ {{ {notes} }} }}\n')
    listed = tmp_path / "sources.yaml"
    listed.write_text(
        f"sources:\n  - {{kind: folder, name: a, genre: gospel, licence: public domain, attribution: x, path: {folder},"
        " must_state: public domain}\n"
    )
    (source,) = load_sources(listed)
    limits = Limits(min_notes=8, max_notes=4000, min_bars=2, max_bars=400, min_confidence=0.5)
    read = {Path(found.file).name: read_candidate(found, limits) for found in candidates(source, 1)}
    assert isinstance(read["free.ly"], Piece)
    assert isinstance(read["held.ly"], Discard)
    assert read["held.ly"].reason == "licence"


def test_the_sums_of_florence_prices_files_are_known_before_any_fetch():
    folder = Path(__file__).parents[2] / "sources"
    sums = {name: (folder / f"{name}.sha256").read_text().splitlines() for name in ("price_spirituals", "price_songs")}
    assert {name: len(lines) for name, lines in sums.items()} == {"price_spirituals": 11, "price_songs": 95}
    assert all(len(line.split()[0]) == 64 for lines in sums.values() for line in lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sources: 5", "must hold a list"),
        ("[", "is not YAML"),
        ("sources:\n  - {kind: river}", "river"),
        ("sources:\n  - {kind: folder, name: a, genre: b, licence: c, attribution: d, path: e, sise: 3}", "sise"),
        (
            "sources:\n" + 2 * "  - {kind: folder, name: a, genre: b, licence: c, attribution: d, path: e}\n",
            "appears twice",
        ),
    ],
)
def test_a_wrong_list_of_sources_is_told_in_one_line(tmp_path: Path, text: str, said: str):
    file = tmp_path / "sources.yaml"
    file.write_text(text)
    with pytest.raises(CorpusError, match=said) as caught:
        load_sources(file)
    assert "\n" not in str(caught.value)
    assert "sources.yaml" in str(caught.value)


def test_a_missing_list_of_sources_is_named(tmp_path: Path):
    with pytest.raises(CorpusError, match=r"none\.yaml is missing"):
        load_sources(tmp_path / "none.yaml")
