"""Presets: that each says what it is for, and that the one for a small GPU merges and resumes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dmm.tensors import open_tensors
from tests.trainer.merging import command, run_merge, statistics, write_models
from trainer.config_file import PRESETS, describe_presets, load_config
from trainer.memory import state_bytes, student_bytes
from trainer.opening import open_ingredients

SMALL = (
    *("train.steps=4", "train.batch_size=3", "train.save_every=2", "train.learning_rate=1e-3"),
    *("train.teachers_per_sample=1", "export.style_file=false"),
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("presets"))


def test_each_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    descriptions = describe_presets()
    assert set(descriptions) == {file.stem for file in PRESETS.glob("*.yaml")}
    assert command("presets") == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1) for line in said] == [
        [name, f"{description}."] for name, description in descriptions.items()
    ]


def test_eight_bits_a_moment_are_a_fraction_of_the_memory(config: Path) -> None:
    pytest.importorskip("bitsandbytes")
    paper, light = (
        open_ingredients(load_config(config, [f"preset={name}"])) for name in ("paper", "one-gpu")
    )
    # Weights and gradients of four bytes; two moments of four, or of one.
    assert student_bytes(light) == pytest.approx(student_bytes(paper) * 10 / 16)
    assert state_bytes(light) == pytest.approx(state_bytes(paper) * 6 / 12)


def test_muon_keeps_one_moment(config: Path) -> None:
    adamw, muon = (
        open_ingredients(load_config(config, [f"train.optimizer={name}"]))
        for name in ("adamw", "muon")
    )
    assert state_bytes(muon) == pytest.approx(state_bytes(adamw) * 8 / 12)
    output = config.parent / "muon.safetensors"
    run_merge(config, *SMALL, "train.optimizer=muon", f"output={output}")
    state = max(output.with_suffix("").glob("states/step-*"))
    size = sum((state / name).stat().st_size for name in ("model.safetensors", "optimizer.bin"))
    assert size == pytest.approx(state_bytes(muon), rel=0.3)


def test_one_gpu_merges_and_resumes_to_the_same_bits(config: Path) -> None:
    """With moments of eight bits, which a saved state has to bring back."""
    pytest.importorskip("bitsandbytes")
    words = ["preset=one-gpu", *SMALL]
    whole, resumed = (config.parent / name / "merged.safetensors" for name in ("whole", "resumed"))
    run_merge(config, *words, f"output={whole}")
    run_merge(config, *words, f"output={resumed}", "train.steps=2")
    resumed.unlink()
    run_merge(config, *words, f"output={resumed}")
    ours, theirs = open_tensors(resumed), open_tensors(whole)
    assert statistics(resumed) == statistics(whole)
    assert not [key for key in theirs if not torch.equal(ours[key], theirs[key])]
    assert statistics(whole)[-1]["score"] < statistics(whole)[0]["score"]
