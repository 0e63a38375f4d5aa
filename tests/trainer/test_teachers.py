"""Many teachers on little memory: each teaches as itself, and few are there at a time."""

from __future__ import annotations

import gc

import pytest
import torch
from diffusers import UNet2DConditionModel

from dmm.tensors import open_tensors, save_tensors
from tests import nets
from trainer.checkpoint import open_checkpoint
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
