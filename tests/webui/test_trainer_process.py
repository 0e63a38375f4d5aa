"""A real merge of small nets, started, followed, stopped and taken up again as the tab does it."""

from __future__ import annotations

import json
import os
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml

from dmm.errors import DmmError
from dmm.merged import read_styles
from sd_webui_dmm.merging.trainer_process import CONFIG as CONFIG_FILE
from sd_webui_dmm.merging.trainer_process import LOG, PROCESS, MergeRun, Status, plan
from tests.trainer.merging import CONFIG, PROMPTS, write_models

PYTHON = Path(sys.executable)
PATIENCE_SECONDS = 180


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_models(folder)
    return folder


def config(models: Path, **train: int) -> dict:
    """A merge as the form would say it: with whole paths."""
    said = yaml.safe_load(CONFIG)
    said["base"] = str(models / said["base"])
    said["teachers"] = [str(models / "ink.safetensors"), str(models / "oil.safetensors")]
    said["output"], said["run"] = str(models / "mine.safetensors"), str(models / "runs" / "mine")
    said["train"] |= train
    return said


@pytest.fixture
def run(models: Path) -> MergeRun:
    """What a host that has just started would have."""
    return MergeRun(models / "runs" / "mine")


def wait(run: MergeRun, until: Callable[[Status], bool]) -> Status:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not until(status := run.status()):
        assert time.monotonic() < deadline, status
        time.sleep(0.05)
    return status


def test_a_merge_is_followed_stopped_and_resumed(models: Path, run: MergeRun) -> None:
    run.write(
        config(models, steps=60) | {"samples": {"every": 2, "steps": 1}}, {"prompts.txt": PROMPTS}
    )
    run.start(PYTHON)
    assert run.is_running
    wait(run, lambda status: "samples/step-00000002.png" in status.pictures)
    process = psutil.Process(json.loads((run.folder / PROCESS).read_text(encoding="utf-8"))["pid"])
    process.suspend()  # so that it is not done before it is asked to stop
    seen = run.status()
    assert seen.state == "running"
    assert seen.done.endswith(" of 60") or "Painting" in seen.task
    assert seen.loss > 0
    run.stop()
    again = MergeRun(run.folder)
    assert again.status().state == "stopping"
    process.resume()
    stopped = wait(again, lambda status: status.state != "stopping")
    assert stopped.state == "stopped", stopped
    assert stopped.message.startswith("Stopped after step ")
    assert run.has_saved_steps
    assert not run.output.exists()

    again.start(PYTHON)
    finished = wait(again, lambda status: status.state != "running")
    assert finished.state == "finished", finished
    assert finished.pictures[-1] == "grid.png"
    assert read_styles(run.output).names == ["ink", "oil"]
    assert all(again.picture(name).is_file() for name in finished.pictures)
    assert again.picture("../run.json") is None
    output = again.output
    again.remove()
    assert not run.folder.exists()
    assert output.exists()


def test_what_the_trainer_refuses_is_its_message(models: Path, tmp_path: Path) -> None:
    said = config(models) | {"base": str(models / "prompts.txt")}
    said["output"] = str(tmp_path / "out.safetensors")
    run = MergeRun(tmp_path / "run")
    run.write(said, {"prompts.txt": PROMPTS})
    run.start(PYTHON)
    failed = wait(run, lambda status: status.state != "running")
    assert failed.state == "failed"
    assert failed.message.startswith(str(models / "prompts.txt"))
    assert "Traceback" not in failed.message


def test_a_trainer_that_was_killed_can_go_on(models: Path, tmp_path: Path) -> None:
    run = MergeRun(tmp_path / "run")
    output = {"output": str(tmp_path / "out.safetensors")}
    run.write(config(models) | output, {"prompts.txt": PROMPTS})
    run.start(PYTHON)
    psutil.Process(json.loads((run.folder / PROCESS).read_text(encoding="utf-8"))["pid"]).kill()
    failed = wait(run, lambda status: status.state != "running")
    assert failed.state == "failed"
    assert "without a word" in failed.message


def test_another_process_of_the_same_number_is_not_ours(tmp_path: Path) -> None:
    run = MergeRun(tmp_path / "run")
    run.write({}, {})
    said = {"pid": os.getpid(), "stopping": False}
    (run.folder / PROCESS).write_text(json.dumps(said), encoding="utf-8")
    assert not run.is_running
    run.stop()  # and is left alone


def test_a_folder_that_takes_no_log(models: Path, tmp_path: Path) -> None:
    run = MergeRun(tmp_path / "run")
    run.write(config(models), {"prompts.txt": PROMPTS})
    (run.folder / LOG).mkdir()
    with pytest.raises(DmmError, match=f"{run.folder} cannot be written"):
        run.start(PYTHON)
    assert not run.is_running


def test_a_trainer_that_cannot_be_noted_is_ended(models: Path, tmp_path: Path) -> None:
    """Its number is lost, so that no page could follow or stop it."""
    run = MergeRun(tmp_path / "run")
    run.write(config(models), {"prompts.txt": PROMPTS})
    (run.folder / PROCESS).mkdir()
    with pytest.raises(DmmError, match=f"{run.folder} cannot be written"):
        run.start(PYTHON)
    commands = [process.info["cmdline"] or () for process in psutil.process_iter(["cmdline"])]
    assert not any(str(run.folder / CONFIG_FILE) in command for command in commands)


def test_a_full_disk_does_not_keep_a_merge_from_stopping(models: Path, tmp_path: Path) -> None:
    run = MergeRun(tmp_path / "run")
    own = {"output": str(tmp_path / "out.safetensors"), "run": str(run.folder)}
    run.write(config(models, steps=10_000) | own, {"prompts.txt": PROMPTS})
    run.start(PYTHON)
    (run.folder / f"{PROCESS}.partial").mkdir()  # where it would be noted
    wait(run, lambda status: status.task == "Training")
    run.stop()
    wait(run, lambda status: status.state != "running")
    assert run.has_saved_steps


def test_a_folder_that_cannot_be_removed_stays_whole(models: Path, tmp_path: Path) -> None:
    run = MergeRun(tmp_path / "run")
    run.write(config(models), {"prompts.txt": PROMPTS})
    (tmp_path / "run.partial").write_text("no folder", encoding="utf-8")  # in the way of a removal
    files = sorted(run.folder.iterdir())
    for act in (run.remove, lambda: run.write(config(models), {})):
        with pytest.raises(DmmError, match=f"{run.folder} cannot be removed"):
            act()
        assert sorted(run.folder.iterdir()) == files


def test_a_plan(models: Path) -> None:
    rows = plan(PYTHON, config(models), {"prompts.txt": PROMPTS})
    assert ["output", str(models / "mine.safetensors")] in rows
    assert any(key == "memory" and "MiB" in text for key, text in rows)
    assert any("6 steps: about " in text for _, text in rows)
    with pytest.raises(DmmError, match="did you mean `steps`"):
        plan(PYTHON, config(models, step=3), {"prompts.txt": PROMPTS})


def test_a_python_without_the_trainers_packages(models: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    python = tmp_path / "bare" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    with pytest.raises(DmmError, match=r"not complete .*install\.py. trainer"):
        plan(python, config(models), {"prompts.txt": PROMPTS})
    with pytest.raises(DmmError, match="cannot be started"):
        plan(tmp_path / "no-python", config(models), {"prompts.txt": PROMPTS})
