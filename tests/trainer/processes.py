"""The trainer in processes of its own: several at once, or killed in the midst of their work."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
RUN = ["trainer/run.py"]
TWO = ["-m", "torch.distributed.run", "--nproc_per_node", "2"]


def run(*words: str | Path, program: Sequence[str] = RUN, **environment: str) -> list[str]:
    """Runs the trainer, and gives the lines that it prints.

    Args:
        program: what Python runs instead.
    """
    done = subprocess.run(
        [sys.executable, *program, *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=ENVIRONMENT | environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def run_in_two(*words: str | Path, program: Sequence[str] = RUN) -> list[str]:
    """As `run`, in two processes that work together."""
    return run(*words, program=[*TWO, *program])


def killed(moments: Sequence[int], config: Path, *overrides: str) -> list[int]:
    """A merge begun several times, and killed each time; gives the exit codes.

    Args:
        moments: which of its changes to the disk it does not live to make.
    """
    print("moments", moments)  # pytest shows it where a test fails
    words = ["-m", "tests.trainer.kill_merge"]
    return [
        subprocess.run(
            [sys.executable, *words, str(moment), str(config), *overrides],
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
            env=ENVIRONMENT,
        ).returncode
        for moment in moments
    ]
