"""The service in a program: words, MIDI, events, cancellation, limits, and what a request is understood as."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_helpers import tiny_base

from plagal.asking.request import Request, read_request
from plagal.asking.wording import prompt_for
from plagal.compose.opening import PlacedNote, bar_ticks, opening_words, placed_chords, placed_melody
from plagal.music.arranger.arrange import arrange
from plagal.music.midi import read_midi, to_midi_bytes
from plagal.music.score import Score
from plagal.plumbing.errors import BusyError, InputError, ModelError
from plagal.serving import FinetunedQwenService
from plagal.serving.service import EventReader
from plagal.tokens import grammar
from plagal.tokens.codec import decode, encode
from plagal.tokens.vocabulary import MUSIC_WORDS
from waiting import wait_until


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"))


def ask(**asked: Any) -> Request:
    return read_request(asked, seed=1)


# --- the service


def test_a_prompt_becomes_words_that_are_a_piece(model: Path) -> None:
    async def ask() -> list[str]:
        async with FinetunedQwenService(model) as service:
            return await service.generate_music_tokens("slow worship ballad in Db, 2 bars")

    words = asyncio.run(ask())
    assert grammar.accepts(words) and words[:4] == ["SONG_START", "KEY_Db", "TIMESIG_4_4", "TEMPO_66"]
    assert words.count("BAR_START") == 2


def test_a_piece_ends_in_good_order_before_max_tokens(model: Path) -> None:
    async def ask() -> list[str]:
        async with FinetunedQwenService(model) as service:
            return await service.generate_music_tokens("gospel", max_tokens=80)

    words = asyncio.run(ask())
    assert grammar.accepts(words) and len(words) <= 80


def test_words_midi_and_events_tell_the_same_piece(model: Path) -> None:
    async def ask() -> tuple[list[str], bytes, list[str]]:
        async with FinetunedQwenService(model) as service:
            wanted: dict[str, Any] = {"bars": 2, "seed": 4}
            wanted["tries"] = 1  # a stream cannot take back what it has sent
            words = await service.generate_music_tokens("jazz in F", **wanted)
            kinds = [event.kind async for event in service.stream("jazz in F", **wanted)]
            return words, await service.generate_midi("jazz in F", **wanted), kinds

    words, midi, kinds = asyncio.run(ask())
    assert read_midi(midi) == decode(words).score
    assert kinds[0] == "start" and kinds.count("bar") == 2 and kinds[-1] == "done"


def test_a_caller_that_goes_away_frees_the_model(model: Path) -> None:
    async def ask() -> tuple[str, int]:
        async with FinetunedQwenService(model) as service:
            task = asyncio.create_task(service.generate_midi("gospel", bars=64))
            async with asyncio.timeout(60):
                while not service.writer.busy:
                    await asyncio.sleep(0.01)
            (left,) = service.writer.writing
            task.cancel()
            await service.generate_music_tokens("gospel", bars=1)
            return left.status, left.words.count("BAR_START")

    status, bars = asyncio.run(ask())
    assert status == "cancelled" and bars < 64


def test_the_event_loop_stays_free_while_the_model_writes(model: Path) -> None:
    async def ask() -> set[int]:
        async with FinetunedQwenService(model) as service:
            task = asyncio.create_task(service.generate_music_tokens("gospel", bars=8, tries=1))
            seen = set()
            while not task.done():
                await asyncio.sleep(0.001)
                seen |= {len(job.words) for job in service.writer.writing}
            return seen

    # A loop that is held up sees the piece only before and behind its writing.
    assert len(seen := asyncio.run(ask())) > 5, seen


def test_a_full_queue_refuses_and_those_in_it_are_answered(model: Path) -> None:
    async def ask() -> list[object]:
        async with FinetunedQwenService(model, queue_limit=3, batch=1) as service:
            return await asyncio.gather(
                *(service.generate_music_tokens("gospel", bars=2, seed=i) for i in range(12)), return_exceptions=True
            )

    answers = asyncio.run(ask())
    refused = [answer for answer in answers if isinstance(answer, BusyError)]
    assert refused and len(refused) <= 9 and "try again" in str(refused[0])
    assert all(grammar.accepts(answer) for answer in answers if isinstance(answer, list))


def test_pieces_written_together_are_those_written_alone(model: Path) -> None:
    async def ask() -> tuple[list[list[str]], list[list[str]]]:
        async with FinetunedQwenService(model) as service:
            together = await asyncio.gather(
                *(service.generate_music_tokens("gospel", bars=2, seed=i) for i in range(4))
            )
            alone = [await service.generate_music_tokens("gospel", bars=2, seed=i) for i in range(4)]
            return list(together), alone

    together, alone = asyncio.run(ask())
    assert together == alone


def test_a_model_that_is_not_there_is_a_named_error(tmp_path: Path) -> None:
    async def ask() -> None:
        async with FinetunedQwenService(tmp_path / "nowhere"):
            pass

    with pytest.raises(ModelError, match="nowhere"):
        asyncio.run(ask())


def test_the_model_answers_to_the_arrangers_interface(model: Path) -> None:
    service = FinetunedQwenService(model)
    try:
        score = service.generate_melody("worship", "Db", 66.0, 2, seed=3)
    finally:
        service.writer.close()
    assert isinstance(score, Score) and score.tempos[0].quarters_per_minute == 66 and score.keys[0].fifths == -5


def test_a_process_that_served_ends_without_an_abort(model: Path) -> None:
    script = (
        "import asyncio, sys\nfrom plagal.serving import FinetunedQwenService\n"
        "async def main():\n    async with FinetunedQwenService(sys.argv[1]) as service:\n"
        "        print(len(await service.generate_music_tokens('gospel', bars=1)))\nasyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(model)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and int(done.stdout) > 3, done.stderr


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = Path(__file__).parents[2] / "examples" / "fastapi_backend.py"
    spec = importlib.util.spec_from_file_location("fastapi_backend", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fastapi_backend", module)
    spec.loader.exec_module(module)
    return module


def test_the_example_backend_writes_midi_and_falls_back_on_the_arranger(
    model: Path, example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    async def answers(folder: Path, body: dict[str, Any]) -> httpx.Response:
        monkeypatch.setenv("PLAGAL_MODEL", str(folder))
        async with example.lifespan(example.app):
            transport = httpx.ASGITransport(app=example.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
                return await client.post("/generate", json=body)

    for folder, writer in ((model, "model"), (tmp_path / "nowhere", "arranger")):
        answer = asyncio.run(answers(folder, {"prompt": "worship in Db", "bars": 2}))
        assert answer.status_code == 200 and answer.headers["x-written-by"] == writer
        assert len(read_midi(answer.content).notes)
    assert asyncio.run(answers(model, {"prompt": "worship", "bars": 99})).status_code == 422


def test_clients_that_leave_the_example_backend_take_their_pieces_with_them(
    model: Path, example: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One piece is being written and two wait; all three clients hang up without a word."""
    monkeypatch.setenv("PLAGAL_MODEL", str(model))
    server = uvicorn.Server(uvicorn.Config(example.app, log_level="warning"))
    jobs: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as taken, ExitStack() as clients:
        thread = threading.Thread(target=server.run, args=([taken],), daemon=True)
        thread.start()
        try:
            wait_until(lambda: server.started, 30)
            writer = example.app.state.service.writer
            monkeypatch.setattr(writer, "submit", lambda job, submit=writer.submit: jobs.append(submit(job)) or job)
            for number in range(3):
                body = json.dumps({"prompt": "gospel", "bars": 64 - number * 16}).encode()
                head = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                client = clients.enter_context(socket.create_connection(taken.getsockname()))
                client.sendall(b"POST /generate HTTP/1.1\r\nHost: app\r\n" + head + body)
                wait_until(lambda expected=number + 1: len(jobs) == expected)
            clients.close()
            wait_until(lambda: all(job.over for job in jobs))
        finally:
            server.should_exit = True
            thread.join(30)
    assert [job.status for job in jobs] == ["cancelled"] * 3


# --- a stock model's free text


def test_free_text_gives_its_words_what_was_skipped_and_what_was_repaired() -> None:
    text = "Sure!\n```SONG_START BAR_START CHORD_Cmaj7, NOTE_ON_60 DUR_QUARTER VEL_MF NOTE_ON_64``` NOTE_ON_999 enjoy."
    read = FinetunedQwenService.parse_token_response(text)
    assert read.found[-1] == "NOTE_ON_64" and read.skipped == ["Sure", "NOTE_ON_999", "enjoy"]
    assert grammar.accepts(read.words) and read.words.count("NOTE_ON_64") == 1
    assert read.repairs and "SONG_END" in read.repairs[-1].what


def test_counts_of_bars_that_a_stock_model_writes_are_no_repair() -> None:
    bar = "BAR_START {}BEAT_0 NOTE_ON_60 DUR_WHOLE VEL_MF"
    counting, plain = (
        FinetunedQwenService.parse_token_response(f"SONG_START {bar.format(two)} {bar.format(one)} SONG_END")
        for two, one in (("BARS_2 ", "BARS_1 "), ("", ""))
    )
    assert counting == plain and not counting.repairs and not counting.skipped


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=200) | st.lists(st.sampled_from(MUSIC_WORDS), max_size=60).map(" ".join))
def test_any_text_reads_as_a_piece(text: str) -> None:
    assert grammar.accepts(FinetunedQwenService.parse_token_response(text).words)


# --- events


def test_events_of_an_arrangement_are_its_notes_bars_and_pedals() -> None:
    words = encode(arrange("amazing_grace", "worship", seed=2))
    score = decode(words).score
    reader = EventReader()
    events = [event for word in words for event in reader.feed(word)]
    notes = [[event.data[name] for name in ("onset", "pitch", "duration", "velocity")]
             for event in events if event.kind == "note"]  # fmt: skip
    assert notes == score.notes.tolist()
    assert [(event.data["onset"], event.data["state"]) for event in events if event.kind == "pedal"] == [
        (pedal.onset, pedal.state) for pedal in score.pedals
    ]
    assert reader.bars == words.count("BAR_START") and reader.notes == len(notes)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(MUSIC_WORDS), max_size=60))
def test_any_words_can_be_told_as_events(words: list[str]) -> None:
    reader = EventReader()
    for word in words:
        for event in reader.feed(word):
            assert event.data.get("onset", 0) >= 0


# --- what a request is understood as


def test_controls_win_over_the_prompt_and_the_model_is_asked_accordingly() -> None:
    asked = ask(prompt="slow worship in Db", key="G", bars=4)
    assert opening_words(asked) == ("KEY_G", "TIMESIG_4_4", "TEMPO_66") and asked.new_bars == 4
    assert "G major" in prompt_for(asked)[0] and "Db" not in prompt_for(asked)[0]


def test_a_prompt_reaches_the_model_as_it_was_typed_with_what_was_understood_as_words_behind_it() -> None:
    words = "STYLE_WORSHIP BARS_16 KEY_Db TEMPO_66"
    assert prompt_for(ask(prompt="slow worship in Db"))[0] == f"slow worship in Db {words}"


def test_controls_alone_are_worded_as_training_prompts_are() -> None:
    asked = ask(style="gospel jazz", key="Bb", tempo=120, metre="4/4", bars=8)
    assert prompt_for(asked)[0] == (
        "Generate 8 bars of gospel jazz in Bb major at 120 BPM in 4/4"
        " STYLE_GOSPEL_JAZZ BARS_8 KEY_Bb TIMESIG_4_4 TEMPO_120"
    )


def test_a_progression_shares_its_bars_equally_and_repeats_to_the_end() -> None:
    placed = placed_chords(ask(chords="C | F G7 | %", bars=4))
    chords = [(bar, tick, chord.symbol) for (bar, tick), chord in placed.items()]
    assert chords == [(0, 0, "Cmaj"), (1, 0, "Fmaj"), (1, 48, "Gdom7"), (2, 0, "Fmaj"), (2, 48, "Gdom7"),
                      (3, 0, "Cmaj")]  # fmt: skip
    without_bars = placed_chords(ask(chords="C Am F G", bars=4))
    assert list(without_bars) == [(0, 0), (1, 0), (2, 0), (3, 0)]


def test_chords_of_one_bar_begin_on_its_beats_in_compound_metres_too() -> None:
    assert [tick for _, tick in placed_chords(ask(chords="C G | F", metre="6/8", bars=2))] == [0, 36, 0]
    assert [tick for _, tick in placed_chords(ask(chords="C G F | C", metre="4/4", bars=2))] == [0, 24, 48, 0]


def test_chords_and_bars_are_read_from_a_plain_prompt() -> None:
    asked = ask(prompt="Play gospel over Dbmaj9 | Gb13 | Ab13sus Ab7, please, 6 bars")
    assert [(bar, tick, chord.symbol) for (bar, tick), chord in placed_chords(asked).items()][:4] == [
        (0, 0, "Dbmaj9"), (1, 0, "Gbdom13"), (2, 0, "Ab13sus"), (2, 48, "Abdom7")]  # fmt: skip
    assert asked.bars == 6


def test_a_melody_brings_its_metre_key_and_length() -> None:
    asked = ask(melody={"abc": "M:3/4\nL:1/4\nK:G\n[DG]2 B|A3|"})
    notes = (PlacedNote(0, 0, 67, 48), PlacedNote(0, 48, 71, 24), PlacedNote(1, 0, 69, 72))
    assert placed_melody(asked.melody, bar_ticks(asked)) == notes
    assert opening_words(asked)[:2] == ("KEY_G", "TIMESIG_3_4") and asked.bars == 2


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"melody": {"abc": "M:3/4\nL:1/4\nK:G\nG3|A3|"}, "metre": "4/4"}, "the melody is in 3/4"),
        ({"melody": {"abc": "M:3/4\nL:1/4\nK:G\nG3|A3|"}, "bars": 1}, "the melody has 2"),
        ({"prompt": "gospel", "bars": 0}, "1"),
        ({"refill": {"piece": "x", "first_bar": 1, "last_bar": 1}, "bars": 4}, "leave out bars"),
        ({"vary": {"piece": "x"}}, "vary needs the request"),
        ({"chords": "C xyz"}, "^chords \"C xyz\": chord 'xyz' is not known"),
    ],
)
def test_contradictions_are_named(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        ask(**asked)
    assert "\n" not in str(error.value)


def test_too_much_to_go_on_from_is_named() -> None:
    midi = base64.b64encode(to_midi_bytes(decode(encode(arrange(None, "worship", seed=1, bars=40))).score)).decode()
    with pytest.raises(InputError, match="keep fewer"):
        ask(**{"continue": {"midi": midi}, "bars": 40})
    kept = ask(**{"continue": {"midi": midi, "from_bar": 4}, "bars": 40})
    assert kept.kept_bars == 4 and kept.new_bars == 40
    assert opening_words(kept).count("BAR_START") == 5  # the last begins the first new one


# --- conversation


# --- stock servers


def test_the_documented_stock_server_answers_with_words_that_read_as_a_piece(model: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "stock.md").read_text(encoding="utf-8")
    (command,) = [line for line in page.splitlines() if line.startswith("mlx_lm.server --model models/fused")]
    (call,) = [line for line in page.splitlines() if line.startswith("curl") and "/v1/chat/completions" in line]
    body = json.loads(re.findall(r"-d '(.*)'", call)[0]) | {"max_tokens": 40}
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    words = [str(model) if word == "models/fused" else port if word == "8081" else word for word in command.split()]
    server = subprocess.Popen([Path(sys.executable).parent / words[0], *words[1:]], stderr=subprocess.DEVNULL)
    try:
        content = _answer_of(f"http://127.0.0.1:{port}/v1/chat/completions", body)
    finally:
        server.terminate()
        server.wait(30)
    read = FinetunedQwenService.parse_token_response(content)
    assert read.found and grammar.accepts(read.words)


def _answer_of(address: str, body: dict[str, Any]) -> str:
    for _ in range(240):
        try:
            answer = httpx.post(address, json=body, timeout=60)
        except httpx.ConnectError:
            time.sleep(0.25)
            continue
        return str(answer.json()["choices"][0]["message"]["content"])
    raise AssertionError("the stock server did not start")
