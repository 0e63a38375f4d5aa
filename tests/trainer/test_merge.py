"""Whole merges through `trainer/run.py`, as a user runs them, on small real networks."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from dmm.merged import read_styles
from dmm.tensors import open_tensors
from tests.nets import small_clip, small_sd1_unet, small_vae, write_single_file
from tests.trainer.merging import assert_same, command, statistics, write_models
from tests.trainer.processes import ENVIRONMENT, ROOT, RUN, killed, run, run_in_two
from trainer import claim
from trainer.checkpoint import open_checkpoint


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, three teachers, prompts and `merge.yaml`."""
    return write_models(tmp_path_factory.mktemp("models")).parent


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    capsys.readouterr()
    assert command(*words) == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def merged(models: Path) -> Path:
    """The merge, uninterrupted."""
    folder = models / "out"
    assert run("merge", models / "merge.yaml") == [
        str(folder / "merged.safetensors"),
        str(folder / "merged.styles.safetensors"),
        str(folder / "merged" / "grid.png"),
    ]
    return folder / "merged.safetensors"


def test_merged_file_holds_styles_and_base(merged: Path, models: Path) -> None:
    styles = read_styles(merged)
    assert styles.names == ["ink", "Anime", "oil"]
    assert [style.sha256 for style in styles.styles] == [
        open_checkpoint(models / f"{name}.safetensors").sha256 for name in ("ink", "anime", "oil")
    ]
    ours, base = open_tensors(merged), open_tensors(models / "base.safetensors")
    kept = [key for key in base if not key.startswith("model.diffusion_model.")]
    assert kept and all(torch.equal(ours[key], base[key]) for key in kept)
    assert set(base) <= set(ours)
    assert (merged.parent / "merged" / "grid.png").is_file()
    assert read_styles(merged.with_name("merged.styles.safetensors")).names == styles.names


def test_every_step_is_in_the_statistics(merged: Path) -> None:
    assert [line["step"] for line in statistics(merged)] == [1, 2, 3, 4, 5, 6]


def test_again_finds_everything_done(merged: Path, models: Path, capsys) -> None:
    before = merged.stat().st_mtime_ns
    assert command("merge", models / "merge.yaml") == 0
    assert str(merged) in capsys.readouterr().out
    assert merged.stat().st_mtime_ns == before


def test_another_merge_does_not_replace_the_output(merged: Path, models: Path, capsys) -> None:
    message = refused(capsys, "merge", models / "merge.yaml", "train.seed=7")
    assert "--overwrite" in message and "merged.safetensors" in message


CHANGES = 100  # to the disk; a merge of these models makes some more


def test_killed_at_random_moments_it_ends_with_the_same_bits(merged: Path, models: Path) -> None:
    output = models / "killed" / "merged.safetensors"
    words = [models / "merge.yaml", f"output={output}", "train.save_every=1"]
    moments = [random.randint(1, CHANGES) for _ in range(3)]
    assert killed(moments, *words)[0] != 0
    run("merge", *words)
    assert_same(output, merged)
    assert not [path for path in output.parent.rglob("*") if "partial" in path.name]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals for a group")
def test_interrupt_saves_and_the_same_command_goes_on(merged: Path, models: Path) -> None:
    output = models / "interrupted" / "merged.safetensors"
    words = ["merge", models / "merge.yaml", f"output={output}", "train.save_every=100"]
    words.append("data.workers=1")
    process = subprocess.Popen(
        [sys.executable, *RUN, *map(str, words)],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    lines = output.with_suffix("") / "stats.jsonl"
    while process.poll() is None and not (lines.exists() and lines.stat().st_size):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the data workers too
    _, said = process.communicate()
    assert process.returncode == 130 and "Run the same command again" in said
    assert command(*words) == 0
    assert_same(output, merged)


def test_a_second_merge_keeps_out_of_the_firsts_folder(
    merged: Path, models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "PATIENCE", 0.1)
    output = models / "at-once" / "merged.safetensors"
    words = ["merge", models / "merge.yaml", f"output={output}"]
    long = ["train.steps=100000", "train.save_every=100000"]
    first = subprocess.Popen(
        [sys.executable, *RUN, *map(str, [*words, *long])],
        cwd=ROOT,
        env=ENVIRONMENT,
        stderr=subprocess.DEVNULL,
    )
    try:
        lines = output.with_suffix("") / "stats.jsonl"
        while first.poll() is None and not (lines.exists() and lines.stat().st_size):
            time.sleep(0.01)
        said = refused(capsys, *words)
        assert "Another process" in said and str(lines.parent) in said
        assert first.poll() is None and not output.exists()
    finally:
        first.kill()
        first.wait()
    assert command(*words) == 0  # nobody has to remove anything after a kill
    assert_same(output, merged)


def test_two_merges_at_once_share_a_cache(merged: Path, models: Path) -> None:
    outputs = [models / "shared" / name / "merged.safetensors" for name in ("one", "other")]
    cache = f"data.cache={models / 'shared' / 'cache'}"
    both = [
        subprocess.Popen(
            [sys.executable, *RUN, "merge", models / "merge.yaml", f"output={output}", cache],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for output in outputs
    ]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    for output in outputs:
        assert_same(output, merged)


def test_two_processes_train_as_one_and_speak_as_one(merged: Path, models: Path) -> None:
    output = models / "two" / "merged.safetensors"
    words = ["merge", models / "merge.yaml", f"output={output}"]
    said = run_in_two(*words)
    assert [Path(line).name for line in said] == [
        "merged.safetensors",
        "merged.styles.safetensors",
        "grid.png",
    ]
    for ours, theirs in zip(statistics(output), statistics(merged), strict=True):
        assert ours["step"] == theirs["step"]
        assert ours["score"] == pytest.approx(theirs["score"], rel=1e-3)
    assert run_in_two(*words) == said  # everything is done


def test_plan_inspect_and_sample(merged: Path, models: Path, tmp_path: Path, capsys) -> None:
    assert command("plan", models / "merge.yaml", f"output={tmp_path / 'new.safetensors'}") == 0
    plan = capsys.readouterr().out
    assert "teacher Anime" in plan and "memory" in plan
    assert not any(tmp_path.iterdir())
    assert command("inspect", merged) == 0
    assert "Anime" in capsys.readouterr().out
    picture = tmp_path / "mix.png"
    mix = ["--mix", "ink:0.7, anime:0.3", "--steps", "1", "--output", str(picture)]
    assert command("sample", merged, "--prompt", "a cat", *mix) == 0
    assert Image.open(picture).size > (96, 96)


def test_a_size_that_cannot_be_painted(merged: Path, models: Path, tmp_path: Path, capsys) -> None:
    words = ["sample", merged, "--prompt", "a cat", "--output", tmp_path / "a.png"]
    assert "30 x 16 is not a multiple of 8" in refused(capsys, *words, "--width", "30")
    assert not any(tmp_path.iterdir())


def test_not_a_number_names_step_and_teacher(models: Path, tmp_path: Path, capsys) -> None:
    unet = small_sd1_unet(9)
    with torch.no_grad():
        unet.conv_out.bias[0] = float("nan")
    write_single_file(tmp_path / "broken.safetensors", unet, small_vae(), [small_clip()])
    (tmp_path / "pictures").mkdir()
    for number in range(4):
        picture = tmp_path / "pictures" / f"{number}.png"
        Image.new("RGB", (16, 16), (number * 60, 90, 30)).save(picture)
        picture.with_suffix(".txt").write_text("a cat", encoding="utf-8")
    said = refused(
        capsys,
        "merge",
        models / "merge.yaml",
        f"output={tmp_path}/a.safetensors",
        f"teachers.1={tmp_path}/broken.safetensors",
        "data.prompts=null",
        f"data.pictures={tmp_path}/pictures",
    )
    assert "Step 1" in said and "'broken'" in said and "score" in said
    assert not (tmp_path / "a.safetensors").exists()
