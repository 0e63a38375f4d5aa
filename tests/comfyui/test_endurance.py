"""A long evening in the real ComfyUI: styles, regions, LoRAs and checkpoints in any order.

ENDURANCE=1000 python install.py test tests/comfyui/test_endurance.py -s
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.comfyui.checkpoints import small_styles, write_checkpoint, write_lora
from tests.comfyui.graph import Graph, Node
from tests.comfyui.server import ComfyUI
from tests.memory import growth

COUNT = int(os.environ.get("ENDURANCE", 0))
STYLES = ("ink", "anime", "photo")

pytestmark = pytest.mark.skipif(not COUNT, reason="takes long: set ENDURANCE to how many pictures")


class Evening:
    """Draws graphs at random; every one ends in a saved picture."""

    def __init__(self, comfyui: ComfyUI, seed: int) -> None:
        self.comfyui, self.chance = comfyui, random.Random(seed)
        folder = comfyui.checkpoints
        first, second = folder / "evening 1.safetensors", folder / "evening 2.safetensors"
        write_checkpoint(first, small_styles(STYLES), whole=True)
        write_checkpoint(second, small_styles(("oil", *STYLES)), whole=True)
        self.files = [first, second]
        self.lora = write_lora(comfyui.base / "models" / "loras" / "evening.safetensors", first)

    def plain(self) -> Graph:
        """A picture without anything of ours."""
        graph = self.comfyui.graph()
        file = self.chance.choice(self.files)
        loader = graph.add("CheckpointLoaderSimple", ckpt_name=file.name)
        return self._picture(graph, loader, loader.MODEL)

    def styled(self) -> Graph:
        graph = self.comfyui.graph()
        loader = graph.add("DMM_CheckpointLoader", ckpt_name=self.chance.choice(self.files).name)
        style = self._style(graph, loader)
        if self.chance.random() < 0.4:
            style = self._regions(graph, loader)
        if self.chance.random() < 0.3:
            start, end = sorted(self.chance.sample(range(11), 2))
            style = graph.add(
                "DMM_StyleSchedule",
                style=style,
                start_percent=start / 10,
                end_percent=end / 10,
                fade=self.chance.choice([0.0, 0.3]),
            )
        model = graph.add("DMM_ApplyStyle", model=loader.MODEL, style=style)
        return self._picture(graph, loader, model)

    def _style(self, graph: Graph, loader: Node) -> Node:
        weights = {name: round(self.chance.uniform(0.1, 1), 2) for name in STYLES}
        mix = ", ".join(f"{name}:{weight}" for name, weight in weights.items())
        return graph.add(
            "DMM_StyleMix",
            styles=loader.styles,
            mix=mix,
            normalise=self.chance.random() < 0.5,
            strength=round(self.chance.uniform(0, 1.5), 2),
            mixing=self.chance.choice(["before MLP", "after MLP"]),
        )

    def _regions(self, graph: Graph, loader: Node) -> Node:
        regions = {}
        for _ in range(self.chance.randint(1, 4)):
            box = {
                "left": self.chance.uniform(0, 0.5),
                "top": self.chance.uniform(0, 0.5),
                "right": self.chance.uniform(0.6, 1),
                "bottom": self.chance.uniform(0.6, 1),
            }
            mask = graph.add("TEST_BoxMask", width=64, height=64, **box)
            style = self._style(graph, loader)
            region = graph.add(
                "DMM_Region", mask=mask, style=style, feather=self.chance.choice([0, 8]), **regions
            )
            regions = {"regions": region}
        method = self.chance.choice(["one pass", "per-region latents"])
        return graph.add("DMM_RegionalStyles", method=method, **regions)

    def _picture(self, graph: Graph, loader: Node, model: Node | list) -> Graph:
        clip = loader.CLIP
        if self.chance.random() < 0.4:
            loras = graph.add(
                "LoraLoader",
                model=model,
                clip=clip,
                lora_name=self.lora.name,
                strength_model=round(self.chance.uniform(0.2, 1), 2),
                strength_clip=1.0,
            )
            model, clip = loras.MODEL, loras.CLIP
        said = self.chance.choice(["a fox", "a lighthouse, waves", "a cat on a table"])
        latent = graph.sample(
            model,
            positive=graph.add("CLIPTextEncode", clip=clip, text=said),
            negative=graph.add("CLIPTextEncode", clip=clip, text=""),
            seed=self.chance.randrange(1_000_000),
        )
        picture = graph.add("VAEDecode", samples=latent, vae=loader.VAE)
        graph.add("SaveImage", images=picture, filename_prefix="evening")
        return graph

    def paint(self, draw: Callable[[], Graph]) -> Path:
        """The file of a picture."""
        before = set(self.comfyui.output.glob("evening*.png"))
        self.comfyui.run(draw())
        (path,) = set(self.comfyui.output.glob("evening*.png")) - before
        return path

    def again(self, path: Path) -> Path:
        """A picture painted anew from what its file says, as when it is dropped on the page."""
        with Image.open(path) as picture:
            prompt = json.loads(picture.info["prompt"])
        graph = self.comfyui.graph()
        graph.prompt = prompt
        return self.paint(lambda: graph)


def test_endurance(comfyui: ComfyUI) -> None:
    seed = int(os.environ.get("ENDURANCE_SEED", random.SystemRandom().randrange(1_000_000)))
    print(f"ENDURANCE_SEED={seed}")
    evening = Evening(comfyui, seed)
    unstyled = evening.plain()
    before = pixels(evening.paint(lambda: unstyled))
    own = growth(comfyui, max(COUNT // 4, 10), lambda: evening.paint(evening.plain))
    paths = []
    ours = growth(comfyui, COUNT, lambda: paths.append(evening.paint(evening.styled)))
    print(f"MiB a picture: {own:.3f} of the host's own, {ours:.3f} with styles")
    for path in evening.chance.sample(paths, min(20, COUNT)):
        assert np.array_equal(pixels(path), pixels(evening.again(path))), path
    # ComfyUI keeps what the last prompt made: this one has to be painted anew.
    assert np.array_equal(pixels(evening.paint(lambda: unstyled)), before)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))
