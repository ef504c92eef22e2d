"""Teach the base model general music."""

from __future__ import annotations

from plagal.model.base import load, place_base
from plagal.plumbing.params import Params
from plagal.stages.common import MODELS, run_stage
from plagal.stages.training import SAVING_SECONDS, train_stage


def main(params: Params) -> None:
    base = place_base(params.model, MODELS / "base", params.seed)
    train_stage("stage1", load(base, params.model.encoding), params.train_stage1, params.seed)
    if not base.exists():  # a second `dvc repro` removes a stage's outputs before it learns that they are being made
        place_base(params.model, base, params.seed)


if __name__ == "__main__":
    run_stage("train_stage1", main, SAVING_SECONDS)
