"""A real WebUI, Forge or reForge on this machine's CPU, with the extension as a clone lays it."""

from __future__ import annotations

import base64
import io
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tests.hosts import Host
from tests.server import Server, free_port

TEST_EXTENSION = Path(__file__).parent / "test_extension"

PAINT_SECONDS = 180

ARGUMENTS = {
    "webui": ["--use-cpu", "all", "--no-half", "--do-not-download-clip", "--disable-nan-check"],
    "forge": ["--always-cpu", "--all-in-fp32"],
    "reforge": ["--always-cpu", "--all-in-fp32"],
}
PAINT = {
    "prompt": "a cat",
    "seed": 1,
    "steps": 2,
    "width": 64,
    "height": 64,
    "sampler_name": "Euler",
}


class Refused(Exception):
    """What the API answered instead of pictures."""

    def __init__(self, status: int, answer: dict[str, Any]) -> None:
        super().__init__(json.dumps(answer, ensure_ascii=False))
        self.status = status
        self.answer = answer


@dataclass
class Painted:
    """Pictures [B, H, W, 3] uint8, and the infotext of each."""

    pictures: np.ndarray
    infotexts: list[str]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Painted) and np.array_equal(self.pictures, other.pictures)


class WebUI(Server):
    """A running server; its settings, extensions, pictures and models lie in `base`.

    Args:
        kind: "webui", "forge" or "reforge". reForge paints, tiles and steers as Forge does; its
            page and its API are the WebUI's.
        base: an empty folder.
        checkpoints: a folder of models; the server starts with "merged".
        packs: names of further extensions (see `Server`).
        ours: whether our own extension is there.
        arguments: of the host's command line.
    """

    def __init__(
        self,
        host: Host,
        kind: str,
        base: Path,
        checkpoints: Path,
        packs: Sequence[str] = (),
        *,
        ours: bool = True,
        arguments: Sequence[str] = (),
    ) -> None:
        self.kind = kind
        self.base = base
        self.models = base / "models"
        self.log_file = base / "server.log"
        super().__init__(host, base / "extensions", TEST_EXTENSION, packs, ours=ours)
        settings = {
            "sd_model_checkpoint": "merged.safetensors",
            "samples_save": False,
            "show_progress_type": "Approx cheap",  # as a rule it is a net, which hosts download
        }
        (base / "config.json").write_text(json.dumps(settings), encoding="utf-8")
        port = str(free_port())
        self.url = f"http://127.0.0.1:{port}"
        self.start(
            *("launch.py", "--api", "--port", port, *arguments),
            *("--data-dir", str(base), "--ckpt-dir", str(checkpoints)),
            *("--skip-prepare-environment", "--skip-torch-cuda-test", "--skip-version-check"),
            *("--no-hashing", "--no-download-sd-model", *ARGUMENTS[kind]),
            # Forge serves its own JavaScript from its data alone, which here lies elsewhere.
            *("--gradio-allowed-path", str(host.path), "--gradio-allowed-path", str(base)),
        )

    def answers(self) -> bool:
        if "Startup time" not in self.log():
            return False  # a request that comes before the host has its routes makes it fail
        try:
            self.get("/test/latents")  # the host opens before it is ready
        except (urllib.error.URLError, ConnectionError, Refused):
            return False
        return True

    def get(self, path: str, **query: str) -> Any:
        """The JSON that a path answers."""
        return self._ask(
            urllib.request.Request(f"{self.url}{path}?{urllib.parse.urlencode(query)}")
        )

    def post(self, path: str, body: Any) -> Any:
        return self.ask("POST", path, body)

    def ask(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        url = f"{self.url}{path}?{urllib.parse.urlencode(query)}"
        return self._ask(urllib.request.Request(url, data, headers, method=method))

    def _ask(self, request: urllib.request.Request) -> Any:
        try:
            with urllib.request.urlopen(request, timeout=PAINT_SECONDS) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise Refused(error.code, json.load(error)) from None

    def paint(
        self,
        dmm: Any = None,
        way: str = "txt2img",
        others: Mapping[str, Any] | None = None,
        **body: Any,
    ) -> Painted:
        """Paints by the API.

        Args:
            dmm: the first argument of the script "DMM styles", or None to leave the script out.
            way: "txt2img" or "img2img".
            others: the arguments of other scripts that are always on, by title.
            body: whatever differs from `PAINT`.

        Raises:
            Refused: an answer other than 200.
        """
        ours = {} if dmm is None else {"dmm styles": {"args": [dmm]}}
        scripts = {"alwayson_scripts": ours | (others or {})}
        answer = self.post(f"/sdapi/v1/{way}", PAINT | scripts | body)
        info = json.loads(answer["info"])
        first = info["index_of_first_image"]  # behind a grid
        pictures = np.stack([_decoded(picture) for picture in answer["images"][first:]])
        return Painted(pictures, info["infotexts"][first:])

    def sample(
        self,
        dmm: Any = None,
        others: Mapping[str, Any] | None = None,
        noise: Tensor | None = None,
        **body: Any,
    ) -> Tensor:
        """The latents of a picture, [B, 4, h, w], to the bit, as `paint` makes it.

        Args:
            noise: what it begins with, [B, 4, h, w], instead of the seed's.
        """
        said = {"decode": False} | ({} if noise is None else {"noise": noise.tolist()})
        self.paint(dmm, others={**(others or {}), "dmm test": {"args": [said]}}, **body)
        return torch.tensor(self.get("/test/latents"))

    def choose(self, checkpoint: str) -> None:
        """Changes the checkpoint in the settings, as the header's dropdown does."""
        self.post("/sdapi/v1/options", {"sd_model_checkpoint": f"{checkpoint}.safetensors"})


def encoded(picture: np.ndarray) -> str:
    """A picture [H, W, 3] as the API takes it."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _decoded(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))
