"""Files of named tensors: opened lazily and checked, written whole or not at all."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dmm.atomic import written_whole
from dmm.errors import DmmError

DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
"""How a `.safetensors` header spells each dtype."""

DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}

Kind = tuple[tuple[int, ...], torch.dtype]
"""Shape and dtype of a tensor."""

TENSOR_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")

# What os.write says when there is no room: full disk, spent quota, file too large for the file
# system (4 GB on FAT32).
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class TensorFile(Mapping[str, Tensor]):
    """The tensors of one file by name. Nothing is read before it is asked for.

    A tensor comes back on the CPU, in the file's dtype, memory-mapped: changing it in place changes
    neither the file nor what the next reader sees on disk.
    """

    def __init__(
        self,
        path: Path,
        metadata: Mapping[str, str],
        headers: Mapping[str, Kind],
        read: Callable[[str], Tensor],
    ) -> None:
        self.path = path
        self.metadata = dict(metadata)
        self._headers = headers
        self._read = read

    def __getitem__(self, key: str) -> Tensor:
        if key not in self._headers:
            raise KeyError(key)
        return self._read(key)

    def __contains__(self, key: object) -> bool:
        return key in self._headers

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        return self._headers[key][0]

    def dtype(self, key: str) -> torch.dtype:
        """Dtype of a tensor, without reading it."""
        return self._headers[key][1]


def open_tensors(path: str | os.PathLike[str]) -> TensorFile:
    """Open a file of tensors; its content, not its name, tells the format.

    `.safetensors` is read as such. `.ckpt`, `.pt`, `.pth` and `.bin` go through
    `torch.load(weights_only=True)`, which runs no code; a "state_dict" inside is unwrapped and
    whatever is no tensor is left out.

    Raises:
        DmmError: the file is missing, broken, or is not a file of tensors.
    """
    path = Path(path)
    if path.is_dir():
        raise DmmError(f"{path} is a folder; a file of tensors ({_suffixes()}) is needed here.")
    if not path.is_file():
        raise DmmError(f"{path} does not exist.{_similar(path)}")
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise DmmError(f"{path} cannot be read: {error.strerror}.") from error
    _refuse_stand_ins(path, head)
    # A .safetensors file starts with a length, whose bytes may be those of a pickle; the brace
    # behind it cannot.
    if head[8:9] != b"{" and head.startswith((b"PK", b"\x80")):
        return _open_pickle(path)
    return _open_safetensors(path)


def _open_safetensors(path: Path) -> TensorFile:
    try:
        file = safe_open(path, framework="pt")
        keys = list(file.keys())
        slices = {key: file.get_slice(key) for key in keys}
        stored = {key: (tuple(part.get_shape()), part.get_dtype()) for key, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise DmmError(f"{path} {_what_is_wrong(path)} ({error})") from error
    unknown = {dtype for _, dtype in stored.values()} - DTYPES.keys()
    if unknown:
        raise DmmError(
            f"{path} stores numbers as {', '.join(sorted(unknown))}, which cannot be read here. "
            "Use a version of the file in fp16, bf16 or fp32."
        )
    headers = {key: (shape, DTYPES[dtype]) for key, (shape, dtype) in stored.items()}
    return TensorFile(path, file.metadata() or {}, headers, file.get_tensor)


def _open_pickle(path: Path) -> TensorFile:
    try:
        content = _load_weights(path)
    except Exception as error:  # a damaged file makes torch.load stumble anywhere
        # Before torch 2.6 a file that ends too early is among what it refuses to unpickle.
        if isinstance(error, UnpicklingError) and "unexpected EOF" not in str(error):
            asked = re.search(r"GLOBAL ([\w.]+)", str(error))
            code = f"code ({asked[1]})" if asked else "objects, perhaps code, besides tensors"
            raise DmmError(
                f"{path} was not opened, because it contains {code}, which could do anything to "
                "this computer. Get the .safetensors version of this file, or convert it to "
                ".safetensors with a tool you trust, on a machine you can lose."
            ) from error
        raise DmmError(
            f"{path} is damaged or truncated (it has {path.stat().st_size:,} bytes). Download or "
            f"copy it again. ({type(error).__name__}: {next(iter(str(error).splitlines()), '')})"
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    tensors = {}
    if isinstance(content, Mapping):
        tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise DmmError(
            f"{path} holds no named tensors (it holds a {type(content).__name__}); "
            "a checkpoint file is needed here."
        )
    headers = {key: (tuple(value.shape), value.dtype) for key, value in tensors.items()}
    return TensorFile(path, {}, headers, tensors.__getitem__)


def _load_weights(path: Path) -> object:
    with path.open("rb") as file, warnings.catch_warnings():
        # Only the zip format, torch's own since 1.6, can be memory-mapped, and only by its name;
        # but a name that ends in .safetensors torch believes more than the content.
        mapped = file.read(2) == b"PK" and path.suffix != ".safetensors"
        file.seek(0)
        # Old files in unusual pickle protocols either load or raise; the warning adds nothing.
        warnings.simplefilter("ignore", UserWarning)
        return torch.load(
            path if mapped else file, map_location="cpu", weights_only=True, mmap=mapped
        )


def save_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    overwrite: bool = False,
    kinds: Mapping[str, Kind] | None = None,
) -> None:
    """Write a `.safetensors` file, whole or not at all, holding one tensor at a time in memory.

    The bytes go to `<name>.partial` in the same folder, are flushed to the disk and only then take
    the name; so a crash leaves the old file as it was. Missing folders are made.

    Args:
        tensors: by name; a lazy mapping is fine. Each is asked for twice, or once with `kinds`.
        metadata: strings by name, kept in the file's header.
        overwrite: replace a file that exists.
        kinds: shape and dtype of every tensor, where computing them costs much.

    Raises:
        DmmError: the file exists, the disk is full, or the folder cannot be written to.
    """
    path = Path(path)
    refuse_to_replace(path, overwrite)
    if kinds is None:
        kinds = {key: (tuple(tensor.shape), tensor.dtype) for key, tensor in tensors.items()}
    # Widest numbers first, as the format wants: each tensor starts at a multiple of its width.
    keys = sorted(kinds, key=lambda key: -kinds[key][1].itemsize)
    header, size = _safetensors_header({key: kinds[key] for key in keys}, metadata)
    try:
        with written_whole(path) as partial, partial.open("wb") as file:
            file.write(header)
            for key in keys:
                file.write(_bytes(tensors[key]))
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DmmError(
                f"{path.parent} has no room for {path.name}, which needs {size:,} bytes "
                f"({error.strerror}). Free some space or choose another folder."
            ) from error
        raise DmmError(
            f"{path} cannot be written: {error.strerror}. Is it open in another program, or the "
            "folder read-only?"
        ) from error


def refuse_to_replace(path: Path, overwrite: bool) -> None:
    """For work of minutes to check before it begins what `save_tensors` checks at its end.

    Raises:
        DmmError: the file exists.
    """
    if path.exists() and not overwrite:
        raise DmmError(f"{path} exists already. Choose another name, or allow overwriting it.")


def _safetensors_header(
    kinds: Mapping[str, Kind], metadata: Mapping[str, str]
) -> tuple[bytes, int]:
    """The bytes before the first tensor, and the size of the whole file."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for key, (shape, dtype) in kinds.items():
        start, end = end, end + math.prod(shape) * dtype.itemsize
        header[key] = {
            "dtype": DTYPE_NAMES[dtype],
            "shape": list(shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format keeps the tensors aligned to 8 bytes
    return struct.pack("<Q", len(text)) + text, 8 + len(text) + end


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def _refuse_stand_ins(path: Path, head: bytes) -> None:
    """Refuse what downloads leave in a model's place."""
    text = head.lstrip().lower()
    if not head:
        raise DmmError(f"{path} is empty (0 bytes). Download or copy it again.")
    if text.startswith(b"version https://git-lfs"):
        raise DmmError(
            f"{path} is a git-LFS pointer, not the model itself. Run `git lfs pull` in its "
            "repository, or download the file from the model's web page."
        )
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise DmmError(
            f"{path} is a web page, not a model: the download gave a page instead of the file, "
            "often because it asks to log in. Download it again in a browser."
        )


def _what_is_wrong(path: Path) -> str:
    """Say in words why a file is not a sound `.safetensors` file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > 100_000_000:
            return f"is not a model file ({_suffixes()}), or its first bytes are damaged."
        if 8 + length > size:
            return (
                f"is truncated: its header alone takes {8 + length:,} bytes, the file has "
                f"{size:,}. Download or copy it again."
            )
        try:
            header = json.loads(file.read(length))
            entries = [entry for key, entry in header.items() if key != "__metadata__"]
            offsets = [[int(offset) for offset in entry["data_offsets"]] for entry in entries]
            if any(len(pair) != 2 or not 0 <= pair[0] <= pair[1] for pair in offsets):
                raise ValueError
            needed = 8 + length + max((end for _, end in offsets), default=0)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return "has a damaged header, which is no tensor table. Download or copy it again."
    if needed != size:
        state = "is truncated" if needed > size else "has bytes that belong to no tensor"
        return (
            f"{state}: its header tells of {needed:,} bytes, the file has {size:,}. "
            "Download or copy it again."
        )
    return "has a lying header: its tensors overlap or do not fit their shapes. Get it again."


def _suffixes() -> str:
    return ", ".join(TENSOR_SUFFIXES)


def _similar(path: Path) -> str:
    """A hint at what was meant, from the names that are there."""
    if not path.parent.is_dir():
        return f" There is no folder {path.parent} either."
    names = sorted(
        entry.name
        for entry in path.parent.iterdir()
        if entry.is_dir() or entry.suffix.lower() in TENSOR_SUFFIXES
    )
    close = get_close_matches(path.name, names, n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(close)}?" if close else ""
