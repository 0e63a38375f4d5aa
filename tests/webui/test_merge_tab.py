"""The tab "DMM merge" as people use it: real merges, started from the real hosts' page."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from safetensors.torch import load_file

from dmm.merged import is_adapter
from dmm.tensors import open_tensors
from tests.trainer.loras import write_lora
from tests.webui.browser import SHOWN_WEIGHTS, TIMEOUT_SECONDS
from tests.webui.server import WebUI
from trainer.config_file import describe_presets

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

UNET = "model.diffusion_model."
NUMBERS = {"Width": 64, "Height": 64, "Steps": 6, "Batch size": 2, "Batch in memory": 2}
MORE = """
train: {adversarial_weight: 0, learning_rate: 1.0e-3, teachers_per_sample: null}
samples: {every: 2, steps: 1, guidance: 1, count: 2}
data: {painting: {steps: 2, guidance: 1}, workers: 0}
"""
CHOSEN = """(checkpoint) => {
    const header = "#setting_sd_model_checkpoint input, .model_selection input";
    return document.querySelector(header).value.startsWith(checkpoint);
}"""
# A process that reads gigabytes and paints grids, on a machine that does much else.
MERGE_SECONDS = 240


class MergeTab:
    """The tab, in a page of its own."""

    def __init__(self, page: Page, webui: WebUI) -> None:
        self.page, self.webui = page, webui
        page.set_default_timeout(TIMEOUT_SECONDS * 1000)
        self.open()

    def open(self) -> None:
        self.page.goto(self.webui.url, wait_until="domcontentloaded")
        tab = self.page.locator("#tabs > .tab-nav button", has_text="DMM merge")
        tab.or_(self.page.get_by_role("tab", name="DMM merge")).first.click()
        self.part = self.page.locator("#dmm_merge")
        self.part.locator("[data-field=base] option", has_text="plain").wait_for(state="attached")

    def field(self, name: str, index: int = 0) -> Locator:
        found = self.part.locator(f"[data-field={name}]").nth(index)
        return found.locator("input, select, textarea")

    def press(self, button: str) -> None:
        self.part.get_by_role("button", name=button, exact=True).click()

    def says(self, text: str, patience: float = TIMEOUT_SECONDS) -> None:
        """Waits until this is to be seen."""
        self.part.get_by_text(text).locator("visible=true").wait_for(timeout=patience * 1000)

    def fill(self, name: str, preset: str = "paper") -> None:
        """Asks for a merge of a checkpoint and a LoRA."""
        self.field("preset").select_option(preset)
        self.field("precision").select_option("fp32")
        self.field("base").select_option("plain.safetensors")
        self.field("model").select_option("checkpoint:plain.safetensors")
        self.field("name", 0).fill("from a checkpoint")
        self.press("Add a teacher")
        self.field("model", 1).select_option("lora:pencil.safetensors")
        self.field("prompts").fill("a cat\na dog")
        self.part.get_by_label("Name of the merged file").fill(name)
        for label, value in NUMBERS.items():
            self.part.get_by_role("spinbutton", name=label, exact=True).fill(str(value))
        if preset == "paper":
            self.part.get_by_text("Fine-tune at the end").uncheck()
        self.field("more").fill(MORE)

    def has_wrong(self, label: str) -> bool:
        marked = self.part.locator(".dmm-wrong").get_by_label(label, exact=True)
        return marked.count() == 1


@pytest.fixture(scope="module")
def models(running: WebUI, checkpoints: Path) -> Iterator[Path]:
    """The host's folder of checkpoints; a LoRA lies in its other one."""
    plain = load_file(checkpoints / "plain.safetensors")
    names = [name for name in plain if name.startswith(UNET) and name.endswith("to_q.weight")]
    modules = {
        name: "lora_unet_" + name.removeprefix(UNET).removesuffix(".weight").replace(".", "_")
        for name in names
    }
    loras = running.models / "Lora"
    loras.mkdir(parents=True, exist_ok=True)
    write_lora(loras / "pencil.safetensors", modules, plain)
    if running.kind == "webui":  # which wants to be told of a small UNet
        shutil.copy(checkpoints / "plain.yaml", checkpoints / "mine.yaml")
    yield checkpoints
    running.choose("merged")
    for file in checkpoints.glob("mine.*"):
        file.unlink()
    running.post("/sdapi/v1/refresh-checkpoints", {})


@pytest.fixture
def environment(running: WebUI) -> Iterator[None]:
    """The trainer's environment where `install.py` makes it: the one of the tests."""
    link = running.clone / ".venv"
    link.symlink_to(sys.prefix, target_is_directory=True)
    yield
    link.unlink()


@pytest.fixture
def tab(page: Page, webui: WebUI, models: Path) -> MergeTab:
    return MergeTab(page, webui)


def test_without_the_trainers_environment_the_tab_says_how_to_make_it(tab: MergeTab) -> None:
    tab.says("install.py")
    tab.fill("mine")
    tab.press("Start")
    tab.part.get_by_role("status").get_by_text("To make it, give this command").wait_for()
    assert tab.webui.get("/dmm/merge/runs") == []
    assert tab.webui.paint().pictures.shape == (1, 64, 64, 3)


@pytest.mark.usefixtures("environment")
def test_what_makes_no_sense_is_refused_by_its_field(tab: MergeTab, models: Path) -> None:
    tab.fill("../mine")
    tab.press("Start")
    tab.says("Name: '../mine' is no file name.")
    assert tab.has_wrong("Name of the merged file")
    tab.part.get_by_label("Name of the merged file").fill("plain")
    tab.press("Start")
    tab.says("Name: there is a plain.safetensors already.")
    tab.field("name", 1).fill("From a Checkpoint")
    tab.press("Start")
    tab.says("1 and 2 have styles of the same name")
    assert tab.has_wrong("Name of the style")
    for _ in range(2):
        tab.part.get_by_title("Remove this teacher").first.click()
    tab.press("Plan")
    tab.says("Teachers: add at least one")
    tab.field("data").select_option("pictures")
    tab.field("pictures").fill(str(models))
    tab.press("Plan")
    tab.says("holds no pictures")
    assert tab.has_wrong("Folder")
    assert tab.webui.get("/dmm/merge/runs") == []


def listed(webui: WebUI) -> list[str]:
    """The checkpoints that the host knows."""
    return [model["filename"] for model in webui.get("/sdapi/v1/sd-models")]


@pytest.mark.usefixtures("environment")
def test_from_the_form_to_a_picture(tab: MergeTab, models: Path) -> None:
    tab.fill("mine")
    tab.press("Plan")
    plan = tab.part.locator(".dmm-plan")
    plan.get_by_text("6 steps: about").wait_for(timeout=MERGE_SECONDS * 1000)
    assert str(models / "mine.safetensors") in plan.inner_text()

    tab.press("Start")
    tab.says("At work")
    tab.open()  # as after a reload, or "Reload UI"
    tab.says("At work")
    assert tab.field("name", 0).input_value() == "from a checkpoint"  # the form is kept
    assert tab.field("model", 1).input_value() == "lora:pencil.safetensors"
    grid = tab.part.locator(".dmm-grid img")
    grid.wait_for(timeout=MERGE_SECONDS * 1000)
    page_has_it = "(picture) => picture.complete && picture.naturalWidth > 100"
    tab.page.wait_for_function(page_has_it, arg=grid.element_handle())
    run = tab.webui.base / "dmm_merges" / "mine"
    process = psutil.Process(json.loads((run / "process.json").read_text("utf-8"))["pid"])
    process.suspend()  # so that it is not done before it is asked to stop
    tab.press("Stop")
    tab.says("Stopping")
    process.resume()
    tab.part.locator(".dmm-state", has_text="Stopped").wait_for(timeout=MERGE_SECONDS * 1000)
    assert not (models / "mine.safetensors").exists()
    tab.press("Start")
    tab.says("a merge called 'mine' has been begun")

    tab.press("Resume")
    tab.part.locator(".dmm-state", has_text="Finished").wait_for(timeout=MERGE_SECONDS * 1000)
    tab.says("mine.safetensors is in the checkpoint list.")
    deadline = time.monotonic() + TIMEOUT_SECONDS  # the host empties its list before it fills it
    while str(models / "mine.safetensors") not in listed(tab.webui):
        assert time.monotonic() < deadline
        time.sleep(0.2)

    tab.press("Use it now")
    weights = json.dumps([["from a checkpoint", 0], ["pencil", 0]], separators=(",", ":"))
    tab.page.wait_for_function(SHOWN_WEIGHTS, arg=weights)
    styled = [tab.webui.paint({"styles": {style: 1}}) for style in ("from a checkpoint", "pencil")]
    assert styled[0] != styled[1]
    assert "Model: mine" in styled[0].infotexts[0]


FORM = {
    "name": "held",
    "base": "plain.safetensors",
    "teachers": [{"checkpoint": "plain.safetensors", "lora": "", "weight": 1, "name": "one"}],
    "data": "prompts",
    "prompts": "a cat",
    "preset": "paper",
    "width": 64,
    "height": 64,
    "micro_batch_size": 2,
    "unload": True,
}


@pytest.fixture
def held(webui: WebUI, models: Path) -> Iterator[Path]:
    """The folder of a merge "held", which is ended and removed."""
    folder = webui.base / "dmm_merges" / "held"
    yield folder
    if (folder / "process.json").is_file():
        pid = json.loads((folder / "process.json").read_text("utf-8"))["pid"]
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.usefixtures("environment", "held")
def test_a_preview_brings_back_what_made_room_for_a_merge(webui: WebUI) -> None:
    """That the host is told to; on a CPU the weights are where they were all along."""
    webui.post("/dmm/merge/start", FORM)
    assert webui.get("/test/weights") == "away"
    webui.post("/dmm/preview", {"style": "ink"})
    assert webui.get("/test/weights") == "device"


@pytest.mark.skipif(sys.platform != "linux", reason="sees in /proc what a process waits for")
@pytest.mark.usefixtures("environment")
def test_a_merge_that_is_being_started_is_not_removed(
    webui: WebUI, held: Path, tmp_path: Path
) -> None:
    """It takes its time, for its log is a pipe, which opens once somebody reads."""
    held.mkdir(parents=True)
    (held / "merge.yaml").write_text(f"output: {tmp_path / 'out.safetensors'}", encoding="utf-8")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (held / "trainer.log").symlink_to(pipe)
    with ThreadPoolExecutor() as pool:
        resumed = pool.submit(webui.post, "/dmm/merge/resume", {"name": "held"})
        tasks = Path(f"/proc/{webui._process.pid}/task")
        while not any("wait_for_partner" in path.read_text() for path in tasks.glob("*/wchan")):
            assert not resumed.done()
        removed = pool.submit(webui.post, "/dmm/merge/remove", {"name": "held"})
        wait([removed], timeout=2)  # one that does not wait its turn is done by then
        with pipe.open("rb") as log:
            log.read()
        assert resumed.result() == {"name": "held"}
        removed.exception()


def test_what_is_wrong_with_a_merge_is_said(tab: MergeTab, held: Path) -> None:
    held.mkdir(parents=True)
    (held / "merge.yaml").write_text("[]", encoding="utf-8")
    merges = tab.part.get_by_label("Merge", exact=True)
    merges.locator("option", has_text="held").wait_for(state="attached")
    merges.select_option("held", force=True)
    tab.says(f"{held / 'merge.yaml'} is no merge any more. Remove its folder.")
    tab.page.once("dialog", lambda dialog: dialog.accept())
    tab.press("Remove")
    tab.part.get_by_text("is no merge any more").wait_for(state="hidden")
    assert not held.exists()


@pytest.mark.parametrize("spoilt", ["{", "null", '{"teachers": 5}', '{"teachers": [null]}'])
def test_a_spoilt_form_is_an_empty_one(page: Page, webui: WebUI, models: Path, spoilt: str) -> None:
    page.add_init_script(f"localStorage.setItem('dmm_merge_form', {json.dumps(spoilt)})")
    tab = MergeTab(page, webui)
    tab.says("where the WebUI finds it.")
    tab.part.get_by_label("Name of the merged file").fill("mine")
    kept = "JSON.parse(localStorage.getItem('dmm_merge_form')).name === 'mine'"
    page.wait_for_function(kept)


def test_presets_say_what_they_are_for(tab: MergeTab, models: Path) -> None:
    """As `run.py presets` does."""
    loras = tab.webui.models / "Lora"
    folders = {"one-gpu": models, "adapter": loras, "paper": models, "dmm": models}
    descriptions = describe_presets()
    for preset, folder in folders.items():
        tab.field("preset").select_option(preset)
        tab.says(descriptions[preset])
        tab.says(f"It is written to {folder}, where the WebUI finds it.")


@pytest.mark.usefixtures("environment")
def test_an_adapter_comes_among_the_loras(tab: MergeTab, models: Path) -> None:
    tab.fill("sketches", "adapter")
    tab.press("Start")
    tab.says("sketches.safetensors is among the LoRAs", MERGE_SECONDS)
    assert is_adapter(open_tensors(tab.webui.models / "Lora" / "sketches.safetensors"))
    tab.press("Use it now")
    weights = json.dumps([["from a checkpoint", 0], ["pencil", 0]], separators=(",", ":"))
    tab.page.wait_for_function(SHOWN_WEIGHTS, arg=weights)
    prompt = tab.page.locator("#txt2img_prompt textarea")
    assert prompt.input_value() == "<lora:sketches:1>"
    tab.page.wait_for_function(CHOSEN, arg="plain.safetensors")
