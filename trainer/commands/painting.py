"""Commands that paint from a merged checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def sample(
    checkpoint: Annotated[Path, typer.Argument(help="A merged checkpoint, or an adapter.")],
    prompt: Annotated[list[str], typer.Option(help="What to paint; repeat for more.")],
    mix: Annotated[
        list[str] | None, typer.Option(help='"ink:0.7, anime:0.3"; repeat for more. None = each.')
    ] = None,
    output: Annotated[Path, typer.Option(help="The picture to write.")] = Path("sample.png"),
    base: Annotated[Path | None, typer.Option(help="What an adapter is for.")] = None,
    strength: Annotated[float, typer.Option(help="0 = no style.")] = 1.0,
    negative: Annotated[str, typer.Option()] = "",
    steps: Annotated[
        int | None, typer.Option(min=1, help="As the file wants it, or 25, if left out.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(min=1, help="As the file wants it, or 7, if left out.")
    ] = None,
    width: Annotated[int | None, typer.Option(help="Pixels; as trained if left out.")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels; as trained if left out.")] = None,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Paint a grid: a row a mix, a column a prompt."""
    from trainer.sample import paint_mixes

    paint_mixes(
        checkpoint,
        prompt,
        mix,
        output,
        base=base,
        strength=strength,
        negative=negative,
        steps=steps,
        guidance=guidance,
        size=(width, height),
        seed=seed,
    )
    typer.echo(output.resolve())


def play(
    checkpoint: Annotated[Path, typer.Argument(help="A merged checkpoint.")],
    pictures: Annotated[
        Path | None, typer.Option(help="Folder to keep the pictures in. Else one beside the file.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="The first free one if left out.")] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Open a page with sliders for a merged checkpoint, for people with no host at hand."""
    from trainer.play import play as open_page

    folder = pictures or checkpoint.with_name(f"{checkpoint.stem}-pictures")
    open_page(checkpoint, folder.resolve(), port=port, browser=browser)
