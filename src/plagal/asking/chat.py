"""A conversation about music: each line is a prompt, or says what to change about the piece before it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from plagal.asking.order import Order, understand
from plagal.asking.prompt import MOST_BARS, read_prompt
from plagal.asking.request import PieceRequest, read_request
from plagal.music.keys import key_symbol
from plagal.plumbing.errors import InputError

HELP = (
    'a prompt such as "slow worship ballad in Db", or about the last piece: again, slower, faster, sparser, denser, '
    "in KEY, at N (beats a minute), N bars, STYLE, over CHORDS, go on, help, quit"
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
        """The order that a line means. Raises InputError, also where the line says nothing that is understood."""
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
        """What a line changes about the last request: one thing it says, or a word such as "slower". None where it is a
        prompt of its own: there is no piece yet, or it says more than one thing."""
        text = re.sub(rf"^{_LEAD}", "", line.strip().rstrip(".!"), flags=re.IGNORECASE)
        for pattern, change in _CHANGES:
            if re.fullmatch(pattern, text, re.IGNORECASE):
                return change(self)
        said = read_prompt(text)
        if said.problems:
            raise InputError("; ".join(said.problems))
        changes = {
            "style": said.style,
            "key": said.key and key_symbol(said.key),
            "tempo": said.quarters_per_minute,
            "metre": said.metre and f"{said.metre[0]}/{said.metre[1]}",
            "bars": said.bars,
            "chords": " | ".join(" ".join(chord.symbol for chord in bar) or "N.C." for bar in said.chords) or None,
        }
        changes = {name: value for name, value in changes.items() if value is not None}
        if not changes and not said.tune and not said.mood:
            raise InputError(f"not understood: {line}; {HELP}")
        return changes if self.asked is not None and len(changes) == 1 and not said.not_understood else None

    def _to_tempo(self, factor: float) -> Change:
        return {"tempo": round(min(max(self.tempo * factor, 20), 300), 1)}

    def _to_density(self, step: int) -> Change:
        now = (self.asked or {}).get("density", "medium")
        place = _DENSITY_STEPS.index(now) if now in _DENSITY_STEPS else 1
        return {"density": _DENSITY_STEPS[min(max(place + step, 0), 2)]}


_CHANGES: tuple[tuple[str, Callable[[Talk], Change]], ...] = (
    (r"again|another|another one|once more|one more", lambda _talk: {}),
    (r"slower", lambda talk: talk._to_tempo(_SLOWER)),
    (r"faster|quicker", lambda talk: talk._to_tempo(_FASTER)),
    (r"sparser|calmer|fewer notes|thinner", lambda talk: talk._to_density(-1)),
    (r"denser|busier|fuller|more notes", lambda talk: talk._to_density(1)),
    (r"longer", lambda talk: {"bars": min(2 * talk.bars, MOST_BARS)}),
    (r"shorter", lambda talk: {"bars": max(talk.bars // 2, 1)}),
)
