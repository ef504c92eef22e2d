"""Sets of music words, as masks in the order of MUSIC_WORDS: what `plagal.compose.steering` narrows
with. Cached; read-only."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from plagal.music.arranger import harmony_grammar
from plagal.music.chords import QUALITIES, Chord, parse_chord, parse_pitch_class
from plagal.music.hands import LARGEST_SPAN, MOST_NOTES, in_one_hand
from plagal.music.keys import key_tonic
from plagal.music.score import HIGHEST_PITCH, LOWEST_PITCH, TICKS_PER_QUARTER, Key
from plagal.tokens import grammar as g
from plagal.tokens.vocabulary import (
    ARTICULATIONS,
    BEAT_TICKS,
    DURATION_TICKS,
    METRE_OF,
    MUSIC_WORDS,
    OPEN_DURATIONS,
    RELATIVE_VELOCITIES,
    TEMPO_OF,
)

Mask = npt.NDArray[np.bool_]


def scale(key: Key) -> frozenset[int]:
    return harmony_grammar.scale(key_tonic(key), key.minor)


def colour_scale(chord: Chord, scale: frozenset[int]) -> frozenset[int]:
    """The key's notes that go with a chord: what one of its own tones alters (C under A7, for its C#) gives way."""
    altered = chord.pitch_classes - scale
    return frozenset(pc for pc in scale if pc in chord.pitch_classes or not {(pc - 1) % 12, (pc + 1) % 12} & altered)


def chord_scale(chord: Chord) -> frozenset[int]:
    """Where no key is known: the major scale's steps that do not rub against the chord's tones."""
    tones = chord.pitch_classes
    return tones | frozenset(pc for pc in range(12) if not {(pc - 1) % 12, (pc + 1) % 12} & tones)


EVERY = frozenset(range(12))
_BENDING = {*ARTICULATIONS, *RELATIVE_VELOCITIES, *OPEN_DURATIONS, "VEL_SILENT"}
ALL: Mask = np.ones(len(MUSIC_WORDS), dtype=np.bool_)
_KINDS = np.array([g.KIND_OF[word][0] for word in MUSIC_WORDS])
_note_pitch = np.array([g.KIND_OF[word][1] if g.KIND_OF[word][0] == g.NOTE_ON else -1 for word in MUSIC_WORDS])
_beat_tick = np.array([BEAT_TICKS.get(word, -1) for word in MUSIC_WORDS])
_length_ticks = np.array([DURATION_TICKS.get(word, 0) for word in MUSIC_WORDS])
NOTE_WORDS: Mask = np.isin(_KINDS, [g.NOTE_ON, g.ARTICULATION])
STRIKES: Mask = _KINDS == g.NOTE_ON
CHORD_WORDS: Mask = _KINDS == g.CHORD
BASS_WORDS: Mask = _KINDS == g.BASS
PLAIN: Mask = np.array(
    [word not in _BENDING and not word.startswith(("NOTE_OFF_", "REPEAT_START")) for word in MUSIC_WORDS]
)
"""All words but those that bend a note's pitch, place or length, or repeat it: no score is written with them."""
ON_GRID: Mask = ((_beat_tick < 0) & (_length_ticks == 0)) | np.array(
    [(tick % 3 == 0) | (tick % 4 == 0) for tick in np.maximum(_beat_tick, _length_ticks)]
)
"""All words but places and lengths that are neither of 32nds nor of triplet 16ths."""
_chords = [parse_chord(word.removeprefix("CHORD_")) for word in MUSIC_WORDS if word.startswith("CHORD_")]
_chord_root = np.array([chord.root for chord in _chords])
_chord_quality = np.array([harmony_grammar.QUALITY_INDEX[chord.quality] for chord in _chords])
_bass_class = np.array(
    [parse_pitch_class(word.removeprefix("BASS_"))[0] for word in MUSIC_WORDS if word.startswith("BASS_")]
)
PEDALS: Mask = np.isin(_KINDS, [g.PEDAL, g.PEDAL_OFF])
BEATS: Mask = _KINDS == g.BEAT
HARMONY: Mask = CHORD_WORDS | PEDALS
PIECE_ENDS: Mask = _KINDS == g.SONG_END
BAR_ENDS: Mask = np.isin(_KINDS, [g.BAR, g.SONG_END, g.REPEAT_END])
LEAVING: Mask = BAR_ENDS | BEATS
PLACE = {word: place for place, word in enumerate(MUSIC_WORDS)}
for _fixed in (ALL, NOTE_WORDS, STRIKES, CHORD_WORDS, PEDALS, BEATS, PIECE_ENDS, BAR_ENDS, LEAVING, PLAIN, ON_GRID):
    _fixed.flags.writeable = False


_FEEL_TICKS = {"swing": (0, 8, 12, 16), "shuffle": (0, 8, 12, 16), "straight": (0, 6, 12, 18)}
"""Where notes may fall within a quarter; what a model puts at 12 is played swung."""
SWINGING = ("swing", "shuffle")
SWUNG_TICK = 16
_word_at = {tick: word for word, tick in BEAT_TICKS.items()}
_BEAT_SWUNG = {
    word: _word_at[tick + SWUNG_TICK - 12] for word, tick in BEAT_TICKS.items()
    if tick % TICKS_PER_QUARTER == 12 and tick + SWUNG_TICK - 12 in _word_at
}  # fmt: skip


def swung(word: str, tick: int) -> str:
    """A straight eighth's place and length as they are swung, at a tick of the bar. To forbid the straight ones instead
    leaves a model that has begun on the beats there: of 250 notes one fell between."""
    if word == "DUR_EIGHTH":
        within = tick % TICKS_PER_QUARTER
        return {0: "DUR_TRIPLET_QUARTER", SWUNG_TICK: "DUR_TRIPLET_EIGHTH"}.get(within, word)
    return _BEAT_SWUNG.get(word, word)


@lru_cache(maxsize=2)
def in_four(compound: bool) -> Mask:
    """All words but the metres other than 4/4 and, where `compound`, 12/8."""
    return np.array([METRE_OF.get(word, (4, 4)) in ((4, 4), (12, 8))[: 1 + compound] for word in MUSIC_WORDS])


@lru_cache(maxsize=8)
def places_of(feel: str | None, whole_words: bool = True) -> Mask:
    """All words but the places that a feel does not use; a model that spells its words cannot have them swung."""
    if feel not in _FEEL_TICKS:
        return ALL
    return begins_at(_FEEL_TICKS[feel] if whole_words or feel not in SWINGING else (0, 8, SWUNG_TICK))


@lru_cache(maxsize=4096)
def one(word: str) -> Mask:
    mask = np.zeros(len(MUSIC_WORDS), dtype=np.bool_)
    mask[PLACE[word]] = True
    return mask


@lru_cache(maxsize=8192)
def pitches(high: int, *ranges: tuple[int, frozenset[int]]) -> Mask:
    """All words but the notes above `high`, and those of other pitch classes than the range allows in which they lie;
    a range (its lowest pitch, its classes) ends where the next begins."""
    fits = _note_pitch < 0
    for (low, classes), (end, _) in pairwise((*ranges, (high + 1, EVERY))):
        fits |= (_note_pitch >= low) & (_note_pitch < min(end, high + 1)) & np.isin(_note_pitch % 12, list(classes))
    return fits


@lru_cache(maxsize=8192)
def keys(reachable: int) -> Mask:
    """All words but the notes that are no bit of `reachable` (bit 60 is middle C)."""
    return np.array([pitch < 0 or bool(reachable >> int(pitch) & 1) for pitch in _note_pitch])


@lru_cache(maxsize=1024)
def beats_up_to(tick: int) -> Mask:
    return np.asarray(_beat_tick <= tick)


@lru_cache(maxsize=1024)
def durations(least: int, most: int) -> Mask:
    """Lengths in [least, most] ticks, as near as there are any; tied ones where there is room for them."""
    known = _length_ticks > 0
    fits = known & (_length_ticks >= least) & (_length_ticks <= most)
    if most > 4 * TICKS_PER_QUARTER:
        fits |= _KINDS == g.TIE
    return np.asarray(fits if fits.any() else known)


def _where(words: Mask, fits: npt.ArrayLike, others: bool = True) -> Mask:
    """Those of `words` that fit, and all other words or none."""
    mask = np.full(len(MUSIC_WORDS), others)
    mask[words] = fits
    return mask


@lru_cache(maxsize=4096)
def grammatical_chords(key: Key, style: str, previous: Chord | None) -> Mask:
    """All words but the chords that the harmony of a style does not let follow `previous` in a key."""
    return _where(CHORD_WORDS, harmony_grammar.allowed(key, style, previous)[_chord_root, _chord_quality] > 0)


_STYLE_SHARE = 0.6
"""Of the logarithm of a chord's weight in the style. These five were chosen on pieces of five styles, 16 bars each, by
what `benchmarks/gospel.py` counts beside the arranger, and are chosen anew where a model has learned from other music:
with -0.3 for diminished chords, the model that heard shouts wrote .62 of the arranger's, with 0.05 it writes .96."""
_OUTSIDE, _FAMILIES = 0.7, {"diminished": 0.05, "suspended": 0.4}
_ON_BEAT, _STOOD = 0.6, -1.5
"""For every chord on a beat (with 1, 80 pieces changed chords twice a bar where the arranger does 1.66 times, and their
dominants came to 1.5 times its own); for one more on the root that stood since a bar before, twice that on a device's
root."""
_OFF_FORM = -6.0
"""For a chord on none of the roots that the style's form has there: of 92 bars of seven blues one began on another,
where a device before it forced that."""


@lru_cache(maxsize=4096)
def leaning(
    key: Key, style: str, previous: Chord | None, on_beat: bool, stood: bool, phrase_ends: bool,
    degrees: frozenset[int] | None = None,
) -> npt.NDArray[np.float32]:  # fmt: skip
    """What to add to the logits of words where a chord is chosen after `previous`; `degrees`: those that the form has
    there, in semitones above the tonic."""
    weights = harmony_grammar.allowed(key, style, previous)[_chord_root, _chord_quality]
    chords = np.log(np.maximum(weights, 1e-9) / max(float(weights.max()), 1e-9)) * _STYLE_SHARE + on_beat * _ON_BEAT
    tones = scale(key)
    chords += [(not chord.pitch_classes <= tones) * _OUTSIDE + _FAMILIES.get(harmony_grammar.family(chord.quality), 0)
               for chord in _chords]  # fmt: skip
    if stood and previous is not None:
        chords[_chord_root == previous.root] += _STOOD * (1 if previous.pitch_classes <= tones else 2)
    if degrees is not None:
        chords[~np.isin((_chord_root - key_tonic(key)) % 12, list(degrees))] += _OFF_FORM
    found = np.zeros(len(MUSIC_WORDS), dtype=np.float32)
    found[CHORD_WORDS] = chords + cadences(key)[CHORD_WORDS] * phrase_ends * _CADENCE
    return found


@lru_cache(maxsize=64)
def on_root(root: int) -> Mask:
    """Chord words on a root."""
    return _where(CHORD_WORDS, _chord_root == root, others=False)


@lru_cache(maxsize=64)
def foreign_chords(key: Key, style: str) -> Mask:
    """Chord words that are not at home in a key as the style hears it."""
    foreign = [harmony_grammar.classify(chord, key, style) != "diatonic" for chord in _chords]
    return _where(CHORD_WORDS, foreign, others=False)


@lru_cache(maxsize=4096)
def grammatical_basses(key: Key, style: str, chord: Chord, previous: Chord | None) -> Mask:
    """All words but the basses that a style does not put under `chord` after `previous`."""
    return _where(BASS_WORDS, harmony_grammar.allowed_basses(key, style, chord, previous)[_bass_class] > 0)


@lru_cache(maxsize=64)
def tonic_chords(tonic: int, minor: bool, seventh: bool = False) -> Mask:
    """All words but chords that are no tonic of the key: its root, with the key's third and no augmented fifth.
    `seventh`: the blues is at home on a dominant seventh."""
    has, lacks = (3, {4, 6, 8}) if minor else (4, {8} if seventh else {8, 10})
    steps = [QUALITIES[chord.quality] for chord in _chords]
    return _where(CHORD_WORDS, (_chord_root == tonic) & [has in tones and not lacks & {*tones} for tones in steps])


_LEADS_HOME = {"major": (5, 7), "minor": (5,), "dominant": (1, 7, 10), "suspended": (7,), "diminished": (11,),
               "half": (11,)}  # fmt: skip
"""Family of qualities -> roots above the tonic from which a cadence reaches it: V, IV and iv (the Amen), the tritone's
substitute, the back door, the leading tone."""
_CADENCE = 1.0
"""What the second half of a phrase's last bar adds for these."""


def leads_home(key: Key, chord: Chord) -> bool:
    """Whether a cadence reaches the tonic from there."""
    return (chord.root - key_tonic(key)) % 12 in _LEADS_HOME.get(harmony_grammar.family(chord.quality), ())


@lru_cache(maxsize=64)
def cadences(key: Key) -> Mask:
    """All words but chords that lead to no tonic."""
    return _where(CHORD_WORDS, [leads_home(key, chord) for chord in _chords])


@lru_cache(maxsize=4096)
def to_cadence(key: Key, style: str, previous: Chord | None) -> Mask:
    """Of the chords that may follow `previous` those that lead home; where none does, those that one of them may
    follow; where there is none, all. And all other words."""
    follow, home = grammatical_chords(key, style, previous), cadences(key)
    if not (follow & home)[CHORD_WORDS].any():
        home = _where(CHORD_WORDS, [
            may and (grammatical_chords(key, style, chord) & cadences(key))[CHORD_WORDS].any()
            for may, chord in zip(follow[CHORD_WORDS].tolist(), _chords, strict=True)
        ])  # fmt: skip
    return follow & home if (follow & home)[CHORD_WORDS].any() else follow


@lru_cache(maxsize=1024)
def ending_at(places: tuple[int, ...], tick: int) -> Mask:
    """Lengths with which a note that begins at `tick` (of a quarter) ends at one of `places`; tied ones go on."""
    fits = (_length_ticks > 0) & np.isin((tick + _length_ticks) % TICKS_PER_QUARTER, places)
    return np.asarray(fits | (_KINDS == g.TIE))


@lru_cache(maxsize=16)
def begins_at(places: tuple[int, ...]) -> Mask:
    """All words but the places of a bar that are none of `places` in their quarter."""
    return np.asarray((_beat_tick < 0) | np.isin(_beat_tick % TICKS_PER_QUARTER, places))


@lru_cache(maxsize=16)
def tempos_up_to(quarters_per_minute: float) -> Mask:
    """All words but faster tempos."""
    return np.array([TEMPO_OF.get(word, 0) <= quarters_per_minute for word in MUSIC_WORDS])


@lru_cache(maxsize=64)
def begins_in(tempo: str) -> Mask:
    """All words but other tempos than one, and the first bar, which waits for it."""
    return np.array([word == tempo or word not in TEMPO_OF for word in MUSIC_WORDS]) & ~BAR_ENDS


@lru_cache(maxsize=65536)
def within_reach(keys: tuple[int, ...]) -> int:
    """The keys that two hands can strike or hold besides `keys` (sorted), as bits (bit 60 is middle C): for every way
    to split the keys between the hands, what either hand still reaches between its neighbour and its own span."""
    reachable = 0
    for cut in range(len(keys) + 1):
        left, right = keys[:cut], keys[cut:]
        if not (in_one_hand(left) and in_one_hand(right)):
            continue
        for hand, above, below in ((left, (), right), (right, left, ())):
            if len(hand) < MOST_NOTES:
                lowest = max([LOWEST_PITCH, *(key - LARGEST_SPAN for key in hand), *(key + 1 for key in above)])
                highest = min([HIGHEST_PITCH, *(key + LARGEST_SPAN for key in hand), *(key - 1 for key in below)])
                reachable |= sum(1 << key for key in range(lowest, highest + 1))
    return reachable
