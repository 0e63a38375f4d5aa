"""Saved states of a run: whole or not there, and only the last few kept."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from accelerate import Accelerator

from dmm.atomic import make_folder, remove_whole, rename_whole
from dmm.errors import DmmError
from trainer.disk import writing


def save_state(accelerator: Accelerator, folder: Path, step: int, keep_last: int) -> None:
    """Writes `folder/step-00000500` under another name first, so that it is never half there.

    Raises:
        DmmError: the disk is full or the folder cannot be written.
    """
    final = folder / f"step-{step:08d}"
    partial = folder / f"{final.name}.partial"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        with writing(final):
            make_folder(folder)
    accelerator.wait_for_everyone()
    try:
        with writing(final):
            accelerator.save_state(str(partial))
    except DmmError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        with writing(final):
            rename_whole(partial, final)
        _keep_last(folder, keep_last)
    accelerator.wait_for_everyone()


def load_last_state(accelerator: Accelerator, folder: Path, keep_last: int) -> int:
    """Loads the last saved state; gives the number of steps it has done, 0 where there is none.

    What a kill left half written or half removed goes now: at full size it is gigabytes.
    """
    states = _states(folder)
    if accelerator.is_main_process:
        for partial in folder.glob("step-*.partial"):
            shutil.rmtree(partial, ignore_errors=True)
        _keep_last(folder, keep_last)
    if not states:
        return 0
    accelerator.load_state(str(states[-1]))
    return int(states[-1].name.removeprefix("step-"))


def _keep_last(folder: Path, count: int) -> None:
    for old in _states(folder)[:-count]:
        remove_whole(old)


def _states(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if re.fullmatch(r"step-\d{8}", path.name))
