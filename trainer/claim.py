"""A run's folder belongs to one merge at a time."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator
from filelock import FileLock, Timeout

from dmm.errors import DmmError
from trainer.disk import writing

LOCK = "lock"
PATIENCE = 10.0  # seconds; the data workers of a merge that was killed live on for a few
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # what some network file systems say


@contextmanager
def claimed(folder: Path, accelerator: Accelerator) -> Iterator[None]:
    """Within the block, no other merge may write there: each would remove the other's states.

    The system frees the folder when the process ends, however that ends. Where a file system has
    no locks, nobody is kept out.

    Args:
        accelerator: its main process claims the folder for all of them.

    Raises:
        DmmError: another merge is at work there, or it cannot be written to.
    """
    # A "soft" lock would be the mere file, which outlives a process that is killed.
    lock = FileLock(folder / LOCK, timeout=PATIENCE, fallback_to_soft=False)
    if accelerator.is_main_process:
        with writing(folder):
            _acquire(lock, folder)
    accelerator.wait_for_everyone()
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: FileLock, folder: Path) -> None:
    try:
        lock.acquire()
    except Timeout:
        raise DmmError(
            f"Another process is merging into {folder}. Wait until it is done, or end it: this "
            "command then goes on where it stopped."
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
