"""Measure every model on held-out tunes, generate samples, and write metrics and pictures."""

from __future__ import annotations

from plagal.evaluation.run import evaluate
from plagal.plumbing.params import Params
from plagal.stages.common import METRICS, MODELS, TEXT, run_stage


def main(params: Params) -> None:
    evaluate(params.evaluate, params.seed, TEXT, MODELS, METRICS)


if __name__ == "__main__":
    run_stage("evaluate", main)
