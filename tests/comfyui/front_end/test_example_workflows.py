"""Each example workflow opens in the front end, and what it would queue runs on the host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.comfyui.checkpoints import write_lora
from tests.comfyui.front_end.browser import WORKFLOWS, FrontEnd, example
from tests.comfyui.server import ComfyUI
from tests.hosts import find_host
from tests.server import CLONE_NAME

NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
FRONT_END_ONLY = {"MarkdownNote"}
SMALLER = 8
SIZES = ("width", "height", "x", "y", "feather", "tile_width", "tile_height", "overlap")


@pytest.fixture(scope="module")
def files(comfyui: ComfyUI, authors_file: Path) -> dict[str, str]:
    """What a user would choose, by node; the authors' checkpoint has eight styles."""
    lora = write_lora(comfyui.base / "models" / "loras" / "small.safetensors", authors_file)
    picture = comfyui.base / "input" / "small.png"
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(picture)
    return {
        "DMM_CheckpointLoader": authors_file.name,
        "LoraLoader": lora.name,
        "LoadImage": picture.name,
    }


def shrunk(prompt: dict[str, Any]) -> dict[str, Any]:
    """The same graph for an eighth of the size, in two steps, with a small ControlNet."""
    loaders = [key for key, node in prompt.items() if node["class_type"] == "DMM_CheckpointLoader"]
    for node in prompt.values():
        inputs = node["inputs"]
        inputs |= {size: inputs[size] // SMALLER for size in SIZES if size in inputs}
        if "steps" in inputs:
            inputs["steps"] = 2
        if node["class_type"] == "ControlNetLoader":
            node |= {"class_type": "TEST_ControlNet", "inputs": {"model": [loaders[0], 0]}}
    return prompt


def test_the_host_offers_them(comfyui: ComfyUI):
    offered = json.loads(comfyui.get("/workflow_templates"))[CLONE_NAME]
    assert sorted(offered) == NAMES
    assert len(NAMES) >= 8


@pytest.mark.parametrize("name", NAMES)
def test_has_a_picture(name: str):
    with Image.open(WORKFLOWS / f"{name}.jpg") as picture:
        assert picture.size == (512, 512)


@pytest.mark.parametrize("name", NAMES)
def test_opens_and_runs(front_end: FrontEnd, files: dict[str, str], name: str):
    workflow = example(name, **files)
    missing = {node["type"] for node in workflow["nodes"]} - set(front_end.comfyui.nodes)
    assert missing <= FRONT_END_ONLY
    front_end.open(workflow)
    notes = [
        front_end.note(node["id"])
        for node in workflow["nodes"]
        if node["type"] in ("DMM_Style", "DMM_StyleMix")
    ]
    assert not any(notes)

    graph = front_end.comfyui.graph()
    graph.prompt = shrunk(front_end.prompt())
    outputs = front_end.comfyui.run(graph)
    for key, node in graph.prompt.items():
        if node["class_type"] == "SaveImage":
            pictures = outputs.images(key)
            assert len(pictures) == (8 if name == "Style grid" else 1)
            assert all(picture.std() > 0 for picture in pictures)
        if node["class_type"] == "DMM_CheckpointSave":
            prefix = node["inputs"]["filename_prefix"]
            assert list(front_end.comfyui.output.glob(f"{prefix}*.safetensors"))


def test_the_authors_own_example_opens_and_runs(front_end: FrontEnd, authors_file: Path):
    packs = find_host("comfyui").packs
    path = packs and packs / "ComfyUI-DMM" / "examples" / "dmm_single_index.json"
    if not path or not path.is_file():
        pytest.skip("the authors' plugin is not among the packs of this machine")
    workflow = json.loads(path.read_text(encoding="utf-8"))
    assert {node["type"] for node in workflow["nodes"]} <= set(front_end.comfyui.nodes)
    front_end.open(workflow)
    graph = front_end.comfyui.graph()
    graph.prompt = shrunk(front_end.prompt())
    (saver,) = (key for key, node in graph.prompt.items() if node["class_type"] == "SaveImage")
    (picture,) = front_end.comfyui.run(graph).images(saver)
    assert picture.std() > 0
