"""Between our words and the ids of a miditok REMI tokenizer, token by token and without loss.

The tokenizer must stand on our grid: 24 positions to its beat, and no more velocities and tempos than our eight levels
and our tempo words tell apart; `remi_tokenizer` makes one. Its beat is the metre's (an eighth in 7/8), ours is always
the quarter, so lengths and positions are converted. What one side cannot say raises InputError, naming the token:
positions between our ticks, programs, drums, rests and detected chords on one side; chords, sections, repeats, keys,
half pedals, articulations and lengths past its longest on the other.

REMI restates the metre at every bar and writes the first tempo at its place; words state changes only, and the first
tempo in the head. Each follows from the other: `words_to_ids(remi, ids_to_words(remi, ids)) == ids` for all that
miditok encodes on this grid.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from plagal.music.score import HIGHEST_PITCH, LOWEST_PITCH, TICKS_PER_QUARTER
from plagal.plumbing.errors import InputError
from plagal.tokens import vocabulary as v

if TYPE_CHECKING:
    import miditok

_POSITIONS_A_BEAT = 24
_SPECIALS = {"PAD_None": "PAD", "BOS_None": "BOS", "EOS_None": "EOS", "MASK_None": "MASK"}


def remi_tokenizer(longest_beats: int = 12) -> miditok.REMI:
    """A miditok REMI on our grid: all our metres, the piano's 88 keys, tempos, pedals, no chords."""
    import miditok

    numerators: dict[int, list[int]] = {}
    for numerator, denominator in v.METRES:
        numerators.setdefault(denominator, []).append(numerator)
    return miditok.REMI(
        miditok.TokenizerConfig(
            pitch_range=(LOWEST_PITCH, HIGHEST_PITCH + 1),
            beat_res={(0, longest_beats): _POSITIONS_A_BEAT},
            num_velocities=len(v.VELOCITY_LEVELS),
            remove_duplicated_notes=True,
            use_chords=False,
            use_tempos=True,
            # Just over 2 % apart: as fine as can be told apart by our tempo words, which are just under.
            num_tempos=128,
            tempo_range=(20, 300),
            log_tempos=True,
            use_time_signatures=True,
            time_signature_range=numerators,
            use_sustain_pedals=True,
        )
    )


def ids_to_words(tokenizer: miditok.REMI, ids: Iterable[int]) -> list[str]:
    """The words of one sequence of ids. They are grammatical where the ids are music without unisons. Raises
    InputError."""
    return _Remi(tokenizer).to_words([int(number) for number in ids])


def words_to_ids(tokenizer: miditok.REMI, words: Iterable[str], leave_out: bool = False) -> list[int]:
    """The ids of words. `leave_out`: leave out what REMI cannot say instead of raising InputError."""
    return _Remi(tokenizer).to_ids(list(words), leave_out)


class _Remi:
    """A tokenizer with its tokens sorted out."""

    def __init__(self, tokenizer: miditok.REMI) -> None:
        if tokenizer.is_trained:
            raise InputError("the tokenizer joins tokens (BPE or the like): decode its ids to base ids first")
        self.id_of: dict[str, int] = dict(tokenizer.vocab)
        self.token_of = {number: token for token, number in self.id_of.items()}
        self.states_metre = bool(tokenizer.config.use_time_signatures)
        self.velocities = self.told_apart("Velocity", {word: float(n) for word, n in v.VELOCITY_LEVELS.items()})
        self.tempos = self.told_apart("Tempo", v.TEMPO_OF)
        if "Duration_0.1.24" not in self.id_of:
            raise InputError("the tokenizer's beat_res is not 24: make one with `remi_tokenizer`")

    def told_apart(self, kind: str, values: dict[str, float]) -> dict[str, str]:
        """Word -> token of a kind, by nearest value. Raises InputError where two tokens are nearest to one word."""
        tokens = {t: float(t.partition("_")[2]) for t in self.id_of if t.startswith(f"{kind}_")}
        nearest = {word: min(tokens, key=lambda t: (abs(tokens[t] - values[word]), t)) for word in values if tokens}
        for token in tokens:
            if nearest[self.nearest_word(tokens[token], values)] != token:
                raise InputError(f"the tokenizer's {token} has no word of its own: make one with `remi_tokenizer`")
        return nearest

    @staticmethod
    def nearest_word(value: float, values: dict[str, float]) -> str:
        if values is v.TEMPO_OF:
            return v.tempo_word(value)
        return min(values, key=lambda word: abs(values[word] - value))

    def to_words(self, ids: list[int]) -> list[str]:
        tokens = [self.token_of.get(number, "") for number in ids]
        known = [place for place, token in enumerate(tokens) if token not in _SPECIALS]
        first, end = (known[0], known[-1] + 1) if known else (len(tokens), len(tokens))
        head, tail = tokens[:first], tokens[end:]
        words, metre, beat_ticks, place = ["SONG_START"], "", TICKS_PER_QUARTER, first
        opening: list[str] = []
        while place < end:
            kind, _, value = tokens[place].partition("_")
            if kind == "TimeSig":
                word = v.metre_word(*map(int, value.split("/")))
                beat_ticks = v.WHOLE // v.METRE_OF[word][1] if word in v.METRE_OF else 0
                if word != metre:
                    (words if metre else opening).append(word)
                metre = word
            elif kind == "Tempo" and words == ["SONG_START", "BAR_START", "BEAT_0"]:
                opening.append(v.tempo_word(float(value)))
                # The position stays: music may follow there. It goes again below where none does.
            elif kind == "Pitch":
                words += self.note_words(tokens, place, beat_ticks)
                place += 2
            else:
                if kind in ("Position", "Bar") and words[-1] == "BEAT_0" and len(opening) > bool(metre):
                    words.pop()
                words.append(self.plain_word(kind, value, tokens[place], place, beat_ticks))
            place += 1
        if words[-1] == "BEAT_0":
            words.pop()
        words[1:1] = opening
        return [_SPECIALS[t] for t in head] + [*words, "SONG_END"] + [_SPECIALS[t] for t in tail]

    def plain_word(self, kind: str, value: str, token: str, place: int, beat_ticks: int) -> str:
        if (kind, value) == ("Bar", "None"):
            return "BAR_START"
        if kind == "Position":
            position = _ticks(int(value), beat_ticks, token, place)
            word = f"BEAT_{v.quarters(position)}"
            if word in v.BEAT_TICKS:
                return word
        if kind == "Tempo":
            return v.tempo_word(float(value))
        if token in ("Pedal_0", "PedalOff_0"):
            return "PEDAL_ON" if kind == "Pedal" else "PEDAL_OFF"
        raise InputError(f"token {place} is {token or 'unknown'!r}, which no word can say")

    def note_words(self, tokens: list[str], place: int, beat_ticks: int) -> list[str]:
        pitch, velocity, duration = (token.partition("_") for token in [*tokens[place : place + 3], "_", "_"][:3])
        if (velocity[0], duration[0]) != ("Velocity", "Duration"):
            raise InputError(f"token {place} is {tokens[place]!r}, with no velocity and duration after it")
        beats, positions, resolution = map(int, duration[2].split("."))
        parts = beats * _POSITIONS_A_BEAT + positions * _POSITIONS_A_BEAT // resolution
        ticks = _ticks(parts, beat_ticks, tokens[place + 2], place + 2)
        level = self.nearest_word(float(velocity[2]), {word: float(n) for word, n in v.VELOCITY_LEVELS.items()})
        return [f"NOTE_ON_{pitch[2]}", *v.duration_words(ticks), level]

    def to_ids(self, words: list[str], leave_out: bool) -> list[int]:
        tokens: list[str] = []
        metre, tempo, beat_ticks, length = "TIMESIG_4_4", "", TICKS_PER_QUARTER, 0
        for place, word in enumerate(words):
            following = words[place + 1] if place + 1 < len(words) else ""
            if word == "BAR_START":
                metre = following if following in v.METRE_OF else metre
                beat_ticks = v.WHOLE // v.METRE_OF[metre][1]
                tokens += ["Bar_None", *([f"TimeSig_{'/'.join(metre.split('_')[1:])}"] * self.states_metre)]
                if tempo:
                    tokens += ["Position_0", self.tempos[tempo]]
                    tempo = ""
            elif word in v.METRE_OF:
                metre = word
            elif word in v.TEMPO_OF and not any(t.startswith("Bar") for t in tokens):
                tempo = word
            elif word in v.DURATION_TICKS or word in v.TIED_DURATIONS:
                length += v.DURATION_TICKS.get(word, 0) or v.TIED_DURATIONS[word]
            elif word in v.VELOCITY_LEVELS:
                beats, parts = divmod(_parts(length, beat_ticks, word, place), _POSITIONS_A_BEAT)
                tokens += [self.velocities[word], f"Duration_{beats}.{parts}.{_POSITIONS_A_BEAT}"]
                length = 0
            elif word not in ("SONG_START", "SONG_END"):
                said = self.plain_token(word, beat_ticks, place)
                if not said and not leave_out:
                    raise InputError(f"word {place} is {word!r}, which REMI cannot say")
                # The head's tempo has written the first position already.
                if said and [*tokens[-2:-1], said] != ["Position_0"] * 2:
                    tokens.append(said)
        if unknown := next((token for token in tokens if token not in self.id_of), None):
            raise InputError(f"the tokenizer has no token {unknown!r}: make one with `remi_tokenizer`")
        return [self.id_of[token] for token in tokens]

    def plain_token(self, word: str, beat_ticks: int, place: int) -> str:
        """The token of a word that is not a note's length or loudness, metre or bar line; "" where there is none."""
        if word in v.BEAT_TICKS:
            return f"Position_{_parts(v.BEAT_TICKS[word], beat_ticks, word, place)}"
        if word in v.TEMPO_OF:
            return self.tempos[word]
        if word.startswith("NOTE_ON_"):
            return f"Pitch_{word[8:]}"
        specials = {word: token for token, word in _SPECIALS.items()}
        return {"PEDAL_ON": "Pedal_0", "PEDAL_OFF": "PedalOff_0", **specials}.get(word, "")


def _ticks(parts: int, beat_ticks: int, token: str, place: int) -> int:
    """Ticks of so many 24ths of a beat of `beat_ticks`. Raises InputError where they are no whole number."""
    if parts * beat_ticks % _POSITIONS_A_BEAT:
        raise InputError(f"token {place} is {token!r}, which lies between the ticks of our grid")
    return parts * beat_ticks // _POSITIONS_A_BEAT


def _parts(ticks: int, beat_ticks: int, word: str, place: int) -> int:
    """The reverse of `_ticks`."""
    if ticks * _POSITIONS_A_BEAT % beat_ticks:
        raise InputError(f"word {place} is {word!r}, which lies between REMI's positions in this metre")
    return ticks * _POSITIONS_A_BEAT // beat_ticks
