"""Commands that look at model files, or make one of others without training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trainer.commands.options import Dtype, Output, Overwrite


def inspect(files: Annotated[list[Path], typer.Argument(help="Model files or folders.")]) -> None:
    """Say what a file is: architecture, styles, recipe, ancestors."""
    from trainer.inspect_file import describe

    for path in files:
        typer.echo(describe(path))


def average(
    checkpoints: Annotated[
        list[Path], typer.Argument(help="Plain checkpoints; the first gives the VAE.")
    ],
    output: Output,
    weights: Annotated[
        str | None, typer.Option(help='One a checkpoint: "0.7, 0.3". All alike if left out.')
    ] = None,
    dtype: Dtype = "fp16",
    overwrite: Overwrite = False,
) -> None:
    """Average the weights of plain checkpoints, which blurs their styles: a baseline."""
    from trainer.average import average as write_average
    from trainer.average import parse_weights

    parsed = parse_weights(weights) if weights is not None else None
    write_average(checkpoints, output, parsed, dtype=dtype, overwrite=overwrite)
    typer.echo(output.resolve())


def extract(
    tuned: Annotated[Path, typer.Argument(help="A checkpoint that was fine-tuned from the base.")],
    base: Annotated[Path, typer.Option(help="The checkpoint it was fine-tuned from.")],
    output: Output,
    rank: Annotated[int, typer.Option(min=1, help="More hold more, in a larger file.")] = 32,
    dtype: Dtype = "fp16",
    overwrite: Overwrite = False,
) -> None:
    """Extract a LoRA from a fine-tune, which any host puts on its base."""
    from trainer.extract import extract as write_lora

    write_lora(tuned, base, rank, output, dtype=dtype, overwrite=overwrite)
    typer.echo(output.resolve())


def fold(
    adapter: Annotated[Path, typer.Argument(help="What a merge with `train.adapter` wrote.")],
    base: Annotated[Path, typer.Option(help="The checkpoint it was trained on.")],
    output: Output,
    dtype: Dtype = "fp16",
    overwrite: Overwrite = False,
) -> None:
    """Fold an adapter into its base, which gives a merged checkpoint."""
    from trainer.fold import fold as write_folded

    write_folded(adapter, base, output, dtype=dtype, overwrite=overwrite)
    typer.echo(output.resolve())
