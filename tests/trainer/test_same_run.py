"""What a run cannot change on its way is refused by name, and the rest it can."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from tests.trainer.merging import command, options, run_merge, statistics, write_models

STEPS = ["train.steps=2", "train.save_every=1"]
MORE = ["train.ema_decay=0.9", "train.adversarial_weight=0.1"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def begun(config: Path) -> Callable[..., Path]:
    """Gives the output of a run whose first step is saved and nothing else, begun with `words`."""

    numbers = count()

    def begin(*words: str) -> Path:
        kept = config.parent / ("more" if words else "plain")
        if not kept.exists():
            run_merge(config, *options(config, kept.name, *STEPS, *words))
        run = config.parent / f"run-{next(numbers)}" / "merged"
        shutil.copytree(kept / "merged", run)
        shutil.rmtree(run / "states" / "step-00000002")
        return run.with_suffix(".safetensors")

    return begin


@pytest.mark.parametrize(
    ("words", "change", "named"),
    [
        ([], ["train.ema_decay=0.9"], "`ema_decay`"),
        ([], ["train.adversarial_weight=0.1"], "`adversarial_weight`"),
        (MORE, ["train.ema_decay=null"], "`ema_decay`"),
        (MORE, ["train.adversarial_weight=0"], "`adversarial_weight`"),
        ([], ["train.teachers_per_step=1"], "`teachers_per_step`"),
        ([], ["train.seed=1", "train.batch_size=3"], "`batch_size` and `seed`"),
        ([], ["data.resolution=32"], "`resolution`"),
        ([], ["data.painting.guidance=3"], "`painting`"),
        ([], ["train.adapter={}"], "`adapter`"),
        ([], ["train.start_from=average"], "`start_from`"),
        ([], ["train.repeats=2"], "`repeats` and `repeat_among`"),
    ],
    ids=str,
)
def test_what_cannot_change_is_named(
    config: Path, begun, words: list[str], change: list[str], named: str, capsys
) -> None:
    output = begun(*words)
    said = options(config, output.parent.name, *STEPS, *words, *change)
    assert command("merge", config, *said) == 2
    message = capsys.readouterr().err
    assert f"{output.with_suffix('')} holds a run that differs in {named}. To go on" in message
    assert len(statistics(output)) == 2  # nothing was trained, nor taken back


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ([], ["train.learning_rate=0.002", "train.weight_decay=0", "train.caption_dropout=0.5"]),
        ([], ["train.steps=3", "train.save_every=2", "train.keep_last=1", "samples.every=1"]),
        ([], ["train.micro_batch_size=2", "train.teacher_slots=1", "export.dtype=fp16"]),
        ([], ["data.painting.batch_size=1"]),
        (MORE, ["train.ema_decay=0.99", "train.adversarial_weight=0.2"]),
    ],
    ids=str,
)
def test_what_can_change(config: Path, begun, words: list[str], change: list[str]) -> None:
    output = begun(*words)
    assert (
        run_merge(config, *options(config, output.parent.name, *STEPS, *words, *change)) == output
    )
    assert output.exists()


def test_a_run_says_itself_what_it_was_begun_with(config: Path, begun, capsys) -> None:
    output = begun()
    mark, words = output.with_suffix("") / "run.json", options(config, output.parent.name, *STEPS)
    said = json.loads(mark.read_text(encoding="utf-8"))
    mark.write_text(json.dumps(said | {"optimizer": "adamw8bit"}), encoding="utf-8")
    assert command("merge", config, *words) == 2
    assert "differs in `optimizer`." in capsys.readouterr().err
    del said["optimizer"]  # as a release that did not know of it
    mark.write_text(json.dumps(said), encoding="utf-8")
    assert command("merge", config, *words, "train.seed=1") == 2
    assert "differs in `seed`." in capsys.readouterr().err
    assert command("merge", config, *words) == 0
