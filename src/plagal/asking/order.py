"""What a request means: the words that a piece must begin with, what it must keep, and the prompt for the model.

Controls that are given win over what the plain prompt says. Nothing here needs a model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from plagal.asking.progression import Progression, read_progression, written
from plagal.asking.prompt import MOST_BARS, Controls, parse_prompt
from plagal.asking.request import LONGEST_PROMPT, PieceRequest, Source, midi_score
from plagal.asking.wording import WORDINGS, fields_of, spoken, tempo_text
from plagal.music.chords import Chord
from plagal.music.keys import key_name, parse_key
from plagal.music.placed import PlacedChord, PlacedNote, spread_chords
from plagal.music.score import DURATION, ONSET, PITCH, TICKS_PER_QUARTER, Key, Score
from plagal.music.tempo import nearest_tempo
from plagal.plumbing.errors import InputError
from plagal.tokens.bars import cut_bars
from plagal.tokens.codec import encode
from plagal.tokens.grammar import BEFORE_BEAT, KIND_OF
from plagal.tokens.vocabulary import KEY_OF, METRE_OF, TEMPO_OF, key_word, metre_word, tempo_word

USUAL_BARS = 16
"""Where neither prompt nor option says: four phrases of four bars."""
USUAL_MORE_BARS = 8
"""To go on with, where no number is given."""
USUAL_METRE = (4, 4)
_SILENT_TEMPO = 120.0
_DENSITY = {"sparse": (0.5, 2.0), "medium": (2.0, 4.5), "dense": (4.5, 9.0)}
"""Notes a quarter: the middle is where half of the training bars lie."""
_AROUND = 0.2
"""A number of notes a bar is kept within this share of it."""

FindPiece = Callable[[str], Sequence[str]]
"""The words of a piece that is done, by its id; raises InputError where there is none."""


@dataclass(frozen=True)
class Order:
    """A request as understood. `prompt`: for the model; `plain_prompt`: the same in fewest words; `head`: words after
    SONG_START that the piece begins with, whole bars among them; `bars`: in all, those in `head` and `after` counted;
    `after`: words of the bars that follow those to be written; `density`: fewest and most notes a bar."""

    prompt: str
    plain_prompt: str
    head: tuple[str, ...]
    bars: int
    seed: int
    after: tuple[str, ...] = ()
    key: Key | None = None
    chords: tuple[PlacedChord, ...] = ()
    melody: tuple[PlacedNote, ...] = ()
    density: tuple[int, int] | None = None
    temperature: float = 0.9
    top_p: float = 0.9
    understood: dict[str, Any] = field(default_factory=dict)
    """The request as JSON says it, with what was read from the prompt."""

    def again(self, seed: int) -> Order:
        """The same with another seed."""
        return replace(self, seed=seed, understood=self.understood | {"seed": seed})

    @property
    def new_bars(self) -> int:
        """Bars that are to be written."""
        return self.bars - self.head.count("BAR_START") - self.after.count("BAR_START")


def no_pieces(piece: str) -> Sequence[str]:
    """For callers that keep no pieces."""
    raise InputError(f"there is no piece {piece!r} here; give the music as MIDI")


def understand(request: PieceRequest, seed: int, find: FindPiece = no_pieces) -> Order:
    """Work out an order. `seed` holds where the request has none. Raises InputError of one line."""
    if request.vary is not None:
        raise InputError("vary needs the request of the piece that it varies")
    _something_asked(request)
    said = parse_prompt(request.prompt)
    seed = request.seed if request.seed is not None else seed
    if request.refill is not None:
        return _refilling(request, said, seed, _words_of(request.refill, "refill", find))
    if request.continue_ is not None:
        return _continuing(request, said, seed, _words_of(request.continue_, "continue", find))
    return _from_nothing(request, said, seed)


def _something_asked(request: PieceRequest) -> None:
    if not (request.prompt or request.model_fields_set - {"prompt", "seed", "temperature", "top_p", "bars"}):
        raise InputError('nothing is asked for: give a prompt such as "slow worship ballad in Db", or a control')


# --- a piece from nothing


def _from_nothing(request: PieceRequest, said: Controls, seed: int) -> Order:
    tune = request.melody.score() if request.melody is not None else None
    key = _key_asked(request, said, tune)
    metre = _metre_asked(request, said, tune)
    tempo = request.tempo or said.tempo or (_tune_tempo(tune) if tune is not None else None)
    bars = _bars_asked(request, said, tune, metre or USUAL_METRE)
    bar_ticks = _bar_ticks(metre or USUAL_METRE)
    progression = _progression(request, said)
    if progression or tune is not None or request.density is not None:
        metre = metre or USUAL_METRE  # places in bars of an unknown length mean nothing
    head = [] if key is None else [key_word(key.fifths, key.minor)]
    if metre is not None or tempo is not None:
        head.append(metre_word(*(metre or USUAL_METRE)))  # a tempo needs a metre before it, as in training
    if tempo is not None:
        head.append(tempo_word(tempo))
    merged = Controls(request.style or said.style, key, tempo, metre, bars, said.chords, said.mood)
    return Order(
        *_prompts(request, said, merged, progression), tuple(head), bars, seed, (), key,
        spread_chords(progression, bars, bar_ticks),
        _placed_melody(tune, bar_ticks) if tune is not None else (),
        _density(request.density, bar_ticks), request.temperature, request.top_p,
        _understood(request, merged, progression, seed),
    )  # fmt: skip


def _key_asked(request: PieceRequest, said: Controls, tune: Score | None) -> Key | None:
    if request.key is not None:
        return parse_key(request.key)
    if said.key is not None or tune is None:
        return said.key
    if tune.keys:
        return Key(0, tune.keys[0].fifths, tune.keys[0].minor)
    from plagal.music.harmony import hear_key

    return hear_key(tune)


def _metre_asked(request: PieceRequest, said: Controls, tune: Score | None) -> tuple[int, int] | None:
    asked = _metre_of(request.metre) if request.metre else said.metre
    if tune is None:
        return asked
    its = {(metre.numerator, metre.denominator) for metre in tune.metres}
    if len(its) > 1:
        names = ", ".join(f"{n}/{d}" for n, d in sorted(its))
        raise InputError(f"melody changes its metre ({names}); a melody to harmonise keeps one")
    own = its.pop()
    if asked is not None and asked != own:
        raise InputError(f"metre {asked[0]}/{asked[1]}: the melody is in {own[0]}/{own[1]}; leave metre out")
    return own


def _metre_of(text: str) -> tuple[int, int]:
    numerator, _, denominator = text.partition("/")
    return int(numerator), int(denominator)


def _tune_tempo(tune: Score) -> float | None:
    """None for 120, which files say that say nothing."""
    tempo = tune.tempos[0].quarters_per_minute
    return None if tempo == _SILENT_TEMPO else tempo


def _bar_ticks(metre: tuple[int, int]) -> int:
    return 4 * TICKS_PER_QUARTER * metre[0] // metre[1]


def _bars_asked(request: PieceRequest, said: Controls, tune: Score | None, metre: tuple[int, int]) -> int:
    bars = request.bars or said.bars
    if tune is not None:
        own = -(-int((tune.notes[:, ONSET] + tune.notes[:, DURATION]).max()) // _bar_ticks(metre))
        if bars is not None and bars < own:
            raise InputError(f"bars {bars}: the melody has {own}; ask for {own} or more, or leave bars out")
        bars = bars or own
    return _within_limit(bars or USUAL_BARS)


def _within_limit(bars: int) -> int:
    if bars > MOST_BARS:
        raise InputError(f"bars {bars}: at most {MOST_BARS} can be written at once")
    return bars


def _progression(request: PieceRequest, said: Controls) -> Progression:
    if request.chords is not None:
        return read_progression(request.chords)
    if not said.chords:
        return ()
    return _with_bars(request.prompt, said.chords) or tuple((chord,) for chord in said.chords)


def _with_bars(prompt: str, chords: tuple[Chord, ...]) -> Progression:
    """The prompt's chords with the bars that it draws between them; nothing where it draws none."""
    if "|" not in prompt:
        return ()
    words = prompt.split()
    for start in range(len(words)):
        for end in range(len(words), start, -1):
            try:
                found = read_progression(" ".join(words[start:end]).rstrip(".;:?!"))
            except InputError:
                continue
            if tuple(chord for bar in found for chord in bar) == chords:
                return found
            break
    return ()


def _placed_melody(tune: Score, bar_ticks: int) -> tuple[PlacedNote, ...]:
    """The highest note of each onset, cut where the next begins."""
    notes = tune.notes[np.lexsort((-tune.notes[:, PITCH], tune.notes[:, ONSET]))]
    onsets, first = np.unique(notes[:, ONSET], return_index=True)
    top = notes[first]
    ends = np.append(onsets[1:], np.iinfo(np.int32).max)
    return tuple(
        PlacedNote(int(onset) // bar_ticks, int(onset) % bar_ticks, int(pitch), int(min(ticks, end - onset)))
        for (onset, pitch, ticks, _), end in zip(top, ends, strict=True)
    )


def _density(asked: str | float | None, bar_ticks: int) -> tuple[int, int] | None:
    if asked is None:
        return None
    if isinstance(asked, str):
        fewest, most = (share * bar_ticks / TICKS_PER_QUARTER for share in _DENSITY[asked])
    else:
        fewest, most = asked * (1 - _AROUND), asked * (1 + _AROUND)
    return max(1, round(fewest)), max(1, round(most))


# --- music that is there already


def _words_of(source: Source, name: str, find: FindPiece) -> list[str]:
    if source.piece is not None:
        return list(find(source.piece))
    return encode(midi_score(source.midi or "", f"{name}.midi"))


def _head_and_bars(words: Sequence[str]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """What stands before the first bar (without SONG_START), then each bar's words, SONG_END left out."""
    head, bars = cut_bars([word for word in words if word not in ("SONG_START", "SONG_END")])
    return head, [bar.words for bar in bars]


def _continuing(request: PieceRequest, said: Controls, seed: int, words: Sequence[str]) -> Order:
    head, bars = _head_and_bars(words)
    keep = (request.continue_.from_bar if request.continue_ else None) or len(bars)
    if keep > len(bars):
        raise InputError(f"continue.from_bar {keep}: the music has only {len(bars)} bars")
    more = request.bars or said.bars or USUAL_MORE_BARS
    if keep + more > MOST_BARS:
        raise InputError(
            f"bars {more}: with the {keep} that are kept more than {MOST_BARS}, the most there can be; "
            f"keep fewer (continue.from_bar)"
        )
    kept = _balanced([*head, *(word for bar in bars[:keep] for word in bar)])
    return _among(request, said, seed, tuple(kept), (), keep + more)


def _refilling(request: PieceRequest, said: Controls, seed: int, words: Sequence[str]) -> Order:
    head, bars = _head_and_bars(words)
    wanted = request.refill
    assert wanted is not None  # noqa: S101  # the caller has looked
    if wanted.last_bar > len(bars):
        raise InputError(f"refill.last_bar {wanted.last_bar}: the piece has only {len(bars)} bars")
    _within_limit(len(bars))
    before = [*head, *(word for bar in bars[: wanted.first_bar - 1] for word in bar)]
    gone = [word for bar in bars[wanted.first_bar - 1 : wanted.last_bar] for word in bar]
    after = _restated(gone, [word for bar in bars[wanted.last_bar :] for word in bar])
    return _among(request, said, seed, tuple(_balanced(before)), tuple(_balanced(after)), len(bars))


def _restated(gone: Sequence[str], after: Sequence[str]) -> list[str]:
    """Bars that follow those that go, beginning with the metre, key and tempo that those had brought."""
    if not after:
        return []
    body = next((at for at, word in enumerate(after) if at and not _opens_bar(word)), len(after))
    opening, rest = list(after[:body]), list(after[body:])
    if not any(word in METRE_OF for word in opening):
        opening[1:1] = [word for word in gone if word in METRE_OF][-1:]
    here = rest[1:] if rest[:1] == ["BEAT_0"] else rest
    begins, told = list[str](), 0
    for table in (KEY_OF, TEMPO_OF):
        if told < len(here) and here[told] in table:
            begins.append(here[told])
            told += 1
        else:
            begins += [word for word in gone if word in table][-1:]
    return [*opening, *rest] if len(begins) == told else [*opening, "BEAT_0", *begins, *here[told:]]


def _opens_bar(word: str) -> bool:
    return word != "BAR_START" and KIND_OF[word][0] in BEFORE_BEAT


def _balanced(words: Sequence[str]) -> list[str]:
    """Without repeats where a cut has parted a beginning from its end."""
    starts, ends = words.count("REPEAT_START"), words.count("REPEAT_END")
    return list(words) if starts == ends else [word for word in words if not word.startswith("REPEAT_")]


def _among(
    request: PieceRequest, said: Controls, seed: int, head: tuple[str, ...], after: tuple[str, ...], bars: int
) -> Order:
    """An order for bars beside others, in the metre that holds there."""
    metre = next((METRE_OF[word] for word in reversed(head) if word in METRE_OF), USUAL_METRE)
    key = next((Key(0, *KEY_OF[word]) for word in reversed(head) if word in KEY_OF), None)
    tempo = next((TEMPO_OF[word] for word in reversed(head) if word in TEMPO_OF), None)
    first = head.count("BAR_START")
    new = bars - first - after.count("BAR_START")
    progression = _progression(request, said)
    merged = Controls(request.style or said.style, key, tempo, metre, bars, said.chords, said.mood)
    return Order(
        *_prompts(request, said, merged, progression), head, bars, seed, after, key,
        spread_chords(progression, new, _bar_ticks(metre), first), (),
        _density(request.density, _bar_ticks(metre)), request.temperature, request.top_p,
        _understood(request, merged, progression, seed),
    )  # fmt: skip


# --- words for the model and for people


def _prompts(request: PieceRequest, said: Controls, merged: Controls, progression: Progression) -> tuple[str, str]:
    phrase = phrased(merged, progression)
    return _prompt_for_model(request, said, merged, phrase), phrase


def _prompt_for_model(request: PieceRequest, said: Controls, merged: Controls, phrase: str) -> str:
    """The prompt itself where controls add nothing to it; with them added where they do; and as training prompts are
    worded where there is none or where a control contradicts it."""
    if not request.prompt:
        return phrase
    pairs = [(getattr(said, name), getattr(merged, name)) for name in ("style", "key", "tempo", "metre", "bars")]
    if any(own is not None and own != other for own, other in pairs):
        return phrase
    added = request.model_fields_set & {"style", "key", "tempo", "metre", "chords"}
    whole = f"{request.prompt}: {phrase}" if added else request.prompt
    return whole if len(whole) <= LONGEST_PROMPT else phrase


def phrased(controls: Controls, progression: Progression = ()) -> str:
    """The training wording that says most of what is asked, filled in."""
    values: dict[str, Any] = {"style": spoken(controls.style or "gospel"), "bars": controls.bars}
    if controls.key is not None:
        values["key"] = key_name(controls.key)
    if controls.tempo is not None:
        values["tempo"] = tempo_text(controls.tempo, "{}/{}".format(*(controls.metre or USUAL_METRE)))
    if controls.metre is not None:
        values["metre"] = f"{controls.metre[0]}/{controls.metre[1]}"
    if controls.mood is not None:
        values["mood"] = controls.mood
    names = [written(chord.symbol) for bar in progression for chord in bar]
    if len(names) >= 2:
        values["chords"] = " ".join(names[:4])
    usable = [wording for wording in WORDINGS if fields_of(wording) <= values.keys()]
    fullest = max(usable, key=lambda wording: len(fields_of(wording)), default="Generate {bars} bars of {style}")
    return fullest.format(**values)


def _understood(request: PieceRequest, merged: Controls, progression: Progression, seed: int) -> dict[str, Any]:
    """The request as JSON says it, with what was read from the prompt."""
    told: dict[str, Any] = {
        "prompt": request.prompt or None,
        "style": merged.style,
        "key": key_name(merged.key) if merged.key is not None else None,
        "tempo": nearest_tempo(merged.tempo) if merged.tempo is not None else None,
        "metre": f"{merged.metre[0]}/{merged.metre[1]}" if merged.metre is not None else None,
        "bars": merged.bars,
        "seed": seed,
        "density": request.density,
        "chords": " | ".join(" ".join(written(chord.symbol) for chord in bar) for bar in progression) or None,
        "temperature": request.temperature,
        "top_p": request.top_p,
    }
    if request.refill is not None:
        told["refill"] = {"first_bar": request.refill.first_bar, "last_bar": request.refill.last_bar}
    return {name: value for name, value in told.items() if value is not None}
