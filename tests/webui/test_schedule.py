"""The schedule: styles that come, go and change over the steps."""

from __future__ import annotations

import pytest

from tests.webui.server import Refused, WebUI
from tests.webui.test_styles import hires

STEPS = {"steps": 4}


def test_a_style_for_a_span_of_the_steps(webui: WebUI) -> None:
    ink, anime, none = (webui.paint({"styles": mix}, **STEPS) for mix in ("ink", "anime", {}))
    first = webui.paint({"styles": "ink", "end": 0.5}, **STEPS)
    second = webui.paint({"styles": "ink", "start": 0.5}, **STEPS)
    assert len({p.pictures.tobytes() for p in (ink, anime, none, first, second)}) == 5
    both = {"styles": "ink", "end": 0.5, "otherwise": "anime"}
    change = webui.paint(both, **STEPS)
    assert change == webui.paint({"styles": "anime", "start": 0.5, "otherwise": "ink"}, **STEPS)
    assert change not in (ink, anime, first)
    assert webui.paint(both | {"otherwise": {"ink": 1}}, **STEPS) == ink
    assert webui.paint({"styles": "ink", "end": 0.01}, **STEPS) not in (ink, none)  # one step
    assert webui.paint({"styles": "ink", "fade": 0.5}, **STEPS) == ink  # from 0 to 1 it is all ink


def test_a_fade_is_in_between(webui: WebUI) -> None:
    fade = {"styles": "ink", "start": 0, "end": 0.9, "fade": 0.9, "otherwise": "anime"}
    hard = webui.paint(fade | {"fade": 0}, **STEPS)
    assert webui.paint(fade, **STEPS) != hard
    assert webui.paint(fade, **STEPS) == webui.paint(fade, **STEPS)


def test_a_sampler_that_calls_the_unet_twice_a_step(webui: WebUI) -> None:
    heun = {"sampler_name": "Heun", "steps": 2}
    first_step = webui.paint({"styles": "ink", "end": 0.5}, **heun)
    assert first_step != webui.paint({"styles": "ink"}, **heun)
    assert first_step == webui.paint({"styles": "ink", "end": 0.4}, **heun)
    assert first_step != webui.paint({"styles": "ink", "end": 0.2}, **heun)


def test_a_refiner_takes_over_in_the_midst_of_a_schedule(webui: WebUI) -> None:
    plain = {"refiner_checkpoint": "plain.safetensors", "refiner_switch_at": 0.5} | STEPS
    styled = webui.paint({"styles": "ink"}, **plain)
    assert webui.paint({"styles": "ink", "end": 0.5, "otherwise": "anime"}, **plain) == styled
    assert webui.paint({"styles": "ink", "start": 0.5}, **plain) == webui.paint(**plain)


def test_a_tag_is_scheduled(webui: WebUI) -> None:
    said = webui.paint({"styles": "ink", "end": 0.5}, **STEPS)
    assert webui.paint({"end": 0.5}, prompt="a cat <dmm:ink:1>", **STEPS) == said


def test_regions_are_scheduled(webui: WebUI) -> None:
    regions = {"columns": [1, 1], "regions": ["ink", "photo"]}
    whole = webui.paint(regions, **STEPS)
    first = webui.paint(regions | {"end": 0.5, "otherwise": "anime"}, **STEPS)
    assert first not in (whole, webui.paint({"styles": "anime"}, **STEPS))


def test_each_pass_of_hires_fix_has_the_whole_schedule(webui: WebUI) -> None:
    passes = hires(webui) | {"hr_second_pass_steps": 2}
    styled = webui.paint({"styles": "ink", "end": 0.5}, **passes)
    assert styled not in (webui.paint(**passes), webui.paint({"styles": "ink"}, **passes))
    # Nothing in the first pass, where the prompt has a style of strength 0, but in the second.
    second = webui.paint({"end": 0.5}, **passes, hr_prompt="a cat <dmm:ink:1>")
    assert second not in (styled, webui.paint(**passes))


def test_the_schedule_is_in_the_infotext(webui: WebUI) -> None:
    schedule = {"start": 0.25, "end": 0.75, "fade": 0.1, "otherwise": {"anime": 0.5}}
    painted = webui.paint({"styles": "ink"} | schedule, **STEPS)
    said = 'DMM start: 0.25, DMM end: 0.75, DMM fade: 0.1, DMM otherwise: "anime:0.5"'
    assert said.replace('"', "") in painted.infotexts[0].replace('"', "")
    if webui.kind != "forge":  # Forge's API fails on every infotext; see test_browser.py
        assert webui.paint(infotext=painted.infotexts[0], **STEPS) == painted


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"start": 10**400}, "start is a number of 401 digits"),
        ({"start": "early"}, "start is 'early'. Give a number from 0 to 1."),
        ({"end": True}, "end is True. Give a number from 0 to 1."),
        (
            {"start": 0.7, "end": 0.2},
            "A style from 0.7 to 0.2 of the sampling (fade 0) is no span.",
        ),
        ({"start": -0.1}, "A style from -0.1 to 1 of the sampling"),
        ({"fade": float("nan")}, "(fade nan) is no span."),
        ({"otherwise": {"inc": 1}, "end": 0.5}, "There is no style 'inc' in this file."),
        ({"otherwise": 7}, "otherwise is 7. Give an object of weights"),
    ],
    ids=str,
)
def test_bad_schedules_are_refused_by_name(webui: WebUI, schedule: dict, message: str) -> None:
    with pytest.raises(Refused) as refused:
        webui.paint({"styles": "ink"} | schedule)
    assert refused.value.status == 422
    assert message in refused.value.answer["detail"]
