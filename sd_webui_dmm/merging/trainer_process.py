"""The trainer as a process of its own: started, followed by the files it writes, and stopped.

Knows no host. A run is a folder, and whatever is said of it is read from there: so a page that was
closed, or a host that was started again, finds the run as it is.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import psutil
import yaml

from dmm.atomic import remove_whole, written_whole
from dmm.errors import DmmError

ROOT = Path(__file__).resolve().parents[2]
TRAINER = ROOT / "trainer" / "run.py"
OWN_PYTHON = ROOT / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

CONFIG, LOG, PROCESS = "merge.yaml", "trainer.log", "process.json"
STAGES = (".", "synthesised")  # where in the run's folder the stages of a merge have theirs
TAIL_BYTES = 256 * 1024  # of the log and the statistics that are read
LOG_LINES = 12  # shown
LOSS_STEPS = 50  # over which the loss is averaged

State = Literal["running", "stopping", "stopped", "failed", "finished"]

# tqdm reads its defaults from the environment, so every bar of the trainer is a line for `_BAR`.
_TQDM = {
    "TQDM_BAR_FORMAT": "{desc}: {percentage:.1f}% ({n_fmt} of {total_fmt}), {remaining} left",
    "TQDM_MININTERVAL": "1",
}
_BAR = re.compile(r"(?P<task>.*?):? (?P<percent>[\d.]+)% \((?P<done>.+)\), (?P<left>\S+) left")
_ERROR = re.compile(r"^Error: ", re.MULTILINE)
_STOPPED = re.compile(r"^Stopped after .* saved\.", re.MULTILINE)


@dataclass(frozen=True)
class Status:
    """How a run stands.

    Attributes:
        message: why it failed, or where it stopped.
        task: what the trainer does now, "Training".
        percent: of that, done.
        done: the same in its own words, "110 of 900".
        left: time, "01:12".
        loss: mean of the last steps' score loss.
        pictures: names of its sample grids, the last one newest.
        log: the last lines of the trainer's output, progress bars left out.
    """

    state: State
    message: str = ""
    task: str = ""
    percent: float = 0.0
    done: str = ""
    left: str = ""
    loss: float | None = None
    pictures: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)


class MergeRun:
    """A merge and the folder that holds its config, log, states, statistics and sample grids.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def exists(self) -> bool:
        return (self.folder / CONFIG).is_file()

    @property
    def config(self) -> dict[str, Any]:
        """What is merged, as `write` was told.

        Raises:
            DmmError: the file that says it was spoilt since.
        """
        path = self.folder / CONFIG
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
            if "output" in config:
                return config
        except (OSError, ValueError, TypeError, yaml.YAMLError):
            pass
        raise DmmError(f"{path} is no merge any more. Remove its folder.")

    @property
    def output(self) -> Path:
        """The merged file that it makes."""
        return Path(self.config["output"])

    @property
    def has_saved_steps(self) -> bool:
        return any((self.folder / "states").glob("step-*"))

    def write(self, config: Mapping[str, Any], files: Mapping[str, str]) -> None:
        """Makes the folder, in place of what an attempt without a saved step left there.

        Args:
            config: of the merge.
            files: texts by name that go beside it.

        Raises:
            DmmError: the disk is full, or the folder cannot be written or removed.
        """
        self.remove()
        write_config(self.folder, config, files)

    def start(self, python: Path) -> None:
        """Starts the trainer, or has it go on; it outlives the process that calls this.

        Raises:
            DmmError: that Python cannot be started, or the folder cannot be written.
        """
        command = [str(python), str(TRAINER), "merge", str(self.folder / CONFIG)]
        # Out of reach of the Ctrl-C that ends the host.
        apart: dict[str, Any] = (
            {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
            if os.name == "nt"
            else {"start_new_session": True}
        )
        with _writing(self.folder):
            log = (self.folder / LOG).open("wb")
        with log:
            try:
                process = subprocess.Popen(
                    command,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=_environment(),
                    **apart,
                )
            except OSError as error:
                raise DmmError(f"{python} cannot be started: {error.strerror}.") from error
        try:
            with _writing(self.folder):
                self._write_process(process.pid, stopping=False)
        except DmmError:
            process.kill()  # nobody could follow or stop it
            process.wait()
            raise
        threading.Thread(target=process.wait, daemon=True).start()  # leaves no zombie

    def stop(self) -> None:
        """Asks the trainer to save its state and end, which takes as long as a step does."""
        process = self._process()
        if process is None:
            return
        with suppress(OSError):  # a full disk is a reason to stop, not one to go on
            self._write_process(process.pid, stopping=True)
        try:
            os.kill(process.pid, signal.CTRL_BREAK_EVENT if os.name == "nt" else signal.SIGINT)
        except OSError:  # Windows: started from a console that was closed since
            process.terminate()

    def remove(self) -> None:
        """Removes the folder, with its states; not the merged checkpoint.

        Raises:
            DmmError: it cannot be removed, and is whole.
        """
        remove_whole(self.folder)
        if self.folder.exists():
            raise DmmError(
                f"{self.folder} cannot be removed. Close whatever has a file of it open, and try "
                "again."
            )

    @property
    def is_running(self) -> bool:
        return self._process() is not None

    def status(self) -> Status:
        """How it stands now."""
        asked_to_stop, is_running = self._said()["stopping"], self.is_running
        lines = _log_lines(_tail(self.folder / LOG))
        log = [line for line in lines if not _BAR.fullmatch(line)]
        said = "\n".join(log)
        if is_running:
            state: State = "stopping" if asked_to_stop else "running"
        elif self.output.is_file():
            state = "finished"
        else:
            state = "stopped" if asked_to_stop and not _ERROR.search(said) else "failed"
        bars = [bar for line in lines if (bar := _BAR.fullmatch(line))]
        bar = bars[-1].groupdict() if bars and is_running else {}
        message = ""
        if state == "failed" and str(self.output) in log:
            message = f"It was finished, but {self.output} is gone. Resume it to write that again."
        elif state == "failed":
            message = _reason(said)
        elif state == "stopped":
            saved = _STOPPED.search(said)
            message = saved[0] if saved else "Stopped before its first step."
        return Status(
            state=state,
            message=message,
            task=bar.get("task", ""),
            percent=float(bar.get("percent", 0)),
            done=bar.get("done", ""),
            left=bar.get("left", ""),
            loss=self._loss(),
            pictures=[*self._pictures()],
            log=log[-LOG_LINES:],
        )

    def picture(self, name: str) -> Path | None:
        """The file of a sample grid, by a name from its status."""
        return self._pictures().get(name)

    def _pictures(self) -> dict[str, Path]:
        stages = [sorted((self.folder / stage / "samples").glob("step-*.png")) for stage in STAGES]
        files = [*chain(*stages), *self.folder.glob("grid.png")]
        return {file.relative_to(self.folder).as_posix(): file for file in files}

    def _loss(self) -> float | None:
        files = [self.folder / stage / "stats.jsonl" for stage in STAGES]
        newest = next((file for file in reversed(files) if file.is_file()), None)
        losses = []
        for line in _tail(newest).splitlines()[-LOSS_STEPS:] if newest else ():
            try:
                losses.append(json.loads(line)["score"])
            except (ValueError, KeyError, TypeError):
                continue  # a line that is being written, or cut by `_tail`
        return sum(losses) / len(losses) if losses else None

    def _said(self) -> dict[str, Any]:
        try:
            return json.loads((self.folder / PROCESS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {"pid": None, "stopping": False}

    def _write_process(self, pid: int, *, stopping: bool) -> None:
        _write(self.folder / PROCESS, json.dumps({"pid": pid, "stopping": stopping}))

    def _process(self) -> psutil.Process | None:
        """The trainer at work on this run. Numbers of processes are given again: so look."""
        try:
            process = psutil.Process(self._said()["pid"])
            is_ours = str(self.folder / CONFIG) in process.cmdline()
            return process if is_ours and process.status() != psutil.STATUS_ZOMBIE else None
        except (psutil.Error, TypeError):
            return None


def plan(python: Path, config: Mapping[str, Any], files: Mapping[str, str]) -> list[list[str]]:
    """What the trainer says a merge will take.

    Returns:
        Rows of a heading and a text, ``["time", "about 1.2 s a step, 20 min in all"]``.

    Raises:
        DmmError: what the trainer refuses, in its words.
    """
    with TemporaryDirectory(prefix="dmm-plan-") as folder:
        write_config(Path(folder), config, files)
        command = [str(python), str(TRAINER), "plan", str(Path(folder, CONFIG))]
        try:
            ended = subprocess.run(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                env=_environment(),
            )
        except OSError as error:
            raise DmmError(f"{python} cannot be started: {error.strerror}.") from error
    if ended.returncode != 0:
        raise DmmError(_reason("\n".join(_log_lines(ended.stderr))))
    rows = (line.split("  ", maxsplit=1) for line in ended.stdout.splitlines())
    return [[part.strip() for part in row] for row in rows]


def write_config(folder: Path, config: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """Writes `merge.yaml`, and before it the files that it names.

    Raises:
        DmmError: the disk is full or the folder cannot be written.
    """
    with _writing(folder):
        for name, text in files.items():
            _write(folder / name, text)
        text = yaml.safe_dump(dict(config), allow_unicode=True, sort_keys=False)
        _write(folder / CONFIG, text)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DmmError(
            f"{folder} cannot be written: {error.strerror}. Make room on the disk, or mend the "
            "folder's permissions."
        ) from error


def _write(path: Path, text: str) -> None:
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def _environment() -> dict[str, str]:
    """The host's, without what would lead the trainer's Python to the host's packages."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return kept | _TQDM | {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8:backslashreplace"}


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def _log_lines(text: str) -> list[str]:
    """Lines as a terminal would show them in the end, the empty ones left out."""
    lines = re.split(r"[\r\n]+", text.replace("\x1b[A", ""))
    return [line.rstrip() for line in lines if line.strip()]


def _reason(log: str) -> str:
    """Why the trainer ended: its one message, or the last line of a traceback."""
    errors = [*_ERROR.finditer(log)]
    if errors:
        return log[errors[-1].end() :].strip()
    last = log.rpartition("\n")[2]
    if last.startswith("ModuleNotFoundError"):
        return f"The trainer's environment is not complete ({last}). {HOW_TO_INSTALL}"
    if "Traceback (most recent call last)" in log:
        return f"The trainer failed: {last}"
    return (
        "The trainer ended without a word: it was killed, or the memory was not enough. "
        "It can go on from its last saved state."
    )


HOW_TO_INSTALL = (
    "The trainer has an environment of its own, apart from the WebUI's. To make it, give this "
    f'command in a terminal, with Python 3.11 or newer: python "{ROOT / "install.py"}" trainer'
)
