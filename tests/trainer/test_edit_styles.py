"""Dropping, reordering and renaming styles: what is left paints as it did."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dmm.errors import DmmError
from dmm.merged import Styles, read_styles, write_merged, write_style_file
from dmm.metadata import Style, merged_metadata
from dmm.style_prompts import StylePrompts
from dmm.tensors import open_tensors
from tests.nets import small_sd1_unet, small_sdxl_unet, small_vae, write_single_file
from trainer.edit_styles import drop_styles, rename_styles, reorder_styles

STYLES = [Style(name, sha256=name[0] * 64, source=f"{name}.ckpt") for name in ("ink", "oil", "pen")]
UNETS = {"sd1": small_sd1_unet, "sdxl": small_sdxl_unet}


@pytest.fixture(params=["sd1", "sdxl"])
def merged(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    family, unet = request.param, UNETS[request.param]()
    plain = write_single_file(tmp_path / "plain.safetensors", unet, small_vae())
    dim = 4 * unet.config.block_out_channels[0]
    metadata = merged_metadata(
        STYLES,
        {"made": "by hand"},
        family=family,
        title="three",
        resolution=(512, 512),
        prediction_type="epsilon",
    )
    path = tmp_path / "merged.safetensors"
    styles = Styles(StylePrompts(3, dim), STYLES, family, {"made": "by hand"})
    write_merged(path, dict(open_tensors(plain)), styles, metadata)
    return path


def vector(path: Path, name: str) -> torch.Tensor:
    styles = read_styles(path)
    return styles.prompts(torch.eye(len(styles.names))[styles.names.index(name)])


def same_but_for_styles(path: Path, other: Path) -> bool:
    one, two = open_tensors(path), open_tensors(other)
    assert one.keys() == two.keys()
    return all(torch.equal(one[key], two[key]) for key in one if "model_embedding" not in key)


def test_drop_leaves_the_others_as_they_were(merged: Path, tmp_path: Path) -> None:
    output = tmp_path / "two.safetensors"
    drop_styles(merged, ["oil"], output)
    read = read_styles(output)
    assert read.styles == [STYLES[0], STYLES[2]] and read.recipe == {"made": "by hand"}
    assert torch.equal(vector(output, "pen"), vector(merged, "pen"))
    assert same_but_for_styles(merged, output)
    assert "oil" not in str(open_tensors(output).metadata)


def test_reorder_moves_rows_with_their_names(merged: Path, tmp_path: Path) -> None:
    output = tmp_path / "ordered.safetensors"
    reorder_styles(merged, ["pen", "INK"], output)
    assert read_styles(output).names == ["pen", "ink", "oil"]
    for name in ("ink", "oil", "pen"):
        assert torch.equal(vector(output, name), vector(merged, name))
    assert same_but_for_styles(merged, output)


def test_rename_keeps_everything_else(merged: Path, tmp_path: Path) -> None:
    output = tmp_path / "renamed.safetensors"
    rename_styles(merged, {"ink": "oil", "oil": " Öl  farbe "}, output)
    read = read_styles(output)
    assert read.names == ["oil", "Öl farbe", "pen"]
    assert read.styles[0].source == "ink.ckpt"
    assert torch.equal(vector(output, "oil"), vector(merged, "ink"))


def test_a_style_file_is_edited_too(merged: Path, tmp_path: Path) -> None:
    styles = read_styles(merged)
    write_style_file(tmp_path / "styles.safetensors", styles, open_tensors(merged).metadata)
    drop_styles(tmp_path / "styles.safetensors", ["ink", "pen"], tmp_path / "oil.safetensors")
    assert read_styles(tmp_path / "oil.safetensors").names == ["oil"]


def test_bad_input_changes_nothing(merged: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.safetensors"
    cases = [
        (lambda: drop_styles(merged, ["inc"], output), "Did you mean 'ink'"),
        (lambda: drop_styles(merged, ["ink", "oil", "pen"], output), "Keep at least one"),
        (lambda: reorder_styles(merged, ["ink", "Ink"], output), "named twice"),
        (lambda: rename_styles(merged, {"ink": "a, b"}, output), "without commas"),
        (lambda: rename_styles(merged, {"ink": "OIL"}, output), "Give each its own name"),
        (lambda: drop_styles(tmp_path / "plain.safetensors", ["ink"], output), "plain checkpoint"),
        (lambda: drop_styles(tmp_path, ["ink"], output), "is a folder"),
        (lambda: drop_styles(merged, ["ink"], merged), "exists already"),
    ]
    before = merged.read_bytes()
    for call, message in cases:
        with pytest.raises(DmmError, match=message):
            call()
    assert not output.exists() and merged.read_bytes() == before
