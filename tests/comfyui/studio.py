"""A graph with a DMM checkpoint loaded, and short words for what the tests say about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.comfyui.graph import Node
from tests.comfyui.server import ComfyUI


class Studio:
    """
    Attributes:
        graph: for nodes that have no word here.
        loader: the checkpoint; itself a MODEL in no style.
    """

    def __init__(
        self, comfyui: ComfyUI, file: Path, family: str, loader: str = "DMM_CheckpointLoader"
    ) -> None:
        self.comfyui, self.family = comfyui, family
        self.graph = comfyui.graph()
        self.loader = self.graph.add(loader, ckpt_name=file.name)

    def add(self, class_type: str, **inputs: Any) -> Node:
        return self.graph.add(class_type, **inputs)

    def prompt(self, seed: int) -> Node:
        return self.graph.conditioning(seed, family=self.family)

    def style(self, name: str, strength: float = 1.0) -> Node:
        return self.add("DMM_Style", styles=self.loader.styles, style=name, strength=strength)

    def mix(
        self,
        mix: str,
        *,
        normalise: bool = True,
        strength: float = 1.0,
        mixing: str = "before MLP",
    ) -> Node:
        settings = {"normalise": normalise, "strength": strength, "mixing": mixing}
        return self.add("DMM_StyleMix", styles=self.loader.styles, mix=mix, **settings)

    def batch(self, mixes: str = "", strength: float = 1.0, *, mixing: str = "before MLP") -> Node:
        settings = {"normalise": True, "strength": strength, "mixing": mixing}
        return self.add("DMM_StyleBatch", styles=self.loader.styles, mixes=mixes, **settings)

    def box(self, *box: float, width: int = 64, height: int = 64, **more: Any) -> Node:
        """A mask of the box (left, top, right, bottom), in shares of the picture."""
        sides = dict(zip(("left", "top", "right", "bottom"), box, strict=True))
        return self.add("TEST_BoxMask", width=width, height=height, **sides, **more)

    def region(self, mask: Node, style: Node, *, feather: int = 0, after: Any = None) -> Node:
        before = {} if after is None else {"regions": after}
        return self.add("DMM_Region", mask=mask, style=style, feather=feather, **before)

    def regional(
        self, *regions: tuple[Node, Node], method: str = "one pass", base: Any = None
    ) -> Node:
        """Styles by region, from pairs of a mask and a style."""
        chain = None
        for mask, style in regions:
            chain = self.region(mask, style, after=chain)
        base_style = {} if base is None else {"base_style": base}
        return self.add("DMM_RegionalStyles", regions=chain, method=method, **base_style)

    def scheduled(
        self, style: Node, start: float, end: float, *, fade: float = 0.0, otherwise: Any = None
    ) -> Node:
        span = {"start_percent": start, "end_percent": end, "fade": fade}
        other = {} if otherwise is None else {"otherwise": otherwise}
        return self.add("DMM_StyleSchedule", style=style, **span, **other)

    def apply(self, style: Node, model: Any = None) -> Node:
        return self.add("DMM_ApplyStyle", model=model or self.loader, style=style)

    def on(self, conditioning: Any, style: Node) -> Node:
        return self.add("DMM_SetStyleOnConditioning", conditioning=conditioning, style=style)

    def latent(self, width: int = 64, height: int = 64, batch: int = 1) -> Node:
        return self.add("EmptyLatentImage", width=width, height=height, batch_size=batch)

    def picture(self, latent: Any, number: int) -> Node:
        """One picture of a latent batch, which keeps the noise it has there."""
        return self.add("LatentFromBatch", samples=latent, batch_index=number, length=1)

    def sample(self, model: Any, **settings: Any) -> Node:
        return self.graph.sample(model, family=self.family, **settings)

    def noted(self, calls: Any, samples: Node) -> list[str]:
        """What one of the tests' counting nodes has noted once the samples are made."""
        shown = self.add("PreviewAny", source=self.add("TEST_Calls", calls=calls, samples=samples))
        return self.comfyui.run(self.graph).text(shown).split()

    def paint(self, model: Any, **settings: Any) -> Tensor:
        """Latents [B, 4, h, w] as the model samples them (see `Graph.sample`)."""
        return self.comfyui.latent(self.graph, self.sample(model, **settings))


def nearly(painted: Tensor, expected: Tensor) -> None:
    """Asserts that they are equal but for the order in which float32 numbers were added."""
    assert (painted - expected).abs().max() < 1e-5 * expected.abs().max()


def all_differ(painted: Sequence[Tensor]) -> bool:
    """Whether no two of the pictures are equal."""
    return not any(
        torch.equal(one, other)
        for number, one in enumerate(painted)
        for other in painted[number + 1 :]
    )
