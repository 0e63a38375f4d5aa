"""Per-region latents: after one step each region is, bit for bit, what its style alone paints."""

from __future__ import annotations

import pytest
import torch

from tests.webui.server import WebUI
from tests.webui.test_company import COMPANY, SIZE, skip_without

APART = {"columns": [1, 1], "regions": ["ink", "photo"], "method": "per-region latents"}


@pytest.mark.parametrize("case", ["alone", "ControlNet", "MultiDiffusion", "Mixture of Diffusers"])
def test_regions_know_nothing_of_one_another(company: WebUI, case: str) -> None:
    said, pack = COMPANY.get(case, (lambda _webui: {}, None))
    skip_without(company, pack)
    settings = SIZE | {"steps": 1} | said(company)
    apart, ink, photo = (
        company.sample(dmm, **settings) for dmm in (APART, {"styles": "ink"}, {"styles": "photo"})
    )
    middle = apart.shape[-1] // 2
    assert torch.equal(apart[..., :middle], ink[..., :middle])
    assert torch.equal(apart[..., middle:], photo[..., middle:])
    assert not torch.equal(ink, photo)
