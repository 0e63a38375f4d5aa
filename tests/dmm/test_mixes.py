"""What people write about styles, and the weights it stands for."""

import pytest
import torch

from dmm.errors import DmmError
from dmm.mixes import format_mix, mix_weights, parse_mix, style_index

NAMES = ["ink", "Anime", "oil paint"]


@pytest.mark.parametrize(
    ("text", "mix"),
    [
        ("ink", {"ink": 1.0}),
        ("ink:0.7, anime:0.3", {"ink": 0.7, "anime": 0.3}),
        (" oil paint : 2 ,ink:-.5", {"oil paint": 2.0, "ink": -0.5}),
        ("v1:5:0.25", {"v1:5": 0.25}),
    ],
)
def test_a_mix_is_read(text, mix):
    assert parse_mix(text) == mix


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty part"),
        ("ink,,anime", "empty part"),
        (":0.5", "empty part"),
        ("ink:0.5, ink:0.5", "twice"),
        ("ink:much", "'much' of style 'ink' is not a number"),
        ("ink:1, oil:nan", "weight of style 'oil' is nan. Give a finite number"),
        ("ink:-inf", "weight of style 'ink' is -inf. Give a finite number"),
        ("ink:1e999", "weight of style 'ink' is inf. Give a finite number"),
    ],
)
def test_a_mix_that_makes_no_sense_is_refused(text, said):
    with pytest.raises(DmmError, match=said):
        parse_mix(text)


def test_a_written_mix_reads_back_to_the_same_weights():
    mix = {"ink": 0.1 + 0.2, "oil paint": 1e-9, "v1:5": -3.0}
    assert parse_mix(format_mix(mix)) == mix


def test_weights_are_normalised_in_codebook_order():
    weights = mix_weights({"oil paint": 3, "ink": 1}, NAMES)
    assert weights.dtype == torch.float32
    assert weights.tolist() == [0.25, 0.0, 0.75]


def test_weights_are_taken_as_they_are_when_asked():
    assert mix_weights({"anime": -2, "ink": 0.5}, NAMES, normalise=False).tolist() == [0.5, -2, 0]
    assert mix_weights({}, NAMES, normalise=False).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("mix", "said"),
    [
        ({"ink": float("nan")}, "finite"),
        ({"ink": float("inf")}, "finite"),
        ({"ink": 1e308, "Anime": 1e308}, "too large"),
        ({"ink": 2, "Anime": -1}, "negative"),
        ({"ink": 0}, "All style weights are 0"),
        ({}, "All style weights are 0"),
        ({"inky": 1}, "Did you mean 'ink'"),
        ({"photo": 1}, "It has: ink, Anime, oil paint"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(mix, said):
    with pytest.raises(DmmError, match=said):
        mix_weights(mix, NAMES)


def test_case_matters_only_where_it_tells_styles_apart():
    assert style_index("ANIME", NAMES) == 1
    assert style_index("Ink", ["ink", "Ink"]) == 1
    with pytest.raises(DmmError, match="no style 'INK'"):
        style_index("INK", ["ink", "Ink"])
