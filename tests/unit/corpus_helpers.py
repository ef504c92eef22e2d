"""Small pieces of music, and files of them, for the corpus's tests."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from plagal.music.grid import regular
from plagal.music.midi import write_midi
from plagal.music.score import Key, Metre, Score, Tempo
from plagal.plumbing.params import CollectSettings, TextSettings

SCALE = (0, 2, 4, 5, 7, 9, 11)


def melody(seed: int, bars: int = 12) -> list[tuple[int, int, int]]:
    """A tune of quarters and eighths in C: (onset [ticks], pitch, duration [ticks])."""
    rng = random.Random(f"melody {seed}")
    degree, notes, now = rng.randrange(7), [], 0
    while now < bars * 96:
        duration = rng.choice((12, 12, 24, 24, 24, 36))
        step = rng.choice((-3, -2, -1, -1, 1, 1, 2, 3, 4))
        degree = min(12, max(-2, degree + step))
        notes.append((now, 60 + 12 * (degree // 7) + SCALE[degree % 7], min(duration, bars * 96 - now)))
        now += duration
    return notes


def hymn(
    seed: int, bars: int = 12, semitones: int = 0, harmony: int = 0, tempo: float = 90.0, stretch: int = 1
) -> Score:
    """The tune of that seed over block chords drawn by `harmony`: the same tune in another setting for another one."""
    rng = random.Random(f"harmony {seed} {harmony}")
    rows = [(onset, pitch + 12, duration, 80) for onset, pitch, duration in melody(seed, bars)]
    for half in range(bars * 2):
        root = rng.choice((36, 38, 40, 41, 43, 45))
        third = root + (4 if root in (36, 41, 43) else 3)
        rows += [(half * 48, pitch, 48, 65) for pitch in (root, third + 12, root + 19)]
    notes = np.array([(o * stretch, p + semitones, d * stretch, v) for o, p, d, v in rows], dtype=np.int32)
    return regular(Score(notes, (Metre(0, 4, 4),), (Tempo(0, tempo),), (Key(0, 0),)))


def write_hymns(folder: Path, seeds: range, **how: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        write_midi(hymn(seed, **how), folder / f"hymn{seed}.mid")


def sources_file(path: Path, *folders: tuple[str, Path], extra: str = "") -> Path:
    """A YAML file with a folder source for each (genre, folder)."""
    rights = "licence: test, attribution: test"
    entries = "".join(
        f"  - {{kind: folder, name: own_{genre}, path: {str(folder)!r}, genre: {genre}, {rights}}}\n"
        for genre, folder in folders
    )
    path.write_text(f"sources:\n{entries}{extra}", encoding="utf-8")
    return path


def collect_settings(sources: Path, target: int, quotas: dict[str, int], **changes: object) -> CollectSettings:
    values: dict[str, object] = {
        "sources": str(sources),
        "target_files": target,
        "quotas": quotas,
        "fill_from_arranger": {},
        "fill_from_surplus": False,
        "commercial_use_only": False,
        "min_notes": 24,
        "max_notes": 6000,
        "min_bars": 4,
        "max_bars": 400,
    }
    return CollectSettings.model_validate(values | changes)


def text_settings(**changes: object) -> TextSettings:
    values: dict[str, object] = {
        "copies": 2,
        "keep_original": True,
        "excerpts": 1,
        "excerpt_bars": (4, 8),
        "transpose_semitones": 3,
        "tempo_percent": 10.0,
        "revoice_share": 0.5,
    }
    return TextSettings.model_validate(values | changes)
