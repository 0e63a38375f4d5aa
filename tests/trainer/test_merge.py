"""Whole merges through `trainer/run.py`, as a user runs them, on small real networks."""

from __future__ import annotations

import json
import os
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
from trainer.checkpoint import open_checkpoint

ROOT = Path(__file__).parents[2]
RUN = [sys.executable, str(ROOT / "trainer" / "run.py")]
CONFIG = """
base: base.safetensors
teachers: [ink.safetensors, {path: anime.safetensors, name: Anime}, oil.safetensors]
output: out/merged.safetensors
data:
  prompts: prompts.txt
  resolution: 16
  workers: 0
  painting: {steps: 2, guidance: 1, negative: ""}
train: {steps: 6, batch_size: 6, teachers_per_sample: null, learning_rate: 1.0e-3, save_every: 2}
samples: {steps: 2, guidance: 1, negative: "", prompts: [a cat]}
export: {dtype: fp32}
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, three teachers, prompts and a config."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("base", "ink", "anime", "oil")):
        networks = small_sd1_unet(seed), small_vae(0), [small_clip(seed)]
        write_single_file(folder / f"{name}.safetensors", *networks)
    prompts = "a cat\na dog\na house\na tree\na red car\n"
    (folder / "prompts.txt").write_text(prompts, encoding="utf-8")
    (folder / "merge.yaml").write_text(CONFIG, encoding="utf-8")
    return folder


def run(*words: str | Path, expected: int = 0, launcher: list[str] = RUN) -> str:
    done = subprocess.run(
        [*launcher, *map(str, words)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == expected, done.stdout + done.stderr
    return done.stdout if expected == 0 else done.stderr


def scores(run_folder: Path) -> list[tuple[int, float]]:
    lines = (run_folder / "stats.jsonl").read_text(encoding="utf-8").splitlines()
    return [(line["step"], line["score"]) for line in map(json.loads, lines)]


@pytest.fixture(scope="module")
def merged(models: Path) -> Path:
    """The merge, uninterrupted."""
    printed = run("merge", models / "merge.yaml").splitlines()
    assert printed[-1] == str(models / "out" / "merged" / "grid.png")
    return models / "out" / "merged.safetensors"


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
    assert [step for step, _ in scores(merged.with_suffix(""))] == [1, 2, 3, 4, 5, 6]


def test_again_finds_everything_done(merged: Path, models: Path) -> None:
    before = merged.stat().st_mtime_ns
    assert str(merged) in run("merge", models / "merge.yaml")
    assert merged.stat().st_mtime_ns == before


def test_another_merge_does_not_replace_the_output(merged: Path, models: Path) -> None:
    message = run("merge", models / "merge.yaml", "train.seed=7", expected=2)
    assert "--overwrite" in message and "merged.safetensors" in message


def test_killed_run_resumes_to_the_same_weights(merged: Path, models: Path) -> None:
    output = models / "killed" / "merged.safetensors"
    words = ["merge", models / "merge.yaml", f"output={output}", "train.save_every=1"]
    process = subprocess.Popen(
        [*RUN, *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    statistics = output.with_suffix("") / "stats.jsonl"
    while process.poll() is None and not (statistics.exists() and len(lines(statistics)) >= 3):
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not output.exists(), "the run ended before it could be killed"
    run(*words)
    ours, whole = open_tensors(output), open_tensors(merged)
    assert set(ours) == set(whole)
    assert all(torch.equal(ours[key], whole[key]) for key in whole)
    assert scores(output.with_suffix("")) == scores(merged.with_suffix(""))


def lines(statistics: Path) -> list[str]:
    return statistics.read_text(encoding="utf-8").splitlines() if statistics.exists() else []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_interrupt_saves_and_the_same_command_goes_on(merged: Path, models: Path) -> None:
    output = models / "interrupted" / "merged.safetensors"
    words = ["merge", models / "merge.yaml", f"output={output}", "train.save_every=100"]
    process = subprocess.Popen(
        [*RUN, *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    statistics = output.with_suffix("") / "stats.jsonl"
    while process.poll() is None and not lines(statistics):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130 and "Run the same command again" in said
    run(*words)
    ours, whole = open_tensors(output), open_tensors(merged)
    assert all(torch.equal(ours[key], whole[key]) for key in whole)


def test_two_processes_train_as_one(merged: Path, models: Path) -> None:
    output = models / "two" / "merged.safetensors"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", RUN[1]]
    run("merge", models / "merge.yaml", f"output={output}", launcher=launcher)
    one, two = scores(merged.with_suffix("")), scores(output.with_suffix(""))
    assert [step for step, _ in two] == [step for step, _ in one]
    assert [score for _, score in two] == pytest.approx([score for _, score in one], rel=1e-3)


def test_micro_batches_and_one_slot_change_nothing(merged: Path, models: Path) -> None:
    output = models / "micro" / "merged.safetensors"
    words = ["train.micro_batch_size=2", "train.teacher_slots=1"]
    run("merge", models / "merge.yaml", f"output={output}", *words)
    one, cut = scores(merged.with_suffix("")), scores(output.with_suffix(""))
    assert [score for _, score in cut] == pytest.approx([score for _, score in one], rel=1e-3)


def test_plan_inspect_and_sample(merged: Path, models: Path, tmp_path: Path) -> None:
    plan = run("plan", models / "merge.yaml", f"output={tmp_path / 'new.safetensors'}")
    assert "teacher Anime" in plan and "memory" in plan
    assert not (tmp_path / "new").exists()
    assert "Anime" in run("inspect", merged)
    picture = tmp_path / "mix.png"
    mix = ["--mix", "ink:0.7, anime:0.3", "--steps", "1", "--output", str(picture)]
    run("sample", merged, "--prompt", "a cat", *mix)
    assert picture.is_file()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train.step=5"], "did you mean `steps`"),
        (["teachers.0=nowhere.safetensors"], "nowhere.safetensors"),
        (["data.prompts=none.txt"], "none.txt"),
        (["data.resolution=20"], "20"),
        (["preset=best"], "paper"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    models: Path, tmp_path: Path, words: list[str], says: str
) -> None:
    output = tmp_path / "bad.safetensors"
    message = run("merge", models / "merge.yaml", f"output={output}", *words, expected=2)
    assert message.startswith("Error: ") and says in message
    assert not any(tmp_path.iterdir())


def test_other_architecture_is_refused(models: Path, tmp_path: Path) -> None:
    wide = write_single_file(
        tmp_path / "wide.safetensors",
        small_sd1_unet(block_out_channels=(64, 64)),
        small_vae(),
        [small_clip()],
    )
    said = run(
        "merge",
        models / "merge.yaml",
        f"output={tmp_path}/a.safetensors",
        f"teachers.0={wide}",
        expected=2,
    )
    assert "block_out_channels" in said and "wide.safetensors" in said


def test_not_a_number_names_step_and_teacher(models: Path, tmp_path: Path) -> None:
    unet = small_sd1_unet(9)
    with torch.no_grad():
        unet.conv_out.bias[0] = float("nan")
    write_single_file(tmp_path / "broken.safetensors", unet, small_vae(), [small_clip()])
    (tmp_path / "pictures").mkdir()
    for number in range(4):
        Image.new("RGB", (16, 16), (number * 60, 90, 30)).save(
            tmp_path / "pictures" / f"{number}.png"
        )
        (tmp_path / "pictures" / f"{number}.txt").write_text("a cat", encoding="utf-8")
    said = run(
        "merge",
        models / "merge.yaml",
        f"output={tmp_path}/a.safetensors",
        f"teachers.1={tmp_path}/broken.safetensors",
        "data.prompts=null",
        f"data.pictures={tmp_path}/pictures",
        expected=2,
    )
    assert "Step 1" in said and "'broken'" in said and "score" in said
    assert not (tmp_path / "a.safetensors").exists()
