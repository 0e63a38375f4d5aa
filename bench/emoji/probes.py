"""What a picture's features tell: whose style it is in, and what it shows.

The teachers' own first pictures are what is known. Their second ones are the ceiling: styles that
are near neighbours are confused by any probe.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

RIDGE = 1.0


class StyleProbe:
    """Names the style of a picture: a ridge regression on whitened features.

    Args:
        sets: features [n, d] of each style's pictures.
    """

    def __init__(self, sets: Sequence[Tensor]) -> None:
        features = torch.cat(list(sets)).double()
        self._mean, self._scale = features.mean(0), features.std(0) + 1e-6
        styles = torch.arange(len(sets)).repeat_interleave(len(sets[0]))
        wanted = torch.nn.functional.one_hot(styles, len(sets)).double()
        self._known = self._scaled(features)
        gram = self._known @ self._known.T / features.shape[1]
        eye = torch.eye(len(gram), dtype=gram.dtype)
        self._weights = torch.linalg.solve(gram + RIDGE * eye, wanted - wanted.mean(0))

    def __call__(self, features: Tensor) -> Tensor:
        """The style of each picture, [n], from features [n, d]."""
        gram = self._scaled(features.double()) @ self._known.T / features.shape[1]
        return (gram @ self._weights).argmax(1)

    def _scaled(self, features: Tensor) -> Tensor:
        return (features - self._mean) / self._scale


def style_accuracy(probe: StyleProbe, sets: Sequence[Tensor]) -> float:
    """The share of pictures taken for what they should be; `sets` in the order of the styles."""
    hits = [(probe(features) == style).double() for style, features in enumerate(sets)]
    return float(torch.cat(hits).mean())


def concept_accuracy(features: Tensor, known: Tensor, prompts: Sequence[str]) -> float:
    """The share of pictures whose nearest known one, by cosine, is of the same prompt.

    Args:
        features, known: [n, d] and [m, d]; the mean of `known` is their origin.
        prompts: of the rows of `known`, and of the first n of them those of `features`.
    """
    centre = known.double().mean(0)
    ours, theirs = (
        torch.nn.functional.normalize(rows.double() - centre, dim=1) for rows in (features, known)
    )
    nearest = (ours @ theirs.T).argmax(1).tolist()
    hits = sum(prompts[found] == prompts[row] for row, found in enumerate(nearest))
    return hits / len(features)
