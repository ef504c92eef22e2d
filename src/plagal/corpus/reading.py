"""One candidate read, judged and written as words: the work that runs in parallel.

Nothing here raises for bad input; what can't be used comes back as a Discard with its reason.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from plagal.asking.wording import basic_prompt, facts_of
from plagal.corpus import duplicates
from plagal.corpus.duplicates import heard_melody, intervals, melody_text
from plagal.corpus.sources import Candidate
from plagal.music.grid import bar_lines, last_event, regular
from plagal.music.load import BY_EAR, TO_CLICK, surest_stretch
from plagal.music.notation import read_text
from plagal.music.score import ONSET, PITCH, TICKS_PER_QUARTER, VELOCITY, Score
from plagal.plumbing.errors import PlagalError

GOSPEL_GENRES = ("gospel", "traditional_gospel", "contemporary_gospel", "gospel_jazz", "worship", "spiritual")
_FORBIDS_COMMERCIAL = ("non-commercial", "noncommercial", "-nc", "all rights reserved")

SURE, STRETCH_BARS = 0.8, 16
"""A playing whose beats are less sure than this gives its surest bars alone, at least so many."""

USUAL_VELOCITY = 80
"""VEL MF."""


@dataclass(frozen=True, slots=True)
class Discard:
    candidate: Candidate
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """A row of pieces.jsonl (without its tune group), and what is compared between pieces."""

    candidate: Candidate
    row: dict[str, Any]
    digest: str
    texture: duplicates.Signature
    losses: dict[str, float]
    """What reading its file left out or bent, by name (`Score.losses`)."""


def read_candidate(candidate: Candidate, limits: Limits, commercial_use_only: bool = False) -> Piece | Discard:
    """Read, judge and write one piece as words."""
    if candidate.problem:
        return Discard(candidate, candidate.problem)
    licence, commercial = _licence(candidate)
    if "all rights reserved" in licence.lower():
        return Discard(candidate, "licence", licence)
    if candidate.must_state and candidate.must_state.lower() not in _rights(Path(candidate.file)).lower():
        return Discard(candidate, "licence", f"does not state {candidate.must_state!r}")
    if commercial_use_only and not commercial:
        return Discard(candidate, "licence", f"{licence}: no commercial use")
    try:
        score = _score(candidate)
        if BY_EAR in score.losses and (confidence := score.losses["played_confidence"]) < SURE:
            # Between doubt and sureness only the surest stretch is fit to learn from.
            doubtful = confidence < limits.min_confidence
            stretch = None if doubtful else surest_stretch(candidate.file, SURE, STRETCH_BARS)
            if stretch is None:
                return Discard(candidate, "no steady beat", f"confidence {confidence:.2f}")
            score = stretch
        if score.losses.get("no_piano_part"):
            if not candidate.reduce:
                told = "no track is a piano; `reduce: true` plays it with two hands"
                return Discard(candidate, "no piano part", told)
            from plagal.music.hands import reduced

            score = reduced(score)
        score = _with_defaults(score, candidate)
        if reason := reason_to_leave_out(score, limits):
            return Discard(candidate, reason)
        return _piece(candidate, score, licence, commercial)
    except PlagalError as error:
        told = str(error).replace(candidate.file, candidate.path) if candidate.file else str(error)
        return Discard(candidate, "unreadable", told)
    except MemoryError:
        return Discard(candidate, "too large")
    except Exception as error:  # a parser's own fault must cost one file, not the run
        return Discard(candidate, "unreadable", f"{type(error).__name__}: {error}"[:200])


def _score(candidate: Candidate) -> Score:
    if candidate.synthetic:
        from plagal.music.arranger.arrange import arrange

        return arrange(candidate.tune, candidate.style, candidate.key or None, seed=candidate.seed)
    file = Path(candidate.file)
    if file.suffix.lower() == ".abc":
        from plagal.music.notation import read_text, score_from_abc, split_tunes

        return score_from_abc(split_tunes(read_text(file))[candidate.part], candidate.path)
    from plagal.music.load import load

    return load(file)


def _with_defaults(score: Score, candidate: Candidate) -> Score:
    """The tempo that its source names where the file has none, and the key heard where it states none."""
    if score.losses.get("tempo_unknown") and candidate.tempo:
        tempo = replace(score.tempos[0], onset=0, quarters_per_minute=candidate.tempo)
        score = replace(score, tempos=(tempo,))
    if not score.keys and len(score.notes):
        from plagal.music.harmony import hear_key

        score = replace(score, keys=(hear_key(score),))
    return level_loudness(regular(score))


def level_loudness(score: Score) -> Score:
    """The same piece with its median velocity at VEL MF: how hot a file was recorded says nothing about the music, and
    a model that has to guess it learns nothing else. What is louder and softer within the piece stays."""
    if not len(score.notes):
        return score
    shift = USUAL_VELOCITY - int(np.median(score.notes[:, VELOCITY]))
    notes = score.notes.copy()
    notes[:, VELOCITY] = np.clip(notes[:, VELOCITY] + shift, 1, 127)
    return replace(score, notes=notes)


def _piece(candidate: Candidate, score: Score, licence: str, commercial: bool) -> Piece:
    from plagal.tokens.codec import encode
    from plagal.tokens.vocabulary import ID_OF

    words = encode(score)
    ids = [ID_OF[word] for word in words]
    facts = facts_of(words, candidate.genre, candidate.style)
    heard = melody_text(intervals(heard_melody(score)))
    path = candidate.path.split("#")[0]  # without the tune's number in an ABC file
    named, melodies = _book()
    tune = candidate.tune or named.get(_plain(score.title)) or named.get(_plain(Path(candidate.path).stem), "")
    metadata = {
        "id": hashlib.sha256(" ".join(words).encode()).hexdigest()[:16],
        "path": candidate.path,
        "sha256": _sha256(candidate, words),
        "source": candidate.source,
        "licence": licence,
        "commercial": commercial,
        "attribution": candidate.attribution,
        "genre": candidate.genre,
        "style": candidate.style,
        "domain": domain_of(candidate.genre, candidate.synthetic),
        "title": score.title or ("" if candidate.synthetic else Path(path).stem.replace("_", " ")),
        "tune": tune,
        "melody": melodies[tune] if tune else heard,
        "heard": heard,
        "key": facts.key,
        "metre": facts.metre,
        "tempo": facts.tempo,
        "bars": facts.bars,
        "notes": len(score.notes),
        "synthetic": candidate.synthetic,
        "played": BY_EAR in score.losses or TO_CLICK in score.losses,
        "confidence": score.losses.get("played_confidence", 1.0),
    }
    row = {"prompt": basic_prompt(candidate.genre, facts.key), "tokens": ids, "metadata": metadata}
    texture = duplicates.signature(duplicates.texture_grams(score))
    return Piece(candidate, row, duplicates.notes_digest(score), texture, score.losses)


def domain_of(genre: str, synthetic: bool) -> str:
    """Under which heading evaluation counts a piece."""
    if genre not in GOSPEL_GENRES:
        return "general"
    return "gospel_synthetic" if synthetic else "gospel_real"


def _sha256(candidate: Candidate, words: list[str]) -> str:
    """Of the file; of the words where there is no file."""
    if not candidate.file:
        return hashlib.sha256(" ".join(words).encode()).hexdigest()
    with Path(candidate.file).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@lru_cache(maxsize=1)
def _book() -> tuple[dict[str, str], dict[str, str]]:
    """Plain name or title -> name; name -> melody."""
    from plagal.music.arranger.tunebook import tune_book

    names: dict[str, str] = {}
    melodies: dict[str, str] = {}
    for tune in tune_book():
        names[_plain(tune.name)] = names[_plain(tune.title)] = tune.name
        melodies[tune.name] = melody_text(intervals([pitch for _, pitch, _ in tune.notes]))
    return names, melodies


def _plain(text: str) -> str:
    return re.sub(r"\W|_", "", text.casefold())


def book_melodies() -> dict[str, str]:
    """Name of each tune in the book -> its melody, as `duplicates.melody_text` writes it."""
    return _book()[1]


def _licence(candidate: Candidate) -> tuple[str, bool]:
    """The source's licence with what the file itself states, and whether both allow commercial use: anybody can write
    a line of rights into a file, so it may forbid what the source allows, and never allow what that forbids."""
    stated = _rights(Path(candidate.file)) if candidate.file else ""
    licence = f"{candidate.licence}; the file says: {stated}" if stated else candidate.licence
    return licence, candidate.commercial and not any(mark in licence.lower() for mark in _FORBIDS_COMMERCIAL)


def _rights(file: Path) -> str:
    """What a MusicXML file says under `rights`, or LilyPond under `copyright` and `license`, in one line; a bare
    "Copyright" says nothing."""
    try:
        if file.suffix.lower() == ".ly":
            stated = re.findall(r'^\s*(?:copyright|licen[sc]e)\s*=\s*"([^"]*)"', read_text(file), re.MULTILINE)
            return "; ".join(dict.fromkeys(stated))[:200]
        text = _xml_head(file)
    except (PlagalError, OSError, zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError):
        return ""
    found = [" ".join(part.split()) for part in re.findall(r"<rights[^>]*>([^<]*)</rights>", text)]
    return "; ".join(part for part in found if len(part) > len("Copyright © "))[:200]


def _xml_head(file: Path) -> str:
    """The first 16 kB of a MusicXML file; nothing of any other."""
    head = b""
    if file.suffix.lower() == ".mxl":
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if "META-INF" not in name and not name.endswith("/")]
            if names:
                with archive.open(names[0]) as handle:
                    head = handle.read(16_384)
    elif file.suffix.lower() in (".xml", ".musicxml"):
        with file.open("rb") as handle:
            head = handle.read(16_384)
    return head.decode("utf-8", "replace")


MIN_GRID_SHARE = 0.6
"""Share of onsets on the eight commonest of the beat's 24 positions below which a piece has no beat grid. Onsets at
random give a third, by chance some more in short pieces; all notation at hand gives 0.93 or more, rolled chords too."""
GRID_POSITIONS = 8
MIN_DISTINCT_PITCHES = 5
MAX_SAME_PITCH_SHARE = 0.5
MAX_NOTES_PER_QUARTER = 24.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Inclusive."""

    min_notes: int
    max_notes: int
    min_bars: int
    max_bars: int
    min_confidence: float = 0.5
    """Of playing that was heard: how sure its beats and bars must be."""


def bar_count(score: Score) -> int:
    """Bars from the start to the one in which the last note begins, as the words count them."""
    return len(bar_lines(score.metres, last_event(score))[0])


def grid_share(score: Score) -> float:
    """Share of onsets on the eight positions within the beat that are commonest in this piece."""
    times = np.bincount(score.notes[:, ONSET] % TICKS_PER_QUARTER, minlength=TICKS_PER_QUARTER)
    return float(np.sort(times)[-GRID_POSITIONS:].sum() / times.sum())


def reason_to_leave_out(score: Score, limits: Limits) -> str | None:
    """Why this regular score is no use for training, in a word or two; None where it is."""
    count = len(score.notes)
    if count == 0:
        return "no piano part"
    if count < limits.min_notes or (bars := bar_count(score)) < limits.min_bars:
        return "too short"
    if count > limits.max_notes or bars > limits.max_bars:
        return "too long"
    if _degenerate(score):
        return "degenerate"
    return "no beat grid" if grid_share(score) < MIN_GRID_SHARE else None


def _degenerate(score: Score) -> bool:
    """A drone, a test tone or a wall of notes."""
    _, times = np.unique(score.notes[:, PITCH], return_counts=True)
    quarters = max(1.0, (int(score.notes[-1, ONSET]) - int(score.notes[0, ONSET])) / TICKS_PER_QUARTER)
    return bool(
        len(times) < MIN_DISTINCT_PITCHES
        or times.max() > MAX_SAME_PITCH_SHARE * len(score.notes)
        or len(score.notes) / quarters > MAX_NOTES_PER_QUARTER
    )
