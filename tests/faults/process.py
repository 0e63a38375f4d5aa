"""The trainer's command line in processes of its own, each with a fault in it.

They come from one server process that has imported everything, so that one costs no ten seconds.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import re
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NoReturn

from tests.faults.changes import MADE, watch
from tests.faults.disk import Disk

Fault = Callable[[], object]
"""Called in the process before the command."""


@dataclass(frozen=True)
class Counted:
    """No fault; counts the changes to a folder into a file."""

    folder: Path
    into: Path

    def __call__(self) -> None:
        with self.into.open("w") as file:
            descriptor = os.dup(file.fileno())
        watch(self.folder, lambda number, kind, path: os.write(descriptor, f"{kind}\n".encode()))


@dataclass(frozen=True)
class KilledAt:
    """SIGKILL just before a change to the folder, counted from 1."""

    folder: Path
    change: int

    def __call__(self) -> None:
        watch(self.folder, lambda number, kind, path: self.change == number and _die())


@dataclass(frozen=True)
class NoRoomAt:
    """From a change on the disk is full."""

    folder: Path
    change: int

    def __call__(self) -> None:
        def refuse(number: int, kind: str, path: Path) -> None:
            if number >= self.change and kind in MADE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        watch(self.folder, refuse)


@dataclass(frozen=True)
class KilledBefore:
    """SIGKILL just before a kind of change to one file or folder."""

    path: Path
    kind: str

    def __call__(self) -> None:
        watch(self.path, lambda _, kind, path: (kind, path) == (self.kind, self.path) and _die())


@dataclass(frozen=True)
class Refused:
    """A kind of change to one file or folder is not allowed, as where others have it open."""

    path: Path
    kind: str

    def __call__(self) -> None:
        def refuse(number: int, kind: str, path: Path) -> None:
            if (kind, path) == (self.kind, self.path):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

        watch(self.path, refuse)


@dataclass(frozen=True)
class PowerCutAt:
    """The power fails just before a change to the folder; `left` is what comes back."""

    folder: Path
    change: int
    left: Path
    seed: int

    def __call__(self) -> None:
        graveyard = self.left.with_name(f"{self.left.name}-graveyard")
        graveyard.mkdir()
        disk = Disk(self.folder, graveyard)

        def cut(number: int, kind: str, path: Path) -> None:
            if number == self.change:
                disk.leave(self.left, random.Random(self.seed))
                _die()

        watch(self.folder, cut)


@dataclass(frozen=True)
class ClockGoesBack:
    """Every look at the clock gives an earlier time."""

    def __call__(self) -> None:
        start = time.time()
        now = time.time
        time.time = lambda: 2 * start - now()


def begin(words: Sequence[str | Path], said: Path, fault: Fault | None = None) -> BaseProcess:
    """Starts a command; what it prints goes into the file `said`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.process", *_IMPORTED])
    process = context.Process(target=_command, args=([*map(str, words)], said, fault))
    process.start()
    return process


def run(
    words: Sequence[str | Path],
    said: Path,
    fault: Fault | None = None,
    seconds: float | None = None,
) -> int:
    """A command's exit code: -9 where it was killed, by its fault or after so many seconds."""
    process = begin(words, said, fault)
    process.join(seconds)
    if process.is_alive():
        process.kill()
    process.join()
    return process.exitcode


_IMPORTED = [
    "trainer.run",
    "trainer.merge",
    "trainer.evaluate.evaluation",
    "trainer.evaluate.report",
    "torch.utils.tensorboard",
]


def _command(words: list[str], said: Path, fault: Fault | None) -> None:
    with said.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from trainer.run import app, main

    if fault:
        fault()
    main(lambda: app(words))


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def message(said: Path) -> str:
    """What a refused command said, without its bars and warnings."""
    text = said.read_text(encoding="utf-8", errors="replace")
    assert "Traceback" not in text, text
    found = re.findall(r"^Error: (.*)$", text, re.MULTILINE)
    assert len(found) == 1, text
    return found[0]
