"""Prompt tags: `<dmm:ink:0.6>`."""

from __future__ import annotations

import numpy as np
import pytest

from tests.webui.conftest import WILDCARDS
from tests.webui.server import Painted, Refused, WebUI
from tests.webui.test_styles import hires
from tests.webui.test_xyz_axes import plot


@pytest.fixture(scope="session")
def photo(running: WebUI) -> Painted:
    running.choose("merged")
    return running.paint({"styles": {"photo": 1}})


def test_a_tag_paints_as_the_sliders_do(webui: WebUI, photo: Painted) -> None:
    painted = webui.paint(prompt="a cat <dmm:photo:1>")
    assert painted == photo
    assert "<dmm:photo:1>" in painted.infotexts[0]
    assert webui.paint(prompt="a cat<dmm:photo>") == photo


def test_tags_of_a_prompt_make_a_mix(webui: WebUI) -> None:
    mix = webui.paint({"styles": {"ink": 0.6, "anime": 0.4}})
    assert webui.paint(prompt="a <dmm:ink:0.6>cat<dmm:anime:0.4>") == mix
    assert webui.paint(prompt="a cat <dmm:ink:0.6, anime:0.4>") == mix


def test_a_tag_goes_before_the_sliders(webui: WebUI, photo: Painted) -> None:
    assert webui.paint({"styles": {"ink": 1}}, prompt="a cat <dmm:photo:1>") == photo
    half = {"styles": {"ink": 1}, "strength": 0.5}
    assert webui.paint(half, prompt="a cat <dmm:photo:1>") == webui.paint(
        {"styles": {"photo": 1}, "strength": 0.5}
    )


def test_prompts_of_a_batch_have_their_own_tags(webui: WebUI, photo: Painted) -> None:
    """The prompt matrix paints "a cat" and "a cat, <dmm:photo:1>" in one batch."""
    matrix = webui.paint(
        prompt="a cat|<dmm:photo:1>",
        batch_size=2,
        script_name="prompt matrix",
        script_args=[False, False, "positive", "comma", 0],
    )
    cats = webui.paint(prompt="a cat"), webui.paint(prompt="a cat, <dmm:photo:1>")
    for picture, cat in zip(matrix.pictures, cats, strict=True):
        assert np.abs(picture.astype(int) - cat.pictures[0]).max() <= 1  # a batch rounds otherwise
    assert np.abs(matrix.pictures[0].astype(int) - matrix.pictures[1]).max() > 1


def test_a_wrong_tag_is_refused(webui: WebUI) -> None:
    with pytest.raises(Refused) as refused:
        webui.paint(prompt="a cat <dmm:foto:1>")
    assert (
        "There is no style 'foto' in this file. Did you mean 'photo'?"
        in refused.value.answer["detail"]
    )


def test_a_wrong_name_is_refused_even_where_no_place_is_left_to_it(webui: WebUI) -> None:
    """As where every cell of a layout has a mix of its own."""
    cells = {"columns": [1, 1], "regions": ["ink", "photo"]}
    for dmm, prompt in ((cells, "a cat <dmm:foto:1>"), (cells | {"styles": "foto"}, "a cat")):
        with pytest.raises(Refused, match="There is no style 'foto' in this file"):
            webui.paint(dmm, prompt=prompt)


def test_a_tag_changes_nothing_on_a_plain_checkpoint(webui: WebUI, unstyled: Painted) -> None:
    webui.choose("plain")
    assert webui.paint(prompt="a cat <dmm:ink:1>") == unstyled


def test_a_tag_in_one_of_the_host_s_styles(webui: WebUI, photo: Painted) -> None:
    assert webui.paint(styles=["mine"]) == photo


def test_a_tag_from_a_wildcard(webui: WebUI, photo: Painted) -> None:
    if not webui.has_pack(WILDCARDS):
        pytest.skip(f"no {WILDCARDS} on this machine")
    folder = webui.base / "extensions" / WILDCARDS / "wildcards"
    (folder / "style.txt").write_text("<dmm:photo:1>\n", encoding="utf-8")
    painted = webui.paint(prompt="a cat__style__")
    assert painted == photo
    assert "<dmm:photo:1>" in painted.infotexts[0]


def test_prompt_s_r_replaces_what_is_in_a_tag(webui: WebUI, photo: Painted) -> None:
    painted = plot(webui, "Prompt S/R", "ink, photo", prompt="a cat<dmm:ink:1>")
    ink = webui.paint({"styles": {"ink": 1}})
    assert np.array_equal(painted.pictures, np.concatenate([ink.pictures, photo.pictures]))


def test_an_axis_of_styles_goes_before_tags(webui: WebUI, photo: Painted) -> None:
    painted = plot(webui, "[DMM] style", "photo", prompt="a cat<dmm:ink:1>")
    assert painted == photo
    assert "<dmm" not in painted.infotexts[0]


def test_a_tag_in_the_hires_prompt_alone(webui: WebUI) -> None:
    tagged = webui.paint(**hires(webui), hr_prompt="a cat<dmm:ink:1>")
    assert tagged != webui.paint(**hires(webui))
