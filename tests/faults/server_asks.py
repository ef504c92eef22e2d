"""Requests that no honest client makes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import random
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import quote

import httpx

from faults.campaign import Row
from faults.served import Served, connect, head_of, is_problem, parse_events, read_all
from faults.tally import Tally
from plagal.serving import guards

MILLION = 1_000_000
_PROCESSOR_SECONDS = 5.0
"""That the biggest request may take of the server; by the clock it would depend on who else is busy."""


def schema(server: Served, examples: int, seed: int) -> Row:
    """Requests drawn from the service's own OpenAPI document, right and wrong ones."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from schemathesis import checks
    from schemathesis.core.failures import Failure, FailureGroup
    from schemathesis.specs.openapi import checks as more

    tally = Tally()
    wanted = [checks.not_a_server_error, more.status_code_conformance, more.content_type_conformance,
              more.response_schema_conformance, more.response_headers_conformance, more.unsupported_method]  # fmt: skip
    document = schemathesis.openapi.from_url(f"{server.address}/openapi.json")
    bearer = {"Authorization": f"Bearer {server.token}"} if server.token else {}
    operations = [found.ok() for found in document.get_all_operations()]
    for operation in operations:
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

            @seeded(seed)
            @settings(max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
                      suppress_health_check=list(HealthCheck))  # fmt: skip
            @given(case=operation.as_strategy(generation_mode=mode))
            def one(case: Any) -> None:
                try:
                    case.call_and_validate(headers=bearer, checks=wanted, timeout=30)
                    tally.check(True, "")
                except (Failure, FailureGroup) as error:
                    tally.check(False, f"{case.method} {case.path}: {error}")

            try:
                one()
            except Exception as error:  # where nothing wrong can be drawn for an operation
                if "Unsatisfiable" not in type(error).__name__ and "negative" not in str(error).lower():
                    tally.check(False, f"{operation.label}: {type(error).__name__}: {error}")
    return tally.row(
        "requests drawn by schemathesis from the OpenAPI document",
        "no 500; status, type, body and headers as the document says", f"{len(operations)} operations conform",
    )  # fmt: skip


def _enormous() -> Iterator[tuple[str, bytes]]:
    words = "SONG_START " * MILLION
    yield "prompt", b'{"prompt": "%s"}' % words.encode()
    for name, text in (("prompt", "a "), ("chords", "C "), ("key", "C"), ("style", "x")):
        yield name, b'{"%s": "%s"}' % (name.encode(), (text * (MILLION // len(text))).encode())
    yield "abc", b'{"melody": {"abc": "%s"}}' % (b"C" * MILLION)
    yield "abc within its limit", b'{"melody": {"abc": "X:1\\nL:1/64\\nK:C\\n%s"}}' % (b"C" * 9_900)
    yield "abc of chords", b'{"melody": {"abc": "X:1\\nL:1/64\\nK:C\\n%s"}}' % (b"[CEGc]" * 1_600)
    yield "abc of repeats", b'{"melody": {"abc": "X:1\\nL:1/64\\nK:C\\n%s"}}' % (b"|:C:|" * 1_900)
    yield "chords within the limit", b'{"chords": "%s"}' % (b"C|" * 999 + b"C")
    yield "prompt of chords", b'{"prompt": "%s"}' % (b"over C | " * 220)
    yield "prompt of numbers", b'{"prompt": "%s"}' % (b"12/8 " * 390)
    yield "nested lists", b"[" * MILLION
    yield "nested objects", b'{"a":' * (MILLION // 5)
    yield "a number", b'{"seed": %s}' % (b"9" * MILLION)
    yield "a fraction", b'{"tempo": 0.%s}' % (b"1" * MILLION)
    yield "keys", b"{%s}" % b",".join(b'"k%d":1' % number for number in range(MILLION // 10))
    yield "a list", b'{"prompt": [%s]}' % b",".join([b"1"] * (MILLION // 2))
    for value in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-0.0", b"9" * 400):
        for name in (b"tempo", b"temperature", b"top_p", b"density", b"seed", b"bars"):
            yield f"{name.decode()} {value[:9].decode()}", b'{"prompt": "gospel", "%s": %s}' % (name, value)
    note = b"\x00\x90\x3c\x40\x18\x80\x3c\x00"
    for notes in (1_000, MILLION // 8):
        track = note * notes + b"\x00\xff\x2f\x00"
        midi = b"MThd\x00\x00\x00\x06\x00\x00\x00\x01\x00\x18MTrk" + len(track).to_bytes(4, "big") + track
        text = base64.b64encode(midi)
        for name, more in ((b"melody", b""), (b"continue", b""), (b"refill", b', "first_bar": 1, "last_bar": 2')):
            yield f"{name.decode()} of {notes:,} notes", b'{"%s": {"midi": "%s"%s}}' % (name, text, more)


def enormous(server: Served) -> Row:
    tally, bodies, slowest = Tally(), list(_enormous()), 0.0
    with server.client(timeout=300) as client:
        for name, body in bodies:
            began = server.processor_seconds()
            answer = client.post("/api/pieces", content=body, headers={"Content-Type": "application/json"})
            seconds = server.processor_seconds() - began
            if answer.status_code == 202:  # what it took to write it is no matter here
                client.delete(answer.json()["links"]["self"])
            else:
                slowest = max(slowest, seconds)
            fine = answer.status_code == 202 or (is_problem(answer, 400, 413, 422) and seconds < _PROCESSOR_SECONDS)
            tally.check(fine, f"{name}: {answer.status_code} in {seconds:.1f} s {answer.text[:200]}")
            tally.check(server.answers(), f"an ordinary client was not answered after {name}")
    tally.check(server.works(), "no piece was written afterwards")
    return tally.row(
        "requests of 1,000,000 tokens, notes, levels, digits or keys, and the longest within limits",
        f"written, or refused in words after at most {_PROCESSOR_SECONDS:g} s of the processor",
        f"all; the longest refusal took {slowest:.1f} s of it",
        len(bodies),
    )


_LAST_IDS = ("", "abc", "-1", "-999999999999", "0", "1", "3", "999999999", "9" * 100, "1.5", "1e3", "+3", "0x10", "NaN",
             "null", "1;2", "1,2", "' OR 1=1", "\xb2", "\xd9\xa3", "a" * 8000, "%00", "\t7\t")  # fmt: skip


def reconnects(server: Served) -> Row:
    """A number takes up the rest, or ends with 204 where there is none; anything else begins anew."""
    tally = Tally()
    piece = server.ask(prompt="gospel in F", bars=2, seed=2)
    whole = server.events(piece)
    for last in _LAST_IDS:
        with connect(server) as taken:
            ask = head_of("GET", f"/api/pieces/{piece}/events", server, f"Last-Event-ID: {last}", "Connection: close")
            taken.sendall(ask)
            got, closed = read_all(taken, 20)
        head, _, body = got.partition(b"\r\n\r\n")
        number = int(last.strip()) if last.strip().isascii() and last.strip().isdigit() and len(last) < 10 else 0
        text = httpx_body(head, body)
        over = number >= len(whole)  # all was heard: 204, and an EventSource asks no more
        fine = closed and (b" 204 " if over else b" 200 ") in head[:20] and parse_events(text) == whole[number:]
        tally.check(fine, f"Last-Event-ID {last[:20]!r}: {head[:60]!r} {text[:80]!r}")
    return tally.row("events taken up again with a malformed, huge or negative Last-Event-ID",
                     "the rest of the events, or all, to the last", "as promised")  # fmt: skip


def httpx_body(head: bytes, body: bytes) -> str:
    """A body in chunks put together."""
    if b"transfer-encoding: chunked" not in head.lower():
        return body.decode()
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size or b"0", 16)
        whole, body = whole + body[:length], body[length + 2 :]
        if not length:
            break
    return whole.decode()


_TRICKS = ("../canary.txt", "../../canary.txt", "..%2fcanary.txt", "%2e%2e/canary.txt", "%2e%2e%2fcanary.txt",
           "..%252fcanary.txt", "....//canary.txt", "..\\canary.txt", "..%5ccanary.txt", "%00", "canary.txt%00.mid",
           "/etc/passwd", "//etc/passwd", "%2fetc%2fpasswd", "file:///etc/passwd", "~/canary.txt", "a" * 5000, "CON",
           "\u00fc\u2028\u202e", "%c0%ae%c0%ae/canary.txt", ".", "..", "...", "$(touch x)", "`touch x`", "|touch x",
           "a;touch x", "{0}", "%s%n", "-rf", "*", "\U0001f3b9" * 20)  # fmt: skip


def _snapshot(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
        if "out" not in path.relative_to(folder).parts and not path.name.startswith("log-")
    }


def path_tricks(server: Served, around: Path) -> Row:
    """`around`: a folder with canary.txt that holds the output folder; nothing in it may change or be told."""
    tally, canary = Tally(), (around / "canary.txt").read_text()
    before = _snapshot(around)
    targets = [f"{base}{trick}{end}" for trick in _TRICKS for base, end in (
        ("/", ""), ("/assets/", ""), ("/api/pieces/", ""), ("/api/pieces/", ".mid"), ("/api/pieces/", "/events"),
        ("/api/pairs/", "/choice"))]  # fmt: skip
    for target in targets:
        raw = "".join(char if char.isascii() and char.isprintable() and char not in ' "' else
                      "".join(f"%{byte:02x}" for byte in char.encode()) for char in target)  # fmt: skip
        with connect(server) as taken:
            taken.sendall(head_of("GET", raw, server, "Connection: close"))
            got, closed = read_all(taken, 20)
        told = canary.encode() in got or b"root:" in got
        fine = got[9:12] in (b"200", b"307", b"400", b"404", b"405", b"422")
        tally.check(closed and fine and not told, f"{target[:60]!r}: {got[:80]!r}")
    with server.client() as client:
        for trick in _TRICKS:
            for path, body in _bodies(trick):
                answer = client.post(path, json=body)
                ok = is_problem(answer, 404, 409, 422) or answer.status_code in (201, 202)
                tally.check(
                    ok and canary not in answer.text, f"{path} {trick[:40]!r}: {answer.status_code} {answer.text[:99]}"
                )
                if answer.status_code == 202:
                    client.delete(answer.json()["links"]["self"])
    tally.check(_snapshot(around) == before, "something beside the output folder has changed")
    tally.check({path.name for path in server.output.rglob("*")} <= {"ratings.jsonl"}, "another file was made")
    return tally.row(
        "names with ../, encoded dots, NUL, absolute, 5,000 letters, shell and Unicode tricks, in addresses and bodies",
        "refused in words; nothing read or written but out/ratings.jsonl", "nothing else was touched or told",
    )  # fmt: skip


def _bodies(trick: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "/api/ratings", {"rater": "ann", "piece": trick[:40], "rating": 5}
    yield "/api/ratings", {"rater": trick[:80], "piece": "x", "rating": 5}
    yield "/api/pieces", {"vary": {"piece": trick[:40]}}
    yield "/api/pieces", {"continue": {"piece": trick[:40]}}
    yield "/api/pieces", {"prompt": trick[:2000], "bars": 1}
    yield "/api/pieces", {"style": trick[:40]}


def headers(server: Served, seed: int) -> Row:
    """Injection by every text that a client can give, and the headers that each answer must bear."""
    tally, draw = Tally(), random.Random(seed)
    evil = ["a\r\nX-Evil: 1", "a\nSet-Cookie: evil=1", "a\r\n\r\n<script>", '"; filename="evil.exe', "\x00",
            "\u010d\u010a", "%0d%0aX-Evil: 1", "a\x85b", "a\u2028X-Evil: 1"]  # fmt: skip
    with server.client() as client:
        answers = []
        for text in evil:
            for name in ("prompt", "style", "key", "metre", "chords"):
                answers.append(client.post("/api/pieces", json={"prompt": "gospel", "bars": 1, name: text}))
            answers.append(client.post("/api/ratings", json={"rater": text, "piece": text, "rating": 1}))
            answers.append(client.get(f"/api/pieces/{quote(text[:30])}"))
            answers.append(client.get("/", params={"a": text}))
        for made in [answer for answer in answers if answer.status_code == 202]:
            piece = made.json()["id"]
            server.events(piece)
            answers += [client.get(f"/api/pieces/{piece}.mid"), client.get(f"/api/pieces/{piece}")]
        for path in ("/", "/api/styles", "/api/health", "/metrics", "/openapi.json", "/none", "/icon.svg"):
            for origin in ("http://evil.example", "null", "http://[", "http://[::1", "//", "a\xff", server.address):
                answers.append(client.get(path, headers={"Origin": origin.encode("latin-1")}))  # type: ignore[dict-item]
            answers.append(client.request(draw.choice(["PUT", "PATCH", "OPTIONS", "TRACE", "BREW"]), path))
            answers.append(
                client.get(path, headers={"Host": draw.choice(["evil.example", "", "a\xff".encode("latin-1")])})
            )
    for answer in answers:
        tally.check(_safe(answer), f"{answer.request.url!s:.80}: {answer.status_code} {dict(answer.headers)}")
    return tally.row(
        "texts with line breaks and quotes wherever a client can put one; other sites' Origins and Hosts",
        "no header of theirs; CSP, nosniff, no CORS on every answer; no 500", "as promised",
    )  # fmt: skip


def _safe(answer: httpx.Response) -> bool:
    given = answer.headers
    disposition = given.get("content-disposition", "")
    return (
        answer.status_code != 500
        and "x-evil" not in given
        and "set-cookie" not in given
        and not any(name.startswith("access-control-") for name in given)
        and given.get("x-content-type-options") == "nosniff"
        and "default-src 'self'" in given.get("content-security-policy", "")
        and (
            not disposition or (disposition.startswith('attachment; filename="plagal-') and disposition.count('"') == 2)
        )
    )


def tokens(server: Served, token: str) -> Row:
    """Wrong ones are refused everywhere, and each is compared in constant time."""
    tally = Tally()
    cut_off = token.encode().decode("latin-1")[:-1]
    wrong = ["", "Bearer", "Bearer ", f"Bearer {token[:-1]}", f"Bearer {token}x", f"Bearer x{token}", f"Basic {token}",
             token, f"Bearer {token.upper()}", f"Bearer {cut_off}", "Bearer " + "a" * 10_000, "Bearer \xff\xfe",
             "Bearer \xb2", f"bearer\t{token}", f"Bearer {token}, Bearer {token}"]  # fmt: skip
    for given in wrong:
        for path in ("/api/styles", "/api/pieces/x", "/metrics", "/api/pieces/x.mid", "/api//styles"):
            lines = [f"Authorization: {given}"] if given else []
            answer = _raw(server, path, *lines)
            tally.check(answer in (b"401", b"400"), f"{path} with {given[:30]!r}: {answer!r}")
    for scheme in ("Bearer", "bearer", "BEARER"):
        answer = _raw(server, "/api/styles", f"Authorization: {scheme} {token.encode().decode('latin-1')}")
        tally.check(answer == b"200", f"the right token: {answer!r}")
    compared = _comparisons(token, [given.partition(" ")[2] for given in wrong])
    tally.check(compared == len(wrong), f"only {compared} of {len(wrong)} went through compare_digest")
    tally.check(guards.secrets.compare_digest is hmac.compare_digest, "compare_digest is another function")
    return tally.row("wrong, missing, cut, long and non-ASCII tokens", "401; each compared by hmac.compare_digest",
                     "as promised, for a token with letters beyond ASCII")  # fmt: skip


def _raw(server: Served, path: str, *lines: str) -> bytes:
    host = f"Host: 127.0.0.1:{server.port}"
    ask = "\r\n".join([f"GET {path} HTTP/1.1", host, "Connection: close", *lines]) + "\r\n\r\n"
    with connect(server) as taken:
        taken.sendall(ask.encode("latin-1"))
        return read_all(taken, 20)[0][9:12]


def _comparisons(token: str, given: list[str]) -> int:
    """How many of the tokens given the guards compare by compare_digest, whatever their first letters are."""

    async def nothing(*_: Any) -> None:
        return None

    guarded = guards.Guards(nothing, token)
    with mock.patch.object(secrets, "compare_digest", wraps=hmac.compare_digest) as spied:
        for each in given:
            bearer = (b"authorization", b"Bearer " + each.encode("latin-1", "replace"))
            scope = {
                "type": "http",
                "method": "GET",
                "path": "/api/styles",
                "headers": [(b"host", b"localhost"), bearer],
            }
            asyncio.run(guarded(scope, nothing, nothing))
    return spied.call_count
