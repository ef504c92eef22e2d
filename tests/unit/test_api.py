"""The HTTP service as a client meets it: a real server on loopback, a tiny model with random weights."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from model_helpers import tiny_base
from serving_helpers import ask, done, events, running

from plagal.compose.opening import opening_words
from plagal.evaluation.report import read_ratings, summarise_ratings
from plagal.music.midi import read_midi
from plagal.plumbing.errors import BusyError
from plagal.serving import FinetunedQwenService
from plagal.serving.desk import Desk
from plagal.serving.guards import MOST_BODY_BYTES
from plagal.tokens import grammar
from plagal.tokens.codec import decode
from waiting import wait_until

Server = tuple[httpx.Client, Desk]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server"), grace_seconds=0.3) as served:
        yield served


@pytest.fixture
def client(server: Server) -> httpx.Client:
    return server[0]


def test_a_prompt_becomes_a_piece_as_events_json_words_and_midi(client: httpx.Client) -> None:
    piece = done(client, prompt="slow worship ballad in Db, 3 bars", seed=1)
    assert piece["status"] == "done" and piece["bars"] == 3 and piece["key"] == "Db major" and piece["tempo"] == 66
    words = client.get(f"/api/pieces/{piece['id']}/words").json()["words"]
    assert grammar.accepts(words)
    answer = client.get(f"/api/pieces/{piece['id']}.mid")
    assert answer.headers["content-type"] == "audio/midi" and "attachment" in answer.headers["content-disposition"]
    score = decode(words).score
    assert read_midi(answer.content) == score
    assert piece["notes"] == score.notes.tolist() and piece["bar_lines"] == [0, 96, 192]


def test_the_events_say_what_the_finished_piece_says(client: httpx.Client) -> None:
    piece = done(client, prompt="gospel in C, 4/4", bars=3, seed=5)
    told = events(client, piece["id"])
    assert [number for number, _, _ in told] == list(range(1, len(told) + 1))
    kinds = [kind for _, kind, _ in told]
    assert kinds[:3] == ["queued", "start", "bar"] and kinds[-1] == "done"
    assert [data["onset"] for _, kind, data in told if kind == "bar"] == piece["bar_lines"]
    onsets = [data["onset"] for _, kind, data in told if kind == "note"]
    assert onsets == sorted(onsets) and told[-1][2]["notes"] == len(onsets)
    chords = [[data["onset"], data["symbol"]] for _, kind, data in told if kind == "chord"]
    assert chords == piece["chords"]


def test_a_broken_stream_is_taken_up_where_it_broke_off(client: httpx.Client) -> None:
    piece = ask(client, prompt="gospel", bars=2, seed=2)
    whole = events(client, piece)
    assert events(client, piece, last=5) == whole[5:]
    assert events(client, piece) == whole


def test_a_stream_taken_up_after_its_last_event_has_no_content(client: httpx.Client) -> None:
    piece = ask(client, prompt="gospel", bars=1, seed=2)
    last = events(client, piece)[-1][0]
    path = f"/api/pieces/{piece}/events"
    for after, status in ((last - 1, 200), (last, 204), (last + 7, 204)):
        answer = client.get(path, headers={"Last-Event-ID": str(after)})
        assert answer.status_code == status and (status == 200 or not answer.content)


def test_a_stream_and_a_whole_piece_of_one_seed_are_the_same_where_both_may_try_as_often(server: Server) -> None:
    """In a minor key, a piece is often written again until the key is heard; the answer says how often it may be."""
    client, desk = server
    asked = {"prompt": "blues in C minor", "bars": 2, "seed": 3}

    async def written(**more: int) -> list[str]:
        service = FinetunedQwenService(desk.writer.model)
        try:
            return await service.generate_music_tokens(**asked, **more)  # type: ignore[arg-type]
        finally:
            await service.close()

    for tries in (1, 3):
        piece = done(client, **asked, tries=tries)
        assert piece["request"]["tries"] == tries
        words = client.get(piece["links"]["words"]).json()["words"]
        assert words == asyncio.run(written(tries=tries))
    assert done(client, **asked)["request"]["tries"] == 1


def test_nulls_are_as_left_out(client: httpx.Client) -> None:
    bare = {"prompt": "slow worship in Db", "bars": 1, "seed": 4}
    nulls = dict.fromkeys(("style", "key", "tempo", "metre", "density", "chords", "melody", "continue", "refill",
                           "vary", "temperature", "top_p", "tries"))  # fmt: skip
    one, other = done(client, **bare), done(client, **bare, **nulls)
    assert one["notes"] == other["notes"] and one["request"] == other["request"]
    midi = base64.b64encode(client.get(one["links"]["midi"]).content).decode()
    source = {"midi": midi, "piece": None, "from_bar": None}
    assert done(client, **{"continue": source, "key": None, "tempo": None, "bars": 1})["bars"] == 2
    assert client.post("/api/pieces", json=nulls).status_code == 422


@pytest.mark.parametrize("form", ["{}", "data:audio/midi;base64,{}", "lines"])
def test_base64_is_taken_with_line_breaks_and_as_a_data_url(client: httpx.Client, form: str) -> None:
    first = done(client, prompt="gospel in F", bars=1, seed=1)
    midi = base64.b64encode(client.get(first["links"]["midi"]).content).decode()
    text = "\r\n".join(midi[i : i + 76] for i in range(0, len(midi), 76)) if form == "lines" else form.format(midi)
    assert done(client, **{"continue": {"midi": text}, "bars": 1})["bars"] == 2


def test_notes_stream_before_the_piece_is_done(client: httpx.Client) -> None:
    piece = ask(client, prompt="gospel", bars=32, seed=3)
    with client.stream("GET", f"/api/pieces/{piece}/events") as answer:
        text = ""
        for part in answer.iter_text():
            text += part
            if "event: note" in text:
                break
        assert client.get(f"/api/pieces/{piece}").json()["status"] == "writing"
    client.delete(f"/api/pieces/{piece}")


def test_same_request_and_seed_same_piece(client: httpx.Client) -> None:
    one, two, other = (done(client, prompt="blues in F", bars=2, seed=seed)["notes"] for seed in (7, 7, 8))
    assert one == two != other


def test_fifty_clients_at_once_are_all_answered_with_valid_pieces(client: httpx.Client) -> None:
    def one(number: int) -> bool:
        # Nothing to verify without TLS: to read the certificates of the world takes a client as long as its piece.
        with httpx.Client(base_url=client.base_url, timeout=120, verify=False) as own:  # noqa: S501
            piece = done(own, prompt="gospel in G", bars=1, seed=number)
            return grammar.accepts(own.get(f"/api/pieces/{piece['id']}/words").json()["words"])

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(one, range(50))) == [True] * 50


def test_chords_asked_for_are_the_chords_that_are_written(client: httpx.Client) -> None:
    piece = done(client, chords="Dbmaj9 | Gb13 | Ab13sus Ab7", key="Db", metre="12/8", bars=6, seed=1)
    wanted = [[0, "Dbmaj9"], [144, "Gb13"], [288, "Ab13sus"], [360, "Ab7"]]
    assert piece["chords"] == wanted + [[onset + 432, symbol] for onset, symbol in wanted]


def test_a_melody_asked_for_is_heard_on_top(client: httpx.Client) -> None:
    piece = done(client, melody={"abc": "M:3/4\nL:1/4\nK:G\nG2 B|A3|"}, style="worship", seed=1)
    notes = np.array(piece["notes"])
    assert piece["metre"] == "3/4" and piece["key"] == "G major" and piece["bars"] == 2
    for onset, pitch, ticks in ((0, 67, 48), (48, 71, 24), (72, 69, 72)):
        struck = notes[notes[:, 0] == onset]
        sounding = notes[(notes[:, 0] <= onset) & (notes[:, 0] + notes[:, 2] > onset)]
        assert sounding[:, 1].max() == pitch and struck[struck[:, 1] == pitch][0, 2] == ticks


@pytest.mark.parametrize(("density", "fewest", "most"), [("sparse", 2, 8), ("dense", 18, 36), (6, 5, 7)])
def test_every_bar_has_the_notes_that_were_asked_for(
    client: httpx.Client, density: str | int, fewest: int, most: int
) -> None:
    piece = done(client, prompt="gospel in C", density=density, bars=4, seed=1)
    words = client.get(f"/api/pieces/{piece['id']}/words").json()["words"]
    bars = [bar.count("NOTE_ON_") for bar in " ".join(words).split("BAR_START")[1:]]
    # A chord begun is finished, and hands that hold long notes strike few: random weights often come to either.
    assert all(0.7 * fewest <= notes <= 1.3 * most for notes in bars[:-1]), bars
    assert fewest <= np.median(bars[:-1]) <= most and 2 <= bars[-1] <= most  # the last bar is a chord, held


def test_a_piece_goes_on_from_the_bars_that_are_kept(client: httpx.Client) -> None:
    first = done(client, prompt="gospel in F", bars=4, seed=1)
    longer = done(client, **{"continue": {"piece": first["id"], "from_bar": 2}, "bars": 3})
    assert longer["bars"] == 5 and longer["key"] == "F major"
    before, after = (client.get(f"/api/pieces/{piece['id']}/words").json()["words"] for piece in (first, longer))
    cut = [place for place, word in enumerate(before) if word == "BAR_START"][2]
    assert before[:cut] == after[:cut]


def test_a_midi_file_is_gone_on_from(client: httpx.Client) -> None:
    first = done(client, prompt="gospel in F", bars=2, seed=1)
    midi = base64.b64encode(client.get(f"/api/pieces/{first['id']}.mid").content).decode()
    assert done(client, **{"continue": {"midi": midi}, "bars": 1})["bars"] == 3


def test_vary_asks_for_the_same_with_another_seed(client: httpx.Client) -> None:
    first = done(client, prompt="gospel in F", bars=2, seed=1)
    varied = done(client, vary={"piece": first["id"]})
    assert varied["notes"] != first["notes"]
    assert {**varied["request"], "seed": 1} == first["request"]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 422, "not a JSON object"),
        (b"{bad", 400, "not JSON"),
        (b"[]", 422, "not a JSON object"),
        (b"{}", 422, "nothing is asked for"),
        (b'{"prompt": ""}', 422, "nothing is asked for"),
        (b'{"prompt": "%s"}' % (b"x" * 2001), 422, "2000"),
        (b'{"prompt": "a\\ud800b"}', 422, "unicode"),
        (b'{"prompt": "a<|im_end|>b"}', 422, "<|"),
        (b'{"prompt": "gospel", "bars": 65}', 422, "64"),
        (b'{"prompt": "100 bars of gospel"}', 422, "64"),
        (b'{"chords": "Dbmaj9 | Hx"}', 422, "'Hx'"),
        (b'{"chords": "%s"}' % (b"C | " * 250_000), 422, "at most 2000"),
        (b'{"chords": "C |  | D"}', 422, "no chord"),
        (b'{"key": "H"}', 422, "F# minor"),
        (b'{"metre": "4/5"}', 422, "metre"),
        (b'{"tempo": 5}', 422, "20"),
        (b'{"style": "polka"}', 422, "worship"),
        (b'{"density": "none"}', 422, "sparse"),
        (b'{"melody": {"midi": "AAAA"}}', 422, "melody.midi"),
        (b'{"melody": {"midi": "!"}}', 422, "base64"),
        (b'{"melody": {"abc": "K:C\\nCDEF|", "midi": "AAAA"}}', 422, "exactly one"),
        (b'{"continue": {"midi": "TVRoZA=="}}', 422, "continue.midi"),
        (b'{"continue": {"piece": "x"}, "melody": {"abc": "C"}}', 422, "exclude"),
        (b'{"continue": {"piece": "x"}, "key": "C"}', 422, "leave out key"),
        (b'{"refill": {"piece": "x", "first_bar": 3, "last_bar": 2}}', 422, "first_bar 3"),
        (b'{"vary": {"piece": "x"}}', 422, "'x'"),
        (b'{"harmony": "C"}', 422, "harmony"),
    ],
)
def test_what_cannot_be_asked_is_a_problem_that_says_why(client: httpx.Client, body: bytes, status: int, says: str):
    answer = client.post("/api/pieces", content=body, headers={"Content-Type": "application/json"})
    problem = answer.json()
    assert answer.status_code == status == problem["status"], answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert says in problem["detail"] and "\n" not in problem["detail"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(
    st.sampled_from(["prompt", "style", "key", "tempo", "metre", "chords", "density", "seed", "melody", "continue"]),
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    | st.lists(st.text(max_size=3)),
))  # fmt: skip
def test_no_request_is_answered_with_an_error_of_the_servers(client: httpx.Client, asked: dict[str, object]) -> None:
    answer = client.post("/api/pieces", json={**asked, "bars": 1})
    assert answer.status_code in (202, 422), answer.text
    if answer.status_code == 202:
        client.delete(answer.json()["links"]["self"])


def test_a_body_beyond_the_limit_is_refused_unread(client: httpx.Client) -> None:
    headers = {"Content-Type": "application/json"}
    answer = client.post("/api/pieces", content=b"x" * (MOST_BODY_BYTES + 1), headers=headers)
    assert answer.status_code == 413 and str(MOST_BODY_BYTES) in answer.json()["detail"]


def test_only_the_servers_own_page_may_ask(client: httpx.Client) -> None:
    own = str(client.base_url).rstrip("/")
    assert client.get("/api/styles", headers={"Origin": own}).status_code == 200
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}, {"Origin": "null"}):
        answer = client.get("/api/styles", headers=headers)
        assert answer.status_code in (403, 421)
        assert "access-control-allow-origin" not in answer.headers
    assert client.post("/api/pieces", content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415


def test_every_answer_carries_headers_of_safety(client: httpx.Client) -> None:
    for path in ("/", "/api/styles", "/nothing"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in headers["content-security-policy"]


def test_unknown_places_are_problems(client: httpx.Client) -> None:
    for method, path, status in (("GET", "/api/pieces/x", 404), ("GET", "/nothing", 404), ("PUT", "/api/styles", 405),
                                 ("GET", "/api/pieces/x/events", 404), ("DELETE", "/api/pieces/x", 404)):  # fmt: skip
        answer = client.request(method, path, json={} if method == "PUT" else None)
        assert answer.status_code == answer.json()["status"] == status


def test_a_piece_that_is_not_done_has_no_midi_and_can_be_cancelled(client: httpx.Client) -> None:
    piece = ask(client, prompt="gospel", bars=64)
    assert client.get(f"/api/pieces/{piece}.mid").status_code == 409
    assert client.delete(f"/api/pieces/{piece}").status_code == 204
    told = events(client, piece)
    assert told[-1][1] == "problem" and "cancelled" in told[-1][2]["detail"]
    assert client.get(f"/api/pieces/{piece}").json()["status"] == "cancelled"


def test_a_piece_whose_only_reader_goes_away_is_cancelled(client: httpx.Client) -> None:
    piece = ask(client, prompt="gospel", bars=64)
    with client.stream("GET", f"/api/pieces/{piece}/events") as answer:
        next(answer.iter_text())
    wait_until(lambda: client.get(f"/api/pieces/{piece}").json()["status"] == "cancelled")


def test_ratings_and_choices_land_where_the_evaluation_reads_them(server: Server) -> None:
    client, desk = server
    piece = done(client, prompt="gospel", bars=1)
    assert client.post("/api/ratings", json={"rater": "ann", "piece": piece["id"], "rating": 8}).status_code == 201
    pair = client.post("/api/pairs", json={"prompt": "worship in Db, 2 bars"}).json()
    sides = [pair["a"], pair["b"]]
    for side in sides:
        assert "seed" not in side and events(client, side["id"])[-1][1] == "done"
        shown = client.get(side["links"]["self"]).json()
        assert shown["request"] == {} and shown["title"] == "" and shown["bars"] == 2
    chosen = client.post(f"/api/pairs/{pair['pair']}/choice", json={"rater": "ann", "choice": "a"})
    assert chosen.status_code == 201 and sorted(chosen.json().values()) == ["arranger", "model"]
    assert client.post(f"/api/pairs/{pair['pair']}/choice", json={"rater": "ann", "choice": "b"}).status_code == 409
    summary = summarise_ratings(read_ratings(desk.ratings), seed=0)
    assert summary is not None and summary.mean == 8 and set(summary.strengths) == {"model", "arranger"}
    assert max(summary.strengths, key=lambda name: summary.strengths[name]) == chosen.json()["a"]


@pytest.mark.parametrize("full", ["model", "previous"])
def test_a_pair_of_which_a_side_is_refused_leaves_nothing_running(tmp_path: Path, full: str) -> None:
    model = tiny_base(tmp_path)
    desk = Desk(model, tmp_path, previous=model)
    desk.start()
    try:
        writer = {"model": desk.writer, "previous": desk.previous}[full]
        assert writer is not None
        writer.queue_limit = 0
        with pytest.raises(BusyError):
            desk.order_pair("gospel in C, 32 bars")
        assert desk.previous is not None
        wait_until(lambda: not (desk.writer.busy or desk.writer.queue))
        wait_until(lambda: not (desk.previous and (desk.previous.busy or desk.previous.queue)))
        writer.queue_limit = 9
        pair = desk.order_pair("blues in C minor, 3/4")
        assert pair.a.request == pair.b.request  # both sides read the same: key, mode, metre and all
        wait_until(lambda: pair.a.over and pair.b.over, 60)
        for side in (pair.a, pair.b):
            assert side.words[1:3] == ["KEY_Cm", "TIMESIG_3_4"] and side.words.count("BAR_START") == 8
    finally:
        desk.close()


@pytest.mark.parametrize(("prompt", "head"), [("gospel in C minor", "KEY_Cm"), ("worship in Db, 3/4", "TIMESIG_3_4")])
def test_model_and_arranger_are_asked_the_same_and_as_the_prompt_says(tmp_path: Path, prompt: str, head: str) -> None:
    desk = Desk(tmp_path, tmp_path)
    for seed in range(3):
        pair = desk.order_pair(prompt, seed)
        assert pair.a.request == pair.b.request
        ready = next(side.ready for side in (pair.a, pair.b) if side.ready)
        asked = opening_words(pair.a.request)
        assert list(asked) == list(ready[1 : 1 + len(asked)]) and head in asked


@pytest.mark.parametrize(
    "body", [{"rater": "ann", "piece": "x", "rating": 8}, {"rater": "", "piece": "x", "rating": 8},
             {"rater": "ann", "piece": "x", "rating": 11}, {"rater": "a\nb", "piece": "x", "rating": 1}])  # fmt: skip
def test_a_rating_that_is_none_is_not_kept(server: Server, body: dict[str, object]) -> None:
    before = read_ratings(server[1].ratings)
    assert server[0].post("/api/ratings", json=body).status_code in (404, 422)
    assert read_ratings(server[1].ratings) == before


def test_metrics_count_what_was_written(client: httpx.Client) -> None:
    done(client, prompt="gospel", bars=1)
    text = client.get("/metrics").text
    assert 'plagal_pieces_total{status="done"}' in text and "plagal_queue_seconds_bucket" in text
    assert 'plagal_http_requests_total{route="/api/pieces",status="202"}' in text


def test_openapi_has_examples_and_problems(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert document["components"]["schemas"]["Request"]["examples"][0]["prompt"]
    assert "application/problem+json" in document["paths"]["/api/pieces"]["post"]["responses"]["422"]["content"]


def test_openapi_tells_the_token_the_answers_and_the_events_as_they_are(tmp_path: Path) -> None:
    with running(tmp_path, token="s3cret") as (client, _):  # noqa: S106  # of this test alone
        document = client.get("/openapi.json").json()
        piece = done(client, prompt="slow gospel in F, 2 bars", density="dense", seed=1)
        told = [*events(client, piece["id"]), (9, "problem", {"type": "a", "title": "b", "status": 1, "detail": "c"})]
    assert document["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    kinds: dict[str, Any] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["security"] == [{"token": []}], path
            good = next(answer for status, answer in operation["responses"].items() if status[0] == "2")
            for kind, content in good.get("content", {}).items():
                kinds[f"{method} {path} {kind}"] = content.get("schema") or content.get("itemSchema")
    assert all(kinds[name] for name in kinds if "json" in name or "event-stream" in name), kinds
    Draft202012Validator({**kinds["get /api/pieces/{piece_id} application/json"], **document}).validate(piece)
    event = Draft202012Validator(kinds["get /api/pieces/{piece_id}/events text/event-stream"])
    for number, kind, data in told:
        event.validate({"id": str(number), "event": kind, "data": json.dumps(data)})
        shown = next(one for one in event.schema["oneOf"] if one["properties"]["event"]["const"] == kind)
        Draft202012Validator(shown["properties"]["data"]["contentSchema"]).validate(data)
    assert {kind for _, kind, _ in told} >= {"queued", "start", "bar", "note", "done"}


def test_a_model_folder_that_vanishes_is_told_and_pieces_still_come(tmp_path: Path) -> None:
    with running(tmp_path) as (client, desk):
        assert client.get("/api/health").json()["status"] == "ok"
        desk.writer.model.rename(tmp_path / "elsewhere")
        answer = client.get("/api/health")
        assert answer.status_code == 503 and "vanished" in answer.json()["detail"]
        assert done(client, prompt="gospel", bars=1)["status"] == "done"


def test_a_token_is_wanted_where_one_is_set(tmp_path: Path) -> None:
    with running(tmp_path, token="s3cret") as (client, _):  # noqa: S106  # of this test alone
        assert client.get("/api/styles").status_code == 200
        for given_ in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer s3cret2"}):
            with httpx.Client(base_url=client.base_url, headers=given_) as stranger:
                assert stranger.get("/api/styles").status_code == stranger.get("/metrics").status_code == 401
                assert stranger.get("/").status_code == 200


def test_a_full_queue_and_a_full_memory_are_problems_and_nothing_is_lost(tmp_path: Path) -> None:
    with running(tmp_path, queue=2, pieces=3) as (client, _):
        first = ask(client, prompt="gospel", bars=64)
        wait_until(lambda: client.get("/api/health").json()["busy"])
        others = [ask(client, prompt="gospel", bars=1, temperature=0.5 + i / 10) for i in range(2)]
        refused = client.post("/api/pieces", json={"prompt": "gospel"})
        assert refused.status_code == 429 and refused.headers["retry-after"]
        client.delete(f"/api/pieces/{first}")
        assert [events(client, other)[-1][1] for other in others] == ["done", "done"]
        newest = [ask(client, prompt="gospel", bars=1) for _ in range(2)]
        assert [events(client, piece)[-1][1] for piece in newest] == ["done", "done"]
        assert client.get(f"/api/pieces/{first}").status_code == 404


def test_time_limits_end_what_takes_too_long(tmp_path: Path) -> None:
    with running(tmp_path, write_seconds=0.2) as (client, _):
        told = events(client, ask(client, prompt="gospel", bars=64))
        assert told[-1][1] == "problem" and told[-1][2]["status"] == 429 and "fewer bars" in told[-1][2]["detail"]


def test_a_piece_is_told_with_its_hands_and_comes_as_a_score_and_on_paper(client: httpx.Client) -> None:
    piece = done(client, prompt="slow worship ballad in Db", bars=2, writer="arranger", seed=1)
    assert len(piece["hands"]) == len(piece["notes"]) and set(piece["hands"]) == {0, 1}
    assert piece["end"] == 2 * (piece["bar_lines"][1] - piece["bar_lines"][0]) and piece["tempos"][0] == [
        0,
        99,
    ]  # dotted quarters asked for, quarters told
    xml = client.get(piece["links"]["musicxml"])
    assert xml.headers["content-type"].startswith("application/vnd.recordare.musicxml+xml")
    assert xml.text.count("<measure ") == 2 and "<staves>2</staves>" in xml.text
    assert client.get(piece["links"]["pdf"]).content.startswith(b"%PDF-")
    lead = client.get(piece["links"]["musicxml"], params={"lead": True, "numbers": True}).text
    assert "<staves>2</staves>" not in lead and lead.count("<pitch>") < xml.text.count("<pitch>")


def test_a_piece_in_another_key_is_the_same_notes_so_much_higher_spelled_there(client: httpx.Client) -> None:
    piece = done(client, prompt="slow worship ballad in Db", bars=2, writer="arranger", seed=1)
    higher = client.get(piece["links"]["self"], params={"transpose": 2}).json()
    assert higher["key"] == "Eb major" and higher["hands"] == piece["hands"]
    assert [note[1] - 2 for note in higher["notes"]] == [note[1] for note in piece["notes"]]
    assert all("#" not in symbol for _, symbol in higher["chords"])
    midi = client.get(piece["links"]["midi"], params={"transpose": 2})
    assert read_midi(midi.content).notes.tolist() == higher["notes"]
    assert client.get(piece["links"]["self"], params={"transpose": 12}).status_code == 422


def test_a_key_that_leaves_the_keyboard_is_refused_and_the_way_named(client: httpx.Client) -> None:
    piece = done(client, prompt="shout in F, 4 bars", writer="arranger", seed=1)
    lowest = min(note[1] for note in piece["notes"])
    for semitones in (21 - lowest, 20 - lowest):
        answer = client.get(piece["links"]["self"], params={"transpose": semitones})
        assert answer.status_code == (200 if lowest + semitones >= 21 else 422), answer.text
    assert f"from {21 - lowest} to" in answer.json()["detail"]
