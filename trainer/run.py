"""The trainer's command line: `python trainer/run.py --help`."""

from __future__ import annotations

import faulthandler
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

# Run as a script, Python puts this folder first on the path; the packages lie one above.
ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)
os.environ.setdefault("USE_LIBUV", "0")  # torch's builds for Windows lack it, and stop without this

import typer

from dmm.errors import DmmError
from trainer.commands import files, measuring, merging, painting, styles
from trainer.processes import IS_MAIN, lost_process, name_of_process

if not IS_MAIN:
    os.environ["TQDM_DISABLE"] = "1"
FORMAT_WARNING = warnings.formatwarning

app = typer.Typer(
    help="Merge many Stable Diffusion checkpoints into one that holds every style.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

for command in (
    merging.merge,
    merging.extend,
    merging.accelerate,
    merging.plan,
    merging.presets,
    files.inspect,
    painting.sample,
    painting.play,
    styles.drop,
    styles.reorder,
    styles.rename,
    measuring.evaluate,
    measuring.compare,
    files.average,
    files.extract,
    files.fold,
):
    app.command()(command)


def _format_warning(message: Warning | str, category: type[Warning], filename: str, *args) -> str:
    """Our own warnings are for people; those of others say where they come from."""
    if Path(filename).is_relative_to(ROOT):
        return f"Warning: {message}\n"
    return FORMAT_WARNING(message, category, filename, *args)


def main(run: Callable[[], None] = app) -> None:
    """Runs the command line; what the user can mend ends with a message and exit code 2."""
    warnings.formatwarning = _format_warning
    try:
        run()
    except DmmError as error:
        _fail(error)
    except RuntimeError as error:
        lost = lost_process(error)
        if lost is None:
            raise
        _fail(lost)


def _fail(error: DmmError) -> NoReturn:
    who = name_of_process()
    typer.echo(f"Error ({who}): {error}" if who else f"Error: {error}", err=True)
    sys.exit(2)


if __name__ == "__main__":
    faulthandler.enable()  # says where, if a file that is mapped is cut short by another program
    main()
