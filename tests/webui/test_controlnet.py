"""Merged ControlNets in the extension sd-webui-controlnet and in Forge: one file, many controls."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.webui.browser import Txt2Img
from tests.webui.companions import (
    CONTROLNET_PACK,
    MERGED_CONTROLNET,
    TILED_DIFFUSION_PACK,
    tiled_diffusion,
)
from tests.webui.controlnet_unit import Unit
from tests.webui.server import Refused, WebUI, encoded
from tests.webui.test_company import SIZE, all_differ
from tests.webui.test_styles import hires

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@dataclass
class Nets:
    """A merged ControlNet and a plain ControlNet for each of its controls; they see one picture."""

    webui: WebUI
    titles: dict[str, str]
    hint: str

    def unit(self, model: str, **said: Any) -> dict[str, Any]:
        none = "none" if self.webui.kind == "webui" else "None"
        unit = {"model": self.titles[model], "module": none, "image": self.hint, "enabled": True}
        return unit | {"save_detected_map": False} | said

    def sample(self, *units: dict[str, Any], dmm: Any = None, **more: Any) -> Tensor:
        """The latents of a picture under these units."""
        others = more.pop("others", {}) | {"controlnet": {"args": units}}
        return self.webui.sample(dmm, others, **(SIZE | more))

    def merged(self, *controls: Any, dmm: Any = None, **more: Any) -> Tensor:
        """With a unit of the merged ControlNet for each control."""
        said = {"controls": controls} | (dmm or {})
        return self.sample(*[self.unit(MERGED_CONTROLNET)] * len(controls), dmm=said, **more)

    def single(self, *controls: str, **more: Any) -> Tensor:
        """With a plain ControlNet for each control."""
        return self.sample(*(self.unit(f"only_{control}") for control in controls), **more)


@pytest.fixture(scope="session")
def titles(in_company: WebUI) -> dict[str, str]:
    """The names of the ControlNets, as the host lists them."""
    if in_company.kind == "webui" and not in_company.has_pack(CONTROLNET_PACK):
        pytest.skip(f"{CONTROLNET_PACK} is not in the host's folder of packs")
    listed = in_company.get("/controlnet/model_list")["model_list"]
    return {title.partition(" [")[0]: title for title in listed}


@pytest.fixture
def nets(company: WebUI, titles: dict[str, str]) -> Nets:
    picture = np.random.default_rng(0).integers(0, 256, (64, 128, 3), np.uint8)
    return Nets(company, titles, encoded(picture))


def alike(one: Tensor, other: Tensor, bare: Tensor) -> bool:
    """Up to rounding: the plain ControlNets have the control's vector in a bias."""
    return bool((one - other).abs().max() < 1e-3 * (other - bare).abs().max())


def test_each_control_paints_as_a_controlnet_of_its_own(nets: Nets) -> None:
    bare, painted = nets.sample(), []
    for control in ("canny", "pose"):
        painted.append(nets.merged(control))
        assert alike(painted[-1], nets.single(control), bare)
    mix = nets.merged({"canny": 0.5, "pose": 0.5})
    assert all_differ([bare, mix, *painted])
    assert torch.equal(mix, nets.merged("Canny:1, pose:1"))


def test_units_with_one_file_follow_controls_of_their_own(nets: Nets) -> None:
    bare, both = nets.sample(), nets.merged("canny", "depth")
    assert alike(both, nets.single("canny", "depth"), bare)
    assert not alike(both, nets.single("canny", "canny"), bare)
    units = (
        nets.unit(MERGED_CONTROLNET, enabled=False),
        nets.unit(MERGED_CONTROLNET),
        nets.unit("only_pose"),
    )
    third = nets.sample(*units, dmm={"controls": [None, "depth"]})
    assert alike(third, nets.single("depth", "pose"), bare)


@pytest.mark.parametrize(
    "styles",
    [{"styles": "ink"}, {"columns": [1, 1], "regions": ["ink", "photo"]}],
    ids=["a style", "regions"],
)
def test_together_with_styles_of_a_merged_checkpoint(nets: Nets, styles: dict[str, Any]) -> None:
    both, styled, controlled = (
        nets.merged("canny", dmm=styles),
        nets.sample(dmm=styles),
        nets.merged("canny"),
    )
    assert alike(both, nets.single("canny", dmm=styles), styled)
    assert all_differ([both, styled, controlled])


def test_on_a_plain_checkpoint(nets: Nets) -> None:
    """Controls are no styles, and need no merged checkpoint."""
    if nets.webui.kind == "webui":
        pytest.skip(
            "there is no plain checkpoint as narrow as ControlNet's extension is shown here"
        )
    on_merged = nets.merged("canny")
    nets.webui.choose("plain")
    assert torch.equal(nets.merged("canny"), on_merged)


def test_in_tiles(nets: Nets) -> None:
    if nets.webui.kind == "reforge":
        pytest.skip("reForge's MultiDiffusion fails beside a ControlNet")
    if nets.webui.kind == "webui" and not nets.webui.has_pack(TILED_DIFFUSION_PACK):
        pytest.skip(f"{TILED_DIFFUSION_PACK} is not in the host's folder of packs")
    tiles = {"others": tiled_diffusion(nets.webui, "Mixture of Diffusers", 4)}
    assert alike(nets.merged("depth", **tiles), nets.single("depth", **tiles), nets.sample(**tiles))


def test_in_every_pass_of_every_batch(nets: Nets) -> None:
    def paint(model: str, dmm: Any = None) -> np.ndarray:
        others = {"controlnet": {"args": [nets.unit(model) | {"weight": 2}]}}
        passes = hires(nets.webui) | {"batch_size": 2, "n_iter": 2}
        painted = nets.webui.paint(dmm, others=others, **SIZE, **passes)
        return painted.pictures.astype(int)

    single = paint("only_depth")
    assert len(single) == 4
    depth = np.abs(paint(MERGED_CONTROLNET, {"controls": ["depth"]}) - single)
    average = np.abs(paint(MERGED_CONTROLNET) - single)
    assert depth.max() <= 1
    assert all(average.sum((1, 2, 3)) > 10 * depth.sum((1, 2, 3)))  # each picture of each batch


def test_the_preprocessor_tells_the_control(nets: Nets) -> None:
    unit = nets.unit(MERGED_CONTROLNET, module="canny")
    told = nets.sample(unit)
    assert torch.equal(told, nets.sample(unit, dmm={"controls": ["canny"]}))
    assert torch.equal(told, nets.sample(unit, dmm={"enabled": False}))
    assert not torch.equal(told, nets.sample(unit, dmm={"controls": ["depth"]}))


def test_where_nothing_tells_the_control_a_notice_says_so(nets: Nets) -> None:
    """And it follows the average of them, as in a host without the extension."""
    others = {"controlnet": {"args": [nets.unit(MERGED_CONTROLNET)]}}
    assert "DMM control" not in nets.webui.paint(others=others, **SIZE).infotexts[0]
    with pytest.raises(Refused) as refused:
        nets.webui.paint({"styles": "ink"}, others=others, **SIZE)
    detail = refused.value.answer["detail"]
    assert "unit 0: the preprocessor 'none' does not tell which control" in detail.replace("N", "n")
    assert "There are: canny, depth, pose." in detail


def test_the_infotext_tells_of_controls_and_sets_them(nets: Nets) -> None:
    canny = nets.unit(MERGED_CONTROLNET, module="canny")
    others = {
        "controlnet": {"args": [nets.unit(MERGED_CONTROLNET), nets.unit(MERGED_CONTROLNET), canny]}
    }
    dmm = {"controls": ["depth", {"canny": 0.5, "pose": 0.5}]}
    painted = nets.webui.paint(dmm, others=others, **SIZE)
    found = re.findall(r'DMM control (\d): ("[^"]*"|\w+)', painted.infotexts[0])
    assert found == [("0", "depth"), ("1", '"canny:0.5, pose:0.5"'), ("2", "canny")]
    if nets.webui.kind != "forge":  # Forge's API fails on every infotext; see test_browser.py
        again = nets.webui.paint(others=others, infotext=painted.infotexts[0], **SIZE)
        assert again == painted


@pytest.mark.parametrize(
    ("controls", "says"),
    [
        (["cany"], "unit 0, canny_depth_pose.safetensors: There is no style 'cany'.*'canny'"),
        ([{"canny": "x"}], r"controls\[0\].canny is 'x'. Give a number"),
        ([3], r"controls\[0\] is 3. Give the name of a control"),
        ("canny", "controls is 'canny'. Give a list with a control for each ControlNet unit"),
        (["canny", "depth"], r"controls\[1\] is 'depth', but ControlNet unit 1 is switched off"),
    ],
)
def test_mistakes(nets: Nets, controls: Any, says: str) -> None:
    with pytest.raises(Refused) as refused:
        nets.sample(nets.unit(MERGED_CONTROLNET), dmm={"controls": controls})
    assert refused.value.status == 422
    assert re.search(says, refused.value.answer["detail"])


def test_no_trace_is_left(nets: Nets) -> None:
    """Neither in what a plain ControlNet paints nor in the file's own network, however it ends."""

    def paint() -> list[Any]:
        modules = nets.webui.get("/test/changed-modules")
        return [
            modules,
            nets.sample(nets.unit("only_pose")),
            nets.sample(nets.unit(MERGED_CONTROLNET)),
        ]

    modules, *before = paint()
    nets.merged("canny")
    failing = {
        "controlnet": {"args": [nets.unit(MERGED_CONTROLNET)]},
        "dmm test": {"args": [{"fail": "UNet"}]},
    }
    with pytest.raises(Refused, match="the UNet fails, as it was told to"):
        nets.webui.paint({"controls": ["canny"]}, others=failing, steps=5, **SIZE)
    modules_now, *after = paint()
    assert modules_now == modules
    assert all(map(torch.equal, before, after))


@pytest.fixture
def tab(company: WebUI, chromium: Browser, titles: dict[str, str]) -> Iterator[Txt2Img]:
    context = chromium.new_context(viewport={"width": 1400, "height": 1600})
    yield Txt2Img(context.new_page(), company)
    context.close()


@pytest.fixture
def unit(tab: Txt2Img) -> Unit:
    unit = Unit(tab, 0)
    unit.choose("model", MERGED_CONTROLNET)
    return unit


def test_a_control_is_chosen_below_the_model(tab: Txt2Img, unit: Unit) -> None:
    carrier = tab.text("controls")
    unit.control.get_by_text("does not tell which control").wait_for()
    unit.choose("preprocessor", "canny")
    unit.offers("Automatic: canny")
    assert carrier.input_value() == ""
    unit.choice.select_option(label="depth")
    assert carrier.input_value() == "depth"
    unit.choice.select_option(label="A mix …")
    unit.control.get_by_role("slider", name="Weight of pose").fill("0.5")
    assert carrier.input_value() == "canny:1, pose:0.5"
    unit.control.get_by_role("button", name="Clear").click()
    unit.follows("automatic")
    assert carrier.input_value() == ""
    unit.choose("model", "only_pose")
    unit.control.wait_for(state="hidden")


def test_after_a_restart_the_choice_comes_back(tab: Txt2Img) -> None:
    tab.page.route("**/dmm/controls*", lambda route: route.abort())
    unit = Unit(tab, 0)
    with tab.page.expect_event("requestfailed"):
        unit.choose("model", MERGED_CONTROLNET)
    tab.page.unroute("**/dmm/controls*")
    unit.control.get_by_text("does not tell which control").wait_for()


def test_the_kind_of_control_tells_where_the_preprocessor_does_not(
    tab: Txt2Img, unit: Unit
) -> None:
    unit.choose_kind("Depth")
    unit.choose("model", MERGED_CONTROLNET)
    unit.offers("Automatic: depth")
    assert tab.text("controls").input_value() == ""
    unit.choose("preprocessor", "none")
    tab.page.wait_for_function(
        "(controls) => controls.value === 'depth'", arg=tab.text("controls").element_handle()
    )
    unit.follows("automatic")


def test_what_is_chosen_is_painted_and_pasted(tab: Txt2Img, unit: Unit) -> None:
    unit.show(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    unit.part("controlnet_enable_checkbox").locator("input").check()
    unit.choice.select_option(label="depth")
    assert "DMM control 0: depth" in tab.generate()
    infotext = tab.infotext()
    unit.choice.select_option(label="pose")
    tab.paste(infotext)
    unit.follows("=depth")
    tab.paste(infotext.replace("DMM control 0: depth", 'DMM control 0: "depth:1, pose:0.5"'))
    unit.follows("mix")
