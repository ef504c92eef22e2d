"""Merge stage 2's adapter into one ordinary MLX model folder, and check that nothing was lost."""

from __future__ import annotations

from plagal.corpus.provenance import fused_card
from plagal.model.adapters import whole_model_under_stage2
from plagal.model.fuse import fuse
from plagal.plumbing.params import Params
from plagal.stages.common import MODELS, TEXT, run_stage
from plagal.stages.training import forget_finished, texts_of


def main(params: Params) -> None:
    forget_finished()
    fuse(
        whole_model_under_stage2(MODELS),
        MODELS / "stage2",
        MODELS / "fused",
        texts_of(TEXT / "stage2" / "valid.jsonl"),
        quantize_bits=params.fuse.quantize_bits,
        max_lost_share=params.fuse.max_lost_share,
        card=fused_card(TEXT),
    )


if __name__ == "__main__":
    run_stage("fuse", main)
