"""However a styled picture ends, the next one is what a host without the extension paints."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.webui.conftest import Untouched
from tests.webui.server import Refused, WebUI

INK = {"styles": {"ink": 1}}
REGIONS = {"columns": [1, 1], "regions": ["ink", "photo"]}
TEST = "dmm test"


@pytest.fixture(autouse=True)
def no_trace(webui: WebUI, untouched: Untouched) -> Iterator[None]:
    """Checked after every test here."""
    yield
    webui.choose("merged")
    assert webui.get("/test/changed-modules") == untouched.changed_modules
    assert webui.paint() == untouched.merged


@pytest.fixture(params=[INK, REGIONS], ids=["a style", "regions"])
def dmm(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.param


def test_the_extension_alone(webui: WebUI, untouched: Untouched) -> None:
    assert webui.paint() == untouched.merged
    webui.choose("plain")
    assert webui.paint() == untouched.plain


def test_a_picture(webui: WebUI, untouched: Untouched, dmm: dict) -> None:
    assert webui.paint(dmm) != untouched.merged
    webui.choose("plain")
    assert webui.paint() == untouched.plain


@pytest.mark.parametrize("wrong", [{"styles": {"inc": 1}}, {"columns": "2,1", "regions": ["inc"]}])
def test_an_error_in_our_own_hook(webui: WebUI, wrong: dict) -> None:
    with pytest.raises(Refused, match="There is no style 'inc'"):
        webui.paint(wrong)


def test_an_error_in_the_hook_of_another_script(webui: WebUI, dmm: dict) -> None:
    """The host only notes it, and paints on."""
    painted = webui.paint(dmm, others={TEST: {"args": [{"fail": "process"}]}})
    assert "a hook fails, as it was told to" in webui.log()
    assert painted == webui.paint(dmm)


def test_an_error_in_the_midst_of_sampling(webui: WebUI, dmm: dict) -> None:
    with pytest.raises(Refused, match="the UNet fails, as it was told to"):
        webui.paint(dmm, others={TEST: {"args": [{"fail": "UNet"}]}}, steps=5)


@pytest.mark.parametrize("way", ["interrupt", "skip"])
def test_a_picture_that_is_cut_short(webui: WebUI, dmm: dict, way: str) -> None:
    with ThreadPoolExecutor() as pool:
        painting = pool.submit(webui.paint, dmm, steps=150)
        while webui.get("/sdapi/v1/progress")["state"]["sampling_step"] < 2:
            assert not painting.done()
        webui.post(f"/sdapi/v1/{way}", {})
        painting.result()


def test_a_checkpoint_that_was_unloaded(webui: WebUI, dmm: dict) -> None:
    before = webui.paint(dmm)
    webui.post("/sdapi/v1/unload-checkpoint", {})
    webui.post("/sdapi/v1/reload-checkpoint", {})
    assert webui.paint(dmm) == before


def test_a_compiled_unet_is_refused(webui: WebUI, dmm: dict) -> None:
    if webui.kind == "forge":
        pytest.skip("Forge has no compiled UNets")
    webui.post("/sdapi/v1/options", {"sd_unet": "[TEST] compiled"})
    with pytest.raises(Refused) as refused:
        webui.paint(dmm)
    webui.post("/sdapi/v1/options", {"sd_unet": "None"})
    assert refused.value.status == 422
    assert "The SD Unet '[TEST] compiled' is a compiled UNet" in refused.value.answer["detail"]


def test_different_tags_in_a_batch_with_and_are_refused(webui: WebUI) -> None:
    """Its samples do not tell which picture they belong to."""
    matrix = {"script_name": "prompt matrix", "batch_size": 2}
    matrix["script_args"] = [False, False, "positive", "comma", 0]
    with pytest.raises(Refused) as refused:
        webui.paint(prompt="a cat AND a dog|<dmm:photo:1>", **matrix)
    assert refused.value.status == 422
    assert "different styles, by their <dmm:…> tags" in refused.value.answer["detail"]
