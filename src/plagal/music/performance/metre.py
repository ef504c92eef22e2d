"""Which metre a whole piece has, where its bar lines then stand, and how sure that is.

From beat to beat bars of two and of four, or a shuffle and 12/8, look alike; over a piece they do not. So beats are
decoded first, what speaks for each metre is summed over all of them, and six logistic curves weigh it. Their weights
lie beside the net's: `tools/train_tracker.py` fits them to performances by that net.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from plagal.music.performance.decode import BAR_LENGTHS, METRE_CHANGE, METRES, RARE, Hints, Path
from plagal.music.performance.features import FRAMES_PER_SECOND, strikes
from plagal.music.performance.net import Activations, load_weights
from plagal.music.performance.played import Floats, Ints, Played, Pulse
from plagal.music.performance.positions import SIMPLE, place_notes
from plagal.music.score import ONSET

_FAVOUR = 0.2
"""What a beat in a bar of the piece's own length is worth more: enough against single bars, too little against a
stretch that is clearly in another metre."""


def shares(path: Path, heard: Activations) -> Floats:
    """How much of each beat's chance is that of a downbeat: shape (beats,)."""
    beat, down = _around(path, heard)[:, :2].T
    return np.asarray(np.clip(down / np.maximum(beat, RARE), 0.04, 0.96))


def _around(path: Path, heard: Activations) -> Floats:
    """The largest activations of each beat's frame and its neighbours: shape (beats, outputs)."""
    frames = np.clip(path.frames[:, None] + np.array([-1, 0, 1]), 0, len(heard) - 1)
    return np.asarray(heard[frames].max(axis=1), dtype=np.float64)


def read_places(share: Floats, favour: Floats) -> tuple[Ints, Ints, float]:
    """The best place in the bar of each beat, and its bar's length, shapes (beats,), and the score of a beat; `favour`,
    shape (lengths,), is what a beat in each length is worth by itself."""
    states = [(length, place) for length in BAR_LENGTHS for place in range(length)]
    gains = np.empty((len(share), len(states)))
    for state, (length, place) in enumerate(states):
        usual = 1.0 / length if place == 0 else 1.0 - 1.0 / length
        gains[:, state] = np.log(share if place == 0 else 1.0 - share) - np.log(usual)
        gains[:, state] += favour[BAR_LENGTHS.index(length)]
    # Row: from; column: to. Places follow each other, a bar's end leads to any downbeat: no bar is cut.
    ways = np.full((len(states), len(states)), -np.inf)
    for row, (length, place) in enumerate(states):
        for column, (after, there) in enumerate(states):
            if place == length - 1 and there == 0:
                ways[row, column] = 0.0 if after == length else -METRE_CHANGE
            elif after == length and there == place + 1:
                ways[row, column] = 0.0
    total, back = gains[0].copy(), np.zeros(gains.shape, dtype=np.int64)
    for number in range(1, len(gains)):
        reached = total[:, None] + ways
        back[number] = reached.argmax(axis=0)
        total = reached.max(axis=0) + gains[number]
    chosen = np.zeros(len(gains), dtype=np.int64)
    chosen[-1] = int(total.argmax())
    for number in range(len(gains) - 1, 0, -1):
        chosen[number - 1] = back[number, chosen[number]]
    lengths, places = np.array(states)[chosen].T
    return places, lengths, float(total.max()) / len(share)


def witnesses(played: Played, pulse: Pulse, path: Path, heard: Activations) -> Floats:
    """What speaks for one metre or another, over the whole piece: shape (WITNESSES,)."""
    share, beats = shares(path, heard), len(path.frames)
    scores = [read_places(share, np.where(np.array(BAR_LENGTHS) == length, 0.0, -9.0))[2] for length in BAR_LENGTHS]
    onsets = np.unique(place_notes(played, pulse).ticks)
    beat, part = onsets // SIMPLE, onsets % SIMPLE
    divisions = ((8, 16), (8,), (16,), (12,), (6, 18), (4, 20))
    divided = [len(np.unique(beat[np.isin(part, division)])) / beats for division in divisions]
    chances = np.clip(np.median(heard[path.frames, 2:].astype(np.float64), axis=0), 0.01, 0.99)
    tempo = np.log(pulse.bpm / 80.0)
    struck = np.log(len(np.unique(strikes(played.notes[:, ONSET]))) / beats)
    lengths = [np.mean(path.length == length) for length in BAR_LENGTHS]
    crossed = [tempo * tempo, tempo * divided[0], tempo * (scores[2] - scores[0])]
    return np.array([1.0, *scores, *lengths, *divided, *_logit(chances), tempo, struck, *crossed])


def metre_chances(seen: Floats) -> Floats:
    """The chance of each of `METRES`, in their order, by what was witnessed."""
    logits = seen @ load_weights()[1]["metre.weight"].astype(np.float64)
    chances = np.exp(logits - logits.max())
    return np.asarray(chances / chances.sum())


def in_metre(path: Path, heard: Activations, chances: Floats, hints: Hints) -> tuple[Path, bool, float]:
    """The path with its bars read again in favour of the likeliest metre, or of the one that `hints` say; whether its
    beats divide in three; and the chance of bars of this length."""
    names = list(METRES)
    beats, compound = METRES[hints.metre or names[int(chances.argmax())]]
    if hints.metre is not None:
        return path, compound, 1.0
    share = shares(path, heard)
    if hints.first_downbeat is not None:
        share[np.abs(path.frames - hints.first_downbeat * FRAMES_PER_SECOND).argmin()] = 1.0 - 1e-15
    places, lengths, _ = read_places(share, _FAVOUR * (np.array(BAR_LENGTHS) == beats))
    of_length = sum(chance for chance, name in zip(chances.tolist(), names, strict=True) if METRES[name][0] == beats)
    return replace(path, in_bar=places, length=lengths), compound, of_length


def how_sure(path: Path, heard: Activations, of_length: float) -> Floats:
    """How sure each beat is: the logistic curve of the mean is the chance that the downbeats' F is over 0.8."""
    return sureness(path, heard, of_length) @ load_weights()[1]["sure.weight"].astype(np.float64)


def sureness(path: Path, heard: Activations, of_length: float) -> Floats:
    """What speaks for each beat's being read right: shape (beats, 5). How likely the net thinks the beat, and the place
    in the bar; how sure the length of the piece's bars is; and by how much all beats together prefer these bar lines to
    others as far apart, which may be clear where no single bar is."""
    around, down = _around(path, heard), shares(path, heard)
    right = np.where(path.in_bar == 0, down, 1.0 - down)
    of_length = float(_logit(np.clip(of_length, 0.02, 0.98)))
    moved = [
        np.sum(np.where((path.in_bar - shift) % path.length == 0, np.log(down), np.log(1.0 - down)))
        for shift in range(int(path.length.max()))
    ]
    ahead = np.log1p(max(0.0, moved[0] - max(moved[1:])))
    whole = [np.full(len(right), value) for value in (of_length, ahead)]
    return np.stack([np.ones(len(right)), around[:, 0], right, *whole], axis=1)


def _logit(chances: Floats) -> Floats:
    return np.asarray(np.log(chances / (1.0 - chances)))
