"""`plagal export`: what was learned, for other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class To(StrEnum):
    peft = "peft"
    gguf = "gguf"
    mlx = "mlx"


def export(
    to: Annotated[To, typer.Option(help="peft: the adapter; gguf, mlx: the fused model.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Else out/plagal-TO, out/plagal.gguf.")] = None,
    models: Annotated[Path, typer.Option(help="The pipeline's folder of models.")] = Path("models"),
) -> None:
    """Write an adapter for Hugging Face PEFT, a GGUF file or an MLX folder, read it back and compare its logits."""
    import plagal.model  # noqa: F401  (the fast BLAS goes before everything that loads another)
    from plagal.export.gguf import to_gguf
    from plagal.export.mlx import to_mlx
    from plagal.export.peft import to_peft

    out = output or Path("out") / ("plagal.gguf" if to is To.gguf else f"plagal-{to.value}")
    write = {To.peft: to_peft, To.gguf: to_gguf, To.mlx: to_mlx}[to]
    done = write(models if to is To.peft else models / "fused", out)
    for line in done.lines():
        print(line)
