"""A real ComfyUI on this machine's CPU, with the pack laid out as a plain clone would be."""

from __future__ import annotations

import io
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from tests.comfyui.graph import Graph, Node
from tests.hosts import Host
from tests.server import Server, free_port

TEST_NODES = Path(__file__).parent / "test_nodes"

PROMPT_SECONDS = 120


class NodeError(Exception):
    """What ComfyUI shows on a node that refused its inputs or failed."""


class Outputs:
    """What a prompt left behind, by the node that made it."""

    def __init__(self, server: ComfyUI, outputs: dict[str, Any]) -> None:
        self._server = server
        self._outputs = outputs

    def _of(self, node: Node | str) -> dict[str, Any]:
        return self._outputs[node.id if isinstance(node, Node) else node]

    def images(self, node: Node | str) -> np.ndarray:
        """[B, H, W, 3] uint8 of a PreviewImage or SaveImage node."""
        files = [self._server.get("/view", **said) for said in self._of(node)["images"]]
        return np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])

    def latent(self, node: Node) -> Tensor:
        """[B, 4, h, w] of a SaveLatent node, exactly as it was sampled."""
        (said,) = self._of(node)["latents"]
        file = self._server.output / said["subfolder"] / said["filename"]
        return load_file(file)["latent_tensor"]

    def text(self, node: Node) -> str:
        """What a PreviewAny node shows."""
        return "\n".join(self._of(node)["text"])


class ComfyUI(Server):
    """A running server; models, input, output and user files lie in `base`, none in the host.

    Args:
        base: an empty folder.
        packs: names of further packs to load (see `Server`).
        ours: whether our own pack is there.
    """

    def __init__(
        self, host: Host, base: Path, packs: Sequence[str] = (), *, ours: bool = True
    ) -> None:
        self.base = base
        self.checkpoints = base / "models" / "checkpoints"
        self.output = base / "output"
        self.log_file = base / "comfyui.log"
        self.checkpoints.mkdir(parents=True)
        super().__init__(host, base / "custom_nodes", TEST_NODES, packs, ours=ours)
        port = str(free_port())
        self.url = f"http://127.0.0.1:{port}"
        # Without its own database the server would write one into the user's ComfyUI.
        apart = ("--base-directory", str(base), "--database-url", "sqlite:///:memory:")
        listen = ("--listen", "127.0.0.1", "--port", port)
        self.start("main.py", "--cpu", *listen, "--disable-api-nodes", *apart)

    def answers(self) -> bool:
        try:
            self.get("/system_stats")
        except OSError:
            return False
        return True

    @cached_property
    def nodes(self) -> dict[str, Any]:
        """Every node the server has, as it describes them."""
        return json.loads(self.get("/object_info"))

    def graph(self) -> Graph:
        return Graph(self.nodes)

    def get(self, path: str, **query: str) -> bytes:
        url = f"{self.url}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=PROMPT_SECONDS) as response:
            return response.read()

    def post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(
            self.url + path,
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PROMPT_SECONDS) as response:
            return json.loads(response.read() or b"null")

    def run(self, graph: Graph, **body: Any) -> Outputs:
        """Queues the graph and waits for it.

        Args:
            body: what else a client may say with the prompt, such as `extra_data`.

        Raises:
            NodeError: a node refused its inputs, or failed; the message is what the user sees.
        """
        return self.finish(self.queue(graph, **body))

    def queue(self, graph: Graph, **body: Any) -> str:
        """Queues the graph and returns the prompt's id at once (see `finish`)."""
        try:
            return self.post("/prompt", {"prompt": graph.prompt} | body)["prompt_id"]
        except urllib.error.HTTPError as error:
            answer = json.loads(error.read())
            refused = [
                f"{node['class_type']}: {reason['message']}: {reason['details']}"
                for node in answer["node_errors"].values()
                for reason in node["errors"]
            ]
            raise NodeError("\n".join(refused or [str(answer["error"])])) from None

    def finish(self, prompt_id: str) -> Outputs:
        """Waits for a queued prompt."""
        deadline = time.monotonic() + PROMPT_SECONDS
        while not (history := json.loads(self.get(f"/history/{prompt_id}"))):
            if self.has_ended() or time.monotonic() > deadline:
                raise RuntimeError(f"ComfyUI gave no answer:\n{self.log()[-4000:]}")
            time.sleep(0.02)
        status = history[prompt_id]["status"]
        if status["status_str"] != "success":
            event, said = status["messages"][-1]
            raise NodeError(f"{said['node_type']}: {said.get('exception_message', event)}")
        return Outputs(self, history[prompt_id]["outputs"])

    def latent(self, graph: Graph, samples: Any) -> Tensor:
        """Runs the graph up to `samples` and returns them, [B, 4, h, w]."""
        saved = graph.add("SaveLatent", samples=samples, filename_prefix="latents/test")
        return self.run(graph).latent(saved)
