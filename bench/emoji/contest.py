"""What every method is given, and what it hands back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.emoji.sizes import Size
from trainer.checkpoint import Checkpoint, open_checkpoint
from trainer.teachers import Teacher


@dataclass(frozen=True)
class Contest:
    """The task: the styles of these teachers out of one file.

    Attributes:
        base: what the teachers were fine-tuned from.
        teachers: files by style.
        seen, unseen: files of prompts that the teachers were trained on, and of others.
        folder: where methods work, and what is painted is kept.
        seed: of whatever a method draws.
    """

    size: Size
    base: Path
    teachers: Mapping[str, Path]
    seen: Path
    unseen: Path
    folder: Path
    seed: int = 0

    @property
    def styles(self) -> list[str]:
        return list(self.teachers)

    def work(self, name: str) -> Path:
        """A folder for what one method makes of these styles by this seed."""
        words = name.replace(", ", "-").replace(" ", "-")
        folder = self.folder / f"{len(self.styles)}-styles" / words / str(self.seed)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @cached_property
    def opened_base(self) -> Checkpoint:
        return open_checkpoint(self.base)

    @cached_property
    def opened(self) -> dict[str, Checkpoint]:
        """The teachers by style."""
        return {style: open_checkpoint(path) for style, path in self.teachers.items()}


@dataclass(frozen=True)
class Artist:
    """Who paints one style.

    Attributes:
        style: which of the teacher's styles.
        words: added to each prompt.
    """

    teacher: Teacher
    style: int = 0
    words: str = ""


@dataclass(frozen=True)
class Entry:
    """What a method made of the teachers.

    Attributes:
        artists: one a style, in the contest's order.
        files: all that has to be kept to paint every style.
        change: what it takes to paint in a style, given its number; None where styles cannot be
            changed.
        seconds, samples, unet_evaluations: what making it took; see `trainer.evaluate.cost.Cost`.
        painting_evaluations: those among them that went into painting the data.
        peak_bytes: the most memory that making it took, where that was measured.
        config: what it was made with.
    """

    artists: Sequence[Artist]
    files: Sequence[Path]
    change: Callable[[int], object] | None = None
    seconds: float = 0.0
    samples: int = 0
    unet_evaluations: int = 0
    painting_evaluations: int = 0
    peak_bytes: int | None = None
    config: Mapping[str, Any] | None = None


def as_teacher(checkpoint: Checkpoint) -> Teacher:
    """A plain checkpoint as one who paints in one style."""
    return Teacher(checkpoint, checkpoint.prediction_type, None, (0,))
