"""A LoRA out of a fine-tune: what it changed in its base, as well as a few ranks can say it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from dmm.errors import DmmError
from dmm.tensors import refuse_to_replace, save_tensors
from trainer.architecture import listed
from trainer.checkpoint import Checkpoint, open_checkpoint, refuse_other_architecture
from trainer.lora import host_metadata, kohya_names
from trainer.precision import DTYPES


def extract(
    tuned_path: Path,
    base_path: Path,
    rank: int,
    output: Path,
    *,
    dtype: str = "fp16",
    overwrite: bool = False,
) -> None:
    """Writes the LoRA, in kohya's spelling, that brings the base nearest to the fine-tune.

    It changes the linear and convolutional layers of UNet and text encoders. Biases, norms and
    embeddings are no matrices to be factored; a warning tells where they differ.

    Args:
        rank: of every layer's change; a layer that has less takes what it has.
        dtype: "fp16", "bf16" or "fp32", of what is written.

    Raises:
        DmmError: a file is unfit, the two are not of one architecture or do not differ, or
            `output` exists.
    """
    refuse_to_replace(output, overwrite)
    tuned, base = open_checkpoint(tuned_path), open_checkpoint(base_path)
    refuse_other_architecture(base, tuned)
    networks = [_Network(name, tuned, base) for name in _in_both(tuned, base)]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    factors: dict[str, Tensor] = {}
    left_out: list[str] = []
    size = sum(network.size for network in networks)
    with tqdm(total=size, desc="Extracting", unit="weights", unit_scale=True) as bar:
        for network in networks:
            for key, tensor in network.base.items():
                bar.update(tensor.numel())
                change = network.change(key)
                if not change.any():
                    continue
                if key not in network.layers:
                    left_out.append(key)
                    continue
                module = network.layers[key]
                down, up = low_rank(change.to(device), rank)
                factors |= {
                    f"{module}.lora_down.weight": down.to("cpu", DTYPES[dtype]),
                    f"{module}.lora_up.weight": up.to("cpu", DTYPES[dtype]),
                    f"{module}.alpha": torch.tensor(float(len(down)), dtype=DTYPES[dtype]),
                }
    if not factors:
        raise DmmError(
            f"{tuned_path} has the weights of {base_path}: there is nothing to extract. "
            "Give the fine-tune first, and its base as --base."
        )
    if left_out:
        warnings.warn(
            f"{tuned_path.name} differs from {base_path.name} in {listed(left_out)} tensors "
            "besides, which a LoRA does not hold.",
            stacklevel=2,
        )
    save_tensors(output, factors, _metadata(tuned, base, rank, output.stem), overwrite)


def low_rank(change: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The two factors whose product is nearest to a matrix (Eckart and Young, 1936).

    Args:
        change: [out, in] or [out, in, h, w], float32.

    Returns:
        down [r, in] or [r, in, h, w], and up [out, r] or [out, r, 1, 1], with r at most `rank`,
        in float32. Each rank's share is spread evenly over both, which suits half precision.
    """
    matrix = change.flatten(1).double()
    rank = min(rank, *matrix.shape)
    # The singular vectors of the shorter side are the eigenvectors of its Gram matrix, several
    # times sooner than by an SVD; double precision makes up for the squaring.
    tall = matrix.shape[0] > matrix.shape[1]
    if tall:
        matrix = matrix.T
    _, vectors = torch.linalg.eigh(matrix @ matrix.T)
    left = vectors[:, -rank:].flip(1)
    right = left.T @ matrix
    scale = right.norm(dim=1).sqrt().clamp(min=1e-6)  # what is 0 stays so
    left, right = left * scale, right / scale[:, None]
    up, down = (right.T, left.T) if tall else (left, right)
    ones = (1,) * (change.ndim - 2)
    return down.reshape(-1, *change.shape[1:]).float(), up.reshape(*up.shape, *ones).float()


class _Network:
    """A network of both checkpoints.

    Attributes:
        layers: the weights that a LoRA can change -> their modules in kohya's spelling.
    """

    def __init__(self, name: str, tuned: Checkpoint, base: Checkpoint) -> None:
        self.tuned, self.base = (file.networks[name].tensors for file in (tuned, base))
        self.path = tuned.path
        modules = kohya_names(name, self.base, base.family)
        self.layers = {
            key: module
            for key, module in modules.items()
            if self.base[key].ndim > 1 and ".embeddings." not in key
        }

    @property
    def size(self) -> int:
        return sum(tensor.numel() for tensor in self.base.values())

    def change(self, key: str) -> Tensor:
        """The difference of one tensor, in float32."""
        change = self.tuned[key].float() - self.base[key].float()
        if not change.isfinite().all():
            raise DmmError(
                f"{key} holds infinities or no numbers (NaN) in {self.path} or in its base. Get "
                "the files again, or a version of them in fp32 or bf16."
            )
        return change


def _in_both(tuned: Checkpoint, base: Checkpoint) -> list[str]:
    """The networks to compare: the UNet, and the text encoders where both have them."""
    names = [name for name in base.networks if name != "vae" and name in tuned.networks]
    for name in names:
        if name != "unet" and tuned.networks[name].config != base.networks[name].config:
            raise DmmError(
                f"{tuned.path} has another text encoder than {base.path}. Both must share one "
                "architecture."
            )
    return names


def _metadata(tuned: Checkpoint, base: Checkpoint, rank: int, title: str) -> Mapping[str, str]:
    return {
        **host_metadata(base.family, base.source, rank),
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.title": title,
        "modelspec.date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "modelspec.description": f"What {tuned.source} changes in {base.source}, in rank {rank}.",
    }
