"""The plan's converter."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from corpus_helpers import hymn

from plagal.corpus.formats import convert_file, convert_record
from plagal.plumbing.errors import DiskError, InputError, RecordError
from plagal.tokens.codec import encode
from plagal.tokens.vocabulary import ID_OF

WORDS = encode(hymn(1, bars=4))
RECORD = {"prompt": "Generate Gospel in C major", "tokens": [ID_OF[word] for word in WORDS], "metadata": {"id": "a"}}
TEXT = " ".join(WORDS)


def write_lines(path: Path, *lines: Any) -> Path:
    raw = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    path.write_bytes(raw + b"\n")
    return path


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_mlx_rows_are_the_models_own_chat_template_around_prompt_and_words():
    assert convert_record(RECORD)["text"] == (
        f"<|im_start|>user\nGenerate Gospel in C major<|im_end|>\n<|im_start|>assistant\n{TEXT}<|im_end|>"
    )


def test_alpaca_and_chatml_rows_hold_the_same_prompt_and_words():
    alpaca = convert_record(RECORD, "alpaca")
    assert (alpaca["instruction"], alpaca["input"], alpaca["output"]) == (RECORD["prompt"], "", TEXT)
    assert convert_record(RECORD, "chatml")["messages"] == [
        {"role": "user", "content": RECORD["prompt"]},
        {"role": "assistant", "content": TEXT},
    ]
    assert convert_record(RECORD, "chatml")["metadata"] == {"id": "a"}


def test_braces_in_a_prompt_are_only_braces():
    assert "{words} and {prompt}" in convert_record(RECORD | {"prompt": "{words} and {prompt}"})["text"]


BAD = {
    b"{": "not JSON",
    b"\xff\xfe": "not UTF-8",
    b"": "empty",
    b"[" * 100_000: "not JSON",
    b"[1, 2]": "not a JSON object",
    json.dumps({"tokens": [0]}).encode(): "`prompt`",
    json.dumps({"prompt": " ", "tokens": [0]}).encode(): "`prompt`",
    json.dumps({"prompt": "a<|im_end|>", "tokens": [0]}).encode(): "chat template",
    json.dumps({"prompt": "a", "tokens": []}).encode(): "`tokens`",
    json.dumps({"prompt": "a", "tokens": [0, "1"]}).encode(): "`tokens`",
    json.dumps({"prompt": "a", "tokens": [True]}).encode(): "`tokens`",
    json.dumps({"prompt": "a", "tokens": [99999]}).encode(): "99999",
    json.dumps({"prompt": "a", "tokens": [0], "metadata": 3}).encode(): "`metadata`",
    b'{"prompt": "a", "tokens": [%s]}' % (b"9" * 5000): "not JSON",
    b'{"prompt": "a \\ud800", "tokens": [0]}': "half a character",
    b'{"prompt": "a", "tokens": [0], "metadata": {"x": NaN}}': "not JSON",
    b'{"prompt": "a", "tokens": [0], "metadata": {"x": -1e999}}': "not JSON",
}


def test_bad_lines_are_reported_with_number_and_reason_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    source = write_lines(tmp_path / "in.jsonl", RECORD, *BAD, RECORD)
    with caplog.at_level(logging.WARNING):
        report = convert_file(source, tmp_path / "out.jsonl")
    assert (report["records"], report["written"], report["bad_records"]) == (len(BAD) + 2, 2, len(BAD))
    assert [number for number, _ in report["bad"]] == list(range(2, len(BAD) + 2))
    for (_, reason), said in zip(report["bad"], BAD.values(), strict=True):
        assert said in reason
    assert "line 2 left out: not JSON" in caplog.text
    assert len(rows(tmp_path / "out.jsonl")) == 2


def test_validate_holds_every_record_to_the_grammar(tmp_path: Path):
    broken = RECORD | {"tokens": [*RECORD["tokens"][:-1]]}
    source = write_lines(tmp_path / "in.jsonl", RECORD, broken)
    assert convert_file(source, tmp_path / "lax.jsonl")["written"] == 2
    report = convert_file(source, tmp_path / "strict.jsonl", validate=True)
    assert report["written"] == 1
    assert report["bad"][0][0] == 2


def test_the_order_is_kept_and_workers_change_nothing(tmp_path: Path):
    records = [RECORD | {"metadata": {"id": number}} for number in range(2000)]
    source = write_lines(tmp_path / "in.jsonl", *records)
    convert_file(source, tmp_path / "one.jsonl", "chatml", workers=1)
    convert_file(source, tmp_path / "two.jsonl", "chatml", workers=2)
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    assert [row["metadata"]["id"] for row in rows(tmp_path / "one.jsonl")] == list(range(2000))


def test_a_line_too_long_for_a_record_is_skipped_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("plagal.corpus.formats.MAX_LINE_BYTES", 20_000)
    source = write_lines(tmp_path / "in.jsonl", RECORD, b"x" * 70_000, RECORD)
    report = convert_file(source, tmp_path / "out.jsonl", workers=1)
    assert (report["written"], report["bad"]) == (2, [(2, "empty, or longer than a record may be")])


def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import tracemalloc

    monkeypatch.setattr("plagal.corpus.formats._BATCH_BYTES", 50_000)

    def peak(count: int) -> int:
        source = write_lines(tmp_path / f"{count}.jsonl", *[RECORD] * count)
        tracemalloc.start()
        convert_file(source, tmp_path / "out.jsonl", workers=1)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)
    assert peak(2000) < 1.2 * peak(400)


def test_the_output_appears_whole_or_not_at_all(tmp_path: Path):
    import resource

    source = write_lines(tmp_path / "in.jsonl", *[RECORD] * 200)
    target = tmp_path / "out.jsonl"
    target.write_text("what was there")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(DiskError, match=r"out\.jsonl"):
            convert_file(source, target, workers=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert target.read_text() == "what was there"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_nothing_good_in_a_file_is_an_error_and_leaves_no_output(tmp_path: Path):
    source = write_lines(tmp_path / "in.jsonl", b"{", b"{")
    with pytest.raises(RecordError, match="none of 2 lines"):
        convert_file(source, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_a_missing_file_and_an_unknown_format_are_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"gone\.jsonl is missing"):
        convert_file(tmp_path / "gone.jsonl", tmp_path / "out.jsonl")
    with pytest.raises(InputError, match="'csv' is not known; choose among mlx, alpaca, chatml"):
        convert_file(tmp_path / "gone.jsonl", tmp_path / "out.jsonl", "csv")
