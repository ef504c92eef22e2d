"""params.yaml is checked before anything runs, and profiles keep its comments."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from plagal.plumbing.errors import ParamsError
from plagal.plumbing.params import apply_profile, check_params, load_params, profile_path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")


def test_the_committed_params_are_valid():
    assert load_params(ROOT / "params.yaml").seed >= 0


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("sed",), 1, "sed is not a known key"),
        (("train_stage1", "leraning_rate"), 0.1, "train_stage1.leraning_rate is not a known key"),
        (("train_stage1", "learning_rate"), -1.0, "train_stage1.learning_rate is -1.0"),
        (("train_stage2", "lora", "dropout"), 1.5, "train_stage2.lora.dropout is 1.5"),
        (("train_stage1", "steps"), "many", "train_stage1.steps is 'many'"),
        (("model", "encoding"), "emoji", "model.encoding is 'emoji'"),
        (("model", "embedded", "heads"), 7, "hidden_size must be a multiple of heads"),
        (("convert", "template"), "{prompt}{words}", "convert.template is not a known key"),
        (("train_stage2", "mode"), "full", "train_stage2.mode is 'full': stage 2 trains adapters"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_path(path: tuple[str, ...], value: object, says: str):
    raw = yaml.safe_load(TEXT)
    place = raw
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ParamsError, match=says.replace(".", r"\.")) as caught:
        check_params(yaml.safe_dump(raw), "params.yaml")
    assert "\n" not in str(caught.value) and "params.yaml" in str(caught.value)


def test_a_missing_key_is_named():
    raw = yaml.safe_load(TEXT)
    del raw["fuse"]["quantize_bits"]
    with pytest.raises(ParamsError, match=r"fuse\.quantize_bits is missing"):
        check_params(yaml.safe_dump(raw), "params.yaml")


@pytest.mark.parametrize("text", ["a: [", "\t- x", "!!python/object/apply:os.system ['true']"])
def test_text_that_is_no_plain_yaml_is_refused(text: str):
    with pytest.raises(ParamsError):
        check_params(text, "params.yaml")


MERGES = "a0: &a0 {k0: 1, l0: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}, *a{n - 1}], k{n}: 1}}\n" for n in range(1, 30)
)
LISTS = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


@pytest.mark.parametrize("text", [MERGES, LISTS, "a: &a [*a]"])
def test_aliases_that_stand_for_more_than_anybody_writes_are_refused_at_once(text: str):
    with pytest.raises(ParamsError, match=r"params\.yaml: its aliases \(\*\) expand to more than 100000 values"):
        check_params(text, "params.yaml")


def test_an_alias_stands_for_what_it_names():
    raw = yaml.safe_load(TEXT)
    raw["convert"]["stage2"] = raw["convert"]["stage1"]  # PyYAML writes what stands twice as an alias
    aliased = yaml.safe_dump(raw)
    assert "stage2: *id" in aliased
    params = check_params(aliased, "params.yaml")
    assert params.convert.stage2 == params.convert.stage1


@pytest.mark.parametrize("overlay", ["&seed: a", "just words", "[1, 2]"])
def test_a_profile_without_keys_is_named_and_changes_nothing(tmp_path: Path, overlay: str):
    params, above = tmp_path / "params.yaml", tmp_path / "mine.yaml"
    params.write_text(TEXT, encoding="utf-8")
    above.write_text(overlay, encoding="utf-8")
    with pytest.raises(ParamsError, match=r"mine\.yaml holds no keys"):
        apply_profile(above, params)
    assert params.read_text(encoding="utf-8") == TEXT


def test_a_profile_over_empty_params_says_what_is_missing(tmp_path: Path):
    (tmp_path / "params.yaml").write_text("", encoding="utf-8")
    (tmp_path / "mine.yaml").write_text("seed: 7", encoding="utf-8")
    with pytest.raises(ParamsError, match="is missing"):
        apply_profile(tmp_path / "mine.yaml", tmp_path / "params.yaml")


def test_a_profile_changes_only_its_keys_and_keeps_the_comments(tmp_path: Path):
    params, overlay = tmp_path / "params.yaml", tmp_path / "mine.yaml"
    params.write_text(TEXT)
    overlay.write_text("train_stage2: {learning_rate: 0.00123}\n")
    difference = apply_profile(overlay, params)
    changed = [line for line in difference.splitlines() if line[0] in "+-" and not line.startswith(("+++", "---"))]
    assert len(changed) == 2 and "0.00123" in changed[1]
    assert params.read_text().count("#") == TEXT.count("#")


def test_a_profile_with_an_unknown_key_leaves_params_as_they_were(tmp_path: Path):
    params, overlay = tmp_path / "params.yaml", tmp_path / "mine.yaml"
    params.write_text(TEXT)
    overlay.write_text("train_stage2: {speed: 11}\n")
    with pytest.raises(ParamsError, match="speed"):
        apply_profile(overlay, params)
    assert params.read_text() == TEXT


def test_the_embedded_profile_is_what_is_committed(tmp_path: Path):
    params = tmp_path / "params.yaml"
    params.write_text(TEXT)
    assert apply_profile(ROOT / "profiles" / "embedded.yaml", params) == ""


@pytest.mark.parametrize("path", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_profile_applies_and_the_embedded_one_leads_back(path: Path, tmp_path: Path):
    params = tmp_path / "params.yaml"
    params.write_text(TEXT)
    apply_profile(path, params)
    apply_profile(ROOT / "profiles" / "embedded.yaml", params)
    assert yaml.safe_load(params.read_text()) == yaml.safe_load(TEXT)


def test_an_unknown_profile_lists_those_there_are():
    with pytest.raises(ParamsError, match="embedded"):
        profile_path("enormous", ROOT / "profiles")


def test_a_misspelt_key_is_named_rather_than_the_one_that_is_missing_for_it():
    with pytest.raises(ParamsError, match="sede is not a known key"):
        check_params(TEXT.replace("seed: ", "sede: ", 1), "params.yaml")


def test_a_number_in_powers_of_ten_is_one_with_or_without_a_point(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    for written in ("3e-3", "3.0e-3", "0.003"):
        changed = re.sub(r"learning_rate: \S+", f"learning_rate: {written}", text)
        assert check_params(changed, "params.yaml").train_stage1.learning_rate == 0.003
