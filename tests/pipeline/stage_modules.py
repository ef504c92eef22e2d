"""Which files each stage in dvc.yaml really depends on, asked of the import graph.

`python tests/pipeline/stage_modules.py --write` brings the code dependencies in dvc.yaml up to date.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import grimp
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
DATA_OF = {
    "plagal.music.arranger.tunebook": "src/plagal/music/arranger/tunes",
    "plagal.music.arranger.arrange": "src/plagal/music/arranger/styles",
    "plagal.evaluation.subwords": "src/plagal/evaluation/subwords.json",
    "plagal.evaluation.coherence": "src/plagal/evaluation/coherence.json",
}
"""Files that a module reads from the package."""


def _file(module: str) -> Path:
    path = SOURCE / Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def stages() -> list[str]:
    return list(YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"])


def code_dependencies() -> dict[str, list[str]]:
    """Stage -> the project's files that its module imports, directly or not, with their packages' `__init__` and the
    data that they read from the package."""
    graph = grimp.build_graph("plagal")
    found = {}
    for stage in stages():
        module = f"plagal.stages.{stage}"
        modules = {module, *graph.find_upstream_modules(module)}
        packages = {name.rsplit(".", up)[0] for name in modules for up in range(1, name.count(".") + 1)}
        files = {str(_file(name).relative_to(ROOT)) for name in modules | packages}
        found[stage] = sorted(
            files | {data for name, data in DATA_OF.items() if name in modules and (ROOT / data).exists()}
        )
    return found


def is_code(path: str) -> bool:
    return path.startswith("src/")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", required=True)
    parser.parse_args()
    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    pipeline = yaml.load(ROOT / "dvc.yaml")
    for stage, files in code_dependencies().items():
        dependencies = pipeline["stages"][stage]["deps"]
        others = [path for path in dependencies if not is_code(path)]
        pipeline["stages"][stage]["deps"] = [*others, *files]
    yaml.dump(pipeline, ROOT / "dvc.yaml")


if __name__ == "__main__":
    main()
