"""`plagal understand`: what people type, and what must be understood of it or said not to be."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from plagal.asking.progression import read_progression
from plagal.asking.prompt import read_prompt
from plagal.asking.request import read_request
from plagal.cli import app
from plagal.music.keys import parse_key
from plagal.plumbing.errors import InputError

HERE = Path(__file__).parent
OTHERS_CASES = HERE.parents[2] / "shared/cases/using/prompts.tsv"
"""Kept beside the checkout; the rows skip where it is not."""


def rows(path: Path) -> list[tuple[str, str]]:
    if not path.exists():
        return []
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line[:1] not in ("", "#")]
    return [(line[0], line[1]) for line in lines]


def understood(prompt: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["understand", prompt, "--json"])
    if done.exception is not None:
        raise done.exception
    answer: dict[str, Any] = json.loads(done.output)
    return answer


def check(prompt: str, wanted: str) -> None:
    """`name=value` of each wish, `tempo<=80` and `tempo=70..85` for what a range of answers satisfies."""
    if wanted.startswith("error="):
        with pytest.raises(InputError, match=wanted.removeprefix("error=")):
            understood(prompt)
        return
    answer = understood(prompt)
    answer["not"] = answer.pop("not_understood")
    for name, sign, value in (re.split("([<>]?=)", wish, maxsplit=1) for wish in wanted.split("; ")):
        if value in ("none", "some"):
            assert bool(answer.get(name)) == (value == "some"), (name, answer)
        elif name == "not":
            assert any(value.lower() in part.lower() for part in answer["not"]), (value, answer)
        elif name == "told":
            assert value.lower() in str(answer).lower(), (value, answer)
        elif name == "chords":
            assert read_progression(answer["chords"]) == read_progression(value), answer
        elif name == "tempo":
            low, _, high = value.partition("..")
            least, most = {"=": (float(low), float(high or low)), "<=": (0, float(low)), ">=": (float(low), 300)}[sign]
            assert least <= answer[name] <= most, answer
        else:
            assert str(answer.get(name)) == value, (name, answer)


@pytest.mark.skipif(not OTHERS_CASES.exists(), reason="the cases are not beside this checkout")
@pytest.mark.parametrize(("prompt", "wanted"), rows(OTHERS_CASES) or [("", "")])
def test_what_musicians_type_is_understood_or_said_not_to_be(prompt: str, wanted: str) -> None:
    check(prompt, wanted)


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    rows(HERE.parent / "fixtures/prompts_collected.tsv")
    + rows(HERE.parent / "fixtures/prompts_of_the_parsers_author.tsv"),
)
def test_what_people_ask_in_five_languages_is_understood_or_said_not_to_be(prompt: str, wanted: str) -> None:
    check(prompt, wanted)


def test_the_table_of_collected_prompts_has_120() -> None:
    assert len({prompt for prompt, _ in rows(HERE.parent / "fixtures/prompts_collected.tsv")}) == 120


@pytest.mark.parametrize(
    ("prompt", "key"),
    [
        ("Just As I Am, gospel in F", "F"),
        ("Great I Am, worship in G", "G"),
        ("Am Klavier in Des-Dur", "Db"),
        ("Em r\u00e9 bemol maior", "Db"),
        ("minor blues in C", "C minor"),
        ("gospel in Cb", "Cb"),
        ("gospel in Fb", "E"),
        ("gospel in E#", "F"),
        ("worship in F\u266f minor", "F# minor"),
        ("Gospel in B, langsam", "Bb"),
        ("gospel in B, slow", "B"),
        ("Slow Gospel Ballad In The Key Of D Flat", "Db"),
    ],
)
def test_words_that_look_like_keys_are_none_and_odd_keys_are_keys(prompt: str, key: str) -> None:
    assert read_prompt(prompt).key == parse_key(key)


@pytest.mark.parametrize(
    "prompt",
    ["end at 16 bars", "at 100 percent", "100% energy", "not too fast", "nicht zu schnell",
     "Up from the Grave He Arose", "Hold Fast Till I Come", "take 6", "psalm 23"],
)  # fmt: skip
def test_what_is_no_tempo_is_none(prompt: str) -> None:
    assert read_prompt(prompt).tempo is None


@pytest.mark.parametrize(("metre", "quarters"), [("12/8", 99), ("6/8", 99), ("4/4", 66), ("3/4", 66), ("3/8", 66)])
def test_a_tempo_counts_the_beats_of_its_metre(metre: str, quarters: float) -> None:
    said = read_prompt(f"gospel in {metre} at 66")
    assert (said.tempo, said.quarters_per_minute) == (66, quarters)


def test_a_named_tempo_says_that_it_is_one_and_names_no_metre() -> None:
    said = read_prompt("slow gospel")
    assert said.tempo == 66 and said.tempo_named and said.metre is None
    assert not read_prompt("slow gospel at 60 bpm").tempo_named


@pytest.mark.parametrize("prompt", ["an 110-bar gospel", "100 bars", "0 bars", "gospel at 500 bpm", "4/4 in 6/8"])
def test_limits_and_contradictions_are_problems(prompt: str) -> None:
    assert read_prompt(prompt).problems
    with pytest.raises(InputError):
        understood(prompt)


def test_a_change_on_the_way_is_no_contradiction_but_is_told() -> None:
    said = read_prompt("gospel in G, 4/4 then 6/8")
    assert said.metre == (4, 4) and not said.problems and said.not_understood == ("6/8",)


@pytest.mark.parametrize("prompt", ["C F", "Sing Total Praise", "left hand only", "H7 and stuff", "rubato", "capo 3"])
def test_no_word_with_a_meaning_is_dropped_in_silence(prompt: str) -> None:
    assert read_prompt(prompt).not_understood


def test_people_read_what_was_understood() -> None:
    done = CliRunner().invoke(app, ["understand", "worship in F#m with a choir of angels"])
    assert done.output.splitlines() == ["style: worship", "key: F# minor", "not understood: angels"]


def test_what_is_not_understood_is_said_under_the_piece_in_one_line() -> None:
    request = read_request({"prompt": "worship in Db, 12/8, 66 bpm, 16 bars, tritone subs"})
    assert request.summary.startswith("understood: worship, Db major, ♩. = 66, 12/8, 16 bars")
    assert request.summary.endswith("not understood: tritone subs")


def test_a_tune_that_is_named_is_harmonised_also_over_chords_of_ones_own() -> None:
    request = read_request({"prompt": "Amazing Grace over C | F | G | C"})
    assert request.tune == "amazing_grace" and request.chords and request.melody is not None
    assert request.changed(bars=40).melody == request.melody


def test_a_tune_is_not_claimed_where_other_music_is_given() -> None:
    melody = read_request({"tune": "kum_ba_yah"}).melody
    assert read_request({"prompt": "like Amazing Grace", "melody": melody}).tune is None
    with pytest.raises(InputError, match="tune"):
        read_request({"tune": "amazing_grace", "melody": melody})
    with pytest.raises(InputError, match="tune"):
        read_request({"tune": "amazing_grace", "continue": {"words": ["SONG_START", "BAR_START", "SONG_END"]}})


def test_a_chord_that_the_vocabulary_has_only_nearly_is_said_in_whatever_way_it_is_asked_for() -> None:
    for asked in ({"prompt": "gospel over C9#11 | F"}, {"style": "gospel", "chords": "C9#11 | F"}):
        assert read_request(asked).not_understood == ("C9#11 (as C7#11)",)


def test_what_only_the_arranger_does_is_kept_in_the_request_and_told_where_a_model_writes() -> None:
    request = read_request(
        {"prompt": "worship in G, modulate up a whole step, ending 7-3-6-2-5-1", "sections": "verse, vamp:8"}
    )
    assert (request.modulate, request.ending, request.sections) == (2, "7-3-6-2-5-1", ("verse", "vamp:8"))
    assert [part.split(" (")[0] for part in request.not_understood] == [
        "modulate up a whole step", "sections verse, vamp:8",
    ]  # fmt: skip
    assert "ending 7-3-6-2-5-1" in request.summary and "up by 2 before the last verse" in request.summary
    assert read_request(request.as_json()).modulate == 2


def test_an_ending_that_is_neither_a_name_nor_degrees_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(InputError, match=r'ending "8-9": .*\'8\' is not a degree.*amen.*backdoor'):
        read_request({"prompt": "gospel", "ending": "8-9"})
    assert read_request({"prompt": "gospel", "ending": "Walk up"}).ending == "walk-up"


def test_a_feel_of_12_8_is_the_metre() -> None:
    assert read_request({"prompt": "gospel", "feel": "12/8"}).metre == (12, 8)
    with pytest.raises(InputError, match="metre of its own"):
        read_request({"prompt": "gospel", "feel": "12/8", "metre": "4/4"})
