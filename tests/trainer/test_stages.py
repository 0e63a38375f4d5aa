"""The second stage: each style is tuned on what its own teacher paints (paper, section 3.4)."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from dmm.errors import DmmError
from dmm.merged import read_styles
from tests.trainer.merging import (
    assert_same,
    command,
    on_pictures,
    run_merge,
    saved_student,
    statistics,
    write_models,
)
from tests.trainer.processes import killed
from trainer.batches import TrainingBatches
from trainer.config import Train
from trainer.config_file import load_config
from trainer.opening import open_ingredients
from trainer.pairs import PairPlan
from trainer.prepare import prepare
from trainer.stages import PROMPTS, open_stages
from trainer.states import saved_states

SECOND = (
    "synthesised={prompts: painted.txt, steps: 4, batch_size: 5, learning_rate: 0.002, "
    "painting: {pictures_per_teacher: 4, steps: 2, guidance: 1, negative: ''}}"
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    path = write_models(folder)
    (folder / "painted.txt").write_text("a cat --d 3\na boat\na hill\n", encoding="utf-8")
    said = path.read_text(encoding="utf-8").replace("synthesised: null", SECOND.replace("=", ": "))
    path.write_text(said, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def merged(config: Path) -> Path:
    return run_merge(config)


def second(merged: Path) -> Path:
    """The second stage's folder, by the name of a merge's output."""
    return merged.with_suffix("") / "synthesised.safetensors"


def test_what_is_no_whole_state_begins_no_stage(config: Path, tmp_path: Path) -> None:
    stage = open_stages(load_config(config, [f"run={tmp_path}"]))[0]
    for name in ("step-00000002.partial", "step-00000001 (copy)", "step-backup01"):
        (tmp_path / "states" / name).mkdir(parents=True)
        assert not stage.is_begun
    for step in (10, 9):
        (tmp_path / "states" / f"step-{step:08d}").mkdir()
        assert stage.is_begun
    assert [path.name for path in saved_states(tmp_path)] == ["step-00000009", "step-00000010"]


def test_both_stages_are_in_the_statistics_and_the_recipe(merged: Path) -> None:
    assert [line["step"] for line in statistics(merged)] == [1, 2, 3, 4, 5, 6]
    lines = statistics(second(merged))
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert {line["learning_rate"] for line in lines} == {0.002}
    said = read_styles(merged).recipe["config"]["synthesised"]
    assert said["steps"] == 4 and said["prompts"] == "painted.txt"


def test_the_second_stage_starts_from_the_student_of_the_first(config: Path, merged: Path) -> None:
    first = saved_student(merged, 6)
    short = run_merge(config, f"output={merged.parent}/short.safetensors", "synthesised.steps=1")
    start, one_step = saved_student(second(short), 0), saved_student(second(short), 1)
    assert all(torch.equal(start[name], first[name]) for name in first)
    assert not torch.equal(one_step["unet.conv_out.weight"], start["unet.conv_out.weight"])


def test_each_style_sees_what_its_teacher_painted_and_nothing_else(config: Path) -> None:
    loaded = load_config(config)
    ingredients = open_ingredients(loaded)
    stage = open_stages(loaded)[1]
    prepared = prepare(ingredients, stage, torch.device("cpu"), torch.float32)
    batches = TrainingBatches(
        prepared.examples,
        prepared.student_text,
        prepared.teacher_text,
        PairPlan.of(stage.train, 3),
        caption_dropout=0,
        seed=0,
    )
    seen: dict[int, set[int]] = {}
    for step in range(30):
        (batch,) = batches[step]
        assert len(set(batch.timesteps.tolist())) > 1  # noise and timestep are each pair's own
        for style, latent in zip(batch.styles.tolist(), batch.latents, strict=True):
            own = prepared.examples[style]
            found = [row for row in range(len(own)) if torch.equal(own.latent(row), latent)]
            assert len(found) == 1
            seen.setdefault(style, set()).update(found)
    assert seen == {style: {0, 1, 2, 3} for style in range(3)}


def test_a_share_of_the_samples_is_own_and_the_rest_is_for_all(config: Path) -> None:
    loaded = load_config(config)
    stage = open_stages(loaded)[1]
    prepared = prepare(open_ingredients(loaded), stage, torch.device("cpu"), torch.float32)
    batches = TrainingBatches(
        prepared.examples,
        prepared.student_text,
        prepared.teacher_text,
        PairPlan(3, 6, teachers_per_sample=None),  # two samples a step, seen by all three
        own=0.25,
        caption_dropout=0,
        seed=0,
    )
    painters = {
        tuple(examples.latent(row).flatten().tolist()): style
        for style, examples in prepared.examples.items()
        for row in range(len(examples))
    }
    kinds = []
    for step in range(100):
        (batch,) = batches[step]
        painted_by = [painters[tuple(latent.flatten().tolist())] for latent in batch.latents]
        for sample in range(2):
            kinds.append(tuple(painted_by[sample::2]))
    assert len(kinds) == 200
    # Whoever does not see its own teacher's picture sees the one that is for all.
    for kind in kinds:
        assert len({whose for style, whose in enumerate(kind) if whose != style}) <= 1
    is_own = [whose == style for kind in kinds for style, whose in enumerate(kind)]
    assert 0.4 < sum(is_own) / len(is_own) < 0.6  # 1/4, and 1/3 of the rest
    assert all(sum(style in kind for kind in kinds) > 30 for style in range(3))


def test_own_pictures_need_teachers_who_paint(config: Path) -> None:
    with pytest.raises(DmmError, match="`own` is for what the teachers paint"):
        load_config(config, [*on_pictures(config), "data.own=0.5"])


CHANGES = (60, 150)  # to the disk: from about where the second stage paints to the end


def test_killed_in_the_second_stage_it_ends_with_the_same_bits(config: Path, merged: Path) -> None:
    output = config.parent / "killed" / "merged.safetensors"
    killed([random.randint(*CHANGES) for _ in range(3)], config, f"output={output}")
    run_merge(config, f"output={output}")
    assert_same(output, merged)
    assert statistics(second(output)) == statistics(second(merged))
    assert not [path for path in output.parent.rglob("*") if "partial" in path.name]


def test_what_the_second_stage_stands_on_cannot_change_any_more(
    config: Path, merged: Path, capsys: pytest.CaptureFixture
) -> None:
    assert command("merge", config, "train.learning_rate=0.1", "--overwrite") == 2
    said = capsys.readouterr().err
    assert str(second(merged).with_suffix("")) in said and "differs in `train`." in said


def test_what_it_stands_on_is_told_by_what_is_no_default(merged: Path) -> None:
    """So that a key which a later release adds makes no run another one."""
    mark = second(merged).with_suffix("") / "run.json"
    (before,) = json.loads(mark.read_text(encoding="utf-8"))["train"]
    defaults = Train().model_dump(mode="json")
    assert before["steps"] == 6
    assert all(value != defaults[key] for key, value in before.items())


def test_nothing_but_checkpoints(config: Path, capsys: pytest.CaptureFixture) -> None:
    output = config.parent / "nothing" / "merged.safetensors"
    words = [config, f"output={output}", "data=synthetic", "data.resolution=16", "data.workers=0"]
    words += ["data.painting={steps: 1, guidance: 1, pictures_per_teacher: 2}", "synthesised=null"]
    words.append("train.steps=1")
    assert command("plan", *words) == 0
    assert "6 pictures that the teachers paint in 1 steps" in capsys.readouterr().out
    assert command("merge", *words) == 0
    assert read_styles(output).recipe["config"]["data"]["synthetic"] is True


def test_our_own_prompts_are_painted_1500_times_a_teacher(config: Path) -> None:
    ours = "synthesised={prompts: null, painting: {pictures_per_teacher: 1500}}"
    loaded = load_config(config, ["data=synthetic", ours])
    main, fine_tune = open_stages(loaded)
    assert main.source.captions == fine_tune.source.captions
    assert len(set(main.source.captions)) == len(main.source) > 300
    assert main.painting.pictures_per_teacher == fine_tune.painting.pictures_per_teacher == 1500
    lines = PROMPTS.read_text(encoding="utf-8").splitlines()
    assert max(map(len, lines)) <= 100
