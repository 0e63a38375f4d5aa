"""What others do to a run while it trains: a teacher's file changed or removed, a worker killed."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from dmm.tensors import open_tensors
from tests import nets
from tests.faults.process import begin, message, run
from tests.trainer.merging import networks, statistics, write_models
from trainer.fingerprint import tensors_fingerprint

STEPS = 16


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models")).parent


@pytest.fixture(scope="module")
def undisturbed(models: Path) -> Path:
    words, said = merge(models, models / "undisturbed"), models / "said"
    assert run(words, said) == 0, said.read_text()
    return models / "undisturbed" / "merged.safetensors"


@pytest.fixture
def teacher(models: Path, tmp_path: Path) -> Iterator[Path]:
    """A teacher's file, as it was when the test is over."""
    path = models / "ink.safetensors"
    kept = shutil.copy(path, tmp_path)
    yield path
    path.unlink(missing_ok=True)
    shutil.copy(kept, path)


def merge(models: Path, folder: Path, *more: str) -> list[str]:
    """A merge that reads each teacher's file again whenever its turn comes."""
    said = ("train.teacher_slots=1", f"train.steps={STEPS}", "train.save_every=1", *more)
    cache = f"data.cache={models / 'cache'}"
    output = f"output={folder / 'merged.safetensors'}"
    return ["merge", str(models / "merge.yaml"), *said, cache, output]


def disturbed(words: list[str], folder: Path, said: Path, act: Callable[[BaseProcess], None]):
    """The exit code of a run that stands still, once it has trained a little, while `act` acts."""
    process = begin(words, said)
    try:
        while not list(folder.glob("merged/states/step-????????")):
            assert process.is_alive(), said.read_text()
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGSTOP)
        assert len(statistics(folder / "merged.safetensors")) < STEPS / 2
        act(process)
        os.kill(process.pid, signal.SIGCONT)
        process.join()
    finally:
        process.kill()
    return process.exitcode


def assert_same_weights(output: Path, undisturbed: Path) -> None:
    assert tensors_fingerprint(open_tensors(output)) == tensors_fingerprint(
        open_tensors(undisturbed)
    )


def other_weights(path: Path) -> None:
    other = path.with_name("other.safetensors")
    nets.write_single_file(other, *networks("sd1", 9))
    content = other.read_bytes()
    other.unlink()
    with path.open("r+b") as file:  # the same file, as `cp` writes into it
        file.write(content)


def half_of_it(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("change", [other_weights, half_of_it])
def test_a_teacher_changed_under_the_run(models, undisturbed, teacher, tmp_path, change):
    words, said = merge(models, tmp_path / "out"), tmp_path / "said"
    kept = teacher.read_bytes()
    code = disturbed(words, tmp_path / "out", said, lambda process: change(teacher))
    # The system itself ends who is in the midst of reading what is no longer there.
    if code != -signal.SIGBUS or change is other_weights:
        assert code == 2, said.read_text()
        assert str(teacher) in message(said) and "changed by another program" in message(said)
    assert not (tmp_path / "out" / "merged.safetensors").exists()
    assert run(words, said) == 2  # nor is the run continued with other weights
    assert "Traceback" not in said.read_text()
    teacher.write_bytes(kept)
    assert run(words, said) == 0, said.read_text()
    assert_same_weights(tmp_path / "out" / "merged.safetensors", undisturbed)


def touch(path: Path) -> None:
    os.utime(path, (0, 0))


def put_another_in_its_place(path: Path) -> None:
    other = shutil.copy(path.with_name("oil.safetensors"), path.with_name("new.safetensors"))
    os.replace(other, path)


@pytest.mark.parametrize("change", [Path.unlink, touch, put_another_in_its_place])
def test_a_teacher_gone_after_it_was_opened_is_still_learned_from(
    models, undisturbed, teacher, tmp_path, change
):
    words, said = merge(models, tmp_path / "out"), tmp_path / "said"
    code = disturbed(words, tmp_path / "out", said, lambda process: change(teacher))
    assert code == 0, said.read_text()
    assert_same_weights(tmp_path / "out" / "merged.safetensors", undisturbed)


def test_a_killed_run_whose_teacher_is_gone(models, undisturbed, teacher, tmp_path):
    words, said = merge(models, tmp_path / "out"), tmp_path / "said"
    code = disturbed(words, tmp_path / "out", said, lambda process: process.kill())
    assert code == -signal.SIGKILL
    kept = teacher.read_bytes()
    teacher.unlink()
    assert run(words, said) == 2
    assert f"{teacher} does not exist" in message(said)
    teacher.write_bytes(kept)
    assert run(words, said) == 0, said.read_text()
    assert_same_weights(tmp_path / "out" / "merged.safetensors", undisturbed)


def kill_a_worker(process: BaseProcess) -> None:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)


def test_a_worker_that_dies(models, undisturbed, tmp_path):
    words, said = merge(models, tmp_path / "out", "data.workers=1"), tmp_path / "said"
    code = disturbed(words, tmp_path / "out", said, kill_a_worker)
    assert code == 2, said.read_text()
    assert "data.workers=0" in message(said)
    assert run(words, said) == 0, said.read_text()
    assert_same_weights(tmp_path / "out" / "merged.safetensors", undisturbed)
