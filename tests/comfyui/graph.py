"""A node graph in ComfyUI's API format, written so that a test reads like the graph it queues."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Graph:
    """Nodes that are wired by handing one node's output to the next:

    graph = Graph(comfyui.nodes)
    loader = graph.add("CheckpointLoaderSimple", ckpt_name="small.safetensors")
    graph.add("VAEDecode", samples=latent, vae=loader.VAE)

    Args:
        nodes: what the host answers on `/object_info`, for the names of the outputs.
    """

    def __init__(self, nodes: Mapping[str, Any]) -> None:
        self.prompt: dict[str, dict[str, Any]] = {}
        self._nodes = nodes

    def add(self, class_type: str, **inputs: Any) -> Node:
        node = Node(str(len(self.prompt) + 1), self._nodes[class_type]["output_name"])
        wired = {
            name: value[0] if isinstance(value, Node) else value for name, value in inputs.items()
        }
        self.prompt[node.id] = {"class_type": class_type, "inputs": wired}
        return node

    def conditioning(self, seed: int, *, family: str = "sd1") -> Node:
        """What a prompt says, made up from a seed, for checkpoints without a text encoder."""
        return self.add("TEST_Conditioning", seed=seed, family=family)

    def sample(
        self,
        model: Any,
        *,
        positive: Any = None,
        negative: Any = None,
        family: str = "sd1",
        latent: Any = None,
        size: int = 64,
        seed: int = 0,
        steps: int = 2,
        cfg: float = 4.0,
        denoise: float = 1.0,
    ) -> Node:
        """A KSampler with everything filled in that a test does not speak about."""
        return self.add(
            "KSampler",
            model=model,
            positive=positive or self.conditioning(1, family=family),
            negative=negative or self.conditioning(2, family=family),
            latent_image=latent
            or self.add("EmptyLatentImage", width=size, height=size, batch_size=1),
            seed=seed,
            steps=steps,
            cfg=cfg,
            sampler_name="euler",
            scheduler="normal",
            denoise=denoise,
        )


class Node:
    """A node in a graph: `node.VAE` or `node[2]` is an output, the node itself the first one."""

    def __init__(self, node_id: str, output_names: list[str]) -> None:
        self.id = node_id
        self._output_names = output_names

    def __getitem__(self, index: int) -> list[Any]:
        return [self.id, index]

    def __getattr__(self, name: str) -> list[Any]:
        if name not in self._output_names:
            raise AttributeError(f"no output {name!r}; there are {self._output_names}")
        return self[self._output_names.index(name)]
