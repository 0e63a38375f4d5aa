"""The emoji benchmark in its smallest size: every kind of method, on the demo's real teachers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("peft", reason="peft is not installed: see bench/emoji/requirements.txt")

from bench.emoji import baselines
from bench.emoji.contest import Contest
from bench.emoji.results import BEGIN, END, tables, write_table
from bench.emoji.sizes import SIZES
from bench.emoji.teachers import make_teachers
from trainer.checkpoint import open_checkpoint

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "demo"
METHODS = ["teachers", "average", "TIES", "LoRA, rank 8", "dmm"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("emoji")


def run(folder: Path) -> str:
    """Runs the benchmark on two teachers and gives what it printed."""
    words = ["--size", "tiny", "--styles", "2", "--results", folder / "results.jsonl", "--methods"]
    command = [sys.executable, "-m", "bench.emoji", folder, *words, *METHODS]
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def read(folder: Path) -> dict[str, dict]:
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    return {result["method"]: result for result in map(json.loads, lines)}


def test_methods_are_compared(folder: Path) -> None:
    printed = run(folder)
    results = read(folder)
    assert list(results) == METHODS
    assert all(f"| {method} |" in printed for method in METHODS)
    for result in results.values():
        assert result["styles"] == 2
        assert result["features"] == "FD-lite0 (4 components)"
        assert result["fidt"] > 0
        assert result["device"]
    # The teachers are the floor, and one blend for all styles is far above it.
    assert results["teachers"]["fidt"] == pytest.approx(results["teachers"]["fidt_floor"])
    assert results["average"]["fidt"] > 2 * results["average"]["fidt_floor"]
    # Student and teacher for each of 3 steps' 8 pairs, and 2 x 4 pictures of 2 guided steps.
    assert results["dmm"]["unet_evaluations"] == 2 * 3 * 8 + 2 * 4 * 2 * 2
    assert results["dmm"]["config"]["train"]["start_from"] == "average"
    assert results["dmm"]["bytes"] < results["teachers"]["bytes"]
    assert results["average"]["change_seconds"] is None

    again = run(folder)
    assert [line for line in again.splitlines() if line.endswith("done before")] == [
        f"{method}: done before" for method in METHODS
    ]
    assert read(folder) == results


def test_task_arithmetic_adds_up_what_the_teachers_changed(tmp_path: Path) -> None:
    teachers = {name: DEMO / "teachers" / f"{name}.safetensors" for name in ("twemoji", "openmoji")}
    base = DEMO / "teachers" / "base.safetensors"
    prompts = DEMO / "prompts.txt"
    contest = Contest(SIZES["tiny"], base, teachers, prompts, prompts, tmp_path)
    entry = baselines.arithmetic(contest, tmp_path)
    merged = open_checkpoint(entry.files[0])
    name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    started, *tuned = (
        open_checkpoint(path).unet_tensors()[name].float() for path in (base, *teachers.values())
    )
    expected = started + 0.4 * sum(tensor - started for tensor in tuned)
    torch.testing.assert_close(merged.unet_tensors()[name].float(), expected, atol=1e-3, rtol=1e-3)
    assert merged.prediction_type == "v_prediction"
    assert entry.artists[0] is entry.artists[1]


def test_teachers_are_trained_once(tmp_path: Path) -> None:
    pictures = torch.rand(2, 6, 3, 64, 64) * 2 - 1
    captions = [f"thing {number}" for number in range(6)]
    art = {"ink": (pictures[0], captions), "oil": (pictures[1], captions)}
    folder = tmp_path / "teachers"
    make_teachers(folder, art, "tiny")
    assert {path.stem for path in folder.iterdir()} == {"base", "ink", "oil"}
    base, ink = (open_checkpoint(folder / f"{name}.safetensors") for name in ("base", "ink"))
    assert ink.prediction_type == "v_prediction"
    assert ink.text_encoder_configs and ink.vae_config
    name = "conv_in.weight"
    assert not torch.equal(base.unet_tensors()[name], ink.unet_tensors()[name])

    before = ink.path.stat().st_mtime_ns
    oil = load_file(folder / "oil.safetensors")
    (folder / "oil.safetensors").unlink()
    make_teachers(folder, art, "tiny")  # as after a kill
    again = load_file(folder / "oil.safetensors")
    assert all(torch.equal(tensor, again[name]) for name, tensor in oil.items())
    assert ink.path.stat().st_mtime_ns == before


def test_the_table_takes_its_place_in_the_readme(tmp_path: Path) -> None:
    result = {
        "method": "dmm",
        "size": "tiny",
        "styles": 2,
        "features": "FD-lite0",
        "device": "a computer",
        "fidt": 101.0,
        "fidt_interval": 2.5,
        "fidt_floor": 100.0,
        "fidt_unseen": 120.0,
        "kid": 0.00125,
        "unet_evaluations": 123456,
        "seconds": 61.0,
        "bytes": 7_900_000,
        "change_seconds": 0.0005,
    }
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    write_table([result], readme)
    text = readme.read_text(encoding="utf-8")
    assert "| dmm | 101.0 ± 2.5 | +1.0 % | 120.0 | 1.25 | 123,456 | 61 | 7.9 | 0.50 ms |" in text
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    write_table([result], readme)
    assert readme.read_text(encoding="utf-8") == text
    assert tables([]) == ""
