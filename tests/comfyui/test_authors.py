"""Workflows of the authors' plugin, opened here, in the real ComfyUI."""

import json
import os

import pytest
import torch

from tests.comfyui.server import ComfyUI, NodeError
from tests.hosts import find_host

PLUGIN = "ComfyUI-DMM"


def paint(comfyui, graph, loader, index):
    model = graph.add("DMMApply", model=loader.MODEL, index=index)
    return comfyui.latent(graph, graph.sample(model))


@pytest.fixture
def their_plugin():
    packs = find_host("comfyui").packs
    if packs is None or not (packs / PLUGIN).is_dir():
        pytest.skip(f"their plugin ({PLUGIN}) is not among the packs of this machine")
    return packs / PLUGIN


def test_their_example_workflow_runs_as_it_stands(comfyui, authors_file, their_plugin):
    graph = comfyui.graph()
    example = their_plugin / "examples" / "dmm_single_index_api.json"
    graph.prompt = json.loads(example.read_text(encoding="utf-8"))
    for node in graph.prompt.values():  # as it stands, but for the patience of a CPU
        node["inputs"] |= {key: 64 for key in ("width", "height") if key in node["inputs"]}
        node["inputs"] |= {"steps": 2} if "steps" in node["inputs"] else {}
    (saver,) = (key for key, node in graph.prompt.items() if node["class_type"] == "SaveImage")
    pictures = comfyui.run(graph).images(saver)
    assert pictures.shape == (1, 64, 64, 3)
    assert pictures.std() > 1


def test_paints_what_their_plugin_paints(comfyui, authors_file, their_plugin, tmp_path):
    def paint_prompt(server, index):
        graph = server.graph()
        loader = graph.add("DMMLoader", ckpt_name=authors_file.name)
        prompt = graph.add("CLIPTextEncode", clip=loader.CLIP, text="a lighthouse at dusk")
        model = graph.add("DMMApply", model=loader.MODEL, index=index)
        return server.latent(graph, graph.sample(model, positive=prompt, negative=prompt))

    theirs = ComfyUI(find_host("comfyui"), tmp_path, [PLUGIN], ours=False)
    try:
        os.link(authors_file, theirs.checkpoints / authors_file.name)
        for index in (0, 7):  # they run the MLP on the batch, we on one vector: rounding differs
            expected = paint_prompt(theirs, index)
            torch.testing.assert_close(
                paint_prompt(comfyui, index), expected, rtol=0, atol=1e-5 * float(expected.std())
            )
    finally:
        theirs.stop()


def test_index_picks_the_style(comfyui, sd1_file):
    graph = comfyui.graph()
    loader = graph.add("DMMLoader", ckpt_name=sd1_file.name)
    pictures = [paint(comfyui, graph, loader, index) for index in (0, 1, 2)]
    pictures.append(comfyui.latent(graph, graph.sample(loader.MODEL)))
    for i, one in enumerate(pictures):
        assert all((one - other).std() > 0.01 * one.std() for other in pictures[:i])


def test_two_branches_do_not_share_a_style(comfyui, sd1_file):
    """What their plugin gets wrong: it wrote the index into the model that both branches share."""
    graph = comfyui.graph()
    loader = graph.add("DMMLoader", ckpt_name=sd1_file.name)
    branches = [graph.sample(graph.add("DMMApply", model=loader, index=i)) for i in (0, 1)]
    savers = [graph.add("SaveLatent", samples=x, filename_prefix="branch/it") for x in branches]
    outputs = comfyui.run(graph)
    for index, saver in enumerate(savers):
        alone = comfyui.graph()
        loader = alone.add("DMMLoader", ckpt_name=sd1_file.name)
        assert torch.equal(outputs.latent(saver), paint(comfyui, alone, loader, index))


def test_index_the_file_does_not_have(comfyui, sd1_file):
    graph = comfyui.graph()
    loader = graph.add("DMMLoader", ckpt_name=sd1_file.name)
    with pytest.raises(NodeError, match=r"no style number 5.*0 to 2 \(ink, anime, photo\)"):
        paint(comfyui, graph, loader, 5)


def test_model_of_another_loader(comfyui, plain_file):
    graph = comfyui.graph()
    loader = graph.add("CheckpointLoaderSimple", ckpt_name=plain_file.name)
    with pytest.raises(NodeError, match=r"The model has no styles. Load it with DMMLoader"):
        paint(comfyui, graph, loader, 0)
