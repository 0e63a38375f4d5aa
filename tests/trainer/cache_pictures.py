"""Caches a folder's latents; run by `test_cache.py` as a process of its own, to be killed.

    python -m tests.trainer.cache_pictures CHECKPOINT PICTURES CACHE [MOMENT]

MOMENT: `picture:N`, the process kills itself when it comes to picture N; `rename:N`, just before a
file takes its name for the Nth time.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from accelerate import PartialState

from trainer.cache import cache_latents
from trainer.checkpoint import open_checkpoint
from trainer.data import PictureFolder


def die() -> None:
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


class Deadly(PictureFolder):
    """A folder whose picture `deadly` kills."""

    deadly: int

    def picture(self, index):
        if index == self.deadly:
            die()
        return super().picture(index)


def main(checkpoint: str, pictures: str, cache: str, moment: str = "") -> None:
    state = PartialState(cpu=True)
    kind, _, number = moment.partition(":")
    source = PictureFolder(pictures)
    if kind == "picture":
        source = Deadly(pictures)
        source.deadly = int(number)
    if kind == "rename":
        rename, left = os.replace, int(number)

        def replace(*names):
            nonlocal left
            left -= 1
            if left == 0:
                die()
            rename(*names)

        os.replace = replace
    cache_latents(source, open_checkpoint(checkpoint), [(16, 16)], Path(cache))
    print(f"process {state.process_index} of {state.num_processes}")


if __name__ == "__main__":
    main(*sys.argv[1:])
