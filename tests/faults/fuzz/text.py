"""Words, JSONL, params, profiles, sources, answers and requests."""
# ruff: noqa: E501  (samples are lines of their own length)

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from .frame import Target, expect, own_folder, taken, watched

ROOT = Path(__file__).parents[3]


def _words() -> Callable[[bytes], bool]:
    """An even first byte: text; an odd one: each two bytes after it are a word."""
    from plagal.music.midi import read_midi, to_midi_bytes
    from plagal.tokens import grammar
    from plagal.tokens.codec import decode, encode
    from plagal.tokens.vocabulary import ID_OF, WORDS, text_token_service

    own_folder()

    def words_of(data: bytes) -> list[str]:
        if data and data[0] % 2:
            pairs = zip(data[1::2], data[2::2], strict=False)
            return [WORDS[(high << 8 | low) % len(WORDS)] for high, low in pairs]
        return data[1:].decode("utf-8", "replace").split()

    def try_one(data: bytes) -> bool:
        words = words_of(data)
        with watched():
            ids = taken(lambda: text_token_service.text_to_remi_tokens(words))
            expect((ids is not None) == all(word in ID_OF for word in words), "the service knows other words")
            if ids is not None:
                expect(text_token_service.validate_round_trip(ids), "ids do not come back")
            decoded = decode(words)
            strict = taken(lambda: decode(words, strict=True))
            expect((strict is not None) == (not decoded.repairs), "mended, though grammatical, or the reverse")
            again = encode(decoded.score)
            expect(grammar.accepts(again), "words of what was decoded are not grammatical")
            expect(encode(decode(again, strict=True).score) == again, "words do not come back from their score")
            if len(decoded.score.notes):
                expect(
                    read_midi(to_midi_bytes(decoded.score)).notes.tolist() == decoded.score.notes.tolist(), "notes lost"
                )
            return strict is not None

    return try_one


def _piece_text() -> str:
    from plagal.music.arranger.arrange import arrange
    from plagal.tokens.codec import encode

    return " ".join(encode(arrange("amazing_grace", "traditional_gospel", bars=4)))


def _words_seeds() -> list[bytes]:
    from plagal.tokens.vocabulary import WORDS

    piece = _piece_text()
    short = "SONG_START KEY_Db TIMESIG_3_4 TEMPO_66 BAR_START BEAT_0 CHORD_Dbmaj9 BASS_F NOTE_ON_60 DUR_QUARTER VEL_MF BEAT_1 NOTE_ON_64 DUR_WHOLE_TIED DUR_HALF VEL_P SONG_END"
    pairs = b"".join(WORDS.index(word).to_bytes(2, "big") for word in piece.split()[:300])
    odd = b"\1" + bytes(range(256)) * 4
    return [b"\0" + piece[:2000].encode(), b"\0" + short.encode(), b"\1" + pairs, odd,
            b"\0TRILL GRACE_BEFORE NOTE_ON_60 VEL_CRESC DUR_HOLD NOTE_OFF_60 REPEAT_START BAR_START REPEAT_END \xff"]  # fmt: skip


def _jsonl() -> Callable[[bytes], bool]:
    from plagal.corpus.formats import convert_file
    from plagal.tokens.vocabulary import WORD_OF

    folder = own_folder()
    source, target = folder / "in.jsonl", folder / "out.jsonl"

    def try_one(data: bytes) -> bool:
        kind = ("mlx", "alpaca", "chatml")[data[0] % 3] if data else "mlx"
        validate = bool(data) and data[0] % 2 == 1
        source.write_bytes(data[1:])
        target.unlink(missing_ok=True)
        with watched():
            report = taken(lambda: convert_file(source, target, kind, validate, workers=1))
        left = sorted(path.name for path in folder.iterdir())
        expect(left == (["in.jsonl"] if report is None else ["in.jsonl", "out.jsonl"]), f"left: {left}")
        if report is None:
            return False
        expect(report["records"] == report["written"] + report["bad_records"], "lines are counted wrongly")
        rows = target.read_text(encoding="utf-8").split("\n")
        expect(len(rows) == report["written"] + 1 and not rows[-1], "not one row a line")
        for row in rows[:-1]:
            words = _words_of_row(json.loads(row), kind)
            expect(all(word in WORD_OF.values() for word in words), "a row holds other words")
        json.dumps(report).encode()
        return True

    return try_one


def _words_of_row(row: dict, kind: str) -> list[str]:
    if kind == "alpaca":
        return row["output"].split(" ")
    if kind == "chatml":
        return row["messages"][1]["content"].split(" ")
    return row["text"].rpartition("assistant\n")[2].removesuffix("<|im_end|>").split(" ")


def _jsonl_seeds() -> list[bytes]:
    good = json.dumps(
        {"prompt": "Generate Gospel in C major", "tokens": [0, 9, 30, 210, 240, 1], "metadata": {"a": [1.5]}}
    )
    lines = [good, '{"prompt": "", "tokens": []}', '{"prompt": "x", "tokens": [99999]}', '{"prompt": "\\ud800", "tokens": [0]}',
             "[]", "nul", '{"prompt": "{words} {prompt}", "tokens": [0, true]}', "[" * 300, '{"prompt": "x", "tokens": [1e400], "metadata": {"a": NaN}}']  # fmt: skip
    return [bytes([kind]) + "\n".join(lines[start:]).encode() for kind in range(6) for start in (0, 1)] + [
        b"\1" + good.encode() + b"\r\n\xff\xfe\n\0\n"
    ]


def _params() -> Callable[[bytes], bool]:
    from plagal.plumbing.params import load_params

    file = own_folder() / "params.yaml"

    def try_one(data: bytes) -> bool:
        file.write_bytes(data)
        with watched():
            return taken(lambda: load_params(file)) is not None

    return try_one


def _params_seeds() -> list[bytes]:
    tiny = (ROOT / "tests" / "fixtures" / "tiny" / "params.yaml").read_bytes()
    return [(ROOT / "params.yaml").read_bytes(), tiny, b"seed: !!python/object/apply:os.system ['true']\n",
            b"a: &a [x, x]\nb: &b [*a, *a]\nseed: [*b, *b]\n", b"<<: {seed: 1}\n? [1]\n: 2\n", b"seed: 0x_\n", b"2001-99-99\n",
            b"--- 1\n--- 2\n", b"seed: 1_000:59\nmodel: {base: 1e999}\n"]  # fmt: skip


def _profile() -> Callable[[bytes], bool]:
    from plagal.plumbing.params import apply_profile, load_params

    folder = own_folder()
    before = (ROOT / "params.yaml").read_text(encoding="utf-8")
    params, overlay = folder / "params.yaml", folder / "overlay.yaml"

    def try_one(data: bytes) -> bool:
        params.write_text(before, encoding="utf-8")
        overlay.write_bytes(data)
        with watched():
            changed = taken(lambda: apply_profile(overlay, params))
        left = sorted(path.name for path in folder.iterdir())
        expect(left == ["overlay.yaml", "params.yaml"], f"left: {left}")
        if changed is None:
            expect(params.read_text(encoding="utf-8") == before, "params.yaml was changed by a profile that is none")
        load_params(params)
        return changed is not None

    return try_one


def _profile_seeds() -> list[bytes]:
    own = [path.read_bytes() for path in sorted((ROOT / "profiles").glob("*.yaml"))]
    return [*own, b"seed: 3\n", b"[]\n", b"model: null\n", b"model: {base: !!python/name:os.system x}\n", b"&a {seed: *a}\n",
            b"x: 1\n", b"seed: 1\nseed: 2\n", b"fuse: {<<: {quantize_bits: 8}}\n", b"%YAML 9.9\n---\nseed: 1\n"]  # fmt: skip


def _sources() -> Callable[[bytes], bool]:
    from plagal.corpus.sources import load_sources

    file = own_folder() / "sources.yaml"

    def try_one(data: bytes) -> bool:
        file.write_bytes(data)
        with watched():
            return taken(lambda: load_sources(file)) is not None

    return try_one


def _source_seeds() -> list[bytes]:
    own = [path.read_bytes() for path in sorted((ROOT / "sources").glob("*.yaml"))]
    return [*(data for data in own if len(data) < 8000), b"sources: []\n", b"sources:\n  - {kind: folder, name: a, path: b, genre: jazz, licence: x, attribution: y, tempo: .inf}\n",
            b"sources: [{kind: archive, name: a, url: x, sha256: '', genre: g, licence: l, attribution: t}]\n"]  # fmt: skip


def _answers() -> Callable[[bytes], bool]:
    """What a model said, and what a user asked."""
    from plagal.asking.request import read_request
    from plagal.tokens import grammar
    from plagal.tokens.repair import parse_token_response

    own_folder()

    def try_one(data: bytes) -> bool:
        text = data.decode("utf-8", "replace")
        with watched():
            answer = parse_token_response(text)
            expect(grammar.accepts(answer.words), "the words of an answer are not grammatical")
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                return bool(answer.found)
            return isinstance(value, dict) and taken(lambda: read_request(value)) is not None

    return try_one


def _answer_seeds() -> list[bytes]:
    requests = ({"prompt": "slow worship ballad in Db", "bars": 8, "seed": 1}, {"prompt": "x", "key": "H", "tempo": 1e9},
                {"chords": "Dbmaj9 | Gb13", "style": "gospel", "density": 3}, {"melody": {"abc": "X:1\nK:C\nCDEF|"}},
                {"continue": {"midi": "TVRoZAAAAAYAAAABAGA="}}, {"metre": "3/4", "temperature": 0.5})  # fmt: skip
    return [b"\0" + _piece_text()[:1500].encode(), b"Here is your piece: SONG_START BAR_START NOTE_ON_60 DUR_QUARTER VEL_MF SONG_END. Enjoy!",
            b"```\nSONG_START\n```", *(json.dumps(request).encode() for request in requests)]  # fmt: skip


def _archive() -> Callable[[bytes], bool]:
    from plagal.corpus.archives import unpack

    folder = own_folder()
    file, out = folder / "a", folder / "deep" / "out"

    def try_one(data: bytes) -> bool:
        file.write_bytes(data)
        with watched():
            taken(lambda: unpack(file, out, ["*.mid"]))
        left = sorted(path.name for path in folder.iterdir())
        expect(left in (["a"], ["a", "deep"]), f"left: {left}")
        found = out.exists()
        if found:
            names = [path for path in out.rglob("*") if path.is_symlink() or not (path.is_file() or path.is_dir())]
            expect(not names and {path.name for path in out.iterdir()} == {"files", "left_out.json"}, f"made: {names}")
        shutil.rmtree(folder / "deep", ignore_errors=True)
        return found

    return try_one


def _archive_seeds() -> list[bytes]:
    from faults.archives_made import HOSTILE, SLOW

    return [data for name, make in HOSTILE.items() if name not in SLOW and len(data := make()) <= 20_000]


TARGETS = {
    "archive": Target("only files below the folder, or one line and no folder", _archive, _archive_seeds, 20_000),
    "words": Target(
        "any words decode, strictly only grammatical ones; words of a decoded score come back", _words, _words_seeds
    ),
    "jsonl": Target(
        "good lines converted, bad ones counted with their reason; else one line and no file",
        _jsonl,
        _jsonl_seeds,
        3000,
    ),
    "params": Target("params or one line that names the key", _params, _params_seeds, 6000),
    "profile": Target(
        "params.yaml laid over and valid, or one line and params.yaml as it was", _profile, _profile_seeds, 3000
    ),
    "sources": Target("sources or one line that names the entry", _sources, _source_seeds, 3000),
    "answers": Target("what a model said, or a request, is read or refused in one line", _answers, _answer_seeds),
}
