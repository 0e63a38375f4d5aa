"""Latents and text embeddings, computed once: nothing is encoded twice, in this run or the next."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from dmm.errors import DmmError
from trainer.checkpoint import Checkpoint
from trainer.data import Source, fit
from trainer.fingerprint import fingerprint, tensors_fingerprint
from trainer.shards import STORED, Batch, Shards, batched, compute
from trainer.text import TextEmbedding, TextEncoders

UNREADABLE = "unreadable"  # in the line of a row whose picture could not be read: why


class Examples:
    """Training examples: latents, as the UNet sees them, with their captions.

    Args:
        parts: what they stand in, one after the other.
        rows: which of the parts' rows count, where not all do.
    """

    def __init__(self, parts: Sequence[Shards], rows: Sequence[int] | None = None) -> None:
        self._parts = list(parts)
        self._ends = np.cumsum([part.count for part in self._parts])
        self._rows = range(self._ends[-1]) if rows is None else np.asarray(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def latent(self, index: int) -> Tensor:
        """Latent [c, h, w], multiplied by the VAE's scaling factor; float16."""
        part, row = self._find(index)
        return part.row("latents", row)

    def caption(self, index: int) -> str:
        part, row = self._find(index)
        return part.line(row)["caption"]

    def _find(self, index: int) -> tuple[Shards, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        row = int(self._rows[index])
        number = int(np.searchsorted(self._ends, row, side="right"))
        part = self._parts[number]
        return part, row - int(self._ends[number]) + part.count


class TextCache:
    """Embeddings of captions by the text encoders of one checkpoint; "" is always among them."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._rows = {shards.line(row)["caption"]: row for row in range(shards.count)}
        self._pooled = "pooled" in shards.names()

    def lookup(self, captions: Sequence[str]) -> TextEmbedding:
        """Embeddings on the CPU, in float16. Raises KeyError for a caption never embedded."""
        rows = [self._rows[caption] for caption in captions]
        pooled = self._stack("pooled", rows) if self._pooled else None
        return TextEmbedding(self._stack("hidden", rows), pooled)

    def _stack(self, name: str, rows: list[int]) -> Tensor:
        return torch.stack([self._shards.row(name, row) for row in rows])


def cache_latents(
    source: Source,
    checkpoint: Checkpoint,
    resolution: tuple[int, int],
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    batch_size: int = 8,
) -> Examples:
    """Encode the pictures of `source` with a checkpoint's VAE, unless that was done before.

    Pictures that cannot be read are left out, with a warning.

    Args:
        source: the pictures and their captions.
        checkpoint: whose VAE; the latent is its mean, without noise.
        resolution: width and height, in pixels, that every picture is fitted to.
        folder: the cache folder.
        device: where the VAE computes.
        dtype: in what it computes. SDXL's own VAE overflows in float16.
        batch_size: pictures at once.

    Raises:
        DmmError: no picture can be read, the checkpoint has no VAE, or its numbers overflow.
    """

    @functools.cache
    def vae() -> AutoencoderKL:
        return checkpoint.load_vae(dtype).to(device)

    unreadable: dict[int, str] = {}

    def pixels(row: int) -> Tensor:
        try:
            picture = source.picture(row)
        except DmmError as error:
            unreadable[row] = str(error)
            picture = Image.new("RGB", resolution)  # keeps the row's place
        return torch.from_numpy(np.array(fit(picture, resolution))).permute(2, 0, 1)

    def line(row: int) -> dict[str, str]:
        said = {"key": source.keys[row], "caption": source.captions[row]}
        return {**said, UNREADABLE: unreadable[row]} if row in unreadable else said

    @torch.no_grad()
    def encode(rows: range) -> Iterator[Batch]:
        with ThreadPoolExecutor() as pool:  # Pillow decodes without holding Python's lock
            pictures = pool.map(pixels, rows)
            for batch in batched(rows, batch_size):
                levels = torch.stack(list(islice(pictures, len(batch)))).to(device, dtype)
                mean = vae().encode(levels / 127.5 - 1).latent_dist.mode()
                latents = mean * vae().config.scaling_factor
                refuse_not_finite(latents, [source.keys[row] for row in batch])
                yield {"latents": latents}

    made_from = {
        "source": source.fingerprint,
        "vae": tensors_fingerprint(checkpoint.vae_tensors()),
        "scaling_factor": checkpoint.vae_config["scaling_factor"],
        "resolution": list(resolution),
        "dtype": str(dtype),
    }
    shards = compute(
        folder,
        "latents",
        made_from,
        count=len(source),
        line=line,
        batches=encode,
    )
    return _readable(shards)


def cache_text(
    encoders: TextEncoders, captions: Iterable[str], folder: Path, *, batch_size: int = 32
) -> TextCache:
    """Embed each different caption, and "", unless that was done before.

    Args:
        encoders: checkpoints with the same text encoders share what is computed.
        captions: any number, in any order, with repetitions.
        folder: the cache folder.
        batch_size: captions at once.
    """
    unique = sorted({"", *captions})

    def encode(rows: range) -> Iterator[Batch]:
        for batch in batched(rows, batch_size):
            texts = [unique[row] for row in batch]
            embedding = encoders.encode(texts)
            refuse_not_finite(embedding.hidden, texts)
            pooled = {} if embedding.pooled is None else {"pooled": embedding.pooled}
            yield {"hidden": embedding.hidden, **pooled}

    made_from = {
        "encoders": encoders.fingerprint,
        "captions": fingerprint(unique),
        "dtype": str(encoders.dtype),
    }
    shards = compute(
        folder,
        "text",
        made_from,
        count=len(unique),
        line=lambda row: {"caption": unique[row]},
        batches=encode,
    )
    encoders.release()
    return TextCache(shards)


def _readable(shards: Shards) -> Examples:
    """The rows whose pictures could be read."""
    lines = [shards.line(row) for row in range(shards.count)]
    messages = [line[UNREADABLE] for line in lines if UNREADABLE in line]
    if not messages:
        return Examples([shards])
    if len(messages) == shards.count:
        raise DmmError(f"None of the {shards.count} pictures can be read. {messages[0]}")
    if PartialState().is_main_process:
        more = " …" if len(messages) > 3 else ""
        warnings.warn(
            f"{len(messages)} of {shards.count} pictures are left out: "
            f"{' '.join(messages[:3])}{more}",
            stacklevel=3,
        )
    return Examples([shards], [row for row, line in enumerate(lines) if UNREADABLE not in line])


def refuse_not_finite(rows: Tensor, names: Sequence[str]) -> None:
    """Stop where half precision overflowed: nobody should train on the result.

    Raises:
        DmmError: a row, as it would be stored, holds NaN or infinity.
    """
    finite = rows.to(STORED).isfinite().flatten(1).all(dim=1).tolist()
    if not all(finite):
        raise DmmError(
            f"{names[finite.index(False)]!r} gave NaN or infinite numbers in {rows.dtype}. "
            "Compute in float32 or bfloat16; if it still does, the checkpoint is damaged."
        )
