"""Exponential moving average of weights: what is sampled and shipped."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Averaged:
    """Holds in ``self.net`` the moving average of ``net``'s parameters.

    ``decay`` is reached gradually (as ``(1 + step) / (10 + step)``), so short runs average too.
    """

    def __init__(self, net: nn.Module, decay: float):
        self.decay = decay
        self.steps = 0
        self.net = copy.deepcopy(net).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        for mean, value in zip(self.net.parameters(), net.parameters(), strict=True):
            mean.lerp_(value.detach(), 1 - decay)
