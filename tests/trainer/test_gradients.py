"""However a batch is cut up, over processes or in time, the optimizer gets the same gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.trainer.keep_gradients import keep_gradients
from tests.trainer.merging import options, run_merge, write_models
from tests.trainer.processes import run_in_two

# Seven pairs go neither into two processes nor into micro-batches of two without a rest. Without
# clipping, which would hide a wrong length.
OPTIONS = [
    "train.steps=1",
    "train.batch_size=7",
    "train.feature_weight=0.1",
    "train.adversarial_weight=0.1",
    "train.max_grad_norm=1e9",
    "samples.prompts=[a cat]",
]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


def gradients_here(config: Path, name: str, *more: str) -> dict[str, Tensor]:
    path = config.parent / f"{name}.gradients"
    end = keep_gradients(path)
    try:
        run_merge(config, *options(config, name, *OPTIONS, *more))
    finally:
        end()
    return load_file(path)


@pytest.fixture(scope="module")
def gradients(config: Path) -> dict[str, Tensor]:
    """Of student and discriminator, in one process that takes the batch as a whole."""
    return gradients_here(config, "one")


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    """Up to the rounding of sums that are added up in another order."""
    assert set(ours) == set(theirs)
    largest = max(gradient.abs().max().item() for gradient in theirs.values())
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-5 * largest)


def test_micro_batches_add_up_to_the_batch(config: Path, gradients: dict[str, Tensor]) -> None:
    assert_equal(gradients_here(config, "micro", "train.micro_batch_size=2"), gradients)


@pytest.mark.parametrize("more", [[], ["train.micro_batch_size=2"]], ids=["whole", "micro"])
def test_two_processes_add_up_to_one(
    config: Path, gradients: dict[str, Tensor], more: list[str]
) -> None:
    name = "-".join(["two", *more])
    path = config.parent / f"{name}.gradients"
    program = ["-m", "tests.trainer.keep_gradients"]
    run_in_two(path, config, *options(config, name, *OPTIONS, *more), program=program)
    assert_equal(load_file(path), gradients)
