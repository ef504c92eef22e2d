"""Teach the base model general music."""

from __future__ import annotations

from plagal.model.base import load, make_embedded
from plagal.params import Params
from plagal.stages.common import MODELS, run_stage
from plagal.stages.training import train_stage

EMBEDDED = "embedded"


def main(params: Params) -> None:
    base = MODELS / "base"
    if params.model.base == EMBEDDED:
        make_embedded(base, params.model.embedded, params.seed)
    train_stage("stage1", load(base), params.train_stage1, params.seed)


if __name__ == "__main__":
    run_stage("train_stage1", main)
