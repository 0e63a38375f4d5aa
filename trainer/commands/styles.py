"""Commands that change the styles of a merged file, without training."""

from __future__ import annotations

from typing import Annotated

import typer

from trainer.commands.options import Merged, Output, Overwrite


def drop(
    merged: Merged,
    styles: Annotated[list[str], typer.Argument(help="Names of the styles to leave out.")],
    output: Output,
    overwrite: Overwrite = False,
) -> None:
    """Leave styles out of a merged file, without training."""
    from trainer.edit_styles import drop_styles

    drop_styles(merged, styles, output, overwrite=overwrite)
    typer.echo(output.resolve())


def reorder(
    merged: Merged,
    styles: Annotated[list[str], typer.Argument(help="Names that come first, in this order.")],
    output: Output,
    overwrite: Overwrite = False,
) -> None:
    """Put the styles of a merged file into another order, without training."""
    from trainer.edit_styles import reorder_styles

    reorder_styles(merged, styles, output, overwrite=overwrite)
    typer.echo(output.resolve())


def rename(
    merged: Merged,
    renames: Annotated[list[str], typer.Argument(help='"old name=new name"; repeat for more.')],
    output: Output,
    overwrite: Overwrite = False,
) -> None:
    """Give styles of a merged file other names, without training."""
    from trainer.edit_styles import rename_styles

    pairs = dict(word.partition("=")[::2] for word in renames)
    rename_styles(merged, pairs, output, overwrite=overwrite)
    typer.echo(output.resolve())
