"""What the two training stages share: the run's own checkpoint folder, the data, the curve, what was seen."""

from __future__ import annotations

import shutil
from pathlib import Path

from plagal.model.adapters import CURVE, base_sha256
from plagal.model.base import LanguageModel
from plagal.model.checkpoint import run_key, sha256_of
from plagal.model.trainer import train
from plagal.plumbing.errors import LockedError, TrainingError
from plagal.plumbing.files import atomic_path, read_jsonl, write_json
from plagal.plumbing.locks import ASKED_TO_END
from plagal.plumbing.params import TrainSettings
from plagal.stages.common import LOGS, METRICS, MODELS, TEXT

CHECKPOINTS = Path(".checkpoints")
"""Outside DVC's outputs, so that a killed run goes on where it was."""
FINISHED = "finished.json"
"""In a run's folder when its model is written: {"stage": ...}. Only a later stage proves that DVC has saved that model;
until then a kill would cost the whole run."""
SAVING_SECONDS = 120.0
"""What an orphan gets for its step and its checkpoint."""
_CODE = ("model", "tokens")
"""Packages whose code decides how a run goes on."""


def train_stage(name: str, lm: LanguageModel, settings: TrainSettings, seed: int) -> None:
    """Train `lm` on data/text/`name` and write models/`name` and the curve. Resumes the run that has the same settings,
    data, base and code; its checkpoints go when a later stage begins."""
    data = TEXT / name
    own = run_key(
        stage=name,
        encoding=lm.encoding,
        settings=settings.model_dump(),
        seed=seed,
        data=[sha256_of(data / f"{split}.jsonl") for split in ("train", "valid")],
        base=base_sha256(lm.folder),
        code=[sha256_of(file) for file in _code_files()],
    )
    if ASKED_TO_END.is_set():  # the next `dvc repro` may be removing the base already, and `own` name no run at all
        raise LockedError(f"who started {name}'s training is gone: this one ends before its first step")
    forget_finished(but=own)
    checkpoints = CHECKPOINTS / own
    (checkpoints / FINISHED).unlink(missing_ok=True)
    out, log = MODELS / name, LOGS / f"{name}.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    train_texts, valid_texts = (texts_of(data / f"{split}.jsonl") for split in ("train", "valid"))
    train(lm, train_texts, valid_texts, settings, checkpoints, out, seed=seed, log_path=log)
    with atomic_path(METRICS / "curves" / f"{name}.csv") as temporary:
        shutil.copyfile(out / CURVE, temporary)
    write_json(checkpoints / FINISHED, {"stage": name})


def forget_finished(but: str = "") -> None:
    """Remove the checkpoints of finished runs. The stage that calls depends on their models, so DVC has saved those;
    or it trains anew, under another key than `but`."""
    for note in CHECKPOINTS.glob(f"*/{FINISHED}"):
        folder = note.parent
        if folder.name == but:
            continue
        for file in folder.iterdir():  # the note last: after a kill it still says that the rest may go
            if file != note:
                shutil.rmtree(file) if file.is_dir() else file.unlink()
        shutil.rmtree(folder)


def texts_of(path: Path) -> list[str]:
    """The `text` of every row. Raises TrainingError where there is none."""
    texts = [row["text"] for row in read_jsonl(path)]
    if not texts:
        raise TrainingError(f"{path} holds no text; look at the report of the collecting stages")
    return texts


def _code_files() -> list[Path]:
    package = Path(__file__).parents[1]
    return sorted(file for name in _CODE for file in (package / name).glob("*.py"))
