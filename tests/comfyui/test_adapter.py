"""*Load DMM Adapter* in the real ComfyUI: base and adapter paint as the folded checkpoint does."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from dmm.merged import read_styles
from tests import nets
from tests.adapters import write_adapter
from tests.comfyui.checkpoints import SD1_UNET, small_styles, write_checkpoint
from tests.comfyui.server import ComfyUI, NodeError

pytest.importorskip("diffusers", reason="the trainer needs diffusers")

NAMES = ("ink", "anime", "photo")


class Files(NamedTuple):
    base: str
    adapter: str
    folded: str
    family: str


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def files(request: pytest.FixtureRequest, comfyui: ComfyUI) -> Files:
    from trainer.fold import fold

    family, folder = request.param, comfyui.checkpoints
    base = folder / f"{family}_alone.safetensors"
    write_checkpoint(base, family=family, dtype=torch.float32)
    adapter = comfyui.base / "models" / "loras" / f"{family}_styles.safetensors"
    write_adapter(adapter, base, small_styles(NAMES, family))
    folded = folder / f"{family}_folded.safetensors"
    fold(adapter, base, folded, dtype="fp32")
    return Files(base.name, adapter.name, folded.name, family)


def adapted(graph, files: Files):
    model = graph.add("CheckpointLoaderSimple", ckpt_name=files.base).MODEL
    return graph.add("DMM_AdapterLoader", model=model, adapter_name=files.adapter)


def folded(graph, files: Files):
    return graph.add("DMM_CheckpointLoader", ckpt_name=files.folded)


def paint(comfyui: ComfyUI, files: Files, load, style: str | None) -> Tensor:
    graph = comfyui.graph()
    loader = load(graph, files)
    model = loader.MODEL
    if style:
        chosen = graph.add("DMM_Style", styles=loader.styles, style=style, strength=1.0)
        model = graph.add("DMM_ApplyStyle", model=model, style=chosen)
    return comfyui.latent(graph, graph.sample(model, family=files.family))


@pytest.mark.parametrize("style", [None, "ink", "photo"])
def test_paints_as_the_folded_checkpoint(comfyui, files, style):
    graph = comfyui.graph()
    base = graph.add("CheckpointLoaderSimple", ckpt_name=files.base).MODEL
    plain = comfyui.latent(graph, graph.sample(base, family=files.family))
    wanted = paint(comfyui, files, folded, style)
    apart = (paint(comfyui, files, adapted, style) - wanted).abs().max()
    assert apart < 1e-3 * (plain - wanted).abs().max()


def test_every_style_is_another(comfyui, files):
    pictures = [paint(comfyui, files, adapted, style) for style in (None, *NAMES)]
    for one in range(len(pictures)):
        for other in range(one):
            assert (pictures[one] - pictures[other]).abs().max() > 0.01


def test_the_base_stays_as_it_was(comfyui, files):
    def base(graph, files):
        return graph.add("CheckpointLoaderSimple", ckpt_name=files.base)

    before = paint(comfyui, files, base, None)
    paint(comfyui, files, adapted, "ink")
    assert torch.equal(paint(comfyui, files, base, None), before)


def test_any_lora_loader_applies_it_without_its_styles(comfyui, files):
    graph = comfyui.graph()
    model = graph.add("CheckpointLoaderSimple", ckpt_name=files.base).MODEL
    model = graph.add(
        "LoraLoaderModelOnly", model=model, lora_name=files.adapter, strength_model=1.0
    )
    latent = comfyui.latent(graph, graph.sample(model, family=files.family))
    assert torch.equal(latent, paint(comfyui, files, adapted, None))


def test_saved_it_is_a_merged_checkpoint(comfyui, files):
    graph = comfyui.graph()
    loader = adapted(graph, files)
    saved = graph.add(
        "DMM_CheckpointSave",
        model=loader.MODEL,
        styles=loader.styles,
        filename_prefix="folded/it",
        dtype="fp32",
    )
    path = comfyui.output / comfyui.run(graph).text(saved)
    assert read_styles(path).names == list(NAMES)
    path = path.rename(comfyui.checkpoints / f"{files.family}_saved.safetensors")
    again = paint(comfyui, files._replace(folded=path.name), folded, "anime")
    wanted = paint(comfyui, files, folded, "anime")
    assert (again - wanted).abs().max() < 1e-3 * wanted.abs().max()


def test_what_does_not_fit_is_refused(comfyui, files, sd1_file, sdxl_file, lora_file):
    other = sdxl_file if files.family == "sd1" else sd1_file
    graph = comfyui.graph()
    model = graph.add("CheckpointLoaderSimple", ckpt_name=other.name).MODEL
    loader = graph.add("DMM_AdapterLoader", model=model, adapter_name=files.adapter)
    with pytest.raises(NodeError, match=r"The style is for SD.* but the model is"):
        comfyui.latent(graph, graph.sample(loader.MODEL))
    graph = comfyui.graph()
    model = graph.add("CheckpointLoaderSimple", ckpt_name=files.base).MODEL
    loader = graph.add("DMM_AdapterLoader", model=model, adapter_name=lora_file.name)
    with pytest.raises(NodeError, match="is no adapter but a LoRA without styles"):
        comfyui.latent(graph, graph.sample(loader.MODEL))


def test_a_base_with_fewer_layers_is_refused(comfyui, sd1_file):
    deep = comfyui.checkpoints / "deep.safetensors"
    unet = nets.small_sd1_unet(0, **SD1_UNET | {"layers_per_block": 2})
    nets.write_single_file(deep, unet)
    adapter = comfyui.base / "models" / "loras" / "deep_styles.safetensors"
    write_adapter(adapter, deep, small_styles(NAMES))
    files = Files(sd1_file.name, adapter.name, "", "sd1")
    with pytest.raises(NodeError, match=r"does not fit this model: .* deep\.safetensors"):
        paint(comfyui, files, adapted, "ink")
