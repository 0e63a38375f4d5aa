"""Runs the trainer's command line and prints the most memory it held, in bytes, as its last line.

    python -m tests.trainer.measure LIMIT COMMAND [WORD…]

A process of its own holds nothing but the command. It ends as soon as it holds more than LIMIT
bytes, and is the first to go where the system runs out of memory. Pages of mapped files are left
out: the system takes them back whenever it needs the room.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from threading import Event, Thread

import psutil

from trainer.run import app, main

SECONDS_BETWEEN_LOOKS = 0.02
TOO_MUCH = 3  # the exit code


class Peak:
    """The most memory held so far, looked at from a thread of its own.

    Args:
        limit: in bytes; beyond it the process ends at once.
    """

    def __init__(self, limit: int) -> None:
        self.bytes, self._limit = 0, limit
        self._process, self._done = psutil.Process(), Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._done.set()
        self._thread.join()
        return self.bytes

    def _watch(self) -> None:
        while not self._done.wait(SECONDS_BETWEEN_LOOKS):
            memory = self._process.memory_info()
            self.bytes = max(self.bytes, memory.rss - memory.shared)
            if self.bytes > self._limit:
                print(self.bytes, flush=True)
                os._exit(TOO_MUCH)


def measure(limit: str, *words: str) -> None:
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    peak = Peak(int(limit))
    try:
        main(lambda: app(list(words)))
    finally:
        print(peak.stop())


if __name__ == "__main__":
    measure(*sys.argv[1:])
