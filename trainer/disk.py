"""What a disk says when it cannot be written to, told to people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

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
    except (OSError, SafetensorError) as error:
        raise _refused(path, getattr(error, "strerror", None) or str(error)) from error
    except RuntimeError as error:
        if not any(said in str(error) for said in FAILED_SAVES):
            raise
        raise _refused(path, "not all of it found room") from error


def _refused(path: Path, reason: str) -> DmmError:
    return DmmError(
        f"{path} cannot be written: {reason}. Free some space there, or choose another "
        "`output`. The same command goes on where this one stopped."
    )
