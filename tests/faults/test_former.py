"""The diffusers folder of the merge before is there until the new one has taken its place."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from dmm.tensors import open_tensors
from tests.faults.process import KilledBefore, Refused, message, run
from tests.faults.soundness import contents
from tests.trainer.merging import write_models
from trainer.export import UNET_WEIGHTS
from trainer.fingerprint import tensors_fingerprint

NAME = "merged-diffusers"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


def merge(config: Path, folder: Path, seed: int) -> list[str]:
    output, run = f"output={folder / 'merged.safetensors'}", f"run={folder / f'run-{seed}'}"
    more = ("train.steps=1", f"train.seed={seed}", "export.diffusers_folder=true")
    cache = f"data.cache={config.parent / 'cache'}"
    return ["merge", str(config), "--overwrite", output, run, cache, *more]


def weights(folder: Path) -> str:
    return tensors_fingerprint(open_tensors(folder / NAME / UNET_WEIGHTS))


def test_the_former_folder_outlives_what_does_not_take_its_place(config: Path, tmp_path: Path):
    folder, said = tmp_path / "out", tmp_path / "said"
    assert run(merge(config, folder, 0), said) == 0, said.read_text()
    former, words = weights(folder), merge(config, folder, 1)
    whole = contents(folder / NAME)

    partial = folder / f"{NAME}.partial"
    assert run(words, said, Refused(partial, "os.rename")) == 2, said.read_text()
    assert f"{NAME} cannot be written: Permission denied" in message(said)
    assert contents(folder / NAME) == whole and weights(folder) == former

    assert run(words, said, KilledBefore(partial, "os.rename")) == -signal.SIGKILL
    assert not (folder / NAME).exists()
    assert run(words, said, Refused(partial, "os.mkdir")) == 2, said.read_text()
    assert contents(folder / NAME) == whole and weights(folder) == former

    assert run(words, said) == 0, said.read_text()
    assert weights(folder) != former
    assert contents(folder / NAME) == whole
    assert {path.name for path in folder.glob(f"{NAME}*")} == {NAME}
