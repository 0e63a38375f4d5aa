"""What the page of the merge tab may send, and what it is told where that makes no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sd_webui_dmm.merging.form import ADAPTER, PRESETS, FieldError, Models, read_form
from sd_webui_dmm.merging.trainer_process import CONFIG, write_config
from trainer.config_file import load_config

CHECKPOINTS, LORAS, RUNS = (Path(f"/{name}").resolve() for name in ("models", "loras", "runs"))
MODELS = Models(
    {
        "base.safetensors": CHECKPOINTS / "base.safetensors",
        "sub/ink.ckpt": CHECKPOINTS / "sub" / "ink.ckpt",
    },
    {"pen.safetensors": LORAS / "pen.safetensors"},
    checkpoint_folder=CHECKPOINTS,
    lora_folder=LORAS,
    run_folder=RUNS,
)
FORM = {
    "name": "mine",
    "base": "base.safetensors",
    "teachers": [
        {"checkpoint": "sub/ink.ckpt", "lora": "", "weight": 1, "name": "", "clip_skip": 2},
        {"checkpoint": "", "lora": "pen.safetensors", "weight": 0.6, "name": " my  pen "},
    ],
    "data": "prompts",
    "prompts": "a cat\n\n a dog \n",
    "preset": "paper",
    "width": 512,
    "height": 768,
    "steps": 500,
    "batch_size": None,
    "micro_batch_size": 4,
    "precision": "bf16",
    "more": "train.learning_rate=1e-4\nsamples.every=50",
}


def read(**changes: Any) -> dict[str, Any]:
    return read_form(FORM | changes, MODELS).config


def test_the_trainer_understands_what_the_form_says(tmp_path: Path) -> None:
    merge = read_form(FORM, MODELS)
    write_config(tmp_path, merge.config, merge.files)
    config = load_config(tmp_path / CONFIG)
    ink, pen = config.teachers
    assert (ink.path, ink.name, ink.clip_skip) == (CHECKPOINTS / "sub" / "ink.ckpt", "ink", 2)
    assert (pen.path, pen.loras[0].weight, pen.name) == (None, 0.6, "my pen")
    assert config.output == CHECKPOINTS / "mine.safetensors"
    assert config.run_folder == RUNS / "mine"
    assert config.data.prompts.read_text(encoding="utf-8") == "a cat\na dog\n"
    assert config.data.resolution == (512, 768)
    assert config.train.steps == 500
    assert config.train.batch_size == 320  # the preset's
    assert config.train.learning_rate == 1e-4
    assert config.samples.every == 50
    assert config.export.style_file is False  # it would stand in the list of checkpoints


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_of_the_page_is_the_trainer_s(preset: str, tmp_path: Path) -> None:
    more = "train.optimizer=adamw"  # of one-gpu's own, not everybody has the package
    merge = read_form(FORM | {"preset": preset, "more": more}, MODELS)
    write_config(tmp_path, merge.config, merge.files)
    config = load_config(tmp_path / CONFIG)
    assert bool(config.train.adapter) == (preset == ADAPTER)
    assert config.output.parent == (LORAS if preset == ADAPTER else CHECKPOINTS)


def test_more_settings_may_be_yaml() -> None:
    config = read(more="train:\n  seed: 7\ndata:\n  painting: {steps: 3}")
    assert config["train"]["seed"] == 7
    assert config["train"]["steps"] == 500
    assert config["data"]["painting"] == {"steps": 3}


def test_the_stages_of_a_preset() -> None:
    assert "synthesised" not in read(synthesised=True)
    assert read(synthesised=False)["synthesised"] is None
    assert read(more="synthesised.steps=9")["synthesised"] == {"steps": 9}


def test_pictures(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    data = read(data="pictures", pictures=str(tmp_path))["data"]
    assert data["pictures"] == str(tmp_path)
    assert "prompts" not in data


def test_prompts_that_come_along() -> None:
    data = read(data="synthetic", prompts="", pictures_per_teacher=30)["data"]
    assert data["synthetic"] is True
    assert data["painting"] == {"pictures_per_teacher": 30}


TWICE = [{"checkpoint": "sub/ink.ckpt"}, {"checkpoint": "base.safetensors", "name": "INK"}]


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"name": " "}, "name", "give the merged file a name"),
        ({"name": "../mine"}, "name", "no file name"),
        ({"name": "a/b"}, "name", "no file name"),
        ({"name": "C:mine"}, "name", "no file name"),
        ({"name": ".."}, "name", "no file name"),
        ({"name": "nul"}, "name", "no file name"),
        ({"name": "mine."}, "name", "no file name"),
        ({"base": ""}, "base", "Choose a base checkpoint"),
        ({"base": "/etc/passwd"}, "base", "There is no base checkpoint '/etc/passwd' any more"),
        ({"preset": "few-steps"}, "preset", "there is no 'few-steps'. There are adapter, one-gpu"),
        ({"teachers": []}, "teachers", "add at least one"),
        ({"teachers": [{}]}, "teachers.0.model", "choose a checkpoint or a LoRA"),
        ({"teachers": TWICE}, "teachers.1.name", "1 and 2 have styles of the same name, 'INK'"),
        (
            {"teachers": [{"checkpoint": "base.safetensors", "name": "a, b"}]},
            "teachers.0.name",
            "holds a comma",
        ),
        (
            {"teachers": [{"lora": "pen.safetensors", "weight": None}]},
            "teachers.0.weight",
            "None is not a number",
        ),
        ({"prompts": " \n"}, "prompts", "write some"),
        ({"data": "pictures", "pictures": ""}, "pictures", "give its whole path"),
        ({"data": "pictures", "pictures": "here"}, "pictures", "give its whole path"),
        ({"data": "pictures", "pictures": "/no/such"}, "pictures", "there is no folder"),
        ({"steps": 0}, "steps", "Steps: 0 is not a whole number from 1 on"),
        ({"batch_size": 1.5}, "batch_size", "Batch size: 1.5 is not a whole number"),
        ({"width": None}, "width", "Width: None is not a whole number"),
        ({"height": 500}, "height", "Height: 500 is not a multiple of 64"),
        ({"more": "train: ["}, "more", "this is not YAML"),
        ({"more": "fast please"}, "more", "write YAML, or lines such as"),
        ({"more": "output=/tmp/x.safetensors"}, "more", "'output' cannot be set here"),
        ({"more": "synthesised.prompts=/x"}, "more", "'synthesised.prompts' cannot be set here"),
        ({"more": "data.cache: /tmp"}, "more", "'data.cache' cannot be set here"),
        ({"more": "data:\n  shards: /x.tar"}, "more", "'data.shards' cannot be set here"),
    ],
    ids=str,
)
def test_bad_input_is_refused_by_field(changes: dict, field: str, message: str) -> None:
    with pytest.raises(FieldError) as refused:
        read(**changes)
    assert refused.value.field == field
    assert message in str(refused.value)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing to see", encoding="utf-8")
    with pytest.raises(FieldError, match="holds no pictures"):
        read(data="pictures", pictures=str(tmp_path))
