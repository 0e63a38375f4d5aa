"""Random numbers that depend on what they are for and on nothing drawn before them."""

from __future__ import annotations

import hashlib

import torch


def generator(*parts: object) -> torch.Generator:
    """A CPU generator of its own for every different list of `parts`, such as (seed, step)."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
