"""KID, the kernel distance between two sets of features: unbiased, however few they are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def kernel_distance(one: Tensor, other: Tensor, prompts: Sequence[str] | None = None) -> float:
    """Squared maximum mean discrepancy with the kernel (x·y / d + 1)³ (Bińkowski et al. 2018).

    It is the unbiased estimate over all pairs of pictures, where other tools take the mean over
    random subsets of them: the same figure in expectation, with less noise. It may come out a
    little below 0 for sets of one distribution.

    Args:
        one, other: [n, d] and [m, d], two rows each at the least.
        prompts: of the rows of both sets, where they were painted from the same prompts. The
            estimate wants independent pictures, and two of one prompt are not: such pairs, within
            a set or across, are then left out. (With different prompts throughout this is the
            "u-statistic" of other tools.)
    """
    one, other = one.double(), other.double()
    if prompts is None or len(set(prompts)) == 1:
        across = torch.ones(len(one), len(other), dtype=torch.bool)
        within_one, within_other = (
            ~torch.eye(len(rows), dtype=torch.bool) for rows in (one, other)
        )
    else:
        numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
        numbered = torch.tensor([numbers[prompt] for prompt in prompts])
        across = within_one = within_other = numbered[:, None] != numbered
    return float(
        _kernel(one, one)[within_one].mean()
        + _kernel(other, other)[within_other].mean()
        - 2 * _kernel(one, other)[across].mean()
    )


def _kernel(one: Tensor, other: Tensor) -> Tensor:
    return (one @ other.T / one.shape[1] + 1) ** 3
