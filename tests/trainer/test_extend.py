"""Incremental merging: new styles come in, the old ones stay (paper, section 3.5)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dmm.injection import styled
from dmm.merged import read_styles
from dmm.tensors import open_tensors, save_tensors
from tests import nets
from tests.trainer.merging import (
    command,
    networks,
    options,
    rest,
    run_merge,
    statistics,
    write_models,
)
from trainer.checkpoint import open_checkpoint
from trainer.student import predict
from trainer.text import TextEmbedding

OLD = ["ink", "Anime", "oil"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    nets.write_single_file(folder / "pen.safetensors", *networks("sd1", 7))
    nets.write_single_file(folder / "xl.safetensors", *networks("sdxl", 1))
    return write_models(folder)


@pytest.fixture(scope="module")
def merged(config: Path) -> Path:
    return run_merge(config)


@pytest.fixture(scope="module")
def extended(config: Path, merged: Path) -> Path:
    return extend(config, merged, "extended")


@pytest.fixture(scope="module")
def forgetful(config: Path, merged: Path) -> Path:
    return extend(config, merged, "forgetful", "--no-regularization")


def extend(config: Path, merged: Path, name: str, *options: str) -> Path:
    folder = config.parent
    output = folder / name / "merged.safetensors"
    words = [
        *("extend", merged, "--with", folder / "pen.safetensors", "--output", output),
        *("--config", rest(folder), "train.steps=40", *options),
    ]
    assert command(*words) == 0
    return output


def shard(path: Path) -> None:
    """Cuts a file in two, with an index beside them, as diffusers does with large ones."""
    file = open_tensors(path)
    names = sorted(file)
    halves = names[: len(names) // 2], names[len(names) // 2 :]
    weight_map = {}
    for number, half in enumerate(halves, start=1):
        name = f"{path.stem}-{number:05}-of-00002.safetensors"
        save_tensors(path.with_name(name), {key: file[key] for key in half}, file.metadata)
        weight_map |= dict.fromkeys(half, name)
    index = path.with_name(f"{path.name}.index.json")
    index.write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    path.unlink()


@torch.no_grad()
def painted(path: Path, style: str) -> Tensor:
    """The UNet's output in a style, on noise that is always the same."""
    generator = torch.Generator().manual_seed(3)
    noisy = torch.randn(8, 4, 8, 8, generator=generator)
    text = TextEmbedding(torch.randn(8, 77, nets.TEXT_WIDTH, generator=generator))
    timesteps = torch.arange(60, 1000, 120)
    file = open_checkpoint(path)
    if not file.styles:
        return predict(file.load_unet(), noisy, timesteps, text)
    styles = read_styles(path)
    vector = styles.prompts(torch.eye(len(styles.names))[styles.names.index(style)])
    with styled(file.load_unet(), vector) as unet:
        return predict(unet, noisy, timesteps, text)


def drift(extended: Path, merged: Path) -> float:
    """How far the old styles moved, in mean squared error."""
    moved = [(painted(extended, style) - painted(merged, style)).square().mean() for style in OLD]
    return sum(moved).item() / len(moved)


def test_new_style_follows_the_old_ones(extended: Path, merged: Path) -> None:
    styles = read_styles(extended)
    assert styles.names == [*OLD, "pen"]
    assert styles.styles[:3] == read_styles(merged).styles
    assert styles.recipe["extends"] == read_styles(merged).recipe
    assert [teacher["name"] for teacher in styles.recipe["teachers"]] == ["pen"]


def test_all_styles_are_trained_in_turn(extended: Path) -> None:
    seen = {name for line in statistics(extended) for name in line["teachers"]}
    assert seen == {*OLD, "pen"}


def test_the_first_step_starts_from_where_the_old_styles_stand(extended: Path) -> None:
    """The student is its former self then, so there is nothing to mend in the old styles."""
    first = statistics(extended)[0]["teachers"]
    assert all(first[name] < 1e-3 * first["pen"] for name in OLD if name in first)


def test_the_style_prompts_of_the_old_styles_stand_still(
    extended: Path, forgetful: Path, merged: Path
) -> None:
    before = read_styles(merged).prompts.mixed_after(torch.eye(3))
    assert torch.equal(
        read_styles(extended).prompts.codebook[:3], read_styles(merged).prompts.codebook
    )
    for path, stand_still in ((extended, True), (forgetful, False)):
        after = read_styles(path).prompts.mixed_after(torch.eye(4))[:3]
        assert torch.allclose(after, before, atol=1e-6) == stand_still


def test_the_new_style_is_learned(extended: Path, merged: Path, config: Path) -> None:
    teacher = painted(config.parent / "pen.safetensors", "")
    before = (painted(merged, "oil") - teacher).square().mean()
    assert (painted(extended, "pen") - teacher).square().mean() < 0.9 * before


def test_regularization_keeps_the_old_styles(extended: Path, forgetful: Path, merged: Path) -> None:
    assert {*statistics(forgetful)[0]["teachers"]} == {"pen"}
    assert drift(extended, merged) < 0.5 * drift(forgetful, merged)


def test_a_folder_of_shards_is_extended_too(config: Path, merged: Path) -> None:
    said = options(config, "folder", "train.steps=1", "export.diffusers_folder=true")
    folder = run_merge(config, *said).with_name("merged-diffusers")
    shard(folder / "unet" / "diffusion_pytorch_model.safetensors")
    styles = read_styles(extend(config, folder, "from-shards", "train.steps=1"))
    assert styles.names == [*OLD, "pen"]
    assert styles.styles[:3] == read_styles(merged).styles


def test_the_default_preset_extends_from_where_the_merge_stands(config: Path, merged: Path) -> None:
    folder = config.parent
    output = folder / "default" / "merged.safetensors"
    words = ["preset=dmm", "train.steps=1", "train.learning_rate=1e-12"]
    said = ["--with", folder / "pen.safetensors", "--output", output, "--config", rest(folder)]
    assert command("extend", merged, *said, *words) == 0
    ours, theirs = (open_checkpoint(path).unet_tensors() for path in (output, merged))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["extend", "oil.safetensors", "--with", "pen.safetensors"], "plain checkpoint"),
        (["extend", "MERGED", "--with", "ink.safetensors"], "has a style 'ink' already"),
        (
            ["extend", "MERGED", "--with", "pen.safetensors", "train.start_from=average"],
            "would lose its styles",
        ),
        (["extend", "MERGED", "--with", "xl.safetensors"], "sdxl family"),
    ],
)
def test_bad_input(
    config: Path, merged: Path, words: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    folder = config.parent
    paths = [
        merged if word == "MERGED" else folder / word if word.endswith("tensors") else word
        for word in words
    ]
    output = folder / "bad" / "merged.safetensors"
    assert command(*paths, "--output", output, "--config", rest(folder)) == 2
    assert message in capsys.readouterr().err
    assert not output.parent.exists()
