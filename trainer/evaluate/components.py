"""Principal components, for sets of fewer pictures than features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Components:
    """A projection to fewer numbers.

    Attributes:
        mean: [d].
        directions: [d, k], orthonormal.
    """

    mean: Tensor
    directions: Tensor

    @classmethod
    def of(cls, features: Tensor, count: int) -> Components:
        """The first `count` of features [n, d]."""
        mean = features.double().mean(dim=0)
        _, _, directions = torch.linalg.svd(features.double() - mean, full_matrices=False)
        return cls(mean, directions[:count].T)

    def __call__(self, features: Tensor) -> Tensor:
        """Features [n, d] as [n, k], in float64."""
        return (features.double() - self.mean) @ self.directions
