"""A merge of a checkpoint and LoRAs, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from dmm.merged import read_styles
from dmm.tensors import open_tensors, save_tensors
from tests.trainer.loras import layers, write_lora
from tests.trainer.merging import command, networks, run_merge, statistics, write_models
from trainer.checkpoint import open_checkpoint
from trainer.export import style_file_path

PEFT = ("lora_A.weight", "lora_B.weight")
TEACHERS = """teachers:
- ink.safetensors
- {loras: [pen.safetensors], name: Pen}
- {path: anime.safetensors, loras: [pen.safetensors, {path: soft.safetensors, weight: 0.5}]}
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, checkpoints, two LoRAs and the config of a merge of three teachers."""
    folder = tmp_path_factory.mktemp("models")
    config = write_models(folder)
    unet = networks("sd1", 0)[0]
    weights = unet.state_dict()
    modules = {weight: weight.removesuffix(".weight") for weight in layers(unet)}
    kohya = {weight: f"lora_unet_{name.replace('.', '_')}" for weight, name in modules.items()}
    write_lora(folder / "pen.safetensors", kohya, weights, alpha=2.0)
    named = {weight: f"unet.{name}" for weight, name in modules.items()}
    write_lora(folder / "soft.safetensors", named, weights, ends=PEFT, seed=1)
    lines = config.read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.startswith("teachers:")]
    config.write_text("\n".join([TEACHERS, *lines]), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def merged(models: Path) -> Path:
    return run_merge(models / "merge.yaml")


def test_styles_say_what_they_come_from(merged: Path) -> None:
    styles = read_styles(merged).styles
    assert [style.name for style in styles] == ["ink", "Pen", "anime + pen + soft"]
    assert [style.kind for style in styles] == ["checkpoint", "lora", "lora"]
    assert [style.source for style in styles[1:]] == [
        "base.safetensors + pen.safetensors",
        "anime.safetensors + pen.safetensors + 0.5 × soft.safetensors",
    ]
    assert len({style.sha256 for style in styles}) == 3


def test_recipe_is_enough_to_make_it_again(merged: Path, models: Path) -> None:
    recipe = read_styles(merged).recipe
    first, _, last = recipe["teachers"]
    assert not {"checkpoint", "loras"} & set(first)
    assert last["checkpoint"]["sha256"] == open_checkpoint(models / "anime.safetensors").sha256
    assert [(lora["path"], lora["weight"]) for lora in last["loras"]] == [
        ("pen.safetensors", 1.0),
        ("soft.safetensors", 0.5),
    ]


def test_trains_as_on_the_checkpoint_with_the_lora_in_it(merged: Path, models: Path) -> None:
    tensors = dict(open_tensors(models / "base.safetensors"))
    lora = open_tensors(models / "pen.safetensors")
    unet = networks("sd1", 0)[0]
    in_file = {tensor.numpy().tobytes(): key for key, tensor in tensors.items()}
    for weight in layers(unet):
        module = f"lora_unet_{weight.removesuffix('.weight').replace('.', '_')}"
        up, down = lora[f"{module}.lora_up.weight"], lora[f"{module}.lora_down.weight"]
        change = 2 / 3 * up.flatten(1).double() @ down.flatten(1).double()
        before = unet.state_dict()[weight]
        key = in_file[before.numpy().tobytes()]
        tensors[key] = (before.double() + change.reshape(before.shape)).float()
    save_tensors(models / "baked.safetensors", tensors, {}, overwrite=True)
    teacher = f"teachers.1={{path: {models / 'baked.safetensors'}, loras: []}}"
    output = models / "baked" / "merged.safetensors"
    again = run_merge(models / "merge.yaml", teacher, f"output={output}")
    one, two = statistics(merged), statistics(again)
    assert len(one) == len(two) == 6
    for ours, baked in zip(one, two, strict=True):
        for key, value in ours.items():
            assert baked[key] == pytest.approx(value, rel=1e-3), key


def test_plan_and_inspect(merged: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("inspect", merged, models / "pen.safetensors") == 0
    said = capsys.readouterr().out
    assert "anime.safetensors + pen.safetensors + 0.5 × soft.safetensors" in said
    assert "a LoRA" in said and "loras" in said
    assert command("plan", models / "merge.yaml", "output=elsewhere.safetensors") == 0
    assert "base.safetensors + pen.safetensors (epsilon)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["teachers.2.loras.1.weight=0.6"], "made by another merge"),
        (["teachers.2.loras.1.wieght=0.6"], "did you mean `weight`"),
        (["teachers.1.loras=[]"], "give a `path`, or `loras` to stand on the base"),
        (["teachers.1.loras=[none.safetensors]"], "none.safetensors does not exist"),
        (["teachers.1.loras=[{models}/base.safetensors]"], "is a checkpoint; a LoRA is needed"),
        (["teachers.1.loras.0.weight=.nan"], "finite number"),
        (["base={models}/pen.safetensors"], "(a teacher's stands under `loras`)"),
    ],
)
def test_mistakes(
    merged: Path, models: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    words = [word.format(models=models) for word in words]
    assert command("merge", models / "merge.yaml", *words) == 2
    assert says in capsys.readouterr().err


def test_another_weight_is_another_run(merged: Path, models: Path, capsys) -> None:
    elsewhere = models / "elsewhere" / "merged.safetensors"
    run_merge(models / "merge.yaml", f"output={elsewhere}", "train.steps=2")
    elsewhere.unlink()
    style_file_path(elsewhere).unlink()
    words = [f"output={elsewhere}", "teachers.2.loras.1.weight=0.6"]
    assert command("merge", models / "merge.yaml", *words) == 2
    assert "differs in `teachers`" in capsys.readouterr().err


def test_sdxl(tmp_path: Path) -> None:
    config = write_models(tmp_path, "sdxl")
    unet = networks("sdxl", 0)[0]
    names = {
        weight: f"lora_unet_{weight.removesuffix('.weight').replace('.', '_')}"
        for weight in layers(unet)
    }
    write_lora(tmp_path / "pen.safetensors", names, unet.state_dict())
    words = [f"teachers=[ink.safetensors, {{loras: [{tmp_path / 'pen.safetensors'}]}}]"]
    words[0] = words[0].replace("ink", str(tmp_path / "ink"))
    merged = run_merge(config, *words, "train.steps=1", "data.painting.pictures_per_teacher=2")
    assert read_styles(merged).names == ["ink", "pen"]
    assert json.loads(open_tensors(merged).metadata["dmm"])["styles"][1]["kind"] == "lora"
    assert all(torch.isfinite(tensor).all() for tensor in open_tensors(merged).values())
