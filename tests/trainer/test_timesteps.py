"""Which timesteps are trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.trainer.merging import write_models
from trainer.batches import shifted
from trainer.config_file import load_config
from trainer.diffusion import TIMESTEPS
from trainer.merge import new_accelerator, teacher_pool, training_loop
from trainer.opening import open_ingredients
from trainer.prepare import prepare
from trainer.stages import open_stages


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("timesteps"))


def test_without_a_shift_all_stay() -> None:
    assert [shifted(t, 1.0) for t in range(TIMESTEPS)] == list(range(TIMESTEPS))


@pytest.mark.parametrize("shift", [0.3, 2.5, 1e6])
def test_a_shift_keeps_the_order_and_the_ends(shift: float) -> None:
    moved = [shifted(t, shift) for t in range(TIMESTEPS)]
    assert moved == sorted(moved) and (moved[0], moved[-1]) == (0, TIMESTEPS - 1)


def test_a_shift_multiplies_the_odds() -> None:
    """u / (1 - u) becomes s u / (1 - u), which is another way to write the same."""
    for t in range(1, TIMESTEPS - 1):
        u = t / (TIMESTEPS - 1)
        odds = 2.5 * u / (1 - u)
        assert shifted(t, 2.5) == pytest.approx((TIMESTEPS - 1) * odds / (1 + odds), abs=0.51)


def test_a_merge_trains_on_shifted_timesteps(config: Path) -> None:
    plain, noisy = (timesteps(config, shift) for shift in (1.0, 2.5))
    assert noisy == [shifted(t, 2.5) for t in plain]
    assert len({*plain}) > 10


def timesteps(config: Path, shift: float) -> list[int]:
    """Of the first steps of a merge."""
    ingredients = open_ingredients(load_config(config, [f"train.timestep_shift={shift}"]))
    (stage,) = open_stages(ingredients.config)
    accelerator = new_accelerator(ingredients.config, stage)
    prepared = prepare(ingredients, stage, accelerator.device, torch.float32)
    teachers = teacher_pool(ingredients, accelerator.device)
    loop = training_loop(ingredients, stage, prepared, teachers, accelerator)
    return [
        t for step in range(8) for batch in loop.batches[step] for t in batch.timesteps.tolist()
    ]
