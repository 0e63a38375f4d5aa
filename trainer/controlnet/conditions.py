"""The pictures that ControlNets are shown: made from the data's own, or from a folder of theirs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from dmm.errors import DmmError
from trainer.buckets import Size
from trainer.data import PICTURE_SUFFIXES, PictureFolder, Source, fit, read_picture


def edges(picture: Tensor) -> Tensor:
    """White edges on black: the gradient's length (Sobel and Feldman, 1968), its largest being 1.

    Args:
        picture: [3, H, W] from 0 to 1.
    """
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    kernels = torch.stack([across, across.T])[:, None]
    padded = F.pad(grey(picture)[None, :1], (1, 1, 1, 1), mode="replicate")
    length = F.conv2d(padded, kernels)[0].norm(dim=0, keepdim=True)
    return (length / length.max().clamp(min=1e-6)).expand(3, -1, -1)


def grey(picture: Tensor) -> Tensor:
    """Its brightness alone (ITU-R 601), in all three channels."""
    weights = torch.tensor([0.299, 0.587, 0.114])
    return torch.einsum("c,chw->hw", weights, picture).expand(3, -1, -1)


MADE: dict[str, Callable[[Tensor], Tensor]] = {"edges": edges, "grey": grey}
"""Conditions that are made from the pictures themselves."""


class Conditions:
    """One condition picture for each picture of the data.

    Args:
        source: the data's pictures.
        said: one of `MADE`, or a folder of pictures with the names that the data's have.

    Raises:
        DmmError: the data has no pictures, or condition pictures are missing.
    """

    def __init__(self, source: Source, said: Path) -> None:
        self._source, self._make = source, MADE.get(str(said))
        self._rows = {key: row for row, key in enumerate(source.keys)}
        self._files = {} if self._make else _files(source, said)

    def picture(self, key: str, size: Size) -> Tensor:
        """The condition picture [3, H, W] from 0 to 1 that belongs to a picture of the data.

        Args:
            key: of the picture in its source.
            size: width and height in pixels, fitted as the picture is.
        """
        if self._make:
            return self._make(_pixels(self._source.picture(self._rows[key]), size))
        return _pixels(read_picture(self._files[key]), size)

    def beside(self, scale: int, key: str, latent: Tensor) -> Tensor:
        """The condition picture that belongs to a picture's latent [c, h, w], as large as it was.

        Args:
            scale: a picture's side in latents.
        """
        height, width = latent.shape[-2:]
        return self.picture(key, (width * scale, height * scale))


def _pixels(picture: Image.Image, size: Size) -> Tensor:
    return torch.from_numpy(np.array(fit(picture, size))).permute(2, 0, 1) / 255


def _files(source: Source, folder: Path) -> dict[str, Path]:
    if not isinstance(source, PictureFolder):
        raise DmmError(
            f"`condition: {folder}` is a folder of pictures that go with those of "
            "`data.pictures`, but the data is of another kind. Give the pictures in a folder, or "
            f"a condition that is made from them: {', '.join(MADE)}."
        )
    if not folder.is_dir():
        raise DmmError(
            f"There is no folder {folder}. A `condition` is a folder of pictures, or made from "
            f"those of the data: {', '.join(MADE)}."
        )
    found = {
        file.relative_to(folder).with_suffix("").as_posix(): file
        for file in folder.rglob("*")
        if file.suffix.lower() in PICTURE_SUFFIXES
    }
    stems = {key: Path(key).with_suffix("").as_posix() for key in source.keys}
    missing = [key for key, stem in stems.items() if stem not in found]
    if missing:
        names = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        raise DmmError(
            f"{folder}: {len(missing)} of {len(stems)} pictures have no condition picture "
            f"({names}). Each needs one of the same name, in the same folder inside it."
        )
    return {key: found[stem] for key, stem in stems.items()}
