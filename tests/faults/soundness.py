"""What must be true of a merge's or an evaluation's folder whatever ended its process."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from dmm.tensors import open_tensors
from trainer.claim import LOCK

TEMPORARY = re.compile(r"\.(partial|former)$")


def assert_whole(folder: Path, finished: Path) -> None:
    """Whatever has its final name can be read to its end, and lacks nothing.

    Args:
        finished: the same folder of a run that nothing disturbed.
    """
    for path in final_names(folder):
        _assert_readable(path)
    for state in folder.rglob("states/step-????????"):
        whole = next(finished.rglob("states/step-????????"))
        assert sorted(_inside(state)) == sorted(_inside(whole)), f"{state} is half there"
    for exported in folder.glob("*-diffusers"):
        assert sorted(_inside(exported)) == sorted(_inside(finished / exported.name))


def final_names(folder: Path) -> Iterator[Path]:
    """The files that are not, and do not lie in, what the next run takes away."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(TEMPORARY.search(part) for part in parts):
            yield path


def contents(folder: Path) -> list[str]:
    """Names of all that a run leaves, temporary files too; but for TensorBoard's, a run its own."""
    found = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "logs" not in path.parts
    }
    return sorted(found)


def _inside(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*")]


def _assert_readable(path: Path) -> None:
    if path.suffix == ".safetensors":
        tensors = open_tensors(path)
        assert [tensors[name].shape for name in tensors]
    elif path.suffix in (".bin", ".pkl"):  # of accelerate's states, in torch's zip format
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
    elif path.suffix == ".png":
        with Image.open(path) as picture:
            picture.load()
    elif path.suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))
    elif path.suffix == ".html":
        assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    elif path.suffix == ".jsonl" and path.name != "stats.jsonl":  # whose last line may be cut
        assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    elif path.name == LOCK:
        assert not path.read_bytes()
    else:
        known = path.suffix == ".md" or path.name == "stats.jsonl" or "logs" in path.parts
        assert known, f"{path}: what is this?"
