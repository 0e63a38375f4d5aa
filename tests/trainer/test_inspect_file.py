"""What a file is said to be: plain and merged checkpoints, style files, and whatever else."""

import json
from pathlib import Path

import pytest
import torch

from dmm.errors import DmmError
from dmm.merged import Styles, write_style_file
from dmm.metadata import Style, merged_metadata
from dmm.style_prompts import StylePrompts
from dmm.tensors import save_tensors
from tests.nets import (
    small_bigg,
    small_clip,
    small_sd1_unet,
    small_sdxl_unet,
    small_vae,
    write_single_file,
)
from trainer.inspect_file import LONGEST_VALUE, MOST_LINES, describe

TEACHERS = Path(__file__).parents[2] / "demo" / "teachers"
STYLES = [
    Style("ink", sha256="a1" * 32, source="ink-v2.safetensors"),
    Style("anime", sha256="b2" * 32, source="anime.safetensors"),
]
RECIPE = {
    "base": {"path": "base.safetensors", "sha256": "c3" * 32},
    "teachers": [vars(style) for style in STYLES],
    "config": {"preset": "paper", "train": {"steps": 10, "teacher_slots": None}},
}


def lines(path):
    """The description, as key -> values."""
    described, found, key = describe(path), {}, None
    column = described.index(str(path))
    for line in described.split("\n"):
        key = line[:column].strip() or key
        found.setdefault(key, []).append(line[column:])
    return found


def metadata(family="sd1", styles=STYLES, recipe=RECIPE):
    return merged_metadata(
        styles,
        recipe,
        family=family,
        title="Two in one",
        resolution=(64, 64),
        prediction_type="epsilon",
    )


def style_tensors(mlp="add_embedding"):
    return StylePrompts(2, 128).to_tensors(mlp)


def lora(tmp_path, metadata):
    path = tmp_path / "lora.safetensors"
    key = "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight"
    save_tensors(path, {key: torch.zeros(4, 32, dtype=torch.float16)}, metadata)
    return path


@pytest.mark.parametrize("path", sorted(TEACHERS.glob("*.safetensors")), ids=lambda path: path.stem)
def test_a_plain_checkpoint(path):
    said = lines(path)
    assert said["file"] == [str(path)]
    assert said["kind"] == ["checkpoint of the SD1 family"]
    assert said["prediction"] == ["v_prediction"]
    assert said["title"] == [f"DMM demo: {path.stem}"]
    assert said["license"] == ["CC-BY-SA-4.0"]
    assert "styles" not in said and "recipe" not in said


def test_the_networks_of_a_checkpoint(tmp_path):
    unet, vae, clip = small_sd1_unet(), small_vae(), small_clip()
    path = write_single_file(tmp_path / "sd1.safetensors", unet, vae, [clip], dtype=torch.float16)
    said = lines(path)
    assert said["UNet"] == [f"{unet.num_parameters():,} parameters, float16"]
    assert said["channels"] == ["32, 64"]
    assert said["layers"] == ["1 a level"]
    assert said["attention"] == ["level 1 of 2 and the middle; transformer layers 1"]
    assert said["context"] == ["64 numbers a token"]
    assert said["prediction"] == ["epsilon"]
    assert said["VAE"][0].endswith("channels 32, 64; 4 latent channels, scaled by 0.18215")
    assert said["text encoder"][0].endswith("2 layers, 64 wide, 520 tokens")
    assert "second text encoder" not in said


def test_a_merged_sdxl_checkpoint(tmp_path):
    path = write_single_file(
        tmp_path / "merged.safetensors",
        small_sdxl_unet(),
        text_encoders=[small_clip(), small_bigg()],
        styles=StylePrompts(2, 256).to_tensors("add_embedding2"),
        metadata=metadata("sdxl"),
    )
    said = lines(path)
    assert said["kind"] == ["merged checkpoint of the SDXL family"]
    assert said["attention"] == ["level 2 of 2 and the middle; transformer layers 1, 2"]
    assert said["VAE"] == ["none in this file"]
    assert said["second text encoder"][0].endswith("520 tokens")
    assert said["styles"] == [
        "2, vectors of 256 numbers",
        "1  ink    ink-v2.safetensors  a1a1a1a1a1",
        "2  anime  anime.safetensors   b2b2b2b2b2",
    ]
    assert said["recipe"] == ["preset       paper", "train.steps  10"]
    assert said["base"] == ["base.safetensors  c3c3c3c3c3"]
    assert said["teachers"] == [
        "ink    ink-v2.safetensors  a1a1a1a1a1",
        "anime  anime.safetensors   b2b2b2b2b2",
    ]
    assert said["title"] == ["Two in one"]
    assert len(said["date"]) == 1


def test_a_merged_checkpoint_that_says_nothing_of_itself(tmp_path):
    path = tmp_path / "merged.safetensors"
    said = lines(write_single_file(path, small_sd1_unet(), styles=style_tensors()))
    assert said["styles"] == ["2, vectors of 128 numbers", "1  Style 1", "2  Style 2"]
    assert "recipe" not in said and "base" not in said and "title" not in said


def test_a_diffusers_folder(tmp_path):
    small_sd1_unet().save_pretrained(tmp_path / "unet")
    small_vae(scaling_factor=0.5).save_pretrained(tmp_path / "vae")
    said = lines(tmp_path)
    assert said["kind"] == ["checkpoint of the SD1 family"]
    assert said["VAE"][0].endswith("scaled by 0.5")
    assert said["text encoder"] == ["none in this folder"]


def test_a_style_file(tmp_path):
    path = tmp_path / "styles.safetensors"
    write_style_file(path, Styles(StylePrompts(2, 128), STYLES, "sd1"), metadata())
    said = lines(path)
    assert said["kind"][0].startswith("a style file")
    assert said["tensors"][0].startswith("5; ")
    assert [row.split()[1] for row in said["styles"][1:]] == ["ink", "anime"]
    assert said["base"] == ["base.safetensors  c3c3c3c3c3"]


def test_a_lora_and_a_vae_are_described(tmp_path):
    said = lines(lora(tmp_path, {"modelspec.title": "A LoRA"}))
    assert said["kind"][0].startswith("a LoRA")
    assert said["tensors"] == ["1; 128 parameters, float16"]
    assert said["changes"] == ["1 layers, rank 4"]
    assert said["title"] == ["A LoRA"]
    save_tensors(tmp_path / "vae.safetensors", small_vae().state_dict(), {})
    assert lines(tmp_path / "vae.safetensors")["kind"] == ["a VAE"]


def test_a_checkpoint_of_another_family_is_described(tmp_path):
    unet = small_sd1_unet(in_channels=9)
    said = lines(write_single_file(tmp_path / "inpainting.safetensors", unet))
    assert said["kind"][0].startswith("an inpainting UNet")


def test_a_checkpoint_that_lacks_tensors_is_described(tmp_path):
    path = tmp_path / "torn.safetensors"
    tensors = small_sd1_unet().state_dict()
    key = "model.diffusion_model.input_blocks.0.0.weight"
    save_tensors(path, {key: tensors["conv_in.weight"]}, {})
    assert lines(path)["kind"][0].startswith("a checkpoint that cannot be used: it lacks ")


def test_the_recipe_of_another_merger(tmp_path):
    recipe = json.dumps({"type": "webui", "interp_method": "Weighted sum"})
    models = {"d4" * 32: {"name": "one", "sd_merge_recipe": None}, "e5" * 32: {"name": "other"}}
    said = lines(
        write_single_file(
            tmp_path / "sum.safetensors",
            small_sd1_unet(),
            metadata={"sd_merge_recipe": recipe, "sd_merge_models": json.dumps(models)},
        )
    )
    assert said["recipe"] == [recipe]
    assert said["merged from"] == ["one    d4d4d4d4d4", "other  e5e5e5e5e5"]


def test_metadata_of_strangers_is_only_text(tmp_path):
    title = "\x1b[2Jred\nkind  a lie\u202e"
    said = lines(lora(tmp_path, {"modelspec.title": title, "modelspec.license": "x" * 1000}))
    assert said["title"] == ["\\x1b[2Jred\\nkind  a lie\\u202e"]
    assert said["license"] == [f"{'x' * LONGEST_VALUE}… (1,000 characters)"]


@pytest.mark.parametrize("models", ["[" * 100_000, "not JSON", "[1]", '{"a": 1}', '{"a": {}}'])
def test_nonsense_for_ancestors_is_shown_or_left_out(tmp_path, models):
    assert describe(lora(tmp_path, {"sd_merge_models": models}))


@pytest.mark.parametrize("recipe", [[], "x", {"base": 3, "teachers": "a"}, {"config": [1]}])
def test_a_recipe_of_another_shape_is_shown_or_left_out(tmp_path, recipe):
    assert describe(lora(tmp_path, {"dmm": json.dumps({"recipe": recipe})}))


@pytest.mark.filterwarnings("ignore:The file's `dmm` metadata is not a JSON object")
@pytest.mark.parametrize("depth", [100, 990, 10_000])
def test_a_recipe_of_any_depth(tmp_path, depth):
    deep = '{"recipe": {"config": ' + "[" * depth + "]" * depth + "}}"
    assert describe(lora(tmp_path, {"dmm": deep}))


def test_long_lists_are_cut(tmp_path):
    teachers = [f"teacher {number}" for number in range(MOST_LINES + 5)]
    said = lines(lora(tmp_path, {"dmm": json.dumps({"recipe": {"teachers": teachers}})}))
    assert said["teachers"][0] == "teacher 0"
    assert said["teachers"][MOST_LINES:] == ["… and 5 more"]


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(DmmError, match=r"broken\.safetensors"):
        describe(path)
    with pytest.raises(DmmError, match="does not exist"):
        describe(tmp_path / "absent.safetensors")
    with pytest.raises(DmmError, match="without a unet folder"):
        describe(tmp_path)
