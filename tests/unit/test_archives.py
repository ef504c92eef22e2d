"""Downloads from a real HTTP server on loopback, and archives that can't be trusted."""

from __future__ import annotations

import hashlib
import io
import resource
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from corpus_helpers import hymn

from plagal.corpus.archives import CACHE_VARIABLE, fetch, unpack
from plagal.corpus.sources import ArchiveSource, candidates, fetch_source, load_sources, sources_table
from plagal.music.midi import to_midi_bytes
from plagal.plumbing.errors import CorpusError, DiskError

BODY = bytes(range(256)) * 2000
SUM = hashlib.sha256(BODY).hexdigest()


class Server:
    """What the server answers with, and what it was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"/file.bin": BODY}
        self.cuts: list[int] = []
        """After so many bytes the connection of each next request is cut."""
        self.ranges = True
        self.redirects: dict[str, str] = {}
        self.asked: list[str] = []
        self.url = ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.headers.get("Range", "whole"))
            if self.path in state.redirects:
                self.send_response(302)
                self.send_header("Location", state.redirects[self.path])
                self.end_headers()
                return
            if self.path not in state.files:
                self.send_error(404)
                return
            self._answer(state.files[self.path])

        def _answer(self, body: bytes) -> None:
            start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if state.ranges else 0
            if start > len(body):
                self.send_error(416)
                return
            rest = body[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest[: state.cuts.pop(0)] if state.cuts else rest)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}"
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name.split("-", 1)[1] for path in folder.iterdir())


def test_a_file_is_fetched_once_and_then_only_checked(server: Server, tmp_path: Path):
    file = fetch(f"{server.url}/file.bin", SUM, tmp_path)
    assert file.read_bytes() == BODY
    assert fetch(f"{server.url}/file.bin", SUM, tmp_path) == file
    assert server.asked == ["whole"]


def test_a_cut_download_goes_on_where_it_stopped(server: Server, tmp_path: Path):
    server.cuts = [200_000, 100_000]
    file = fetch(f"{server.url}/file.bin", SUM, tmp_path)
    assert file.read_bytes() == BODY
    assert server.asked[0] == "whole"
    assert all(asked.startswith("bytes=") for asked in server.asked[1:])
    assert leftovers(tmp_path) == ["file.bin"]


def test_a_server_without_ranges_is_asked_for_the_whole_again(server: Server, tmp_path: Path):
    server.cuts, server.ranges = [200_000], False
    assert fetch(f"{server.url}/file.bin", SUM, tmp_path).read_bytes() == BODY


def test_a_connection_that_is_always_cut_is_told_and_the_next_run_goes_on(server: Server, tmp_path: Path):
    server.cuts = [100_000, 100_000, 100_000]
    with pytest.raises(CorpusError, match=r"file\.bin cannot be fetched.*continues where it stopped"):
        fetch(f"{server.url}/file.bin", SUM, tmp_path)
    assert leftovers(tmp_path) == ["file.bin.partial"]
    assert fetch(f"{server.url}/file.bin", SUM, tmp_path).read_bytes() == BODY
    assert server.asked[-1] != "whole"


def test_a_wrong_checksum_is_refused_and_leaves_nothing(server: Server, tmp_path: Path):
    with pytest.raises(CorpusError, match="does not have the sha256"):
        fetch(f"{server.url}/file.bin", "0" * 64, tmp_path)
    assert leftovers(tmp_path) == []


def test_a_partial_file_that_is_longer_than_the_servers_is_thrown_away(server: Server, tmp_path: Path):
    (tmp_path / f"{SUM[:12]}-file.bin.partial").write_bytes(BODY + b"more")
    assert fetch(f"{server.url}/file.bin", SUM, tmp_path).read_bytes() == BODY


def test_a_redirect_is_followed(server: Server, tmp_path: Path):
    server.redirects["/old"] = f"{server.url}/file.bin"
    assert fetch(f"{server.url}/old", SUM, tmp_path).read_bytes() == BODY


def test_redirects_without_end_are_told(server: Server, tmp_path: Path):
    server.redirects["/round"] = f"{server.url}/round"
    with pytest.raises(CorpusError, match="cannot be fetched"):
        fetch(f"{server.url}/round", SUM, tmp_path)


def test_a_missing_file_and_a_dead_server_are_told(server: Server, tmp_path: Path):
    with pytest.raises(CorpusError, match="404"):
        fetch(f"{server.url}/gone", SUM, tmp_path)
    with pytest.raises(CorpusError, match="cannot be fetched"):
        fetch("http://127.0.0.1:9/file.bin", SUM, tmp_path)


def test_a_full_disk_is_told_and_no_file_has_the_whole_ones_name(server: Server, tmp_path: Path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(DiskError, match="no room on the disk"):
            fetch(f"{server.url}/file.bin", SUM, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "file.bin" not in leftovers(tmp_path)
    assert fetch(f"{server.url}/file.bin", SUM, tmp_path).read_bytes() == BODY


MIDI = to_midi_bytes(hymn(1))
ESCAPES = ("../out.mid", "/plagal-out.mid", "a/../../out.mid", "C:\\out.mid", "..\\out.mid")


def zip_of(members: dict[str, bytes], link: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
        if link:
            entry = zipfile.ZipInfo(link)
            entry.external_attr = 0o120777 << 16
            archive.writestr(entry, "/etc/passwd")
    return buffer.getvalue()


def tar_of(members: dict[str, bytes], link: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, body in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
        if link:
            for name, kind in ((link, tarfile.SYMTYPE), (f"hard-{link}", tarfile.LNKTYPE)):
                entry = tarfile.TarInfo(name)
                entry.type, entry.linkname = kind, "/etc/passwd"
                archive.addfile(entry)
    return buffer.getvalue()


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_members_that_try_to_leave_their_folder_stay_packed_and_are_listed(tmp_path: Path, pack):
    archive = tmp_path / "a"
    archive.write_bytes(
        pack({"fine/a.mid": MIDI, "b.MID": MIDI, "notes.txt": b"x", **dict.fromkeys(ESCAPES, MIDI)}, "l.mid")
    )
    unpack(archive, tmp_path / "deep" / "target", ["*.mid"])
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["a", "deep/target/files/b.MID", "deep/target/files/fine/a.mid", "deep/target/left_out.json"]
    listed = (tmp_path / "deep" / "target" / "left_out.json").read_text()
    assert all(name.replace("\\", "\\\\") in listed for name in (*ESCAPES, "l.mid"))
    assert not Path("/plagal-out.mid").exists()


def test_a_member_that_would_unpack_to_gigabytes_is_left_out(tmp_path: Path):
    archive = tmp_path / "a.zip"
    archive.write_bytes(zip_of({"bomb.mid": b"0" * 17_000_000, "fine.mid": MIDI}))
    unpack(archive, tmp_path / "t", ["*.mid"])
    assert [path.name for path in (tmp_path / "t" / "files").iterdir()] == ["fine.mid"]
    assert "too large" in (tmp_path / "t" / "left_out.json").read_text()


@pytest.mark.parametrize("damage", ["cut zip", "cut tar", "noise"])
def test_a_damaged_archive_is_named_and_leaves_nothing(tmp_path: Path, damage: str):
    whole = {"cut zip": zip_of, "cut tar": tar_of}.get(damage, lambda _: b"noise" * 100)({"a.mid": MIDI, "b.mid": MIDI})
    archive = tmp_path / "archive.bin"
    archive.write_bytes(whole if damage == "noise" else whole[: len(whole) * 2 // 3])
    with pytest.raises(CorpusError, match=r"archive\.bin is damaged or no archive"):
        unpack(archive, tmp_path / "t", ["*.mid"])
    assert [path.name for path in tmp_path.iterdir()] == ["archive.bin"]


def test_an_enabled_archive_offers_its_music_and_its_problems(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    body = zip_of({"x/a.mid": MIDI, "x/b.txt": b"", "../c.mid": MIDI})
    server.files["/music.zip"] = body
    source = ArchiveSource(
        kind="archive", name="net", genre="jazz", licence="CC0", attribution="x", url=f"{server.url}/music.zip",
        sha256=hashlib.sha256(body).hexdigest(), enabled=True,
    )  # fmt: skip
    offered = {candidate.path: candidate.problem for candidate in candidates(source, 1)}
    assert offered == {"net/x/a.mid": "", "net/../c.mid": "unsafe member"}
    list(candidates(source, 1))
    assert len(server.asked) == 1


def test_an_archive_whose_sum_nobody_has_noted_is_fetched_and_its_sum_told_but_never_opened(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    body = zip_of({"a.mid": MIDI})
    server.files["/music.zip"] = body
    source = ArchiveSource(
        kind="archive", name="net", genre="jazz", licence="CC0", attribution="x", url=f"{server.url}/music.zip",
        sha256="", enabled=True,
    )  # fmt: skip
    told = hashlib.sha256(body).hexdigest()
    with pytest.raises(CorpusError, match=f"net has no sha256.*music.zip has {told}"):
        list(candidates(source, 1))
    assert leftovers(tmp_path / "cache") == ["music.zip"]
    (candidate,) = candidates(source.model_copy(update={"sha256": told}), 1)
    assert candidate.path == "net/a.mid"
    assert len(server.asked) == 1, "what lies there already is not fetched again"


def test_a_fetch_by_name_notes_the_sum_of_each_file_and_another_file_is_left_out_later(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    server.files["/music.zip"] = zip_of({"x/a.mid": MIDI, "x/b.txt": b""})
    listed = tmp_path / "stage.yaml"
    listed.write_text(
        "sources:\n  - {kind: archive, name: net, genre: jazz, licence: CC0, attribution: x, "
        f"url: {server.url}/music.zip, sha256: '', enabled: true}}\n"
    )
    assert sources_table([listed]) == [("stage", "net", "archive", "jazz", "CC0", "not known", "on")]
    assert "net: 1 files, 0 left out; CC0; their sums are noted in" in fetch_source("net", [listed])
    noted = tmp_path / "net.sha256"
    assert noted.read_text() == f"{hashlib.sha256(MIDI).hexdigest()}  x/a.mid\n"
    (source,) = load_sources(listed)
    assert [(candidate.path, candidate.problem) for candidate in candidates(source, 1)] == [("net/x/a.mid", "")]
    noted.write_text(f"{'0' * 64}  x/a.mid\n")
    (candidate,) = candidates(source, 1)
    assert candidate.problem == "sha256 not as pinned"
    assert len(server.asked) == 1, "what lies there already is not fetched again"
    with pytest.raises(CorpusError, match="'river' is not a source that can be fetched; choose one of net"):
        fetch_source("river", [listed])


def test_an_archive_that_unpacks_to_far_more_than_music_is_refused_before_it_does(tmp_path: Path):
    archive = tmp_path / "a.zip"
    archive.write_bytes(zip_of({f"{number}.mid": bytes(15_000_000) for number in range(18)}))
    with pytest.raises(CorpusError, match=r"a\.zip is damaged or no archive: it unpacks to more than 256000000 bytes"):
        unpack(archive, tmp_path / "t", ["*.mid"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_names_that_no_file_system_takes_or_that_stand_twice_are_left_out(tmp_path: Path):
    archive = tmp_path / "a.zip"
    archive.write_bytes(zip_of({"a.mid": MIDI, "./a.mid": MIDI, "a.mid/b.mid": MIDI, "n" * 300 + ".mid": MIDI}))
    unpack(archive, tmp_path / "t", ["*.mid"])
    assert [path.name for path in (tmp_path / "t" / "files").iterdir()] == ["a.mid"]
    listed = (tmp_path / "t" / "left_out.json").read_text()
    assert listed.count("name stands twice") == 2 and listed.count("unsafe member") == 1


def test_a_zip_member_whose_name_has_no_letter_is_left_out(tmp_path: Path):
    packed = bytearray(zip_of({"a.mid": MIDI}))
    entry = packed.index(b"PK\1\2")
    packed[entry + 28 : entry + 30] = bytes(2)  # the length of the name in the directory
    del packed[entry + 46 : entry + 51]
    packed[-10:-6] = (46).to_bytes(4, "little")
    archive = tmp_path / "a.zip"
    archive.write_bytes(packed)
    unpack(archive, tmp_path / "t", ["*"])
    assert not list((tmp_path / "t" / "files").iterdir())
    assert "unsafe member" in (tmp_path / "t" / "left_out.json").read_text()


def test_two_sources_of_one_archive_and_changed_globs_each_see_their_own_files(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    server.files["/music.zip"] = packed = zip_of({"hymns/a.mid": MIDI, "jazz/b.mid": MIDI})

    def offered(*globs: str) -> list[str]:
        source = ArchiveSource(
            kind="archive", name="net", genre="jazz", licence="CC0", attribution="x", url=f"{server.url}/music.zip",
            sha256=hashlib.sha256(packed).hexdigest(), enabled=True, files=globs,
        )  # fmt: skip
        return sorted(candidate.path for candidate in candidates(source, 0))

    assert offered("hymns/*") == ["net/hymns/a.mid"]
    assert offered("jazz/*") == ["net/jazz/b.mid"]
    assert offered("hymns/*", "jazz/*") == ["net/hymns/a.mid", "net/jazz/b.mid"]
