"""What a merged file says of how it was made, and what it keeps to itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from diffusers import ControlNetModel

from tests.trainer.controlnets import write_controlnet
from tests.trainer.loras import layers, write_lora
from tests.trainer.merging import networks, write_models
from trainer.config_file import load_config
from trainer.ingredients import Ingredients
from trainer.opening import open_ingredients

USER = "a-folder-of-the-user"
UNETS = """
teachers: [ink.safetensors, {path: oil.safetensors, loras: [pen.safetensors]}]
synthesised: {prompts: again.txt}
"""
CONTROLS = """
preset: controlnet
teachers: [{path: lines, condition: drawn}, {path: lines, name: edges, condition: edges}]
"""
MERGES = {
    "pictures": (UNETS, "pictures: pictures"),
    "prompts": (UNETS, "prompts: prompts.txt"),
    "shards": (UNETS, "shards: 'shards/{0..1}.tar'"),
    "list of shards": (UNETS, "shards: [shards/0.tar, shards/1.tar]"),
    "controlnets": (CONTROLS, "pictures: pictures"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints, a LoRA and a ControlNet."""
    folder = tmp_path_factory.mktemp("home") / USER
    folder.mkdir()
    write_models(folder)
    unet = networks("sd1", 0)[0]
    names = {weight: weight.removesuffix(".weight").replace(".", "_") for weight in layers(unet)}
    kohya = {weight: f"lora_unet_{name}" for weight, name in names.items()}
    write_lora(folder / "pen.safetensors", kohya, unet.state_dict())
    # As much smaller as the VAE makes pictures.
    lines = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 32))
    write_controlnet(folder / "lines", lines)
    return folder


def opened(folder: Path, teachers: str, data: str) -> Ingredients:
    """The ingredients of a merge, all of whose paths lie in the folder."""
    path = folder / "merge.yaml"
    said = "base: base.safetensors\noutput: out/merged.safetensors\nrun: run\n"
    data = f"data: {{{data}, resolution: 16, cache: cache}}\n"
    path.write_text(said + teachers + data, encoding="utf-8")
    return open_ingredients(load_config(path))


@pytest.mark.parametrize(("teachers", "data"), MERGES.values(), ids=MERGES)
def test_nobody_reads_where_the_users_files_lay(folder: Path, teachers: str, data: str) -> None:
    ingredients = opened(folder, teachers, data)
    assert USER in ingredients.config.model_dump_json()
    assert not [key for key, value in ingredients.metadata.items() if USER in value]


def test_a_merge_is_the_same_wherever_its_shards_lie(folder: Path) -> None:
    ours = opened(folder, UNETS, "shards: 'shards/{0..1}.tar'").recipe
    assert ours["config"]["data"]["shards"] == "{0..1}.tar"
    assert opened(folder, UNETS, "shards: 'moved/{0..1}.tar'").recipe == ours
    assert opened(folder, UNETS, "shards: 'shards/{0..2}.tar'").recipe != ours
