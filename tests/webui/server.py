"""A real WebUI or Forge on this machine's CPU, with the extension laid out as a clone would be."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import socket
import subprocess
import time
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

ROOT = Path(__file__).parents[2]
TEST_EXTENSION = Path(__file__).parent / "test_extension"
CLONE_NAME = "my dmm-clone"  # people choose their own folder names
NOT_IN_A_CLONE = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", "outputs")

START_SECONDS = 180
PAINT_SECONDS = 180

# Every request runs in a thread of the host's and so in an arena of glibc's. A checkpoint's
# tensors are small enough to stay in those when freed: by the hundredth test that took 8 GB.
GIVE_MEMORY_BACK = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "1048576"}

ARGUMENTS = {
    "webui": ["--use-cpu", "all", "--no-half", "--do-not-download-clip", "--disable-nan-check"],
    "forge": ["--always-cpu", "--all-in-fp32"],
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


class WebUI:
    """A running server; its settings, extensions, pictures and models lie in `base`.

    Args:
        kind: "webui" or "forge".
        base: an empty folder.
        checkpoints: a folder of models; the server starts with "merged".
        packs: names of further extensions, from the host's folder of packs; those it lacks are
            left out (see `has_pack`).
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
        self.models = base / "models"
        self.extension = base / "extensions" / CLONE_NAME
        if ours:
            shutil.copytree(ROOT, self.extension, ignore=NOT_IN_A_CLONE)
        shutil.copytree(TEST_EXTENSION, base / "extensions" / TEST_EXTENSION.name)
        self._packs = [name for name in packs if host.packs and (host.packs / name).is_dir()]
        for name in self._packs:
            folder = base / "extensions" / name
            shutil.copytree(host.packs / name, folder, ignore=NOT_IN_A_CLONE)
        settings = {"sd_model_checkpoint": "merged.safetensors", "samples_save": False}
        (base / "config.json").write_text(json.dumps(settings), encoding="utf-8")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log_file = base / "server.log"
        arguments = [
            *arguments,
            *(
                "--api",
                "--port",
                str(port),
                "--data-dir",
                str(base),
                "--ckpt-dir",
                str(checkpoints),
            ),
            *("--skip-prepare-environment", "--skip-torch-cuda-test", "--skip-version-check"),
            *("--no-hashing", "--no-download-sd-model", *ARGUMENTS[kind]),
            # Forge serves its own JavaScript from its data alone, which here lies elsewhere.
            *("--gradio-allowed-path", str(host.path), "--gradio-allowed-path", str(base)),
        ]
        quiet = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1"}
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [host.python, "launch.py", *arguments],
                cwd=host.path,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | quiet | GIVE_MEMORY_BACK,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{kind} did not start:\n{self.log()[-4000:]}")
            time.sleep(0.2)

    def _answers(self) -> bool:
        if "Startup time" not in self.log():
            return False  # a request that comes before the host has its routes makes it fail
        try:
            self.get("/test/latents")  # the host opens before it is ready
        except (urllib.error.URLError, ConnectionError, Refused):
            return False
        return True

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def has_pack(self, name: str) -> bool:
        return name in self._packs

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

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
