"""`run.py accelerate` on small real networks: what it writes, refuses, and how it goes on."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from PIL import Image

from dmm.merged import read_styles
from dmm.metadata import Sampling, read_sampling
from dmm.tensors import open_tensors, save_tensors
from tests.trainer.merging import (
    assert_same,
    command,
    rest,
    run_merge,
    statistics,
    write_models,
)
from tests.trainer.processes import killed
from trainer.evaluate.cost import cost_of

FEW = [
    "few_steps.guidance=2",
    "few_steps.pieces=5",
    "train.steps=4",
    "train.teachers_per_sample=1",
]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def merged(config: Path) -> Path:
    return run_merge(config, "train.steps=2")


def words(merged: Path, config: Path, name: str, *more: str | Path) -> list[str]:
    output = config.parent / name / "fast.safetensors"
    said = ["accelerate", merged, "--output", output, "--config", rest(config.parent)]
    return list(map(str, [*said, *FEW, *more]))


@pytest.fixture(scope="module")
def fast(config: Path, merged: Path) -> Path:
    assert command(*words(merged, config, "fast")) == 0
    return config.parent / "fast" / "fast.safetensors"


def test_the_file_says_how_it_wants_to_be_sampled(fast: Path, merged: Path, capsys) -> None:
    styles = read_styles(fast)
    assert styles.sampling == Sampling(4, 1.0, "lcm")
    assert read_styles(merged).sampling is None
    assert styles.styles == read_styles(merged).styles
    assert styles.recipe["accelerates"] == read_styles(merged).recipe
    assert styles.recipe["config"]["few_steps"]["loss"] == "splam"
    assert command("inspect", fast) == 0
    assert "4 steps, CFG 1, sampler LCM" in capsys.readouterr().out
    style_file = fast.with_name("fast.styles.safetensors")
    assert read_styles(style_file).sampling == styles.sampling


def test_what_it_cost_is_known(fast: Path) -> None:
    cost = cost_of(read_styles(fast).recipe, fast, [fast], [])
    assert (cost.steps, cost.pairs, cost.samples) == (4, 4 * 6, 4 * 6)
    assert cost.unet_evaluations is None  # the recipe does not say how many prompts were painted


def test_all_styles_learn_from_the_file_itself(fast: Path, merged: Path) -> None:
    lines = statistics(fast)
    assert {name for line in lines for name in line["teachers"]} == {"ink", "Anime", "oil"}
    ours, theirs = open_tensors(fast), open_tensors(merged)
    assert set(ours) == set(theirs)
    changed = [key for key in ours if not torch.equal(ours[key], theirs[key])]
    assert changed and all(key.startswith("model.diffusion_model.") for key in changed)


def test_original_teachers_teach_their_own_styles(config: Path, merged: Path, capsys) -> None:
    """A damaged file spoils the one style that it teaches; the merged one teaches the others."""
    oil = config.parent / "oil.safetensors"
    damaged = config.parent / "damaged" / "oil.safetensors"
    damaged.parent.mkdir()
    file = open_tensors(oil)
    key = "model.diffusion_model.out.2.bias"
    save_tensors(damaged, {**file, key: torch.full_like(file[key], float("nan"))}, file.metadata)
    said = words(merged, config, "originals", "--with", damaged, "few_steps.loss=lcm")
    said += ["data.prompts=null", f"data.pictures={pictures(config.parent)}"]
    assert command(*said) == 2
    message = capsys.readouterr().err
    assert "the consistency loss of teacher 'oil' is nan" in message
    assert "Step 1" in message


def pictures(folder: Path) -> Path:
    """A few pictures with captions, for data that no teacher has to paint."""
    found = folder / "pictures"
    found.mkdir(exist_ok=True)
    for number in range(3):
        Image.new("RGB", (16, 16), (80 * number, 90, 30)).save(found / f"{number}.png")
        (found / f"{number}.txt").write_text("a cat", encoding="utf-8")
    return found


def test_sample_follows_the_file(fast: Path, tmp_path: Path, capsys) -> None:
    paths = [tmp_path / f"{name}.png" for name in ("as it wants", "said", "plain")]
    asked = ["sample", fast, "--prompt", "a cat", "--mix", "ink", "--output"]
    assert command(*asked, paths[0]) == 0
    assert command(*asked, paths[1], "--steps", "4", "--guidance", "1") == 0
    assert command(*asked, paths[2], "--steps", "5") == 0
    first, second, third = (list(Image.open(path).get_flattened_data()) for path in paths)
    assert first == second != third
    assert command(*asked, paths[0], "--steps", "60") == 2
    assert "50 at most" in capsys.readouterr().err


def test_a_sampler_that_is_not_known(fast: Path, tmp_path: Path, capsys) -> None:
    file, path = open_tensors(fast), tmp_path / "heun.safetensors"
    said = '{"steps": 4, "guidance": 1, "sampler": "heun"}'
    save_tensors(path, file, file.metadata | {"dmm.sampling": said})
    assert command("sample", path, "--prompt", "a cat", "--output", tmp_path / "a.png") == 2
    assert f"{path} wants the sampler 'heun'" in capsys.readouterr().err


def test_killed_at_random_moments_it_ends_with_the_same_bits(
    config: Path, merged: Path, fast: Path
) -> None:
    output = config.parent / "killed" / "fast.safetensors"
    said = config.parent / "killed.yaml"
    lines = (config.parent / "rest.yaml").read_text(encoding="utf-8")
    lines = lines.replace("preset: paper", f"preset: few-steps\nbase: {merged}")
    said.write_text(lines, encoding="utf-8")
    asked = [f"output={output}", "train.save_every=1", *FEW]
    killed([random.randint(1, 90) for _ in range(2)], said, *asked)
    run_merge(said, *asked)
    assert_same(output, fast)


@pytest.mark.parametrize(
    ("which", "more", "message"),
    [
        ("oil.safetensors", [], "plain checkpoint"),
        ("FAST", [], "paints in few steps already (4 steps, CFG 1, sampler LCM)"),
        ("MERGED", ["--with", "base.safetensors"], "has no style 'base'"),
        ("MERGED", ["few_steps.pieces=1"], "greater than or equal to 2"),
        ("MERGED", ["few_steps.stpes=4"], "did you mean `steps`"),
    ],
)
def test_bad_input(
    config: Path, merged: Path, fast: Path, which: str, more: list[str], message: str, capsys
) -> None:
    path = {"FAST": fast, "MERGED": merged}.get(which, config.parent / which)
    more = [config.parent / word if word.endswith("tensors") else word for word in more]
    assert command(*words(path, config, "bad", *more)) == 2
    assert message in capsys.readouterr().err
    assert not (config.parent / "bad").exists()


def test_what_paints_in_few_steps_is_not_extended(config: Path, fast: Path, capsys) -> None:
    new = config.parent / "base.safetensors"
    output = config.parent / "extended.safetensors"
    said = ["extend", fast, "--with", new, "--output", output, "--config", rest(config.parent)]
    assert command(*said) == 2
    assert "the merged checkpoint it came from" in capsys.readouterr().err


@pytest.mark.parametrize(
    "said",
    [
        "",
        "[]",
        "{}",
        '{"steps": 0, "guidance": 1, "sampler": "lcm"}',
        '{"steps": 4, "guidance": NaN, "sampler": "lcm"}',
        '{"steps": 4, "guidance": 1, "sampler": "<img src=x>"}',
        '{"steps": 1e999, "guidance": 1, "sampler": "lcm"}',
        "[" * 100_000,
    ],
)
def test_a_strangers_hint_that_makes_no_sense_is_none(said: str) -> None:
    assert read_sampling({"dmm.sampling": said}) is None
