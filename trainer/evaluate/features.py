"""Features of painted pictures, extracted once and kept beside the latents."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from dmm.errors import DmmError
from trainer.evaluate.extractors import Extractor
from trainer.evaluate.painting import PictureSet
from trainer.shards import Batch, batched, compute

BATCH = 16


def extract(pictures: PictureSet, extractor: Extractor, folder: Path) -> Tensor:
    """Features [n, d] of a set, float32; spread over processes, and taken up where they stopped.

    They are stored in float16, which changes no distance by more than some 1e-5 of it.
    """

    def features(rows: range) -> Iterator[Batch]:
        for batch in batched(rows, BATCH):
            yield {"features": extractor(list(pictures.pictures(batch)))}

    shards = compute(
        folder,
        "features",
        {"pictures": pictures.fingerprint, "extractor": extractor.identity},
        count=len(pictures.examples),
        line=lambda row: {"caption": pictures.examples.caption(row)},
        batches=features,
    )
    pictures.release()
    return shards.column("features").float()


def check_counts(counts: Sequence[int], extractor: Extractor, components: int | None) -> None:
    """Says so where there are too few pictures for a Frechet distance.

    Raises:
        DmmError: a set has fewer than two pictures, or no more than there are components.
    """
    least, needed = min(counts), extractor.size + 1
    if components is not None and not 1 <= components <= extractor.size:
        raise DmmError(
            f"{components} components cannot be taken of {extractor.size} features. "
            "Give a smaller number by --components."
        )
    if least < 2 or (components is not None and least <= components):
        raise DmmError(
            f"{least} pictures are too few: a Frechet distance needs at least "
            f"{(components or 1) + 1}{' for so many components' if components else ''}."
        )
    if components is None and least < needed:
        warnings.warn(
            f"{least} pictures are fewer than the {extractor.size} features of "
            f"{extractor.name!r}: every {extractor.figure} comes out too high, and only figures "
            f"with as many pictures can be compared. Paint at least {needed}, or compare fewer "
            "numbers of each picture: --components 64.",
            stacklevel=2,
        )


def figure_name(extractor: Extractor, components: int | None) -> str:
    """What the Frechet distance is called: "FID", "FD-lite0", "FD-lite0 (64 components)"."""
    return extractor.figure + (f" ({components} components)" if components else "")
