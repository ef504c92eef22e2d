"""Connections and requests of clients that are slow, broken or hostile, on a real server on loopback."""

from __future__ import annotations

import gzip
import json
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
from model_helpers import tiny_base
from serving_helpers import ask, running

from plagal.plumbing.errors import BusyError, InputError
from plagal.serving import api as process
from plagal.serving import guards
from plagal.serving.api import listen, most_connections
from plagal.serving.desk import Desk
from waiting import wait_until

Server = tuple[httpx.Client, Desk]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server")) as served:
        yield served


@pytest.fixture
def client(server: Server) -> httpx.Client:
    return server[0]


def connect(client: httpx.Client) -> socket.socket:
    return socket.create_connection(("127.0.0.1", client.base_url.port or 0), timeout=20)


def head(client: httpx.Client, method: str, target: str, *lines: str) -> bytes:
    host = f"Host: 127.0.0.1:{client.base_url.port}"
    return "\r\n".join([f"{method} {target} HTTP/1.1", host, *lines, "", ""]).encode("latin-1")


def read(taken: socket.socket) -> bytes:
    """Everything until the server closes. Raises TimeoutError where it does not within 20 s."""
    got = b""
    while part := taken.recv(1 << 16):
        got += part
    return got


def test_a_body_that_trickles_on_after_its_answer_is_cut(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "BODY_SECONDS", 0.2)
    with connect(client) as taken:
        taken.sendall(head(client, "POST", "/api/pieces", "Content-Type: application/json", "Content-Length: 9999"))
        assert b" 408 " in taken.recv(4096)[:20]
        taken.sendall(b" ")
        with suppress(ConnectionResetError):  # a close with our blank unread is a reset
            read(taken)


def test_half_an_upload_is_never_acted_on(server: Server) -> None:
    client, desk = server
    before = len(desk.pieces)
    body = json.dumps({"prompt": "gospel", "bars": 1}).encode()
    with connect(client) as taken:
        lines = ("Content-Type: application/json", f"Content-Length: {len(body) + 5}")
        taken.sendall(head(client, "POST", "/api/pieces", *lines) + body)
        taken.shutdown(socket.SHUT_WR)
        read(taken)  # the server has seen that no more will come, and is through with it
    assert client.get("/api/health").status_code == 200
    assert len(desk.pieces) == before


def test_a_packed_body_and_one_in_another_alphabet_are_refused_with_the_reason(client: httpx.Client) -> None:
    body = json.dumps({"prompt": "gospel", "bars": 1}).encode()
    for route in ("/api/pieces", "/api/ratings"):
        kind = {"Content-Type": "application/json"}
        packed = client.post(route, content=gzip.compress(body), headers=kind | {"Content-Encoding": "gzip"})
        assert packed.status_code == packed.json()["status"] == 415 and "gzip" in packed.json()["detail"]
        assert packed.headers["accept-encoding"] == "identity"
        latin = client.post(route, content='{"prompt": "ré"}'.encode("latin-1"), headers=kind)
        assert latin.status_code == latin.json()["status"] == 400, latin.text
        assert "utf-8" in latin.json()["detail"].lower() and "0xe9" in latin.json()["detail"]


def test_head_is_answered_as_get_without_a_body(client: httpx.Client) -> None:
    for path in ("/", "/api/health", "/api/styles", "/metrics"):
        whole, head = client.get(path), client.head(path)
        assert head.status_code == whole.status_code == 200 and not head.content, path
        assert head.headers["content-type"] == whole.headers["content-type"]


def test_a_reverse_proxy_may_show_it_under_a_name_and_a_prefix(tmp_path: Path) -> None:
    with running(tmp_path, token="t0ken", public_hosts=("Plagal.Example",), root_path="/plagal") as (client, _):  # noqa: S106
        public = {"Host": "plagal.EXAMPLE", "Origin": "https://plagal.example", "X-Forwarded-Proto": "https"}
        for prefix in ("", "/plagal"):  # taken off by the proxy, or left on
            made = client.post(f"{prefix}/api/pieces", json={"prompt": "gospel", "bars": 1}, headers=public)
            assert made.status_code == 202, made.text
            links = made.json()["links"]
            assert made.headers["location"] == links["self"] and links["events"].startswith("/plagal/api/pieces/")
            assert client.get(links["events"], headers=public).status_code == 200
            assert client.get(links["self"], headers=public).json()["links"] == links
            assert client.get(f"{prefix}/", headers=public).status_code == 200
            bare = httpx.get(client.base_url.join(f"{prefix}/api/styles"), headers=public)
            assert bare.status_code == 401
        assert client.get("/api/styles", headers={"Host": "other.example"}).status_code == 421
        evil = client.get("/api/styles", headers=public | {"Origin": "https://evil.example"})
        assert evil.status_code == 403


def test_public_names_need_a_token_and_prefixes_a_stroke(tmp_path: Path) -> None:
    desk = Desk(tmp_path, tmp_path)
    with pytest.raises(InputError, match="--token-file"):
        listen(desk, port=0, public_hosts=("plagal.example",))
    with pytest.raises(InputError, match="--root-path"):
        listen(desk, port=0, root_path="plagal")


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "//"])
def test_an_origin_that_is_no_address_is_refused_in_words(client: httpx.Client, origin: str) -> None:
    answer = client.get("/api/styles", headers={"Origin": origin})
    assert answer.status_code == answer.json()["status"] == 403


def test_bytes_that_are_no_http_are_refused_and_the_connection_closed(client: httpx.Client) -> None:
    with connect(client) as taken:
        taken.sendall(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
        assert read(taken).startswith(b"HTTP/1.1 400 ")


def test_what_fails_unforeseen_is_a_problem_with_headers_of_safety(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, desk = server

    def fail(_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(desk, "order_piece", fail)
    answer = client.post("/api/pieces", json={"prompt": "gospel"})
    assert answer.status_code == answer.json()["status"] == 500 and "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_an_answer_never_waits_for_the_acknowledgement_of_its_head(tmp_path: Path) -> None:
    """asyncio sends at once (TCP_NODELAY) only where the listening socket names its protocol."""
    listening = listen(Desk(tiny_base(tmp_path), tmp_path), port=0)
    with listening.taken as taken:
        assert taken.proto == socket.IPPROTO_TCP
    listening.server._before_end()  # type: ignore[attr-defined]


def test_connections_beyond_the_most_are_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "most_connections", lambda: 2)
    with running(tmp_path) as (client, _), connect(client), connect(client):
        wait_until(lambda: httpx.get(client.base_url.join("/api/styles")).status_code == 503)
    with running(tmp_path / "again") as (client, _):
        assert client.get("/api/styles").status_code == 200


def test_as_many_connections_may_be_open_as_leave_files_to_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, most in ((256, 192), (20, 16), (1 << 20, 1024), (resource.RLIM_INFINITY, 1024)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert most_connections() == most


def test_only_so_many_requests_are_read_at_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path, tmp_path)
    with ExitStack() as readers, pytest.raises(BusyError, match="64 requests"):
        for _ in range(65):
            readers.enter_context(desk.reading())


def test_the_methods_of_an_address_are_all_named(client: httpx.Client) -> None:
    answer = client.put("/api/pieces/x")
    assert answer.status_code == 405 and answer.headers["allow"] == "DELETE, GET, HEAD"
    assert client.get("/api/pieces").headers["allow"] == "POST"


def test_every_answer_of_the_service_is_documented(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path, methods in paths.items():
        for method, operation in methods.items():
            wanted = {"401", "403", "413", "421", "422"} | ({"400", "408", "415"} if method == "post" else set())
            assert wanted <= set(operation["responses"]), path
            for status in wanted:
                schema = operation["responses"][status]["content"]["application/problem+json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}


def test_a_token_of_any_letters_opens_and_nothing_like_it(tmp_path: Path) -> None:
    token = "pà♪ssword à"  # noqa: S105  # its last byte in UTF-8 is a blank in Latin-1
    with running(tmp_path, token=token) as (client, _):
        for given, status in (
            (token.encode(), 200),
            (token.encode()[:-1], 401),
            (token.encode("latin-1", "replace"), 401),
        ):
            headers = {"Authorization": b"Bearer " + given}
            assert client.get("/api/styles", headers=headers).status_code == status  # type: ignore[arg-type]


def test_a_rating_that_finds_no_room_is_told_and_leaves_no_half_line(server: Server, monkeypatch: pytest.MonkeyPatch):
    client, desk = server
    piece = ask(client, prompt="gospel", bars=1)
    client.get(f"/api/pieces/{piece}/events")
    rating = {"rater": "ann", "piece": piece, "rating": 7}
    assert client.post("/api/ratings", json=rating).status_code == 201
    before = desk.ratings.read_bytes()
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", _no_room)
        answer = client.post("/api/ratings", json=rating)
    assert answer.status_code == answer.json()["status"] == 507 and str(desk.ratings) in answer.json()["detail"]
    assert desk.ratings.read_bytes() == before
    assert client.post("/api/ratings", json=rating).status_code == 201
    assert desk.ratings.read_bytes().startswith(before)


def test_a_choice_that_finds_no_room_can_be_made_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = server
    pair = client.post("/api/pairs", json={"prompt": "gospel, 1 bar"}).json()
    for side in ("a", "b"):
        client.get(pair[side]["links"]["events"])
    choice = {"rater": "ann", "choice": "a"}
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", _no_room)
        assert client.post(f"/api/pairs/{pair['pair']}/choice", json=choice).status_code == 507
    assert client.post(f"/api/pairs/{pair['pair']}/choice", json=choice).status_code == 201
    assert client.post(f"/api/pairs/{pair['pair']}/choice", json=choice).status_code == 409


def _no_room(_: int) -> None:
    raise OSError(28, "No space left on device")
