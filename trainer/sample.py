"""Pictures from a merged checkpoint, one row a mix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dmm.resolving import resolve
from trainer.grid import save_grid
from trainer.studio import Studio, picture_size


def paint_mixes(
    path: Path,
    prompts: Sequence[str],
    mixes: Sequence[str] | None,
    output: Path,
    *,
    base: Path | None = None,
    strength: float = 1.0,
    negative: str = "",
    steps: int | None = None,
    guidance: float | None = None,
    size: tuple[int | None, int | None] = (None, None),
    seed: int = 0,
) -> None:
    """Paints every prompt in every mix, from the same noise, and writes one labelled picture.

    Args:
        path: a merged checkpoint, or an adapter.
        mixes: such as "ink:0.7, anime:0.3"; None = every style alone.
        base: the checkpoint that an adapter is for.
        strength: factor on the style vector; 0 = no style, the average.
        steps, guidance: None = as the file wants it, else 25 and 7.
        size: width and height in pixels; None = as the file was trained.

    Raises:
        DmmError: the file has no styles, a mix names another, the size is not a multiple of 8, or
            the file paints in few steps and many are asked for.
    """
    studio = Studio(path, base)
    studio.refuse_steps(steps)
    wanted = [(mix, mix) for mix in mixes or ()]
    wanted = wanted or [(name, {name: 1.0}) for name in studio.styles.names]
    styles = [(label, resolve(studio.styles, mix, strength=strength)) for label, mix in wanted]
    size = picture_size(size, studio.size)
    rows = []
    for label, vector in styles:
        pictures = studio.paint(
            prompts,
            vector,
            negative=negative,
            size=size,
            seed=seed,
            steps=steps,
            guidance=guidance,
            progress=f"Painting {label}",
        )
        rows.append((label, pictures))
    save_grid(output, rows)
