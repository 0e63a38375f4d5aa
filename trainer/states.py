"""Saved states of a run: whole or not there, and only the last few kept."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from accelerate import Accelerator

from dmm.errors import DmmError


def save_state(accelerator: Accelerator, folder: Path, step: int, keep_last: int) -> None:
    """Writes `folder/step-00000500` under another name first, so that it is never half there.

    Raises:
        DmmError: the disk is full or the folder cannot be written.
    """
    final = folder / f"step-{step:08d}"
    partial = folder / f"{final.name}.partial"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    try:
        accelerator.save_state(str(partial))
    except (OSError, RuntimeError) as error:
        raise DmmError(f"The state of step {step} cannot be saved in {folder}: {error}.") from error
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        for file in partial.rglob("*"):
            if file.is_file():
                with file.open("rb+") as opened:
                    os.fsync(opened.fileno())
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        for old in _states(folder)[:-keep_last]:
            shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()


def load_last_state(accelerator: Accelerator, folder: Path) -> int:
    """Loads the last saved state; gives the number of steps it has done, 0 where there is none."""
    states = _states(folder)
    if not states:
        return 0
    accelerator.load_state(str(states[-1]))
    return int(states[-1].name.removeprefix("step-"))


def _states(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if re.fullmatch(r"step-\d{8}", path.name))
