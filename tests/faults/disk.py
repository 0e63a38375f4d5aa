"""A disk as a power cut may leave it: what was never flushed is there, or not, as chance has it.

The model is the weakest that POSIX allows. The bytes of a file are safe once `fsync` on it came
back; a name (made, given, taken away) once `fsync` on its folder did; whatever came after may have
reached the disk or not, each name and each file by itself.
"""

from __future__ import annotations

import os
import random
import stat
from dataclasses import dataclass
from pathlib import Path

Names = dict[str, int]
"""A folder's names, and the numbers (inodes) of what they name."""


@dataclass(frozen=True)
class Flushed:
    """A file as it was when it was flushed."""

    kept: Path  # another name of the same file, so that its number is not given to another
    size: int
    changed: int


class Disk:
    """Follows a folder from now on, in this process.

    Args:
        folder: what it holds by now is safe.
        graveyard: an empty folder on the same file system, beside it.
    """

    def __init__(self, folder: Path, graveyard: Path) -> None:
        self._folder, self._graveyard = folder, graveyard
        self._files: dict[int, Flushed] = {}
        self._folders: dict[int, Names] = {}
        self._root = folder.stat().st_ino
        for path, _, names in os.walk(folder):
            self._see(os.open(path, os.O_RDONLY))
            for name in names:
                self._see(os.open(Path(path, name), os.O_RDONLY))
        self._flush, os.fsync = os.fsync, self._fsync

    def leave(self, target: Path, chance: random.Random) -> None:
        """Writes what a power cut in this moment might leave, as a folder of its own."""
        now = {path.stat().st_ino: path for path in [self._folder, *self._folder.rglob("*")]}
        self._leave_folder(self._root, target, now, chance)

    def _fsync(self, handle: int) -> None:
        self._flush(handle)
        self._see(os.dup(handle))

    def _see(self, handle: int) -> None:
        """What is open is safe now. Folders stay open, so that their numbers stay theirs."""
        status = os.fstat(handle)
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        if stat.S_ISDIR(status.st_mode):
            if status.st_ino in self._folders:
                os.close(handle)
            self._folders[status.st_ino] = _names(path)
            return
        os.close(handle)
        if path.is_relative_to(self._folder):
            kept = self._graveyard / str(status.st_ino)
            if not kept.exists():
                os.link(path, kept)
            self._files[status.st_ino] = Flushed(kept, status.st_size, status.st_mtime_ns)

    def _leave_folder(
        self, number: int, target: Path, now: dict[int, Path], chance: random.Random
    ) -> None:
        target.mkdir()
        safe = self._folders.get(number, {})
        current = _names(now[number]) if number in now else {}
        for name in sorted({*safe, *current}):
            is_left = chance.choice([safe.get(name), current.get(name)])
            if is_left is None:
                continue
            is_folder = is_left in self._folders or (is_left in now and now[is_left].is_dir())
            if is_folder:
                self._leave_folder(is_left, target / name, now, chance)
            else:
                (target / name).write_bytes(self._left_of(is_left, now, chance))

    def _left_of(self, number: int, now: dict[int, Path], chance: random.Random) -> bytes:
        """What is left of a file's bytes."""
        flushed = self._files.get(number)
        path = flushed.kept if flushed else now.get(number)
        content = path.read_bytes() if path else b""
        if flushed is None:
            return chance.choice([content, content[: len(content) // 2], bytes(len(content)), b""])
        if path.stat().st_mtime_ns == flushed.changed:
            return content
        return chance.choice([content, content[: flushed.size]])


def _names(folder: Path) -> Names:
    return {entry.name: entry.inode() for entry in os.scandir(folder)}
