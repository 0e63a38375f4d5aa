"""The losses (paper, section 3.4). Each gives one value a pair, in float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST_VARIANCE = 1e-6  # of a block's output that says anything


def score_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """L_score = ‖ε_stu − ε_tea‖², the mean over each pair's elements (equation 9).

    Args:
        student, teacher: predictions [P, c, h, w] in the student's parametrisation.

    Returns:
        Float32 [P].
    """
    return (student.float() - teacher.float()).square().flatten(1).mean(1)


def huber_loss(ours: Tensor, theirs: Tensor, width: float = 0.001) -> Tensor:
    """√(d² + c²) − c, the mean over each pair's elements: Consistency models' pseudo-Huber loss.

    Args:
        ours, theirs: [P, c, h, w].
        width: c; differences well below it count as squares, well above it by their size.

    Returns:
        Float32 [P].
    """
    difference = ours.float() - theirs.float()
    return (difference.square() + width**2).sqrt().sub(width).flatten(1).mean(1)


def feature_loss(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    kind: Literal["l2", "relative", "cosine"] = "l2",
) -> Tensor:
    """L_feat, the mean over all down, mid and up blocks (equation 10).

    Args:
        student, teacher: block outputs, each [P, C_j, h_j, w_j].
        kind: "l2" = mean squared error; "relative" = its share of the teacher's variance in that
            block, so that blocks of large numbers do not drown the others; "cosine" = 1 − cosine
            similarity over the channels.

    Returns:
        Float32 [P].
    """
    blocks = []
    for ours, theirs in zip(student, teacher, strict=True):
        if kind == "l2":
            blocks.append(score_loss(ours, theirs))
        elif kind == "relative":
            variance = theirs.float().flatten(1).var(1, correction=0)
            blocks.append(score_loss(ours, theirs) / variance.clamp(min=SMALLEST_VARIANCE))
        else:
            similarity = F.cosine_similarity(ours.float(), theirs.float(), dim=1)
            blocks.append(1 - similarity.flatten(1).mean(1))
    return torch.stack(blocks).mean(0)
