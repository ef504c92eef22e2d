"""Lead sheets played in the textures that pianists use, with the symbols that people wrote as the truth.

The sheets: all tunes of the tune book with the chords printed there, and the progressions annotated by hand in
tests/fixtures/harmony, which have the sevenths, ninths and slash basses that hymns lack. The melody, where there is
one, lies on top; what is below it differs, in ways that are drawn for each sheet. No ornaments, no swing, one loudness.
"""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import yaml

from plagal.music.arranger.tunebook import tune_book
from plagal.music.chords import QUALITIES, Chord, parse_chord
from plagal.music.grid import regular
from plagal.music.harmony import beat_ticks
from plagal.music.score import TICKS_PER_QUARTER, Metre, Pedal, Score
from shared.places import ROOT

TEXTURES = ("block", "octaves", "pushed", "stride", "arpeggio", "arpeggio_pedal", "walking")
SONG = "song"
"""A pop song at the piano, as POP909 has them: another of the textures each phrase, walking bass apart, under the
melody, with what pianists put between: steps into the next bass, neighbours in the middle, ninths on weak beats."""
PHRASE_BARS = 4
FIXTURES = ROOT / "tests" / "fixtures" / "harmony" / "progressions.yaml"

Chart = list[tuple[int, Chord]]
Sheet = tuple[str, Metre, list[tuple[int, int, int]], Chart]
"""Name, metre, melody (onset, pitch, ticks), chords from their onsets [ticks] on."""


def lead_sheets() -> list[Sheet]:
    """The tune book's, then those of the fixtures."""
    sheets: list[Sheet] = [(tune.name, tune.metre, list(tune.notes), list(tune.chords)) for tune in tune_book()]
    for name, entry in yaml.safe_load(FIXTURES.read_text(encoding="utf-8")).items():
        onset, chart = 0, []
        for chord in entry["chords"]:
            chart.append((onset, parse_chord(chord["symbol"])))
            onset += chord.get("beats", 2) * TICKS_PER_QUARTER
        tonic = 72 + chart[-1][1].root % 12
        sheets.append((name, Metre(0, 4, 4), [(onset - 1, tonic, 1)], chart))
    return sheets


def played(sheet: Sheet, texture: str, seed: int) -> Score:
    """The sheet in one of `TEXTURES`, or as a `SONG`."""
    name, metre, melody, chart = sheet
    draw = random.Random(f"{seed}:{name}:{texture}")
    in_song, phrases = texture == SONG, [draw.choice(TEXTURES[:-1]) for _ in range(64)]
    beat = beat_ticks(metre)
    end = max(onset + ticks for onset, _, ticks in melody)
    rows: list[tuple[int, int, int]] = list(melody)
    pedals: list[Pedal] = []
    late_bass, detached, held, shells = (draw.random() < 0.5 for _ in range(4))
    shape = draw.choice(("up", "up and down", "broken"))
    for (onset, chord), until in zip(chart, [*(onset for onset, _ in chart[1:]), end], strict=True):
        if until <= onset:
            continue
        if in_song:
            texture = phrases[onset // (PHRASE_BARS * metre.bar_ticks) % len(phrases)]
        bass = 36 + chord.bass
        tones = [55 + (chord.root + step - 55) % 12 for step in QUALITIES[chord.quality]]
        upper = sorted(tones)
        beats = [(tick, min(tick + beat, until)) for tick in range(onset, until, beat)]
        if texture == "block":
            rows += [(onset, pitch, until - onset) for pitch in (bass, *upper)]
        elif texture == "octaves":
            rows += [(onset, pitch, until - onset) for pitch in (bass, bass - 12)]
            rows += [(tick, pitch, stop - tick) for tick, stop in beats for pitch in upper]
        elif texture == "pushed":  # an eighth early, the bass with it or on the beat
            early = min(TICKS_PER_QUARTER // 2, onset)
            rows += [(onset - early, pitch, until - onset) for pitch in upper]
            rows += [(onset, bass, until - onset) if late_bass else (onset - early, bass, until - onset)]
        elif texture == "stride":  # bass and chord in turn, the chords short, or all, or none
            for number, (tick, stop) in enumerate(beats):
                low = bass if number % 4 == 0 else 36 + (chord.root + _fifth(chord)) % 12
                length = (stop - tick) // 2 if detached and (number % 2 or held) else stop - tick
                rows += [(tick, pitch, length) for pitch in (upper if number % 2 else (low,))]
        elif texture in ("arpeggio", "arpeggio_pedal"):  # dry, kept down by the fingers, or under the pedal
            keys = [bass, *([48 + chord.root] if len(upper) < 4 else []), *upper]
            figure = [*range(len(keys)), *(range(len(keys) - 2, 0, -1) if shape == "up and down" else ())]
            if shape == "broken":
                figure = [
                    0,
                    *(step for pair in zip(figure[2::2], figure[1::2], strict=False) for step in pair),
                    len(keys) - 1,
                ]
            pace = beat // 3 if beat % 36 == 0 else beat // 2
            if (until - onset) // pace < len(keys):  # in time for the whole chord
                pace //= 2
            for number, tick in enumerate(range(onset, until, pace)):
                stop = until if held and texture == "arpeggio" else min(tick + pace, until)
                rows.append((tick, keys[figure[number % len(figure)]], stop - tick))
            if texture == "arpeggio_pedal":
                pedals += [Pedal(onset, "off"), Pedal(onset, "on")]
        elif texture == "walking":
            following = next((other.bass for place, other in chart if place >= until), chord.bass)
            line = _walk(chord, bass, 36 + following, len(beats), draw)
            rows += [(tick, pitch, stop - tick) for (tick, stop), pitch in zip(beats, line, strict=True)]
            comp = upper[:]
            if shells and len(tones) > 3:
                comp = [tones[1], *tones[3:]]
            if detached and held:  # off the bass, on every second beat
                hits = beats[1::2] or beats
            elif detached:  # on the first beat and the "and" of the second
                hits = [(tick, min(tick + beat // 2, until)) for tick in (onset, onset + beat + beat // 2)]
            else:
                hits = [(onset, until)]
            rows += [(tick, pitch, stop - tick) for tick, stop in hits if tick < until for pitch in comp]
        if in_song:
            rows += _between(chord, upper, bass, beats, draw)
    if pedals:
        pedals = [*pedals[1:], Pedal(end, "off")]
    notes = np.array(sorted({(onset, pitch, ticks, 80) for onset, pitch, ticks in rows}), dtype=np.int32)
    return regular(Score(notes, (metre,), pedals=tuple(pedals)))


def _between(
    chord: Chord, upper: list[int], bass: int, beats: list[tuple[int, int]], draw: random.Random
) -> list[tuple[int, int, int]]:
    """What a pianist puts between the notes of a chord, each kind under every second one."""
    last, stop = beats[-1]
    half = (stop - last) // 2
    rows = []
    if draw.random() < 0.5:
        rows.append((last + half, bass + draw.choice((-2, -1, 1, 2)), stop - last - half))
    if draw.random() < 0.5:
        tone = draw.choice(upper)
        rows += [(last, tone, half), (last + half, tone + draw.choice((-2, -1, 1, 2)), stop - last - half)]
    if draw.random() < 0.5 and len(beats) > 1:
        rows.append((beats[1][0], 60 + (chord.root + 2) % 12, beats[1][1] - beats[1][0]))
    return rows


def _fifth(chord: Chord) -> int:
    return next((step for step in QUALITIES[chord.quality] if step in (6, 7, 8)), 7)


def _walk(chord: Chord, bass: int, target: int, beats: int, draw: random.Random) -> list[int]:
    """A key a beat: the bass, chord tones, and before another bass a step into it."""
    tones = {(chord.root + step) % 12 for step in QUALITIES[chord.quality]}
    line = [bass]
    while len(line) < beats:
        if len(line) == beats - 1 and target % 12 != chord.bass:
            line.append(target + draw.choice((-1, 1, -2, 2)))
        else:
            reach = range(max(31, line[-1] - 7), min(53, line[-1] + 8))
            line.append(draw.choice([key for key in reach if key % 12 in tones and key != line[-1]]))
    return line


def parts_of(chord: Chord) -> tuple[int, ...]:
    """Root, third (or what is suspended) above it, seventh above it, -1 where there is none, and bass."""
    steps = QUALITIES[chord.quality]
    third = next((step for step in (4, 3, 5, 2) if step in steps), -1)
    seventh = next((step for step in (10, 11) if step in steps), 9 if steps == (0, 3, 6, 9) else -1)
    return (chord.root, third, seventh, chord.bass)


def share_right(truth: Chart, heard: Chart, end: int, of: int = 4) -> float:
    """Share of the time under a symbol in which root, third, seventh and bass, or the first `of` these, are right."""
    right = total = 0
    for begin, until in pairwise(sorted({onset for onset, _ in (*truth, *heard) if onset < end} | {end})):
        true = next((chord for onset, chord in reversed(truth) if onset <= begin), None)
        mine = next((chord for onset, chord in reversed(heard) if onset <= begin), None)
        if true is not None:
            total += until - begin
            right += (until - begin) * (mine is not None and parts_of(mine)[:of] == parts_of(true)[:of])
    return right / max(total, 1)
