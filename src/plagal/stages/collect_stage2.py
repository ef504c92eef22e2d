"""Collect gospel: 500 pieces by style quota."""

from __future__ import annotations

from plagal.corpus.collect import collect
from plagal.plumbing.params import Params
from plagal.stages.common import DATA, run_stage


def main(params: Params) -> None:
    collect("stage2", params.collect_stage2, DATA / "stage2", params.seed)


if __name__ == "__main__":
    run_stage("collect_stage2", main)
