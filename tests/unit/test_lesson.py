"""A take beside its score, and the lesson's documents."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from plagal.lesson import compare
from plagal.music.arranger.arrange import arrange
from plagal.music.midi import to_midi_bytes
from plagal.music.score import DURATION, ONSET, PITCH, Score, Tempo
from plagal.plumbing.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def piece() -> Score:
    return arrange("amazing_grace", "hymnal", key="F", bars=8, seed=1)


def taken(score: Score, notes: np.ndarray, quarters_per_minute: float = 120.0) -> Score:
    """As a keyboard would record it: sorted, in one tempo, without a word about anything."""
    order = np.lexsort((notes[:, PITCH], notes[:, ONSET]))
    return Score(notes[order], tempos=(Tempo(0, quarters_per_minute),))


@pytest.mark.parametrize("quarters_per_minute", [30.0, 90.0, 200.0])
def test_a_take_in_any_tempo_is_right(piece: Score, quarters_per_minute: float) -> None:
    found = compare(piece, taken(piece, piece.notes, quarters_per_minute))
    assert set(found.verdicts) == {"right"} and found.extra == ()
    assert found.quarters_per_minute == pytest.approx(quarters_per_minute, rel=0.05)


def test_a_take_that_slows_down_all_the_way_is_right(piece: Score) -> None:
    notes = piece.notes.copy()
    end = notes[:, ONSET].max()
    notes[:, ONSET] = (4 * notes[:, ONSET] * (1 + notes[:, ONSET] / end)).round()
    assert compare(piece, taken(piece, notes)).count("right") > 0.97 * len(notes)


def test_each_mistake_is_said_of_its_note(piece: Score) -> None:
    notes = piece.notes.copy()
    late, early, gone = 12, 20, 30
    notes[late, ONSET] += 9
    notes[early, ONSET] -= 9
    wrong = np.array([[notes[16, ONSET], 100, 12, 80]], dtype=np.int32)
    found = compare(piece, taken(piece, np.concatenate([np.delete(notes, gone, axis=0), wrong])))
    assert (found.verdicts[late], found.verdicts[early], found.verdicts[gone]) == ("late", "early", "missing")
    assert found.count("right") >= len(notes) - 5
    assert len(found.extra) == 1
    assert sum(sum(row.values()) for row in found.by_bar().values()) == len(notes)


def test_fingers_of_a_chord_in_any_order_are_right(piece: Score) -> None:
    rng = np.random.default_rng(3)
    notes = piece.notes.copy()
    notes[:, ONSET] = 8 * notes[:, ONSET] + rng.integers(0, 4, len(notes))
    notes[:, DURATION] *= 8
    assert compare(piece, taken(piece, notes, 800.0 / 3)).count("right") > 0.97 * len(notes)


def test_a_take_of_another_piece_is_said_to_be_one(piece: Score) -> None:
    with pytest.raises(InputError, match="another piece"):
        compare(piece, arrange("joy_to_the_world", "shout", key="B", seed=2))
    with pytest.raises(InputError, match="0 notes"):
        compare(piece, taken(piece, piece.notes[:0]))


def test_the_lessons_page_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "lessons.md").read_text(encoding="utf-8"), re.DOTALL)
    exec("\n".join(blocks), {})  # noqa: S102
    assert (tmp_path / "out" / "lead.pdf").read_bytes().startswith(b"%PDF")
    assert len(blocks) > 4


def test_a_lesson_s_backend_gives_an_exercise_and_judges_a_take() -> None:
    module = runpy.run_path(str(ROOT / "examples" / "lesson_backend.py"))
    client = TestClient(module["app"])
    name = client.post("/exercises", params={"tune": "amazing_grace", "bars": 4}).json()["id"]
    for form, begins in {"pdf": b"%PDF", "musicxml": b"<?xml", "mid": b"MThd", "wav": b"RIFF"}.items():
        assert client.get(f"/exercises/{name}.{form}").content.startswith(begins)
    midi = client.get(f"/exercises/{name}.mid").content
    answer = client.post(f"/exercises/{name}/takes", content=midi).json()
    assert answer["extra"] == 0 and all(row["missing"] == 0 for row in answer["bars"].values())
    other = to_midi_bytes(arrange("joy_to_the_world", "shout", key="B", seed=2))
    assert client.post(f"/exercises/{name}/takes", content=other).status_code == 422
