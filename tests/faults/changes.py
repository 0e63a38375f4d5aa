"""Whatever a process changes in a folder, told just before it happens."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

MADE = ("open", "os.rename", "os.mkdir")
"""Changes that a full disk forbids: a file opened to be written, a name given, a folder made."""

REMOVED = ("os.remove", "os.rmdir")


def watch(folder: Path, before: Callable[[int, str, Path], None]) -> None:
    """From now on calls `before(number, kind, path)`, numbers from 1, before each change.

    What it raises is raised where the change is asked for. What compiled code writes (torch,
    safetensors) is not seen, and nobody can stop watching: this is for processes with one purpose.
    """
    count = 0
    inside = False

    def see(event: str, arguments: tuple) -> None:
        nonlocal count, inside
        if inside or event not in (*MADE, *REMOVED):
            return
        if event == "open" and not _writes(*arguments[1:]):
            return
        inside = True  # what `before` does itself is no change
        try:
            path = _path(event, arguments)
            if path is not None and path.is_relative_to(folder):
                count += 1
                before(count, event, path)
        finally:
            inside = False

    sys.addaudithook(see)


def _writes(mode: str | None, flags: int) -> bool:
    if mode is not None:
        return not set(mode).isdisjoint("wxa+")
    return bool(flags & (os.O_WRONLY | os.O_RDWR))


def _path(event: str, arguments: tuple) -> Path | None:
    """The path that changes; a renamed one's old name."""
    name = arguments[0]
    if not isinstance(name, str | os.PathLike):
        return None  # a file that was open before
    path = Path(name)
    if event in REMOVED and arguments[1] != -1:  # inside shutil.rmtree, which holds the folder open
        path = Path(os.readlink(f"/proc/self/fd/{arguments[1]}")) / path
    return path
