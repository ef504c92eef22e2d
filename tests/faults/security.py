"""What is trusted and what isn't: code that unpickles, evals or starts shells; pickles, tags and code that are planted
where loaders look; names that shells would run; secrets; dependencies."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from faults.campaign import Row
from faults.security_code import code_rows
from faults.security_planted import planted_rows
from faults.security_secrets import secret_rows

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements.lock"
SBOM = ROOT / "out" / "sbom.json"
AUDIT_SECONDS, SBOM_SECONDS = 240, 240


def rows(short: bool, seed: int) -> Iterator[Row]:
    yield from code_rows()
    yield from planted_rows()
    yield from secret_rows()
    yield _locked()
    if not short:  # both ask registries, or take half a minute
        yield _audited()
        yield _bill_of_materials()


def _packages() -> dict[str, bool]:
    """Name of each pinned package -> whether it has a hash."""
    packages: dict[str, bool] = {}
    name = ""
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        if pinned := re.match(r"([A-Za-z0-9._-]+)(\[[^\]]*\])?==\S", line):
            name = pinned[1].lower()
            packages[name] = False
        elif re.match(r"    --hash=sha256:[0-9a-f]{64}", line):
            packages[name] = True
    return packages


def _locked() -> Row:
    packages = _packages()
    bare = sorted(name for name, hashed in packages.items() if not hashed)
    return Row("packages in requirements.lock", len(packages), "each pinned, with the sha256 of its files",
               ", ".join(bare) or "each is", len(bare))  # fmt: skip


def _audited() -> Row:
    """pip-audit calls a package that its service does not know "skipped", and ends well: that is not an audit."""
    command = [sys.executable, "-m", "pip_audit", "-r", str(LOCK), "--no-deps", "--disable-pip", "--timeout", "10",
               "--format", "json", "--progress-spinner", "off"]  # fmt: skip
    promised = "no known weakness; where the data of weaknesses is out of reach, this row says so"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=AUDIT_SECONDS)
        packages = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return Row("dependencies audited (pip-audit)", 0, promised, "NOT audited: the data was out of reach", 0)
    audited = [package for package in packages if "vulns" in package]
    weak = [f"{package['name']} {package['version']}" for package in audited if package["vulns"]]
    left = len(packages) - len(audited)
    happened = f"{len(audited)} audited, {len(weak)} with a known weakness" + (f": {', '.join(weak)}" if weak else "")
    if left:
        happened += f"; {left} NOT audited: the data about them was out of reach"
    return Row("dependencies audited (pip-audit)", len(audited), promised, happened, len(weak))


def _bill_of_materials() -> Row:
    """`cyclonedx-py requirements --output-reproducible requirements.lock`."""
    SBOM.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", "--output-reproducible", "--of", "JSON", "-o",
               str(SBOM), str(LOCK)]  # fmt: skip
    with tempfile.TemporaryFile() as said:
        done = subprocess.run(command, stdout=said, stderr=said, timeout=SBOM_SECONDS)
    held = json.loads(SBOM.read_text(encoding="utf-8")) if done.returncode == 0 else {"components": []}
    named = {component["name"].lower() for component in held["components"]}
    missing = sorted(set(_packages()) - named)
    happened = f"{len(named)} packages in {SBOM.relative_to(ROOT)} (`{' '.join(['cyclonedx-py', *command[3:8]])} ...`)"
    return Row("bill of materials (CycloneDX)", len(named), "every package of the lock, with version and hashes",
               "; ".join([happened, *missing[:5]]), len(missing) + (done.returncode != 0))  # fmt: skip
