"""A conversation about music: each line is a prompt, or says what to change about the piece before it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from plagal.asking.prompt import MOST_BARS, read_prompt
from plagal.asking.request import Request, read_request
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

    request: Request | None = None
    tempo: float = 90.0
    """Of the last piece [beats a minute]."""

    def understand(self, line: str, seed: int) -> Request:
        """The request that a line means. Raises InputError, also where the line says nothing that is understood."""
        change = self._change(line)
        if change is None:
            self.request = read_request({"prompt": line, "seed": seed})
        elif self.request is None:
            raise InputError(f"{line!r} is about a piece, and there is none yet; begin with {HELP}")
        else:
            self.request = self.request.changed(**{"seed": seed, **change})
        return self.request

    @property
    def bars(self) -> int:
        return self.request.new_bars if self.request is not None else 8

    def go_on(self, words: list[str], seed: int) -> Request:
        """A request for more bars after the piece that `words` are."""
        return read_request({"continue": {"words": words}, "seed": seed})

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
        fields = {name: getattr(said, name) for name in ("style", "key", "tempo", "beat", "metre", "bars", "chords")}
        changes = {name: value for name, value in fields.items() if value is not None and value != ()}
        if not changes and not said.tune and not said.mood:
            raise InputError(f"not understood: {line}; {HELP}")
        single = len(changes.keys() - {"beat"}) == 1 and not said.not_understood
        return changes if self.request is not None and single else None

    def _to_tempo(self, factor: float) -> Change:
        return {"tempo": round(min(max(self.tempo * factor, 20), 300), 1)}

    def _to_density(self, step: int) -> Change:
        now = self.request.density if self.request is not None else None
        place = _DENSITY_STEPS.index(now) if isinstance(now, str) else 1
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
