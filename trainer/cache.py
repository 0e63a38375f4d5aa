"""Latents and text embeddings, computed once: nothing is encoded twice, in this run or the next."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from dmm.errors import DmmError
from trainer.buckets import Size, nearest
from trainer.checkpoint import Checkpoint
from trainer.data import Source, fit
from trainer.fingerprint import fingerprint, tensors_fingerprint
from trainer.sampling import sdxl_time_ids
from trainer.shards import STORED, Batch, Shards, batched, compute
from trainer.text import TextEmbedding, TextEncoders

UNREADABLE = "unreadable"  # in the line of a row whose picture could not be read: why
SIZES_PER_SHARD = 1 << 16  # reading a size costs a thousandth of what encoding a picture does


class Examples:
    """Training examples: latents, as the UNet sees them, with their captions.

    Args:
        parts: what they stand in, one after the other; latents in one part are of one size.
        rows: which of the parts' rows count, where not all do.
    """

    def __init__(self, parts: Sequence[Shards], rows: Sequence[int] | None = None) -> None:
        self._parts = list(parts)
        self._ends = np.cumsum([part.count for part in self._parts])
        self._rows = range(self._ends[-1]) if rows is None else np.asarray(rows)

    def __len__(self) -> int:
        return len(self._rows)

    @cached_property
    def fingerprint(self) -> str:
        """Equal for examples made from the same things in the same way."""
        folders = [part.folder.name for part in self._parts]
        return fingerprint(folders, [int(row) for row in self._rows])

    @cached_property
    def buckets(self) -> list[np.ndarray]:
        """The examples of each size, as indices; sizes in the order in which they first come."""
        shapes = [tuple(part.row("latents", 0).shape) for part in self._parts]
        numbers = {shape: number for number, shape in enumerate(dict.fromkeys(shapes))}
        bucket_of_part = np.array([numbers[shape] for shape in shapes])
        buckets = bucket_of_part[np.searchsorted(self._ends, self._rows, side="right")]
        found = (np.flatnonzero(buckets == number) for number in numbers.values())
        return [bucket for bucket in found if len(bucket)]

    def latent(self, index: int) -> Tensor:
        """Latent [c, h, w], multiplied by the VAE's scaling factor; float16."""
        part, row = self._find(index)
        return part.row("latents", row)

    def time_ids(self, index: int) -> Tensor:
        """What SDXL is told of the picture's size and crop, see `sdxl_time_ids`; int32 [6]."""
        part, row = self._find(index)
        return part.row("time_ids", row)

    def caption(self, index: int) -> str:
        part, row = self._find(index)
        return part.line(row)["caption"]

    def key(self, index: int) -> str:
        """What the picture is called in its source; "" for one that was painted."""
        part, row = self._find(index)
        return part.line(row).get("key", "")

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
    sizes: Sequence[Size],
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
        sizes: the buckets; every picture is fitted to the one nearest in shape.
        folder: the cache folder.
        device: where the VAE computes.
        dtype: in what it computes. SDXL's own VAE overflows in float16.
        batch_size: pictures at once.

    Raises:
        DmmError: no picture can be read, the checkpoint has no VAE, or its numbers overflow.
    """

    made_from = {
        "source": source.fingerprint,
        "vae": tensors_fingerprint(checkpoint.vae_tensors()),
        "scaling_factor": checkpoint.vae_config["scaling_factor"],
        "sizes": [list(size) for size in sizes],
        "dtype": str(dtype),
    }

    @functools.cache
    def vae() -> AutoencoderKL:
        return checkpoint.load_vae(dtype).to(device)

    @torch.no_grad()
    def encode(levels: Tensor) -> Tensor:
        mean = vae().encode(levels.to(device, dtype) / 127.5 - 1).latent_dist.mode()
        return mean * vae().config.scaling_factor

    buckets = nearest(_sizes(source, folder), sizes) if len(sizes) > 1 else torch.zeros(len(source))
    rows = [(buckets == number).nonzero().flatten().tolist() for number in range(len(sizes))]
    return _readable(
        [
            _cache_bucket(source, some, size, encode, batch_size, folder, made_from)
            for size, some in zip(sizes, rows, strict=True)
            if some
        ]
    )


def _sizes(source: Source, folder: Path) -> Tensor:
    """Widths and heights of the pictures, [n, 2]; 0 x 0 where one cannot be read."""

    def size(row: int) -> Size:
        try:
            return source.size(row)
        except DmmError:
            return 0, 0  # encoding it finds out, and says so

    def read(rows: range) -> Iterator[Batch]:
        with ThreadPoolExecutor() as pool:
            for batch in batched(rows, 256):
                yield {"size": torch.tensor(list(pool.map(size, batch)), dtype=torch.int32)}

    shards = compute(
        folder,
        "sizes",
        {"source": source.fingerprint},
        count=len(source),
        line=lambda row: {"key": source.keys[row]},
        batches=read,
        rows_per_shard=SIZES_PER_SHARD,
    )
    return shards.column("size")


def _cache_bucket(
    source: Source,
    rows: Sequence[int],
    size: Size,
    encode: Callable[[Tensor], Tensor],
    batch_size: int,
    folder: Path,
    made_from: Mapping[str, Any],
) -> Shards:
    """The latents of the pictures `rows`, all fitted to one size.

    Args:
        encode: latents [B, c, h, w] of levels [B, 3, height, width] from 0 to 255.
    """
    unreadable: dict[int, str] = {}

    def pixels(row: int) -> tuple[Tensor, Tensor]:
        try:
            picture = source.picture(row)
        except DmmError as error:
            unreadable[row] = str(error)
            picture = Image.new("RGB", size)  # keeps the row's place
        levels = torch.from_numpy(np.array(fit(picture, size))).permute(2, 0, 1)
        return levels, sdxl_time_ids(*size, picture.size).int()

    def line(number: int) -> dict[str, str]:
        row = rows[number]
        said = {"key": source.keys[row], "caption": source.captions[row]}
        return {**said, UNREADABLE: unreadable[row]} if row in unreadable else said

    def latents(numbers: range) -> Iterator[Batch]:
        with ThreadPoolExecutor() as pool:  # Pillow decodes without holding Python's lock
            pictures = pool.map(pixels, [rows[number] for number in numbers])
            for batch in batched(numbers, batch_size):
                levels, time_ids = zip(*islice(pictures, len(batch)), strict=True)
                encoded = encode(torch.stack(levels))
                refuse_not_finite(encoded, [source.keys[rows[number]] for number in batch])
                yield {"latents": encoded, "time_ids": torch.stack(time_ids)}

    return compute(
        folder,
        "latents",
        {**made_from, "size": list(size)},
        count=len(rows),
        line=line,
        batches=latents,
    )


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


def _readable(parts: Sequence[Shards]) -> Examples:
    """The rows whose pictures could be read."""
    lines = [part.line(row) for part in parts for row in range(part.count)]
    messages = [line[UNREADABLE] for line in lines if UNREADABLE in line]
    if not messages:
        return Examples(parts)
    if len(messages) == len(lines):
        raise DmmError(f"None of the {len(lines)} pictures can be read. {messages[0]}")
    if PartialState().is_main_process:
        more = " …" if len(messages) > 3 else ""
        warnings.warn(
            f"{len(messages)} of {len(lines)} pictures are left out: "
            f"{' '.join(messages[:3])}{more}",
            stacklevel=3,
        )
    return Examples(parts, [row for row, line in enumerate(lines) if UNREADABLE not in line])


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
