"""Files and folders that are there whole or not at all, whatever ends the program.

A program that is killed leaves what the system was told; a power cut leaves only what was flushed:
the bytes of a file by `fsync` on it, its name by `fsync` on its folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Gives a name to write to, `<name>.partial`, and afterwards what was written `path`'s name.

    The file that was there before stays as it was until then, and for ever where the block raises.
    Missing folders are made.

    Raises:
        OSError: the disk is full, or the folder cannot be written to.
    """
    partial = path.with_name(path.name + ".partial")
    make_folder(path.parent)
    try:
        yield partial
        _flush(partial)
        os.replace(partial, path)
        _flush_folder(path.parent)
    finally:
        with suppress(OSError):  # never hide the error that brought us here
            partial.unlink(missing_ok=True)


def rename_whole(partial: Path, path: Path) -> None:
    """Gives a folder, and with it all that was written into it, its name; there is none yet.

    Raises:
        OSError: the disk is full, or the folder cannot be written to.
    """
    for folder, _, names in os.walk(partial, topdown=False):
        for name in names:
            _flush(Path(folder, name))
        _flush_folder(Path(folder))
    partial.rename(path)
    _flush_folder(path.parent)


def remove_whole(folder: Path) -> None:
    """Removes a folder with all that is in it, if it is there; its name goes first.

    What a kill leaves of it is called `<name>.partial`.
    """
    if not folder.exists():
        return
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with suppress(OSError):
        folder.rename(partial)
        _flush_folder(folder.parent)
        shutil.rmtree(partial, ignore_errors=True)
        _flush_folder(folder.parent)


def make_folder(folder: Path) -> None:
    """Makes a folder, and those above it, that survive a power cut.

    Raises:
        OSError: it cannot be made.
    """
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _flush_folder(folder.parent)


def _flush(file: Path) -> None:
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows opens no folders, and its file systems keep a journal of names
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems refuse; the file itself is safe
            os.fsync(handle)
    finally:
        os.close(handle)
