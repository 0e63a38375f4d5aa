"""Parts of the method that are rarely used together, in whole runs of small real networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel

from dmm.merged import is_adapter, read_styles
from dmm.metadata import Sampling
from dmm.tensors import open_tensors
from tests.trainer.controlnets import write_controlnet
from tests.trainer.merging import (
    command,
    on_pictures,
    options,
    rest,
    run_merge,
    statistics,
    write_models,
)
from tests.trainer.processes import run_in_two
from tests.trainer.test_buckets import write_pictures
from tests.trainer.test_sharding import merge_under_fsdp
from trainer.checkpoint import open_checkpoint

STYLES = ["ink", "Anime", "oil"]
ADAPTER = "train.adapter={rank: 4}"
FEW = ["few_steps.guidance=2", "few_steps.pieces=5", "train.steps=3", "train.batch_size=4"]
SECOND = (
    "synthesised={prompts: prompts.txt, steps: 3, batch_size: 5, "
    "painting: {pictures_per_teacher: 4, steps: 2, guidance: 1, negative: ''}}"
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = write_models(tmp_path_factory.mktemp("models"))
    write_pictures(config.parent / "pictures")
    return config


@pytest.fixture(scope="module")
def merged(config: Path) -> Path:
    return run_merge(config, "train.steps=2")


def accelerate(config: Path, merged: Path, name: str, *more: str) -> list[str]:
    words = ["accelerate", merged, *options(config, name), "--config", rest(config.parent)]
    output = config.parent / name / "merged.safetensors"
    return [*map(str, words), "--output", str(output), *FEW, *more]


def assert_trained_alike(ours: Path, theirs: Path) -> None:
    """Up to the rounding of sums that are added up in another order."""
    for one, other in zip(statistics(ours), statistics(theirs), strict=True):
        assert one["teachers"].keys() == other["teachers"].keys()
        loss = next(iter(other.keys() - {"step"} & {"score", "consistency"}))
        assert one[loss] == pytest.approx(other[loss], rel=1e-3)
        assert one["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-3)


def test_few_steps_from_an_adapter(config: Path) -> None:
    """What an adapter was folded into paints in few steps, as a whole or by another adapter."""
    folder = config.parent
    adapter, folded = (
        run_merge(config, *options(config, "adapter", ADAPTER)),
        folder / "f.safetensors",
    )
    base = folder / "base.safetensors"
    assert command("fold", adapter, "--base", base, "--output", folded) == 0
    assert command(*accelerate(config, folded, "whole")) == 0
    assert read_styles(folder / "whole" / "merged.safetensors").sampling == Sampling(4, 1.0, "lcm")

    assert command(*accelerate(config, folded, "small", ADAPTER)) == 0
    small, both = folder / "small" / "merged.safetensors", folder / "both.safetensors"
    assert is_adapter(open_tensors(small))
    assert read_styles(small).names == STYLES
    picture = folder / "fast.png"
    asked = ["--prompt", "a cat", "--mix", "ink", "--output", picture]
    assert command("sample", small, "--base", folded, *asked) == 0
    assert command("fold", small, "--base", folded, "--output", both) == 0
    for path in (small, both):
        assert read_styles(path).sampling == Sampling(4, 1.0, "lcm"), path
    assert command("accelerate", both, "--output", folder / "none.safetensors") == 2


def test_an_adapter_is_folded_before_it_learns_few_steps(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = run_merge(config, *options(config, "unfolded", ADAPTER, "train.steps=1"))
    assert command(*accelerate(config, adapter, "never")) == 2
    assert "run.py fold" in capsys.readouterr().err
    assert not (config.parent / "never").exists()


def test_the_second_stage_in_two_processes(config: Path) -> None:
    said = [SECOND.replace("prompts.txt", str(config.with_name("prompts.txt"))), "train.steps=2"]
    one = run_merge(config, *options(config, "one", *said))
    run_in_two("merge", config, *options(config, "two", *said))
    two = config.parent / "two" / "merged.safetensors"
    assert_trained_alike(two, one)
    second = Path("synthesised.safetensors")
    assert_trained_alike(two.with_suffix("") / second, one.with_suffix("") / second)


@pytest.mark.parametrize("loss", ["lcm", "splam"])
def test_few_steps_in_two_processes(config: Path, merged: Path, loss: str) -> None:
    said = [f"few_steps.loss={loss}", "train.ema_decay=0.5"]
    assert command(*accelerate(config, merged, f"one-{loss}", *said)) == 0
    run_in_two(*accelerate(config, merged, f"two-{loss}", *said))
    one, two = (config.parent / f"{n}-{loss}" / "merged.safetensors" for n in ("one", "two"))
    assert_trained_alike(two, one)
    assert read_styles(two).sampling == Sampling(4, 1.0, "lcm")


def test_controlnets_under_fsdp(config: Path) -> None:
    unet, teachers = open_checkpoint(config.with_name("base.safetensors")).load_unet(), []
    for name in ("edges", "grey"):
        torch.manual_seed(len(name))
        net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 32))
        for block in [*net.controlnet_down_blocks, net.controlnet_mid_block]:
            torch.nn.init.normal_(block.weight, std=0.1)  # else it adds nothing yet
        write_controlnet(config.parent / f"{name}.safetensors", net)
        teachers.append(f"{{path: {config.parent / name}.safetensors, condition: {name}}}")
    said = [*on_pictures(config), f"teachers=[{', '.join(teachers)}]", "train.steps=3"]
    one = run_merge(config, *options(config, "control", *said))
    merge_under_fsdp(config, *options(config, "spread", *said))
    spread = config.parent / "spread" / "merged.safetensors"
    assert_trained_alike(spread, one)
    ours, theirs = open_tensors(spread), open_tensors(one)
    assert set(ours) == set(theirs)
    for key in theirs:
        torch.testing.assert_close(ours[key], theirs[key], rtol=0, atol=5e-3)
