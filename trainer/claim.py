"""Folders that one run at a time may write to.

The system frees them when a process ends, however it ends. Where a file system has no locks, as
some have not that are reached over a network, nobody is kept out.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator, PartialState
from filelock import FileLock, Timeout
from tqdm import tqdm

from dmm.atomic import make_folder
from dmm.errors import DmmError
from trainer.disk import writing

LOCK = "lock"
PATIENCE = 10.0  # seconds; the data workers of a run that was killed live on for a few
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextmanager
def claimed(folder: Path, accelerator: Accelerator) -> Iterator[None]:
    """Within the block, no other merge trains in a run's folder: it would remove our states.

    Args:
        accelerator: its main process claims the folder for all of them.

    Raises:
        DmmError: another merge is at work there, or it cannot be written to.
    """
    lock = _lock(folder)
    if accelerator.is_main_process:
        with writing(folder):
            free = _acquire(lock, PATIENCE)
        if not free:
            raise DmmError(
                f"Another process is merging into {folder}. Wait until it is done, or end it: "
                "this command then goes on where it stopped."
            )
    accelerator.wait_for_everyone()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def turn(folder: Path) -> Iterator[None]:
    """Within the block, no other run fills a cache's folder; waits for the one that does.

    The main process waits for all of a run's.

    Raises:
        DmmError: the disk is full, or the folder cannot be written to.
    """
    lock, state = _lock(folder), PartialState()
    if state.is_main_process:
        with writing(folder):
            make_folder(folder)
            if not _acquire(lock, 0):
                tqdm.write(f"Another process computes {folder}; waiting for it.")
                _acquire(lock, -1)
    state.wait_for_everyone()
    try:
        yield
    finally:
        lock.release()


def _lock(folder: Path) -> FileLock:
    # A "soft" lock would be the mere file, which outlives a process that is killed.
    return FileLock(folder / LOCK, fallback_to_soft=False)


def _acquire(lock: FileLock, seconds: float) -> bool:
    """Whether it is ours before some seconds are over; -1 = however long it takes."""
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return True
