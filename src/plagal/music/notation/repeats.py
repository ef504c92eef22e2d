"""In which order bars are played: repeats, endings, da capo, dal segno, coda, fine. One walk for every notation.

music21's expander was used before: it copies all notes, doubles with every strain that has no sign for its beginning,
and goes back to the beginning of the piece where a repeat sign means the end of the repeat before.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass

from plagal.plumbing.errors import InputError

MOST_PLAYED = 20_000
"""Bars; a tune of 32 bars played an hour long has 2,000."""
MOST_TIMES = 100
"""That a strain is played; numbers beyond are misprints or malice."""


@dataclass(slots=True)
class Marks:
    """The signs at one bar, all of them read at the bar that they stand in or border on."""

    start: bool = False
    """A repeat begins here: "|:"."""
    times: int = 0
    """How often what ends here is played in all: 2 for ":|", 0 where no repeat ends."""
    ending: frozenset[int] = frozenset()
    """The passes in which the ending that begins here is played: {1, 3} for "|1,3"."""
    ending_stops: bool = False
    """The last bar of an ending."""
    strain_stops: bool = False
    """A double bar follows: in ABC a repeat without "|:" goes back to it (abc2midi too), in print it need not."""
    segno: bool = False
    coda: bool = False
    to_coda: bool = False
    fine: bool = False
    jump: str = ""
    """After this bar "capo" or "segno" is next, once."""

    def merge(self, other: Marks) -> None:
        """Take in what another voice says of the same bar."""
        self.start |= other.start
        self.times = max(self.times, other.times)
        self.ending |= other.ending
        self.ending_stops |= other.ending_stops
        self.strain_stops |= other.strain_stops
        self.segno |= other.segno
        self.coda |= other.coda
        self.to_coda |= other.to_coda
        self.fine |= other.fine
        self.jump = self.jump or other.jump


def read_words(marks: Marks, text: str) -> bool:
    """Words over the music that say where it goes on ("D.C. al Fine", "To Coda") as signs; False where they don't."""
    plain = re.sub(r"[\s._]+", "", text.lower())
    if match := re.match(r"d([cs])(al|$)|dacapo|dalsegno", plain):
        marks.jump = marks.jump or ("segno" if match[1] == "s" or plain.startswith("dals") else "capo")
    elif plain == "fine":
        marks.fine = True
    elif plain in ("tocoda", "dacoda", "alcoda"):
        marks.to_coda = True
    else:
        return False
    return True


def settle_codas(marks: list[Marks], leave: int) -> None:
    """Of two coda signs the first says where one leaves: after the bar that it stands in (`leave` 0), or before (1)."""
    codas = [place for place, here in enumerate(marks) if here.coda]
    if len(codas) > 1 and not any(here.to_coda for here in marks):
        marks[codas[0]].coda = False
        marks[max(codas[0] - leave, 0)].to_coda = True


def played_order(marks: list[Marks], name: str = "the piece") -> list[int]:
    """Places of bars as they are played, in time linear in their number. Raises InputError beyond `MOST_PLAYED`.

    - A repeat goes back to its own "|:" or, where none stands, to the end of the repeat before it, or to the beginning.
    - An ending lasts until it stops, or the next one begins; the end of every ending but the last goes back, whether a
      sign says so or not. The last one is as long as the first where nothing but a later repeat sign closes it.
    - A strain is played as often as its highest ending says, at least as its signs say.
    - After a jump back no repeats are taken, and of endings the last; the piece then ends at its fine, or goes on at
      the coda from where "to coda" stands.
    """
    if len(marks) > MOST_PLAYED:
        raise InputError(f"{name}: {len(marks)} bars; at most {MOST_PLAYED} are read: cut the piece")
    ends, highest = _endings(marks)
    codas = [place for place, here in enumerate(marks) if here.coda]
    order: list[int] = []
    place = begin = 0
    passing, jumped, opened = 1, False, False
    while place < len(marks):
        here = marks[place]
        # The ending first: "|:" may stand in the bar of a second ending, and opens what comes after this pass.
        if place in ends and not (max(here.ending) >= highest[place] if jumped else passing in here.ending):
            place = ends[place] + 1
            continue
        if here.start and (place != begin or not opened):
            begin, passing, opened = place, (passing if place == begin else 1), True
        order.append(place)
        if len(order) > MOST_PLAYED:
            raise InputError(f"{name}: repeats make more than {MOST_PLAYED} bars of it: cut the piece")
        if jumped and here.fine:
            break
        if jumped and here.to_coda:
            following = bisect_right(codas, place)
            if following < len(codas):
                place = begin = codas[following]
                passing = 1
                continue
        if here.times and not jumped and passing < min(max(here.times, highest.get(place, 0)), MOST_TIMES):
            passing += 1
            place = begin
            continue
        if here.jump and not jumped:
            jumped = True
            back = (p for p in range(place, -1, -1) if marks[p].segno)
            place = begin = 0 if here.jump == "capo" else next(back, 0)
            passing = 1
            continue
        if here.times or (place in highest and passing >= highest[place] and here.ending_stops and not here.start):
            begin, passing, opened = place + 1, 1, False
        elif here.strain_stops and not opened and place not in highest:
            begin, passing = place + 1, 1
        place += 1
    return order


def _endings(marks: list[Marks]) -> tuple[dict[int, int], dict[int, int]]:
    """First place of each ending -> its last; any place within an ending -> the highest number of its strain's
    endings. Gives every ending but the last of a strain the repeat sign that it may lack."""
    firsts = [place for place, here in enumerate(marks) if here.ending]
    ends: dict[int, int] = {}
    highest: dict[int, int] = {}
    if not firsts:
        return ends, highest
    for first, following in zip(firsts, [*firsts[1:], len(marks)], strict=True):
        last = following - 1
        for place in range(first, following):
            if marks[place].ending_stops or marks[place].times or (place + 1 < following and marks[place + 1].start):
                last = place
                break
        # Scores in print stop the bracket a bar before its repeat sign.
        goes_on = following < len(marks) and 1 not in marks[following].ending
        ends[first] = following - 1 if goes_on and marks[following - 1].times else last
    group: list[int] = []
    seen: set[int] = set()
    for first, following in zip(firsts, [*firsts[1:], len(marks)], strict=True):
        group.append(first)
        seen |= marks[first].ending
        last = ends[first]
        if following == last + 1 and following < len(marks) and not marks[following].ending <= seen:
            marks[last].times = max(marks[last].times, 2)
            continue
        usual = first + ends[group[0]] - group[0]
        if len(group) > 1 and last > usual and (marks[last].times or not marks[last].ending_stops):
            ends[first] = usual
            marks[usual].ending_stops = True
        for start in group if 1 in seen else ():
            for place in range(start, ends[start] + 1):
                highest[place] = min(max(seen), MOST_TIMES)
        if 1 not in seen:
            # A second ending without a first is played whenever one comes by.
            for start in group:
                del ends[start]
        group, seen = [], set()
    return ends, highest
