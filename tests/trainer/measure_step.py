"""Merges up to its first training step and prints the most memory it held, in bytes.

    python -m tests.trainer.measure_step LIMIT CONFIG [OVERRIDE…]

Run by `test_full_size.py` as a process of its own, which holds nothing but the merge. It ends as
soon as it holds more than LIMIT bytes, and is the first to go where the system runs out of memory.
Pages of mapped files are left out: the system takes them back whenever it needs the room.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from threading import Event, Thread

import psutil
from torch.optim.optimizer import register_optimizer_step_post_hook

from trainer.config_file import load_config
from trainer.merge import merge

SECONDS_BETWEEN_LOOKS = 0.02


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
                os._exit(0)


def main(limit: str, config: str, *overrides: str) -> None:
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    peak = Peak(int(limit))

    def stop(*_: object) -> None:
        print(peak.stop())
        raise SystemExit

    register_optimizer_step_post_hook(stop)
    merge(load_config(Path(config), list(overrides)))


if __name__ == "__main__":
    main(*sys.argv[1:])
