"""Gospel's harmonic devices: what a pianist puts in the place of one plain chord.

A device takes one span, the chord after it and the key, and returns parts that fill the same beats, or None where it
does not apply. Whether the melody bears them is not asked here (that is `reharmonize`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from plagal.music.arranger.harmony_grammar import family
from plagal.music.arranger.leadsheet import Section, Span
from plagal.music.chords import Chord

Part = tuple[int, int, str, int]
"""Beats, root, quality, bass."""


@dataclass
class Site:
    """A span, the next chord, the key it stands in, and what draws between equals."""

    span: Span
    after: Chord | None
    beats: int
    section: Section
    rng: random.Random

    @property
    def degree(self) -> int:
        return (self.span.chord.root - self.section.tonic) % 12


def _keep(site: Site, beats: int) -> Part:
    chord = site.span.chord
    return (beats, chord.root, chord.quality, chord.bass)


def _part(beats: int, root: int, quality: str, bass: int | None = None) -> Part:
    return (beats, root % 12, quality, (root if bass is None else bass) % 12)


def is_minor(chord: Chord) -> bool:
    """Whether a chord's family is minor or half-diminished."""
    return family(chord.quality) in ("minor", "half")


def two_five(site: Site) -> list[Part] | None:
    """V -> ii V; a dominant that falls a fifth is shared between its two and itself."""
    chord, after = site.span.chord, site.after
    goes_home = after is not None and (after.root - chord.root) % 12 == 5
    if not goes_home or after is None or site.beats < 2 or is_minor(chord):
        return None
    first = site.beats // 2
    two = "halfdim7" if is_minor(after) else "min7"
    return [_part(first, chord.root + 7, two), _part(site.beats - first, chord.root, "dom7")]


def secondary_dominant(site: Site) -> list[Part] | None:
    """The next chord's own dominant takes the end of this span."""
    after = site.after
    if after is None or site.beats < 2 or after.root == site.span.chord.root or family(after.quality) == "diminished":
        return None
    five = (after.root + 7) % 12
    if five == site.span.chord.root:
        return None
    last = 2 if site.beats >= 4 else 1
    if site.beats >= 4 and not is_minor(after):
        return [_keep(site, site.beats - 2), _part(1, five + 7, "min7"), _part(1, five, "dom7")]
    return [_keep(site, site.beats - last), _part(last, five, "dom7")]


def seven_three_six(site: Site) -> list[Part] | None:
    """7-3-6: the half-diminished seventh degree and the third degree's dominant lead to the sixth, and where the tune
    goes to two or four, by the sixth on to there."""
    tonic, after = site.section.tonic, site.after
    if after is None or site.section.minor or site.degree not in (0, 5):
        return None
    seven_three = [_part(1, tonic + 11, "halfdim7"), _part(1, tonic + 4, "7b9b13")]
    step = (after.root - tonic) % 12
    if step == 9 and site.beats >= 3:
        return [_keep(site, site.beats - 2), *seven_three]
    if step in (2, 5) and site.degree == 0 and site.beats >= 4:
        six = _part(1, tonic + 9, "7b9" if step == 2 else "min7")
        return [_keep(site, site.beats - 3), *seven_three, six]
    return None


def passing_diminished(site: Site) -> list[Part] | None:
    """A diminished seventh on the semitone between two roots a tone apart, or under the rise from IV to I/5."""
    after = site.after
    if after is None or site.beats < 2 or site.span.chord.bass != site.span.chord.root:
        return None
    rise = (after.bass - site.span.chord.root) % 12
    home_from_four = site.degree == 5 and (after.root - site.section.tonic) % 12 == 0
    if rise == 2 or home_from_four:
        return [_keep(site, site.beats - 1), _part(1, site.span.chord.root + 1, "dim7")]
    if rise == 10 and is_minor(after):
        return [_keep(site, site.beats - 1), _part(1, site.span.chord.root - 1, "dim7")]
    return None


def tritone_substitution(site: Site) -> list[Part] | None:
    """A dominant that falls a fifth lets the dominant a tritone away slide down a semitone in its place."""
    chord, after = site.span.chord, site.after
    if after is None or (after.root - chord.root) % 12 != 5 or family(chord.quality) not in ("dominant", "major"):
        return None
    if site.beats == 1:
        return [_part(1, chord.root + 6, "dom9")] if family(chord.quality) == "dominant" else None
    last = max(1, site.beats // 2)
    return [_part(site.beats - last, chord.root, "dom7"), _part(last, chord.root + 6, "dom9")]


def walk_up(site: Site) -> list[Part] | None:
    """The bass climbs 1-2-3 to a chord a fourth above, each step with its own chord."""
    chord, after = site.span.chord, site.after
    if after is None or (after.root - chord.root) % 12 != 5 or site.beats < 3 or is_minor(chord):
        return None
    if chord.bass != chord.root:
        return None
    return [_keep(site, site.beats - 2), _part(1, chord.root + 2, "min7"), _part(1, chord.root, "maj", chord.root + 4)]


def walk_down(site: Site) -> list[Part] | None:
    """The bass falls 1-7-6: a dominant over its third between two chords a third apart."""
    chord, after = site.span.chord, site.after
    if after is None or (chord.root - after.root) % 12 != 3 or site.beats < 2 or family(chord.quality) != "major":
        return None
    return [_keep(site, site.beats - 1), _part(1, chord.root + 7, "maj", chord.root + 11)]


def suspension(site: Site) -> list[Part] | None:
    """A dominant is held back by its suspended form."""
    chord = site.span.chord
    if family(chord.quality) != "dominant" or site.beats < 2:
        return None
    first = site.beats // 2
    return [_part(first, chord.root, "9sus"), _part(site.beats - first, chord.root, "dom7")]


def _four_to_one(site: Site) -> bool:
    goes_home = site.after is not None and site.after.root == site.section.tonic
    return goes_home and site.degree == 5 and not site.section.minor and site.beats >= 2


def minor_plagal(site: Site) -> list[Part] | None:
    """IV turns minor before I."""
    if not _four_to_one(site):
        return None
    last = max(1, site.beats // 2)
    return [_keep(site, site.beats - last), _part(last, site.span.chord.root, "min6")]


def backdoor(site: Site) -> list[Part] | None:
    """IV-I by way of bVII9."""
    if not _four_to_one(site):
        return None
    last = max(1, site.beats // 2)
    return [_keep(site, site.beats - last), _part(last, site.section.tonic + 10, "dom9")]


_TURNAROUNDS: tuple[tuple[tuple[int, str], ...], ...] = (
    ((0, "maj"), (9, "7b9"), (2, "min7"), (7, "dom7")),
    ((0, "maj"), (9, "min7"), (2, "min7"), (7, "9sus")),
    ((0, "maj"), (3, "dim7"), (2, "min7"), (7, "dom7")),
    ((4, "7#9b13"), (9, "7b9"), (2, "min7"), (7, "dom7")),
)


def turnaround(site: Site) -> list[Part] | None:
    """A tonic with nothing else to do before the next phrase goes round by 6-2-5."""
    after, tonic = site.after, site.section.tonic
    if site.degree != 0 or site.section.minor or after is None or site.beats < 4 or site.beats % 4:
        return None
    if after.root != tonic:
        return None
    each = site.beats // 4
    kind = _TURNAROUNDS[site.rng.randrange(len(_TURNAROUNDS))]
    return [_part(each, tonic + step, quality) for step, quality in kind]


def five_one_four(site: Site) -> list[Part] | None:
    """vm9 - I13 - IV: the tonic turns into the dominant of four, by that dominant's own two."""
    after, tonic = site.after, site.section.tonic
    to_four = after is not None and (after.root - tonic) % 12 == 5 and not is_minor(after)
    if not to_four or site.degree != 0 or site.section.minor or site.beats < 3:
        return None
    each = 2 if site.beats >= 6 else 1
    return [_keep(site, site.beats - 2 * each), _part(each, tonic + 7, "min7"), _part(each, tonic, "dom7")]


def plagal_rock(site: Site) -> list[Part] | None:
    """I-IV-I: the tonic rocks to four and back by a slash chord."""
    if site.degree != 0 or site.beats < 4 or site.section.minor:
        return None
    tonic = site.section.tonic
    return [_keep(site, site.beats - 2), _part(1, tonic + 5, "maj", tonic), _part(1, tonic, "maj")]


Device = Callable[[Site], "list[Part] | None"]

DEVICES: dict[str, Device] = {
    "two_five": two_five,
    "secondary_dominant": secondary_dominant,
    "seven_three_six": seven_three_six,
    "passing_diminished": passing_diminished,
    "tritone_substitution": tritone_substitution,
    "walk_up": walk_up,
    "walk_down": walk_down,
    "suspension": suspension,
    "minor_plagal": minor_plagal,
    "backdoor": backdoor,
    "turnaround": turnaround,
    "plagal_rock": plagal_rock,
    "five_one_four": five_one_four,
}
