"""Mixes: what the user says about styles, ``ink:0.7, anime:0.3``, and the weights it stands for."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dmm.errors import DmmError


def parse_mix(text: str) -> dict[str, float]:
    """Reads a mix such as ``"ink:0.7, anime:0.3"``; a name alone weighs 1.

    Raises:
        DmmError: an empty part, a weight that is no finite number, or a name said twice.
    """
    mix: dict[str, float] = {}
    for part in text.split(","):
        name, colon, weight_text = part.strip().rpartition(":")
        if not colon:
            name, weight_text = weight_text, "1"
        name = name.strip()
        if not name:
            raise DmmError(f"The mix {text!r} has an empty part. Write it as 'ink:0.7, anime:0.3'.")
        if name in mix:
            raise DmmError(f"The mix {text!r} names the style {name!r} twice. Name it once.")
        try:
            mix[name] = _finite(name, float(weight_text))
        except ValueError:
            raise DmmError(
                f"The weight {weight_text.strip()!r} of style {name!r} is not a number. "
                "Write the mix as 'ink:0.7, anime:0.3'."
            ) from None
    return mix


def format_mix(mix: Mapping[str, float]) -> str:
    """The text of a mix, which `parse_mix` reads back to the same weights."""
    return ", ".join(f"{name}:{weight!r}" for name, weight in mix.items())


def mix_weights(
    mix: Mapping[str, float], names: Sequence[str], *, normalise: bool = True
) -> Tensor:
    """Weights of a mix over a file's styles.

    Args:
        mix: weight by style name. Case does not matter where the name is still unique.
        names: the file's style names, in codebook order.
        normalise: scale the weights to sum 1, as V(w) expects (paper, section 4.5). Without it
            the weights are taken as they are.

    Returns:
        Float32 tensor [N].

    Raises:
        DmmError: an unknown style, a weight that is not finite, or weights that cannot be
            normalised.
    """
    weights = torch.zeros(len(names), dtype=torch.float64)
    for name, weight in mix.items():
        weights[style_index(name, names)] += _finite(name, weight)
    if not normalise:
        return weights.float()
    if (weights < 0).any():
        raise DmmError(
            f"The mix {format_mix(mix)!r} has a negative weight, which cannot be normalised. "
            "Use weights of 0 or more, or switch normalising off."
        )
    total = weights.sum()
    if total == 0:
        raise DmmError(
            "All style weights are 0. Raise one of them, or set the strength to 0 for no style."
        )
    if not total.isfinite():
        raise DmmError(
            f"The weights of the mix {format_mix(mix)!r} are too large. Give smaller ones."
        )
    return (weights / total).float()


def _finite(name: str, weight: float) -> float:
    if not math.isfinite(weight):
        raise DmmError(f"The weight of style {name!r} is {weight}. Give a finite number.")
    return weight


def style_index(name: str, names: Sequence[str]) -> int:
    """The row of the style called `name`; exact first, then without regard to case."""
    if name in names:
        return list(names).index(name)
    folded = [known.casefold() for known in names]
    if folded.count(name.casefold()) == 1:
        return folded.index(name.casefold())
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    hint = f" Did you mean {names[folded.index(close[0])]!r}?" if close else ""
    raise DmmError(f"There is no style {name!r} in this file.{hint} It has: {', '.join(names)}.")
