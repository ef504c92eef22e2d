"""What a piece must keep, word by word: its key, harmony, form, hands, and whatever else was asked.

The word grammar says which words may follow; steering narrows that to the words that keep what was asked and what every
piece of the style keeps. It never widens: where nothing would be left, the grammar's own choice stands, so a piece is
valid whatever is asked.

- harmony: a chord is one that the style lets follow the one before (`plagal.music.arranger.harmony_grammar`):
  diatonic, or a device that leads somewhere, and then there it goes, within a bar. Until 0.1.0 a mask demanded a
  diatonic root and one foreign tone at most: it banned a chord of 88 of our own 90 arrangements. Within a bar no chord
  is said again over its own bass. A blues goes by its twelve bars, or eight or sixteen.
  Where the model chooses one, the style's own weights lean on its odds (`leaning`), and each bar says its harmony.
- notes: of the chord in force and of the key, as far as the chord does not alter them; blue notes where the style has
  them. What is foreign to the chord passes quickly. Where a chord is written its bass, or one of its tones, is lowest.
- hands: two hands of five fingers and a tenth can strike and hold what is written.
- form: phrases come back: the melody and the chords of a bar that a later phrase repeats are asked for there again.
- the end: the last bar is its tonic, struck at once and held for half the bar at least.
- pedal: lifted and pressed again where a chord is written, never held through (`inserted_before`).
- time: places and lengths are those of written music; what was played off the grid taught the model to read, not to
  write so.
- feel: swung eighths fall on the third triplet, straight ones in the middle; an introduction and an ending that are
  asked for are chords asked for in their bars.
- asked chords: each is written where it was asked for and nowhere else; where it begins its bass lies lowest and all
  tones that name it are struck.
- an asked melody: each of its notes is struck where it was asked for, as long as asked, and nothing sounds above it.
- density: notes struck in a bar, at least and at most.
- a level: what each hand holds and how far it goes in a bar, where notes begin and end, the tempo
  (`plagal.music.levels`). What is asked for besides stands, a melody in the level's rhythm.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from plagal.asking.lexicon import arranger_style
from plagal.asking.request import Request
from plagal.compose import masks
from plagal.compose.masks import Mask
from plagal.compose.opening import (
    PHRASE_BARS,
    Form,
    PlacedNote,
    bar_ticks,
    chorus_bars,
    form_chords,
    notes_a_bar,
    placed_chords,
    placed_melody,
)
from plagal.compose.sampling import Floats
from plagal.music.arranger import harmony_grammar
from plagal.music.arranger.styles import load_style
from plagal.music.arranger.voicing import by_importance, essential
from plagal.music.chords import ROOT_NAMES, Chord, parse_chord
from plagal.music.hands import LARGEST_SPAN
from plagal.music.keys import key_tonic
from plagal.music.levels import LEVELS, Reach, in_rhythm
from plagal.music.score import HIGHEST_PITCH, LOWEST_PITCH, TICKS_PER_QUARTER, Key, Metre
from plagal.tokens import grammar as g
from plagal.tokens.vocabulary import DURATION_TICKS, KEY_OF, METRE_OF, TIED_DURATIONS, duration_words, tempo_word

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
"""Below middle C's octave only root, third and fifth keep an asked chord clear."""
_FREE_FROM = 60
"""From middle C up, notes of the key that do not belong to the chord last a quarter at most; the melody lies there."""
_LONGEST_AWAY_BARS = 2
_LONGEST_TICKS = 16 * TICKS_PER_QUARTER
_LAST_CHORD_NOTES = 4


class Steering:
    """What one piece must keep while it is being written: tell it each word, ask it to narrow each mask."""

    def __init__(self, request: Request, whole_words: bool = True):
        """`whole_words`: the model writes words, not parts of their spelling."""
        self._key, self._key_is_asked = request.key_in_force, request.key_in_force is not None
        self._style = arranger_style(request.style)
        self._last_bar = request.kept_bars + request.new_bars
        self._ends = request.refill is None
        self._density = notes_a_bar(request)
        self._scale = masks.scale(self._key) if self._key is not None else None
        self._chords_are_asked = bool(request.chords)
        form = form_chords(request)
        self._form_bars = frozenset(bar for bar, _ in form)
        """Those of an introduction and an ending that are asked for: their chords stand instead of any others."""
        self._form = Form(request, self._form_bars)
        chords = {place: chord for place, chord in placed_chords(request).items() if place[0] not in self._form_bars}
        metre = Metre(0, *request.metre_in_force)
        self._chorus = chorus_bars(request)
        self._beat_ticks = metre.tempo_beat_ticks
        self._level = LEVELS[request.level or "advanced"]
        self._places_of_level = self._level.places_in(metre)
        tune = request.melody
        if tune is not None and request.level is not None:
            tune = in_rhythm(tune, request.level)
        self._swings = request.feel in masks.SWINGING and not metre.is_compound
        swung = _swung if self._swings else int
        self._chord_at = {(bar, swung(tick)): chord for (bar, tick), chord in (chords | form).items()}
        melody = [replace(note, tick=swung(note.tick)) for note in placed_melody(tune, bar_ticks(request))]
        self._melody_at = {(note.bar, note.tick): note for note in melody}
        self._places = sorted(self._chord_at.keys() | self._melody_at.keys())
        on_grid = all(tick % 3 == 0 or tick % 4 == 0 for _, tick in self._places)
        self._grid = masks.PLAIN & masks.ON_GRID if on_grid else masks.PLAIN
        style = load_style(self._style)
        in_four = style.in_four or harmony_grammar.chorus(self._style, 12)
        if request.metre is None and not request.kept_bars and in_four:  # the model knows hymns: some began in three
            self._grid = self._grid & masks.in_four("compound" in style.feels)
        if not metre.is_compound:
            self._grid = self._grid & masks.places_of(request.feel, whole_words)
        if request.level is not None:
            fastest = self._level.fastest * metre.tempo_beat_ticks / TICKS_PER_QUARTER
            self._grid = self._grid & masks.tempos_up_to(fastest)
        leaves_tempo = request.tempo is None and request.style is not None and not request.kept_bars
        drawn = random.Random(f"tempo {request.seed}").uniform(*style.tempo)
        self._tempo = min(drawn, self._level.fastest) if leaves_tempo else None
        """One of the style's, in beats a minute. The model began shouts at 90, where none goes; its odds cut at the
        style's bounds left half of them at 138."""
        if self._places_of_level is not None:
            self._grid = self._grid & masks.begins_at(self._places_of_level)
        self._next = 0
        self._here = _Here()
        self._chord: Chord | None = None
        self._before: Chord | None = None
        """The chord before that in force."""
        self._chord_bar = 0
        self._again = False
        """Whether the chord in force is the one before it once more, in the same bar: its bass moves then."""
        self._root_since, self._away_since = 0, 0
        """Ticks since when its root has sounded, and since when harmony has been away from home, if it is."""
        self._notes_in_bar = 0
        self._hands_of_level = Reach(self._level) if self._level.position is not None else None
        self._ceiling, self._ceiling_until = HIGHEST_PITCH, (0, 0)
        self._queue: list[str] = []
        self._state = g.start()
        self._bar_start = 0
        self._held: list[tuple[int, int]] = []
        """Keys down: pitch, and when they are let go [ticks from the start of the piece]."""
        self._ticks = 0
        self._pedal_down, self._pedal_moved = False, False

    # --- what was written

    def add(self, word: str, state: g.State) -> None:
        """`word` was written, `state` is the grammar's after it."""
        before, self._state = self._state, state
        if self._queue and self._queue[0] == word:
            self._queue.pop(0)
        kind, bar = state.kind, state.bars - 1
        if kind == g.BAR:
            self._bar_start += before.bar_ticks if before.bars else 0
            self._notes_in_bar = 0
            if self._hands_of_level is not None:
                self._hands_of_level.begin_bar()
            self._form.begin_bar(bar, self._chord)
            if bar in self._form.returns:  # its chords and its melody are asked for where they were
                chords, melody = self._form.coming_back(bar)
                self._chord_at |= {(bar, tick): chord for tick, chord in chords.items()}
                self._melody_at |= {(bar, note.tick): note for note in melody}
                self._places = sorted(self._chord_at.keys() | self._melody_at.keys())
            self._arrive(bar, -1)
        elif state.position != before.position or kind == g.BEAT:
            self._arrive(bar, state.position)
        if kind in (g.KEY, g.HEAD_KEY):  # none that was not asked for, or carried by a bar
            self._key = Key(0, *KEY_OF[word])
            self._scale = masks.scale(self._key)
        elif kind == g.HEAD_TIMESIG:
            self._beat_ticks = Metre(0, *METRE_OF[word]).tempo_beat_ticks
        elif kind in (g.PEDAL, g.PEDAL_OFF):
            self._pedal_down, self._pedal_moved = kind == g.PEDAL, True
        elif kind == g.CHORD:
            self._before, self._chord = self._chord, parse_chord(word.removeprefix("CHORD_"))
            self._again = self._chord_bar == state.bars and word == _chord_word(self._before)
            self._chord_bar = state.bars
            now = self._now(state)
            if self._before is None or self._before.root != self._chord.root:
                self._root_since = now
            if self._before is None or not self._is_foreign(self._before):
                self._away_since = now
            asked = self._here.chord
            self._here.wants_chord, self._here.own = False, asked is None
            if asked is not None and asked.bass != asked.root:
                self._queue = [f"BASS_{ROOT_NAMES[asked.bass]}"]
            self._form.add_chord(bar, max(state.position, 0), self._chord)
        elif kind == g.BASS and self._chord is not None:
            self._chord = Chord(self._chord.root, self._chord.quality, _PITCH_CLASS[word.removeprefix("BASS_")])
            self._form.add_chord(bar, max(state.position, 0), self._chord)
        elif kind == g.NOTE_ON:
            self._struck(state.pitch)
        elif kind in (g.TIE, g.DURATION):
            self._ticks += TIED_DURATIONS.get(word) or DURATION_TICKS.get(word, state.bar_ticks)
            if kind == g.DURATION:
                tick = max(state.position, 0)
                self._held.append((state.pitch, self._bar_start + tick + self._ticks))
                self._form.add_note(bar, tick, state.pitch, self._ticks)

    def _arrive(self, bar: int, tick: int) -> None:
        """A new bar (tick -1) or position: what is asked for here, and what comes next."""
        place, now = (bar, tick), self._bar_start + max(tick, 0)
        self._held = [(pitch, end) for pitch, end in self._held if end > now]
        self._pedal_moved = False
        self._next = bisect_right(self._places, place)
        self._here = _Here()
        if place >= self._ceiling_until:
            self._ceiling = HIGHEST_PITCH
        if self._places[: self._next][-1:] == [place]:
            chord, note = self._chord_at.get(place), self._melody_at.get(place)
            if chord is not None:
                self._here = _Here(chord=chord, wants_chord=True, pending=self._naming(chord, note is not None))
            if note is not None and bar in self._form.returns and not self._reach(self._down()) >> note.pitch & 1:
                note = None  # it came back by our own plan, and hands are full
            if note is not None:
                self._here.melody, self._ceiling = note, note.pitch
                bars, rest = divmod(note.tick + note.ticks, max(self._state.bar_ticks, 1))
                self._ceiling_until = (bar + bars, rest)

    def _naming(self, chord: Chord, under_melody: bool) -> set[int]:
        """Pitch classes that name an asked chord: its bass, and as many more as the hands of the level hold."""
        steps = [step for step in by_importance(chord.quality) if step in essential(chord.quality)]
        others = [pc for step in steps if (pc := (chord.root + step) % 12) != chord.bass]
        return {chord.bass, *others[: 2 * self._level.keys - 1 - under_melody]}

    def _reach(self, keys: Iterable[int]) -> int:
        """Keys that the hands hold besides some, as bits."""
        if self._hands_of_level is not None:
            return self._hands_of_level.keys(keys)
        return masks.within_reach(tuple(sorted(keys)))

    def _struck(self, pitch: int) -> None:
        self._notes_in_bar += 1
        if self._hands_of_level is not None:
            self._hands_of_level.strike(pitch, [key for key, _ in self._held] + self._here.struck)
        self._ticks = 0
        here = self._here
        here.count += 1
        here.struck.append(pitch)
        here.pending.discard(pitch % 12)
        here.foreign |= self._chord is not None and pitch % 12 not in self._chord.pitch_classes
        if here.melody is not None and pitch == here.melody.pitch:
            self._queue = duration_words(here.melody.ticks)
            here.melody = None
            self._ceiling = pitch - 1

    def played_as(self, word: str) -> str:
        """The word that is written where the model chose `word`."""
        return masks.swung(word, max(self._state.position, 0)) if self._swings else word

    def inserted_before(self, word: str) -> tuple[str, ...]:
        """Words that come before a chosen one: a pianist changes the pedal with the chord. What is down is lifted and
        pressed again; the last chord is held under a pedal of its own. Masks could only forbid the chord."""
        if g.PEDAL_OFF not in g.FOLLOWERS[self._state.kind]:
            return ()
        if word == "PEDAL_ON" and self._pedal_down:
            return ("PEDAL_OFF",)  # pressed again without being lifted, it would hold the chord before
        if self._pedal_moved or not word.startswith("CHORD_"):
            return ()
        if self._is_last(self._state):
            return ("PEDAL_OFF", "PEDAL_ON") if self._pedal_down else ("PEDAL_ON",)
        return ("PEDAL_OFF", "PEDAL_ON") if self._pedal_down and word != _chord_word(self._chord) else ()

    # --- what may follow

    def narrow(self, mask: Mask, state: g.State) -> Mask:
        """The part of `mask` that keeps the wishes; `mask` itself where none would."""
        if self._queue:
            if (only := mask & masks.one(self._queue[0])).any():
                return only
            self._queue = []
        least, wanted = mask & self._grid & self._hands(), self._wanted(state)
        if (narrowed := least & wanted).any():
            return narrowed
        plain, at_least = mask & masks.PLAIN, self._at_least(state)
        parts = (least & at_least, least, plain & wanted, plain & at_least, plain)
        return next((part for part in parts if part.any()), mask)

    def _hands(self) -> Mask:
        """Notes that two hands reach besides what they hold and what they still have to strike here."""
        melody = self._here.melody
        if melody is None:
            return masks.keys(self._reach(self._down()))
        return masks.keys(self._reach(self._down() | {melody.pitch}) | 1 << melody.pitch)

    def _down(self) -> set[int]:
        """The keys that the hands hold and have struck here."""
        return {pitch for pitch, _ in self._held} | set(self._here.struck)

    def _is_last(self, state: g.State) -> bool:
        """Whether this is the bar in which the piece ends on its own: nothing is asked for behind its bar line."""
        last = state.bars == self._last_bar and self._ends
        return last and not (self._places and self._places[-1] > (self._last_bar - 1, 0))

    def _is_fixed(self, state: g.State) -> bool:
        """Whether this bar's chords are asked for."""
        bar = state.bars - 1
        return self._chords_are_asked or bar in self._form.returns or bar in self._form_bars

    def _at_least(self, state: g.State) -> Mask:
        """Where all that is wanted cannot be had: what is asked for later in this bar is not passed by, and the last
        chord stays alone."""
        if self._is_last(state) and state.position >= 0:
            return masks.BAR_ENDS if self._here.count else ~masks.BEATS
        due = self._due(state.bars - 1)
        return ~masks.CHORD_WORDS if due < 0 else masks.beats_up_to(due) & ~masks.BAR_ENDS & ~masks.CHORD_WORDS

    def _wanted(self, state: g.State) -> Mask:
        followers = g.FOLLOWERS[state.kind]
        if g.DURATION in followers:
            return self._durations(state)
        if state.bars == 0 and self._tempo is not None and state.kind != g.HEAD_TEMPO:
            return masks.begins_in(tempo_word(self._tempo * self._beat_ticks / TICKS_PER_QUARTER))
        if state.kind == g.DURATION or state.bars == 0:
            return masks.ALL
        last = self._is_last(state)
        opens = state.kind in g.BEFORE_BEAT
        if opens and (last or self._places[self._next : self._next + 1] == [(state.bars - 1, 0)]):
            return masks.one("BEAT_0")  # what is asked for at the bar line must not be passed by
        wanted = self._notes(state) & self._chords(state) & self._onward(state)
        if self._key is None or self._is_fixed(state) or self._here.chord is not None:
            return wanted
        if self._chord_bar != state.bars and (last or (self._key_is_asked and self._chord is None)):
            tonic = masks.tonic_chords(key_tonic(self._key), self._key.minor, bool(self._chorus))
            at_chord = state.kind in (g.BEAT, g.KEY, g.TEMPO, g.PEDAL, g.PEDAL_OFF)
            return tonic & (masks.CHORD_WORDS | masks.PEDALS) if at_chord else wanted & tonic
        if self._chord_due(state):
            follow = masks.to_cadence if state.position == self._cadence_tick(state) else masks.grammatical_chords
            return self._onward_chords(follow(self._key, self._style, self._chord), state) & masks.HARMONY
        if state.kind == g.CHORD and self._chord is not None:
            below = masks.grammatical_basses(self._key, self._style, self._chord, self._before)
            if self._again and self._before is not None:
                below = below & ~masks.one(f"BASS_{ROOT_NAMES[self._before.bass]}")
                return below & masks.BASS_WORDS if self._before.bass == self._before.root else wanted & below
            return wanted & (below & ~masks.BASS_WORDS if last else below)
        if self._at_cadence(state) and self._chord is not None and masks.leads_home(self._key, self._chord):
            wanted = wanted & masks.cadences(self._key)  # from there only what leads home as well
        return self._onward_chords(wanted & masks.grammatical_chords(self._key, self._style, self._chord), state)

    def _onward_chords(self, mask: Mask, state: g.State) -> Mask:
        """Without the chords that would keep a foreign root over a bar line, half a bar after it began, or harmony away
        from home for two bars, as far as others are left."""
        chord, key, now = self._chord, self._key, self._now(state)
        if chord is None or key is None or self._chord_bar == state.bars or not self._is_foreign(chord):
            return mask
        for way, ticks in (
            (masks.on_root(chord.root), now - self._root_since - state.bar_ticks // 2),
            (masks.foreign_chords(key, self._style), now - self._away_since - _LONGEST_AWAY_BARS * state.bar_ticks),
        ):
            if ticks >= 0 and (mask & ~way & masks.CHORD_WORDS).any():
                mask = mask & ~way
        return mask

    def _now(self, state: g.State) -> int:
        """Ticks from the start of the piece."""
        return self._bar_start + max(state.position, 0)

    def _is_foreign(self, chord: Chord) -> bool:
        return self._key is not None and harmony_grammar.classify(chord, self._key, self._style) != "diatonic"

    def _chord_due(self, state: g.State) -> bool:
        """Whether a bar line is to say its harmony here, the same once more or another, or a cadence its chord."""
        if state.kind not in (g.BEAT, g.PEDAL, g.PEDAL_OFF) or self._here.count or not self._key_is_asked:
            return False
        return (state.position == 0 and self._chord_bar != state.bars) or state.position == self._cadence_tick(state)

    def leaning(self, state: g.State) -> Floats | None:
        """What is added to the logits of words where the model chooses a chord: the logarithm of how well the style
        lets it follow. The model alone stays at home: a third of the arranger's devices and dominants."""
        chooses = self._key is not None and state.position >= 0 and state.kind in (g.BEAT, g.PEDAL, g.PEDAL_OFF)
        if not chooses or self._is_fixed(state) or self._is_last(state) or self._here.wants_chord:
            return None
        if self._hands_of_level is not None:  # hands that stay where they lie reach no richer harmony than the model's
            return None
        on_beat, stood = state.position % TICKS_PER_QUARTER == 0, self._chord_bar < state.bars
        half = int(state.position >= state.bar_ticks // 2)
        if state.bars in self._chorus:  # its form says where chords change
            halves = self._chorus[state.bars]
            on_beat = state.position == 0 or (state.position == state.bar_ticks // 2 and halves[0] != halves[1])
            stood = stood and len(halves[half]) > 1
            return masks.leaning(self._key, self._style, self._chord, on_beat, stood, False, halves[half])
        phrase_ends = state.bars % PHRASE_BARS == 0 and half == 1
        return masks.leaning(self._key, self._style, self._chord, on_beat, stood, phrase_ends)

    def _at_cadence(self, state: g.State) -> bool:
        """Whether this is the last bar but one, before an end of our own: until 0.2 pieces ended after II7 as often as
        after V."""
        own = self._ends and self._key_is_asked and self._hands_of_level is None
        return own and state.bars == self._last_bar - 1 and not self._is_fixed(state)

    def _cadence_tick(self, state: g.State) -> int | None:
        """Where a chord that leads home is to be said at the latest: in the middle of that bar or, where another had to
        come first, a beat on; None where one is in force."""
        home = self._key is None or (self._chord is not None and masks.leads_home(self._key, self._chord))
        if home or not self._at_cadence(state):
            return None
        earliest = max(state.position + self._here.own, state.bar_ticks // 2)
        tick = -(-earliest // self._beat_ticks) * self._beat_ticks
        return tick if tick < state.bar_ticks else None

    def _chords(self, state: g.State) -> Mask:
        """Chord words: the asked one where it was asked for (a pedal may come before it), else none if any is asked."""
        if self._here.wants_chord and state.position >= 0 and state.kind != g.BAR:
            return masks.one(_chord_word(self._here.chord)) | masks.PEDALS
        return ~(masks.CHORD_WORDS | masks.BASS_WORDS) if self._is_fixed(state) else masks.ALL

    def _notes(self, state: g.State) -> Mask:
        """Which pitches may be struck here."""
        here, high = self._here, self._ceiling
        full = self._density is not None and self._notes_in_bar >= self._density[1]
        if not here.owes and (full or here.count >= _MOST_STRUCK):
            return ~masks.NOTE_WORDS
        floor = state.pitch if state.kind in (g.VELOCITY, g.ARTICULATION) else LOWEST_PITCH - 1
        if here.chord is not None and here.melody is None:
            high = min(high, _HIGHEST_WITH_CHORD)
        here.pending &= {pitch % 12 for pitch in range(floor + 1, high + 1)}
        if here.chord is not None:
            if here.count == 0:
                return masks.pitches(min(high, _BASS_BELOW), (LOWEST_PITCH, frozenset({here.chord.bass})))
            tones, owed = here.chord.pitch_classes, frozenset(here.pending)
            # Leave an octave for what is still to be struck.
            wanted = masks.pitches(high, (LOWEST_PITCH, tones), (high - 11, owed or tones))
            if here.pending:
                room = wanted & self._leaving_room(floor, high)
                wanted = room if (room & masks.STRIKES).any() else wanted
        elif self._is_last(state) and self._chord is not None:
            bass_first = here.count == 0 and here.melody is None
            tones = frozenset({self._chord.bass}) if bass_first else self._chord.pitch_classes
            wanted = masks.pitches(min(high, _BASS_BELOW) if bass_first else high, (LOWEST_PITCH, tones))
        else:
            wanted = self._free_notes(state, high)
        if here.melody is not None:
            wanted = wanted & masks.pitches(here.melody.pitch - 1, (LOWEST_PITCH, masks.EVERY))
            wanted = wanted | masks.one(f"NOTE_ON_{here.melody.pitch}")
        return wanted

    def _leaving_room(self, floor: int, high: int) -> Mask:
        """Notes over which the hands still reach each tone that the asked chord lacks: until 0.2 a third or a seventh
        went missing from every fourth chord, since the hands were full or too wide when its turn came."""
        here, keys, leaving = self._here, self._down(), 0
        for pitch in range(floor + 1, high + 1):
            if here.chord is not None and pitch % 12 in here.chord.pitch_classes:
                reach = self._reach(keys | {pitch})
                if here.pending <= {key % 12 for key in range(pitch, high + 1) if key == pitch or reach >> key & 1}:
                    leaving |= 1 << pitch
        return masks.keys(leaving)

    def _free_notes(self, state: g.State, high: int) -> Mask:
        """Between asked chords: the chord's tones and the key's; low down under asked chords only the chord's."""
        chord, scale = self._chord, self._scale
        if chord is None or (scale is None and not self._is_fixed(state)):
            return masks.pitches(high, (LOWEST_PITCH, scale or masks.EVERY))
        tones = chord.pitch_classes
        if self._here.own and self._here.count == 0:
            return masks.pitches(high, (LOWEST_PITCH, frozenset({chord.bass})), (_BASS_BELOW, tones))
        classes = tones | (masks.chord_scale(chord) if scale is None else masks.colour_scale(chord, scale))
        if self._is_fixed(state):
            # A tone that is foreign to the chord passes alone, and under middle C not on a beat.
            firm = tones & {chord.bass, chord.root, *((chord.root + step) % 12 for step in (3, 4, 6, 7, 8))}
            passing = tones if self._here.foreign else classes
            inner = passing if state.position % TICKS_PER_QUARTER else tones
            return masks.pitches(high, (LOWEST_PITCH, firm), (_LOW, inner), (_FREE_FROM, passing))
        blue = set() if self._key is None else harmony_grammar.blue_notes(self._key, self._style)
        return masks.pitches(high, (LOWEST_PITCH, classes), (_FREE_FROM, classes | blue))

    def _onward(self, state: g.State) -> Mask:
        """Whether this position and this bar may be left, and how far."""
        here, density = self._here, self._density
        if here.owes and state.position >= 0:
            return ~masks.LEAVING
        if self._is_last(state) and state.position >= 0:
            full = here.count >= _LAST_CHORD_NOTES or self._notes_in_bar >= (density or (0, 64))[1]
            return ~masks.BEATS if full else ~masks.LEAVING
        bar, wanted = state.bars - 1, masks.ALL
        if density is None and self._key_is_asked and 0 <= state.position < state.bar_ticks // 2:
            wanted = ~masks.BAR_ENDS  # half a bar is breath enough
        if (cadence := self._cadence_tick(state)) is not None:
            wanted = masks.beats_up_to(cadence) & ~masks.BAR_ENDS
        if 0 <= (due := self._due(bar)) < state.bar_ticks:
            wanted = masks.beats_up_to(due) & ~masks.BAR_ENDS
        elif due < 0 and self._next < len(self._places):
            wanted = wanted & ~masks.PIECE_ENDS
        if density is not None and self._notes_in_bar >= density[1]:
            return wanted & masks.beats_up_to(due)
        if density is not None and self._notes_in_bar < density[0]:
            # The next position lies no later than leaves room for the notes that the bar still needs.
            pace = max(state.position + _LEAST_STEP_TICKS, state.bar_ticks * self._notes_in_bar // density[0])
            return wanted & ~masks.BAR_ENDS & masks.beats_up_to(pace)
        return wanted

    def _due(self, bar: int) -> int:
        """The tick of what is still asked for in this bar, -1 if nothing is."""
        return next((tick for there, tick in self._places[self._next : self._next + 1] if there == bar), -1)

    def _durations(self, state: g.State) -> Mask:
        """Lengths that keep chord and key, leave the hands free for the last chord, and end before a melody note that
        lies lower or that the hand which holds the note could not reach. What is tied already counts."""
        least, most = self._lengths(state)
        if self._melody_at:
            most = min(most, self._until(state, self._melody_at, lower_than=state.pitch))
        if self._ends and self._last_bar > state.bars:
            most = min(most, (self._last_bar - state.bars) * state.bar_ticks - max(state.position, 0))
        least, most = max(min(least, most) - self._ticks, 1), most - self._ticks
        if self._places_of_level is None:
            return masks.durations(least, max(most, 1))
        begun = (max(state.position, 0) + self._ticks) % TICKS_PER_QUARTER
        ending = masks.ending_at(self._places_of_level, begun)
        shortest = min((place - begun - 1) % TICKS_PER_QUARTER + 1 for place in self._places_of_level)
        wanted = masks.durations(least, max(most, shortest)) & ending
        return wanted if wanted.any() else ending

    def _lengths(self, state: g.State) -> tuple[int, int]:
        """Fewest and most ticks: notes that belong to no chord or key in force pass quickly; those of an asked chord
        end with it; the last ones are held."""
        chord, pitch_class = self._chord, state.pitch % 12
        if self._is_last(state) and self._here.melody is None:
            return state.bar_ticks // 2, state.bar_ticks
        if chord is None:
            return 1, _LONGEST_TICKS
        foreign = pitch_class not in chord.pitch_classes
        if self._is_fixed(state):
            room = self._until(state, self._chord_at)
            if foreign:
                return 1, min(PASSING_TICKS, room)
            return (min(TICKS_PER_QUARTER, room) if self._here.chord is not None else 1), room
        if self._scale and foreign:
            quick = state.pitch < _FREE_FROM or pitch_class not in self._scale
            return 1, PASSING_TICKS if quick else TICKS_PER_QUARTER
        return 1, _LONGEST_TICKS

    def _until(self, state: g.State, asked: Mapping[tuple[int, int], object], lower_than: int = 0) -> int:
        """Ticks to the next place where something is asked for: a chord, or a melody note below a pitch or, where the
        right hand holds it, beyond a tenth above; two bars where there is none."""
        bar, tick = state.bars - 1, max(state.position, 0)
        reach = lower_than + LARGEST_SPAN if lower_than >= _BASS_BELOW else HIGHEST_PITCH
        for place in self._places[self._next :]:
            thing = asked.get(place)
            if thing is not None and not (isinstance(thing, PlacedNote) and lower_than <= thing.pitch <= reach):
                return max(1, (place[0] - bar) * state.bar_ticks + place[1] - tick)
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
    foreign: bool = False
    """Whether a note that is not a tone of the chord in force was struck here."""
    count: int = 0
    """Notes struck here."""
    struck: list[int] = field(default_factory=list)

    @property
    def owes(self) -> bool:
        return self.wants_chord or bool(self.pending) or self.melody is not None


_PITCH_CLASS = {name: pitch_class for pitch_class, name in enumerate(ROOT_NAMES)}


def _chord_word(chord: Chord | None) -> str:
    return "" if chord is None else f"CHORD_{ROOT_NAMES[chord.root]}{chord.quality}"


def _swung(tick: int) -> int:
    return tick + masks.SWUNG_TICK - 12 if tick % TICKS_PER_QUARTER == 12 else tick
