"""params.yaml as frozen models: one key for each stage, plus `seed` and `model`. An unknown key is an error. Profiles
are overlays on it, one file each in profiles/; comments in params.yaml stay."""

from __future__ import annotations

import difflib
import io
from collections.abc import MutableMapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from plagal.plumbing.errors import ParamsError
from plagal.plumbing.files import parse_yaml, write_text

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class EmbeddedShape(Settings):
    """The Qwen2-shaped model that the project makes itself when it has no other base."""

    hidden_size: Positive
    layers: Positive
    heads: Positive
    kv_heads: Positive
    intermediate_size: Positive

    @model_validator(mode="after")
    def heads_divide(self) -> EmbeddedShape:
        if self.hidden_size % self.heads or self.heads % self.kv_heads:
            raise ValueError("hidden_size must be a multiple of heads, and heads of kv_heads")
        return self


class ModelSettings(Settings):
    base: str = Field(min_length=1)
    """"embedded", a folder, or a name on a hub."""
    encoding: Literal["event", "text"]
    embedded: EmbeddedShape


class CollectSettings(Settings):
    sources: str
    """YAML file that lists the sources."""
    target_files: Positive
    quotas: dict[str, Count]
    """Genre -> pieces wanted."""
    fill_from_arranger: dict[str, Count]
    """Genre -> at most this many synthetic pieces where real ones are short."""
    fill_from_surplus: bool
    """Whether real pieces beyond their genre's quota, or of a genre without one, may make up the total."""
    commercial_use_only: bool
    """Leave out everything whose licence forbids commercial use."""
    min_notes: Positive
    max_notes: Positive
    min_bars: Positive
    max_bars: Positive
    min_confidence: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """How sure beats and bars of a playing must be (the chance that they are right); below, it is left out."""


class TextSettings(Settings):
    """How one stage's pieces become training text. Validation and test text are never augmented."""

    copies: Positive
    """Copies of each training piece, each augmented anew."""
    keep_original: bool
    """Whether the first copy is the piece as it is."""
    excerpts: Count
    """Excerpts of each training piece, each of a copy augmented anew: short pieces that end are learned, too."""
    excerpt_bars: tuple[Positive, ...] = Field(min_length=1, strict=False)
    """Lengths to draw from; a piece gives none that is as long as itself."""
    transpose_semitones: Count
    tempo_percent: Annotated[float, Field(ge=0, le=50)]
    revoice_share: Share
    """Share of the copies whose chords are voiced anew."""
    arrange_anew: bool = False
    """Whether each copy and excerpt of an arranger's piece is cut from a new arrangement of its tune in its style."""
    live_share: Share = 0.0
    """Share of the copies that are played off the grid, as hands do."""


class SplitSettings(Settings):
    valid_percent: Annotated[int, Field(ge=1, le=40)]
    test_percent: Annotated[int, Field(ge=1, le=40)]


class ConvertSettings(Settings):
    chords: bool
    """Whether chords heard are written as words."""
    split: SplitSettings
    stage1: TextSettings
    stage2: TextSettings


class LoraSettings(Settings):
    rank: Positive
    alpha: Annotated[float, Field(gt=0)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    layers: Positive
    """The last this many layers."""
    projections: tuple[str, ...] = Field(min_length=1, strict=False)


class TrainSettings(Settings):
    mode: Literal["full", "lora"]
    lora: LoraSettings
    steps: Positive
    batch: Positive
    accumulation: Positive
    max_tokens: Annotated[int, Field(ge=64)]
    learning_rate: Annotated[float, Field(gt=0, lt=1)]
    muon_learning_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of Muon, which then trains the matrices of the blocks; 0 leaves them to AdamW, too."""
    warmup_steps: Count
    final_learning_rate_share: Share
    """The cosine ends at this share of the learning rate."""
    weight_decay: Annotated[float, Field(ge=0, lt=1)]
    clip_norm: Annotated[float, Field(gt=0)]
    gradient_checkpointing: bool
    save_every: Positive
    evaluate_every: Positive
    patience: Count
    """Evaluations without a better loss before stopping early; 0 never stops early."""
    keep_newest: Positive


class GospelTrainSettings(TrainSettings):
    @field_validator("mode")
    @classmethod
    def leaves_something_to_fuse(cls, mode: str) -> str:
        if mode != "lora":  # said now, not by `fuse` hours later
            raise ValueError("stage 2 trains adapters, which `fuse` merges into stage 1's model; write mode: lora")
        return mode


class FuseSettings(Settings):
    quantize_bits: Literal[0, 4, 8]
    """0 keeps the base's own precision."""
    max_lost_share: Share
    """Share of what training gained that quantizing again may cost."""
    draft: str = ""
    """Folder of a small model with a token for each music word, which goes into the fused folder and guesses ahead."""


class EvaluateSettings(Settings):
    max_pieces: Positive
    """Held-out pieces scored per split; which, is drawn by seed, spread over tunes."""
    generated: Positive
    samples: Positive
    bars: Positive
    temperature: Annotated[float, Field(gt=0, le=2)]
    top_p: Annotated[float, Field(gt=0, le=1)]
    max_words: Positive
    ngram_orders: tuple[int, ...] = Field(min_length=1, strict=False)


class Params(Settings):
    seed: Count
    model: ModelSettings
    collect_stage1: CollectSettings
    collect_stage2: CollectSettings
    convert: ConvertSettings
    train_stage1: TrainSettings
    train_stage2: GospelTrainSettings
    fuse: FuseSettings
    evaluate: EvaluateSettings


def _first_problem(error: ValidationError) -> str:
    # A misspelt key is unknown and leaves another missing: naming the misspelt one helps more.
    problem = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{key} is not a known key; remove it or correct its spelling"
    if problem["type"] == "missing":
        return f"{key} is missing; `git diff params.yaml` shows what was there"
    given = problem["input"]
    # Anything else may be a list of lists of lists that was written in one line, and fill the memory.
    shown = f" is {given!r}:" if isinstance(given, str | int | float | None) else ""
    return f"{key}{shown} {problem['msg'].removeprefix('Value error, ')}"


def check_params(text: str, name: str) -> Params:
    """Params from YAML text. Raises ParamsError: `name`, the key, the value, and what would be right."""
    raw = parse_yaml(text, name, ParamsError)
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise ParamsError(f"{name}: {_first_problem(error)}") from None


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check params.yaml. Raises ParamsError as `check_params` does."""
    return check_params(_text_of(Path(path)), str(path))


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ParamsError(f"{path} is missing; run from the project's folder") from None
    except UnicodeDecodeError:
        raise ParamsError(f"{path} is not UTF-8 text") from None


def _lay_over(below: MutableMapping[str, Any], above: MutableMapping[str, Any]) -> None:
    for key, value in above.items():
        if isinstance(value, MutableMapping) and isinstance(below.get(key), MutableMapping):
            _lay_over(below[key], value)
        else:
            below[key] = value


def profile_path(name: str, folder: Path = Path("profiles")) -> Path:
    """The file of a profile. Raises ParamsError that lists the profiles there are."""
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise ParamsError(f"{folder}/ has no profile {name!r}; choose one of {', '.join(known) or 'none'}")
    return folder / f"{name}.yaml"


def apply_profile(overlay: Path, params: Path = Path("params.yaml")) -> str:
    """Lay an overlay over params.yaml, check the result, write it, and return the difference as a unified diff ("" for
    none). Raises ParamsError; then params.yaml is as it was."""
    before, after = _text_of(params), with_profile(overlay, params)
    check_params(after, f"{params} with {overlay}")
    write_text(params, after)
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), str(params), overlay.stem, lineterm="", n=0)
    return "\n".join(lines)


def with_profile(overlay: Path, params: Path = Path("params.yaml")) -> str:
    """The text of params.yaml with an overlay laid over it. Raises ParamsError."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML()  # round trip: keeps comments, order and quotes, and constructs plain data only
    yaml.preserve_quotes, yaml.width = True, 120
    documents = []
    try:
        for text, file in ((_text_of(params), params), (_text_of(overlay), overlay)):
            parse_yaml(text, str(file), ParamsError)  # refuses what would cost the other reader too much
            value = yaml.load(text)
            if not isinstance(value, MutableMapping | None):
                raise ParamsError(f"{file} holds no keys; write them like seed: 7")
            documents.append(value or {})
        merged, laid = documents
        _lay_over(merged, laid)
        written = io.StringIO()
        yaml.dump(merged, written)
        return written.getvalue()
    except (YAMLError, ValueError, RecursionError) as error:
        raise ParamsError(f"{overlay} or {params} is not YAML: {' '.join(str(error).split())}") from None
