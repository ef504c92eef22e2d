"""The form of an arrangement: introduction, verses, modulation, vamp and ending, laid out as one lead sheet."""

from __future__ import annotations

import random

from plagal.music.arranger.leadsheet import Chorus, Layout, LeadSheet, Section, Span, lay_out
from plagal.music.arranger.styles import Style
from plagal.music.arranger.tunebook import Tune
from plagal.music.chords import Chord
from plagal.music.keys import key_of, key_tonic
from plagal.music.score import Key

MELODY_CENTRE = 70
"""Where the middle of a tune should lie [MIDI]."""

HIGHEST_MELODY = 81

_DEGREES = {name: step for step, name in enumerate(("1", "b2", "2", "b3", "3", "4", "#4", "5", "b6", "6", "b7", "7"))}
_MINOR_INTRO = ("1:min", "4:min7", "2:halfdim7", "5:7b9")
_MINOR_ENDING = ("4:min7", "5:7b9", "1:min")
_MINOR_VAMP = ("1:min7", "4:dom7")
_LAST_LINE_BARS = 4


def transposition(tune: Tune, tonic: int) -> int:
    """Semitones that bring the tune to the key and its middle near the right hand's."""
    ticks_in_all = sum(ticks for _, _, ticks in tune.notes)
    centre = sum(pitch * ticks for _, pitch, ticks in tune.notes) / ticks_in_all
    highest = max(pitch for _, pitch, _ in tune.notes)
    shift = (tonic - tune.tonic) % 12
    choices = [shift + 12 * octave for octave in (-2, -1, 0, 1)]
    return min(choices, key=lambda by: abs(centre + by - MELODY_CENTRE) + max(0, highest + by - HIGHEST_MELODY))


class Form:
    """Lays sections one after another; `lead` and `keys` hold what has been laid."""

    def __init__(self, tune: Tune, style: Style, plan: Layout, home: Key, rng: random.Random) -> None:
        self._tune, self._style, self._plan, self._rng = tune, style, plan, rng
        self._tonic, self._minor = key_tonic(home), home.minor
        self._semitones = transposition(tune, self._tonic)
        self._bar = 0
        self.lead = LeadSheet(plan.metre, plan.beat, plan.swing)
        self.keys = [home]

    def of_style(self) -> None:
        """One of the style's forms."""
        weights = [weight for weight, _ in self._style.forms]
        for part in self._style.forms[self._rng.choices(range(len(weights)), weights)[0]][1]:
            name, _, number = part.partition(":")
            self._add(name, int(number or 2))

    def exactly(self, bars: int) -> None:
        """The tune, as often as needed, cut after `bars`."""
        while self._bar < bars:
            self._verse(2)
        lead, end, first_chord = self.lead, bars * self.lead.bar, self.lead.spans[0].chord
        lead.melody[:] = [(onset, pitch, min(ticks, end - onset)) for onset, pitch, ticks in lead.melody if onset < end]
        spans = [Span(span.onset, min(span.end, end), span.chord) for span in lead.spans if span.onset < end]
        lead.spans[:] = spans or [Span(0, end, first_chord)]  # where all that fits is the pick-up: what it leads to
        lead.sections[:] = [part.until(bars) for part in lead.sections if part.first < bars]

    def _add(self, name: str, number: int) -> None:
        if name == "intro":
            self._chords("INTRO", self._spread(self._pick(self._style.intros, _MINOR_INTRO), 2), 2)
        elif name == "last_line":
            self._last_line()
        elif name == "verse":
            self._verse(number)
        elif name == "modulate":
            self._modulate()
        elif name == "vamp":
            once = self._spread(self._pick(self._style.vamps, _MINOR_VAMP), 2)
            self._chords("BRIDGE", once * (number // 2), 4, riff=True)
        else:
            numerals = self._pick(self._style.endings, _MINOR_ENDING)
            self._chords("OUTRO", self._ending(numerals), 1)

    def _pick(self, choices: tuple[tuple[str, ...], ...], in_minor: tuple[str, ...]) -> tuple[str, ...]:
        return in_minor if self._minor else choices[self._rng.randrange(len(choices))]

    def _chorus(self) -> Chorus:
        return lay_out(self._tune, self._plan, self._semitones)

    def _verse(self, level: int) -> None:
        """The tune once; its pick-up falls into the last bar of what came before."""
        once = self._chorus()
        overlap = 1 if self._tune.pickup_ticks and self._bar else 0
        start = self._bar - overlap
        offset = start * self.lead.bar
        first = once.melody[0][0] + offset
        self.lead.melody[:] = [
            (onset, pitch, min(ticks, first - onset)) for onset, pitch, ticks in self.lead.melody if onset < first
        ]
        self.lead.melody.extend((onset + offset, pitch, ticks) for onset, pitch, ticks in once.melody)
        fresh = self._bar * self.lead.bar
        self.lead.spans.extend(span.moved(offset) for span in once.spans if span.onset + offset >= fresh)
        ends = [*(first for first, _ in once.sections[1:]), once.bars]
        for (bar, name), end in zip(once.sections, ends, strict=True):
            higher = min(4, level + (1 if name == "CHORUS" else 0))
            begin = max(self._bar, start + bar)
            self.lead.sections.append(Section(name, begin, start + end, self._tonic, self._minor, higher))
        self._bar = start + once.bars

    def _last_line(self) -> None:
        """The tune's last line brings it in."""
        once = self._chorus()
        first = max(0, once.bars - _LAST_LINE_BARS) * self.lead.bar
        for onset, pitch, ticks in once.melody:
            if onset >= first:
                self.lead.melody.append((onset - first, pitch, ticks))
        for span in once.spans:
            if span.end > first:
                self.lead.spans.append(Span(max(0, span.onset - first), span.end - first, span.chord))
        self._bar = once.bars - first // self.lead.bar
        self.lead.sections.append(Section("INTRO", 0, self._bar, self._tonic, self._minor, 1))

    def _chords(self, name: str, symbols: list[tuple[int, str]], level: int, riff: bool = False) -> None:
        """A section without the tune, from (beats, numeral) pairs."""
        onset = self._bar * self.lead.bar
        start = self._bar
        for beats, numeral in symbols:
            end = onset + beats * self.lead.beat
            if end > onset:
                self.lead.spans.append(Span(onset, end, self._numeral(numeral)))
            onset = end
        self._bar = -(-onset // self.lead.bar)
        self.lead.sections.append(
            Section(name, start, self._bar, self._tonic, self._minor, level, sung=False, riff=riff)
        )

    def _numeral(self, text: str) -> Chord:
        """ "1:dom7/3" in the key at hand: degree, quality, degree in the bass."""
        degree, _, rest = text.partition(":")
        quality, _, bass = rest.partition("/")
        root = (self._tonic + _DEGREES[degree]) % 12
        return Chord(root, quality, (self._tonic + _DEGREES[bass]) % 12 if bass else root)

    def _spread(self, numerals: tuple[str, ...], bars: int) -> list[tuple[int, str]]:
        """Numerals shared evenly over bars (more bars where each would get less than a beat)."""
        bars = max(bars, -(-len(numerals) // self.lead.beats_per_bar))
        beats = bars * self.lead.beats_per_bar
        each, more = divmod(beats, len(numerals))
        return [(each + (1 if number < more else 0), numeral) for number, numeral in enumerate(numerals)]

    def _ending(self, numerals: tuple[str, ...]) -> list[tuple[int, str]]:
        """The last chord takes the last bar, the others share the bars before it."""
        bars = max(1, -(-(len(numerals) - 1) // self.lead.beats_per_bar))
        return [*self._spread(numerals[:-1], bars), (self.lead.beats_per_bar, numerals[-1])]

    def _modulate(self) -> None:
        """One bar of the new key's dominant, and up a semitone."""
        self._tonic = (self._tonic + 1) % 12
        self._semitones += 1
        self._chords("BRIDGE", self._spread(("5:9sus", "5:dom7"), 1), 3)
        self.keys.append(key_of(self._tonic, self._minor, (self._bar - 1) * self.lead.bar))
