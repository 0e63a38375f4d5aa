"""A ComfyUI in which something moved that the pack needs: it says so once, and works without us."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.comfyui.checkpoints import write_checkpoint
from tests.comfyui.server import ComfyUI
from tests.hosts import find_host, why_skipped

MOVE = """
import comfy.controlnet

comfy.controlnet.load_controlnet_from_dict = comfy.controlnet.load_controlnet_state_dict
del comfy.controlnet.load_controlnet_state_dict
"""


def test_it_names_what_moved_and_paints_on(tmp_path: Path) -> None:
    host = find_host("comfyui")
    if host is None:
        pytest.skip(why_skipped("comfyui"))
    newer = tmp_path / "base" / "custom_nodes" / "newer_host"
    newer.mkdir(parents=True)
    (newer / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n", encoding="utf-8")
    # Run before any pack is loaded.
    (newer / "prestartup_script.py").write_text(MOVE, encoding="utf-8")
    comfyui = ComfyUI(host, tmp_path / "base")
    try:
        said = [line for line in comfyui.log().splitlines() if "DMM" in line or "dmm" in line]
        told = [line for line in said if "comfy.controlnet.load_controlnet_state_dict" in line]
        assert len(told) == 1 and "which this ComfyUI has not" in told[0]
        assert "Traceback" not in comfyui.log()
        assert not any(name.startswith("DMM") for name in comfyui.nodes)
        plain = write_checkpoint(comfyui.checkpoints / "plain.safetensors")
        graph = comfyui.graph()
        loader = graph.add("CheckpointLoaderSimple", ckpt_name=plain.name)
        assert comfyui.latent(graph, graph.sample(loader.MODEL)).isfinite().all()
    finally:
        comfyui.stop()
