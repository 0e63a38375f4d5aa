"""Merged checkpoints, style files and the authors' folder: what is written is what is read."""

import json
import re

import pytest
import torch
from diffusers import UNet2DConditionModel

from dmm.errors import DmmError
from dmm.layouts import single_file_tensors
from dmm.merged import Styles, read_styles, write_merged, write_style_file
from dmm.metadata import Style, merged_metadata
from dmm.mixes import parse_mix
from dmm.style_prompts import StylePrompts
from dmm.tensors import open_tensors, save_tensors
from tests.nets import small_sd1_unet, small_sdxl_unet, write_single_file

STYLES = [
    Style("ink", sha256="a" * 64, source="ink_v3.safetensors"),
    Style("水彩", sha256="b" * 64),
    Style("both", kind="mix"),
]
RECIPE = {"steps": 5, "teachers": ["ink", "水彩"], "learning_rate": 1e-5}
UNETS = {"sd1": small_sd1_unet, "sdxl": small_sdxl_unet}
MLPS = {"sd1": "add_embedding", "sdxl": "add_embedding2"}
families = pytest.mark.parametrize("family", ["sd1", "sdxl"])


def some_styles(family):
    dim = {"sd1": 128, "sdxl": 256}[family]  # of the small UNets' time embedding
    return Styles(StylePrompts(len(STYLES), dim), STYLES, family, RECIPE)


def metadata(family, prediction_type="epsilon"):
    return merged_metadata(
        STYLES,
        RECIPE,
        family=family,
        title="Ink and more",
        resolution=(512, 768),
        prediction_type=prediction_type,
    )


def checkpoint(family):
    return single_file_tensors(family, UNETS[family]().state_dict())


def assert_same_prompts(found, expected, dtype=torch.float32):
    state = expected.state_dict()
    for name, tensor in found.state_dict().items():
        assert torch.equal(tensor, state[name].to(dtype).float()), name


@families
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_merged_checkpoint_comes_back(tmp_path, family, dtype):
    styles, plain = some_styles(family), checkpoint(family)
    path = tmp_path / "merged.safetensors"
    write_merged(path, plain, styles, metadata(family), dtype=dtype)

    read = read_styles(path)
    assert (read.styles, read.family, read.recipe) == (STYLES, family, RECIPE)
    assert read.names == ["ink", "水彩", "both"]
    assert_same_prompts(read.prompts, styles.prompts, dtype)

    file = open_tensors(path)
    assert set(file) == set(plain) | set(styles.tensors())
    assert all(torch.equal(file[key], tensor.to(dtype)) for key, tensor in plain.items())


@families
def test_a_style_file_holds_the_styles_alone(tmp_path, family):
    styles, path = some_styles(family), tmp_path / "styles.safetensors"
    write_style_file(path, styles, metadata(family))
    read = read_styles(path)
    assert (read.styles, read.family, read.recipe) == (STYLES, family, RECIPE)
    assert_same_prompts(read.prompts, styles.prompts)
    assert set(open_tensors(path)) == {
        "model.diffusion_model.model_embedding.weight",
        *(
            f"model.diffusion_model.{MLPS[family]}.linear_{i}.{kind}"
            for i in (1, 2)
            for kind in ("weight", "bias")
        ),
    }


def test_whole_numbers_stay_whole_and_files_are_not_overwritten(tmp_path):
    styles, path = some_styles("sd1"), tmp_path / "merged.safetensors"
    ids = {"cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)}
    write_merged(path, ids, styles, {})
    assert torch.equal(next(open_tensors(path)[key] for key in ids), torch.arange(77))
    with pytest.raises(DmmError, match="exists already"):
        write_merged(path, ids, styles, {})
    with pytest.raises(DmmError, match="exists already"):
        write_style_file(path, styles, {})
    write_style_file(path, styles, {}, overwrite=True)
    assert len(open_tensors(path)) == 5


@families
def test_metadata_says_what_the_file_is(tmp_path, family):
    path = tmp_path / "styles.safetensors"
    write_style_file(path, some_styles(family), metadata(family, "v_prediction"))
    found = open_tensors(path).metadata
    architectures = {"sd1": "stable-diffusion-v1", "sdxl": "stable-diffusion-xl-v1-base"}
    assert found["modelspec.sai_model_spec"] == "1.0.1"
    assert found["modelspec.architecture"] == architectures[family]
    assert found["modelspec.implementation"].startswith("https://")
    assert found["modelspec.title"] == "Ink and more"
    assert found["modelspec.resolution"] == "512x768"
    assert found["modelspec.prediction_type"] == "v"
    assert found["modelspec.merged_from"] == "ink_v3.safetensors, 水彩, both"
    assert re.match(r"\d{4}-\d\d-\d\dT", found["modelspec.date"])
    assert json.loads(found["dmm"])["format"] == 1
    assert json.loads(found["sd_merge_recipe"])["type"] == "dmm"
    assert json.loads(found["sd_merge_models"])["a" * 64] == {"name": "ink"}


@pytest.mark.parametrize(
    "names", [["one", "two", "three"], [{"name": "one"}, {"name": "two"}, {"name": "three"}]]
)
def test_a_file_beside_the_checkpoint_names_its_styles(tmp_path, names):
    write_style_file(tmp_path / "model.safetensors", some_styles("sd1"), metadata("sd1"))
    side = tmp_path / "model.styles.json"
    side.write_text(json.dumps(names), encoding="utf-8")
    assert read_styles(tmp_path / "model.safetensors").names == ["one", "two", "three"]


def test_names_are_made_sayable_in_a_mix(tmp_path):
    write_style_file(tmp_path / "model.safetensors", some_styles("sd1"), metadata("sd1"))
    side = tmp_path / "model.styles.json"
    side.write_text(json.dumps(["ink, wash", " two ", "three\nlines"]), encoding="utf-8")
    names = read_styles(tmp_path / "model.safetensors").names
    assert names == ["ink wash", "two", "three lines"]
    assert list(parse_mix(", ".join(names))) == names


def test_a_file_of_names_that_is_not_json_is_an_error(tmp_path):
    write_style_file(tmp_path / "model.safetensors", some_styles("sd1"), metadata("sd1"))
    (tmp_path / "model.styles.json").write_text("one, two", encoding="utf-8")
    with pytest.raises(DmmError, match=r"model\.styles\.json is not JSON"):
        read_styles(tmp_path / "model.safetensors")


def test_a_file_without_names_gets_numbers(tmp_path):
    write_style_file(tmp_path / "model.safetensors", some_styles("sd1"), {})
    read = read_styles(tmp_path / "model.safetensors")
    assert read.names == ["Style 1", "Style 2", "Style 3"]
    assert read.recipe == {}


@pytest.mark.parametrize(
    "entry",
    [
        "{",
        "[1, 2, 3]",
        "[" * 100_000,
        '{"format": ' + "1" * 5000 + "}",
        '{"styles": 3}',
        '{"styles": []}',
        '{"styles": ["one", "two"]}',
        '{"styles": ["one", "one", "two"]}',
        '{"styles": ["one", "two", ""]}',
        '{"styles": [{"name": "one"}, {"name": 2}, {"nom": "three"}]}',
    ],
    ids=lambda entry: entry[:40],
)
def test_metadata_that_makes_no_sense_is_left_aside_with_a_warning(tmp_path, entry):
    path, styles = tmp_path / "model.safetensors", some_styles("sd1")
    write_style_file(path, styles, {"dmm": entry})
    with pytest.warns(UserWarning, match="metadata"):
        read = read_styles(path)
    assert read.names == ["Style 1", "Style 2", "Style 3"]
    assert_same_prompts(read.prompts, styles.prompts)


def test_a_plain_checkpoint_has_no_styles(tmp_path):
    path = write_single_file(tmp_path / "plain.safetensors", small_sdxl_unet())
    with pytest.raises(DmmError, match=r"plain\.safetensors has no style prompts"):
        read_styles(path)


def test_an_incomplete_file_is_named(tmp_path):
    tensors = some_styles("sd1").tensors()
    tensors.popitem()
    save_tensors(tmp_path / "cut.safetensors", tensors, {})
    with pytest.raises(DmmError, match=r"cut\.safetensors: .*linear_2\.bias is missing"):
        read_styles(tmp_path / "cut.safetensors")


@families
def test_the_authors_folder_is_read(tmp_path, family):
    styles = some_styles(family)
    tensors = UNETS[family]().state_dict() | styles.prompts.to_tensors(MLPS[family])
    folder = tmp_path / "dmm_v1.0"
    save_tensors(folder / "unet" / "diffusion_pytorch_model.safetensors", tensors, {})
    for path in (folder, folder / "unet"):
        read = read_styles(path)
        assert read.family == family
        assert read.names == ["Style 1", "Style 2", "Style 3"]
        assert_same_prompts(read.prompts, styles.prompts)
    (tmp_path / "dmm_v1.0.styles.json").write_text('["a", "b", "c"]', encoding="utf-8")
    assert read_styles(folder).names == ["a", "b", "c"]


@families
@pytest.mark.parametrize("part", [".", "unet"])
def test_a_folder_of_shards_is_read(tmp_path, family, part):
    unet, styles = UNETS[family](), some_styles(family)
    unet.save_pretrained(tmp_path / "unet", max_shard_size="200KB")
    index = tmp_path / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    # Each style tensor in another shard.
    for shard, (name, tensor) in zip(
        sorted(set(weight_map.values())),
        styles.prompts.to_tensors(MLPS[family]).items(),
        strict=False,
    ):
        path = index.with_name(shard)
        save_tensors(path, {**open_tensors(path), name: tensor}, metadata(family), overwrite=True)
    read = read_styles(tmp_path / part)
    assert (read.styles, read.family, read.recipe) == (STYLES, family, RECIPE)
    assert_same_prompts(read.prompts, styles.prompts)


def test_a_pickled_folder_is_read(tmp_path):
    styles = some_styles("sd1")
    torch.save(styles.prompts.to_tensors(MLPS["sd1"]), tmp_path / "diffusion_pytorch_model.bin")
    assert_same_prompts(read_styles(tmp_path).prompts, styles.prompts)


def test_a_folder_whose_index_is_broken_is_an_error(tmp_path):
    index = tmp_path / "diffusion_pytorch_model.safetensors.index.json"
    for text, said in (("{", "cannot be read as JSON"), ("[]", "names no files of weights")):
        index.write_text(text, encoding="utf-8")
        with pytest.raises(DmmError, match=f"index.json {said}"):
            read_styles(tmp_path)


def test_a_folder_without_a_unet_is_an_error(tmp_path):
    with pytest.raises(DmmError, match=r"no unet/diffusion_pytorch_model\.safetensors"):
        read_styles(tmp_path)


@families
def test_diffusers_loads_a_merged_checkpoint_as_a_plain_model(tmp_path, family):
    unet, path = UNETS[family](), tmp_path / "merged.safetensors"
    tensors = single_file_tensors(family, unet.state_dict())
    write_merged(path, tensors, some_styles(family), metadata(family), dtype=torch.float32)
    unet.save_config(tmp_path / "config" / "unet")
    loaded = UNet2DConditionModel.from_single_file(
        str(path), config=str(tmp_path / "config"), subfolder="unet", local_files_only=True
    )
    state = unet.state_dict()
    assert set(loaded.state_dict()) == set(state)
    assert all(torch.equal(tensor, state[key]) for key, tensor in loaded.state_dict().items())
