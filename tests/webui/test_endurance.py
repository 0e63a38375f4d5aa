"""A long evening in the real WebUI and Forge: styles, regions, LoRAs, checkpoints in any order.

ENDURANCE=1000 python install.py test tests/webui/test_endurance.py -s
"""

from __future__ import annotations

import base64
import io
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests.hosts import find_host
from tests.memory import growth
from tests.webui.browser import Txt2Img
from tests.webui.companions import LORA, write_companions
from tests.webui.server import Painted, WebUI

if TYPE_CHECKING:  # without playwright the test is skipped, not broken
    from playwright.sync_api import Browser

COUNT = int(os.environ.get("ENDURANCE", 0))
STYLES = ("ink", "anime", "photo")

pytestmark = pytest.mark.skipif(not COUNT, reason="takes long: set ENDURANCE to how many pictures")


@pytest.fixture
def server(kind: str, checkpoints: Path, tmp_path: Path) -> Iterator[WebUI]:
    base = tmp_path / kind
    write_companions(base / "models", checkpoints / "merged.safetensors")
    other = checkpoints / "evening.safetensors"
    shutil.copy(checkpoints / "merged.safetensors", other)
    for yaml in checkpoints.glob("merged.yaml"):
        shutil.copy(yaml, other.with_suffix(".yaml"))
    server = WebUI(find_host(kind), kind, base, checkpoints)
    yield server
    server.stop()


@pytest.fixture
def tab(server: WebUI, chromium: Browser) -> Iterator[Txt2Img]:
    context = chromium.new_context(viewport={"width": 1400, "height": 1300})
    yield Txt2Img(context.new_page(), server)
    context.close()


class Evening:
    """Draws requests at random."""

    def __init__(self, webui: WebUI, tab: Txt2Img, seed: int) -> None:
        self.webui, self.tab, self.chance = webui, tab, random.Random(seed)

    def plain(self) -> Painted:
        return self.webui.paint(**self._body())

    def styled(self) -> Painted:
        dmm: dict[str, Any] = {
            "styles": self._mix(),
            "strength": round(self.chance.uniform(0.1, 1.5), 2),
            "normalise": self.chance.random() < 0.5,
        }
        if self.chance.random() < 0.4:
            cells = self.chance.randint(2, 3)
            dmm |= {"columns": [1] * cells, "regions": [self._mix() for _ in range(cells)]}
            dmm["method"] = self.chance.choice(["one pass", "per-region latents"])
            dmm["feather"] = self.chance.choice([0, 8])
        if self.chance.random() < 0.3:
            start, end = sorted(self.chance.sample(range(11), 2))
            dmm |= {"start": start / 10, "end": end / 10}
        body = self._body()
        if self.chance.random() < 0.2:  # a tag instead
            body["prompt"] += f" <dmm:{self.chance.choice(STYLES)}:1>"
            return self.webui.paint(**body)
        return self.webui.paint(dmm, **body)

    def again(self, painted: Painted) -> np.ndarray:
        """A picture [H, W, 3] painted anew from its infotext alone."""
        if self.webui.kind == "forge":  # its API fails on every infotext
            self.tab.open()
            self.tab.paste(painted.infotexts[0])
            self.tab.generate()
            return self.tab.picture()
        answer = self.webui.post("/sdapi/v1/txt2img", {"infotext": painted.infotexts[0]})
        file = io.BytesIO(base64.b64decode(answer["images"][0]))
        return np.asarray(Image.open(file).convert("RGB"))

    def _mix(self) -> dict[str, float]:
        return {name: round(self.chance.uniform(0.1, 1), 2) for name in STYLES}

    def _body(self) -> dict[str, Any]:
        if self.chance.random() < 0.1:
            self.webui.choose(self.chance.choice(["merged", "evening"]))
        lora = f" <lora:{LORA}:{self.chance.choice([0.3, 0.8])}>"
        prompt = self.chance.choice(["a fox", "a lighthouse, waves", "a cat on a table"])
        prompt += lora if self.chance.random() < 0.4 else ""
        return {"prompt": prompt, "seed": self.chance.randrange(1_000_000)}


def test_endurance(server: WebUI, tab: Txt2Img) -> None:
    seed = int(os.environ.get("ENDURANCE_SEED", random.SystemRandom().randrange(1_000_000)))
    print(f"ENDURANCE_SEED={seed}")
    evening = Evening(server, tab, seed)
    before, hooks = server.paint(), server.get("/test/changed-modules")
    own = growth(server, max(COUNT // 4, 10), evening.plain)
    painted: list[Painted] = []
    ours = growth(server, COUNT, lambda: painted.append(evening.styled()))
    print(f"MiB a picture: {own:.3f} of the host's own, {ours:.3f} with styles")
    for one in evening.chance.sample(painted, min(20, COUNT)):
        assert np.array_equal(evening.again(one), one.pictures[0]), one.infotexts
    server.choose("merged")
    assert server.get("/test/changed-modules") == hooks
    assert server.paint() == before
