"""The grammar of gospel harmony: which chord may follow which in a key and a style, and what it is there for.

A chord is diatonic, a device (a chord from outside the key that leads somewhere), or foreign. What is a device and
where it leads stands in `grammar/devices.yaml`, how often a family of styles uses it in `grammar/FAMILY.yaml`, which
colours a style prefers in the style's own file. The arranger and the model's decoder read the same tables.

For a decoder's masks::

    weights = allowed(key, "traditional_gospel", previous)   # float32, (12, len(QUALITIES)), read-only; 0 is forbidden
    weights[chord.root, QUALITY_INDEX[chord.quality]]        # absolute roots, qualities in the order of QUALITIES
    basses = allowed_basses(key, style, chord, previous)     # float32, (12,), once root and quality are chosen

`previous` is the chord in force, with its bass, or None at the start of a piece. The weights are relative (a home triad
is about 1), meant to be compared with each other or added as logarithms to a model's scores, not to sum to 1. The row
of a device is nearly empty: after VI7b9 stands ii. A chord may always be repeated, or recoloured on its root. Where a
key changes, ask with the new key from its first bar on: the last chord before it is then read in the new key (the
lift's dominant is its V); `lifts=True` lets that dominant in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from plagal.music.arranger.styles import STYLES, load_style, read_table
from plagal.music.chords import QUALITIES, Chord
from plagal.music.keys import key_of, key_tonic
from plagal.music.score import Key
from plagal.plumbing.errors import ParamsError

Weights = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

QUALITY_NAMES = tuple(QUALITIES)
QUALITY_INDEX = {name: place for place, name in enumerate(QUALITY_NAMES)}
FAMILIES = ("gospel", "jazz", "worship", "hymnal", "blues")
"""Files of `grammar/`."""

DEGREES = {name: step for step, name in enumerate(("1", "b2", "2", "b3", "3", "4", "#4", "5", "b6", "6", "b7", "7"))}
_SCALES = {False: frozenset((0, 2, 4, 5, 7, 9, 11)), True: frozenset((0, 2, 3, 5, 7, 8, 10, 11))}
"""Steps of the major scale; of the minor one, with its leading tone."""

_RARE_COLOUR = 0.02
"""Weight of a quality that the key holds and the style does not name: the arranger itself renames a chord for what its
voices and its melody spell, so nothing that fits the key is quite forbidden."""
_PLAIN_COLOUR = 0.15
_RARE_DEGREE = 0.05
_STAY = 0.5
"""Weight of the chord that is there once more, or of another colour on a device's root."""
_LONGEST_CHAIN = 3
"""Devices in a row that are followed to see whether they lead home: III7 - VI7 - II7 - V."""
_BY_STEP, _OTHER_BASS = 1.6, 0.4
"""What a bass gains that goes on by step; what is left of the root where a device asks for another bass."""


@cache
def family(quality: str) -> str:
    """ "major", "minor", "dominant", "suspended", "diminished", "half" or "augmented"."""
    tones = set(QUALITIES[quality])
    if quality == "halfdim7":
        return "half"
    if quality in ("dim", "dim7"):
        return "diminished"
    if quality in ("aug", "maj7#5"):
        return "augmented"
    if 4 not in tones and 3 not in tones:
        return "suspended"
    if 10 in tones and 4 in tones:
        return "dominant"
    return "major" if 4 in tones else "minor"


@cache
def scale(tonic: int, minor: bool) -> frozenset[int]:
    """Pitch classes of a key; a minor one's leading tone, too."""
    return frozenset((tonic + step) % 12 for step in _SCALES[minor])


@cache
def _qualities(kinds: frozenset[str]) -> Mask:
    """Shape (qualities,): those named or of a family named; all where none is."""
    return np.array([not kinds or name in kinds or family(name) in kinds for name in QUALITY_NAMES])


@dataclass(frozen=True)
class _Pattern:
    """Chords of the table, as `degree:kinds/bass` says them."""

    degree: int | None
    """Semitones above the tonic, or above the root that it is asked for where `moves`; None for every degree."""
    moves: bool
    kinds: frozenset[str]
    """Families and qualities; empty for every one."""
    bass: int | None
    """Semitones above the tonic."""

    def mask(self, root: int = 0, same: str = "") -> Mask:
        """Shape (12, qualities), roots counted from the tonic."""
        found = np.zeros((12, len(QUALITY_NAMES)), dtype=np.bool_)
        roots = slice(None) if self.degree is None else (self.degree + root * self.moves) % 12
        found[roots] = _qualities(self.kinds | {same} if "same" in self.kinds else self.kinds)
        return found

    def fits_root(self, chord: Chord, tonic: int, root: int = 0) -> bool:
        """Whether a chord is one of the pattern, whatever its bass; `root` is that of the chord before, from the
        tonic."""
        right_root = self.degree is None or (chord.root - tonic) % 12 == (self.degree + root * self.moves) % 12
        return right_root and bool(_qualities(self.kinds)[QUALITY_INDEX[chord.quality]])

    def fits(self, chord: Chord, tonic: int, root: int = 0) -> bool:
        """The same, over the bass that the pattern asks for."""
        return self.fits_root(chord, tonic, root) and (self.bass is None or (chord.bass - tonic) % 12 == self.bass)


def _pattern(text: str) -> _Pattern:
    head, _, bass = text.partition("/")
    degree, _, kinds = head.partition(":")
    moves = degree[0] in "+-"
    step = None if degree == "*" else int(degree) % 12 if moves else DEGREES[degree]
    named = frozenset(kinds.split("|")) if kinds else frozenset()
    return _Pattern(step, moves, named, DEGREES[bass] if bass else None)


@dataclass(frozen=True)
class Device:
    """A chord from outside the key and where it leads; see `grammar/devices.yaml`."""

    name: str
    chords: tuple[_Pattern, ...]
    to: tuple[_Pattern, ...]
    before: tuple[_Pattern, ...]
    otherwise: float
    asked: bool


@cache
def devices() -> dict[str, Device]:
    """Every device by name, the most particular first."""
    found = {}
    for name, raw in read_table("grammar", "devices")["devices"].items():
        chords, to, before = (tuple(map(_pattern, raw.get(part, ()))) for part in ("chords", "to", "from"))
        found[name] = Device(name, chords, to, before, raw["otherwise"], raw.get("asked", False))
    return found


@cache
def progressions() -> dict[str, tuple[_Pattern, ...]]:
    """What several chords say together, by name."""
    return {
        name: tuple(_pattern(text) for text in row)
        for name, row in read_table("grammar", "devices")["progressions"].items()
    }


@cache
def _family_data(style: str) -> dict[str, Any]:
    """The data of the family that a style belongs to. Raises ParamsError that names the styles there are."""
    known: list[str] = []
    for name in FAMILIES:
        raw = read_table("grammar", name)
        if style in raw["styles"]:
            return raw
        known += raw["styles"]
    raise ParamsError(f"harmony grammar: style {style!r} is not known; choose one of {', '.join(sorted(known))}")


@dataclass(frozen=True)
class _Table:
    """All transitions of a style in one mode, roots counted from the tonic."""

    start: Weights
    """(12, qualities)"""
    moves: Weights
    """(12, qualities, 12, qualities), from and to."""
    in_key: Mask
    """(12, qualities): of the scale's tones only."""
    home: Mask
    """(12, qualities): these, and the blue colours."""
    devices: tuple[tuple[Device, Mask], ...]


@cache
def _table(style: str, minor: bool, lifts: bool) -> _Table:
    raw = _family_data(style)
    mode, qualities = ("minor" if minor else "major"), len(QUALITY_NAMES)
    shape = (12, qualities)

    # Chords at home: of the key's tones, or a blue colour. A degree's weight times the colour's.
    degrees = {DEGREES[name]: weight for name, weight in raw["degrees"][mode].items()}
    blue = {DEGREES[name]: set(map(str, names)) for name, names in raw["blue_colours"][mode].items()}
    in_key, home = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_)
    colour = np.zeros(shape, dtype=np.float32)
    for root in range(12):
        for place, quality in enumerate(QUALITY_NAMES):
            in_key[root, place] = {(root + step) % 12 for step in QUALITIES[quality]} <= _SCALES[minor]
            home[root, place] = in_key[root, place] or quality in blue.get(root, ())
            colour[root, place] = _colour(_colours(style, raw["styles"][0]), root, quality, minor)
    rank = np.array([degrees.get(root, _RARE_DEGREE) for root in range(12)], dtype=np.float32)[:, None]
    diatonic = np.where(home, rank * colour, 0)

    # What may come after a chord at home: all of these, and each device that asks for no certain way in.
    used = [device for name, device in devices().items() if name in raw["rates"] and (lifts or not device.asked)]
    masks = [np.logical_or.reduce([pattern.mask() for pattern in device.chords]) for device in used]
    entry = diatonic.copy()
    for device, mask in zip(used, masks, strict=True):
        if not device.before:
            entry = np.maximum(entry, np.where(mask & ~home, raw["rates"][device.name] * colour, 0))
    moves = np.zeros((*shape, *shape), dtype=np.float32)

    # A device leads on, stays on its root, or (where it may) gives up and goes home.
    for device, mask in zip(used, masks, strict=True):
        rate, outside = raw["rates"][device.name], mask & ~home
        for root in range(12):
            for kind in {family(QUALITY_NAMES[place]) for place in np.flatnonzero(outside[root])}:
                rows = outside[root] & _qualities(frozenset({kind}))
                leads = np.logical_or.reduce([pattern.mask(root, kind) for pattern in device.to])
                after = np.where(leads, entry, device.otherwise * diatonic)
                after[root] = np.maximum(after[root], np.where(mask[root], _STAY * rate * colour[root], 0))
                moves[root, rows] = np.maximum(moves[root, rows], after)
                if device.before:
                    before = np.logical_or.reduce([pattern.mask(root, kind) for pattern in device.before]) & home
                    ways_in = np.where(rows, rate * colour[root], 0)
                    moves[before, root] = np.maximum(moves[before, root], ways_in)

    # What leads nowhere in this key (the V of a degree that the mode does not have) is not entered.
    for _ in range(_LONGEST_CHAIN):
        onward = moves.copy()
        for root in range(12):
            onward[root, :, root] = 0
        dead = ~home & ~((onward > 0) & (entry > 0)).any(axis=(2, 3))
        entry[dead] = 0
        moves[..., dead] = 0
    moves[home] = np.maximum(moves[home], entry)

    for text, left in raw["avoid"].items():
        before, after = (_pattern(part.strip()).mask() for part in text.split(">"))
        moves[before] *= np.where(after, np.float32(left), np.float32(1))
    flat: Weights = moves.reshape(12 * qualities, 12 * qualities)
    np.fill_diagonal(flat, np.maximum(np.diagonal(flat), np.where((entry > 0).ravel(), _STAY, 0)))
    return _Table(entry.astype(np.float32), moves, in_key, home, tuple(zip(used, masks, strict=True)))


@cache
def _colours(style: str, of_family: str) -> dict[str, dict[str, float]]:
    """Function -> quality -> weight, 1 for the style's favourite."""
    found = load_style(style if style in STYLES else of_family).colours
    return {function: {name: w / max(row.values()) for name, w in row.items()} for function, row in found.items()}


_PLAIN = frozenset(("maj", "min", "dom7", "min7"))


def _colour(colours: dict[str, dict[str, float]], root: int, quality: str, minor: bool) -> float:
    kind = family(quality)
    functions = {
        "major": ["dominant" if root == 7 else {0: "tonic", 5: "subdominant"}.get(root, "major")],
        "minor": ["minor_tonic" if minor and root == 0 else "minor", "minor_six"],
        "dominant": ["dominant", "dominant_to_minor", *{0: ["tonic"], 5: ["subdominant"]}.get(root, [])],
        "suspended": ["suspended", "dominant"],
        "augmented": ["dominant_to_minor"],
    }.get(kind, [kind])
    least = _PLAIN_COLOUR if quality in _PLAIN or kind in ("half", "diminished", "augmented") else _RARE_COLOUR
    return max(least, *(colours.get(function, {}).get(quality, 0.0) for function in functions))


def _place(chord: Chord, tonic: int) -> tuple[int, int]:
    """Its root from the tonic, and its quality's number."""
    return (chord.root - tonic) % 12, QUALITY_INDEX[chord.quality]


@lru_cache(maxsize=8192)
def allowed(key: Key, style: str, previous: Chord | None = None, *, lifts: bool = False) -> Weights:
    """Weights of every chord after `previous`, shape (12, qualities): absolute roots, qualities in the order of
    QUALITIES; 0 is forbidden. Read-only. `lifts` lets in the dominant of the key a half or a whole step up.
    Raises ParamsError for an unknown style."""
    tonic = key_tonic(key)
    table = _table(style, key.minor, lifts)
    row = table.start if previous is None else table.moves[_place(previous, tonic)]
    if not row.any():  # a foreign chord, as a user's progression may have: go home from it
        row = table.start
    weights = np.roll(row, tonic, axis=0)
    weights.flags.writeable = False
    return weights


@lru_cache(maxsize=8192)
def allowed_basses(key: Key, style: str, chord: Chord, previous: Chord | None = None) -> Weights:
    """Weights of every bass (pitch class) under a chord's root and quality, shape (12,), whatever its bass is now. The
    root is about 1; 0 is forbidden. A bass that the device before asks for, or that goes on by step, weighs more."""
    raw, tonic = _family_data(style), key_tonic(key)
    weights = np.zeros(12, dtype=np.float32)
    for degree, weight in raw["pedals"].items():
        weights[(tonic + DEGREES[degree]) % 12] = weight
    for step in QUALITIES[chord.quality]:
        name = {3: "3", 4: "3", 6: "5", 7: "5", 8: "5", 9: "7", 10: "7", 11: "7"}.get(step)
        weights[(chord.root + step) % 12] = max(weights[(chord.root + step) % 12], raw["basses"].get(name, 0.0))
    weights[chord.root] = 1.0
    if previous is not None:
        near = [(previous.bass + step) % 12 for step in (1, 2, 10, 11)]
        weights[near] *= np.where(weights[near] < 1, np.float32(_BY_STEP), np.float32(1))
        place = _place(previous, tonic)
        leads = (device.to for device, mask in _table(style, key.minor, True).devices if mask[place])
        for pattern in chain.from_iterable(leads):
            if pattern.bass is not None and pattern.fits_root(chord, tonic, place[0]):
                weights[chord.root] *= _OTHER_BASS
                weights[(tonic + pattern.bass) % 12] = 1.0
    weights.flags.writeable = False
    return weights


def weight(chord: Chord, previous: Chord | None, key: Key, style: str, *, lifts: bool = False) -> float:
    """How well a chord with its bass goes after `previous`; 0 is forbidden."""
    down = -key_tonic(key)
    before = previous.transposed(down) if previous is not None else None
    return _weight_in_c(style, key.minor, chord.transposed(down), before, lifts)


@lru_cache(maxsize=65536)
def _weight_in_c(style: str, minor: bool, chord: Chord, previous: Chord | None, lifts: bool) -> float:
    key = key_of(0, minor)
    root_and_quality = allowed(key, style, previous, lifts=lifts)[chord.root, QUALITY_INDEX[chord.quality]]
    return float(root_and_quality * allowed_basses(key, style, chord, previous)[chord.bass])


Halves = tuple[frozenset[int], frozenset[int]]
"""Degrees of a bar's first half and of its second, in semitones above the tonic."""


@cache
def chorus(style: str, bars: int) -> tuple[Halves, ...]:
    """The form that a style's harmony has of its own, bar by bar: the twelve of a blues and again twelve, or eight or
    sixteen where that comes out. Empty where the style has none, or the bars make none."""
    for length, raw in _family_data(style).get("choruses", {}).items():
        rest = chorus(style, bars - length) if bars > length else ()
        if bars == length or rest:
            return (*map(_halves, raw), *rest)
    return ()


def _halves(text: str) -> Halves:
    first, _, second = text.partition("-")
    read = [frozenset(DEGREES[degree] for degree in half.split("|")) for half in (first, second or first)]
    return read[0], read[1]


def classify(chord: Chord, key: Key, style: str = "gospel") -> str:
    """ "diatonic" (of the key, or a blue colour that counts as home), a device's name, or "foreign"."""
    table, place = _table(style, key.minor, True), _place(chord, key_tonic(key))
    if table.home[place]:
        return "diatonic"
    return next((device.name for device, mask in table.devices if mask[place]), "foreign")


def is_device(chord: Chord, following: Chord, key: Key, style: str = "gospel") -> str | None:
    """The device's name where a chord has a tone from outside the key and `following` is what it leads to."""
    table, place = _table(style, key.minor, True), _place(chord, key_tonic(key))
    if table.in_key[place] or chord.root == following.root:
        return None
    target = _place(following, key_tonic(key))
    return next((device.name for device, mask in table.devices if mask[place] and any(
        pattern.mask(place[0], family(chord.quality))[target] for pattern in device.to
    )), None)  # fmt: skip


def blue_notes(key: Key, style: str) -> frozenset[int]:
    """Pitch classes that the style's lines may pass through though neither chord nor key has them: b3, b7, #4."""
    return frozenset((key_tonic(key) + DEGREES[name]) % 12 for name in _family_data(style)["blue_notes"])


def devices_in(chords: Sequence[Chord], key: Key, style: str = "gospel") -> list[tuple[int, str]]:
    """Each device that resolves and each progression that a row of chords holds: place of its first chord, name."""
    tonic = key_tonic(key)
    found = [
        (place, name)
        for place, (chord, following) in enumerate(pairwise(chords))
        if (name := is_device(chord, following, key, style)) is not None
    ]
    taken: set[tuple[int, int]] = set()  # place and length: of two names for the same chords the first holds
    for name, patterns in progressions().items():
        for place in range(len(chords) - len(patterns) + 1):
            window = chords[place : place + len(patterns)]
            before = [window[0], *window[:-1]]
            if (place, len(patterns)) not in taken and all(
                pattern.fits(chord, tonic, (last.root - tonic) % 12)
                for pattern, chord, last in zip(patterns, window, before, strict=True)
            ):
                found.append((place, name))
                taken.add((place, len(patterns)))
    return sorted(found)
