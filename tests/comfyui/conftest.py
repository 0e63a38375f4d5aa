"""One real ComfyUI for all the tests here, and the small checkpoints it loads."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmm.tensors import open_tensors, save_tensors
from tests.comfyui.checkpoints import small_styles, write_checkpoint, write_lora
from tests.comfyui.server import ComfyUI
from tests.hosts import find_host, why_skipped

PACKS = ("ComfyUI-TiledDiffusion", "ComfyUI_IPAdapter_plus")
SD1_NAMES = ("ink", "anime", "photo")
SDXL_NAMES = ("oil", "clay", "pixel", "gouache", "line")


@pytest.fixture(scope="session")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    host = find_host("comfyui")
    if host is None:
        pytest.skip(why_skipped("comfyui"))
    server = ComfyUI(host, tmp_path_factory.mktemp("comfyui"), PACKS)
    yield server
    server.stop()
    for folder in (server.base / "models", server.output):  # gigabytes, which pytest would keep
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def sd1_file(comfyui: ComfyUI) -> Path:
    """SD1.5 with the styles ink, anime and photo; a UNet alone."""
    return write_checkpoint(comfyui.checkpoints / "sd1.safetensors", small_styles(SD1_NAMES))


@pytest.fixture(scope="session")
def sdxl_file(comfyui: ComfyUI) -> Path:
    """SDXL with five styles; a UNet alone."""
    styles = small_styles(SDXL_NAMES, "sdxl")
    return write_checkpoint(comfyui.checkpoints / "sdxl.safetensors", styles, family="sdxl")


@pytest.fixture(scope="session")
def plain_file(comfyui: ComfyUI) -> Path:
    """The same SD1.5 UNet as `sd1_file` without styles."""
    return write_checkpoint(comfyui.checkpoints / "plain.safetensors")


@pytest.fixture(scope="session")
def whole_file(comfyui: ComfyUI) -> Path:
    """SD1.5 with styles, VAE and text encoder, for graphs that start from a prompt."""
    styles = small_styles(SD1_NAMES)
    return write_checkpoint(comfyui.checkpoints / "whole.safetensors", styles, whole=True)


@pytest.fixture(scope="session")
def authors_file(comfyui: ComfyUI, whole_file: Path) -> Path:
    """`whole_file` as the authors write theirs: eight styles, no metadata."""
    path = comfyui.checkpoints / "dmm_ft10k.safetensors"
    styles = small_styles([f"teacher {number}" for number in range(8)])
    save_tensors(path, {**open_tensors(whole_file), **styles.tensors()}, {})
    return path


@pytest.fixture(scope="session")
def lora_file(comfyui: ComfyUI, sd1_file: Path) -> Path:
    """A LoRA for `sd1_file`'s UNet, on attention, time embedding and `emb_layers`."""
    return write_lora(comfyui.base / "models" / "loras" / "lora.safetensors", sd1_file)
