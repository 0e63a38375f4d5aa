"""Distances between folders of pictures, whoever painted them."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from dmm.errors import DmmError
from trainer.data import BROKEN, PICTURE_SUFFIXES
from trainer.evaluate.components import Components
from trainer.evaluate.extractors import Extractor
from trainer.evaluate.features import check_counts
from trainer.evaluate.frechet import Gaussian, frechet_distance
from trainer.evaluate.kernel import kernel_distance

BATCH = 16


@dataclass(frozen=True)
class Comparison:
    """Two folders: the Frechet distance and KID between their pictures."""

    one: Path
    other: Path
    frechet: float
    kernel: float


def compare(
    folders: Sequence[Path], extractor: Extractor, components: int | None = None
) -> list[Comparison]:
    """Compares every two folders.

    Args:
        components: principal components that the Frechet distance is taken of, fitted on all
            folders together; None = all features.

    Raises:
        DmmError: a folder is missing, alone or empty, or pictures in it cannot be read.
    """
    if len(folders) < 2:
        raise DmmError(f"{folders[0]} is one folder; give two or more to compare.")
    files = [_files(folder) for folder in folders]
    counts = [len(some) for some in files]
    check_counts(counts, extractor, components)
    if len(set(counts)) > 1:
        said = ", ".join(
            f"{count} in {folder}" for folder, count in zip(folders, counts, strict=True)
        )
        warnings.warn(
            f"The folders hold different numbers of pictures: {said}. The smaller a set, the "
            "larger its Frechet distances; compare as many of each.",
            stacklevel=2,
        )
    features = [_features(some, extractor) for some in files]
    reduce = Components.of(torch.cat(features), components) if components else Tensor.double
    gaussians = [Gaussian.of(reduce(some)) for some in features]
    return [
        Comparison(
            folders[one],
            folders[other],
            frechet_distance(gaussians[one], gaussians[other]),
            kernel_distance(features[one], features[other]),
        )
        for one, other in itertools.combinations(range(len(folders)), 2)
    ]


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DmmError(f"There is no folder {folder}. Give folders that hold pictures.")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in PICTURE_SUFFIXES)
    if not files:
        raise DmmError(f"{folder} holds no pictures ({', '.join(PICTURE_SUFFIXES)}).")
    return files


def _features(files: Sequence[Path], extractor: Extractor) -> Tensor:
    features, broken = [], []
    starts = range(0, len(files), BATCH)
    for start in tqdm(starts, desc=f"Features of {files[0].parent.name}", delay=1, leave=False):
        pictures = []
        for file in files[start : start + BATCH]:
            try:
                with Image.open(file) as picture:
                    pictures.append(picture.convert("RGB"))
            except BROKEN as error:
                broken.append(f"{file} ({error})")
        if not broken:
            features.append(extractor(pictures))
    if broken:
        more = f", and {len(broken) - 5} more" if len(broken) > 5 else ""
        raise DmmError(
            f"Pictures that cannot be read: {'; '.join(broken[:5])}{more}. Remove them or get them "
            "again; as many in each folder."
        )
    return torch.cat(features)
