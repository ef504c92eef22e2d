# ruff: noqa: I001  (the fast BLAS goes before mlx.core)
"""An exported GGUF file in llama.cpp, beside the folder that it was made from.

    .venv/bin/uv pip install --no-deps --require-hashes -r requirements-llamacpp.lock
    plagal export --to gguf -o out/plagal.gguf
    python tools/llama_cpp_check.py out/plagal.gguf [--model models/fused]

Compares tokens (one a music word) and the log-probabilities of what llama.cpp finds likeliest, word after word; then
lets llama.cpp write a piece without any grammar and reads it as `parse_token_response` does. Ends with 1 where a
log-probability is off by more than 0.05.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import plagal.model  # noqa: F401
import numpy as np

from plagal.export import PROMPT
from plagal.model.base import load
from plagal.model.tensors import logits_of
from plagal.tokens.repair import parse_token_response
from plagal.tokens.vocabulary import prompt_text

TOLERANCE = 0.05
"""[nats]: llama.cpp rounds activations to 8 bits where weights are packed, and keeps keys and values in fp16."""
LIKELIEST = 8
STEPS = 12
BEGUN = "SONG_START KEY_C TIMESIG_4_4 TEMPO_80 BAR_START"


def serve(gguf: Path) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.warmup = str(gguf), 1024, False
    return xllamacpp.Server(params)


def complete(server: Any, text: str, **options: Any) -> Any:
    return server.handle_completions({"prompt": text, **options})


def compare(server: Any, lm: Any) -> float:
    """The largest difference of a log-probability [nats]. Raises SystemExit where the two count tokens otherwise."""
    text, worst = prompt_text(PROMPT) + BEGUN, 0.0
    for _ in range(STEPS):
        answer = complete(server, text, max_tokens=1, temperature=0, logprobs=LIKELIEST)
        ids = lm.encode_text(text)
        read = answer["usage"]["prompt_tokens"]
        if read != len(ids):
            sys.exit(f"llama.cpp reads {read} tokens where the model reads {len(ids)}")
        logits = logits_of(lm.model, ids)[-1].astype(np.float64)
        nats = logits - logits.max() - math.log(np.exp(logits - logits.max()).sum())
        likeliest = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        worst = max(worst, *(abs(each["logprob"] - nats[each["id"]]) for each in likeliest))
        text += answer["choices"][0]["text"]
    return worst


def main() -> None:
    wishes = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    wishes.add_argument("gguf", type=Path)
    wishes.add_argument("--model", type=Path, default=Path("models/fused"))
    wishes.add_argument("--tokens", type=int, default=300, help="of the piece that it writes")
    options = wishes.parse_args()
    lm, server = load(options.model), serve(options.gguf)
    worst = compare(server, lm)
    print(f"{STEPS} words, the {LIKELIEST} likeliest of each: no log-probability is off by more than {worst:.2g} nats")
    answer = complete(server, prompt_text(PROMPT), max_tokens=options.tokens, temperature=0.9, top_p=0.9, seed=7)
    piece = parse_token_response(answer["choices"][0]["text"])
    notes = sum(word.startswith("NOTE_ON_") for word in piece.words)
    print(f"written by llama.cpp: {len(piece.found)} words, {notes} notes after {len(piece.repairs)} repairs,"
          f" {len(piece.skipped)} other words skipped")  # fmt: skip
    sys.exit(int(worst > TOLERANCE))


if __name__ == "__main__":
    main()
