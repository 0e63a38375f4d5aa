"""What a disk says when it cannot be written to, told to people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from dmm.errors import DmmError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """For blocks that do nothing but write to `path`.

    Raises:
        DmmError: the disk is full, or the place cannot be written to.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, RuntimeError):  # torch.save's, which speaks of its own source code
            reason = "not all of it found room"
        raise DmmError(
            f"{path} cannot be written: {reason}. Free some space there, or choose another "
            "`output`. The same command goes on where this one stopped."
        ) from error
