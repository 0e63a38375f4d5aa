"""Weighted merging: the mean of checkpoints' weights, the baseline of every merger."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from dmm.computed import Computed
from dmm.errors import DmmError
from dmm.layouts import single_file_tensors
from dmm.metadata import inherited, modelspec
from dmm.tensors import refuse_to_replace, save_tensors
from trainer.checkpoint import Checkpoint, open_checkpoint, refuse_other_architecture
from trainer.precision import DTYPES


def mean(
    models: Sequence[Mapping[str, Tensor]], weights: Sequence[float] | None = None
) -> Computed:
    """Σ w_i W_i / Σ w_i over several models' tensors, in float32, computed as they are read."""
    weights = weights or [1.0] * len(models)
    total = math.fsum(weights)

    def read(key: str) -> Tensor:
        averaged = torch.zeros(models[0][key].shape)
        for model, weight in zip(models, weights, strict=True):
            averaged.add_(model[key].float(), alpha=weight / total)
        return averaged

    return Computed(models[0], read)


def average(
    paths: Sequence[Path],
    output: Path,
    weights: Sequence[float] | None = None,
    *,
    dtype: str = "fp16",
    overwrite: bool = False,
) -> None:
    """Writes the weighted mean of UNets and text encoders; the VAE is the first checkpoint's.

    Holds one tensor at a time in memory.

    Args:
        weights: one a checkpoint, divided by their sum; None = all alike.
        dtype: "fp16", "bf16" or "fp32", of what is written.

    Raises:
        DmmError: a file or weight is unfit, they are not of one architecture, or `output` exists.
    """
    refuse_to_replace(output, overwrite)
    weights = list(weights or [1.0] * len(paths))
    _refuse_weights(paths, weights)
    checkpoints = [open_checkpoint(path) for path in paths]
    first = checkpoints[0]
    for checkpoint in checkpoints:
        _refuse_misfit(first, checkpoint)
    text_encoders = range(len(first.text_encoder_configs))
    tensors = single_file_tensors(
        first.family,
        mean([file.unet_tensors() for file in checkpoints], weights),
        first.vae_tensors() if first.vae_config else None,
        [
            mean([file.text_encoder_tensors(index) for file in checkpoints], weights)
            for index in text_encoders
        ],
    )
    shapes = single_file_tensors(
        first.family,
        _without_values(first.unet_tensors()),
        _without_values(first.vae_tensors()) if first.vae_config else None,
        [_without_values(first.text_encoder_tensors(index)) for index in text_encoders],
    )

    def written(key: str) -> Tensor:
        bar.update()
        return tensors[key].to(DTYPES[dtype])

    with tqdm(total=len(shapes), desc="Averaging", unit="tensor") as bar:
        save_tensors(
            output,
            Computed(tensors, written),
            _metadata(checkpoints, weights, output.stem),
            overwrite,
            kinds={key: (tuple(tensor.shape), DTYPES[dtype]) for key, tensor in shapes.items()},
        )


def parse_weights(text: str) -> list[float]:
    """Reads "0.7, 0.3" or "0.7 0.3".

    Raises:
        DmmError: a part is no number.
    """
    try:
        return [float(part) for part in text.replace(",", " ").split()]
    except ValueError as error:
        raise DmmError(
            f"The weights {text!r} are not numbers. Write them as '0.7, 0.3'."
        ) from error


def _without_values(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: torch.empty_like(tensor, device="meta") for key, tensor in tensors.items()}


def _refuse_weights(paths: Sequence[Path], weights: Sequence[float]) -> None:
    said = ", ".join(f"{weight:g}" for weight in weights)
    if len(paths) < 2:
        raise DmmError("An average is made of two checkpoints or more. Name another.")
    if len(weights) != len(paths):
        raise DmmError(
            f"{len(paths)} checkpoints need as many weights, not {len(weights)} ({said}). Give "
            "each one, in their order, in one text: '0.7, 0.3'."
        )
    if any(not math.isfinite(weight) or weight < 0 for weight in weights) or not any(weights):
        raise DmmError(
            f"The weights {said} have no mean. Give numbers of 0 or more, not all of them 0."
        )


def _refuse_misfit(first: Checkpoint, other: Checkpoint) -> None:
    refuse_other_architecture(first, other)
    if other.styles:
        raise DmmError(
            f"{other.path} is a merged checkpoint, whose styles have no average. Choose plain "
            "checkpoints, or add to its styles with `extend`."
        )
    if other.prediction_type != first.prediction_type:
        raise DmmError(
            f"{other.path} predicts {other.prediction_type}, {first.path} "
            f"{first.prediction_type}: their mean would predict neither. Average checkpoints that "
            "predict alike; `merge` takes both."
        )
    for index, config in enumerate(first.text_encoder_configs):
        other.text_encoder_tensors(index)  # says so where it was stripped of it
        if other.text_encoder_configs[index] != config:
            raise DmmError(
                f"{other.path} has another text encoder than {first.path}. Both must share one "
                "architecture."
            )


def _metadata(
    checkpoints: Sequence[Checkpoint], weights: Sequence[float], title: str
) -> dict[str, str]:
    """As the WebUI's own merger writes it: the recipe, and all ancestors by their hashes."""
    first = checkpoints[0]
    ancestors: dict[str, Any] = {}
    for checkpoint in checkpoints:
        own = {"name": checkpoint.source}
        if "sd_merge_recipe" in checkpoint.metadata:
            own["sd_merge_recipe"] = _json(checkpoint.metadata["sd_merge_recipe"])
        ancestors |= {checkpoint.sha256: own}
        former = _json(checkpoint.metadata.get("sd_merge_models", "{}"))
        ancestors |= former if isinstance(former, dict) else {}
    recipe = {
        "type": "average",
        "models": [
            {"name": checkpoint.source, "sha256": checkpoint.sha256, "weight": weight}
            for checkpoint, weight in zip(checkpoints, weights, strict=True)
        ],
    }
    return {
        **modelspec(first.family, title, None, first.prediction_type),
        **inherited(first.metadata, "modelspec.resolution"),
        "modelspec.merged_from": ", ".join(checkpoint.source for checkpoint in checkpoints),
        "sd_merge_recipe": json.dumps(recipe),
        "sd_merge_models": json.dumps(ancestors),
    }


def _json(text: str) -> Any:
    """A stranger's JSON; the text itself where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
