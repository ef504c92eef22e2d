"""Collect general music: 1,000 pieces by genre quota."""

from __future__ import annotations

from plagal.corpus.collect import collect
from plagal.plumbing.params import Params
from plagal.stages.common import DATA, run_stage


def main(params: Params) -> None:
    collect("stage1", params.collect_stage1, DATA / "stage1", params.seed)


if __name__ == "__main__":
    run_stage("collect_stage1", main)
