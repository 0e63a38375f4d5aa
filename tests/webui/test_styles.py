"""Styles by the API: that they are as asked for, and that they leave no trace."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sd_webui_dmm.request import Request
from tests.webui.server import Painted, Refused, WebUI, encoded

INK = {"styles": {"ink": 1}}


def hires(webui: WebUI) -> dict:
    settings = {
        "enable_hr": True,
        "hr_scale": 2,
        "hr_upscaler": "Latent",
        "denoising_strength": 0.7,
    }
    # Forge fails without it where the request comes by the API.
    return settings | (
        {"hr_additional_modules": ["Use same choices"]} if webui.kind == "forge" else {}
    )


@pytest.fixture(scope="session")
def ink(running: WebUI) -> Painted:
    running.choose("merged")
    return running.paint(INK)


@pytest.mark.parametrize(
    "nothing",
    [
        None,
        {"enabled": False, "styles": {"ink": 1}},
        {"styles": {}},
        {"styles": {"ink": 1}, "strength": 0},
    ],
    ids=["left out", "disabled", "no style", "strength 0"],
)
def test_off_changes_nothing(webui: WebUI, unstyled: Painted, nothing: dict | None) -> None:
    assert webui.paint(nothing) == unstyled


def test_every_style_paints_its_own_picture(webui: WebUI, unstyled: Painted, ink: Painted) -> None:
    others = [webui.paint({"styles": {name: 1}}) for name in ("anime", "photo")]
    pictures = [painted.pictures.tobytes() for painted in (unstyled, ink, *others)]
    assert len(set(pictures)) == 4


def test_a_mix_is_spelled_in_several_ways(webui: WebUI) -> None:
    by_name = webui.paint({"styles": {"ink": 0.6, "photo": 0.2}})
    assert webui.paint({"styles": "ink:0.6, photo:0.2"}) == by_name
    assert webui.paint({"styles": [0.6, 0, 0.2]}) == by_name
    assert webui.paint({"styles": {"INK": 0.75, "photo": 0.25}}) == by_name
    assert webui.paint({"styles": [0.6, 0, 0.2], "normalise": False}) != by_name


def positional(**said: Any) -> dict[str, Any]:
    """The accordion's values in their order, as older clients send them, null for all else."""
    values = [said.get(field.name) for field in fields(Request)]
    return {"dmm styles": {"args": [True, *values, said.get("controls")]}}


def test_null_in_the_place_of_an_argument_says_nothing(webui: WebUI, ink: Painted) -> None:
    assert webui.paint(others=positional(mix="ink:1")) == ink


def test_what_nobody_foresaw_is_no_picture_without_styles(webui: WebUI) -> None:
    with pytest.raises(Refused, match="'int' object has no attribute 'splitlines'"):
        webui.paint(others=positional(mix="ink:1", regions=7))


def test_settings_of_a_mix_change_the_picture(webui: WebUI) -> None:
    mix = {"styles": {"ink": 0.5, "photo": 0.5}}
    settings = [{}, {"strength": 0.5}, {"mixing": "after MLP"}]
    pictures = {webui.paint(mix | setting).pictures.tobytes() for setting in settings}
    assert len(pictures) == len(settings)


def test_a_picture_leaves_no_trace(webui: WebUI, unstyled: Painted, ink: Painted) -> None:
    assert webui.paint(INK) == ink
    assert webui.paint() == unstyled


def test_an_error_leaves_no_trace(webui: WebUI, unstyled: Painted) -> None:
    with pytest.raises(Refused):
        webui.paint({"styles": {"chalk": 1}})
    assert webui.paint() == unstyled


def test_an_interrupted_picture_leaves_no_trace(webui: WebUI, unstyled: Painted) -> None:
    with ThreadPoolExecutor() as pool:
        painting = pool.submit(webui.paint, INK, steps=150)
        while webui.get("/sdapi/v1/progress")["state"]["sampling_step"] < 2:
            assert not painting.done()
        webui.post("/sdapi/v1/interrupt", {})
        assert painting.result().pictures.shape == (1, 64, 64, 3)
    assert webui.paint() == unstyled


def test_a_plain_checkpoint_has_no_styles_to_paint_in(webui: WebUI, unstyled: Painted) -> None:
    webui.choose("plain")
    with pytest.raises(Refused, match=r"plain\.safetensors is a plain checkpoint without styles"):
        webui.paint(INK)
    assert webui.paint(INK | {"enabled": False}) == unstyled


@pytest.mark.parametrize("dmm", [{"controls": []}, {"enabled": True, "controls": []}], ids=str)
def test_controls_alone_ask_for_no_styles(webui: WebUI, unstyled: Painted, dmm: dict) -> None:
    webui.choose("plain")
    assert webui.paint(dmm) == unstyled


def test_override_settings_choose_the_checkpoint_that_counts(
    webui: WebUI, unstyled: Painted, ink: Painted
) -> None:
    plain = {"sd_model_checkpoint": "plain.safetensors"}
    with pytest.raises(Refused, match=r"plain\.safetensors is a plain checkpoint"):
        webui.paint(INK, override_settings=plain)
    assert webui.paint(override_settings=plain) == unstyled
    merged = {"sd_model_checkpoint": "merged.safetensors"}
    webui.choose("plain")
    assert webui.paint(INK, override_settings=merged) == ink


def test_a_checkpoint_kept_in_memory_is_known_again(
    webui: WebUI, unstyled: Painted, ink: Painted
) -> None:
    if webui.kind == "forge":
        pytest.skip("Forge keeps one checkpoint in memory")
    webui.post("/sdapi/v1/options", {"sd_checkpoints_limit": 2})
    for checkpoint in ("plain", "merged", "plain"):
        webui.choose(checkpoint)
        enabled = checkpoint == "merged"
        assert webui.paint(INK | {"enabled": enabled}) == (ink if enabled else unstyled)
    webui.post("/sdapi/v1/options", {"sd_checkpoints_limit": 1})


def test_the_infotext_brings_the_picture_back(webui: WebUI) -> None:
    if webui.kind == "forge":
        pytest.skip("Forge's API fails on every infotext; see test_browser.py")
    dmm = {
        "styles": {"ink": 0.7, "anime": 0.3},
        "normalise": False,
        "strength": 0.85,
        "mixing": "after MLP",
        "columns": [1, 2],
        "rows": "1,1",
        "regions": [{"photo": 1}, {}, {"styles": {"anime": 0.5}}],
        "feather": 6,
    }
    painted = webui.paint(dmm)
    (infotext,) = painted.infotexts
    again = webui.paint(infotext=infotext)
    assert again == painted
    assert again.infotexts == painted.infotexts


def test_img2img(webui: WebUI, ink: Painted) -> None:
    source = {
        "init_images": [encoded(ink.pictures[0])],
        "denoising_strength": 0.8,
        "way": "img2img",
    }
    plain = webui.paint(**source)
    assert webui.paint(INK, **source) != plain
    assert webui.paint(**source) == plain


def test_inpainting_leaves_the_rest_alone(webui: WebUI, ink: Painted) -> None:
    mask = np.zeros((64, 64, 3), np.uint8)
    mask[:, 32:] = 255
    source = {
        "init_images": [encoded(ink.pictures[0])],
        "mask": encoded(mask),
        "mask_blur": 0,
        "denoising_strength": 0.8,
        "way": "img2img",
    }
    plain, styled = webui.paint(**source), webui.paint({"styles": {"photo": 1}}, **source)
    assert np.array_equal(styled.pictures[:, :, :32], plain.pictures[:, :, :32])
    assert not np.array_equal(styled.pictures[:, :, 32:], plain.pictures[:, :, 32:])


def test_every_picture_of_a_batch_is_styled(webui: WebUI, ink: Painted) -> None:
    batch, count = webui.paint(INK, batch_size=2), webui.paint(INK, n_iter=2)
    assert np.array_equal(count.pictures[0], ink.pictures[0])
    # Two at once are summed up in another order, which may move a value by one of 255.
    assert np.allclose(batch.pictures.astype(int), count.pictures, rtol=0, atol=1)
    assert not np.allclose(batch.pictures[0].astype(int), batch.pictures[1], rtol=0, atol=1)


def test_both_passes_of_hires_fix_are_styled(webui: WebUI) -> None:
    plain, styled = webui.paint(**hires(webui)), webui.paint(INK, **hires(webui))
    assert styled.pictures.shape == (1, 128, 128, 3)
    assert styled != plain
    # Alike in the first pass, since the tag of its prompt counts there, not in the second.
    first = webui.paint(**hires(webui), prompt="a cat <dmm:ink:1>", hr_prompt="a cat")
    assert first not in (plain, styled)


def test_a_plain_hires_checkpoint_is_not_styled(webui: WebUI) -> None:
    tagged = hires(webui) | {"prompt": "a cat <dmm:ink:1>"}
    first_alone = webui.paint(**tagged, hr_prompt="a cat")
    assert webui.paint(**tagged, hr_checkpoint_name="plain.safetensors") == first_alone


@pytest.fixture
def plain_refiner(webui: WebUI, checkpoints: Path) -> Iterator[str]:
    """In the WebUI one that is read into the UNet of "merged", as their `.yaml` is the same."""
    if webui.kind != "webui":
        yield "plain.safetensors"
        return
    file = checkpoints / "merged.ckpt"
    tensors = load_file(checkpoints / "plain.safetensors")
    # The WebUI refuses what today's torch writes of itself.
    torch.save(tensors, file, _use_new_zipfile_serialization=False)
    webui.post("/sdapi/v1/refresh-checkpoints", {})
    yield file.name
    webui.choose("plain")
    file.unlink()
    webui.post("/sdapi/v1/refresh-checkpoints", {})


def test_a_plain_refiner_is_not_styled(webui: WebUI, unstyled: Painted, plain_refiner: str) -> None:
    """It takes over before the first step, so that the whole picture is its own."""
    painted = webui.paint(INK, refiner_checkpoint=plain_refiner, refiner_switch_at=0.0)
    assert "Refiner switch at: 0" in painted.infotexts[0]
    assert painted == unstyled


@pytest.mark.parametrize(
    ("dmm", "message"),
    [
        ({"styles": {"inc": 1}}, "There is no style 'inc' in this file. Did you mean 'ink'?"),
        ({"styles": {"ink": "much"}}, "styles.ink is 'much'. Give a number."),
        ({"styles": {"ink": True}}, "styles.ink is True. Give a number."),
        ({"styles": {"ink": float("nan")}}, "The weight of style 'ink' is nan."),
        ({"styles": [1, 0, 0, 0]}, "styles has 4 weights, but the file has 3 styles"),
        ({"styles": 7}, "styles is 7. Give an object of weights"),
        ({"styles": {"ink": -1}}, "has a negative weight"),
        ({"style": {"ink": 1}}, "There is no field 'style'. Did you mean 'styles'?"),
        ({"enabled": "yes", "styles": {"ink": 1}}, "enabled is 'yes'. Give true or false."),
        ({"styles": {"ink": 1}, "strength": "1"}, "strength is '1'. Give a number."),
        ({"styles": {"ink": 1}, "strength": float("inf")}, "The style strength is inf."),
        ({"styles": {"ink": 1}, "normalise": 1}, "normalise is 1. Give true or false."),
        ({"styles": {"ink": 1}, "mixing": "after"}, "mixing is 'after'. Give one of: 'before MLP'"),
        ({"columns": "1,x"}, "The columns '1,x' are not ratios."),
        ({"rows": [1, 0]}, "The rows '1,0' are not ratios."),
        ({"columns": [1, 1], "regions": ["ink"] * 3}, "There are 3 region styles for 2 regions"),
        ({"columns": [1, 1], "regions": ["ink", {"inc": 1}]}, "There is no style 'inc'"),
        ({"columns": [1, 1], "regions": [{"styles": 1}]}, "regions[0].styles is 1."),
        ({"regions": "ink"}, "regions is 'ink'. Give a list of mixes."),
        ({"columns": [1, 1], "feather": -4}, "feather is -4."),
        ({"columns": [1, 1], "feather": 0.5}, "feather is 0.5. Give a whole number of pixels."),
    ],
    ids=str,
)
def test_bad_input_is_refused_by_name(webui: WebUI, dmm: dict, message: str) -> None:
    with pytest.raises(Refused) as refused:
        webui.paint(dmm)
    assert refused.value.status == 422
    assert message in refused.value.answer["detail"]


def test_the_names_of_a_checkpoint_are_asked_for_by_its_title(webui: WebUI) -> None:
    assert webui.get("/dmm/styles", checkpoint="merged.safetensors") == {
        "checkpoint": "merged",
        "styles": ["ink", "anime", "photo"],
    }
    assert webui.get("/dmm/styles", checkpoint="plain")["styles"] == []
    with pytest.raises(Refused) as refused:
        webui.get("/dmm/styles", checkpoint="../../etc/passwd")
    assert refused.value.status == 404
