"""Go on from stage 1's best checkpoint, on gospel only."""

from __future__ import annotations

from plagal.model.adapters import load_stage
from plagal.plumbing.params import Params
from plagal.stages.common import MODELS, run_stage
from plagal.stages.training import SAVING_SECONDS, train_stage


def main(params: Params) -> None:
    train_stage("stage2", load_stage(MODELS, "stage1"), params.train_stage2, params.seed)


if __name__ == "__main__":
    run_stage("train_stage2", main, SAVING_SECONDS)
