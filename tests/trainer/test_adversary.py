"""The adversarial loss within whole merges."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.trainer.merging import options, run_merge, saved_student, statistics, write_models
from tests.trainer.processes import run_in_two


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


def adversarial(config: Path, name: str, *more: str) -> list[str]:
    return options(config, name, "train.adversarial_weight=0.5", *more)


@pytest.fixture(scope="module")
def merged(config: Path) -> Path:
    """Six steps in one go."""
    return run_merge(config, *adversarial(config, "whole"))


def test_it_changes_the_student_and_is_told_of(config: Path, merged: Path) -> None:
    without = run_merge(config, *adversarial(config, "without", "train.adversarial_weight=0"))
    ours, theirs = saved_student(merged, 6), saved_student(without, 6)
    assert any(not torch.equal(ours[name], theirs[name]) for name in theirs)
    assert "discriminator" not in statistics(without)[0]
    first, last = statistics(merged)[0], statistics(merged)[-1]
    assert last["discriminator"] < first["discriminator"]  # it learns
    assert last["adversarial"] > 0


def test_a_resumed_run_has_the_same_discriminator(config: Path, merged: Path) -> None:
    run_merge(config, *adversarial(config, "parts", "train.steps=3"))
    resumed = run_merge(config, *adversarial(config, "parts"), overwrite=True)
    assert statistics(resumed) == statistics(merged)
    ours, theirs = saved_student(resumed, 6), saved_student(merged, 6)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("more", [[], ["train.micro_batch_size=2"]], ids=["whole", "micro"])
def test_two_processes_train_as_one(config: Path, merged: Path, more: list[str]) -> None:
    name = "-".join(["two", *more])
    run_in_two("merge", config, *adversarial(config, name, *more))
    ours = statistics(config.parent / name / "merged.safetensors")
    for line, expected in zip(ours, statistics(merged), strict=True):
        for kind in ("score", "adversarial", "discriminator", "gradient_norm"):
            assert line[kind] == pytest.approx(expected[kind], rel=1e-3)


def test_sdxl(tmp_path: Path) -> None:
    config = write_models(tmp_path, "sdxl")
    merged = run_merge(config, *adversarial(config, "sdxl", "train.steps=2"))
    assert statistics(merged)[-1]["discriminator"] > 0
