"""The pipeline as its users meet it: dvc repro, git, make and the command line, in a clone of its own."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from pathlib import Path

import grimp
import mido
import pytest
import yaml

from pipeline.document_runner import Shell, blocks
from pipeline.project import Project, new_file
from plagal.corpus.duplicates import melody_key, split_of
from plagal.corpus.reading import book_melodies
from plagal.music.arranger.arrange import arrange
from plagal.music.midi import write_midi
from plagal.plumbing.params import SplitSettings
from waiting import wait_until

WHO = {f"GIT_{who}_{what}": "tester@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
STAGES = ("collect_stage1", "collect_stage2", "convert", "train_stage1", "train_stage2", "fuse", "evaluate")


def test_the_pipeline_names_exactly_the_seven_stages_each_described_with_its_own_params(root: Path):
    stages = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    assert tuple(stages) == STAGES
    params = yaml.safe_load((root / "params.yaml").read_text())
    for name, stage in stages.items():
        assert stage["desc"] and "\n" not in stage["cmd"].strip()
        assert name in params and name in stage["params"]


def _folders_needed(root: Path) -> dict[str, set[str]]:
    """Stage -> folders of src/plagal whose code it runs, asked of the import graph: what its function in stages.py
    imports, and what the helpers there that it calls import, directly or not."""
    functions = {
        node.name: node
        for node in ast.parse((root / "src/plagal/stages.py").read_text()).body
        if isinstance(node, ast.FunctionDef)
    }

    def imports(name: str) -> set[str]:
        below = list(ast.walk(functions[name]))
        called = {node.id for node in below if isinstance(node, ast.Name)} & (functions.keys() - {name})
        own = {str(node.module) for node in below if isinstance(node, ast.ImportFrom)}
        return own.union(*(imports(other) for other in called))

    graph = grimp.build_graph("plagal")
    needed = {}
    for stage in STAGES:
        modules = imports(stage)
        modules |= {upstream for module in modules for upstream in graph.find_upstream_modules(module)}
        needed[stage] = {module.split(".")[1] for module in modules if module.startswith("plagal.")}
    return needed


def test_stages_depend_on_exactly_the_folders_that_they_import_and_on_no_plumbing(root: Path):
    stages = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    for name, folders in _folders_needed(root).items():
        listed = {Path(path).relative_to("src/plagal").name for path in stages[name]["deps"] if path.startswith("src/")}
        assert listed == folders - {"plumbing"} | {"stages.py"}, name
        assert "requirements.lock" in stages[name]["deps"], name


def test_no_stage_imports_the_facade_which_would_tie_it_to_everything(root: Path):
    graph = grimp.build_graph("plagal")
    assert graph.find_modules_that_directly_import("plagal") == set()


def test_no_module_imports_itself_through_others():
    graph = grimp.build_graph("plagal")
    circles = {
        (module, imported)
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
        if graph.chain_exists(importer=imported, imported=module)
    }
    assert circles == set()


def test_a_first_repro_runs_all_seven_stages(reproduced: Project):
    assert reproduced.first_run == (set(STAGES), set())
    for output in ("data/stage1/pieces.jsonl", "models/fused/model.safetensors", "metrics/metrics.json"):
        assert (reproduced.root / output).stat().st_size > 0


def test_a_second_repro_runs_nothing(reproduced: Project):
    assert reproduced.repro() == (set(), set())


def _touch_learning_rate(project: Project) -> None:
    overlay = project.root.parent / "overlay.yaml"
    overlay.write_text("train_stage2: {learning_rate: 0.00051}\n")
    _apply(project, overlay)


def _touch_evaluation(project: Project) -> None:
    overlay = project.root.parent / "overlay.yaml"
    overlay.write_text("evaluate: {temperature: 0.8}\n")
    _apply(project, overlay)


def _apply(project: Project, overlay: Path) -> None:
    from plagal.plumbing.params import apply_profile

    assert apply_profile(overlay, project.root / "params.yaml")


def _touch_chords(project: Project) -> None:
    project.edit("params.yaml", "chords: true", "chords: false")


def _add_gospel_file(project: Project, wanted: str = "train") -> None:
    split = SplitSettings(**yaml.safe_load((project.root / "params.yaml").read_text())["convert"]["split"])
    tune = next(
        name
        for name, melody in book_melodies().items()
        if split_of(melody_key(melody), split.valid_percent, split.test_percent) == wanted
    )
    write_midi(arrange(tune, "gospel_jazz", seed=7), new_file(project))


def _add_held_out_file(project: Project) -> None:
    _add_gospel_file(project, "test")


def _upgrade_library(project: Project) -> None:
    project.edit("requirements.lock", "mlx==", "mlx==0.0.0 ; sys_platform == 'plan9'\nmlx==")


def _touch_error_text(project: Project) -> None:
    project.edit("src/plagal/plumbing/errors.py", "here could stand only", "only these could stand here")


def _touch_readme(project: Project) -> None:
    project.edit("README.md", "Plagal", "Plagal!")


@pytest.mark.parametrize(
    ("edit", "reruns"),
    [
        (_add_gospel_file, {"collect_stage2", "convert", "train_stage2", "fuse", "evaluate"}),
        (_add_held_out_file, {"collect_stage2", "convert", "evaluate"}),
    ],
)
def test_a_new_file_reruns_only_the_stages_that_it_concerns(project: Project, edit, reruns: set[str]):
    edit(project)
    ran, _ = project.repro()
    assert ran == reruns
    project.run("git", "checkout", "-q", "--", "dvc.lock")
    again, cached = project.repro()
    assert again == set(), "the run cache had lost what had just run"
    assert cached == reruns


@pytest.mark.parametrize(
    ("edit", "reruns"),
    [
        (_touch_learning_rate, {"train_stage2", "fuse", "evaluate"}),
        (_touch_evaluation, {"evaluate"}),
        (_touch_chords, {"convert", "train_stage1", "train_stage2", "fuse", "evaluate"}),
        (_upgrade_library, set(STAGES)),
        (_touch_error_text, set()),
        (_touch_readme, set()),
    ],
)
def test_an_edit_concerns_the_stages_that_use_it_and_those_behind_them(project: Project, edit, reruns: set[str]):
    edit(project)
    # Said, not done: all stages in earnest take minutes. A dry run takes outputs for changed only where it is told to.
    plan = project.run("dvc", "repro", "--dry", "--force-downstream").stdout
    assert set(re.findall(r"Running stage '(\w+)'", plan)) == reruns


def test_stock_mlx_lm_generates_from_the_fused_folder(reproduced: Project):
    done = reproduced.run(
        "mlx_lm.generate", "--model", "models/fused", "--prompt", "Generate Gospel in C major", "--max-tokens", "20"
    )
    assert "==========" in done.stdout


def test_a_prompt_becomes_a_playable_file_in_the_key_asked_for(reproduced: Project, tmp_path: Path):
    output = tmp_path / "prompt.mid"
    said = reproduced.run("plagal", "generate", "slow worship ballad in Db", "-o", str(output)).stdout
    notes = [m for track in mido.MidiFile(output).tracks for m in track if m.type == "note_on" and m.velocity > 0]
    assert notes and f"{len(notes)} notes" in said and "Db" in said


def test_a_kill_of_dvc_alone_leaves_a_stage_that_the_next_repro_does_not_refuse(project: Project):
    """dash, which is /bin/sh on Debian, stays as the stage's parent unless told to `exec`: with it no stage saw that
    its DVC was gone, and every next `dvc repro` was told to wait for it."""
    dvc = subprocess.Popen(
        ["dvc", "repro", "--single-item", "--force", "train_stage1"], cwd=project.root,
        env={**project.environment(), "SHELL": "/bin/sh"}, stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    owner = project.root / "logs" / "locks" / "train_stage1.json"
    wait_until(lambda: dvc.poll() is not None or _holder(owner) is not None, seconds=60.0)
    stage = _holder(owner)
    assert stage is not None and stage["parent"] == dvc.pid, f"dvc is {dvc.pid}, the stage says {stage}"
    dvc.kill()
    dvc.wait()
    project.run("plagal", "mend")
    project.run("dvc", "repro")


def _holder(owner: Path) -> dict[str, int] | None:
    try:
        return json.loads(owner.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there yet
        return None


def test_outputs_travel_through_a_folder_remote_to_a_second_clone(reproduced: Project, tmp_path: Path):
    reproduced.run("dvc", "remote", "add", "--local", "-f", "folder", str(tmp_path / "remote"))
    reproduced.run("dvc", "push", "-r", "folder")
    reproduced.run("git", "clone", "-q", str(reproduced.root), str(tmp_path / "second"))
    second = Project(tmp_path / "second")
    second.run("dvc", "remote", "add", "--local", "-f", "folder", str(tmp_path / "remote"))
    second.run("dvc", "pull", "-r", "folder")
    fused = "models/fused/model.safetensors"
    assert (second.root / fused).read_bytes() == (reproduced.root / fused).read_bytes()
    # A user's own MIDI is in neither git nor DVC: whoever wants to run stages again needs the same files.
    shutil.copytree(
        reproduced.root / "data" / "midi_sources", second.root / "data" / "midi_sources", dirs_exist_ok=True
    )
    assert second.repro() == (set(), set())


def test_the_metrics_table_tells_better_from_worse(project: Project):
    path = project.root / "metrics" / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["plan"]["perplexity"] += 1
    path.write_text(json.dumps(metrics))
    row = next(
        line
        for line in project.run("make", "metrics-diff", "-o", "setup").stdout.splitlines()
        if "plan.perplexity" in line
    )
    assert "worse" in row


@pytest.mark.parametrize("what", [("show",), ("diff", "HEAD")], ids="-".join)
def test_every_plot_loads(reproduced: Project, tmp_path: Path, what: tuple[str, ...]):
    done = reproduced.run("dvc", "plots", *what, "-o", str(tmp_path / "plots"))
    assert "ailed to load" not in done.stdout + done.stderr
    page = (tmp_path / "plots" / "index.html").read_text(encoding="utf-8")
    assert all(curve in page for curve in ("Stage 1 learns", "Stage 2 learns", "nats_per_note"))


def test_metrics_are_in_git_and_not_in_the_cache(reproduced: Project):
    tracked = reproduced.run("git", "ls-files", "metrics", "dvc.lock").stdout.split()
    assert {"metrics/metrics.json", "dvc.lock"} <= set(tracked)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (("seed: 7", "seed: 7\nsede: 7"), "sede"),
        (("learning_rate: ", "learning_rate: -"), "learning_rate"),
        (("steps: ", "steps: many #"), "steps"),
    ],
)
def test_a_wrong_param_is_one_line_that_names_the_key(project: Project, edit: tuple[str, str], says: str):
    project.edit("params.yaml", *edit)
    done = project.run("python", "-m", "plagal.stages", "train_stage2", check=False)
    assert done.returncode == 1
    assert says in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_a_model_folder_that_is_missing_or_half_written_is_one_line(reproduced: Project, tmp_path: Path):
    half = tmp_path / "half"
    shutil.copytree(reproduced.root / "models" / "fused", half)
    weights = half / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    for folder in (tmp_path / "nowhere", half):
        done = reproduced.run(
            "plagal", "generate", "x", "-o", str(tmp_path / "x.mid"), "--model", str(folder), check=False
        )
        assert done.returncode == 1
        assert folder.name in done.stderr and len(done.stderr.strip().splitlines()) == 1
        assert not (tmp_path / "x.mid").exists()


def test_the_commands_of_the_page_on_dvc_run_with_a_folder_as_remote(reproduced: Project, root: Path, tmp_path: Path):
    project = Project(tmp_path / "plagal")
    shutil.copytree(reproduced.root, project.root, symlinks=True)
    (tmp_path / "home").mkdir()
    places = {"REMOTE": tmp_path / "remote", "CACHE": tmp_path / "cache", "PLAGAL": project.root}
    environment = project.environment() | {name: str(place) for name, place in places.items()} | WHO
    said = {}
    with Shell(project.root, environment) as shell:
        for block in blocks(root / "docs" / "dvc.md"):
            assert block.language == "sh", block.name
            for line in block.lines:
                said[line] = shell.run(line)
    assert len(said["dvc exp list --name-only"].split()) == 3 and "Failed" not in said["dvc exp show --md"]
    assert (tmp_path / "model" / "model.safetensors").is_file() and (tmp_path / "other" / "gospel.dvc").is_file()
    assert "up to date" in said["dvc pull -q && dvc repro && plagal metrics diff"]
