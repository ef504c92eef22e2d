"""What all stages share: params in, a log of times out, errors as one line, one run of a stage at a time."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from plagal.plumbing import terminal
from plagal.plumbing.dvc_cache import check_inputs
from plagal.plumbing.files import write_json
from plagal.plumbing.locks import sole_worker
from plagal.plumbing.params import Params, load_params
from plagal.stages import STARTER

DATA = Path("data")
MODELS = Path("models")
METRICS = Path("metrics")
TEXT = DATA / "text"
LOGS = Path("logs")
"""Wall-clock times go here and nowhere else: what DVC versions is the same for the same inputs."""
LOCKS = LOGS / "locks"


def run_stage(name: str, work: Callable[[Params], None], grace_seconds: float = 0.0) -> None:
    """Run one stage and leave the process with its exit code. `grace_seconds`: what a stage that saves its work gets
    for it when DVC is gone; the others end at once."""

    def command() -> None:
        started = time.monotonic()
        with sole_worker(LOCKS, name, STARTER, grace_seconds):
            if "DVC_STAGE" in os.environ:  # by hand, a stage takes what it is given
                check_inputs(name)
            work(load_params())
            write_json(LOGS / f"{name}.json", {"stage": name, "seconds": round(time.monotonic() - started, 1)})

    sys.exit(terminal.run(command, name))
