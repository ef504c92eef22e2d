"""Pickles, YAML tags, code and names planted where our loaders look. Each would leave a mark if anything ran it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from faults.campaign import Row
from faults.fuzz.frame import Broken, own_folder, taken, watched

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "unit"))
_CODE = "import pathlib; pathlib.Path({mark!r}).touch()\n"
ODD_NAMES = (
    "; touch plagal-was-here", "$(touch plagal-was-here)", "`touch plagal-was-here`", "| touch plagal-was-here", "-rf",
    "--output=plagal-was-here", "a\ntouch plagal-was-here", "&& touch plagal-was-here", "'; touch plagal-was-here; '",
    '"; touch plagal-was-here; "', "> plagal-was-here", "%s%n{0}{prompt}", "\x1b]0;plagal\x07", "~root", "*", "$HOME",
)  # fmt: skip


class _Trap:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def planted_rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        yield _tried("pickles where a loader looks for weights, music, pieces or settings", _pickles(place / "pickles"),
                     "a named error, or the pickle passed over; nothing unpickled")  # fmt: skip
        yield _tried("YAML tags that make Python objects, in params, profiles and sources", _tags(place / "tags"),
                     "one line; nothing made or run")  # fmt: skip
        yield _tried("model folders that bring their own code (model_file, auto_map, chat templates)",
                     _remote_code(place / "code"), "refused, or loaded without it; the code never runs")  # fmt: skip
        yield _tried("files, genres and options named like shell commands", _names(place / "names"),
                     "collected and written under their names; nothing else made")  # fmt: skip


Try = tuple[str, Callable[[], Any], Path]
"""What it is, what is done, and the mark that must not be there afterwards."""


def _tried(fault: str, tries: Iterator[Try], promised: str) -> Row:
    count, refused, broken = 0, 0, []
    for name, act, mark in tries:
        count += 1
        try:
            with watched():
                refused += taken(act) is None
        except (Exception, SystemExit) as error:  # whatever came instead of what was promised
            broken.append(f"{name}: {type(error).__name__}: {error}"[:200])
        if mark.exists():
            broken.append(f"{name}: it ran")
            shutil.rmtree(mark, ignore_errors=True)
    happened = f"{refused} refused, {count - refused} passed over"
    return Row(fault, count, promised, "; ".join([happened, *broken]), len(broken))


def _model(folder: Path) -> Path:
    from model_helpers import tiny_base

    return tiny_base(folder)


_PICKLES_BESIDE = ("pytorch_model.bin", "model.pt", "model.pkl", "weights.npz", "training_args.bin", "optimizer.pt",
                   "tokenizer.model", "adapter_model.bin", "vocab.pkl")  # fmt: skip


def _pickles(place: Path) -> Iterator[Try]:
    import plagal.model  # noqa: F401  (before mlx.core)
    from plagal.corpus.collect import read_pieces
    from plagal.corpus.formats import convert_file
    from plagal.corpus.sources import load_sources
    from plagal.model.adapters import load_adapters
    from plagal.model.base import load
    from plagal.model.checkpoint import load_checkpoint
    from plagal.model.gguf import make_from_gguf
    from plagal.music.load import load as load_music
    from plagal.plumbing.files import read_json
    from plagal.plumbing.params import load_params

    base, mark = _model(own_folder()), place / "mark"
    trap = pickle.dumps(_Trap(mark))
    for kind, data in (("pickle", trap), ("torch archive", _torch_archive(trap))):
        folder = own_folder()
        for name in ("model.safetensors", "tokenizer.json", "config.json", "base.json"):
            bad = shutil.copytree(base, folder / f"bad-{name}")
            (bad / name).write_bytes(data)
            yield f"{kind} as {name}", lambda bad=bad: load(bad), mark
        beside = shutil.copytree(base, folder / "beside")
        for name in _PICKLES_BESIDE:
            (beside / name).write_bytes(data)
        yield f"{kind}s beside good weights", lambda beside=beside: load(beside), mark
        for name in ("adapters.safetensors", "adapter_config.json"):
            (folder / name).write_bytes(data)
        yield f"{kind} as adapters", lambda folder=folder: load_adapters(load(base), folder), mark
        (step := folder / "step-00000001").mkdir()
        for name in ("state.safetensors", "state.json", "sums.json"):
            (step / name).write_bytes(data)
        yield f"{kind} as checkpoint", lambda step=step: load_checkpoint(step), mark
        for name, read in (("a.gguf", lambda path: make_from_gguf(path.with_name("made"), path)),
                           *((f"a{suffix}", load_music) for suffix in (".mid", ".mxl", ".musicxml", ".abc", ".krn")),
                           ("params.yaml", load_params), ("sources.yaml", load_sources), ("metrics.json", read_json),
                           ("pieces.jsonl", lambda path: list(read_pieces(path.parent))),
                           ("in.jsonl", lambda path: convert_file(path, path.with_name("o"), workers=1))):  # fmt: skip
            (folder / name).write_bytes(data)
            yield f"{kind} as {name}", lambda read=read, path=folder / name: read(path), mark
    yield "a pickle where music21 keeps its own", _music21_cache(own_folder(), trap), mark


def _torch_archive(pickled: bytes) -> bytes:
    """As torch.save writes it."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
    return held.getvalue()


def _music21_cache(folder: Path, trap: bytes) -> Callable[[], Any]:
    """music21 would rather read a newer pickle of its own than the file."""
    import zlib

    from music21.converter import PickleFilter

    from faults.fuzz.music import MUSICXML
    from plagal.music.load import load

    file = folder / "a.musicxml"
    file.write_text(MUSICXML, encoding="utf-8")
    cached = PickleFilter(file).getPickleFp(zipType="gz")
    cached.write_bytes(zlib.compress(trap))

    def act() -> Any:
        try:
            return load(file)
        finally:
            with contextlib.suppress(Broken):
                cached.unlink()

    return act


def _tags(place: Path) -> Iterator[Try]:
    from plagal.corpus.sources import load_sources
    from plagal.plumbing.params import apply_profile, load_params

    mark, folder = place / "mark", own_folder()
    tags = (
        f"!!python/object/apply:os.mkdir ['{mark}']", f"!!python/object/new:os.mkdir ['{mark}']",
        f"!!python/object/apply:subprocess.check_output [[touch, '{mark}']]", "!!python/name:os.system",
        "!!python/module:os", f"!!python/object/apply:builtins.eval [\"__import__('os').mkdir('{mark}')\"]",
        "!<tag:yaml.org,2002:python/object/apply:os.getcwd> []", "!!python/tuple [1]", "!custom x", "!!set {a}",
    )  # fmt: skip
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    for tag in tags:
        for name, text in (("params.yaml", f"seed: {tag}\n"), ("overlay.yaml", f"seed: {tag}\n"),
                           ("sources.yaml", f"sources: [{tag}]\n")):  # fmt: skip
            (folder / name).write_text(text, encoding="utf-8")
        yield f"params: {tag}", lambda: load_params(folder / "params.yaml"), mark
        yield f"sources: {tag}", lambda: load_sources(folder / "sources.yaml"), mark
        (folder / "whole.yaml").write_text(params, encoding="utf-8")
        yield f"profile: {tag}", lambda: apply_profile(folder / "overlay.yaml", folder / "whole.yaml"), mark


def _remote_code(place: Path) -> Iterator[Try]:
    from plagal.model.base import load, place_base
    from plagal.plumbing.params import load_params

    mark = place / "mark"
    code = (
        _CODE.format(mark=str(mark)) + "class Model: pass\nclass ModelArgs: pass\nclass Tok: pass\nclass Config: pass\n"
    )
    jinja = "{{ ''.__class__.__mro__[1].__subclasses__() }}{% for i in range(999999999) %}{% endfor %}"
    changes: tuple[tuple[str, dict[str, Any]], ...] = (
        ("config.json", {"model_file": "evil.py"}), ("config.json", {"model_file": "../../../evil.py"}),
        ("config.json", {"auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}}),
        ("config.json", {"auto_map": {"AutoTokenizer": ["evil.Tok", None]}, "model_type": "evil"}),
        ("config.json", {"model_type": "evil"}), ("config.json", {"model_type": "evil", "architectures": ["Evil"]}),
        ("config.json", {"model_type": "...evil"}),
        ("config.json", {"custom_pipelines": {"x": {"impl": "evil.Model"}}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Tok", "evil.Tok"]}, "tokenizer_class": "Tok"}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Tok", None]}, "tokenizer_class": "TokFast"}),
        ("tokenizer_config.json", {"tokenizer_class": "evil.Tok"}), ("tokenizer_config.json", {"chat_template": jinja}),
    )  # fmt: skip
    base = _model(own_folder())
    settings = load_params(ROOT / "params.yaml").model
    for number, (name, change) in enumerate(changes):
        folder = shutil.copytree(base, own_folder() / f"model{number}")
        for planted in ("evil.py", "modeling_evil.py", "tokenization_evil.py", "conftest.py", "sitecustomize.py"):
            (folder / planted).write_text(code, encoding="utf-8")
        (folder.parent / "evil.py").write_text(code, encoding="utf-8")
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | change), encoding="utf-8")
        yield f"{name} {change}", lambda folder=folder: _saying_yes(lambda: load(folder)), mark
        placed = settings.model_copy(update={"base": str(folder)})
        yield f"base: {name} {change}", lambda placed=placed, folder=folder: _saying_yes(
            lambda: place_base(placed, folder.with_name("placed"), 1)), mark  # fmt: skip


def _saying_yes(act: Callable[[], Any]) -> Any:
    """transformers would ask whether to run the folder's code."""
    before, sys.stdin = sys.stdin, io.StringIO("y\n" * 20)
    try:
        return act()
    finally:
        sys.stdin = before


def _names(place: Path) -> Iterator[Try]:
    place.mkdir()
    folder = own_folder()
    tempfile.tempdir = str(own_folder())  # some commands write there
    for number, name in enumerate(ODD_NAMES):
        here = folder / str(number)
        here.mkdir()
        yield f"collect {name!r}", lambda here=here, name=name: _collected(here, name), here / "plagal-was-here"
        yield f"options {name!r}", lambda here=here, name=name: _by_options(here, name), here / "plagal-was-here"


def _collected(here: Path, name: str) -> dict[str, Any]:
    from corpus_helpers import collect_settings, hymn

    from plagal.corpus.collect import collect
    from plagal.music.midi import write_midi
    from plagal.plumbing.workers import Workers

    with contextlib.chdir(here), contextlib.redirect_stdout(io.StringIO()):
        (here / "music" / name).mkdir(parents=True)
        write_midi(hymn(1), here / "music" / name / f"{name}.mid")
        source = {"kind": "folder", "name": name, "path": str(here / "music"), "genre": name, "style": name,
                  "licence": name, "attribution": name}  # fmt: skip
        (here / "sources.yaml").write_text(json.dumps({"sources": [source]}), encoding="utf-8")
        settings = collect_settings(here / "sources.yaml", 1, {name: 1})
        report = collect("stage1", settings, here / "out", 1, Workers(1))
    _expect_only(here, {"music", "sources.yaml", "out"})
    if report["found"] != 1:
        raise Broken(f"{report['found']} found: {report['discarded']}")
    return report


def _by_options(here: Path, name: str) -> Any:
    from typer.testing import CliRunner

    from plagal.cli import app

    with contextlib.chdir(here):
        music, words = here / f"{name}.mid", here / f"{name}.txt"
        shutil.copyfile(here / "music" / name / f"{name}.mid", music)
        words.write_text("SONG_START BAR_START BEAT_0 NOTE_ON_60 DUR_QUARTER VEL_MF SONG_END", encoding="utf-8")
        for arguments in (["tokenize", str(music)], ["roundtrip", "--", f"{name}.mid"], ["arrange", "-ox", "--", name],
                          ["detokenize", str(words), "-o", f"./{name} made.mid"], ["profile", "--", name]):  # fmt: skip
            result = CliRunner().invoke(app, arguments)
            if result.exception is not None and not isinstance(result.exception, SystemExit):
                taken(lambda error=result.exception: _raise(error))
    _expect_only(here, {"music", "sources.yaml", "out", f"{name}.mid", f"{name}.txt", f"{name} made.mid"})
    return True


def _raise(error: BaseException) -> None:
    raise error


def _expect_only(folder: Path, names: set[str]) -> None:
    if more := {path.name for path in folder.iterdir()} - names:
        raise Broken(f"made {sorted(more)}")
