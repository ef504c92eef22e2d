"""What a piece must keep, word by word: its key, a chord progression, a melody, how many notes a bar.

The grammar says which words may follow; steering narrows that to the words that keep what was asked. It never widens:
where nothing would be left, the grammar's own choice stands, so a piece is valid whatever is asked.

- key: notes of the key's scale or of the chord in force; those foreign to the chord pass quickly. Chords of the key,
  and those with one tone from outside that lead somewhere: then there they go. A key that was asked for, not the
  model's own: its tonic opens each phrase of four bars and ends the piece.
- time: places and lengths are those of written music; what was played off the grid taught the model to read, not to
  write so.
- the model's own chords: where one is written its bass, or one of its tones, lies lowest.
- chords: each is written where it was asked for and nowhere else; where it begins its bass lies lowest and all tones
  that name it are struck; notes that do not belong to it pass quickly.
- melody: each of its notes is struck where it was asked for, as long as asked, and nothing sounds above it.
- density: notes struck in a bar, at least and at most.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from plagal.asking.request import Request
from plagal.compose import masks
from plagal.compose.masks import Mask
from plagal.compose.opening import PlacedNote, bar_ticks, notes_a_bar, placed_chords, placed_melody
from plagal.music.arranger.voicing import essential
from plagal.music.chords import ROOT_NAMES, Chord, parse_chord
from plagal.music.keys import key_tonic
from plagal.music.score import HIGHEST_PITCH, LOWEST_PITCH, TICKS_PER_QUARTER, Key
from plagal.tokens import grammar as g
from plagal.tokens.vocabulary import (
    KEY_OF,
    duration_words,
)

PASSING_TICKS = TICKS_PER_QUARTER // 2
"""A note foreign to its chord and key lasts an eighth at most."""
_LEAST_STEP_TICKS = TICKS_PER_QUARTER // 4
"""A bar that lacks notes may go on by so much at once, however far it has come."""
_MOST_STRUCK = 8
"""Notes struck at once by two hands; more only where a chord still lacks a tone."""
_HIGHEST_WITH_CHORD = 84
_BASS_BELOW = 55
"""The bass of an asked chord lies under G3 where the words have reached no higher note yet."""
_LOW = 48
"""Below middle C's octave only root, third and fifth keep a chord clear."""
_FREE_FROM = 60
"""From middle C up, notes of the key that do not belong to the chord last a quarter at most."""
_PHRASE_BARS = 4


class Steering:
    """What one piece must keep while it is being written: tell it each word, ask it to narrow each mask."""

    def __init__(self, request: Request):
        key = request.key_in_force
        self._key, self._last_bar = key, request.kept_bars + request.new_bars
        self._density = notes_a_bar(request)
        self._scale = masks.scale(key) if key is not None else None
        self._home = (0, False) if key is None else (key_tonic(key), key.minor)
        self._chord_at = {(placed.bar, placed.tick): placed.chord for placed in placed_chords(request)}
        self._melody_at: dict[tuple[int, int], PlacedNote] = {}
        melody = placed_melody(request.melody, bar_ticks(request))
        for note in melody:
            top = self._melody_at.get((note.bar, note.tick))
            if top is None or note.pitch > top.pitch:
                self._melody_at[note.bar, note.tick] = note
        self._places = sorted(self._chord_at.keys() | self._melody_at.keys())
        on_grid = all(tick % 3 == 0 or tick % 4 == 0 for _, tick in self._places)
        self._grid = masks.ON_GRID if on_grid else masks.ALL
        self._next = 0
        self._here = _Here()
        self._chord: Chord | None = None
        self._chord_bar = 0
        self._notes_in_bar = 0
        self._ceiling, self._ceiling_until = HIGHEST_PITCH, (0, 0)
        self._queue: list[str] = []
        self._state = g.start()

    def add(self, word: str, state: g.State) -> None:
        """`word` was written, `state` is the grammar's after it."""
        before, self._state = self._state, state
        if self._queue and self._queue[0] == word:
            self._queue.pop(0)
        kind = state.kind
        if kind == g.BAR:
            self._notes_in_bar = 0
            self._arrive(state.bars - 1, -1)
        elif state.position != before.position or kind == g.BEAT:
            self._arrive(state.bars - 1, state.position)
        if kind in (g.KEY, g.HEAD_KEY) and self._key is None:
            self._scale = masks.scale(Key(0, *KEY_OF[word]))
        elif kind == g.CHORD:
            self._chord = parse_chord(word.removeprefix("CHORD_"))
            self._chord_bar = state.bars
            self._here.wants_chord = False
            self._here.own = self._here.chord is None
            asked = self._here.chord
            if asked is not None and asked.bass != asked.root:
                self._queue = [f"BASS_{ROOT_NAMES[asked.bass]}"]
        elif kind == g.BASS and self._chord is not None:
            self._chord = Chord(self._chord.root, self._chord.quality, _PITCH_CLASS[word.removeprefix("BASS_")])
        elif kind == g.NOTE_ON:
            self._struck(state.pitch)

    def _arrive(self, bar: int, tick: int) -> None:
        """A new bar (tick -1) or position: what is asked for here, and what comes next."""
        place = (bar, tick)
        while self._next < len(self._places) and self._places[self._next] < place:
            self._next += 1
        self._here = _Here()
        if place >= self._ceiling_until:
            self._ceiling = HIGHEST_PITCH
        if self._next < len(self._places) and self._places[self._next] == place:
            chord, note = self._chord_at.get(place), self._melody_at.get(place)
            if chord is not None:
                self._chord = chord
                pending = {(chord.root + step) % 12 for step in essential(chord.quality)} | {chord.bass}
                self._here = _Here(chord=chord, wants_chord=True, pending=pending)
            if note is not None:
                self._here.melody = note
                self._ceiling = note.pitch
                end = note.tick + note.ticks
                self._ceiling_until = (bar + end // max(self._state.bar_ticks, 1), end % max(self._state.bar_ticks, 1))
            self._next += 1

    def _struck(self, pitch: int) -> None:
        self._notes_in_bar += 1
        here = self._here
        here.count += 1
        here.pending.discard(pitch % 12)
        if here.melody is not None and pitch == here.melody.pitch:
            self._queue = duration_words(here.melody.ticks)
            here.melody = None
            self._ceiling = pitch - 1

    def narrow(self, mask: Mask, state: g.State) -> Mask:
        """The part of `mask` that keeps the wishes; `mask` itself where none would."""
        if self._queue:
            only = masks.one(self._queue[0])
            if (mask & only).any():
                return mask & only
            self._queue = []
        mask = mask & self._grid if (mask & self._grid).any() else mask
        if self._key is None and not self._places and self._density is None:
            narrowed = mask & self._wanted(state)
            return narrowed if narrowed.any() else mask
        plain = mask & masks.PLAIN
        for wanted in (self._wanted(state), self._not_past(state), masks.ALL):
            narrowed = plain & wanted
            if narrowed.any():
                return narrowed
        return mask

    def _not_past(self, state: g.State) -> Mask:
        """Where all that is wanted cannot be had: at least what is asked for later in this bar is not passed by."""
        due = self._due(state.bars - 1)
        return ~masks.CHORD_WORDS if due < 0 else masks.beats_up_to(due) & ~masks.BAR_ENDS & ~masks.CHORD_WORDS

    def _wanted(self, state: g.State) -> Mask:
        followers = g.FOLLOWERS[state.kind]
        if g.DURATION in followers:
            return self._durations(state)
        if state.kind == g.DURATION or state.bars == 0:
            return masks.ALL
        if state.kind in g.BEFORE_BEAT and self._places[self._next : self._next + 1] == [(state.bars - 1, 0)]:
            return masks.one("BEAT_0")  # what is asked for at the bar line must not be passed by
        wanted = self._notes(state) & self._chords(state) & self._onward(state)
        if self._scale is None or self._chord_at:
            return wanted
        if self._at_home(state):
            due = state.kind in (g.BEAT, g.KEY, g.TEMPO, g.PEDAL, g.PEDAL_OFF) and self._chord_bar != state.bars
            tonic = masks.tonic_chords(*self._home)
            return tonic & (masks.CHORD_WORDS | masks.PEDALS) if due else wanted & tonic
        return wanted & masks.chord_words_in(self._scale, masks.resolution(self._chord, self._scale))

    def _at_home(self, state: g.State) -> bool:
        """Whether the asked key's tonic is due: with the first chord of the piece and of each phrase, and in the last
        bar."""
        if self._key is None:
            return False
        opens = (state.bars - 1) % _PHRASE_BARS == 0 and self._chord_bar != state.bars
        return self._chord is None or opens or state.bars == self._last_bar

    def _chords(self, state: g.State) -> Mask:
        """Chord words: the asked one where it was asked for (a pedal may come before it), else none if any is asked."""
        if self._here.wants_chord and self._here.chord is not None and state.position >= 0 and state.kind != g.BAR:
            chord = self._here.chord
            return masks.one(f"CHORD_{ROOT_NAMES[chord.root]}{chord.quality}") | masks.PEDALS
        return ~(masks.CHORD_WORDS | masks.BASS_WORDS) if self._chord_at else masks.ALL

    def _notes(self, state: g.State) -> Mask:
        """Which pitches may be struck here."""
        here, density = self._here, self._density
        if density is not None and self._notes_in_bar >= density[1] and not here.owes:
            return ~masks.NOTE_WORDS
        if here.count >= _MOST_STRUCK and not here.owes:
            return ~masks.NOTE_WORDS
        low, high = LOWEST_PITCH, self._ceiling
        floor = state.pitch if state.kind in (g.VELOCITY, g.ARTICULATION) else LOWEST_PITCH - 1
        if here.chord is not None and here.melody is None:
            high = min(high, _HIGHEST_WITH_CHORD)
        pending = {pc for pc in here.pending if masks.reachable(pc, floor, high)}
        here.pending = pending
        if here.chord is not None:
            if here.count == 0:
                return masks.pitches(masks.bits({here.chord.bass}), low, min(high, _BASS_BELOW))
            wanted = masks.pitches(masks.bits(set(here.chord.pitch_classes)), low, high)
            if pending:  # leave an octave for what is still to be struck
                wanted = (wanted & masks.pitches(masks.EVERY, low, high - 12)) | masks.pitches(
                    masks.bits(pending), low, high
                )
        else:
            wanted = self._free_notes(low, high)
        if here.melody is not None:
            wanted = (wanted & masks.pitches(masks.EVERY, low, here.melody.pitch - 1)) | masks.one(
                f"NOTE_ON_{here.melody.pitch}"
            )
        return wanted

    def _free_notes(self, low: int, high: int) -> Mask:
        """Between asked chords: the chord's tones and the key's, low down only the chord's."""
        chord, scale = self._chord, self._scale
        if scale is None and not self._chord_at:
            return masks.pitches(masks.EVERY, low, high)
        if chord is not None and self._here.own and self._here.count == 0:
            return masks.pitches(masks.bits({chord.bass}), low, min(high, _BASS_BELOW - 1)) | masks.pitches(
                masks.bits(set(chord.pitch_classes)), _BASS_BELOW, high
            )
        tones = set(chord.pitch_classes) if chord is not None else set()
        classes = tones | set(scale or (masks.chord_scale(chord) if chord is not None else range(12)))
        if chord is None or not self._chord_at:
            return masks.pitches(masks.bits(classes), low, high)
        firm = {chord.bass, chord.root, *((chord.root + step) % 12 for step in (3, 4, 6, 7, 8))} & tones
        return masks.pitches(masks.bits(firm), low, min(high, _LOW - 1)) | masks.pitches(
            masks.bits(classes), max(low, _LOW), high
        )

    def _onward(self, state: g.State) -> Mask:
        """Whether this position and this bar may be left, and how far."""
        here, density = self._here, self._density
        if here.owes and state.position >= 0:
            return ~masks.LEAVING
        bar = state.bars - 1
        wanted = masks.ALL
        if self._next < len(self._places):
            next_bar, next_tick = self._places[self._next]
            if next_bar == bar and next_tick < state.bar_ticks:
                wanted = masks.beats_up_to(next_tick) & ~masks.BAR_ENDS
            elif next_bar > bar:
                wanted = ~masks.PIECE_ENDS
        if density is None:
            return wanted
        if self._notes_in_bar >= density[1]:
            return wanted & ~(masks.BEATS & ~masks.beats_up_to(self._due(bar)))
        if self._notes_in_bar < density[0]:
            return wanted & ~masks.BAR_ENDS & masks.beats_up_to(self._pace(state, density[0]))
        return wanted

    def _pace(self, state: g.State, fewest: int) -> int:
        """The tick up to which the next position may lie, so that the notes that a bar still needs have room."""
        return max(state.position + _LEAST_STEP_TICKS, state.bar_ticks * self._notes_in_bar // fewest)

    def _due(self, bar: int) -> int:
        """The tick of what is still asked for in this bar, -1 if nothing is."""
        if self._next < len(self._places) and self._places[self._next][0] == bar:
            return self._places[self._next][1]
        return -1

    def _durations(self, state: g.State) -> Mask:
        """Lengths that keep the chord or the key, and end before a melody note that lies lower."""
        lengths = self._lengths(state)
        return lengths & masks.durations(1, self._until_lower(state)) if self._melody_at else lengths

    def _until_lower(self, state: g.State) -> int:
        """Ticks to the next melody note below the note at hand; two bars at least where none comes before."""
        bar, tick = state.bars - 1, max(state.position, 0)
        for place in self._places[self._next :]:
            note = self._melody_at.get(place)
            if note is not None and note.pitch < state.pitch:
                return max(1, (place[0] - bar) * state.bar_ticks + place[1] - tick)
        return 2 * state.bar_ticks

    def _lengths(self, state: g.State) -> Mask:
        """Notes that belong to no chord or key in force pass quickly; those of an asked chord end with it."""
        chord, pitch_class = self._chord, state.pitch % 12
        if self._chord_at and chord is not None:
            room = self._until_next_chord(state)
            if pitch_class not in chord.pitch_classes:
                return masks.durations(1, min(PASSING_TICKS, room))
            if self._here.chord is not None:
                return masks.durations(min(TICKS_PER_QUARTER, room), room)
            return masks.durations(1, room)
        if self._scale and chord is not None and pitch_class not in chord.pitch_classes:
            return masks.durations(
                1, PASSING_TICKS if state.pitch < _FREE_FROM or pitch_class not in self._scale else TICKS_PER_QUARTER
            )
        return masks.ALL

    def _until_next_chord(self, state: g.State) -> int:
        """Ticks to the next asked chord; two bars at least where it is further away or there is none."""
        bar, tick = state.bars - 1, max(state.position, 0)
        for next_bar, next_tick in self._places[self._next :]:
            if (next_bar, next_tick) in self._chord_at:
                return max(1, (next_bar - bar) * state.bar_ticks + next_tick - tick)
        return 2 * state.bar_ticks


@dataclass
class _Here:
    """What is asked for at the position at hand and not yet written."""

    chord: Chord | None = None
    wants_chord: bool = False
    pending: set[int] = field(default_factory=set)
    """Pitch classes still to be struck."""
    melody: PlacedNote | None = None
    own: bool = False
    """Whether a chord that nobody asked for was written here."""
    count: int = 0
    """Notes struck here."""

    @property
    def owes(self) -> bool:
        return self.wants_chord or bool(self.pending) or self.melody is not None


_PITCH_CLASS = {name: pitch_class for pitch_class, name in enumerate(ROOT_NAMES)}
