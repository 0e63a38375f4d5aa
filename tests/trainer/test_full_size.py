"""Every stage of the method at the size of real models, with random weights, within 20 GiB.

It takes gigabytes and many minutes, so it runs when asked for, and says the memory of each stage:

    python install.py test -m full_size -n 0 -s
"""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dmm.merged import read_styles
from tests.trainer.every_stage import remove_states, stages, write_models
from tests.trainer.measure import TOO_MUCH
from tests.trainer.merging import command
from tests.trainer.processes import ENVIRONMENT, ROOT
from tests.trainer.sizes import FULL_SD15, FULL_SDXL, NARROW_SDXL, Model

GIB = 2**30
MEMORY = 20 * GIB
DISK = {"SD1.5": 40 * GIB, "SDXL": 30 * GIB}
PARAMETERS = 859_520_964  # of SD1.5's UNet


@pytest.mark.full_size
def test_every_stage_of_a_narrow_sdxl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SDXL's own depths, two text encoders, time ids and buckets, a tenth as wide."""
    write_models(tmp_path, NARROW_SDXL, adapter=False)
    monkeypatch.chdir(tmp_path)
    for stage in stages(adapter=False):
        assert command(*stage.words) == 0, stage.name
    assert_merged(tmp_path, adapter=False)


def assert_merged(folder: Path, adapter: bool) -> None:
    """The files are there, hold the styles they should, and come from losses that are numbers."""
    old = ["base", "ink", "pen"]
    merged = folder / ("folded.safetensors" if adapter else "merged.safetensors")
    assert read_styles(merged).names == old
    assert read_styles(folder / "extended.safetensors").names == [*old, "brush"]
    for loss in ("lcm", "splam"):
        assert read_styles(folder / f"{loss}.safetensors").sampling.steps == 4
    for found in folder.rglob("stats.jsonl"):
        for line in found.read_text(encoding="utf-8").splitlines():
            assert math.isfinite(json.loads(line)["gradient_norm"]), found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Removed at the end: pytest would keep the gigabytes of the last three runs."""
    if psutil.virtual_memory().available < MEMORY:
        pytest.skip(f"less than {MEMORY // GIB} GiB of memory are free")
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.full_size
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells mapped files from memory")
@pytest.mark.parametrize(
    ("name", "model", "adapter"),
    [("SD1.5", FULL_SD15, False), ("SDXL", FULL_SDXL, True)],
    ids=["SD1.5", "SDXL"],
)
def test_every_stage_takes_less_than_20_gib(
    folder: Path, name: str, model: Model, adapter: bool
) -> None:
    """SD1.5 learns as a whole, SDXL as an adapter: its weights and moments alone are 41 GB."""
    if shutil.disk_usage(folder).free < DISK[name]:
        pytest.skip(f"less than {DISK[name] // GIB} GiB of disk are free")
    write_models(folder, model, adapter)
    for stage in stages(adapter):
        if not stage.goes_on:
            remove_states(folder)
        peak = peak_of(stage.words, folder)
        print(f"| {name} | {stage.name} | {peak / GIB:.1f} |", flush=True)
        if stage.name == "distillation" and not adapter:
            # Weights, gradients and the optimizer's two moments are there at the least: a peak
            # below them would be no training step.
            assert peak > 4 * PARAMETERS * 4
    assert_merged(folder, adapter)


def peak_of(words: list[str], folder: Path) -> int:
    """The most memory that a command holds, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.trainer.measure", str(MEMORY), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=ENVIRONMENT | {"PYTHONPATH": str(ROOT)},
    )
    if done.returncode == -signal.SIGKILL:
        pytest.skip("other processes took the memory that was free")
    said = " ".join(words)
    assert done.returncode != TOO_MUCH, f"{said}: more than {MEMORY // GIB} GiB"
    assert done.returncode == 0, f"{said}: {done.stderr}"
    return int(done.stdout.split()[-1])
