"""Who paints against whom: each style of a merged checkpoint and the teacher it learned from."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dmm.errors import DmmError
from dmm.merged import Styles, styles_from
from dmm.metadata import Style
from trainer.checkpoint import Checkpoint, open_checkpoint, refuse_other_architecture
from trainer.config_file import load_config
from trainer.opening import open_ingredients
from trainer.teachers import Teacher

HASH_DIGITS = 10  # as the WebUI shows hashes


@dataclass(frozen=True)
class Contestants:
    """A merged checkpoint and teachers of its styles.

    Attributes:
        student: the merged checkpoint, as a teacher of all its styles.
        rows: of the codebook: the styles that have a teacher here.
        teachers: theirs, in the same order.
    """

    checkpoint: Checkpoint
    styles: Styles
    student: Teacher
    rows: tuple[int, ...]
    teachers: tuple[Teacher, ...]

    @property
    def names(self) -> list[str]:
        """Of the styles that have a teacher here."""
        return [self.styles.names[row] for row in self.rows]


def open_contestants(
    merged: Path, files: Sequence[str] = (), config: Path | None = None
) -> Contestants:
    """Opens a merged checkpoint and its teachers.

    Args:
        files: the teachers' paths, or "style=path" where a file is to stand for a style.
        config: the merge's own YAML file, which knows LoRAs, clip skip and prediction types too.

    Raises:
        DmmError: no teacher fits a style, two fit one, or a teacher is of another architecture.
    """
    checkpoint = open_checkpoint(merged)
    styles = styles_from(checkpoint.styles, checkpoint.metadata, merged)
    if checkpoint.vae_config is None or not checkpoint.text_encoder_configs:
        raise DmmError(
            f"{merged} has no VAE or no text encoder, so it cannot paint by itself. Evaluate the "
            "whole merged checkpoint, not its style file."
        )
    candidates = _from_config(config) if config else [_opened(word, styles) for word in files]
    if not candidates:
        raise DmmError(
            "There are no teachers to compare with: give their files after --teachers, or the "
            "YAML file of the merge by --config."
        )
    for candidate in candidates:
        refuse_other_architecture(checkpoint, candidate.teacher.checkpoint)
    matched = _match(candidates, styles.styles)
    missing = [style.name for row, style in enumerate(styles.styles) if row not in matched]
    if missing:
        warnings.warn(
            f"There is no teacher here for {', '.join(missing)}, so the trace is over the other "
            f"{len(matched)} of {len(styles.names)} styles.",
            stacklevel=2,
        )
    rows = tuple(sorted(matched))
    everything = tuple(range(len(styles.names)))
    student = Teacher(checkpoint, checkpoint.prediction_type, None, everything, styles.prompts)
    return Contestants(checkpoint, styles, student, rows, tuple(matched[row] for row in rows))


@dataclass(frozen=True)
class _Candidate:
    teacher: Teacher
    name: str  # what its style may be called
    meant: int | None = None  # the style that the user said it stands for


def _opened(word: str, styles: Styles) -> _Candidate:
    name, equals, path = word.partition("=")
    folded = [known.casefold() for known in styles.names]
    meant = folded.index(name.casefold()) if equals and name.casefold() in folded else None
    checkpoint = open_checkpoint(Path(path if meant is not None else word))
    return _candidate(Teacher(checkpoint, checkpoint.prediction_type, None, (0,)), meant=meant)


def _from_config(config: Path) -> list[_Candidate]:
    ingredients = open_ingredients(load_config(config))
    return [
        _candidate(teacher, ingredients.names[teacher.styles[0]])
        for teacher in ingredients.teachers
        if teacher.prompts is None  # not the former self of an extended checkpoint
    ]


def _candidate(teacher: Teacher, name: str | None = None, meant: int | None = None) -> _Candidate:
    if not teacher.checkpoint.text_encoder_configs:
        raise DmmError(
            f"{teacher.checkpoint.path} has no text encoder, so it cannot paint as it did when it "
            "taught. Choose the full checkpoint."
        )
    return _Candidate(teacher, name or teacher.checkpoint.path.stem, meant)


def _match(candidates: Sequence[_Candidate], styles: Sequence[Style]) -> dict[int, Teacher]:
    """Teachers by row: as the user said, else by SHA-256, else by name with a warning."""
    matched: dict[int, Teacher] = {}
    for candidate in candidates:
        checkpoint = candidate.teacher.checkpoint
        row = candidate.meant
        if row is None:
            row = _row_by_hash(checkpoint, styles)
        if row is None:
            row = _row_by_name(candidate, styles)
        if row is None:
            known = ", ".join(f"{style.name} ({_said(style)})" for style in styles)
            warnings.warn(
                f"{checkpoint.path} (sha256 {checkpoint.sha256[:HASH_DIGITS]}) is none of this "
                f"checkpoint's teachers and is left out. They are: {known}. To compare a style "
                "with it all the same, write style=path.",
                stacklevel=3,
            )
            continue
        if row in matched:
            raise DmmError(
                f"{matched[row].checkpoint.path} and {checkpoint.path} both stand for the style "
                f"{styles[row].name!r}. Leave one of them out."
            )
        if styles[row].sha256 not in ("", checkpoint.sha256):
            warnings.warn(
                f"{checkpoint.path} (sha256 {checkpoint.sha256[:HASH_DIGITS]}) is compared with "
                f"the style {styles[row].name!r}, which was learned from another file: "
                f"{_said(styles[row])}.",
                stacklevel=3,
            )
        matched[row] = candidate.teacher
    if not matched:
        raise DmmError(
            "None of the files is a teacher of this checkpoint. Give the files it was merged "
            "from, or write style=path to say which style each is to be compared with."
        )
    return matched


def _row_by_hash(checkpoint: Checkpoint, styles: Sequence[Style]) -> int | None:
    hashes = [style.sha256 for style in styles]
    return hashes.index(checkpoint.sha256) if checkpoint.sha256 in hashes else None


def _row_by_name(candidate: _Candidate, styles: Sequence[Style]) -> int | None:
    for row, style in enumerate(styles):
        is_named = candidate.name.casefold() == style.name.casefold()
        if is_named or candidate.teacher.checkpoint.source == style.source:
            return row
    return None


def _said(style: Style) -> str:
    return f"{style.source or 'a file'}, sha256 {style.sha256[:HASH_DIGITS] or 'unknown'}"
