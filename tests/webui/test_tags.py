"""Prompt tags: `<dmm:ink:0.6>`."""

from __future__ import annotations

import numpy as np
import pytest

from tests.webui.server import Painted, Refused, WebUI


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
        script_args=[False, True, "positive", "comma", 0],
    )
    cats = webui.paint(prompt="a cat"), webui.paint(prompt="a cat, <dmm:photo:1>")
    assert matrix.pictures.shape[0] == 3  # the first is the grid
    for picture, cat in zip(matrix.pictures[1:], cats, strict=True):
        assert np.allclose(picture, cat.pictures[0], atol=1)  # other kernels for a batch of 2
    assert not np.allclose(matrix.pictures[1], matrix.pictures[2], atol=1)


def test_a_wrong_tag_is_refused(webui: WebUI) -> None:
    with pytest.raises(Refused) as refused:
        webui.paint(prompt="a cat <dmm:foto:1>")
    assert "There is no style 'foto' in this file. Did you mean 'photo'?" in str(refused.value)


def test_a_plain_checkpoint_says_that_it_has_no_styles(webui: WebUI, unstyled: Painted) -> None:
    webui.choose("plain")
    painted = webui.paint(prompt="a cat <dmm:ink:1>")
    assert painted == unstyled
    assert "plain.safetensors is a plain checkpoint" in painted.comments
