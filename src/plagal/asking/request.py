"""Everything that a piece can be asked for, in one frozen value: the same for terminal, chat, HTTP, page and programs.

A request is complete when it is made: what the prompt says fills what is not given otherwise, a melody brings its key
and metre, music to go on from brings its words. The writer (`plagal.compose`) takes it as it is; so does the arranger,
without a model (`arranged`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema

from plagal.asking.fields import (
    LONGEST_PROMPT,
    STRICT,
    ChordsField,
    Continue,
    FormField,
    Heard,
    KeyField,
    MelodyField,
    MetreField,
    Refill,
    SectionsField,
    Vary,
    heard_as,
    read_melody,
    read_metre,
    take_from_melody,
)  # fmt: skip
from plagal.asking.lexicon import STYLE_NAMES, arranger_style, style_named
from plagal.asking.progression import approximated
from plagal.asking.prompt import SAID, Understood, read_prompt
from plagal.music.arranger.arrange import arrange
from plagal.music.arranger.styles import load_style
from plagal.music.arranger.tunebook import find_tune, melody_of
from plagal.music.keys import chord_symbol, key_name
from plagal.music.levels import LEVELS, simplified
from plagal.music.score import TICKS_PER_QUARTER, Key, Metre, Score
from plagal.plumbing.errors import InputError
from plagal.tokens.grammar import cut_bars, held_words
from plagal.tokens.vocabulary import DENSITIES, KEY_OF, METRE_OF, MOST_BARS, TEMPO_OF

USUAL_BARS = 16
"""Where neither prompt nor option says: four phrases of four bars."""
USUAL_MORE_BARS = 8
"""To go on with, where no number is given."""
USUAL_METRE = (4, 4)
STYLES = STYLE_NAMES
MOST_NOTES_A_BAR = 64
MOST_TRIES = 3

FindWords = Callable[[str], Sequence[str]]
"""The words of a piece that is done, by its id; raises InputError where there is none."""
FindRequest = Callable[[str], "Request"]


class Request(BaseModel):
    """What a piece is asked for. What stays None is left to the model.

    `key`, `metre`, `chords` may be given as text; `tempo` counts `beat`s a minute; `tries`: a whole piece that is
    asked for in a key and does not sound in it is written again, so many times in all (a stream is written once).
    """

    model_config = STRICT | ConfigDict(json_schema_extra={"examples": [
        {"prompt": "slow worship ballad in Db", "bars": 8, "seed": 1},
        {"style": "gospel_jazz", "key": "Bb", "tempo": 120, "chords": "Bbmaj9 | Gm9 | Cm9 F13 | Bb6/9", "bars": 8},
        {"melody": {"abc": "K:G\nM:3/4\nL:1/4\nD|G2B|A2G|E2D|"}, "style": "worship"},
    ]})  # fmt: skip
    prompt: str = Field("", max_length=LONGEST_PROMPT, description="What to play, in plain words.")
    style: str | None = Field(None, max_length=40, description=f"One of {', '.join(STYLES)}.")
    key: KeyField | None = Field(None, description="As in Db, Bbm or F# minor.")
    tempo: float | None = Field(None, ge=20, le=300, description="Beats a minute.")
    beat: Literal["quarter", "dotted quarter"] | None = Field(
        None, description="What the tempo counts; where not given, dotted quarters in 6/8, 9/8 and 12/8, else quarters."
    )
    metre: MetreField | None = Field(None, description="As in 4/4 or 12/8.")
    bars: int | None = Field(None, ge=1, le=MOST_BARS, description="Bars to write, those of `continue` not counted.")
    seed: int = Field(0, ge=0, lt=2**63, description="Same request and seed, same piece.")
    density: Literal["sparse", "medium", "dense"] | Annotated[float, Field(ge=1, le=MOST_NOTES_A_BAR)] | None = Field(
        None, description="Or notes a bar."
    )
    level: Literal["beginner", "easy", "intermediate", "advanced"] | None = Field(
        None, description="How difficult to play: what a hand spans and holds, rhythms, hand position, tempo."
    )
    bent: SkipJsonSchema[tuple[str, ...]] = ()
    """What was asked for and is played otherwise: a tempo beyond the level's, the mode that a melody has not."""
    chords: ChordsField = Field((), description='As in "Dbmaj9 | Gb13 | Ab13sus Ab7"; repeats to the end.')
    chords_nearly: SkipJsonSchema[tuple[str, ...]] = ()
    """What in `chords` the vocabulary has only nearly, worked out where they are given as text."""
    melody: MelodyField | None = None
    feel: Literal["straight", "swing", "shuffle", "12/8", "half-time"] | None = Field(
        None, description="How eighths fall; 12/8 is the metre, too."
    )
    intro: FormField | None = Field(None, description="none, turnaround, walk-up, or degrees such as 3-6-2-5.")
    ending: FormField | None = Field(None, description="none, amen, tag, backdoor, or degrees such as 7-3-6-2-5-1.")
    modulate: int | None = Field(None, ge=0, le=11, description="Semitones up before the last verse.")
    sections: SectionsField = Field((), description='For the arranger, as in "intro, verse:2, vamp:8, outro".')
    tune: str | None = Field(None, max_length=80, description="A tune of the book, by name or title, to harmonise.")
    continue_: Continue | None = Field(None, alias="continue")
    refill: Refill | None = None
    vary: Vary | None = None
    writer: Literal["model", "arranger", "best"] | None = Field(
        None,
        description="Who writes: the model where nothing is said; the arranger, by rules and at once; or both, and the "
        "likelier piece is offered.",
    )
    temperature: float = Field(0.9, ge=0, le=2)
    top_p: float = Field(0.9, gt=0, le=1)
    tries: int = Field(MOST_TRIES, ge=1, le=MOST_TRIES)

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, Mapping):
            return data
        context = info.context or {}
        given = {("continue_" if key == "continue" else key): value for key, value in data.items() if value is not None}
        asks = given.keys() if given.get("prompt") else given.keys() - {"prompt"}
        if not asks - {"seed", "temperature", "top_p", "bars", "tries", "writer"}:
            raise ValueError('nothing is asked for: give a prompt such as "slow worship ballad in Db", or a control')
        if "vary" in given:
            raise ValueError("vary needs the request of the piece that it varies")
        _refuse_contradictions(given)
        given["bent"] = ()
        given.setdefault("seed", context.get("seed", 0))
        given.setdefault("tries", context.get("tries", MOST_TRIES))

        if isinstance(chords := given.get("chords"), str) and len(chords) <= LONGEST_PROMPT:
            given["chords_nearly"] = approximated(chords)

        # What the prompt says fills what is not given.
        prompt = given.get("prompt", "")
        said = _said(prompt) if isinstance(prompt, str) and len(prompt) <= LONGEST_PROMPT else Understood()
        if said.problems:
            raise ValueError("; ".join(said.problems))
        among = "continue_" in given or "refill" in given
        names = (
            {"style", "chords", "feel", "level", *(["bars"] if "continue_" in given else [])} if among else set(SAID)
        )
        names = names - {"beat"} if "tempo" in given else names
        names = names - {"tune"} if "melody" in given else names  # what is given is played, not the tune that is named
        given = {name: value for name, value in said.fields.items() if name in names} | given

        if given.get("feel") == "12/8" and given.setdefault("metre", "12/8") not in ("12/8", (12, 8)):
            raise ValueError("feel 12/8 is a metre of its own; leave metre out")

        # What a melody, or a tune of the book, brings: its metre always, key and tempo where they are not asked.
        if isinstance(given.get("tune"), str):
            given["melody"] = melody_of(find_tune(given["tune"]))
        if "melody" in given:
            tune = given["melody"] = read_melody(given["melody"])
            if isinstance(tune, Score):
                take_from_melody(tune, given)
        if given.get("level") in tuple(LEVELS):
            _slow_down(given)
        if ({"intro", "ending"} & given.keys()) and "key" not in given and not among:  # its chords need one
            keys = load_style(arranger_style(given.get("style"))).major_keys
            given["key"] = keys[given["seed"] % len(keys) if isinstance(given["seed"], int) else 0]
        return given

    @field_validator("prompt")
    @classmethod
    def _plain_text(cls, text: str) -> str:
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise ValueError("half of a character (a lone surrogate); send whole UTF-8 text")
        if "<|" in text:
            raise ValueError('holds "<|", which marks turns of the chat; leave it out')
        return _plain(text)

    @field_validator("style")
    @classmethod
    def _known_style(cls, style: str | None) -> str | None:
        if style is None or not style.strip():
            return None
        name = style if style in STYLES else style_named(style)
        if name is None:
            raise ValueError(f"not a known style; choose one of {', '.join(STYLES)}")
        return name

    @model_validator(mode="after")
    def _can_be_written(self) -> Request:
        if self.continue_ is not None and self.kept_bars + self.new_bars > MOST_BARS:
            more = f"with the {self.kept_bars} that stay, more than {MOST_BARS}; keep fewer (continue.from_bar)"
            raise ValueError(f"bars {self.new_bars}: {more}")
        if self.melody is not None and self.new_bars > MOST_BARS:
            raise ValueError(f"the melody has {self.new_bars} bars; at most {MOST_BARS} can be written at once")
        if self.writer in ("arranger", "best") and isinstance(self.density, float | int):
            takes = f"the arranger takes {', '.join(DENSITIES)}, not a number of notes; choose one, or ask the model"
            raise ValueError(f"density {self.density:g}: {takes}")
        return self

    # --- what follows from it

    @cached_property
    def said(self) -> Understood:
        """What the prompt alone says."""
        return _said(self.prompt)

    @property
    def not_understood(self) -> tuple[str, ...]:
        """Parts of the prompt that nothing was made of, chords that are played as the nearest there is, and what only
        the arranger does."""
        return self.said.not_understood + self.chords_nearly + self.bent + self._beyond_the_model

    @property
    def _beyond_the_model(self) -> tuple[str, ...]:
        if self.writer == "arranger":
            return ()
        way = {1: "a half step", 2: "a whole step"}.get(self.modulate or 0, f"{self.modulate} semitones")
        inside = self.refill is not None or self.continue_ is not None or self.melody is not None
        parts = (
            self.modulate and f"modulate up {way}",
            self.sections and f"sections {', '.join(self.sections)}",
            self.feel == "half-time" and "half-time feel",
            self.intro not in (None, "none") and (inside or self.intro == "last-line") and f"intro {self.intro}",
            self.ending not in (None, "none") and inside and f"ending {self.ending}",
        )
        return tuple(f"{part} (the arranger does it)" for part in parts if part)

    @property
    def heard(self) -> Heard | None:
        """What the music that came with it was heard as, where that was played to no grid."""
        source = self.refill or self.continue_
        if source is not None:
            return source.heard
        return heard_as(self.melody) if self.melody is not None else None

    @property
    def kept_bars(self) -> int:
        """Bars before those to be written."""
        if self.refill is not None:
            return self.refill.first_bar - 1
        if self.continue_ is not None:
            return self.continue_.from_bar or self.continue_.words.count("BAR_START")
        return 0

    @property
    def new_bars(self) -> int:
        """Bars to be written."""
        if self.refill is not None:
            return self.refill.last_bar - self.refill.first_bar + 1
        if self.continue_ is not None:
            return self.bars or USUAL_MORE_BARS
        return self.bars or USUAL_BARS

    @cached_property
    def held(self) -> dict[str, str]:
        """The KEY_, TIMESIG_ and TEMPO_ words that hold where writing begins in music that is there."""
        source = self.refill or self.continue_
        if source is None:
            return {}
        head, bars = cut_bars(source.words)
        return held_words([*head, *(word for bar in bars[: self.kept_bars] for word in bar.words)])

    @cached_property
    def key_in_force(self) -> Key | None:
        """The key asked for, or that of the music that is kept."""
        return Key(0, *KEY_OF[self.held["KEY_"]]) if "KEY_" in self.held else self.key

    @cached_property
    def metre_in_force(self) -> tuple[int, int]:
        return METRE_OF[self.held["TIMESIG_"]] if "TIMESIG_" in self.held else self.metre or USUAL_METRE

    @property
    def beat_quarters(self) -> float:
        """Length of the tempo's beat [quarters]."""
        counted = self.beat or ("dotted quarter" if Metre(0, *self.metre_in_force).is_compound else "quarter")
        return 1.5 if counted == "dotted quarter" else 1.0

    @cached_property
    def quarters_per_minute(self) -> float | None:
        """The tempo in force, as words tell it; None where it is left to the model."""
        if "TEMPO_" in self.held:
            return TEMPO_OF[self.held["TEMPO_"]]
        return None if self.tempo is None else self.tempo * self.beat_quarters

    @property
    def tempo_in_force(self) -> float | None:
        """Beats a minute, of the request or of the music that is kept; None where it is left to the model."""
        quarters = self.quarters_per_minute
        return None if quarters is None else round(quarters / self.beat_quarters, 1)

    def again(self, seed: int) -> Request:
        """The same with another seed."""
        return self.model_copy(update={"seed": seed})

    def changed(self, **changes: Any) -> Request:
        """The same but for some fields, written as in JSON. Raises InputError."""
        # What follows from another field is not carried over: it follows again.
        follows = {
            "bent",
            *(["melody"] if self.tune is not None else []),
            *(["chords_nearly"] if "chords" in changes else []),
        }
        return read_request({name: getattr(self, name) for name in self.model_fields_set - follows} | changes)

    def understood(self) -> dict[str, Any]:
        """What the music is to be, as people write it; what is left open is left out."""
        metre = self.metre
        bars = [" ".join(chord_symbol(chord, self.key) for chord in bar) for bar in self.chords]
        values: dict[str, Any] = {
            "style": self.style,
            "key": key_name(self.key) if self.key is not None else None,
            "tempo": self.tempo,
            "beat": ("dotted quarter" if self.beat_quarters == 1.5 else "quarter") if self.tempo else None,
            "metre": f"{metre[0]}/{metre[1]}" if metre is not None else None,
            "bars": self.bars,
            "chords": " | ".join(bar or "N.C." for bar in bars) or None,
            "feel": self.feel,
            "intro": self.intro,
            "ending": self.ending,
            "modulate": self.modulate,
            "sections": ", ".join(self.sections) or None,
            "tune": self.tune,
            "mood": self.said.mood,
            "density": self.density,
            "level": self.level,
        }
        return {name: value for name, value in values.items() if value is not None}

    @property
    def summary(self) -> str:
        """One line for people: "understood: worship, Db major, ♩ = 66, 16 bars; not understood: tritone subs"."""
        values = self.understood()
        note = "♩." if values.pop("beat", "") == "dotted quarter" else "♩"
        in_words = {"bars": "{} bars", "intro": "intro {}", "ending": "ending {}", "tempo": f"{note} = {{:g}}",
                    "modulate": "up by {} before the last verse"}  # fmt: skip
        parts = [in_words.get(name, "{}").format(value).replace("_", " ") for name, value in values.items()]
        line = f"understood: {', '.join(parts) or 'nothing in particular'}"
        return line + (f"; not understood: {', '.join(self.not_understood)}" if self.not_understood else "")

    def as_json(self) -> dict[str, Any]:
        """The request as it may be sent again, but for music that it holds."""
        values: dict[str, Any] = {"prompt": self.prompt} if self.prompt else {}
        values |= {name: value for name, value in self.understood().items() if name != "mood"}
        values |= {"seed": self.seed, "temperature": self.temperature, "top_p": self.top_p, "tries": self.tries}
        if self.writer is not None:
            values["writer"] = self.writer
        if self.refill is not None:
            values["refill"] = {"first_bar": self.refill.first_bar, "last_bar": self.refill.last_bar}
        return values


def _plain(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


@lru_cache(maxsize=256)
def _said(prompt: str) -> Understood:
    return read_prompt(_plain(prompt))


def _slow_down(given: dict[str, Any]) -> None:
    """A tempo beyond the level's becomes the level's fastest, and that is said."""
    asked, tempo = read_metre(given.get("metre")), given.get("tempo")
    metre = Metre(0, *(asked if isinstance(asked, tuple) and len(asked) == 2 else USUAL_METRE))
    own = metre.tempo_beat_ticks / TICKS_PER_QUARTER
    counted = {"quarter": 1.0, "dotted quarter": 1.5}.get(str(given.get("beat")), own)
    fastest = LEVELS[given["level"]].fastest * own / counted
    if isinstance(tempo, int | float) and tempo > fastest:
        slowed = f"tempo {tempo:g} (level {given['level']}: {fastest:g} at most)"
        given |= {"tempo": fastest, "bent": (*given["bent"], slowed)}


def _refuse_contradictions(given: Mapping[str, Any]) -> None:
    sources = [name for name in ("continue_", "refill", "melody", "tune") if name in given]
    if len(sources) > 1:
        names = " and ".join(name.rstrip("_") for name in sources)
        raise ValueError(f"{names} exclude each other; give one of them")
    if given.get("writer") in ("arranger", "best") and (among := sorted(given.keys() & {"continue_", "refill"})):
        raise ValueError(
            f"writer {given['writer']}: the arranger writes whole pieces; leave writer out to {among[0].rstrip('_')}"
        )
    if "refill" in given and (others := sorted(given.keys() & {"key", "tempo", "metre", "bars"})):
        raise ValueError(f"refill keeps the piece's key, tempo, metre and bars; leave out {', '.join(others)}")
    if "continue_" in given and (others := sorted(given.keys() & {"key", "tempo", "metre"})):
        raise ValueError(f"continue goes on in the music's key, tempo and metre; leave out {', '.join(others)}")


# --- doors


def read_request(
    values: Mapping[str, Any], name: str = "", *, find: FindWords | None = None,
    find_request: FindRequest | None = None, seed: int = 0, tries: int = MOST_TRIES,
) -> Request:  # fmt: skip
    """A request from JSON-like values, complete. `find`, `find_request`: where pieces are known by their
    ids; `seed`, `tries`: where none is given. Raises InputError of one line: the key, its value, what is allowed."""
    context = {"find": find, "find_request": find_request, "seed": seed, "tries": tries}
    try:
        if find_request is not None and values.get("vary") is not None:
            if others := sorted(name for name in values.keys() - {"vary", "seed"} if values[name] is not None):
                raise InputError(f"vary repeats a whole request; leave out {', '.join(others)}")
            again = values.get("seed")
            source = find_request(Vary.model_validate(values["vary"]).piece)
            return source.changed(seed=seed if again is None else again)
        return Request.model_validate(dict(values), context=context)
    except (ValidationError, InputError) as error:
        line = one_line(error.errors()) if isinstance(error, ValidationError) else str(error)
        raise InputError(f"{name}: {line}" if name else line) from None


def read_request_file(path: str | Path) -> dict[str, Any]:
    """The object in a JSON file. Raises InputError."""
    from plagal.plumbing.files import read_json

    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f'{path} holds no JSON object, such as {{"prompt": "slow worship ballad in Db"}}')
    return value


def one_line(errors: Any) -> str:
    """The first of pydantic's errors as "key value: what is wrong"."""
    error = errors[0]
    place = [str(part) for part in error["loc"] if part not in ("body", "float", "continue_")]
    place = [part for part in place if not part.startswith(("literal", "constrained", "function"))]
    what = str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "should be")
    if error["type"] == "extra_forbidden":
        fields = Request.model_fields.items()
        allowed = ", ".join(field.alias or name for name, field in fields if name not in ("chords_nearly", "bent"))
        known = f"; allowed are {allowed}" if len(place) == 1 else ""
        return f"{'.'.join(place)} is not a known key{known}"
    if place and place[0] == "density":
        what = f"allowed are {', '.join(DENSITIES)} or a number of notes a bar from 1 to {MOST_NOTES_A_BAR}"
    given = error.get("input")
    shown = f" {_shown(given)}" if isinstance(given, str | int | float) else ""
    return f"{'.'.join(place)}{shown}: {what}" if place else what


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= 60 else f"{text[:60]}... ({len(text)} characters)"


_INTENSITIES = {"sparse": 1, "medium": 2, "dense": 3}
"""The arranger's intensities that a density means; 4 is the shout chorus, which no request asks for."""


def arranged(request: Request) -> Score:
    """The arranger's answer to a request: its tune or melody, chords, key, metre, tempo, feel, form and seed, in its
    style, as easy as its level. Raises InputError for what the arranger cannot do."""
    beat = Metre(0, *request.metre).tempo_beat_ticks if request.metre is not None else None
    quarters = request.quarters_per_minute
    score = arrange(
        request.tune or request.melody,
        arranger_style(request.style),
        request.key,
        # Where no metre is asked for, the arranger chooses one, and the tempo counts that one's beats.
        request.tempo if beat is None or quarters is None else quarters * TICKS_PER_QUARTER / beat,
        request.seed,
        request.bars if request.sections else request.new_bars,  # sections have bars of their own
        chords=request.chords or None,
        metre=request.metre,
        feel=request.feel,
        sections=request.sections or None,
        intro=request.intro,
        ending=request.ending,
        modulate=request.modulate or 0,
        intensity=_INTENSITIES[request.density] if isinstance(request.density, str) else None,
    )
    return score if request.level is None else simplified(score, request.level)


def generate_melody(
    prompt_or_style: str, key: str | None = None, tempo: float | None = None, bars: int | None = None, seed: int = 0
) -> Score:
    """A piece in the style that a prompt names, about the tune that it names or one that the seed picks. `tempo` counts
    beats. Arguments win over the prompt; where neither says, the style and the seed decide."""
    said = read_prompt(prompt_or_style.replace("_", " "))
    return arrange(
        said.tune, arranger_style(said.style), key or said.key, tempo or said.tempo, seed, bars or said.bars,
        metre=said.metre,
    )  # fmt: skip
