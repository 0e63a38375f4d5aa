"""Resolving: from what the user said about styles to the vector a UNet is given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dmm.errors import DmmError
from dmm.merged import Styles
from dmm.mixes import mix_weights, parse_mix
from dmm.regions import Regions, no_style, whole_picture


@torch.no_grad()
def resolve(
    styles: Styles,
    mix: str | Mapping[str, float],
    *,
    normalise: bool = True,
    strength: float = 1.0,
    after_mlp: bool = False,
) -> Tensor | None:
    """The style vector V(w) of a mix, scaled by the strength.

    It is computed in float32 on the CPU, once, whatever device and precision the UNet runs in.

    Args:
        styles: the file's styles.
        mix: weight by style name, or its text, ``"ink:0.7, anime:0.3"``.
        normalise: scale the weights to sum 1, as V(w) expects (paper, section 4.5).
        strength: scales the vector; 0 is no style.
        after_mlp: mix the styles' vectors, Σ_i w_i MLP(E_i), where the paper mixes before the MLP.

    Returns:
        Float32 tensor [d], or None for no style, which adds nothing at all (rebuttal Q.21).

    Raises:
        DmmError: an unknown style, weights that are all 0 or cannot be normalised, or a number
            that is not finite or too large.
    """
    if not math.isfinite(strength):
        raise DmmError(f"The style strength is {strength}. Give a finite number; 0 is no style.")
    if strength == 0:
        return None
    if isinstance(mix, str):
        mix = parse_mix(mix)
    weights = mix_weights(mix, styles.names, normalise=normalise)
    if not weights.any():
        raise DmmError(
            "All style weights are 0. Raise one of them, or set the strength to 0 for no style."
        )
    prompts = styles.prompts
    vector = strength * (prompts.mixed_after(weights) if after_mlp else prompts(weights))
    if not vector.isfinite().all():
        raise DmmError(
            "The weights and the strength are too large: the style of this mix is beyond what a "
            "number holds. Give smaller ones."
        )
    return vector


def resolve_regions(styles: Styles, mix: str | Mapping[str, float], **how: Any) -> Regions:
    """A mix for a whole picture, as `resolve` takes it; no style adds nothing.

    Raises:
        DmmError: as `resolve`.
    """
    vector = resolve(styles, mix, **how)
    return no_style(styles.prompts.dim) if vector is None else whole_picture(vector)
