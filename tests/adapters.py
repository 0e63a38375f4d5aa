"""Adapters with random weights, as a merge writes them, for the hosts' tests."""

from __future__ import annotations

from pathlib import Path

import torch

from dmm.merged import Styles
from dmm.metadata import merged_metadata
from dmm.tensors import save_tensors


def write_adapter(path: Path, base: Path, styles: Styles, *, rank: int = 4, seed: int = 0) -> Path:
    """Writes an adapter on every layer of the base's UNet, strong enough to be seen."""
    from trainer.adapter import LowRank, add_adapter, lora_tensors
    from trainer.checkpoint import open_checkpoint
    from trainer.config import Adapter
    from trainer.lora import host_metadata

    checkpoint = open_checkpoint(base)
    unet = checkpoint.load_unet()
    add_adapter(unet, Adapter(rank=rank))
    generator = torch.Generator().manual_seed(seed)
    for module in unet.modules():
        if isinstance(module, LowRank):
            factor = module.up.weight
            # Each layer's outputs change by about a tenth of their size.
            factor.data = torch.randn(factor.shape, generator=generator) / (10 * rank**0.5)
    recipe = {"base": {"path": base.name, "sha256": checkpoint.sha256}}
    metadata = merged_metadata(
        styles.styles,
        recipe,
        family=styles.family,
        title=path.stem,
        resolution=(64, 64),
        prediction_type="epsilon",
    )
    tensors = lora_tensors(unet, checkpoint.family) | styles.tensors()
    save_tensors(path, tensors, metadata | host_metadata(styles.family, base.name, rank))
    return path
