"""Many teachers on little memory: each teaches as itself, and few are there at a time."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel

from dmm.errors import DmmError
from dmm.tensors import open_tensors, save_tensors
from tests import nets
from tests.trainer.controlnets import write_controlnet
from tests.trainer.loras import layers, write_lora
from trainer.checkpoint import Checkpoint, open_checkpoint
from trainer.checkpoint.network import Network
from trainer.controlnet import on_base, open_controlnet
from trainer.lora import open_lora, with_loras
from trainer.teachers import Teacher, TeacherPool
from trainer.text import TextEmbedding

COUNT = 32
BIAS = "model.diffusion_model.out.2.bias"


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> list[Teacher]:
    """Teacher i predicts i more than the first one."""
    folder = tmp_path_factory.mktemp("teachers")
    first = nets.write_single_file(folder / "0.safetensors", nets.small_sd1_unet())
    tensors = dict(open_tensors(first))
    for number in range(1, COUNT):
        path = folder / f"{number}.safetensors"
        save_tensors(path, {**tensors, BIAS: tensors[BIAS] + number}, {})
    return [
        Teacher(open_checkpoint(folder / f"{number}.safetensors"), "epsilon", None, (number,))
        for number in range(COUNT)
    ]


def unets_in_memory() -> int:
    gc.collect()
    return sum(type(found) is UNet2DConditionModel for found in gc.get_objects())


@pytest.mark.parametrize("slots", [1, 5])
def test_teachers_take_turns_on_few_slots(teachers: list[Teacher], slots: int) -> None:
    before = unets_in_memory()
    pool = TeacherPool(teachers, "cpu", torch.float32, slots)
    noisy, text = torch.randn(1, 4, 8, 8), TextEmbedding(torch.randn(1, 7, nets.TEXT_WIDTH))
    timesteps = torch.tensor([500])

    def prediction(number: int) -> torch.Tensor:
        return pool.predict(number, noisy, timesteps, text, torch.tensor([number]))[0]

    first = prediction(0)
    for number in [*range(COUNT), *range(0, COUNT, 7), 0]:
        torch.testing.assert_close(prediction(number), first + number)
    assert unets_in_memory() - before == slots


def write_into(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"1234")


def test_a_file_written_into_while_a_slot_is_filled_is_refused(
    teachers: list[Teacher], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "written-into.safetensors"
    shutil.copy(teachers[1].checkpoint.path, path)
    checkpoint = open_checkpoint(path)
    assert checkpoint.sha256
    pool = TeacherPool(
        [teachers[0], Teacher(checkpoint, "epsilon", None, (1,))], "cpu", torch.float32, slots=1
    )
    with pool.painting(0, torch.tensor([0])):  # the slot is taken, and will be written over
        pass
    named_parameters = UNet2DConditionModel.named_parameters

    def parameters(unet: UNet2DConditionModel) -> Iterator[tuple[str, torch.nn.Parameter]]:
        yield from named_parameters(unet)
        write_into(path)

    monkeypatch.setattr(UNet2DConditionModel, "named_parameters", parameters)
    with pytest.raises(DmmError, match="changed by another program"):
        pool.painting(1, torch.tensor([1])).__enter__()


@pytest.fixture(params=["checkpoint", "lora", "controlnet"])
def watched(
    request: pytest.FixtureRequest, teachers: list[Teacher], tmp_path: Path
) -> tuple[Checkpoint, Path]:
    """A teacher of each kind, and the file of it that another program will write into."""
    path = tmp_path / "written-into.safetensors"
    plain = teachers[1].checkpoint
    unet = plain.load_unet()
    if request.param == "checkpoint":
        shutil.copy(plain.path, path)
        return open_checkpoint(path), path
    if request.param == "lora":
        modules = {name: f"unet.{name.removesuffix('.weight')}" for name in layers(unet)}
        write_lora(path, modules, plain.unet_tensors())
        return with_loras(plain, [open_lora(path)]), path
    write_controlnet(path, ControlNetModel.from_unet(unet))
    return on_base(plain, open_controlnet(path), frozen=lambda: unet), path


def test_a_file_written_into_while_it_is_read_is_refused(
    watched: tuple[Checkpoint, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, path = watched
    assert checkpoint.sha256
    checkpoint.load_unet()  # nobody writes
    load = Network.load

    def load_and_write(network: Network, dtype: torch.dtype) -> torch.nn.Module:
        loaded = load(network, dtype)
        write_into(path)
        return loaded

    monkeypatch.setattr(Network, "load", load_and_write)
    with pytest.raises(DmmError, match=r"written-into\.safetensors was changed by another"):
        checkpoint.load_unet()
