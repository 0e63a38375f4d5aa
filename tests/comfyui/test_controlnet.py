"""*Load DMM ControlNet* in the real ComfyUI: each control as a ControlNet of its own would."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from tests.comfyui.checkpoints import write_checkpoint
from tests.comfyui.server import ComfyUI, NodeError

pytest.importorskip("diffusers", reason="the ControlNets are diffusers'")

CONTROLS = ("canny", "depth", "pose")


class Files(NamedTuple):
    family: str
    checkpoint: str
    merged: str
    single: list[str]  # one a control


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def files(request: pytest.FixtureRequest, comfyui: ComfyUI) -> Files:
    from tests.comfyui.controlnets import write_in_control, write_merged

    family, folder = request.param, comfyui.base / "models" / "controlnet"
    checkpoint = comfyui.checkpoints / f"{family}_controlled.safetensors"
    write_checkpoint(checkpoint, family=family, dtype=torch.float32)
    controls = write_merged(folder / f"{family}_merged.safetensors", CONTROLS, family)
    single = [f"{family}_{name}.safetensors" for name in CONTROLS]
    for number, name in enumerate(single):
        write_in_control(folder / name, controls, number)
    return Files(family, checkpoint.name, f"{family}_merged.safetensors", single)


def merged(graph, files: Files, control: str):
    return graph.add("DMM_ControlNetLoader", control_net_name=files.merged, control=control)


def single(graph, files: Files, control: str):
    name = files.single[CONTROLS.index(control)]
    return graph.add("ControlNetLoader", control_net_name=name)


def controlled(graph, files: Files, *nets, model=None):
    """A sampler whose two conditionings go through all ControlNets, one after the other."""
    model = model or graph.add("CheckpointLoaderSimple", ckpt_name=files.checkpoint).MODEL
    picture = graph.add("EmptyImage", width=64, height=64, batch_size=1, color=0x3366CC)
    positive = graph.conditioning(1, family=files.family)[0]
    negative = graph.conditioning(2, family=files.family)[0]
    for net in nets:
        applied = graph.add(
            "ControlNetApplyAdvanced",
            positive=positive,
            negative=negative,
            control_net=net,
            image=picture,
            strength=1.0,
            start_percent=0.0,
            end_percent=1.0,
        )
        positive, negative = applied[0], applied[1]
    return graph.sample(model, positive=positive, negative=negative, family=files.family)


def paint(comfyui: ComfyUI, files: Files, load, *controls: str) -> Tensor:
    graph = comfyui.graph()
    return comfyui.latent(
        graph, controlled(graph, files, *(load(graph, files, c) for c in controls))
    )


@pytest.mark.parametrize("control", CONTROLS)
def test_each_control_paints_as_a_controlnet_of_its_own(comfyui, files, control):
    ours, theirs = (paint(comfyui, files, load, control) for load in (merged, single))
    bare = paint(comfyui, files, merged)
    assert (ours - theirs).abs().max() < 1e-3 * (theirs - bare).abs().max()


def test_controls_differ(comfyui, files):
    pictures = [paint(comfyui, files, merged, control) for control in CONTROLS]
    assert (pictures[0] - pictures[1]).abs().max() > 0.01
    assert (pictures[0] - pictures[2]).abs().max() > 0.01


def test_two_controls_of_one_file_in_one_graph_do_not_meet(comfyui, files):
    """Two branches in two controls, and one picture in both: each as with files of their own."""
    alone = {control: paint(comfyui, files, merged, control) for control in CONTROLS[:2]}
    graph = comfyui.graph()
    nets = [merged(graph, files, control) for control in alone]
    samples = [controlled(graph, files, net) for net in nets]
    saved = [graph.add("SaveLatent", samples=one, filename_prefix="latents/two") for one in samples]
    outputs = comfyui.run(graph)
    for one, picture in zip(saved, alone.values(), strict=True):
        assert torch.equal(outputs.latent(one), picture)
    ours, theirs = (paint(comfyui, files, load, *alone) for load in (merged, single))
    assert (ours - theirs).abs().max() < 1e-3 * theirs.abs().max()


def test_together_with_a_style_of_a_merged_model(comfyui, files, sd1_file):
    if files.family == "sdxl":
        pytest.skip("one family is enough")

    def paint_styled(style: str | None, control: str | None) -> Tensor:
        graph = comfyui.graph()
        loader = graph.add("DMM_CheckpointLoader", ckpt_name=sd1_file.name)
        model = loader.MODEL
        if style:
            chosen = graph.add("DMM_Style", styles=loader.styles, style=style, strength=1.0)
            model = graph.add("DMM_ApplyStyle", model=model, style=chosen)
        nets = [merged(graph, files, control)] if control else []
        return comfyui.latent(graph, controlled(graph, files, *nets, model=model))

    both = paint_styled("ink", "canny")
    for other in (("anime", "canny"), ("ink", "pose"), (None, "canny"), ("ink", None)):
        assert (both - paint_styled(*other)).abs().max() > 0.01, other


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"control": ""}, "No control is chosen. .* canny, depth, pose"),
        ({"control": "cany"}, "There is no style 'cany'.* Did you mean 'canny'"),
        ({"control_net_name": "plain"}, "is no merged ControlNet"),
        ({"control_net_name": "../../outside.safetensors"}, "There is no file"),
    ],
)
def test_mistakes(comfyui, files, change, says):
    said = {"control_net_name": files.merged, "control": "canny"} | change
    if said["control_net_name"] == "plain":
        said["control_net_name"] = files.single[0]
    graph = comfyui.graph()
    with pytest.raises(NodeError, match=says):
        net = graph.add("DMM_ControlNetLoader", **said)
        comfyui.latent(graph, controlled(graph, files, net))


def test_the_front_end_is_told_the_names(comfyui, files):
    answer = json.loads(comfyui.get("/dmm/styles", name=files.merged, folder="controlnet"))
    assert answer["styles"] == list(CONTROLS)
