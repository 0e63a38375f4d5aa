"""A folder of small files under the names that the pages give to people's own."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
from PIL import Image

from dmm.merged import Styles, write_merged
from dmm.metadata import Style, merged_metadata
from dmm.style_prompts import StylePrompts
from dmm.tensors import open_tensors
from tests.docs.pages import blocks, read_page
from tests.nets import small_sd1_unet, write_single_file
from tests.trainer.loras import layers, write_lora
from tests.trainer.merging import networks

SIDE = 16  # pixels of what is trained and painted here
BASE = "checkpoints/v1-5-pruned-emaonly.safetensors"
STYLES = ["ink", "anime", "photo"]


def write_checkpoint(path: Path) -> None:
    """A small SD1.5, whose UNet is the name's own; they share one text encoder and VAE."""
    seed = sum(path.stem.encode())
    unet, vae, encoders = networks("sd1", seed)
    if path.suffix == ".ckpt":
        whole = path.with_suffix(".safetensors")
        tensors = dict(open_tensors(write_single_file(whole, unet, vae, encoders)))
        torch.save({"state_dict": {name: tensor.clone() for name, tensor in tensors.items()}}, path)
        whole.unlink()
    else:
        write_single_file(path, unet, vae, encoders)


def write_merged_checkpoint(path: Path) -> None:
    plain = path.with_name("plain.safetensors")
    write_checkpoint(plain)
    styles = [Style(name) for name in STYLES]
    size = (SIDE, SIDE)
    metadata = merged_metadata(
        styles, {}, family="sd1", title="m", resolution=size, prediction_type="epsilon"
    )
    prompts = StylePrompts(len(styles), 4 * small_sd1_unet().config.block_out_channels[0])
    write_merged(path, open_tensors(plain), Styles(prompts, styles, "sd1"), metadata)
    plain.unlink()


def write_lora_file(path: Path) -> None:
    unet = small_sd1_unet()
    names = {
        weight: f"lora_unet_{weight.removesuffix('.weight').replace('.', '_')}"
        for weight in layers(unet)
        if "attn" in weight
    }
    write_lora(path, names, unet.state_dict())


def write_config(path: Path) -> None:
    path.write_text(CONFIG, encoding="utf-8")
    folder = path.with_name("usual")
    folder.mkdir()
    for name in ("base", "ink"):
        write_checkpoint(folder / f"{name}.safetensors")


def write_prompts(path: Path) -> None:
    path.write_text("a cat\na house on a hill\n", encoding="utf-8")


def write_pictures(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (SIDE, SIDE), colour).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"{colour} paper", encoding="utf-8")


CONFIG = """
base: usual/base.safetensors
teachers: [usual/ink.safetensors]
output: merged.safetensors
data: synthetic
"""

FILES: dict[str, Callable[[Path], None]] = {
    r"checkpoints/[\w-]+\.(?:safetensors|ckpt)": write_checkpoint,
    r"new\.safetensors": write_checkpoint,
    r"(?:pen|loras/[\w-]+)\.safetensors": write_lora_file,
    r"(?<![\w/-])merged\.safetensors": write_merged_checkpoint,
    r"mine\.yaml": write_config,
    r"prompts\.txt": write_prompts,
    r"photos(?=[/,} \n])": write_pictures,
}
"""What stands in a page as a file of the reader's → what writes a small one of that name."""


def furnish(folder: Path, page: str) -> None:
    """Writes every file that a page names, and those that stand in it: `# mine.yaml` on top."""
    for pattern, write in FILES.items():
        for name in sorted(set(re.findall(pattern, read_page(page)))):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path)
    for block in blocks(page, "yaml"):
        name = re.match(r"# (\S+\.yaml)", block.text)
        if name:
            (folder / name[1]).write_text(_without_bitsandbytes(block.text), encoding="utf-8")


def _without_bitsandbytes(config: str) -> str:
    """A merge as it stands on a page, without the package that people install for that preset."""
    if find_spec("bitsandbytes"):
        return config
    return config.replace("preset: one-gpu", "preset: one-gpu\ntrain: {optimizer: adamw}")
