"""From features to figures: the matrices, their traces, and the kernel distances beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from trainer.evaluate.components import Components
from trainer.evaluate.frechet import Gaussian, frechet_distance
from trainer.evaluate.kernel import kernel_distance

Matrix = list[list[float]]


@dataclass(frozen=True)
class Distances:
    """How far the student's pictures are from the teachers'; one row and column a style.

    Attributes:
        matrix: M, student's style i against teacher j's pictures (paper, equation 14).
        reference: M_ref, teacher i's second set against teacher j's first.
        kernel, kernel_floor: KID on the two diagonals.
    """

    matrix: Matrix
    reference: Matrix
    kernel: list[float]
    kernel_floor: list[float]

    @property
    def trace(self) -> float:
        """FIDt (paper, equation 15)."""
        return sum(row[style] for style, row in enumerate(self.matrix))

    @property
    def floor(self) -> float:
        """The trace that the teachers reach against themselves."""
        return sum(row[style] for style, row in enumerate(self.reference))

    @property
    def excess(self) -> float:
        """How far above the floor the student is, as a share of the floor."""
        return self.trace / self.floor - 1

    @property
    def nearest(self) -> list[int]:
        """The teacher whose pictures each of the student's styles is nearest to."""
        return [row.index(min(row)) for row in self.matrix]


def measure(
    students: Sequence[Tensor],
    again: Sequence[Tensor],
    teachers: Sequence[Tensor],
    prompts: Sequence[str],
    components: int | None = None,
) -> Distances:
    """All distances between sets of features [n, d], one set a style in each of the first three.

    Args:
        students: the student's.
        again: each teacher's second set.
        teachers: its first, which both are compared with.
        prompts: of the pictures of every set.
        components: principal components that the Frechet distances are taken of, fitted on the
            teachers' first sets, so that the student has no say in them; None = all features.
    """
    kernel, kernel_floor = (_diagonal(sets, teachers, prompts) for sets in (students, again))
    if components is not None:
        reduce = Components.of(torch.cat(list(teachers)), components)
        students, again, teachers = (
            [reduce(features) for features in sets] for sets in (students, again, teachers)
        )
    references = [Gaussian.of(features) for features in teachers]
    with tqdm(
        total=2 * len(references) ** 2, desc="Comparing", unit="pair", delay=1, leave=False
    ) as bar:

        def row(features: Tensor) -> list[float]:
            own, distances = Gaussian.of(features), []
            for reference in references:
                distances.append(frechet_distance(own, reference))
                bar.update()
            return distances

        return Distances(
            matrix=[row(features) for features in students],
            reference=[row(features) for features in again],
            kernel=kernel,
            kernel_floor=kernel_floor,
        )


def _diagonal(
    ones: Sequence[Tensor], others: Sequence[Tensor], prompts: Sequence[str]
) -> list[float]:
    pairs = zip(ones, others, strict=True)
    return [kernel_distance(one, other, prompts) for one, other in pairs]
