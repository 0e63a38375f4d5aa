"""A full disk is called one, whichever way it is said; what else goes wrong keeps its name."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch.distributed.checkpoint import FileSystemWriter, save
from torch.distributed.checkpoint.api import CheckpointException

from dmm.errors import DmmError
from tests.trainer.processes import ENVIRONMENT, ROOT
from tests.trainer.test_full_disk import no_file_over
from trainer.disk import writing
from trainer.states import save_state, saved_states

TENSORS = {"moments": torch.zeros(3000), "more": torch.zeros(20)}

# Two processes over gloo, of which one ends while the other saves what both hold a part of.
LOST_PROCESS = """
import os
from pathlib import Path
from accelerate import Accelerator
from trainer.disk import writing
from trainer.run import main

def save():
    accelerator = Accelerator(cpu=True)
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        os._exit(1)
    with writing(Path("states")):
        accelerator.wait_for_everyone()

main(save)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits on file sizes are a Unix thing")
@pytest.mark.parametrize("name", ["state.bin", "état.bin"])  # torch opens ASCII names itself
def test_torch_finds_no_room_at_any_point(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    torch.save(TENSORS, path)
    size = path.stat().st_size
    # The last few kilobytes wait in a buffer, and torch does not look whether they were written.
    for room in [*range(0, 600, 20), *range(600, size - 9000, 500)]:
        with (
            no_file_over(room),
            pytest.raises(DmmError, match=r"(no|found) room|too large"),
            writing(path),
        ):
            torch.save(TENSORS, path)


@pytest.mark.skipif(sys.platform == "win32", reason="limits on file sizes are a Unix thing")
def test_a_state_whose_last_bytes_find_no_room_is_none(tmp_path: Path) -> None:
    accelerator = Accelerator(cpu=True)
    net = torch.nn.Linear(200, 20)
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(200)).sum().backward()
    optimizer.step()
    accelerator.prepare(net, optimizer)
    save_state(accelerator, tmp_path, 0, keep_last=9)
    size = max(path.stat().st_size for path in saved_states(tmp_path)[0].iterdir())
    for step, lacking in enumerate([1, 7, 22, 23, *range(40, 800, 60)], start=1):
        with no_file_over(size - lacking), pytest.raises(DmmError, match=r"room|space|too large"):
            save_state(accelerator, tmp_path, step, keep_last=9)
    assert [path.name for path in (tmp_path / "states").iterdir()] == ["step-00000000"]


@pytest.mark.skipif(sys.platform == "win32", reason="limits on file sizes are a Unix thing")
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_spread_state_finds_no_room(tmp_path: Path) -> None:
    with (
        no_file_over(1000),
        pytest.raises(DmmError, match=r"room|too large"),
        writing(tmp_path),
    ):
        save(TENSORS, storage_writer=FileSystemWriter(tmp_path / "spread"), no_dist=True)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_another_fault_of_a_spread_state_keeps_its_name(tmp_path: Path) -> None:
    class Unsaveable:
        def __reduce__(self) -> str:
            raise ValueError("not to be saved")

    with pytest.raises(CheckpointException, match="not to be saved"), writing(tmp_path):
        save(
            {"a": Unsaveable()}, storage_writer=FileSystemWriter(tmp_path / "spread"), no_dist=True
        )


def test_no_folder_to_write_to(tmp_path: Path) -> None:
    with pytest.raises(DmmError, match="cannot be written"), writing(tmp_path):
        torch.save(TENSORS, tmp_path)


def test_memory_that_ran_out_is_no_full_disk(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="alloc"), writing(tmp_path):
        torch.empty(2**60)


def test_a_lost_process_is_no_full_disk() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    first, second = (
        subprocess.Popen(
            [sys.executable, "-c", LOST_PROCESS],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT
            | where
            | {"RANK": rank, "LOCAL_RANK": rank, "CUDA_VISIBLE_DEVICES": ""},
        )
        for rank in "01"
    )
    said = [process.communicate()[1] for process in (first, second)]
    assert (first.returncode, second.returncode) == (2, 1), said
    assert "Another process of this run has ended" in said[0]
