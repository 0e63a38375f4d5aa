"""Loading merged checkpoints and style files, in the real ComfyUI."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch

from dmm.merged import Styles, read_styles, write_style_file
from dmm.tensors import open_tensors
from tests.comfyui.checkpoints import small_styles, styles_metadata, write_checkpoint
from tests.comfyui.conftest import SD1_NAMES, SDXL_NAMES
from tests.comfyui.server import ComfyUI, NodeError
from tests.server import CLONE_NAME


def load_styles(comfyui: ComfyUI, name: str) -> Styles:
    """What *Load DMM Styles* puts on its wire, seen through *Save DMM Styles*."""
    graph = comfyui.graph()
    return save_styles(comfyui, graph, graph.add("DMM_StylesLoader", styles_name=name))


def load_styles_of_checkpoint(comfyui: ComfyUI, name: str) -> Styles:
    graph = comfyui.graph()
    return save_styles(comfyui, graph, graph.add("DMM_CheckpointLoader", ckpt_name=name).styles)


def save_styles(comfyui, graph, styles):
    saved = graph.add("DMM_StylesSave", styles=styles, filename_prefix="loaded/it", dtype="fp32")
    return read_styles(comfyui.output / comfyui.run(graph).text(saved))


def paint(comfyui, loader_id, name, family="sd1"):
    graph = comfyui.graph()
    loader = graph.add(loader_id, ckpt_name=name)
    return comfyui.latent(graph, graph.sample(loader.MODEL, family=family))


def assert_same_styles(styles: Styles, expected: Styles, dtype=torch.float16):
    assert styles.names == expected.names
    assert styles.family == expected.family
    for name, tensor in expected.tensors().items():
        assert torch.equal(styles.tensors()[name], tensor.to(dtype).float())


def test_pack_loads_from_a_plain_clone_under_any_name(comfyui):
    assert comfyui.nodes["DMM_CheckpointLoader"]["python_module"] == f"custom_nodes.{CLONE_NAME}"
    assert "IMPORT FAILED" not in comfyui.log()


@pytest.mark.parametrize(("family", "fixture"), [("sd1", "sd1_file"), ("sdxl", "sdxl_file")])
def test_paints_the_no_style_average_as_the_stock_loader_does_and_leaves_that_alone(
    comfyui, request, family, fixture
):
    name = request.getfixturevalue(fixture).name
    stock = paint(comfyui, "CheckpointLoaderSimple", name, family)
    assert stock.std() > 0
    assert torch.equal(paint(comfyui, "DMM_CheckpointLoader", name, family), stock)
    assert torch.equal(paint(comfyui, "CheckpointLoaderSimple", name, family), stock)


def test_reads_any_number_of_styles_and_their_names(comfyui, sdxl_file):
    styles = load_styles_of_checkpoint(comfyui, sdxl_file.name)
    assert_same_styles(styles, small_styles(SDXL_NAMES, "sdxl"))
    assert styles.recipe == {"steps": 1}


def test_authors_file_without_names_numbers_its_styles(comfyui, authors_file):
    assert load_styles_of_checkpoint(comfyui, authors_file.name).names == [
        f"Style {number}" for number in range(1, 9)
    ]


def test_styles_alone_from_a_style_file_and_from_a_checkpoint(comfyui, sd1_file):
    styles = small_styles(["chalk", "neon"])
    folder = comfyui.base / "models" / "dmm_styles"
    write_style_file(folder / "two.safetensors", styles, styles_metadata(styles))
    assert_same_styles(load_styles(comfyui, "two.safetensors"), styles, torch.float32)
    assert_same_styles(load_styles(comfyui, sd1_file.name), read_styles(sd1_file))


def test_plain_checkpoint_is_refused_with_a_way_out(comfyui, plain_file):
    with pytest.raises(NodeError, match=r"plain.safetensors has no style prompts.*merged one"):
        paint(comfyui, "DMM_CheckpointLoader", plain_file.name)
    with pytest.raises(NodeError, match=r"plain.safetensors has no style prompts.*style file"):
        load_styles(comfyui, plain_file.name)


def test_style_file_in_the_place_of_a_checkpoint_is_refused_with_a_way_out(comfyui):
    styles = small_styles(["chalk"])
    path = comfyui.checkpoints / "only-styles.safetensors"
    write_style_file(path, styles, styles_metadata(styles))
    with pytest.raises(NodeError, match=r"only-styles.*no UNet.*Load DMM Styles"):
        paint(comfyui, "DMM_CheckpointLoader", path.name)


@pytest.mark.parametrize("loader", ["DMM_CheckpointLoader", "DMM_StylesLoader"])
def test_broken_file_is_refused(comfyui, loader):
    path = comfyui.checkpoints / "broken.safetensors"
    path.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{" + bytes(20))
    name = "ckpt_name" if loader == "DMM_CheckpointLoader" else "styles_name"
    graph = comfyui.graph()
    loaded = graph.add(loader, **{name: path.name})
    with pytest.raises(NodeError, match=r"broken.safetensors has a damaged header"):
        save_styles(comfyui, graph, loaded.styles)


class Intruder:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_ckpt_of_tensors_loads_and_one_with_code_does_not(comfyui, sd1_file):
    tensors = dict(open_tensors(sd1_file).items())
    torch.save({"state_dict": tensors}, comfyui.checkpoints / "tensors.ckpt")
    expected = paint(comfyui, "DMM_CheckpointLoader", sd1_file.name)
    assert torch.equal(paint(comfyui, "DMM_CheckpointLoader", "tensors.ckpt"), expected)

    footprint = comfyui.base / "was-here"
    path = comfyui.checkpoints / "code.ckpt"
    path.write_bytes(pickle.dumps({"state_dict": Intruder(footprint)}))
    with pytest.raises(NodeError, match=r"code\.ckpt was not opened, because it contains"):
        paint(comfyui, "DMM_CheckpointLoader", path.name)
    assert not footprint.exists()


@pytest.mark.parametrize("way", ["../secret.safetensors", "{folder}/secret.safetensors"])
def test_no_name_leads_out_of_the_model_folders(comfyui, way):
    secret = comfyui.base / "models" / "secret.safetensors"
    if not secret.exists():
        write_checkpoint(secret, small_styles(["chalk"]))
    name = way.format(folder=comfyui.base / "models")
    with pytest.raises(NodeError, match="There is no file"):
        load_styles_of_checkpoint(comfyui, name)
    with pytest.raises(NodeError, match="There is no file"):
        load_styles(comfyui, name)
    graph = comfyui.graph()
    loader = graph.add("DMM_CheckpointLoader", ckpt_name=graph.add("TEST_Name", name=name))
    with pytest.raises(NodeError, match="There is no file"):
        save_styles(comfyui, graph, loader.styles)


def test_name_over_a_wire_loads_the_file_once(comfyui, sd1_file):
    graph = comfyui.graph()
    name = graph.add("TEST_Name", name=sd1_file.name)
    loader = graph.add("DMM_CheckpointLoader", ckpt_name=name)
    assert save_styles(comfyui, graph, loader.styles).names == list(SD1_NAMES)
    loads = comfyui.log().count("model_type EPS")
    comfyui.latent(graph, graph.sample(loader.MODEL))
    assert comfyui.log().count("model_type EPS") == loads > 0


def test_changed_file_is_read_again_and_so_is_its_side_file(comfyui):
    path = comfyui.checkpoints / "changing.safetensors"
    write_checkpoint(path, small_styles(["chalk", "neon"]))
    assert load_styles_of_checkpoint(comfyui, path.name).names == ["chalk", "neon"]
    path.unlink()
    write_checkpoint(path, small_styles(["chalk", "neon", "foil"]))
    assert load_styles_of_checkpoint(comfyui, path.name).names == ["chalk", "neon", "foil"]
    side = comfyui.checkpoints / "changing.styles.json"
    side.write_text(json.dumps(["one", "two", "three"]), encoding="utf-8")
    assert load_styles_of_checkpoint(comfyui, path.name).names == ["one", "two", "three"]
