"""SDXL from end to end: two text encoders, sizes and crops, a teacher that predicts v."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.models.embeddings import Timesteps
from PIL import Image
from torch.nn.modules.module import register_module_forward_pre_hook

from dmm.merged import read_styles
from dmm.tensors import open_tensors, save_tensors
from tests import nets
from tests.trainer.merging import (
    command,
    networks,
    on_pictures,
    options,
    rest,
    run_merge,
    saved_student,
    statistics,
    write_models,
)
from trainer.checkpoint import open_checkpoint

SIZE_CHANNELS = nets.SDXL_UNET["addition_time_embed_dim"]
SHAPES = [(16, 16), (30, 60), (48, 20), (90, 90), (16, 32), (40, 16)]
# Original height and width, top and left of the crop, target height and width.
TIME_IDS = {
    (16, 16, 0, 0, 16, 16),
    (60, 30, 0, 0, 32, 16),
    (20, 48, 0, 3, 16, 32),
    (90, 90, 0, 0, 16, 16),
    (32, 16, 0, 0, 32, 16),
    (16, 40, 0, 4, 16, 32),
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, three teachers of which one says that it predicts v, and pictures of six shapes."""
    folder = tmp_path_factory.mktemp("models")
    config = write_models(folder, "sdxl")
    tensors = dict(open_tensors(folder / "anime.safetensors"))
    save_tensors(
        folder / "anime.safetensors", {**tensors, "v_pred": torch.zeros(0)}, {}, overwrite=True
    )
    nets.write_single_file(folder / "pen.safetensors", *networks("sdxl", 7))
    (folder / "pictures").mkdir()
    for number, shape in enumerate(SHAPES):
        path = folder / "pictures" / f"{number}.png"
        Image.effect_noise(shape, 60).save(path)
        path.with_suffix(".txt").write_text(f"picture {number}", encoding="utf-8")
    return config


def adversarial(config: Path, name: str) -> list[str]:
    return options(config, name, *on_pictures(config), "train.adversarial_weight=0.1")


@pytest.fixture(scope="module")
def told(config: Path) -> set[tuple[int, ...]]:
    """Merges, and gives what the student was told of sizes and crops in the course of it."""
    seen = set()

    def look(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        is_of_sizes = isinstance(module, Timesteps) and module.num_channels == SIZE_CHANNELS
        if is_of_sizes and torch.is_grad_enabled():  # teachers and backbone learn nothing
            seen.update(map(tuple, inputs[0].view(-1, 6).int().tolist()))

    hook = register_module_forward_pre_hook(look)
    run_merge(config, *adversarial(config, "whole"))
    hook.remove()
    return seen


@pytest.fixture(scope="module")
def merged(told: set[tuple[int, ...]], config: Path) -> Path:
    return config.parent / "whole" / "merged.safetensors"


def test_the_student_is_told_each_pictures_own_size_and_crop(told: set[tuple[int, ...]]) -> None:
    assert told == TIME_IDS


def test_teachers_and_discriminator_teach(merged: Path) -> None:
    lines = statistics(merged)
    assert set(lines[0]["teachers"]) == {"ink", "Anime", "oil"}
    assert lines[-1]["discriminator"] > 0
    assert open_checkpoint(merged.parents[1] / "anime.safetensors").prediction_type == (
        "v_prediction"
    )


def test_v_and_epsilon_teachers_are_converted(config: Path, merged: Path) -> None:
    """Called an epsilon teacher, the same file teaches something else; the others as before."""
    words = [*adversarial(config, "epsilon"), "teachers.1.prediction_type=epsilon", "train.steps=1"]
    (ours, *_), (theirs, *_) = statistics(run_merge(config, *words)), statistics(merged)
    different = [
        name for name in theirs["teachers"] if ours["teachers"][name] != theirs["teachers"][name]
    ]
    assert different == ["Anime"]


def test_a_resumed_merge_is_the_same(config: Path, merged: Path) -> None:
    run_merge(config, *adversarial(config, "parts"), "train.steps=3")
    resumed = run_merge(config, *adversarial(config, "parts"), overwrite=True)
    assert statistics(resumed) == statistics(merged)
    ours, theirs = saved_student(resumed, 6), saved_student(merged, 6)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_every_stage(config: Path) -> None:
    """The teachers paint for the first stage and the second, in two shapes; then few steps."""
    prompts = config.with_name("prompts.txt")
    painting = "{pictures_per_teacher: 2, steps: 1, guidance: 1, negative: ''}"
    merged = run_merge(
        config,
        f"output={config.parent / 'stages' / 'merged.safetensors'}",
        "data.buckets=[[16,32]]",
        "train.steps=1",
        "train.adversarial_weight=0.1",
        f"synthesised={{prompts: {prompts}, painting: {painting}, steps: 1, batch_size: 3}}",
    )
    second = merged.with_suffix("") / "synthesised" / "stats.jsonl"
    assert second.read_text(encoding="utf-8").count("\n") == 1
    output = config.parent / "fast" / "merged.safetensors"
    words = [
        "--output",
        output,
        "--config",
        rest(config.parent),
        "train.steps=1",
        "train.batch_size=3",
    ]
    assert command("accelerate", merged, *words) == 0
    assert read_styles(output).names == ["ink", "Anime", "oil"]


def test_sample_and_extend_read_what_was_written(config: Path, merged: Path) -> None:
    folder = config.parent
    picture = folder / "sample.png"
    words = ["--mix", "ink:0.5, anime:0.5", "--steps", "1", "--output", picture, "--height", "32"]
    assert command("sample", merged, "--prompt", "a cat", *words) == 0
    assert Image.open(picture).height > Image.open(picture).width / 2
    output = folder / "extended" / "merged.safetensors"
    words = [
        "--with",
        folder / "pen.safetensors",
        "--output",
        output,
        "--config",
        rest(config.parent),
    ]
    assert command("extend", merged, *words, "train.steps=2") == 0
    assert read_styles(output).names == ["ink", "Anime", "oil", "pen"]
    assert read_styles(output).family == "sdxl"
