"""From what the user said to the vector that is added."""

import math

import pytest
import torch
from torch.nn import functional as F

from dmm.errors import DmmError
from dmm.merged import Styles
from dmm.metadata import Style
from dmm.resolving import resolve
from dmm.style_prompts import StylePrompts

WIDTH = 16


@pytest.fixture
def styles():
    names = ["ink", "anime", "oil"]
    return Styles(StylePrompts(len(names), WIDTH), [Style(name) for name in names], "sd1")


def float64_mlp(styles, prompt):
    prompts = styles.prompts.double()
    hidden = F.silu(prompt @ prompts.linear_1.weight.T + prompts.linear_1.bias)
    return hidden @ prompts.linear_2.weight.T + prompts.linear_2.bias


def expected(styles, weights, after_mlp):
    codebook = styles.prompts.double().codebook
    rows = [(weight, codebook[row]) for row, weight in weights.items()]
    if after_mlp:
        return sum(weight * float64_mlp(styles, row) for weight, row in rows)
    return float64_mlp(styles, sum(weight * row for weight, row in rows))


@pytest.mark.parametrize("after_mlp", [False, True])
@pytest.mark.parametrize(
    ("mix", "normalise", "weights"),
    [
        ("anime", True, {1: 1.0}),
        ("ink:3, oil:1", True, {0: 0.75, 2: 0.25}),
        ("ink:3, oil:-1", False, {0: 3.0, 2: -1.0}),
        ({"ink": 1, "anime": 1}, True, {0: 0.5, 1: 0.5}),
    ],
)
def test_a_mix_becomes_its_vector(styles, mix, normalise, weights, after_mlp):
    vector = resolve(styles, mix, normalise=normalise, after_mlp=after_mlp)
    assert (vector.dtype, vector.shape, vector.device.type) == (torch.float32, (WIDTH,), "cpu")
    assert not vector.requires_grad
    exact = expected(styles, weights, after_mlp)
    torch.testing.assert_close(vector.double(), exact, rtol=1e-5, atol=1e-6)


def test_the_strength_scales_the_vector(styles):
    full = resolve(styles, "ink")
    assert torch.equal(resolve(styles, "ink", strength=0.5), 0.5 * full)


@pytest.mark.parametrize("mix", ["ink", "ink:0"])
def test_strength_0_is_no_style(styles, mix):
    assert resolve(styles, mix, strength=0) is None


@pytest.mark.parametrize("normalise", [True, False])
def test_weights_that_are_all_0_are_refused(styles, normalise):
    with pytest.raises(DmmError, match="All style weights are 0"):
        resolve(styles, "ink:0, oil:0", normalise=normalise)


def test_an_unknown_style_is_refused_with_the_nearest(styles):
    with pytest.raises(DmmError, match=r"no style 'anme' in this file. Did you mean 'anime'"):
        resolve(styles, "anme")


def test_a_strength_that_is_no_number_is_refused(styles):
    with pytest.raises(DmmError, match="strength is nan"):
        resolve(styles, "ink", strength=math.nan)


@pytest.mark.parametrize(
    "how", [{"strength": 1e308}, {"normalise": False, "mix": "ink:1e308"}], ids=str
)
def test_a_style_beyond_all_numbers_is_refused(styles, how):
    with pytest.raises(DmmError, match="too large"):
        resolve(styles, **({"mix": "ink"} | how))
