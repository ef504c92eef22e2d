"""The rehearsal's figures as lines for a terminal."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

_GIGA = 1e9


def report_lines(report: dict[str, Any]) -> Iterator[str]:
    machine, base = report["machine"], report["base"]
    system = f"macOS {machine['macos']}" if machine["macos"] else machine["system"]
    yield f"{machine['chip']}, {machine['memory_gb']} GB, {system}, MLX {machine['mlx']} on {machine['device']}"
    yield (
        f"base {base['name']}: {base['layers']} layers, weights {base['weights']}, {base['encoding']};"
        f" one process may use {report['budget_bytes'] / _GIGA:.1f} GB"
    )
    for name, stage in report["stages"].items():
        yield from _stage_lines(f"train_{name}", stage)
    if "fused_seconds_a_layer" in report:
        yield f"fuse: {report['fused_seconds_a_layer']} s a layer, {_planned(report, 'fuse')}"
    if "evaluated_peak_bytes" in report:
        yield (
            f"evaluate: {report['evaluated_seconds_a_window']} s a window, peak"
            f" {_gb(report['evaluated_peak_bytes'])} with {report['evaluated_windows']} windows,"
            f" {_planned(report, 'evaluate')}"
        )
    if "words_a_second" in report:
        yield f"writing: {report['words_a_second']} words a second, one piece, under the grammar"
    disk = report["disk"]
    yield (
        f"disk: {_gb(disk['needed_bytes'])} (checkpoints {_gb(disk['checkpoints_bytes'])}, models"
        f" {_gb(disk['models_bytes'])} twice, here and in DVC's cache; to fetch {_gb(disk['fetched_bytes'])});"
        f" {_gb(disk['free_bytes'])} free"
    )
    yield f"swap grew by {_gb(max(report['swap_grown_bytes'], 0))}; the whole rehearsal took {report['seconds']:.0f} s"
    for line in report["verdict"]:
        yield line if line == "go" else f"change: {line}"


def _stage_lines(name: str, stage: dict[str, Any]) -> Iterator[str]:
    if stage["peak_bytes"]:
        off = 100 * stage["off_the_plan"]
        yield (
            f"{name}: peak {_gb(stage['peak_bytes'])} at {stage['max_tokens']} tokens, planned"
            f" {_gb(stage['planned_bytes'])} ({abs(off):.1f} % {'more' if off > 0 else 'less'} than planned)"
        )
    if stage["step_seconds"] and stage["hours"]:
        low, likely, high = stage["hours"]
        without = "" if stage["evaluated_windows"] else ", its evaluations not counted (no validation text yet)"
        yield (
            f"{name}: {statistics.fmean(stage['step_seconds']):.2f} s a step ({len(stage['step_seconds'])} timed):"
            f" {likely:.2g} hours, {low:.2g} to {high:.2g}{without}"
        )
    if stage["checkpoint_bytes"]:
        yield f"{name}: a checkpoint of {_gb(stage['checkpoint_bytes'])}, taken up at step {stage['resumed_at_step']}"
    if stage["failed"]:
        yield f"{name}: {stage['failed']}"


def _planned(report: dict[str, Any], name: str) -> str:
    key = f"{name}_planned_bytes"
    return f"planned {_gb(report[key])} for all of it" if key in report else "not planned"


def _gb(size: float) -> str:
    return f"{size / _GIGA:.2f} GB" if size >= _GIGA else f"{size / 1e6:.0f} MB"
