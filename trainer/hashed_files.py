"""Files that a run reads for as long as it lasts, watched for others who write into them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from dmm.errors import DmmError
from trainer.fingerprint import files_sha256


class HashedFiles:
    """Files that a long run reads again and again, and that nobody may write into meanwhile.

    One that is removed, or another put in its place, does no harm: what was opened stays readable.
    """

    def __init__(self, paths: Iterable[Path], title: str) -> None:
        self._paths, self._title = list(paths), title
        self._marks: list[Mark] = []  # as they were when they were hashed

    @cached_property
    def sha256(self) -> str:
        """Of the files' bytes, one after the other. Taken once; from then on they are watched."""
        self._marks = self._marks_now()
        return files_sha256(self._paths, self._title)

    def refuse_changed(self) -> None:
        """Check that they hold what was hashed; they are hashed again only where times differ.

        Raises:
            DmmError: they do not.
        """
        if not self._marks:
            return
        marks = self._marks_now()
        if marks == self._marks or _identities(marks) != _identities(self._marks):
            return
        if files_sha256(self._paths, self._title) != self.sha256:
            changed = zip(self._paths, marks, self._marks, strict=True)
            names = ", ".join(str(path) for path, now, then in changed if now != then)
            raise DmmError(
                f"{names} was changed by another program after this run had opened it. Put the "
                "file that was there back and run the same command again: it goes on from the "
                "last saved state. To merge the new file, begin anew with another `output`."
            )
        self._marks = marks

    def _marks_now(self) -> list[Mark]:
        return [_mark(path) for path in self._paths]


Mark = tuple[int, ...] | None
"""By what a file is known (device and number), and what writing into it changes."""


def _identities(marks: list[Mark]) -> list[Mark]:
    return [mark and mark[:2] for mark in marks]


def _mark(path: Path) -> Mark:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
