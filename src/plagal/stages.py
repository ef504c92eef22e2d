# ruff: noqa: E402  (who started this process is asked before the imports, in which that may already die)
"""The pipeline's seven stages, a function each: `python -m plagal.stages train_stage1`.

A stage's name is its function here, its key in params.yaml, its entry in dvc.yaml and its make target. Imports stand
inside the functions: a stage loads, and in dvc.yaml depends on, what it needs itself; collecting starts without MLX.
"""

from __future__ import annotations

import os

STARTER = os.getppid()
"""Who started this process, DVC as a rule."""

import logging
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plagal.plumbing import errors
from plagal.plumbing.dvc_cache import check_inputs
from plagal.plumbing.errors import InputError, LockedError, TrainingError
from plagal.plumbing.files import atomic_path, read_json, read_jsonl, remove_whole, write_json
from plagal.plumbing.lock import ASKED_TO_END, hold
from plagal.plumbing.params import Params, TrainSettings, load_params

if TYPE_CHECKING:
    from plagal.model.base import LanguageModel

log = logging.getLogger(__name__)

DATA = Path("data")
MODELS = Path("models")
METRICS = Path("metrics")
TEXT = DATA / "text"
LOGS = Path("logs")
"""Wall-clock times go here and nowhere else: what DVC versions is the same for the same inputs."""
CHECKPOINTS = Path(".checkpoints")
"""Outside DVC's outputs, so that a killed run goes on where it was."""
FINISHED = "finished.json"
"""In a run's folder when its model is written: {"stage": ...}. Only a later stage proves that DVC has saved that model;
until then a kill would cost the whole run."""
BEGUN = "begun.json"
"""In a run's folder from its first moment: {"stage", "seed" and the settings}, to tell the next one what changed."""
CHANGE_NO_STEP = {"keep_newest", "save_every", "gradient_checkpointing"}
"""Settings that decide no step: a run that was interrupted goes on under others."""
SAVING_SECONDS = 120.0
"""What an orphaned trainer gets for its step and its checkpoint."""
DECIDING_PACKAGES = ("model", "tokens")
"""Their code decides how a run goes on: a checkpoint is taken up by the same code alone. Not `compose`, which writes
pieces only, nor `music`: a training stage reads text."""


def collect_stage1(params: Params) -> None:
    """Collect general music: 1,000 pieces by genre quota."""
    from plagal.corpus.collect import collect

    collect("stage1", params.collect_stage1, DATA / "stage1", params.seed)


def collect_stage2(params: Params) -> None:
    """Collect gospel: 500 pieces by style quota."""
    from plagal.corpus.collect import collect

    collect("stage2", params.collect_stage2, DATA / "stage2", params.seed)


def convert(params: Params) -> None:
    """Split by tune, augment the training part, and write prompts and words as training text."""
    from plagal.corpus.prepare import prepare

    prepare(DATA / "stage1", DATA / "stage2", TEXT, params.convert, params.seed)


def train_stage1(params: Params) -> None:
    """Teach the base model general music."""
    from plagal.model.base import load, place_base

    base = place_base(params.model, MODELS / "base", params.seed)
    train_on("stage1", load(base, params.model.encoding), params.train_stage1, params.seed)
    if not base.exists():  # a second `dvc repro` removes a stage's outputs before it learns that they are being made
        place_base(params.model, base, params.seed)


def train_stage2(params: Params) -> None:
    """Go on from stage 1's best checkpoint, on gospel only."""
    from plagal.model.adapters import load_stage

    train_on("stage2", load_stage(MODELS, "stage1"), params.train_stage2, params.seed)


def fuse(params: Params) -> None:
    """Merge stage 2's adapter into one ordinary MLX model folder, and check that nothing was lost."""
    from plagal.corpus.formats import fused_card
    from plagal.model.adapters import whole_model_under_stage2
    from plagal.model.fuse import fuse as merge

    forget_finished()
    merge(
        whole_model_under_stage2(MODELS),
        MODELS / "stage2",
        MODELS / "fused",
        texts_of(TEXT / "stage2" / "valid.jsonl"),
        quantize_bits=params.fuse.quantize_bits,
        max_lost_share=params.fuse.max_lost_share,
        card=fused_card(TEXT),
        draft=params.fuse.draft or None,
    )


def evaluate(params: Params) -> None:
    """Measure every model on held-out tunes, generate samples, and write metrics and pictures."""
    from plagal.evaluation.run import evaluate as measure

    measure(params.evaluate, params.seed, TEXT, MODELS, METRICS)


STAGES = {
    stage.__name__: stage
    for stage in (collect_stage1, collect_stage2, convert, train_stage1, train_stage2, fuse, evaluate)
}


def train_on(name: str, lm: LanguageModel, settings: TrainSettings, seed: int) -> None:
    """Train `lm` on data/text/`name` and write models/`name` and the curve. Resumes the run that has the same settings,
    data, base and code; its checkpoints go when a later stage begins."""
    from plagal.model.adapters import base_sha256
    from plagal.model.checkpoint import run_key, sha256_of
    from plagal.model.trainer import CURVE, train

    data = TEXT / name
    package = Path(__file__).parent
    code = sorted(file for name in DECIDING_PACKAGES for file in (package / name).rglob("*.py"))
    own = run_key(
        stage=name,
        encoding=lm.encoding,
        settings=settings.model_dump(exclude=CHANGE_NO_STEP),
        seed=seed,
        data=[sha256_of(data / f"{split}.jsonl") for split in ("train", "valid")],
        base=base_sha256(lm.folder),
        code=[sha256_of(file) for file in code],
    )
    if ASKED_TO_END.is_set():  # the next `dvc repro` may be removing the base already, and `own` name no run at all
        raise LockedError(f"the program that started {name}'s training has ended: this one ends before its first step")
    leads = _rank() == 0
    if leads:
        forget_finished(but=own)
        (CHECKPOINTS / own / FINISHED).unlink(missing_ok=True)
        _tell_begun(own, {"stage": name, "seed": seed, **settings.model_dump(mode="json", exclude=CHANGE_NO_STEP)})
    out, log = MODELS / name, LOGS / f"{name}.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    train_texts, valid_texts = (texts_of(data / f"{split}.jsonl") for split in ("train", "valid"))
    train(lm, train_texts, valid_texts, settings, CHECKPOINTS / own, out, seed=seed, log_path=log)
    if leads:
        with atomic_path(METRICS / "curves" / f"{name}.csv") as temporary:
            shutil.copyfile(out / CURVE, temporary)
        write_json(CHECKPOINTS / own / FINISHED, {"stage": name})


def _tell_begun(own: str, what: dict[str, Any]) -> None:
    """Note in a new run's folder what it trains. Where another of the stage was interrupted, say what is not as it was
    there; it stays for whoever sets that back, and those before it go."""
    note = CHECKPOINTS / own / BEGUN
    if note.exists():
        os.utime(note)
        return
    others = [other for other in CHECKPOINTS.glob(f"*/{BEGUN}") if read_json(other).get("stage") == what["stage"]]
    running = (other for other in others if not (other.parent / FINISHED).exists())
    others = sorted(running, key=lambda path: path.stat().st_mtime)
    for other in others[:-1]:
        remove_whole(other.parent)
    if others:
        before, folder = read_json(others[-1]), others[-1].parent
        changed = [f"{key} {before.get(key)} -> {value}" for key, value in what.items() if before.get(key) != value]
        log.warning("%s starts anew, for its %s: what was trained before is kept in %s until the next change",
                    what["stage"], ", ".join(changed) or "data, base or code changed", folder)  # fmt: skip
    write_json(note, what)


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


def _rank() -> int:
    """Which of mlx.launch's processes this is; only the first holds locks and writes."""
    return int(os.environ.get("MLX_RANK", "0"))


def run(name: str) -> None:
    """Run one stage, alone: params in, a log of times out. Raises InputError for a name that is not a stage's."""
    if name not in STAGES:
        raise InputError(f"{name!r} is not a stage; the seven are {', '.join(STAGES)}")
    began = time.monotonic()
    if _rank():
        STAGES[name](load_params())
        return
    # Training saves before it ends when DVC is gone; the others have nothing to save and end at once.
    grace_seconds = SAVING_SECONDS if name.startswith("train") else 0.0
    with hold(LOGS / "locks" / name, name, STARTER, grace_seconds):
        if "DVC_STAGE" in os.environ:  # by hand, a stage takes what it is given
            check_inputs(name)
        STAGES[name](load_params())
        write_json(LOGS / f"{name}.json", {"stage": name, "seconds": round(time.monotonic() - began, 1)})


if __name__ == "__main__":
    wanted = " ".join(sys.argv[1:])
    sys.exit(errors.run(lambda: run(wanted), wanted if wanted in STAGES else "plagal.stages"))
