"""Layouts: a picture divided into columns and rows."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise, product

import torch
from torch import Tensor

from dmm.errors import DmmError
from dmm.regions import HeightWidth, feather

MOST_PARTS = 16
"""Columns, and rows. Every cell is a mask in memory."""


def parse_ratios(text: str, what: str) -> list[float]:
    """Reads ratios such as ``"1,2,1"``; an empty text is a single part.

    Args:
        what: "columns" or "rows", for the message.

    Raises:
        DmmError: something that is not a number above 0.
    """
    try:
        ratios = [float(part) for part in text.split(",")] if text.strip() else [1.0]
    except ValueError:
        ratios = []
    sound = 0 < len(ratios) <= MOST_PARTS and all(one > 0 for one in ratios)
    if not sound or not math.isfinite(sum(ratios)):
        raise DmmError(
            f"The {what} {text[:80]!r} are not ratios. Write up to {MOST_PARTS} numbers above 0, "
            "such as '1,2,1'."
        )
    return ratios


def mixes_of_cells(mixes: list[str], columns: int, rows: int) -> list[str]:
    """A mix for each cell, row by row; "" for those of which nothing is said.

    Raises:
        DmmError: more mixes than cells.
    """
    count = columns * rows
    if any(mixes[count:]):
        raise DmmError(
            f"There are {len(mixes)} region styles for {count} "
            f"{'region' if count == 1 else 'regions'} ({columns} columns, {rows} rows). Add "
            "columns or rows, or remove lines, or say where they are: 'ink:1 @ 0, 0, 0.5, 1'."
        )
    return [*mixes[:count], *[""] * (count - len(mixes))]


def cells(columns: list[float], rows: list[float], size: HeightWidth, soft: int) -> list[Tensor]:
    """The mask [H, W] of each cell, row by row; together they are 1 everywhere.

    Args:
        size: of the picture, in pixels.
        soft: within so many pixels on either side of a border the cells blend.
    """
    height, width = size
    spans = product(_spans(rows, height), _spans(columns, width))
    masks = []
    for (top, bottom), (left, right) in spans:
        mask = torch.zeros(size)
        mask[top:bottom, left:right] = 1
        masks.append(feather(mask, soft) if soft else mask)
    return masks


def _spans(ratios: list[float], length: int) -> list[tuple[int, int]]:
    ends = accumulate(ratios, initial=0.0)
    return list(pairwise(round(end / sum(ratios) * length) for end in ends))
