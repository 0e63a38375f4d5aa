"""What a disk says when it cannot be written to, told to people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from torch.distributed.checkpoint.api import CheckpointException

from dmm.errors import DmmError

# What torch.save says, 2.6 to 2.15: a RuntimeError like any other, about its own source code or the
# C++ stream below it.
FAILED_SAVES = ("inline_container.cc", "iostream error", "cannot be opened")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """For blocks that write to `path`. What else goes wrong in them is raised as it is.

    Raises:
        DmmError: the disk is full, or the place cannot be written to.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError, CheckpointException) as error:
        reason = _reason(error)
        if reason is None:
            raise
        raise _refused(path, reason) from error


def _reason(error: BaseException) -> str | None:
    """What the disk says by an error; None where it is no error of the disk."""
    if isinstance(error, CheckpointException):  # FSDP's, of all processes
        reasons = [_reason(failure) for failure, _ in error.failures.values()]
        return next(filter(None, reasons), None)
    if isinstance(error, OSError | SafetensorError):
        return getattr(error, "strerror", None) or str(error)
    if any(said in str(error) for said in FAILED_SAVES):
        return "not all of it found room"
    return None


def _refused(path: Path, reason: str) -> DmmError:
    return DmmError(
        f"{path} cannot be written: {reason}. Free some space there, or choose another `output` "
        "or cache. The same command goes on where this one stopped."
    )
