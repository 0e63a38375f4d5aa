"""Saved states of a run: whole or not there, and only the last few kept."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path
from zipfile import is_zipfile

from accelerate import Accelerator

from dmm.atomic import make_folder, remove_whole, rename_whole
from dmm.errors import DmmError
from trainer.disk import writing


def saved_states(run: Path) -> list[Path]:
    """The whole states in a run's folder, such as `states/step-00000500`, the last one last."""
    found = _folder(run).glob("step-*")
    return sorted(path for path in found if re.fullmatch(r"step-\d{8}", path.name))


def save_state(accelerator: Accelerator, run: Path, step: int, keep_last: int) -> None:
    """Writes a state under another name first, so that it is never half there.

    Args:
        run: the run's folder.
        step: how many are done.

    Raises:
        DmmError: the disk is full or the folder cannot be written.
    """
    final = _folder(run) / f"step-{step:08d}"
    partial = final.with_name(f"{final.name}.partial")
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        with writing(final):
            make_folder(final.parent)
    accelerator.wait_for_everyone()
    try:
        with writing(final):
            accelerator.save_state(str(partial))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            with writing(final):
                _refuse_cut_off(partial)
                rename_whole(partial, final)
    except DmmError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if accelerator.is_main_process:
        _keep_last(run, keep_last)
    accelerator.wait_for_everyone()


def load_last_state(accelerator: Accelerator, run: Path, keep_last: int) -> int:
    """Loads the last saved state; gives the number of steps it has done, 0 where there is none.

    What a kill left half written or half removed goes now: at full size it is gigabytes.
    """
    states = saved_states(run)
    if accelerator.is_main_process:
        for partial in _folder(run).glob("step-*.partial"):
            shutil.rmtree(partial, ignore_errors=True)
        _keep_last(run, keep_last)
    if not states:
        return 0
    accelerator.load_state(str(states[-1]))
    return int(states[-1].name.removeprefix("step-"))


def _refuse_cut_off(state: Path) -> None:
    """Raises OSError where torch.save did not see that the end of a file found no room (2.6)."""
    for path in state.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                is_torchs = file.read(2) == b"PK"
            if is_torchs and not is_zipfile(path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def _folder(run: Path) -> Path:
    return run / "states"


def _keep_last(run: Path, count: int) -> None:
    for old in saved_states(run)[:-count]:
        remove_whole(old)
