"""Presets: the routes, the file, and the bar in the accordion."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.webui.browser import Txt2Img
from tests.webui.server import Refused, WebUI

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog

INK = {"mix": "ink:0.7, photo:0.3", "normalise": False, "strength": 0.8, "mixing": "after MLP"}
NAME = "<b>水墨</b> & “ink”"


@pytest.fixture
def presets_file(running: WebUI) -> Iterator[Path]:
    """In the user's data, not in the clone, which an update may replace."""
    path = running.base / "dmm_presets.json"
    path.unlink(missing_ok=True)
    yield path
    path.unlink(missing_ok=True)


def save(webui: WebUI, **preset: object) -> dict:
    return webui.ask("PUT", "/dmm/presets", preset)


def test_presets_are_kept_in_the_users_data(webui: WebUI, presets_file: Path) -> None:
    assert webui.get("/dmm/presets") == {}
    assert save(webui, name=NAME, **INK) == {NAME: INK}
    save(webui, name="plain", mix="ink")
    presets = webui.get("/dmm/presets")
    assert list(presets) == [NAME, "plain"]
    assert json.loads(presets_file.read_text(encoding="utf-8")) == presets
    assert webui.ask("DELETE", "/dmm/presets", name="plain") == {NAME: INK}
    assert list(presets_file.parent.glob("dmm_presets*")) == [presets_file]


def test_presets_saved_at_once_are_all_kept(webui: WebUI, presets_file: Path) -> None:
    names = {f"preset {number}" for number in range(20)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: save(webui, name=name, **INK), names))
    assert json.loads(presets_file.read_text(encoding="utf-8")).keys() == names


@pytest.mark.parametrize(
    "preset", [{}, INK, INK | {"name": " "}, {"name": "x", "mix": "ink:a"}, {"name": "x", "mix": 7}]
)
def test_odd_presets_are_refused(webui: WebUI, presets_file: Path, preset: dict) -> None:
    with pytest.raises(Refused) as refused:
        save(webui, **preset)
    assert refused.value.status == 422
    assert not presets_file.exists()


def test_a_damaged_file_is_left_alone(webui: WebUI, presets_file: Path) -> None:
    presets_file.write_text("{", encoding="utf-8")
    for ask in (lambda: webui.get("/dmm/presets"), lambda: save(webui, name="x", **INK)):
        with pytest.raises(Refused) as refused:
            ask()
        assert presets_file.name in refused.value.answer["detail"]
    assert presets_file.read_text(encoding="utf-8") == "{"


@pytest.fixture
def tab(running: WebUI, webui: WebUI, chromium: Browser, presets_file: Path) -> Iterator[Txt2Img]:
    context = chromium.new_context(viewport={"width": 1400, "height": 1300})
    yield Txt2Img(context.new_page(), webui)
    context.close()


def press(tab: Txt2Img, button: str) -> None:
    with tab.page.expect_response("**/dmm/presets*"):
        tab.part("presets").get_by_role("button", name=button).click()


def test_a_preset_is_saved_chosen_and_deleted(tab: Txt2Img, presets_file: Path) -> None:
    asked: list[str] = []

    def answer(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.accept(NAME if dialog.type == "prompt" else None)

    tab.page.on("dialog", answer)
    tab.slider("ink").fill("0.7")
    tab.slider("photo").fill("0.3")
    tab.part("normalise").locator("input").uncheck()
    tab.number("strength").fill("0.8")
    tab.part("mixing").get_by_label("after MLP").check()
    press(tab, "Save")
    assert json.loads(presets_file.read_text(encoding="utf-8")) == {NAME: INK}

    tab.open()
    choice = tab.part("presets").locator("select")
    choice.select_option(NAME)
    tab.shows({"ink": 0.7, "anime": 0, "photo": 0.3})
    assert tab.number("strength").input_value() == "0.8"
    assert not tab.part("normalise").locator("input").is_checked()
    assert tab.part("mixing").get_by_label("after MLP").is_checked()
    painted = tab.generate()
    assert "DMM normalise: False, DMM strength: 0.8, DMM mixing: after MLP" in painted

    press(tab, "Save")
    assert asked == ["The name of the preset"] * 2 + [f'Replace the preset "{NAME}"?']
    press(tab, "Delete")
    assert json.loads(presets_file.read_text(encoding="utf-8")) == {}
    assert choice.inner_text() == "No presets yet"


def test_a_preset_for_other_styles_says_so(tab: Txt2Img, webui: WebUI) -> None:
    save(webui, name="chalk", mix="ink:1, chalk:0.5")
    tab.open()
    tab.part("presets").locator("select").select_option("chalk")
    tab.says("This mix was made for other styles: this checkpoint has no chalk.")
    tab.press("Clear")
    tab.part("sliders").get_by_text("made for other styles").wait_for(state="hidden")


def test_what_the_server_refuses_is_shown(tab: Txt2Img, presets_file: Path) -> None:
    presets_file.write_text("[]", encoding="utf-8")
    tab.page.on("dialog", lambda dialog: dialog.accept("x"))
    tab.slider("ink").fill("1")
    press(tab, "Save")
    tab.part("presets").get_by_text("cannot be read as presets").wait_for()
