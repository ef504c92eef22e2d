"""A level keeps its limits: in what the arranger and the model write, and in a piece that is made easier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from model_helpers import tiny_base
from typer.testing import CliRunner

from plagal.asking.chat import Talk
from plagal.asking.prompt import read_prompt
from plagal.asking.request import arranged, read_request
from plagal.cli import app
from plagal.compose.write import write
from plagal.model import base
from plagal.model.scorer import ModelScorer
from plagal.music.arranger.arrange import STYLES, arrange
from plagal.music.edits import bar_edges
from plagal.music.levels import LEVELS, beyond, in_hands, simplified
from plagal.music.midi import read_midi, write_midi
from plagal.music.score import ONSET, PITCH, Score
from plagal.tokens.codec import decode, encode


@pytest.mark.parametrize("level", LEVELS)
def test_what_the_arranger_writes_at_a_level_keeps_it_and_most_of_it_when_its_words_are_read_back(level: str) -> None:
    """Words name no hands: of 240 pieces 219 keep their level by the hands that the reader gives them."""
    kept = 0
    for seed, style in enumerate(STYLES):
        score = arranged(read_request({"style": style, "seed": seed, "bars": 8, "level": level, "writer": "arranger"}))
        assert beyond(score, level) == [], style
        kept += beyond(in_hands(decode(encode(score)).score, level), level) == []
    assert kept >= 0.8 * len(STYLES)


def test_a_model_s_piece_keeps_the_level_that_it_is_asked_for(tmp_path: Path) -> None:
    scorer = ModelScorer(base.load(tiny_base(tmp_path)))
    for level in ("beginner", "easy", "intermediate"):
        asked = {"style": "gospel", "key": "F", "bars": 4, "temperature": 1.5, "level": level}
        requests = [read_request({**asked, "seed": seed}) for seed in range(12)]
        kept = [beyond(decode(words).score, level) for words in write(scorer, requests, max_words=2000)]
        assert sum(not faults for faults in kept) >= 6, kept  # random weights at temperature 1.5: 7, 10 and 10


def struck(score: Score, hand: int, top: bool) -> dict[int, int]:
    """Onset -> pitch class of a hand's outer key."""
    found: dict[int, int] = {}
    for onset, pitch in score.notes[score.hands == hand][:, [ONSET, PITCH]].tolist():
        found[onset] = max(found.get(onset, pitch), pitch) if top else min(found.get(onset, pitch), pitch)
    return {onset: pitch % 12 for onset, pitch in found.items()}


@pytest.mark.parametrize("level", ["beginner", "easy", "intermediate"])
def test_melody_bass_and_harmony_of_a_simplified_piece_stay(level: str) -> None:
    for seed, style in enumerate(STYLES):
        score = arrange("what_a_friend", style, seed=seed)
        easier = simplified(score, level)
        assert easier.markers == score.markers and easier.keys == score.keys and easier.metres == score.metres
        assert bar_edges(easier) == bar_edges(score)
        for hand, top in ((1, True), (0, False)):
            before, after = struck(score, hand, top), struck(easier, hand, top)
            both = before.keys() & after.keys()
            assert np.mean([before[onset] == after[onset] for onset in both]) > 0.97, (style, hand)
            firm = [onset for onset in before if onset % 24 == 0]
            assert np.mean([onset in after for onset in firm]) > 0.97, (style, hand)


def test_what_keeps_a_level_already_stays_to_the_note() -> None:
    easy = simplified(arrange("amazing_grace", "worship", seed=1), "easy")
    assert simplified(easy, "easy") == easy and simplified(easy, "advanced") == easy


def test_a_piece_is_simplified_at_the_command_line_and_a_level_that_is_none_is_one_line(tmp_path: Path) -> None:
    hard, easy = tmp_path / "hard.mid", tmp_path / "easy.mid"
    write_midi(arrange("what_a_friend", "shout", seed=2), hard)
    done = CliRunner().invoke(app, ["simplify", str(hard), "--level", "beginner", "-o", str(easy)])
    assert done.exit_code == 0 and beyond(read_midi(easy), "beginner") == [], done.output
    assert len(read_midi(easy).notes) < len(read_midi(hard).notes)
    refused = CliRunner().invoke(app, ["simplify", str(hard), "--level", "hard", "-o", str(easy)])
    assert refused.exit_code and "beginner, easy, intermediate, advanced" in str(refused.exception)


def test_a_level_is_understood_in_five_languages_and_eased_in_a_talk() -> None:
    for prompt, level in {
        "easy worship in C": "easy", "gospel for beginners in G": "beginner", "Leichtes Lobpreis in F-Dur": "easy",
        "gospel facile en do majeur": "easy", "worship para principiantes": "beginner",
        "gospel intermediario em G": "intermediate", "advanced gospel jazz in Bb": "advanced", "gospel in F": None,
    }.items():  # fmt: skip
        assert read_prompt(prompt).level == level, prompt
    assert "take it easy" in read_prompt("gospel in F, take it easy").not_understood
    talk = Talk()
    assert talk.understand("gospel in F", 1).level is None
    assert [talk.understand(line, 2).level for line in ("easier", "easier", "harder", "easy")] == [
        "intermediate", "easy", "intermediate", "easy",
    ]  # fmt: skip


def test_a_tempo_beyond_the_level_becomes_the_level_s_and_that_is_said() -> None:
    request = read_request({"prompt": "fast easy shout in F"})
    assert request.tempo == LEVELS["easy"].fastest and "tempo 152" in " ".join(request.not_understood)
    slow = read_request({"metre": "12/8", "tempo": 120, "beat": "quarter", "level": "beginner"})
    assert slow.tempo == 120 and not slow.not_understood  # 80 dotted quarters
    assert request.changed(level="advanced", tempo=152).not_understood == ()
