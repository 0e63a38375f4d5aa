"""Layouts, which need no host."""

from __future__ import annotations

import pytest
import torch

from dmm.errors import DmmError
from sd_webui_dmm.regions.layouts import cells, parse_ratios


def test_cells_lie_row_by_row_in_their_ratios() -> None:
    masks = cells([1, 2, 1], [1, 3], (16, 8), soft=0)
    assert torch.equal(torch.stack(masks).sum(dim=0), torch.ones(16, 8))
    assert [int(mask.sum()) for mask in masks] == [8, 16, 8, 24, 48, 24]
    assert masks[1][:4, 2:6].all() and masks[5][4:, 6:].all()


def test_feathered_cells_share_every_place() -> None:
    masks = torch.stack(cells([1, 1], [1], (8, 32), soft=4))
    assert torch.allclose(masks.sum(dim=0), torch.ones(8, 32))
    assert torch.equal(masks[0, :, :12], torch.ones(8, 12))
    assert torch.equal(masks[0, :, 20:], torch.zeros(8, 12))
    assert (masks[0, :, 13:19] > 0).all() and (masks[0, :, 13:19] < 1).all()


@pytest.mark.parametrize(
    ("text", "ratios"), [("", [1]), (" 1, 2,1 ", [1, 2, 1]), ("0.5,1.5", [0.5, 1.5])]
)
def test_ratios_are_read(text: str, ratios: list[float]) -> None:
    assert parse_ratios(text, "columns") == ratios


@pytest.mark.parametrize("text", ["1,", "0", "-1,2", "nan", "inf", "1e308,1e308", "1;2"])
def test_what_is_no_ratio_is_refused(text: str) -> None:
    with pytest.raises(DmmError, match=r"The rows .* are not ratios"):
        parse_ratios(text, "rows")
