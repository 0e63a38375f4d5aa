"""Two machines of two processes each, under accelerate's launcher: on loopback, over gloo."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import torch

from tests.trainer.merging import (
    on_pictures,
    options,
    run_merge,
    saved_student,
    statistics,
    write_models,
)
from tests.trainer.processes import ENVIRONMENT, ROOT
from tests.trainer.test_buckets import write_pictures
from trainer.checkpoint import open_checkpoint

STEPS = 8
MACHINES = 2
PATIENCE = 180  # seconds; the machines end in a few, which a loaded one multiplies


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = write_models(tmp_path_factory.mktemp("models"))
    write_pictures(config.parent / "pictures")
    return config


def words(config: Path, name: str) -> list[str]:
    train = [f"train.steps={STEPS}", "train.batch_size=8", "train.adversarial_weight=0.1"]
    return options(config, name, *on_pictures(config), *train)


@contextmanager
def machines(config: Path, name: str) -> Iterator[list[subprocess.Popen]]:
    """The launchers of a merge on two machines; whatever still runs at the end is killed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    where = ["--main_process_ip", "127.0.0.1", "--main_process_port", str(port)]
    count = ["--num_machines", str(MACHINES), "--num_processes", str(2 * MACHINES)]
    merge = ["trainer/run.py", "merge", str(config), *words(config, name)]
    launchers = [
        subprocess.Popen(
            [*launch, *where, *count, "--machine_rank", str(rank), *merge],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            env=ENVIRONMENT | {"TQDM_DISABLE": "1", "CUDA_VISIBLE_DEVICES": ""},
        )
        for rank in range(MACHINES)
    ]
    try:
        yield launchers
    finally:
        for launcher in launchers:
            kill(launcher)


def kill(launcher: subprocess.Popen) -> None:
    """As a power cut does: all processes of a machine at once."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(launcher.pid)
        for victim in [*process.children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):
                victim.kill()
    launcher.wait()


def test_a_machine_dies_and_the_same_command_ends_as_one_process_would(config: Path) -> None:
    output = config.parent / "two" / "merged.safetensors"
    with machines(config, "two") as (first, second):
        lines, began = output.with_suffix("") / "stats.jsonl", time.monotonic()
        while not (lines.exists() and lines.read_text(encoding="utf-8").count("\n") >= 3):
            assert first.poll() is None and time.monotonic() < began + PATIENCE, first.stdout
            time.sleep(0.01)
        kill(second)
        said, _ = first.communicate(timeout=PATIENCE)
    assert first.returncode != 0
    for process in (1, 2):
        assert f"Error (process {process} of 4, on " in said
    assert "Another process of this run has ended" in said
    assert not output.exists()

    with machines(config, "two") as launchers:
        said = [launcher.communicate(timeout=PATIENCE)[0] for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [0, 0], "\n".join(said)
    one = run_merge(config, *words(config, "one"))
    for ours, theirs in zip(statistics(output), statistics(one), strict=True):
        for kind in ("score", "feature", "adversarial", "discriminator"):
            assert ours[kind] == pytest.approx(theirs[kind], rel=1e-3)
    # Biases that a norm takes away again have no gradient but rounding, which Adam makes steps of.
    # So the whole is compared: how far apart the runs end, to how far they went.
    ours, theirs = flat(saved_student(output, STEPS)), flat(saved_student(one, STEPS))
    base = open_checkpoint(config.with_name("base.safetensors")).unet_tensors()
    start = flat({f"unet.{name}": tensor for name, tensor in base.items()})
    assert (ours - theirs).norm() < 0.01 * (theirs - start).norm()


def flat(student: dict[str, torch.Tensor]) -> torch.Tensor:
    names = sorted(name for name in student if name.startswith("unet."))
    return torch.cat([student[name].flatten() for name in names])
