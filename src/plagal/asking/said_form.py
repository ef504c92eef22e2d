"""What a prompt says of form and groove: feel, introduction, ending, and a modulation before the last verse."""

from __future__ import annotations

import re

from plagal.asking import lexicon
from plagal.asking.page import Page, spaced
from plagal.music.arranger.form import ENDINGS, INTROS

_DEGREE = r"[b#]?[1-7]m?(?:/[b#]?[1-7])?"
_ROW = rf"{_DEGREE}(?:[ ]?[- ][ ]?{_DEGREE})+"


def _named(names: set[str]) -> str:
    return "|".join([*(name.replace("-", "[ -]") for name in sorted(names, key=len, reverse=True)), _ROW])


_ENDINGS = _named({*ENDINGS, "amem"})
_INTROS = _named({name for name in INTROS if name[0].isalpha()} | {"last-line"})
_A = r"(?: (?:an?|the|eine[mnr]?|une?|uma?|el|der|die))?"
_WITH = r"(?: (?:with|on|from|of|over|mit|auf|aus|par|avec|con|com|sur|en))?"
_END = (
    "cadence|kadenz|cadencia|turnaround|tag|"
    "end(?:ing|s)?|finish(?:ing|es)?|clos(?:e|ing)|outro|schluss|ende[tn]?|fin(?:ir|al|it)?|terminar?|acabar?|encerrar"
)
_INTRO = "intro(?:duction|ducao|duccion)?|einleitung|vorspiel"
_LAST = (
    rf"(?:[ ,]*(?:at|for|on|in|before|beim|zum|im|am|vor|au|pour|al|en|no|na|para)?{_A}"
    r" ?(?:(?:last|final|letzten?|derniere?|ultim[oa])(?: (?:chorus|verse|refrain|strophe|couplet|estribillo|refrao))?"
    r"|end|ende|fin|final|fim)(?!\w))?"
)
"""Where a modulation comes anyway."""


def said_feel(page: Page) -> str | None:
    """One of the arranger's feels. "Swing" stays on the page, since it leans to a style, too."""
    said = []
    for feel, words in lexicon.FEEL_WORDS:
        for match in re.finditer(rf"(?<!\w){spaced(words)}(?!\w)", page.plain):
            said.append(feel)
            if feel != "swing":
                page.blank(*match.span())
    return said[0] if said else None


def said_intro_and_ending(page: Page) -> tuple[str | None, str | None]:
    """Names of the arranger's, or degrees such as 7-3-6-2-5-1."""

    def said(part: str, names: str) -> str | None:
        if page.take(rf"(?<!\w)(?:no|without(?: an?)?|ohne|sans|sin|sem) (?:{part})(?<!end)(?!\w)"):
            return "none"
        match = page.take(rf"(?<![\w/-])(?:an? )?({names}) (?:{part})(?!\w)") or (
            page.take(rf"(?<!\w)(?:{part})(?: it)?{_WITH}{_A}[ :]+({names})(?: (?:cadence|kadenz|cadencia))?(?![\w-])")
        )
        if match is None:
            return None
        name = re.sub(r"[ -]+", "-", match[1].strip())
        return "amen" if name == "amem" else name

    intro = said(_INTRO, _INTROS)
    return intro, said(_END, _ENDINGS)


def said_modulation(page: Page) -> int | None:
    """Semitones up before the last verse."""
    verb = rf"(?:{lexicon.MODULATE})"
    half, whole = map(spaced, lexicon.STEPS_UP)
    count = rf"(?:(?P<half>{half})|(?P<whole>{whole})|(?P<semitones>\d{{1,2}}) {lexicon.SEMITONES})"
    steps = rf"(?:(?:by|um|de|d')? ?(?:an?|one|eine[mnr]?|une?|uma?)? ?{count})"
    up = rf"(?:{lexicon.UP})"
    match = page.take(rf"(?<!\w){verb}(?: (?:it|the key|key|{up}|en|para))* ?{steps}(?: {up})?{_LAST}(?!\w)")
    match = match or page.take(rf"(?<!\w){steps} {up}{_LAST}(?!\w)")
    if match is None:
        return None
    return 1 if match["half"] else 2 if match["whole"] else int(match["semitones"]) % 12
