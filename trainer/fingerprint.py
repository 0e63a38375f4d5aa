"""Content hashes, so that what is kept on disk can be keyed by what made it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from tqdm import tqdm


def fingerprint(*parts: object) -> str:
    """Return the SHA-256 (64 hex digits) of any values that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def tensors_fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of names, dtypes, shapes and bytes, in whichever order the file has them.

    `position_ids`, a buffer that older files carry and newer ones leave out, does not count.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        if name.endswith("position_ids"):
            continue
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def files_sha256(paths: Iterable[Path], title: str) -> str:
    """Return the SHA-256 of the files' bytes, one after the other; a bar shows where it is slow."""
    paths = list(paths)
    digest = hashlib.sha256()
    bar = tqdm(
        total=sum(path.stat().st_size for path in paths),
        desc=f"Hashing {title}",
        unit="B",
        unit_scale=True,
        delay=3,
        leave=False,
    )
    with bar:
        for path in paths:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
                    bar.update(len(block))
    return digest.hexdigest()
