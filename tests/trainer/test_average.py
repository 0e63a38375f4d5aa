"""Weighted merging: every tensor is the mean, computed apart in float64."""

from __future__ import annotations

import hashlib
import json
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dmm.computed import Computed
from dmm.errors import DmmError
from dmm.tensors import open_tensors
from tests import nets
from tests.trainer.merging import command
from trainer.average import average, mean, parse_weights
from trainer.checkpoint import open_checkpoint

VAE = "first_stage_model."


def networks(family: str, seed: int) -> tuple[nn.Module, nn.Module, list[nn.Module]]:
    encoders = [nets.small_clip(seed), nets.small_bigg(seed)]
    if family == "sd1":
        return nets.small_sd1_unet(seed), nets.small_vae(seed), encoders[:1]
    return nets.small_sdxl_unet(seed), nets.small_vae(seed), encoders


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def files(family: str, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp(family)
    metadata = {"modelspec.license": "CC0", "dmm.vae_scaling_factor": "0.5"}
    return [
        nets.write_single_file(
            folder / f"{name}.safetensors",
            *networks(family, seed),
            metadata=metadata if name == "ink" else {},
        )
        for seed, name in enumerate(("ink", "oil", "pen"))
    ]


def assert_mean(found: Path, files: list[Path], shares: list[float], atol: float) -> None:
    inputs = [open_tensors(path) for path in files]
    result = open_tensors(found)
    assert set(result) == set(inputs[0])
    for key in result:
        parts = [tensors[key].double().numpy() for tensors in inputs]
        expected = sum(share * part for share, part in zip(shares, parts, strict=True))
        if key.startswith(VAE):
            expected = parts[0]
        np.testing.assert_allclose(result[key].double().numpy(), expected, atol=atol, err_msg=key)


def test_all_alike(files: list[Path], tmp_path: Path) -> None:
    average(files, tmp_path / "mean.safetensors", dtype="fp32")
    assert_mean(tmp_path / "mean.safetensors", files, [1 / 3] * 3, atol=1e-6)


def test_weights_are_divided_by_their_sum(files: list[Path], tmp_path: Path) -> None:
    average(files, tmp_path / "mean.safetensors", [0, 3, 1], dtype="fp32")
    assert_mean(tmp_path / "mean.safetensors", files, [0, 0.75, 0.25], atol=1e-6)


def test_the_command_writes_a_checkpoint_in_fp16(
    files: list[Path], family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "mean.safetensors"
    words = ["--weights", "0.6, 0.4", "--output", output]
    assert command("average", *files[:2], *words) == 0
    assert capsys.readouterr().out.strip() == str(output.resolve())
    checkpoint = open_checkpoint(output)
    assert checkpoint.family == family and checkpoint.vae_config["scaling_factor"] == 0.5
    assert {tensor.dtype for tensor in open_tensors(output).values()} == {torch.float16}
    assert_mean(output, files[:2], [0.6, 0.4], atol=2e-3)
    assert command("inspect", output) == 0
    said = capsys.readouterr().out
    assert "average" in said and "ink.safetensors" in said and "CC0" in said


def test_ancestors_of_ancestors(files: list[Path], tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    average(files[:2], first)
    average([first, files[2]], second, [0.5, 0.5])
    metadata = open_tensors(second).metadata
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (first, *files)}
    models = json.loads(metadata["sd_merge_models"])
    assert {sha256: entry["name"] for sha256, entry in models.items()} == {
        sha256: name for name, sha256 in hashes.items()
    }
    recipe = json.loads(metadata["sd_merge_recipe"])
    assert [model["sha256"] for model in recipe["models"]] == [
        hashes["first.safetensors"],
        hashes["pen.safetensors"],
    ]
    assert models[hashes["first.safetensors"]]["sd_merge_recipe"]["type"] == "average"


def test_each_tensor_is_computed_once_and_let_go(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed, most = [], 0

    def watched(*args: object) -> Computed:
        averaged = mean(*args)

        def read(key: str) -> torch.Tensor:
            nonlocal most
            tensor = averaged[key]
            computed.append(weakref.ref(tensor))
            most = max(most, sum(reference() is not None for reference in computed))
            return tensor

        return Computed(averaged, read)

    monkeypatch.setattr("trainer.average.mean", watched)
    average(files, tmp_path / "mean.safetensors")
    checkpoint = open_checkpoint(files[0])
    networks = [network for name, network in checkpoint.networks.items() if name != "vae"]
    assert len(computed) == sum(len(network.tensors) for network in networks)
    assert most <= 4  # OpenCLIP joins three tensors to one


def test_mistakes(files: list[Path], family: str, tmp_path: Path) -> None:
    output = tmp_path / "mean.safetensors"
    other = "sdxl" if family == "sd1" else "sd1"
    stranger = nets.write_single_file(tmp_path / "other.safetensors", *networks(other, 0))
    unet, vae, encoders = networks(family, 0)
    bare = nets.write_single_file(tmp_path / "bare.safetensors", unet, vae)
    v = nets.write_single_file(
        tmp_path / "v.safetensors", unet, vae, encoders, {"modelspec.prediction_type": "v"}
    )
    encoders = [nets.small_clip(0, vocab_size=530), *encoders[1:]]
    longer = nets.write_single_file(tmp_path / "longer.safetensors", unet, vae, encoders)
    cases = [
        (files[:1], None, "two checkpoints or more"),
        (files, [1, 1], "3 checkpoints need as many weights, not 2"),
        (files[:2], [1, -1], "have no mean"),
        (files[:2], [0, 0], "have no mean"),
        (files[:2], [float("nan"), 1], "have no mean"),
        ([files[0], stranger], None, "must share one architecture"),
        ([files[0], bare], None, "holds no text encoder"),
        ([files[0], v], None, "would predict neither"),
        ([files[0], longer], None, "another text encoder than"),
        ([files[0], tmp_path / "none.safetensors"], None, "does not exist"),
    ]
    for paths, weights, message in cases:
        with pytest.raises(DmmError, match=message):
            average(paths, output, weights)
    with pytest.raises(DmmError, match="are not numbers"):
        parse_weights("0.5; 0.5")
    assert not output.exists()
    with pytest.raises(DmmError, match="exists already"):
        average(files, files[0])
