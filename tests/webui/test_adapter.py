"""Adapters: a LoRA with styles, on a plain checkpoint, paints as both folded into one file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from dmm.tensors import save_tensors
from tests.adapters import write_adapter
from tests.comfyui.checkpoints import DIM, small_styles, styles_metadata
from tests.hosts import find_host
from tests.webui.browser import Txt2Img
from tests.webui.checkpoints import NARROW_DIM, write_checkpoint
from tests.webui.server import Refused, WebUI

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest.importorskip("diffusers", reason="the trainer needs diffusers")

NAMES = ("chalk", "neon")
LORA = "<lora:pens:1>"


@pytest.fixture(scope="module")
def adapter(running: WebUI, kind: str, checkpoints: Path) -> Path:
    """ "pens", an adapter on "bare" with the styles chalk and neon, and "folded" of the two.

    The WebUI knows kohya's names on a UNet with all of SD1.5's blocks only.
    """
    from trainer.fold import fold

    is_webui = kind == "webui"
    yaml = find_host(kind).path / "configs" / "v1-inference.yaml" if is_webui else None
    bare, folded = checkpoints / "bare.safetensors", checkpoints / "folded.safetensors"
    write_checkpoint(bare, None, yaml, "narrow" if is_webui else "small")
    styles = small_styles(NAMES, seed=3, dim=NARROW_DIM if is_webui else DIM)
    path = write_adapter(running.models / "Lora" / "pens.safetensors", bare, styles)
    fold(path, bare, folded, overwrite=True)
    if is_webui:
        shutil.copy(bare.with_suffix(".yaml"), folded.with_suffix(".yaml"))
    running.post("/sdapi/v1/refresh-checkpoints", {})
    return path


def paint(webui: WebUI, checkpoint: str, *args, **body) -> Tensor:
    """Latents, to the bit."""
    webui.choose(checkpoint)
    return webui.sample(*args, **body)


def apart(one: Tensor, other: Tensor) -> float:
    return (one - other).abs().max().item()


@pytest.mark.parametrize("style", NAMES)
def test_paints_as_the_folded_checkpoint(webui: WebUI, adapter: Path, style: str) -> None:
    mix = {"styles": {style: 1}}
    ours = paint(webui, "bare", mix, prompt=f"a cat {LORA}")
    theirs = paint(webui, "folded", mix, prompt="a cat")
    bare = paint(webui, "bare", prompt="a cat")
    assert apart(ours, theirs) < 0.05 * apart(bare, theirs)


def test_tags_and_no_style(webui: WebUI, adapter: Path) -> None:
    tagged = paint(webui, "bare", prompt=f"a cat {LORA} <dmm:neon:1>")
    mixed = paint(webui, "bare", {"styles": {"neon": 1}}, prompt=f"a cat {LORA}")
    assert torch.equal(tagged, mixed)
    alone = paint(webui, "bare", prompt=f"a cat {LORA}")
    assert apart(alone, tagged) > 0.01
    folded = paint(webui, "folded", prompt="a cat")
    assert apart(alone, folded) < 0.05 * apart(alone, tagged)


def test_leaves_no_trace(webui: WebUI, adapter: Path) -> None:
    before = paint(webui, "bare", prompt="a cat")
    paint(webui, "bare", {"styles": {"chalk": 1}}, prompt=f"a cat {LORA}")
    assert torch.equal(paint(webui, "bare", prompt="a cat"), before)
    with pytest.raises(Refused):  # plain again, it has no styles to paint in
        paint(webui, "bare", {"styles": {"chalk": 1}}, prompt="a cat")


def test_the_accordion_is_told_its_styles(webui: WebUI, adapter: Path) -> None:
    def names(prompt: str) -> list[str]:
        return webui.get("/dmm/styles", checkpoint="bare", prompt=prompt)["styles"]

    assert names(f"a cat {LORA}") == list(NAMES)
    assert names("a cat") == []
    assert names("a cat <lora:of nobody:1>") == []


def test_on_another_base_it_says_so(page: Page, webui: WebUI, adapter: Path) -> None:
    for base in ("bare", "folded"):
        webui.ask("POST", "/test/calculate-hash", checkpoint=base)
        webui.choose(base)
        tab = Txt2Img(page, webui)
        tab.prompt.fill(f"a cat {LORA}")
        tab.shows({"chalk": 0, "neon": 0})
        said = tab.generate()
        notice = "pens.safetensors was trained on bare.safetensors, not on folded.safetensors"
        assert (notice in said) == (base == "folded")


def test_a_name_that_two_files_claim_is_the_file_s(webui: WebUI, adapter: Path) -> None:
    """As to the host, which paints with it."""
    chalk = {"styles": {"chalk": 1}}
    before = paint(webui, "bare", chalk, prompt=f"a cat {LORA}")
    styles = small_styles(("feather",), dim=NARROW_DIM if webui.kind == "webui" else DIM)
    lora = {"lora_unet_conv_in.alpha": torch.tensor(1.0)}
    other = adapter.with_name("quills.safetensors")
    metadata = styles_metadata(styles) | {"ss_output_name": "pens"}
    save_tensors(other, styles.tensors() | lora, metadata)
    webui.post("/sdapi/v1/refresh-loras", {})
    assert torch.equal(paint(webui, "bare", chalk, prompt=f"a cat {LORA}"), before)
    other.unlink()
    webui.post("/sdapi/v1/refresh-loras", {})


def test_two_adapters_are_refused(webui: WebUI, adapter: Path) -> None:
    shutil.copy(adapter, adapter.with_name("pencils.safetensors"))
    with pytest.raises(Refused) as refused:
        paint(webui, "bare", {"styles": {"chalk": 1}}, prompt=f"{LORA} <lora:pencils:1>")
    assert "are both adapters" in refused.value.answer["detail"]
