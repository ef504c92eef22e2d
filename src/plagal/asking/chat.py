"""A conversation about music: a line is a prompt, or says what to change.

What can be changed in the piece that is there is changed there, so that every other note stays; for the rest the
request is changed and the piece written anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from plagal.asking import lexicon
from plagal.asking.prompt import read_prompt, spaced
from plagal.asking.request import Request, read_request
from plagal.music.edits import A_DYNAMIC, change_tempo, count_bars, louder, swung, transpose, without_bars
from plagal.music.harmony import hear_key
from plagal.music.keys import key_of, key_tonic
from plagal.music.levels import LEVELS
from plagal.music.score import Key, Score
from plagal.plumbing.errors import InputError
from plagal.tokens.vocabulary import DENSITIES

HELP = (
    'a prompt such as "slow worship ballad in Db"; or change the piece that is there: slower, faster, louder, softer, '
    "in KEY, up a half step, at N (beats a minute), swing it, shorter, undo; or write it anew: again, sparser, denser, "
    "easier, harder, N bars, STYLE, over CHORDS; or go on; help, quit"
)
_SLOWER, _FASTER = 0.85, 1.18
_LEAD = (
    r"(?:(?:and|now|ok|okay|please|but|(?:make|play|move|take|transpose) it|the same|a bit|a little|much|once more)"
    r"[ ,]+)*"
)

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

    def edit(self, line: str, score: Score) -> Score | None:
        """The piece that is there as a line wants it, the request changed with it; None where it must be written anew.
        Raises InputError where it cannot be done."""
        if self.request is None:
            return None
        text = _stripped(line)
        for pattern, change in _EDITS:
            if re.fullmatch(pattern, text, re.IGNORECASE):
                return change(self, score)
        if match := re.fullmatch(_STEPS, text, re.IGNORECASE):
            semitones = 1 if match["half"] else 2 if match["whole"] else int(match["semitones"])
            return self._moved(score, -semitones if match["down"] else semitones)
        said = read_prompt(text)
        if said.not_understood or said.problems or said.mood or said.fields.keys() - {"key", "tempo", "beat"}:
            return None
        if said.key is not None and said.tempo is None:
            now = score.keys[0] if score.keys else hear_key(score)
            if said.key.minor == now.minor or not re.search(rf"(?<!\w)(?:{'|'.join(lexicon.MODES)})(?!\w)", text):
                return self._moved(score, (key_tonic(said.key) - key_tonic(now) + 5) % 12 - 5, said.key.fifths)
        if said.tempo is not None and said.key is None:
            return self._at(score, said.tempo)
        return None

    def go_on(self, words: list[str], seed: int) -> Request:
        """A request for more bars after the piece that `words` are."""
        return read_request({"continue": {"words": words}, "seed": seed})

    def _change(self, line: str) -> Change | None:
        """What a line changes about the last request: one thing it says, or a word such as "denser". None where it is a
        prompt of its own: there is no piece yet, or it says more than one thing."""
        text = _stripped(line)
        for pattern, change in _CHANGES:
            if re.fullmatch(pattern, text, re.IGNORECASE):
                return change(self)
        said = read_prompt(text)
        if said.problems:
            raise InputError("; ".join(said.problems))
        changes = {name: value for name, value in said.fields.items() if name != "tune"}
        about = any(re.fullmatch(pattern, text, re.IGNORECASE) for pattern in (_STEPS, *(edit for edit, _ in _EDITS)))
        lost = sum(len(part.split()) for part in said.not_understood)
        if not about and not said.tune and (not changes.keys() | {said.mood} - {None} or (
            lost > 2 and not changes.keys() - {"style"}  # "tell me the history of gospel"
        )):  # fmt: skip
            raise InputError(f"not understood: {line}; {HELP}")
        if about and self.request is None:
            return {}
        single = len(changes.keys() - {"beat"}) == 1 and not said.not_understood
        return changes if self.request is not None and single else None

    def _at(self, score: Score, tempo: float) -> Score:
        """At so many beats a minute."""
        tempo = round(min(max(tempo, 20), 300), 1)
        self._changed(tempo=tempo)
        return change_tempo(score, tempo / self.tempo)

    def _moved(self, score: Score, semitones: int, fifths: int | None = None) -> Score:
        """So many semitones up (down where negative), an octave lower or higher where the piano ends."""
        for octave in (0, -12, 12):
            try:
                moved = transpose(score, semitones + octave)
            except ValueError:
                continue
            now = score.keys[0] if score.keys else hear_key(score)
            spelled = None if fifths is None else Key(0, fifths, now.minor)
            self._changed(key=spelled or key_of((key_tonic(now) + semitones) % 12, now.minor))
            return moved
        raise InputError(f"{semitones:+d} semitones leave the piano's 88 keys, an octave up or down too")

    def _shorter(self, score: Score) -> Score:
        """Half as long: the middle goes, the ending stays."""
        bars = count_bars(score)
        if bars < 2:
            raise InputError("the piece has one bar; there is nothing to leave out")
        half = bars // 2
        ending = 2 if half >= 4 else 1
        shorter = without_bars(score, half - ending if half > ending else half, bars - half)
        self._changed(bars=half)
        return shorter

    def _swung(self, score: Score) -> Score:
        done = swung(score)
        self._changed(feel="swing")
        return done

    def _changed(self, **fields: Any) -> None:
        """The request goes along, without what belongs to music that it was written into."""
        if self.request is not None and self.request.continue_ is None and self.request.refill is None:
            self.request = self.request.model_copy(update=fields)

    def _step(self, name: str, step: int) -> Change:
        """A density or level so many steps on; where the request names none, from the usual one."""
        names, usual = (tuple(DENSITIES), "medium") if name == "density" else (tuple(LEVELS), "advanced")
        now = getattr(self.request, name, None)
        place = names.index(now if isinstance(now, str) else usual) + step
        return {name: names[min(max(place, 0), len(names) - 1)]}


def _stripped(line: str) -> str:
    return re.sub(rf"^{_LEAD}", "", line.strip().rstrip(".!"), flags=re.IGNORECASE)


_half, _whole = map(spaced, lexicon.STEPS_UP)
_COUNT = (
    rf"(?:an? |one |einen? )?(?:(?P<half>{_half})|(?P<whole>{_whole}|step)"
    rf"|(?P<semitones>\d{{1,2}}) {lexicon.SEMITONES})"
)
_STEPS = rf"(?:(?:up|higher)|(?P<down>down|lower))(?: by)? {_COUNT}"

_EDITS: tuple[tuple[str, Callable[[Talk, Score], Score]], ...] = (
    (r"slower", lambda talk, score: talk._at(score, talk.tempo * _SLOWER)),
    (r"faster|quicker", lambda talk, score: talk._at(score, talk.tempo * _FASTER)),
    (r"louder", lambda _talk, score: louder(score)),
    (r"softer|quieter", lambda _talk, score: louder(score, -A_DYNAMIC)),
    (r"swing(?: it)?|swung|swinging", lambda talk, score: talk._swung(score)),
    (r"shorter", lambda talk, score: talk._shorter(score)),
)
_CHANGES: tuple[tuple[str, Callable[[Talk], Change]], ...] = (
    (r"again|another|another one|once more|one more", lambda _talk: {}),
    (r"sparser|calmer|fewer notes|thinner", lambda talk: talk._step("density", -1)),
    (r"denser|busier|fuller|more notes", lambda talk: talk._step("density", 1)),
    (r"easier|simpler", lambda talk: talk._step("level", -1)),
    (r"harder|more difficult", lambda talk: talk._step("level", 1)),
)
