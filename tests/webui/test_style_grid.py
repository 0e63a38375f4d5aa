"""The script "DMM style grid"."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from tests.webui.conftest import STYLES
from tests.webui.server import Painted, Refused, WebUI

ALL = ("no style", *STYLES, "equal mix")


def grid(webui: WebUI, *, no_style: bool = True, equal_mix: bool = True, **body: object) -> Painted:
    arguments = [no_style, equal_mix]
    return webui.paint(script_name="dmm style grid", script_args=arguments, **body)


@pytest.fixture(scope="module")
def expected(running: WebUI) -> np.ndarray:
    """The pictures of `ALL`, each painted by itself."""
    running.choose("merged")
    mixes = ["", *STYLES, ", ".join(STYLES)]
    return np.concatenate([running.paint({"styles": mix}).pictures for mix in mixes])


def test_every_style_from_one_seed(webui: WebUI, expected: np.ndarray) -> None:
    painted = grid(webui)
    assert np.array_equal(painted.pictures, expected)
    for infotext, style in zip(painted.infotexts[1:-1], STYLES, strict=True):
        assert f'DMM mix: "{style}:1.0"' in infotext
    assert "DMM" not in painted.infotexts[0]
    assert np.array_equal(grid(webui, no_style=False, equal_mix=False).pictures, expected[1:-1])


def test_one_picture_a_style_whatever_the_seed_and_the_batch(webui: WebUI) -> None:
    painted = grid(webui, seed=-1, batch_size=2, n_iter=2)
    assert len(painted.pictures) == len(ALL)
    seeds = {infotext.split("Seed: ")[1].split(",")[0] for infotext in painted.infotexts}
    assert len(seeds) == 1


def test_tags_in_the_prompt_are_left_out(webui: WebUI, expected: np.ndarray) -> None:
    """They would go before every style of the grid, and before those of a pasted infotext."""
    painted = grid(webui, prompt="a cat<dmm:photo:1>")
    assert np.array_equal(painted.pictures, expected)
    assert not any("<dmm" in infotext for infotext in painted.infotexts)


def test_the_accordion_s_other_values_hold(webui: WebUI) -> None:
    strength = {"strength": 0.5}
    painted = grid(webui, equal_mix=False, dmm={"styles": "photo"} | strength)
    ink = webui.paint({"styles": "ink"} | strength)
    assert np.array_equal(painted.pictures[1], ink.pictures[0])


def test_a_plain_checkpoint_is_said_to_be_one(webui: WebUI) -> None:
    webui.choose("plain")
    with pytest.raises(Refused) as refused:
        grid(webui)
    assert refused.value.status == 422
    assert "plain.safetensors is a plain checkpoint" in refused.value.answer["detail"]


def test_an_interrupt_leaves_what_was_painted(webui: WebUI, unstyled: Painted) -> None:
    webui.choose("merged")
    painted: list[Painted] = []
    job = threading.Thread(target=lambda: painted.append(grid(webui, steps=20)))
    job.start()
    while job.is_alive() and webui.get("/sdapi/v1/progress")["state"]["job_no"] < 1:
        time.sleep(0.05)
    webui.post("/sdapi/v1/interrupt", {})
    job.join()
    assert 0 < len(painted[0].pictures) < len(ALL)
    assert webui.paint() == unstyled
