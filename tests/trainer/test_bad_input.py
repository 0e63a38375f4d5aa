"""Bad input is answered with the file, the cause and the way out; nothing is written."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from dmm.tensors import open_tensors, save_tensors
from tests import nets
from tests.trainer.merging import command, networks, write_models

UNET = "model.diffusion_model."


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_models(folder)
    return folder


def refused(models: Path, capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The message of a merge that must write nothing."""
    before = {path: path.stat().st_mtime_ns for path in sorted(models.rglob("*"))}
    capsys.readouterr()
    assert command("merge", models / "merge.yaml", *words) == 2
    assert {path: path.stat().st_mtime_ns for path in sorted(models.rglob("*"))} == before
    message = capsys.readouterr().err
    assert message.startswith("Error: ")
    return message


# --- checkpoints ---------------------------------------------------------------------------------

Write = Callable[[Path, Path], None]
"""Makes the bad file at the first path, of what is good in the second, a folder."""


def sd2(path: Path, _models: Path) -> None:
    unet = nets.small_sd1_unet(cross_attention_dim=1024, use_linear_projection=True)
    nets.write_single_file(path, unet)


def flux(path: Path, _models: Path) -> None:
    save_tensors(path, {"double_blocks.0.img_attn.norm.key_norm.scale": torch.zeros(2)}, {})


def lora(path: Path, _models: Path) -> None:
    name = "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight"
    save_tensors(path, {name: torch.zeros(2, 2)}, {})


def vae(path: Path, models: Path) -> None:
    whole = open_tensors(models / "ink.safetensors")
    save_tensors(path, {key: whole[key] for key in whole if key.startswith("first_stage")}, {})


def style_file(path: Path, _models: Path) -> None:
    save_tensors(path, {UNET + "model_embedding.weight": torch.zeros(2, 4)}, {})


def without_a_tensor(path: Path, models: Path) -> None:
    whole = open_tensors(models / "ink.safetensors")
    save_tensors(path, {key: whole[key] for key in whole if key != UNET + "out.0.bias"}, {})


def without_text_encoder(path: Path, _models: Path) -> None:
    nets.write_single_file(path, nets.small_sd1_unet(), nets.small_vae())


def without_vae(path: Path, _models: Path) -> None:
    nets.write_single_file(path, nets.small_sd1_unet(), None, [nets.small_clip()])


def wider(path: Path, _models: Path) -> None:
    unet = nets.small_sd1_unet(block_out_channels=(64, 64))
    nets.write_single_file(path, unet, nets.small_vae(), [nets.small_clip()])


def without_cross_attention(path: Path, _models: Path) -> None:
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    unet = nets.small_sd1_unet(**blocks, mid_block_type="UNetMidBlock2D")
    nets.write_single_file(path, unet, nets.small_vae(), [nets.small_clip()])


def deeper(path: Path, _models: Path) -> None:
    blocks = {
        "block_out_channels": (32,) * 4,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    }
    nets.write_single_file(
        path, nets.small_sd1_unet(**blocks), nets.small_vae(), [nets.small_clip()]
    )


def sdxl(path: Path, _models: Path) -> None:
    nets.write_single_file(path, *networks("sdxl", 0))


def truncated(path: Path, models: Path) -> None:
    path.write_bytes((models / "ink.safetensors").read_bytes()[:-1000])


def lying_header(path: Path, models: Path) -> None:
    data = (models / "ink.safetensors").read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    path.write_bytes(data[:8] + data[8:end].replace(b"[32]", b"[99]", 1) + data[end:])


class Code:
    def __reduce__(self) -> tuple:
        return print, ("this code ran",)


def pickled_code(path: Path, _models: Path) -> None:
    path.write_bytes(pickle.dumps({"state_dict": Code()}))


def missing(_path: Path, _models: Path) -> None:
    pass


CHECKPOINTS: list[tuple[str, Write, str]] = [
    ("teachers.1", sd2, r"a Stable Diffusion 2 UNet.* is needed here"),
    ("teachers.1", flux, r"a Flux model.* is needed here"),
    ("teachers.1", lora, r"a LoRA.* is needed here"),
    ("teachers.1", vae, r"a VAE.* is needed here"),
    ("teachers.1", style_file, r"a style file.* is needed here"),
    ("teachers.1", without_a_tensor, r"lacks 1 \(model\.diffusion_model\.out\.0\.bias\)"),
    ("teachers.1", without_text_encoder, r"has no text encoder.*Choose the full checkpoint"),
    ("teachers.1", without_cross_attention, r"without cross-attention.* is needed here"),
    ("teachers.1", wider, r"`block_out_channels` is \[64, 64\].* must share one architecture"),
    ("teachers.1", sdxl, r"of the sdxl family.* must share one architecture"),
    ("teachers.1", truncated, r"is truncated.* Download or copy it again"),
    ("teachers.1", lying_header, r"has a lying header.* Get it again"),
    ("teachers.1", pickled_code, r"was not opened, because it contains .*Get the .safetensors"),
    ("teachers.1", missing, r"does not exist"),
    ("base", without_vae, r"has no VAE.*Choose a full checkpoint as `base`"),
    ("base", without_text_encoder, r"has no text encoder.*Choose a full checkpoint as `base`"),
    ("base", flux, r"a Flux model.* is needed here"),
]


@pytest.mark.parametrize(
    ("key", "write", "says"), CHECKPOINTS, ids=lambda value: getattr(value, "__name__", None)
)
def test_files_that_are_no_fit_checkpoint(
    models: Path, tmp_path: Path, capsys, key: str, write: Write, says: str
) -> None:
    path = tmp_path / "bad.safetensors"
    write(path, models)
    message = refused(models, capsys, f"{key}={path}")
    assert str(path) in message and re.search(says, message, re.DOTALL), message
    assert "this code ran" not in message


# --- data ----------------------------------------------------------------------------------------


def no_captions(folder: Path) -> None:
    for name in ("a", "b"):
        Image.new("RGB", (16, 16)).save(folder / f"{name}.png")
    (folder / "a.txt").write_text("a cat", encoding="utf-8")


def other_files(folder: Path) -> None:
    (folder / "a.heic").touch()


def empty(_folder: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("fill", "says"),
    [
        (no_captions, r"1 of 2 pictures have no caption \(b\.png\).* Write each caption"),
        (other_files, r"holds no pictures\. Looked for \.jpg.*found 1 \.heic"),
        (empty, r"holds no pictures\. Looked for \.jpg.*found no files at all"),
    ],
)
def test_folders_that_hold_no_data(
    models: Path, tmp_path: Path, capsys, fill: Callable[[Path], None], says: str
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    fill(folder)
    message = refused(models, capsys, "data.prompts=null", f"data.pictures={folder}")
    assert str(folder) in message and re.search(says, message), message


# --- the config and its output -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train.step=5"], r"merge\.yaml: unknown key `train\.step`: did you mean `steps`\?"),
        (["data.picturs=x"], r"unknown key `data\.picturs`: did you mean `pictures`\?"),
        (["teachers.0.nmae=x"], r"unknown key `teachers\.0\.nmae`: did you mean `name`\?"),
        (["train.steps=many"], r"`train\.steps`.*many"),
        (["data.prompts=none.txt"], r"no file none\.txt.* one prompt a line"),
        (["data.prompts=null"], r"give exactly one of `pictures`"),
        (["data.prompts=null", "data.shards=x-{0..2}.tar"], r"no shard x-0\.tar.* Give tar files"),
        (["data.resolution=20"], r"`resolution`: \[20, 20\] is not a multiple of 8"),
        (["data.resolution=24", "base=base.safetensors"], r"base\.safetensors"),
        (["preset=best"], r"no preset 'best'. There are: .*paper"),
        (["teachers.0.name=anime"], r"two teachers are called 'anime': give each its own"),
        (["output=merged.ckpt"], r"merged\.ckpt.* does not end in \.safetensors"),
    ],
)
def test_configs_with_a_mistake(models: Path, capsys, words: list[str], says: str) -> None:
    assert re.search(says, refused(models, capsys, *words), re.DOTALL)


def test_a_size_that_the_unet_cannot_halve(models: Path, tmp_path: Path, capsys) -> None:
    path = tmp_path / "deeper.safetensors"
    deeper(path, models)
    words = [f"base={path}", f"teachers=[{path}]"]
    message = refused(models, capsys, *words, "data.resolution=24")
    assert "`data.resolution` [24, 24]" in message and "cannot halve 3 times" in message
    message = refused(models, capsys, *words, "data.buckets=[[16, 40]]")
    assert "`data.buckets` [16, 40]" in message and "Choose multiples of 64" in message


def test_a_plain_checkpoint_learns_no_few_steps(models: Path, capsys) -> None:
    message = refused(models, capsys, "few_steps={}", "teachers=[]")
    assert "base.safetensors has no style prompts" in message and "Merge first" in message


def test_a_vae_whose_latents_the_unet_does_not_take(models: Path, tmp_path: Path, capsys) -> None:
    """It is found out when the first picture is encoded; so there is a cache, and nothing else."""
    vae = nets.small_vae(latent_channels=8)
    base = nets.write_single_file(
        tmp_path / "base.safetensors", nets.small_sd1_unet(), vae, [nets.small_clip()]
    )
    picture = tmp_path / "pictures" / "a.png"
    picture.parent.mkdir()
    Image.new("RGB", (16, 16)).save(picture)
    picture.with_suffix(".txt").write_text("a cat", encoding="utf-8")
    output = tmp_path / "merged.safetensors"
    words = [f"base={base}", f"output={output}", f"data.pictures={picture.parent}"]
    assert command("merge", models / "merge.yaml", *words, "data.prompts=null") == 2
    message = capsys.readouterr().err
    assert "latents of shape [8, 8, 8] where the UNet" in message and "[4, 8, 8]" in message
    assert not output.exists()


def test_an_output_that_is_somebody_elses(models: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / "precious.safetensors"
    save_tensors(output, {"x": torch.ones(2)}, {})
    message = refused(models, capsys, f"output={output}")
    assert str(output) in message and "--overwrite" in message
    assert torch.equal(open_tensors(output)["x"], torch.ones(2))
    assert [path.name for path in tmp_path.iterdir()] == [output.name]


def test_an_output_in_a_folder_that_cannot_be(models: Path, capsys) -> None:
    message = refused(models, capsys, f"output={models / 'prompts.txt' / 'merged.safetensors'}")
    assert "prompts.txt" in message and "choose another `output`" in message
