"""Dropping, reordering and renaming the styles of a merged file, without training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dmm.errors import DmmError
from dmm.merged import Styles, find_styles, read_styles
from dmm.metadata import Style, styles_metadata
from dmm.mixes import style_index
from dmm.tensors import open_tensors, save_tensors

Row = tuple[int, Style]
"""A row of the codebook as the file has it, and the style it shall be."""


def drop_styles(path: Path, names: Sequence[str], output: Path, *, overwrite: bool = False) -> None:
    """Writes `path` without some of its styles; the others paint bit for bit as before.

    Raises:
        DmmError: a name is not in the file, no style would be left, or `output` exists.
    """

    def kept(styles: Styles) -> list[Row]:
        dropped = {style_index(name, styles.names) for name in names}
        rows = [(row, style) for row, style in enumerate(styles.styles) if row not in dropped]
        if not rows:
            raise DmmError(f"{path} has no other styles than these. Keep at least one.")
        return rows

    _rewrite(path, output, kept, overwrite)


def reorder_styles(
    path: Path, names: Sequence[str], output: Path, *, overwrite: bool = False
) -> None:
    """Writes `path` with its styles in the order of `names`; those not named follow as they were.

    Raises:
        DmmError: a name is not in the file or said twice, or `output` exists.
    """

    def ordered(styles: Styles) -> list[Row]:
        first = [style_index(name, styles.names) for name in names]
        if len(set(first)) != len(first):
            raise DmmError(f"A style is named twice among {', '.join(names)}. Name each once.")
        rest = [row for row in range(len(styles.styles)) if row not in first]
        return [(row, styles.styles[row]) for row in first + rest]

    _rewrite(path, output, ordered, overwrite)


def rename_styles(
    path: Path, renames: Mapping[str, str], output: Path, *, overwrite: bool = False
) -> None:
    """Writes `path` with other names for some of its styles, by their present names.

    Raises:
        DmmError: a present name is not in the file, a new one holds a comma or is another style's
            already, or `output` exists.
    """

    def renamed(styles: Styles) -> list[Row]:
        styles_now = list(styles.styles)
        for present, new in renames.items():
            name = " ".join(new.split())
            if not name or "," in name:
                raise DmmError(
                    f"{new!r} cannot name a style: give some text without commas, which separate "
                    "styles in a mix."
                )
            row = style_index(present, styles.names)
            styles_now[row] = replace(styles_now[row], name=name)
        folded = [style.name.casefold() for style in styles_now]
        twice = {name for name in folded if folded.count(name) > 1}
        if twice:
            raise DmmError(f"Two styles would be called {twice.pop()!r}. Give each its own name.")
        return list(enumerate(styles_now))

    _rewrite(path, output, renamed, overwrite)


def _rewrite(
    path: Path, output: Path, choose: Callable[[Styles], list[Row]], overwrite: bool
) -> None:
    if path.is_dir():
        raise DmmError(f"{path} is a folder. Choose a merged checkpoint or a style file.")
    styles = read_styles(path)
    rows = choose(styles)
    file = open_tensors(path)
    codebook = find_styles(file)["model_embedding.weight"]
    save_tensors(
        output,
        {**file, codebook: file[codebook][[row for row, _ in rows]]},
        {**file.metadata, **styles_metadata([style for _, style in rows], styles.recipe)},
        overwrite=overwrite,
    )
