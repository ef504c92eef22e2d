"""Split by tune, augment the training part, and write prompts and words as training text."""

from __future__ import annotations

from plagal.corpus.prepare import prepare
from plagal.plumbing.params import Params
from plagal.stages.common import DATA, TEXT, run_stage


def main(params: Params) -> None:
    prepare(DATA / "stage1", DATA / "stage2", TEXT, params.convert, params.seed)


if __name__ == "__main__":
    run_stage("convert", main)
