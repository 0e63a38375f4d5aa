"""A LoRA that the trainer extracted, on the real ComfyUI: it paints as the fine-tune does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dmm.tensors import open_tensors, save_tensors
from tests.comfyui.checkpoints import write_checkpoint

pytest.importorskip("diffusers", reason="the trainer needs diffusers")

RANK = 4


def fine_tune(path: Path, base: Path) -> Path:
    """Changes every matrix and convolution of the UNet by one of rank 4."""
    generator = torch.Generator().manual_seed(0)
    tensors = dict(open_tensors(base))
    for key, tensor in tensors.items():
        if tensor.ndim > 1:
            rows, columns = tensor.flatten(1).shape
            left = torch.randn(rows, RANK, generator=generator)
            change = left @ torch.randn(RANK, columns, generator=generator)
            tensors[key] = tensor + change.reshape(tensor.shape) * tensor.std() / 10
    save_tensors(path, tensors, {})
    return path


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_paints_as_the_fine_tune(comfyui, family: str) -> None:
    from trainer.extract import extract

    folder, name = comfyui.checkpoints, f"{family}_extracted.safetensors"
    base = write_checkpoint(
        folder / f"{family}_base.safetensors", family=family, dtype=torch.float32
    )
    tuned = fine_tune(folder / f"{family}_tuned.safetensors", base)
    extract(tuned, base, RANK, comfyui.base / "models" / "loras" / name, dtype="fp32")

    def paint(checkpoint: Path, lora: str | None = None) -> torch.Tensor:
        graph = comfyui.graph()
        model = graph.add("CheckpointLoaderSimple", ckpt_name=checkpoint.name).MODEL
        if lora:
            model = graph.add(
                "LoraLoaderModelOnly", model=model, lora_name=lora, strength_model=1.0
            )
        return comfyui.latent(graph, graph.sample(model, family=family))

    wanted, said_before = paint(tuned), len(comfyui.log())
    apart = (paint(base) - wanted).abs().max()
    assert (paint(base, name) - wanted).abs().max() < 0.01 * apart
    assert "lora key not loaded" not in comfyui.log()[said_before:]
