"""A host's server, as a process of its own that writes into a folder of the test's alone."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.hosts import Host

ROOT = Path(__file__).parents[1]
CLONE_NAME = "my dmm-clone"  # people choose their own folder names
NOT_IN_A_CLONE = shutil.ignore_patterns(
    ".git", ".venv", "__pycache__", ".*_cache", "outputs", "dmm-cache"
)

START_SECONDS = 180

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "HF_HUB_OFFLINE": "1",
    # A request runs in a thread of the host's, and so in an arena of glibc's of its own. Those
    # keep what a checkpoint leaves behind: a WebUI had 8 GB by its hundredth test.
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": "1048576",
}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server(ABC):
    """A running server.

    Args:
        host: whose code runs.
        folder: where it looks for extensions; ours is copied there as a plain clone would be.
        companion: the tests' own extension.
        packs: names of further extensions, from the host's folder of packs; those it lacks are
            left out (see `has_pack`).
        ours: whether our own extension is there.
    """

    url: str
    log_file: Path

    def __init__(
        self, host: Host, folder: Path, companion: Path, packs: Sequence[str], *, ours: bool
    ) -> None:
        self._host = host
        self.clone = folder / CLONE_NAME
        if ours:
            shutil.copytree(ROOT, self.clone, ignore=NOT_IN_A_CLONE)
        shutil.copytree(companion, folder / companion.name)
        self._packs = [name for name in packs if host.packs and (host.packs / name).is_dir()]
        for name in self._packs:
            shutil.copytree(host.packs / name, folder / name, ignore=NOT_IN_A_CLONE)

    @abstractmethod
    def answers(self) -> bool:
        """Whether it is ready for requests."""

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        """Starts a script of the host's, and waits until it answers.

        Raises:
            RuntimeError: it ended or took too long; with the end of its log.
        """
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [self._host.python, *arguments],
                cwd=self._host.path,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | ENVIRONMENT | (environment or {}),
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if self.has_ended() or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self._host.path} did not start:\n{self.log()[-4000:]}")
            time.sleep(0.1)

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def memory(self) -> int:
        """Bytes that the process holds."""
        return psutil.Process(self._process.pid).memory_info().rss

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def has_pack(self, name: str) -> bool:
        return name in self._packs
