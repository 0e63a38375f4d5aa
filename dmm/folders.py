"""The folder of a network in the diffusers layout: which of its files hold the weights."""

from __future__ import annotations

import json
from pathlib import Path

from dmm.errors import DmmError


def weight_files(folder: Path) -> list[Path]:
    """The files of weights: safetensors first, full precision first; none where there are none.

    Raises:
        DmmError: the weights are in several files, and the index of these cannot be read.
    """
    for suffix in (".safetensors", ".bin"):
        for variant in ("", ".fp16"):
            for name in ("diffusion_pytorch_model", "model", "pytorch_model"):
                whole = folder / f"{name}{variant}{suffix}"
                index = folder / f"{name}{suffix}.index{variant}.json"
                if whole.is_file():
                    return [whole]
                if index.is_file():
                    return _shards(index)
    return []


def _shards(index: Path) -> list[Path]:
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DmmError(f"{index} cannot be read as JSON: {error}. Get the folder again.") from error
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise DmmError(f"{index} names no files of weights. Download or copy the folder again.")
    # By their names alone: a stranger's index leads nowhere else.
    names = {Path(str(name)).name for name in weight_map.values()}
    return [index.parent / name for name in sorted(names)]
