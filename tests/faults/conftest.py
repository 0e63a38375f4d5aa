"""Faults, injected and counted: a handful in every test run, a campaign on demand.

    FAULTS=campaign python install.py test tests/faults

A campaign draws moments of its own, the handful always the same ones. `FAULTS_SEED` draws those of
a seed; a test that fails says which it was.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from dmm.tensors import open_tensors
from tests.faults.process import Counted, run
from tests.trainer import evaluating
from tests.trainer.merging import statistics, write_models
from trainer.fingerprint import tensors_fingerprint

CAMPAIGN = os.environ.get("FAULTS") == "campaign"
SEED = int(os.environ.get("FAULTS_SEED", random.SystemRandom().randrange(10**6) if CAMPAIGN else 0))

collect_ignore_glob = ["test_*.py"] if sys.platform == "win32" else []  # no SIGKILL, no /proc


@dataclass(frozen=True)
class Command:
    """A command of the trainer that nothing has disturbed once.

    Attributes:
        words: of the command line.
        folder: where it writes, and nowhere else; not there yet.
        finished: what it left there undisturbed.
        changes: how it changed the folder, one after the other.
        seconds: how long it took.
        result: what must come out of a folder the same to the bit.
    """

    words: list[str]
    folder: Path
    finished: Path
    changes: list[str]
    seconds: float
    result: Callable[[Path], object]


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    print(f"FAULTS_SEED={SEED}")  # pytest shows it where a test fails
    return random.Random(f"{SEED} {request.node.name}")


@pytest.fixture(scope="session")
def merge_command(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Caching of pictures and texts, two trainings with grids, synthesis, and every export."""
    folder = tmp_path_factory.mktemp("merge")
    config = write_models(folder)
    pictures = folder / "pictures"
    pictures.mkdir()
    for number, name in enumerate(("a cat", "a dog", "a house")):
        Image.new("RGB", (20, 20), (80 * number, 90, 200)).save(pictures / f"{number}.png")
        (pictures / f"{number}.txt").write_text(name, encoding="utf-8")
    painting = "{pictures_per_teacher: 2, steps: 2, guidance: 1, negative: ''}"
    said = (
        "data.prompts=null",
        f"data.pictures={pictures}",
        "train.steps=3",
        "train.save_every=1",
        "train.keep_last=2",
        "samples.every=2",
        f"synthesised={{prompts: {folder}/prompts.txt, steps: 2, batch_size: 3, "
        f"painting: {painting}}}",
        "export.diffusers_folder=true",
    )
    return _undisturbed(
        folder,
        lambda output: ["merge", str(config), *said, f"output={output / 'merged.safetensors'}"],
        _merged,
    )


@pytest.fixture(scope="session")
def evaluate_command(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Painting, features and the report."""
    folder = tmp_path_factory.mktemp("evaluate")
    merged = evaluating.write_all(folder)
    more = ("--pictures", "4", "--components", "2", "--cache")
    return _undisturbed(
        folder,
        lambda output: evaluating.words(
            merged, *more, output / "cache", "--output", output / "report"
        ),
        lambda output: evaluating.report(output / "report")["distances"],
    )


def _undisturbed(
    folder: Path, words: Callable[[Path], list[str]], result: Callable[[Path], object]
) -> Command:
    finished, changes = folder / "run", folder / "changes"
    finished.mkdir()
    said = folder / "said"
    began = time.monotonic()
    assert run(words(finished), said, Counted(finished, changes)) == 0, said.read_text()
    seconds = time.monotonic() - began
    kept = shutil.copytree(finished, folder / "finished")
    shutil.rmtree(finished)
    # All runs write into one folder, whose name is in what they write.
    return Command(words(finished), finished, kept, changes.read_text().split(), seconds, result)


def _merged(output: Path) -> object:
    """All that a merge makes: the weights, and the figures of both stages."""
    weights = {
        path.relative_to(output).as_posix(): tensors_fingerprint(open_tensors(path))
        for path in output.rglob("*.safetensors")
        if "states" not in path.parts
    }
    figures = [statistics(output / name) for name in ("merged.st", "merged/synthesised.st")]
    return weights, figures
