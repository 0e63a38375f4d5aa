"""Evaluation by the command line, of real if random networks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from dmm.errors import DmmError
from dmm.injection import styled
from dmm.merged import read_styles
from dmm.metadata import Style
from tests.trainer import evaluating
from tests.trainer.evaluating import NAMES, PROMPTS, quietly, report, words
from tests.trainer.processes import ROOT, run_in_two
from trainer.checkpoint import open_checkpoint
from trainer.evaluate.contestants import open_contestants
from trainer.evaluate.extractors import Lite0
from trainer.evaluate.features import check_counts
from trainer.evaluate.prompts import open_prompts
from trainer.sampling import decode, sample_latents
from trainer.text import TextEncoders

COUNT = len(PROMPTS)
FEW = ("--components", "3")  # of 1280 features, whose matrices take seconds


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluating.write_all(tmp_path_factory.mktemp("evaluate"))


@pytest.fixture(scope="module")
def folder(merged: Path) -> Path:
    """The report of a plain run, and beside it its cache."""
    output = merged.parent / "plain" / "report"
    assert quietly(*words(merged, "--output", output, *FEW)) == 0
    return output


def painted(path: Path, seed: int, style: int | None = None) -> list:
    """What a checkpoint paints of all prompts, without a line of the evaluation's own painting."""
    checkpoint = open_checkpoint(path)
    unet, text = checkpoint.load_unet(), TextEncoders(checkpoint)
    vector = None
    if style is not None:
        with torch.no_grad():
            vector = read_styles(path).prompts(torch.eye(len(NAMES))[style])
    negative = "worst quality,low quality,normal quality,lowres,watermark,nsfw"
    with styled(unet, vector):
        latents = sample_latents(
            unet,
            text.encode(PROMPTS),
            text.encode([negative]),
            shape=(4, 8, 8),
            seeds=[seed + number for number in range(COUNT)],
            steps=evaluating.STEPS,
            guidance=evaluating.GUIDANCE,
        )
    return decode(checkpoint.load_vae(), latents.half().float())


class Indexed(nn.Module):
    """Features of pictures that torchmetrics knows by number alone."""

    def __init__(self, features: torch.Tensor) -> None:
        super().__init__()
        self.features = features
        self.num_features = features.shape[1]

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        return self.features[numbers[:, 0, 0, 0].long()]


def torchmetrics_fid(one: list, other: list) -> float:
    """FID by torchmetrics, of the very same pictures."""
    features = Lite0("cpu")([*one, *other])
    metric = FrechetInceptionDistance(feature=Indexed(features), normalize=False)
    metric.set_dtype(torch.float64)
    numbers = torch.arange(len(features), dtype=torch.uint8).reshape(-1, 1, 1, 1)
    metric.update(numbers[: len(one)].expand(-1, 3, 1, 1), real=True)
    metric.update(numbers[len(one) :].expand(-1, 3, 1, 1), real=False)
    return float(metric.compute())


def test_figures_are_those_of_torchmetrics_on_the_same_pictures(merged: Path, folder: Path) -> None:
    output = folder.parent / "all-features"
    assert quietly(*words(merged, "--output", output)) == 0
    assert report(output)["figure"] == "FD-lite0"
    distances = report(output)["distances"]
    # Few as they are, the components tell less than all features, and KID is of all features.
    assert report(folder)["distances"]["trace"] < distances["trace"]
    assert report(folder)["distances"]["kernel"] == distances["kernel"]
    first = painted(merged.parent / "ink.safetensors", 0)
    again = painted(merged.parent / "oil.safetensors", COUNT)
    student = painted(merged, COUNT, style=1)
    assert distances["matrix"][1][0] == pytest.approx(torchmetrics_fid(student, first), rel=1e-3)
    assert distances["reference"][2][0] == pytest.approx(torchmetrics_fid(again, first), rel=1e-3)


def test_totals_are_those_of_the_matrices(folder: Path) -> None:
    found = report(folder)
    distances = found["distances"]
    trace, floor = (
        sum(distances[matrix][style][style] for style in range(3))
        for matrix in ("matrix", "reference")
    )
    assert distances["trace"] == pytest.approx(trace)
    assert distances["floor"] == pytest.approx(floor)
    assert distances["excess"] == pytest.approx(trace / floor - 1)
    assert found["figure"] == "FD-lite0 (3 components)"
    assert found["styles"] == list(NAMES)


def test_the_same_command_again_paints_nothing(merged: Path, folder: Path) -> None:
    cache = folder.parent / "dmm-cache"
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    figures = report(folder)["distances"]
    assert quietly(*words(merged, "--output", folder, *FEW)) == 0
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before
    assert report(folder)["distances"] == figures


KILLED = """
import sys
from pathlib import Path
from tests.trainer.kill_merge import Changes
from trainer.run import app, main
Changes(Path(sys.argv[1]), int(sys.argv[2]))
main(lambda: app(sys.argv[3:]))
"""


def test_a_killed_run_goes_on(merged: Path, folder: Path) -> None:
    output = merged.parent / "killed" / "report"
    # Among the features: a shard is four changes to the disk, and nine sets are painted before.
    said = [sys.executable, "-c", KILLED, output.parent, 60]
    run = [str(word) for word in (*said, *words(merged, "--output", output, *FEW))]
    done = subprocess.run(run, cwd=ROOT, capture_output=True)
    assert done.returncode != 0
    assert not (output / "report.html").exists()
    kept = {path: path.stat().st_mtime_ns for path in output.parent.rglob("*.safetensors")}
    assert kept
    assert quietly(*words(merged, "--output", output, *FEW)) == 0
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert report(output)["distances"] == report(folder)["distances"]


def test_two_processes_share_the_work(merged: Path, folder: Path) -> None:
    output = merged.parent / "two" / "report"
    said = run_in_two(*words(merged, "--output", output, *FEW))
    assert report(output)["distances"] == report(folder)["distances"]
    assert [Path(line).name for line in said].count("report.html") == 1


def test_teachers_that_are_not_this_checkpoints(
    merged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn
) -> None:
    other = evaluating.write_network(tmp_path / "ink.safetensors", 11)
    stranger = evaluating.write_network(tmp_path / "pencil.safetensors", 12)
    anime = merged.parent / "anime.safetensors"
    found = open_contestants(merged, [str(other), str(stranger), str(anime)])
    messages = [str(warning.message) for warning in recwarn]
    learned = {style.name: style.sha256 for style in read_styles(merged).styles}
    assert found.names == ["ink", "anime"]
    assert any(
        open_checkpoint(other).sha256[:10] in message and learned["ink"][:10] in message
        for message in messages
    )
    assert any(
        "pencil.safetensors" in message and "none of this" in message for message in messages
    )
    assert any("no teacher here for oil" in message for message in messages)

    meant = open_contestants(merged, [f"Oil={stranger}"])
    assert meant.names == ["oil"]
    assert meant.teachers[0].checkpoint.path == stranger
    assert quietly("evaluate", merged, "--prompts", merged, "--teachers", stranger) == 2
    assert "None of the files is a teacher of this checkpoint" in capsys.readouterr().err
    assert quietly(*words(merged), merged.parent / "ink.safetensors") == 2
    assert "both stand for the style 'ink'" in capsys.readouterr().err


def test_teachers_from_the_merges_own_file(merged: Path) -> None:
    """Which alone knows of clip skip, and of prediction types that a file does not tell."""
    teachers = [{"path": f"{name}.safetensors", "name": name} for name in NAMES]
    teachers[1] |= {"clip_skip": 2, "prediction_type": "v_prediction"}
    said = {
        "base": "ink.safetensors",
        "teachers": teachers,
        "output": "other.safetensors",
        "data": {"prompts": "prompts.txt", "resolution": 16},
    }
    config = merged.parent / "merge.yaml"
    config.write_text(json.dumps(said), encoding="utf-8")  # which is YAML too
    found = open_contestants(merged, config=config)
    assert found.names == list(NAMES)
    assert [teacher.clip_skip for teacher in found.teachers] == [None, 2, None]
    assert found.teachers[1].prediction_type == "v_prediction"


def test_too_few_pictures(merged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quietly(*words(merged, "--output", tmp_path, "--components", "6")) == 2
    assert "6 pictures are too few" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    with pytest.warns(UserWarning, match="Paint at least 1281"):
        check_counts([1280], Lite0("cpu"), None)


def test_coco_captions(tmp_path: Path) -> None:
    path = tmp_path / "captions_val2014.json"
    annotations = [
        {"image_id": 7, "id": 1, "caption": "A cat \n on a mat."},
        {"image_id": 9, "id": 2, "caption": "A dog."},
        {"image_id": 7, "id": 3, "caption": "The same cat."},
    ]
    path.write_text(json.dumps({"images": [], "annotations": annotations}), encoding="utf-8")
    assert open_prompts(path).captions == ["A cat on a mat.", "A dog."]


def test_what_lines_say_of_how_to_paint_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("a cat --d 7 --w 512 --h 768\n# a dog\na fox", encoding="utf-8")
    found = open_prompts(path)
    assert found.captions == ["a cat", "a fox"]
    assert [(prompt.seed, prompt.size) for prompt in found.prompts] == [(None, None)] * 2


@pytest.mark.parametrize("text", ["[]", "{", '{"annotations": [{"caption": 3}]}', "{}"])
def test_json_that_is_not_cocos(
    merged: Path, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "captions.json"
    path.write_text(text, encoding="utf-8")
    assert quietly(*words(merged), "--prompts", path) == 2
    assert f"{path} is not a file of COCO captions" in capsys.readouterr().err


def test_coco_captions_without_any(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    path.write_text('{"annotations": []}', encoding="utf-8")
    with pytest.raises(DmmError, match="holds no captions"):
        open_prompts(path)


HOSTILE = '<img src=x onerror="document.title=1">|`'


def test_the_page_opens_and_shows_strangers_words_as_text(tmp_path: Path, chromium) -> None:
    evaluating.write_all(tmp_path)
    files = [tmp_path / f"{name}.safetensors" for name in NAMES]
    hashes = [open_checkpoint(file).sha256 for file in files]
    (tmp_path / "merged.safetensors").unlink()
    named = [Style(HOSTILE, hashes[0]), Style("anime", hashes[1]), Style("oil", hashes[2])]
    merged = evaluating.write_merged(tmp_path / "merged.safetensors", named)
    output = tmp_path / "report"
    assert quietly(*words(merged, "--output", output, *FEW)) == 0

    page = chromium.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((output / "report.html").as_uri())
    page.wait_for_function("[...document.images].every((image) => image.complete)")
    assert page.title() == "Evaluation of merged.safetensors"
    assert page.evaluate("[...document.images].every((image) => image.naturalWidth === 16)")
    # Teacher and student in 3 styles, no style, 3 strips of 11, and every pair twice.
    assert page.locator("img").count() == 6 * (2 * 3 + 1) + 3 * 11 + 3 * 3
    assert page.locator("h3").first.inner_text().startswith(HOSTILE)
    assert all(url.startswith(("data:", "file:")) for url in asked)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.close()
    assert "<img" not in (output / "report.md").read_text(encoding="utf-8").replace("\\<img", "")
