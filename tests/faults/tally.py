"""Counting tries and broken promises towards a row."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, field

from faults.campaign import Row


@dataclass
class Tally:
    """Threads may share it."""

    tried: int = 0
    broken: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self, kept: bool, otherwise: str) -> bool:
        """Count one try; `otherwise` says what happened where the promise was not kept."""
        with self._lock:
            self.tried += 1
            if not kept:
                self.broken.append(otherwise)
                print(f"broken: {otherwise[:500]}", file=sys.stderr, flush=True)
        return kept

    def row(self, fault: str, promised: str, happened: str) -> Row:
        """`happened`: where all was kept; else the first that was not is told, too."""
        if self.broken:
            first = " ".join(self.broken[0].split())[:200].replace("|", "/")
            happened = f"{happened}; but {len(self.broken)} not, the first: {first}"
        return Row(fault, self.tried, promised, happened, len(self.broken))


def not_tried(fault: str, promised: str, why: str) -> Row:
    """Never counted as kept."""
    return Row(fault, 0, promised, f"not tried: {why}", 0)
