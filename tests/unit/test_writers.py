"""Who writes, and what playings that come over HTTP are heard as: a real server, with a tiny model and without any."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import httpx
import mido
import pytest
from serving_helpers import ask, done, events, running

from plagal.music.arranger.arrange import arrange
from plagal.music.midi import to_midi_bytes
from plagal.music.performance.performer import perform
from plagal.serving.desk import Desk

Server = tuple[httpx.Client, Desk]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server")) as served:
        yield served


@pytest.fixture
def client(server: Server) -> httpx.Client:
    return server[0]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server without a model."""
    with running(tmp_path_factory.mktemp("alone"), with_model=False) as (client, _):
        yield client


# --- who writes


def test_without_a_model_the_arranger_plays_whole_pieces_and_everything_else_names_the_way_out(
    alone: httpx.Client,
) -> None:
    piece = done(alone, prompt="slow worship ballad in Db", metre="4/4", bars=8, writer="arranger", seed=4)
    assert (piece["bars"], piece["key"], piece["tempo"], piece["writer"]) == (8, "Db major", 66, "arranger")
    assert len(piece["notes"]) > 40 and piece["chords"]
    for more in ({}, {"writer": "model"}, {"writer": "best"}):
        answer = alone.post("/api/pieces", json={"prompt": "gospel", **more})
        assert answer.status_code == 503 and "make repro" in answer.json()["detail"], answer.text
        assert "arranger" in answer.json()["detail"]
    assert alone.get("/api/health").json()["model"] is None
    assert alone.get("/api/styles").json()["writers"] == ["arranger"]


def test_the_arrangers_piece_has_the_chords_key_metre_and_tempo_asked_for(client: httpx.Client) -> None:
    asked = {"chords": "Dbmaj9 | Gb13 | Ab13sus Ab7 | Dbmaj9", "key": "Db", "metre": "12/8", "tempo": 66, "bars": 4}
    piece = done(client, **asked, writer="arranger")
    assert (piece["metre"], piece["tempo"], piece["key"]) == ("12/8", 99, "Db major")  # dotted quarters, in quarters
    assert [symbol for _, symbol in piece["chords"]] == ["Dbmaj9", "Gb13", "Ab13sus", "Ab7", "Dbmaj9"]


def test_the_arranger_harmonises_a_melody_of_ones_own_and_a_tune_of_the_book(client: httpx.Client) -> None:
    abc = "X:1\nM:3/4\nL:1/4\nK:G\nD|G2 B/G/|B2 A|G2 E|D2 D|G2 B/G/|B2 A|d3-|d2|"
    piece = done(client, melody={"abc": abc}, style="worship", writer="arranger")
    highest: dict[int, int] = {}
    for onset, pitch, _, _ in piece["notes"]:
        highest[onset] = max(pitch, highest.get(onset, 0))
    tune = [62, 67, 71, 67, 71, 69, 67, 64, 62]
    sung = [highest[onset] % 12 for onset in sorted(highest)]
    places = iter(sung)
    assert all(pitch % 12 in places for pitch in tune), sung  # in this order, among what decorates them
    named = done(client, prompt="Amazing Grace in F, gospel jazz", writer="arranger")
    assert named["key"] == "F major" and named["request"]["tune"] == "amazing_grace"


def test_the_same_request_and_seed_is_the_same_arrangement_and_vary_is_another_by_the_same_hand(
    client: httpx.Client,
) -> None:
    asked = {"prompt": "shout in Ab, 8 bars", "writer": "arranger"}
    first, again, other = (done(client, **asked, seed=seed) for seed in (5, 5, 6))
    assert first["notes"] == again["notes"] != other["notes"]
    varied = done(client, vary={"piece": first["id"]})
    assert varied["writer"] == "arranger" and varied["notes"] != first["notes"]


def test_of_two_writers_the_likelier_piece_is_offered_and_the_judge_is_named(server: Server) -> None:
    client, desk = server
    asked = {"prompt": "gospel in C, 2 bars", "seed": 3}
    piece = ask(client, **asked, writer="best")
    last = events(client, piece)[-1]
    best = client.get(f"/api/pieces/{piece}").json()
    assert last[2]["judge"] == best["judge"] and last[2]["writer"] == best["writer"]
    assert best["judge"].startswith(f"the likelier of two by {desk.writer.model}, in nats a word: model -")
    model, arranger = (float(part.split()[-1]) for part in best["judge"].split(": ")[1].split(", "))
    assert best["writer"] == ("model" if model >= arranger else "arranger")
    own = done(client, **asked, writer=best["writer"])
    assert own["notes"] == best["notes"] and own["judge"] is None


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"prompt": "gospel", "writer": "choir"}, "writer"),
        ({"prompt": "gospel", "writer": "arranger", "density": 12}, "not a number of notes"),
        ({"writer": "best", "refill": {"piece": "x", "first_bar": 1, "last_bar": 1}}, "refill"),
        ({"prompt": "gospel", "writer": "arranger", "metre": "7/8"}, "7/8"),
        ({"writer": "arranger"}, "nothing is asked for"),
    ],
)
def test_what_the_arranger_cannot_do_is_said_before_anything_is_written(
    client: httpx.Client, asked: dict[str, Any], says: str
) -> None:
    answer = client.post("/api/pieces", json=asked)
    assert answer.status_code == 422 and says in answer.json()["detail"], answer.text


def test_the_answer_says_what_was_understood_so_that_it_can_be_corrected(client: httpx.Client) -> None:
    made = client.post("/api/pieces", json={"prompt": "worship in Db at 66, 2 bars, with xylophones", "seed": 1}).json()
    request = made["request"]
    assert (request["key"], request["tempo"], request["bars"]) == ("Db major", 66, 2) and made["heard"] is None
    assert any("xylophones" in part for part in made["not_understood"])
    again = client.post("/api/pieces", json={**request, "key": "Eb", "prompt": None}).json()
    assert again["request"]["key"] == "Eb major" and again["not_understood"] == []


# --- playings


@pytest.fixture(scope="module")
def playing() -> str:
    """A worship ballad in 12/8, played by human fingers: a keyboard's recorder says 120 in 4/4 whatever was played."""
    score = arrange("amazing_grace", "worship", "G", 66, seed=5, bars=16, metre=(12, 8))
    played = perform(score, seed=3).played
    keys = [(onset, 1, int(pitch), int(velocity)) for onset, pitch, _, velocity in played.notes]
    keys += [(onset + held, 0, int(pitch), 0) for onset, pitch, held, _ in played.notes]
    file, track, now = mido.MidiFile(ticks_per_beat=480), mido.MidiTrack(), 0
    file.tracks.append(track)
    for second, on, pitch, velocity in sorted(keys):
        tick = round(second * 960)
        track.append(mido.Message("note_on" if on else "note_off", note=pitch, velocity=velocity, time=tick - now))
        now = tick
    out = BytesIO()
    file.save(file=out)
    return base64.b64encode(out.getvalue()).decode()


def test_a_playing_is_heard_before_it_is_continued_and_the_answer_says_as_what(
    client: httpx.Client, playing: str
) -> None:
    made = client.post("/api/pieces", json={"continue": {"midi": playing, "from_bar": 2}, "bars": 1}).json()
    heard = made["heard"]
    assert heard["metre"] == "12/8" and heard["bpm"] == pytest.approx(66, rel=0.1) and heard["by"] == "ear"
    assert events(client, made["id"])[-1][1] == "done"
    piece = client.get(made["links"]["self"]).json()
    assert piece["metre"] == "12/8" and piece["heard"] == heard


def test_what_you_know_of_a_playing_wins_over_the_ear(client: httpx.Client, playing: str) -> None:
    hints = {"bpm": 99, "metre": "3/4", "first_downbeat": 1.0}
    body = {"continue": {"midi": playing, "from_bar": 2, "hints": hints}, "bars": 1}
    heard = client.post("/api/pieces", json=body).json()["heard"]
    assert heard["metre"] == "3/4" and heard["bpm"] == pytest.approx(99, rel=0.1)


def test_a_file_that_keeps_its_grid_is_left_alone_in_every_upload(client: httpx.Client) -> None:
    midi = base64.b64encode(to_midi_bytes(arrange("amazing_grace", "worship", "G", seed=5, bars=16))).decode()
    for asked in ({"continue": {"midi": midi, "from_bar": 2}, "bars": 1},
                  {"refill": {"midi": midi, "first_bar": 2, "last_bar": 2}}):  # fmt: skip
        assert client.post("/api/pieces", json=asked).json()["heard"] is None


@pytest.mark.parametrize(
    ("hints", "says"),
    [
        ({"bpm": "fast"}, "continue.hints.bpm"),
        ({"metre": "7/8"}, "2/4, 3/4"),
        ({"bpm": 1000}, "20 to 340"),
        ({"first_downbeat": 9999}, "outside the music"),
        ({"swing": 1}, "continue.hints.swing"),
        ("12/8", "give an object"),
    ],
)
def test_hints_that_cannot_be_are_named(client: httpx.Client, playing: str, hints: Any, says: str) -> None:
    answer = client.post("/api/pieces", json={"continue": {"midi": playing, "hints": hints}, "bars": 1})
    assert answer.status_code == 422 and says in answer.json()["detail"], answer.text


def test_a_playing_of_hours_is_refused_before_it_is_heard(client: httpx.Client) -> None:
    file = mido.MidiFile(ticks_per_beat=480)
    notes = [
        mido.Message("note_on", note=60 + n // 2 % 12, velocity=(n + 1) % 2 * 80, time=100_003) for n in range(200)
    ]
    file.tracks.append(mido.MidiTrack(notes))
    out = BytesIO()
    file.save(file=out)
    midi = base64.b64encode(out.getvalue()).decode()
    answer = client.post("/api/pieces", json={"melody": {"midi": midi}})
    assert answer.status_code == 422 and "melody.midi lasts" in answer.json()["detail"], answer.text
