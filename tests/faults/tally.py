"""Counting what was held against a promise, and what broke it, towards a row."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, field

from faults.campaign import Row


@dataclass
class Tally:
    """Threads may share it."""

    checked: int = 0
    broken: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self, kept: bool, otherwise: str) -> bool:
        """Count one check; `otherwise` says what happened where the promise was not kept."""
        with self._lock:
            self.checked += 1
            if not kept:
                self.broken.append(otherwise)
                print(f"broken: {otherwise[:500]}", file=sys.stderr, flush=True)
        return kept

    def row(self, fault: str, promised: str, happened: str, tried: int | None = None) -> Row:
        """`happened`: where all was kept; else the first that was not is told, too. `tried`: where a fault is checked
        in more than one way, how many there were; each counts as broken once at most."""
        tried = self.checked if tried is None else tried
        if self.broken:
            first = " ".join(self.broken[0].split())[:200].replace("|", "/")
            happened = f"{happened}; but {len(self.broken)} checks failed, the first: {first}"
        return Row(fault, tried, promised, happened, min(len(self.broken), tried))


def not_tried(fault: str, promised: str, why: str) -> Row:
    """Never counted as kept."""
    return Row(fault, 0, promised, f"not tried: {why}", 0)
