"""Profiles: overlays on params.yaml, one file each in profiles/. Comments in params.yaml stay."""

from __future__ import annotations

import difflib
import io
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from plagal.plumbing.errors import ParamsError
from plagal.plumbing.files import parse_yaml, write_text
from plagal.plumbing.params import check_params


def _yaml() -> YAML:
    yaml = YAML()  # round trip: keeps comments, order and quotes, and constructs plain data only
    yaml.preserve_quotes = True
    yaml.width = 120
    return yaml


def _lay_over(below: MutableMapping[str, Any], above: MutableMapping[str, Any]) -> None:
    for key, value in above.items():
        if isinstance(value, MutableMapping) and isinstance(below.get(key), MutableMapping):
            _lay_over(below[key], value)
        else:
            below[key] = value


def profile_path(name: str, folder: Path = Path("profiles")) -> Path:
    """The file of a profile. Raises ParamsError that lists the profiles there are."""
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise ParamsError(f"profile {name!r} is not in {folder}/; there are: {', '.join(known) or 'none'}")
    return folder / f"{name}.yaml"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ParamsError(f"{path} is missing; run from the project's folder") from None
    except UnicodeDecodeError:
        raise ParamsError(f"{path} is no UTF-8 text") from None


def _dumped(yaml: YAML, value: Any) -> str:
    text = io.StringIO()
    yaml.dump(value, text)
    return text.getvalue()


def apply_profile(overlay: Path, params: Path = Path("params.yaml")) -> str:
    """Lay an overlay over params.yaml, check the result, write it, and return the difference as a unified diff ("" for
    none). Raises ParamsError; then params.yaml is as it was."""
    yaml = _yaml()
    before, above = _text(params), _text(overlay)
    documents = []
    try:
        for text, file in ((before, params), (above, overlay)):
            parse_yaml(text, str(file), ParamsError)  # refuses what would cost the other reader too much
            value = yaml.load(text)
            if not isinstance(value, MutableMapping | None):
                raise ParamsError(f"{file} holds no keys; write them as in seed: 7")
            documents.append(value or {})
        merged, laid = documents
        _lay_over(merged, laid)
        after = _dumped(yaml, merged)
    except (YAMLError, ValueError, RecursionError) as error:
        raise ParamsError(f"{overlay} or {params} is no YAML: {' '.join(str(error).split())}") from None
    check_params(after, f"{params} with {overlay}")
    write_text(params, after)
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), str(params), overlay.stem, lineterm="", n=0)
    return "\n".join(lines)
