"""Choices that no combo offers are refused when a graph is queued: nothing is loaded for them."""

from __future__ import annotations

import pytest

from tests.comfyui.server import NodeError
from tests.comfyui.studio import Studio


def mix(studio):
    return studio.apply(studio.mix("ink", mixing="after"))


def batch(studio):
    return studio.apply(studio.batch(mixing="after"))


def regions(studio):
    region = (studio.box(0, 0, 0.5, 1), studio.style("ink"))
    return studio.apply(studio.regional(region, method="two passes"))


def tiles(studio):
    sizes = {"tile_width": 512, "tile_height": 512, "overlap": 64}
    return studio.add(
        "DMM_MixtureOfDiffusers", model=studio.loader, weights="even", wrap=False, **sizes
    )


REFUSED = {
    mix: "no mixing 'after'. Choose one of: before MLP, after MLP",
    batch: "no mixing 'after'. Choose one of: before MLP, after MLP",
    regions: "no method 'two passes'. Choose one of: one pass, per-region latents",
    tiles: "no weights 'even'. Choose one of: gaussian, uniform",
}


@pytest.mark.parametrize("choose", REFUSED, ids=lambda choose: choose.__name__)
def test_an_unknown_choice_is_refused_before_anything_runs(comfyui, sd1_file, choose):
    studio = Studio(comfyui, sd1_file, "sd1")
    samples = studio.sample(choose(studio))
    studio.add("SaveLatent", samples=samples, filename_prefix="never")
    with pytest.raises(NodeError, match=REFUSED[choose]):
        comfyui.queue(studio.graph)
