"""Resizing as clean-fid does it: the step that makes figures of different tools disagree."""

from __future__ import annotations

import numpy as np
from PIL import Image


def clean_resize(picture: Image.Image, side: int) -> np.ndarray:
    """Antialiased bicubic in floating point, a channel at a time (Parmar et al. 2022).

    Returns:
        Levels 0..255, float32 [side, side, 3], not rounded.
    """
    levels = np.asarray(picture.convert("RGB"), dtype=np.float32)
    channels = [
        Image.fromarray(levels[..., channel]).resize((side, side), Image.Resampling.BICUBIC)
        for channel in range(3)
    ]
    return np.stack(channels, axis=-1).clip(0, 255)
