"""A conversation about music: each line is a prompt, or says what to change about the piece before it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from plagal.asking.order import Order, understand
from plagal.asking.request import MOST_BARS, PieceRequest, read_request
from plagal.music.keys import parse_key
from plagal.plumbing.errors import ChordError, InputError

HELP = (
    'a prompt such as "slow worship ballad in Db", or about the last piece: again, slower, faster, sparser, denser, '
    "in KEY, at N (quarters a minute), N bars, STYLE, over CHORDS, go on, quit"
)
_SLOWER, _FASTER = 0.85, 1.18
_DENSITY_STEPS = ("sparse", "medium", "dense")
_LEAD = r"(?:(?:and|now|ok|okay|please|but|make it|play it|the same|a bit|a little|much|once more)[ ,]+)*"

Change = dict[str, Any]


@dataclass
class Talk:
    """Remembers the last request and what it became."""

    asked: Change | None = None
    order: Order | None = None
    tempo: float = 90.0
    """Of the last piece [quarters a minute]."""

    def understand(self, line: str, seed: int) -> Order:
        """The order that a line means. Raises InputError."""
        change = self._change(line)
        if change is not None and self.asked is None:
            raise InputError(f"{line!r} is about a piece, and there is none yet; begin with {HELP}")
        asked = {"prompt": line} if change is None else {**(self.asked or {}), **change}
        order = understand(read_request(asked), seed)
        self.asked, self.order = asked, order
        return order

    @property
    def bars(self) -> int:
        return self.order.bars if self.order is not None else 8

    def go_on(self, words: list[str], seed: int) -> Order:
        """An order for more bars after the piece that `words` are."""
        request: PieceRequest = read_request({"continue": {"piece": "last"}})
        return understand(request, seed, lambda _: words)

    def _change(self, line: str) -> Change | None:
        """What a line changes about the last request; None where it is a prompt of its own."""
        text = re.sub(rf"^{_LEAD}", "", line.strip().rstrip(".!"), flags=re.IGNORECASE)
        for pattern, change in _CHANGES:
            if match := re.fullmatch(pattern, text, re.IGNORECASE):
                return change(self, match)
        return None

    def _to_tempo(self, factor: float) -> Change:
        return {"tempo": round(min(max(self.tempo * factor, 20), 300), 1)}

    def _to_density(self, step: int) -> Change:
        now = (self.asked or {}).get("density", "medium")
        place = _DENSITY_STEPS.index(now) if now in _DENSITY_STEPS else 1
        return {"density": _DENSITY_STEPS[min(max(place + step, 0), 2)]}


def _key(name: str) -> Change:
    name = name[0].upper() + name[1:]
    try:
        parse_key(name)
    except ChordError as error:
        raise InputError(str(error)) from None
    return {"key": name}


_CHANGES: tuple[tuple[str, Callable[[Talk, re.Match[str]], Change]], ...] = (
    (r"again|another|another one|once more|one more", lambda _talk, _match: {}),
    (r"slower", lambda talk, _match: talk._to_tempo(_SLOWER)),
    (r"faster|quicker", lambda talk, _match: talk._to_tempo(_FASTER)),
    (r"sparser|calmer|fewer notes|thinner", lambda talk, _match: talk._to_density(-1)),
    (r"denser|busier|fuller|more notes", lambda talk, _match: talk._to_density(1)),
    (r"in ([a-g](?:b|#)?(?: ?(?:m|min|minor|maj|major))?)", lambda _talk, match: _key(match[1])),
    (r"at (\d{2,3})(?: bpm)?|(\d{2,3}) bpm", lambda _talk, match: {"tempo": float(match[1] or match[2])}),
    (r"(\d{1,3}) bars", lambda _talk, match: {"bars": int(match[1])}),
    (r"longer", lambda talk, _match: {"bars": min(2 * talk.bars, MOST_BARS)}),
    (r"shorter", lambda talk, _match: {"bars": max(talk.bars // 2, 1)}),
    (r"over (.*[a-g].*)", lambda _talk, match: {"chords": match[1]}),
    (r"(?:as )?(?:a )?(gospel[ -]jazz|contemporary gospel|traditional gospel|worship|neo[ -]soul|jazz|blues|gospel)",
     lambda _talk, match: {"style": match[1]}),
)  # fmt: skip
