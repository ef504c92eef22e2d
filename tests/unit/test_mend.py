"""DVC's own notes, cut off at every length."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from plagal.plumbing.dvc_cache import LOCK_FILE, LOCKS_OF_PATHS, mend, whole_entries
from plagal.plumbing.errors import InputError

WHOLE = """schema: '2.0'
stages:
  collect:
    cmd: python -m collect
    deps:
    - path: sources.yaml
      hash: md5
      md5: d751713988987e9331980363e24189ce
      size: 12
    params:
      params.yaml:
        seed: 7
    outs:
    - path: data
      hash: md5
      md5: 34a2b1aa5b40112d50b6073d80a24163.dir
      size: 4523
      nfiles: 1
  train:
    cmd: python -m train
    outs:
    - path: model
      hash: md5
      md5: 9f8fc8f9579912c277934698a3a4ba14
      size: 254075
"""


def test_a_lock_file_cut_off_anywhere_keeps_its_whole_entries_and_no_half_one():
    whole = yaml.safe_load(WHOLE)["stages"]
    second = WHOLE.index("  train:")
    for length in range(len(WHOLE)):
        kept = whole_entries(WHOLE[:length])
        stages = yaml.safe_load(WHOLE[:length] if kept is None else kept)["stages"]
        if kept is not None:
            assert stages == ({"collect": whole["collect"]} if length >= second + 8 else {}), WHOLE[:length]
        else:  # at the end of a line where all that DVC compares is there
            assert WHOLE[length - 1] == "\n" and all(
                out["md5"] == whole[name]["outs"][0]["md5"] for name in stages for out in stages[name]["outs"]
            )
    assert whole_entries(WHOLE) is None


def test_sides_of_a_merge_are_left_to_people():
    with pytest.raises(InputError, match="both sides of a merge"):
        whole_entries(f"<<<<<<< ours\n{WHOLE}")


def test_what_is_whole_is_left_alone_and_what_is_cut_off_is_told(tmp_path: Path):
    assert list(mend(tmp_path)) == []
    locks, lock = tmp_path / LOCKS_OF_PATHS, tmp_path / LOCK_FILE
    locks.parent.mkdir(parents=True)
    locks.write_text("{}")
    lock.write_text(WHOLE)
    assert list(mend(tmp_path)) == []
    locks.write_text('{"write": {"/a')
    lock.write_text(WHOLE[:-10])
    assert [line.split()[0] for line in mend(tmp_path)] == [str(LOCKS_OF_PATHS), str(LOCK_FILE)]
    assert not locks.exists() and list(yaml.safe_load(lock.read_text())["stages"]) == ["collect"]
    assert list(mend(tmp_path)) == []
