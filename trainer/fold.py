"""An adapter and its base: one file of styles on a checkpoint, or both folded into one."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

from dmm.errors import DmmError
from dmm.layouts import Renamed, Source, single_file_tensors
from dmm.merged import find_styles, is_adapter, read_styles, write_merged
from dmm.metadata import SAMPLING, inherited, merged_metadata
from dmm.tensors import open_tensors, refuse_to_replace
from trainer.checkpoint import Checkpoint, open_checkpoint
from trainer.lora import open_lora, with_loras
from trainer.precision import DTYPES


def open_adapter(path: Path, base_path: Path) -> Checkpoint:
    """An adapter on a base, which the rest of the trainer takes for a merged checkpoint.

    A base that is not the one it was trained on is warned of: its relatives often do.

    Raises:
        DmmError: a file is unfit, or the adapter does not fit the base.
    """
    file = open_tensors(path)
    if not is_adapter(file):
        raise DmmError(
            f"{path} is no adapter: that is a LoRA with styles in it, made by a merge with "
            "`train.adapter`. Leave --base out for a merged checkpoint."
        )
    base, styles = open_checkpoint(base_path), read_styles(path)
    where = find_styles(file)
    changed = with_loras(base, [open_lora(path, besides=where.values())])
    own = styles.recipe.get("base")
    if isinstance(own, dict) and own.get("sha256") != base.sha256:
        warnings.warn(
            f"{path.name} was trained on {own.get('path')}, whose hash is another than that of "
            f"{base_path.name}: the styles may come out otherwise.",
            stacklevel=2,
        )
    tensors = Renamed(file, {name: Source((key,)) for name, key in where.items()})
    return replace(changed, path=path, styles=tensors, metadata=file.metadata)


def fold(
    path: Path, base_path: Path, output: Path, *, dtype: str = "fp16", overwrite: bool = False
) -> None:
    """Writes the merged checkpoint that the adapter makes of its base.

    Args:
        dtype: "fp16", "bf16" or "fp32", of what is written.

    Raises:
        DmmError: as `open_adapter`, or `output` exists.
    """
    refuse_to_replace(output, overwrite)
    merged, styles = open_adapter(path, base_path), read_styles(path)
    tensors = single_file_tensors(
        merged.family,
        merged.unet_tensors(),
        merged.vae_tensors() if merged.vae_config else None,
        [merged.text_encoder_tensors(index) for index in range(len(merged.text_encoder_configs))],
    )
    metadata = merged_metadata(
        styles.styles,
        styles.recipe,
        family=styles.family,
        title=output.stem,
        resolution=None,
        prediction_type=merged.prediction_type,
    )
    kept = inherited(merged.metadata, "modelspec.resolution", SAMPLING)
    write_merged(output, tensors, styles, metadata | kept, dtype=DTYPES[dtype], overwrite=overwrite)
