"""Saving merged checkpoints: what was loaded, and what was patched into it, in the real ComfyUI."""

import json

import pytest
import torch

from dmm.layouts import UNET_PREFIX
from dmm.merged import read_styles
from dmm.metadata import read_dmm_entry
from dmm.tensors import open_tensors, save_tensors
from tests.comfyui.checkpoints import write_lora
from tests.comfyui.server import NodeError

WORKFLOW = {"nodes": [], "extra": {"said": "ここ"}}


def save(comfyui, graph, model, styles, prefix, dtype="fp16", **parts):
    """Saves, with the workflow a front end sends along; returns the file."""
    saver = graph.add(
        "DMM_CheckpointSave",
        model=model,
        styles=styles,
        filename_prefix=f"checkpoints/{prefix}",
        dtype=dtype,
        **parts,
    )
    extra = {"extra_pnginfo": {"workflow": WORKFLOW}}
    return comfyui.output / comfyui.run(graph, extra_data=extra).text(saver)


def paint_saved(comfyui, path, style=None):
    graph = comfyui.graph()
    model = graph.add("DMM_CheckpointLoader", ckpt_name=path.name).MODEL
    if style is not None:
        model = graph.add("DMMApply", model=model, index=style)
    return comfyui.latent(graph, graph.sample(model))


def assert_same_tensors(path, original, dtype=None):
    file, expected = open_tensors(path), open_tensors(original)
    assert set(file) == set(expected)
    for name in expected:
        wanted = expected[name] if dtype is None else expected[name].to(dtype)
        assert file.dtype(name) == wanted.dtype
        assert torch.equal(file[name], wanted), name


def test_whole_checkpoint_comes_back_bit_for_bit(comfyui, whole_file):
    graph = comfyui.graph()
    loader = graph.add("DMM_CheckpointLoader", ckpt_name=whole_file.name)
    path = save(
        comfyui, graph, loader.MODEL, loader.styles, "whole", clip=loader.CLIP, vae=loader.VAE
    )
    assert_same_tensors(path, whole_file)


@pytest.mark.parametrize("fixture", ["sd1_file", "sdxl_file"])
def test_metadata_keeps_the_recipe_and_tells_the_workflow(comfyui, request, fixture):
    original = request.getfixturevalue(fixture)
    graph = comfyui.graph()
    loader = graph.add("DMM_CheckpointLoader", ckpt_name=original.name)
    path = save(comfyui, graph, loader.MODEL, loader.styles, "kept", dtype="bf16")
    assert_same_tensors(path, original, torch.bfloat16)

    metadata, expected = open_tensors(path).metadata, open_tensors(original).metadata
    assert read_dmm_entry(metadata) == read_dmm_entry(expected)
    assert metadata["modelspec.resolution"] == expected["modelspec.resolution"]
    assert metadata["modelspec.title"] == path.stem
    assert json.loads(metadata["workflow"]) == WORKFLOW
    assert json.loads(metadata["prompt"]).keys() == graph.prompt.keys()
    assert str(comfyui.base) not in json.dumps(metadata)
    assert read_styles(path).names == read_styles(original).names


def test_lora_is_merged_in_and_does_not_stay_in_the_loaded_model(comfyui, sd1_file, lora_file):
    graph = comfyui.graph()
    loader = graph.add("DMM_CheckpointLoader", ckpt_name=sd1_file.name)
    patched = graph.add(
        "LoraLoaderModelOnly", model=loader.MODEL, lora_name=lora_file.name, strength_model=1.0
    )
    styled = graph.add("DMMApply", model=patched, index=1)
    with_lora = comfyui.latent(graph, graph.sample(styled))
    path = save(comfyui, graph, patched, loader.styles, "lora", dtype="fp32")
    plain = comfyui.latent(graph, graph.sample(graph.add("DMMApply", model=loader.MODEL, index=1)))

    saved = paint_saved(comfyui, path, style=1)
    torch.testing.assert_close(saved, with_lora)
    assert (saved - plain).std() > 0.1 * plain.std()
    assert torch.equal(plain, paint_saved(comfyui, sd1_file, style=1))


def test_lora_on_the_text_encoder_is_merged_in(comfyui, whole_file):
    def paint_prompt(graph, model, clip):
        prompt = graph.add("CLIPTextEncode", clip=clip, text="a lighthouse at dusk")
        return comfyui.latent(graph, graph.sample(model, positive=prompt))

    lora = write_lora(comfyui.base / "models" / "loras" / "text.safetensors", whole_file)
    graph = comfyui.graph()
    loader = graph.add("DMM_CheckpointLoader", ckpt_name=whole_file.name)
    patched = graph.add(
        "LoraLoader",
        model=loader.MODEL,
        clip=loader.CLIP,
        lora_name=lora.name,
        strength_model=0.0,
        strength_clip=1.0,
    )
    with_lora = paint_prompt(graph, patched.MODEL, patched.CLIP)
    plain = paint_prompt(graph, loader.MODEL, loader.CLIP)
    path = save(comfyui, graph, patched.MODEL, loader.styles, "te", dtype="fp32", clip=patched.CLIP)
    graph = comfyui.graph()
    saved = graph.add("DMM_CheckpointLoader", ckpt_name=path.name)
    torch.testing.assert_close(paint_prompt(graph, saved.MODEL, saved.CLIP), with_lora)
    assert (with_lora - plain).std() > 0.01 * plain.std()


def test_applied_style_is_not_baked_in(comfyui, sd1_file):
    graph = comfyui.graph()
    loader = graph.add("DMM_CheckpointLoader", ckpt_name=sd1_file.name)
    styled = graph.add("DMMApply", model=loader.MODEL, index=2)
    path = save(comfyui, graph, styled, loader.styles, "styled")
    assert_same_tensors(path, sd1_file)


def test_saving_again_takes_a_new_name_and_leaves_nothing_half_written(comfyui, sd1_file):
    graph = comfyui.graph()
    loader = graph.add("DMM_CheckpointLoader", ckpt_name=sd1_file.name)
    first = save(comfyui, graph, loader.MODEL, loader.styles, "twice", dtype="fp16")
    second = save(comfyui, graph, loader.MODEL, loader.styles, "twice", dtype="bf16")
    assert first != second
    assert_same_tensors(first, sd1_file)
    assert_same_tensors(second, sd1_file, torch.bfloat16)
    assert not list(comfyui.output.rglob("*.partial"))


def test_styles_of_another_family_are_refused(comfyui, sd1_file, sdxl_file):
    graph = comfyui.graph()
    model = graph.add("DMM_CheckpointLoader", ckpt_name=sd1_file.name).MODEL
    styles = graph.add("DMM_StylesLoader", styles_name=sdxl_file.name)
    with pytest.raises(NodeError, match=r"style is for SDXL.*model is SD 1\.5"):
        save(comfyui, graph, model, styles, "mixed-up")


def test_quantised_weights_are_refused(comfyui, sd1_file):
    """Scaled to 8 bits, as ComfyUI's own files of that kind are."""
    tensors = dict(open_tensors(sd1_file))
    for name in [name for name in tensors if name.endswith("attn1.to_q.weight")]:
        tensors[name] = tensors[name].to(torch.float8_e4m3fn)
        tensors[name.replace("weight", "scale_weight")] = torch.tensor(2.0)
    tensors[f"{UNET_PREFIX}scaled_fp8"] = torch.tensor([], dtype=torch.float8_e4m3fn)
    path = comfyui.checkpoints / "scaled.safetensors"
    save_tensors(path, tensors, open_tensors(sd1_file).metadata)

    graph = comfyui.graph()
    loader = graph.add("DMM_CheckpointLoader", ckpt_name=path.name)
    with pytest.raises(NodeError, match=r"weights are quantised \(.*scale.*cannot be saved"):
        save(comfyui, graph, loader.MODEL, loader.styles, "scaled")
    assert not list(comfyui.output.rglob("scaled*"))


def test_no_prefix_leads_out_of_the_output_folder(comfyui, sd1_file):
    graph = comfyui.graph()
    loader = graph.add("DMM_CheckpointLoader", ckpt_name=sd1_file.name)
    with pytest.raises(NodeError, match=r"outside the output folder"):
        save(comfyui, graph, loader.MODEL, loader.styles, "../../out")
    assert not list(comfyui.base.glob("out*.safetensors"))


def test_unknown_dtype_is_refused(comfyui, sd1_file):
    graph = comfyui.graph()
    loader = graph.add("DMM_CheckpointLoader", ckpt_name=sd1_file.name)
    with pytest.raises(NodeError, match=r"no dtype 'int8'. Choose one of: fp16, bf16, fp32"):
        save(comfyui, graph, loader.MODEL, loader.styles, "int8", dtype="int8")
