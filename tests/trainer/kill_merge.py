"""Merges, and is killed in the midst of it; run by `test_kill.py` as a process of its own.

    python -m tests.trainer.kill_merge MOMENT CONFIG [OVERRIDE…]

The process kills itself just before it changes the disk for the MOMENTth time: opens a file to
write to it, gives it a name, or removes one. 0 lets it live; then it prints how often it did so.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from trainer.config_file import load_config
from trainer.merge import merge

CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir")


class Changes:
    """Counts the changes to a folder, and kills the process before one of them."""

    def __init__(self, folder: Path, deadly: int) -> None:
        self.count = 0
        self._folder, self._deadly = str(folder), deadly
        sys.addaudithook(self._see)

    def _see(self, event: str, arguments: tuple) -> None:
        is_change = event in CHANGES or (event == "open" and _writes(arguments[1]))
        if is_change and str(arguments[0]).startswith(self._folder):
            self.count += 1
            if self.count == self._deadly:
                os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def _writes(mode: object) -> bool:
    return isinstance(mode, str) and not set(mode).isdisjoint("wxa+")


def main(moment: str, path: str, *overrides: str) -> None:
    config = load_config(Path(path), list(overrides))
    changes = Changes(config.output.parent, int(moment))
    merge(config)
    print(changes.count)


if __name__ == "__main__":
    main(*sys.argv[1:])
