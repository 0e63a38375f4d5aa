"""What users have, as captioned pictures: a folder, webdataset shards, or prompts alone.

A source is rows of a key, a caption and, but for prompts, a picture. Making one reads names and
captions only, so that whatever is wrong with them is said before anything long starts; a picture is
decoded when asked for. `Source.fingerprint` changes with the files and the captions, and keys what
is cached of them.
"""

from __future__ import annotations

import glob
import io
import json
import struct
import tarfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from braceexpand import braceexpand
from PIL import ExifTags, Image, ImageOps
from tqdm import tqdm
from webdataset.tariterators import base_plus_ext

from dmm.errors import DmmError
from trainer.buckets import Size
from trainer.fingerprint import fingerprint
from trainer.prompt_lines import parse_prompt

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
JSON_CAPTIONS = ("caption", "prompt", "text")
TURNED = (5, 6, 7, 8)  # EXIF orientations of pictures that lie on their side
BROKEN = (OSError, EOFError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)

T = TypeVar("T")


class Source(ABC):
    """Captioned pictures in a fixed order."""

    keys: list[str]
    captions: list[str]
    fingerprint: str  # hash of the files' names, sizes and times, and of the captions

    def picture(self, index: int) -> Image.Image | None:
        """Decode a picture at its own size: RGB, turned as EXIF says, transparency on white.

        None where prompts are all there is.
        """
        return self._read(index, _upright_rgb)

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of what `picture` gives, without decoding it where that can be."""
        return self._read(index, _upright_size)

    @abstractmethod
    def _read(self, index: int, look: Callable[[Image.Image], T]) -> T:
        """What `look` finds in an opened picture.

        Raises:
            DmmError: it cannot be read.
        """

    def __len__(self) -> int:
        return len(self.keys)


class PictureFolder(Source):
    """Pictures of a folder and the folders in it, each with its caption in a same-stem `.txt`."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise DmmError(f"There is no folder {self.path}. Give the folder that holds pictures.")
        files = sorted(
            (file.relative_to(self.path).as_posix(), file)
            for file in self.path.rglob("*")
            if not file.name.startswith(".") and file.is_file()
        )
        self.keys = [key for key, file in files if file.suffix.lower() in PICTURE_SUFFIXES]
        if not self.keys:
            raise DmmError(
                f"{self.path} holds no pictures. Looked for {', '.join(PICTURE_SUFFIXES)}, in the "
                f"folders inside it too; found {_counts(file for _, file in files)}."
            )
        _refuse_without_caption(
            str(self.path),
            [key for key in self.keys if not self._caption_file(key).is_file()],
            len(self.keys),
            "Write each caption into a text file of the same name ending in .txt beside the "
            "picture; leave it empty where there is nothing to say.",
        )
        files = tqdm(self.keys, desc="Reading captions", delay=3, leave=False)
        self.captions = [_read_text(self._caption_file(key)) for key in files]

    @cached_property
    def fingerprint(self) -> str:
        files = [_stat(self.path / key) for key in self.keys]
        return fingerprint("folder", self.keys, files, self.captions)

    def _read(self, index: int, look: Callable[[Image.Image], T]) -> T:
        return _read_file(self.path / self.keys[index], look)

    def _caption_file(self, key: str) -> Path:
        return (self.path / key).with_suffix(".txt")


class WebdatasetShards(Source):
    """Pictures and captions in the tar files that the webdataset library writes.

    Files with the same name up to the first dot make a sample: a picture beside a `txt`, or a
    `json` with a "caption", "prompt" or "text". Shards are indexed by their tar headers, so the
    number of samples is known at once and each is read where it stands, whatever the order.

    Args:
        shards: paths, or one path with braces or stars: "data/{00000..00099}.tar".
    """

    def __init__(self, shards: str | Path | Sequence[str | Path]) -> None:
        self.paths = _expand(shards)
        self.keys, self.captions, without = [], [], []
        self._places: list[tuple[Path, int, int]] = []  # file, offset and size of each picture
        for path in tqdm(self.paths, desc="Reading shards", delay=3, leave=False):
            for name, members in _tar_samples(path).items():
                suffix = next((s for s in PICTURE_SUFFIXES if s in members), None)
                if suffix is None:
                    continue
                key = f"{path.name}/{name}"
                caption = _tar_caption(path, key, members)
                if caption is None:
                    without.append(key)
                self.keys.append(key)
                self.captions.append(caption or "")
                self._places.append((path, *members[suffix]))
        where = ", ".join(str(path) for path in self.paths[:3])
        where += " …" if len(self.paths) > 3 else ""
        if not self.keys:
            raise DmmError(
                f"{where}: no pictures in {len(self.paths)} shards. "
                f"Looked for {', '.join(PICTURE_SUFFIXES)}."
            )
        _refuse_without_caption(
            where,
            without,
            len(self.keys),
            "Each picture needs a .txt, or a .json with a "
            f"{' or '.join(repr(name) for name in JSON_CAPTIONS)}, under the same key.",
        )

    @cached_property
    def fingerprint(self) -> str:
        files = [(path.name, *_stat(path)) for path in self.paths]
        return fingerprint("shards", files, self.keys, self.captions)

    def _read(self, index: int, look: Callable[[Image.Image], T]) -> T:
        path, offset, size = self._places[index]
        try:
            with Image.open(io.BytesIO(_read_bytes(path, offset, size))) as picture:
                return look(picture)
        except BROKEN as error:
            raise _broken(f"{path}: the picture {self.keys[index]}", error) from error


class Prompts(Source):
    """Prompts from a text file, one a line in kohya's syntax, see `parse_prompt`.

    Blank lines and lines starting with # do not count.

    Args:
        path: the text file.
        sizes: those that can be trained at; a prompt with a size of its own has one of them.
    """

    def __init__(self, path: str | Path, sizes: Sequence[Size] = ()) -> None:
        path = Path(path)
        if not path.is_file():
            raise DmmError(f"There is no file {path}. Give a text file with one prompt a line.")
        lines = [line.strip() for line in _decode(path, path.read_bytes()).splitlines()]
        numbered = [(n, line) for n, line in enumerate(lines, 1) if line and line[0] != "#"]
        if not numbered:
            raise DmmError(
                f"{path} holds no prompts ({len(lines)} lines, all blank or starting with #). "
                "Write one prompt a line."
            )
        self.keys = [str(number) for number, _ in numbered]
        self.prompts = [parse_prompt(line, f"{path}, line {n}", sizes) for n, line in numbered]
        self.captions = [prompt.text for prompt in self.prompts]

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint("prompts", [vars(prompt) for prompt in self.prompts])

    def _read(self, index: int, look: Callable[[Image.Image], T]) -> None:
        return None


def fit(picture: Image.Image, resolution: tuple[int, int]) -> Image.Image:
    """Scale to fill `resolution` (width, height); what sticks out is cut equally at both ends."""
    return ImageOps.fit(picture, resolution, Image.Resampling.LANCZOS)


def _upright_size(picture: Image.Image) -> tuple[int, int]:
    width, height = picture.size
    is_turned = picture.getexif().get(ExifTags.Base.Orientation) in TURNED
    return (height, width) if is_turned else (width, height)


def read_picture(path: Path) -> Image.Image:
    """A picture of its own, decoded as `Source.picture` does.

    Raises:
        DmmError: it cannot be read.
    """
    return _read_file(path, _upright_rgb)


def _read_file(path: Path, look: Callable[[Image.Image], T]) -> T:
    try:
        with Image.open(path) as picture:
            return look(picture)
    except BROKEN as error:
        raise _broken(str(path), error) from error


def _upright_rgb(picture: Image.Image) -> Image.Image:
    picture = ImageOps.exif_transpose(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    elif picture.mode.startswith("I"):  # 16-bit grey, which convert() would clip to white
        picture = picture.convert("I").point(lambda level: level / 257).convert("L")
    return picture.convert("RGB")


def _expand(shards: str | Path | Sequence[str | Path]) -> list[Path]:
    patterns = [shards] if isinstance(shards, (str, Path)) else list(shards)
    paths: list[Path] = []
    for pattern in patterns:
        for name in braceexpand(str(pattern), escape=False):
            found = [name] if Path(name).is_file() else sorted(glob.glob(name, recursive=True))
            if not found:
                raise DmmError(
                    f"There is no shard {name}. Give tar files on this machine, such as "
                    "data/*.tar or data/{00000..00099}.tar."
                )
            paths += map(Path, found)
    return paths


def _tar_samples(path: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """Where a shard's files lie: sample name -> suffix -> (offset, size) in bytes."""
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                name, suffix = base_plus_ext(member.name)
                if member.isreg() and name is not None:
                    place = (member.offset_data, member.size)
                    samples.setdefault(name, {})["." + suffix.lower()] = place
    except (tarfile.TarError, OSError) as error:
        raise DmmError(
            f"{path} cannot be read as an uncompressed tar file ({error}). Unpack it if it is "
            "compressed; otherwise copy or download it again."
        ) from error
    return samples


def _tar_caption(path: Path, key: str, members: dict[str, tuple[int, int]]) -> str | None:
    if ".txt" in members:
        return " ".join(_decode(key, _read_bytes(path, *members[".txt"])).split())
    if ".json" in members:
        try:
            record = json.loads(_read_bytes(path, *members[".json"]))
        except ValueError as error:
            raise DmmError(f"{path}: {key}.json is no valid JSON: {error}.") from error
        texts = [record.get(name) for name in JSON_CAPTIONS] if isinstance(record, dict) else []
        return next((" ".join(text.split()) for text in texts if isinstance(text, str)), None)
    return None


def _read_bytes(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _read_text(path: Path) -> str:
    return " ".join(_decode(path, path.read_bytes()).split())


def _decode(name: str | Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")  # with the byte-order mark that Windows editors write
    except UnicodeDecodeError as error:
        raise DmmError(f"{name} is not UTF-8 text ({error.reason}). Save it as UTF-8.") from error


def _stat(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _counts(files: Iterable[Path]) -> str:
    counts = Counter(file.suffix.lower() or "suffixless" for file in files).most_common(4)
    return ", ".join(f"{count} {suffix} files" for suffix, count in counts) or "no files at all"


def _refuse_without_caption(where: str, without: list[str], total: int, way_out: str) -> None:
    if without:
        names = ", ".join(without[:3]) + (" …" if len(without) > 3 else "")
        raise DmmError(
            f"{where}: {len(without)} of {total} pictures have no caption ({names}). {way_out}"
        )


def _broken(name: str, error: Exception) -> DmmError:
    return DmmError(f"{name} cannot be read: {error}. Remove or replace it.")
