"""The emoji benchmark in its smallest size: every kind of method, on the demo's real teachers."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file

pytest.importorskip("peft", reason="peft is not installed: see bench/emoji/requirements.txt")

from bench.emoji import baselines
from bench.emoji.contest import Contest
from bench.emoji.filters import FILTERS
from bench.emoji.probes import StyleProbe, concept_accuracy, style_accuracy
from bench.emoji.regions import seam
from bench.emoji.results import tables, write_section
from bench.emoji.sizes import SIZES
from bench.emoji.teachers import make_teachers
from trainer.checkpoint import open_checkpoint

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "demo"
METHODS = [
    *("teachers", "average", "TIES", "LoRA, rank 8"),
    *("paper", "dmm, a fifth", "dmm", "dmm, extended"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("emoji")


def run(folder: Path, module: str = "bench.emoji", *more: str) -> str:
    """Runs a command of the benchmark on two teachers and gives what it printed."""
    results = folder / f"{module}.jsonl"
    words = ["--size", "tiny", "--styles", "2", "--results", results]
    command = [sys.executable, "-m", module, folder, *words, *more]
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def read(folder: Path, module: str = "bench.emoji") -> dict[str, dict]:
    lines = (folder / f"{module}.jsonl").read_text(encoding="utf-8").splitlines()
    return {result["method"]: result for result in map(json.loads, lines)}


def test_methods_are_compared(folder: Path) -> None:
    printed = run(folder, "bench.emoji", "--methods", *METHODS)
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
    # Student and teacher for each of 3 steps' 8 pairs and 2 more steps' 8, and 2 x 4 pictures of 2
    # guided steps. Ours has 24 steps of a pair, and 2 x 4 pictures of one step without guidance.
    paper, ours, fifth = (results[method] for method in ("paper", "dmm", "dmm, a fifth"))
    assert paper["painting_evaluations"] == 2 * 4 * 2 * 2
    assert paper["unet_evaluations"] == 2 * (3 * 8 + 2 * 8) + 2 * 4 * 2 * 2
    assert ours["painting_evaluations"] == fifth["painting_evaluations"] == 2 * 4
    assert ours["unet_evaluations"] == 2 * 24 + 2 * 4
    assert 0.9 < 5 * fifth["unet_evaluations"] / paper["unet_evaluations"] <= 1
    assert results["dmm"]["config"]["train"]["start_from"] == "average"
    assert results["dmm"]["bytes"] < results["teachers"]["bytes"]
    assert results["dmm"]["peak_bytes"] > 50 * 2**20
    assert results["average"]["change_seconds"] is None
    # The probes know the teachers' other pictures, and what is said of each style adds up.
    assert results["teachers"]["style"] == results["dmm"]["style_ceiling"] > 0.9
    assert results["teachers"]["concept"] > results["average"]["concept"]
    assert sum(results["dmm"]["fidt_styles"].values()) == pytest.approx(results["dmm"]["fidt"])
    # Both merges count, and the second's painting by the first.
    assert results["dmm, extended"]["unet_evaluations"] > results["dmm"]["unet_evaluations"]
    assert list(results["dmm, extended"]["fidt_styles"]) == list(results["dmm"]["fidt_styles"])

    again = run(folder, "bench.emoji", "--methods", *METHODS)
    assert [line for line in again.splitlines() if line.endswith("done before")] == [
        f"{method}: done before" for method in METHODS
    ]
    assert read(folder) == results


def test_mixes_are_compared(folder: Path) -> None:
    run(folder, "bench.emoji.mixing")
    results = read(folder, "bench.emoji.mixing")
    assert list(results) == ["weighted merging", "dmm"]
    for result in results.values():
        assert result["distance"] > 0
        assert 0.5 <= result["largest_share"] <= 1
    assert results["dmm"]["mix_seconds"] < results["weighted merging"]["mix_seconds"]


def test_regions_are_compared(folder: Path) -> None:
    run(folder, "bench.emoji.regions")
    results = read(folder, "bench.emoji.regions")
    pasted, switching, _, one = results.values()
    # Halves of the teachers' own pictures, hence without any distance to them.
    assert pasted["distance"] == 0 and pasted["style"] == 1
    assert pasted["seam"] > 2 * switching["seam"]
    assert 0 < switching["distance"] < switching["distance_other"]
    assert one["unet_evaluations"] == switching["unet_evaluations"] / 2
    assert one["bytes"] < switching["bytes"]


def test_probes_name_what_they_know() -> None:
    generator = torch.Generator().manual_seed(0)
    styles, things = (
        torch.randn(3, 32, generator=generator),
        torch.randn(20, 32, generator=generator),
    )
    sets = [style + things for style in styles]
    noise = [rows + 0.1 * torch.randn(rows.shape, generator=generator) for rows in sets]
    assert style_accuracy(StyleProbe(sets), noise) == 1
    assert style_accuracy(StyleProbe(sets), [noise[1], noise[2], noise[0]]) == 0
    prompts = [f"thing {number}" for number in range(20)]
    assert concept_accuracy(noise[0], sets[0], prompts) == 1
    assert concept_accuracy(noise[0].flip(0), sets[0], prompts) == 0


def test_a_seam_is_seen() -> None:
    smooth = torch.linspace(0, 1, 64).expand(2, 64, 64)[..., None].expand(2, 64, 64, 3)
    assert seam(smooth) == pytest.approx(1, abs=1e-3)
    assert seam(torch.cat([smooth[:, :, :32], smooth[:, :, 32:] - 0.3], dim=2)) > 10


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


def test_filters_make_styles_of_one() -> None:
    picture = Image.new("RGB", (256, 256), "white")
    ImageDraw.Draw(picture).ellipse((32, 32, 224, 224), fill="#e08030", outline="#402010", width=9)
    seen = {name: restyle(picture) for name, restyle in FILTERS.items()}
    assert {(one.size, one.mode) for one in seen.values()} == {(picture.size, "RGB")}
    every = [picture, *seen.values()]
    assert all(one.tobytes() != other.tobytes() for one, other in combinations(every, 2))
    assert picture.getpixel((0, 0)) == (255, 255, 255)  # none has drawn on the original


def result(seed: int, trace: float, styles: int = 2) -> dict:
    return {
        "method": "dmm",
        "size": "tiny",
        "styles": styles,
        "features": "FD-lite0",
        "seed": seed,
        "device": "a computer",
        "fidt": trace,
        "fidt_floor": 100.0,
        "fidt_unseen": 120.0,
        "fidt_styles": {"ink": trace / 4, "oil": 3 * trace / 4},
        "kid": 0.00125,
        "style": 0.9,
        "style_ceiling": 0.95,
        "concept": 0.5,
        "concept_ceiling": 1.0,
        "samples": 2345,
        "unet_evaluations": 123456,
        "painting_evaluations": 456,
        "seconds": 61.0,
        "peak_bytes": 2**30,
        "bytes": 7_900_000,
        "change_seconds": 0.0005,
    }


def test_runs_make_a_row_with_an_interval() -> None:
    text = tables([result(0, 100.0), result(1, 102.0)])
    # 1 either side of the mean, and Student's t of one degree of freedom: 12.706.
    row = "| dmm | 2 | 101.0 ± 12.7 | +1.0 % | 120.0 ± 0.0 | 0.90 of 0.95 | 0.50 of 1.00 | 1.25 |"
    assert row in text
    assert "| dmm | 2,345 | 123,456 | 456 | 61 | 1,024 | 7.9 | 0.50 ms |" in text
    assert "| dmm | 25.2 ± 3.2 | 75.8 ± 9.5 |" in text
    assert "by the number of styles" not in text
    assert "| dmm | 4 | 1 | 50.0 | 25.0 | 0.90 of 0.95 |" in tables(
        [result(0, 100.0), result(0, 200.0, styles=4)]
    )


def test_the_table_takes_its_place_in_the_readme(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    marks = "<!-- results -->\nold\n<!-- end of results -->"
    readme.write_text(f"before\n{marks}\nafter\n", encoding="utf-8")
    write_section(tables([result(0, 101.0)]), path=readme)
    text = readme.read_text(encoding="utf-8")
    assert "| dmm | 1 | 101.0 | +1.0 % |" in text
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    write_section(tables([result(0, 101.0)]), path=readme)
    assert readme.read_text(encoding="utf-8") == text
    assert tables([]) == ""
