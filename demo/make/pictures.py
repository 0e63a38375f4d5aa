"""The pictures of ``art.py`` as tensors, and grids of pictures to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

DEMO = Path(__file__).resolve().parent.parent


def read_lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def load_style(folder: Path, captions: list[str] | None = None) -> tuple[Tensor, list[str]]:
    """Pictures [n, 3, h, w] in [-1, 1] of one style, and their n captions.

    ``captions`` picks concepts and gives their order; None takes all, sorted by file name.
    """
    paths = {
        path.read_text(encoding="utf-8").strip(): path.with_suffix(".png")
        for path in sorted(folder.glob("*.txt"))
    }
    chosen = list(paths) if captions is None else captions
    pixels = np.stack([np.asarray(Image.open(paths[caption])) for caption in chosen])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1, chosen


def save_grid(rows: list[Tensor], path: Path, gap: int = 2) -> None:
    """One row of pictures [n, 3, h, w] in [-1, 1] for each tensor, on grey."""
    height, width = rows[0].shape[-2:]
    count = max(len(row) for row in rows)
    size = (count * (width + gap) + gap, len(rows) * (height + gap) + gap)
    grid = Image.new("RGB", size, (128, 128, 128))
    for y, row in enumerate(rows):
        pixels = ((row.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        for x, picture in enumerate(pixels):
            corner = (gap + x * (width + gap), gap + y * (height + gap))
            grid.paste(Image.fromarray(picture), corner)
    path.parent.mkdir(parents=True, exist_ok=True)
    grid.save(path)
