"""A piano made of numbers: sound where no SoundFont is, as WAV or MP3.

Each key is a string struck: partials a little sharper than whole multiples (it is stiff), that die away the faster the
higher they are, first quickly, then slowly, as two strings do that are not quite in tune; a hammer that leaves out the
partials with a node where it strikes, and is duller when it strikes softly; a knock of the key. Where the numbers come
from: Fletcher and Rossing, "The Physics of Musical Instruments", chapter 12, rounded.
"""

from __future__ import annotations

import wave
from functools import lru_cache
from io import BytesIO

import numpy as np
import numpy.typing as npt

from plagal.music.harmony import held_until
from plagal.music.performance.played import seconds_at
from plagal.music.score import ONSET, Score

SAMPLE_RATE = 44_100
"""[Hz]"""
_HIGHEST_HZ, _MOST_PARTIALS = 12_000.0, 32
_STRIKE_PLACE = 1 / 8
"""Of the string, from its end."""
_RELEASE_S = 0.08
"""In which a damper takes the sound to a third."""
_ATTACK_S = 0.002
_QUIETEST = 1e-3
"""Of a partial against the loudest: what is less is left out, and where it has become less it ends."""
_LEVEL = 0.9
"""Of full scale, where the loudest sample lies."""
_MP3_KBIT_S = 64
"""Half a minute in stereo takes under 300 KB."""
_VELOCITY_STEP = 15
"""As the words' levels have it: strings are computed once for each key and level."""

Samples = npt.NDArray[np.float32]


def rendered(score: Score) -> bytes:
    """A WAV file of the score: stereo, 16 bits."""
    begins = seconds_at(score, score.notes[:, ONSET])
    ends = seconds_at(score, held_until(score))
    tail = 5 * _RELEASE_S
    sound = np.zeros((int((ends.max() + tail) * SAMPLE_RATE) + 2, 2), dtype=np.float32)
    for (_, pitch, _, velocity), begin, end in zip(score.notes.tolist(), begins, ends, strict=True):
        level = max(_VELOCITY_STEP, round(velocity / _VELOCITY_STEP) * _VELOCITY_STEP)
        string = _string(pitch, level, int(np.ceil(end - begin + tail)))
        note = string[: int((end - begin + tail) * SAMPLE_RATE)].copy()
        damped = len(note) - int((end - begin) * SAMPLE_RATE)
        if damped > 0:
            note[-damped:] *= np.exp(np.arange(damped, dtype=np.float32) / (-_RELEASE_S * SAMPLE_RATE))
        first, right = int(begin * SAMPLE_RATE), 0.35 + 0.3 * (pitch - 21) / 87  # the bass is on the player's left
        sound[first : first + len(note), 0] += note * (1 - right)
        sound[first : first + len(note), 1] += note * right
    scaled = np.round(sound * (_LEVEL * 32767 / float(np.abs(sound).max()))).astype("<i2")
    buffer = BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(scaled.tobytes())
    return buffer.getvalue()


def to_mp3(wav: bytes) -> bytes:
    """The sound of a WAV file (PCM, 16 bits) as MP3, about a twentieth of its size; the same bytes each time."""
    import lameenc

    with wave.open(BytesIO(wav)) as file:
        encoder = lameenc.Encoder()
        encoder.set_channels(file.getnchannels())
        encoder.set_in_sample_rate(file.getframerate())
        encoder.set_bit_rate(_MP3_KBIT_S)
        encoder.silence()
        return bytes(encoder.encode(file.readframes(file.getnframes())) + encoder.flush())


@lru_cache(maxsize=512)
def _string(pitch: int, velocity: int, seconds: int) -> Samples:
    """The first seconds of a key that is struck and held."""
    time = np.arange(seconds * SAMPLE_RATE, dtype=np.float32) / SAMPLE_RATE
    sound = np.zeros(len(time), dtype=np.float32)
    loud = velocity / 127
    base = 440.0 * 2 ** ((pitch - 69) / 12)
    stiffness = 1e-4 * 2 ** ((pitch - 48) / 12) if pitch > 48 else 1e-4
    decay = 8.0 * 2 ** (-(pitch - 33) / 18)  # seconds to a third: 8 in the bass, a third of one at the top
    reach = 800 + 3500 * loud**1.5  # Hz at which a hammer of felt has given up two thirds
    for number in range(1, _MOST_PARTIALS + 1):
        hertz = base * number * (1 + stiffness * number**2) ** 0.5
        strength = abs(np.sin(np.pi * number * _STRIKE_PLACE)) * np.exp(-hertz / reach) / number**0.5
        if hertz > _HIGHEST_HZ or strength < _QUIETEST:
            continue
        slow = decay / (1 + (hertz / 2500) ** 1.2)
        audible = time[: int(min(seconds, slow * np.log(strength / _QUIETEST)) * SAMPLE_RATE) + 1]
        shape = 0.7 * np.exp(audible / (-0.25 * slow)) + 0.3 * np.exp(audible / -slow)
        sound[: len(audible)] += np.float32(strength) * shape * np.sin(np.float32(2 * np.pi * hertz) * audible)
    knock = np.random.default_rng(pitch).standard_normal(len(time[:3000])).astype(np.float32)
    sound[:3000] += 0.02 * knock * np.exp(time[:3000] / -0.01)
    sound *= np.minimum(time / _ATTACK_S, 1) * loud**1.5
    return sound
