"""Rows of tensors on disk: computed shard by shard, resumable, read in any order.

What is computed stands in a folder such as `latents-3f9c…`, named by a hash of all that went in:
shards of up to 256 rows, `00000.safetensors` with the tensors and `00000.jsonl` saying what each
row is, and `index.json`. Each shard is written whole or not at all and `index.json` comes last, so
whatever stops a run costs one shard, and the next run goes on from there. Under `accelerate launch`
process k of n computes every n-th shard; all processes must see the same folder. A second run that
wants the same waits for the first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor
from tqdm import tqdm

from dmm.atomic import written_whole
from dmm.tensors import TensorFile, open_tensors, save_tensors
from trainer.claim import turn
from trainer.disk import writing
from trainer.fingerprint import fingerprint

FORMAT = 2
ROWS_PER_SHARD = 256
STORED = torch.float16

Batch = dict[str, Tensor]  # name -> some rows


class Shards:
    """The rows of one complete folder, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        self.folder = folder
        self.count: int = index["count"]
        self.rows_per_shard: int = index["rows_per_shard"]

    def row(self, name: str, index: int) -> Tensor:
        """Row `index` of the tensor `name`; float16, or whole numbers."""
        shard, row = divmod(index, self.rows_per_shard)
        return _tensors(_path(self.folder, shard))[name][row]

    def column(self, name: str) -> Tensor:
        """All rows of the tensor `name`."""
        shards = range(-(-self.count // self.rows_per_shard))
        return torch.cat([_tensors(_path(self.folder, shard))[name] for shard in shards])

    def names(self) -> set[str]:
        """The names of the tensors."""
        return set(_tensors(_path(self.folder, 0)))

    def line(self, index: int) -> dict[str, str]:
        """What was written down of row `index`."""
        shard, row = divmod(index, self.rows_per_shard)
        return _lines(_path(self.folder, shard).with_suffix(".jsonl"))[row]


def compute(
    folder: Path,
    kind: str,
    made_from: dict[str, Any],
    *,
    count: int,
    line: Callable[[int], dict[str, str]],
    batches: Callable[[range], Iterator[Batch]],
    rows_per_shard: int = ROWS_PER_SHARD,
) -> Shards:
    """Compute the shards that are missing and return the whole.

    Where several processes share the work, each has made its `accelerate.Accelerator` before.

    Args:
        folder: the cache folder.
        kind: "latents", "text", "painted" or "sizes"; the first part of the name.
        made_from: everything the tensors depend on, as JSON values.
        count: rows in all.
        line: what to write down of a row.
        batches: computes the tensors of some rows, in order, a few rows at a time.
        rows_per_shard: what is lost at most when a run is stopped.

    Raises:
        DmmError: the disk is full, or the folder cannot be written to.
    """
    key = fingerprint(FORMAT, kind, made_from, count, rows_per_shard)[:16]
    folder = folder / f"{kind}-{key}"
    index = folder / "index.json"
    if index.is_file():
        return Shards(folder)
    with turn(folder):
        if index.is_file():  # another run has computed them meanwhile
            return Shards(folder)
        state = PartialState()
        shards = list(enumerate(batched(range(count), rows_per_shard)))
        mine = shards[state.process_index :: state.num_processes]
        missing = [(shard, rows) for shard, rows in mine if not _path(folder, shard).exists()]
        total, left = (sum(len(rows) for _, rows in some) for some in (mine, missing))
        with tqdm(
            desc=f"Computing {kind}",
            total=total,
            initial=total - left,
            delay=1,
            disable=not state.is_local_main_process,
        ) as progress:
            for shard, rows in missing:
                done: list[Batch] = []
                for batch in batches(rows):
                    done.append({name: _stored(part) for name, part in batch.items()})
                    progress.update(len(next(iter(batch.values()))))
                lines = [json.dumps(line(row), ensure_ascii=False) + "\n" for row in rows]
                path = _path(folder, shard)
                _write_text(path.with_suffix(".jsonl"), "".join(lines))
                tensors = {name: torch.cat([batch[name] for batch in done]) for name in done[0]}
                save_tensors(path, tensors, {}, overwrite=True)
        state.wait_for_everyone()
        if state.is_main_process:
            content = {"count": count, "rows_per_shard": rows_per_shard, "made_from": made_from}
            _write_text(index, json.dumps({"format": FORMAT, **content}, indent=2))
        state.wait_for_everyone()
    return Shards(folder)


def batched(rows: range, size: int) -> Iterator[range]:
    """Cut `rows` into pieces of up to `size`."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _stored(part: Tensor) -> Tensor:
    return part.to("cpu", STORED if part.is_floating_point() else part.dtype)


def _path(folder: Path, shard: int) -> Path:
    return folder / f"{shard:05d}.safetensors"


@lru_cache(maxsize=1024)
def _tensors(path: Path) -> TensorFile:
    return open_tensors(path)


@lru_cache(maxsize=1024)
def _lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _write_text(path: Path, text: str) -> None:
    with writing(path), written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
