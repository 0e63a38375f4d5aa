"""A disk without room at any point of a merge: a message, nothing half written, and on it goes."""

from __future__ import annotations

import io
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch

from dmm.tensors import open_tensors
from tests.trainer.merging import command, run_merge, statistics, write_models

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="limits on file sizes are a Unix thing"
)

STEPS = ["train.steps=2", "train.save_every=1"]


@contextmanager
def no_file_over(size: int) -> Iterator[None]:
    """Within the block the system refuses to write past byte `size` of any file."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def merged(config: Path) -> Path:
    """The merge that never met a full disk."""
    return run_merge(config, *STEPS)


def merge_without_room(size: int, *words: str | Path) -> str:
    """The message of a merge on a full disk."""
    said = io.StringIO()  # pytest's own capturing is a file too
    with no_file_over(size), redirect_stdout(said), redirect_stderr(said):
        code = command("merge", *words)
    assert code == 2, said.getvalue()
    return said.getvalue().rpartition("Error: ")[2]


@pytest.mark.parametrize(
    ("size", "more", "named"),
    [
        (10_000, [], "dmm-cache"),
        (2_000_000, [], "states"),  # the student's weights
        (5_000_000, [], "states"),  # the optimizer's moments
        (60_000, ["samples.every=1"], "step-00000001.png"),
    ],
)
def test_no_room_before_the_end(
    config: Path, merged: Path, tmp_path: Path, size: int, more: list[str], named: str
) -> None:
    output = tmp_path / "merged.safetensors"
    words = [config, f"output={output}", *STEPS, *more]
    if named != "dmm-cache":
        words.append(f"data.cache={merged.parent / 'dmm-cache'}")
    assert_refused_and_then_finished(merged, output, size, words, named)


def test_no_room_for_the_statistics(config: Path, merged: Path, tmp_path: Path) -> None:
    output = tmp_path / "merged.safetensors"
    run = shutil.copytree(merged.with_suffix(""), output.with_suffix(""))
    shutil.rmtree(run / "states" / "step-00000002")
    room = (run / "stats.jsonl").stat().st_size - 50  # for the first step's, and no more
    cache = f"data.cache={merged.parent / 'dmm-cache'}"
    words = [config, f"output={output}", *STEPS, "log_with=[]", cache]
    assert_refused_and_then_finished(merged, output, room, words, "stats.jsonl")


@pytest.mark.parametrize(
    ("size", "more", "named"),
    [
        (60_000, [], "grid.png"),
        (100_000, [], "merged.styles.safetensors"),
        (5_000_000, [], "merged.safetensors"),
        (2_000_000, ["export.diffusers_folder=true"], "merged-diffusers"),
    ],
)
def test_no_room_for_what_is_written_at_the_end(
    config: Path, merged: Path, tmp_path: Path, size: int, more: list[str], named: str
) -> None:
    output = tmp_path / "merged.safetensors"
    shutil.copytree(merged.with_suffix(""), output.with_suffix(""))  # trained to the last step
    output.with_suffix("").joinpath("grid.png").unlink()
    cache = f"data.cache={merged.parent / 'dmm-cache'}"
    words = [config, f"output={output}", *STEPS, *more, cache]
    assert_refused_and_then_finished(merged, output, size, words, named)


def assert_refused_and_then_finished(
    merged: Path, output: Path, size: int, words: list[str | Path], named: str
) -> None:
    message = merge_without_room(size, *words)
    assert named in message and str(output.parent) in message
    assert re.search(r"(File too large|no room|found room).* Free some space", message), message
    left = [path for path in output.parent.rglob("*") if re.search("partial|former", path.name)]
    assert not left and not output.exists()
    assert command("merge", *words) == 0
    assert statistics(output) == statistics(merged)
    ours, theirs = open_tensors(output), open_tensors(merged)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
