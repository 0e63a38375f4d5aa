"""A run of several processes: who is speaking, and what is said when one of them is gone."""

from __future__ import annotations

import os
import re
import socket
from datetime import timedelta

import typer

from dmm.errors import DmmError

IS_MAIN = os.environ.get("RANK", "0") == "0"  # launchers tell each process its rank

# How long a process waits for the others. A killed one is noticed at once; this is for one that
# froze, and far longer than a main process takes to paint the grid of many teachers.
PATIENCE = timedelta(hours=1)


def say(message: object, err: bool = False) -> None:
    """Prints, once where a launcher started several processes."""
    if IS_MAIN:
        typer.echo(message, err=err)


def name_of_process() -> str:
    """Such as "process 3 of 4, on ada"; empty where there is only one."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    return f"process {rank + 1} of {count}, on {socket.gethostname()}" if count > 1 else ""


def lost_process(error: RuntimeError) -> DmmError | None:
    """What to tell people where an error says that another process is gone; None where not."""
    from torch.distributed import DistError

    said = str(error)
    if "DataLoader worker" in said:
        return DmmError(
            f"A process that prepares batches was ended from outside: {said.splitlines()[0]} "
            "Mostly memory ran out. Give `data.workers=0` and run the same command again: it goes "
            "on from the last saved state."
        )
    if isinstance(error, DistError) or "/gloo/" in said:
        reason = re.sub(r"^\[[^]]*\] ", "", said.splitlines()[0]).split(". ")[0]
        return DmmError(
            f"Another process of this run has ended or cannot be reached ({reason}). What ended "
            "it stands in its own output. Run the same command again on all machines: it goes on "
            "from the last saved state."
        )
    return None
