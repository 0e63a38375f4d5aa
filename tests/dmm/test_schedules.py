"""Styles over the steps, the picture and the batch."""

import pytest
import torch

from dmm.errors import DmmError
from dmm.regions import no_style, whole_picture
from dmm.schedules import PerPicture, Regional, Schedule

WIDTH = 4


def style(number):
    return whole_picture(torch.full((WIDTH,), float(number)))


def numbers(plan, *moments):
    return [plan.at(moment).vectors[0, 0, 0].item() for moment in moments]


def test_a_style_holds_from_its_start_to_before_its_end():
    plan = Schedule(style(1), no_style(WIDTH), 0.25, 0.75)
    assert numbers(plan, 0, 0.24, 0.25, 0.74, 0.75, 1) == [0, 0, 1, 1, 0, 0]


def test_a_span_to_the_end_includes_the_last_step():
    assert numbers(Schedule(style(1), style(2), 0.5, 1), 0, 0.5, 1) == [2, 1, 1]


def test_chained_spans():
    late = Schedule(style(3), style(0), 0.8, 1)
    plan = Schedule(style(1), late, 0, 0.4)
    assert numbers(plan, 0, 0.3, 0.5, 0.9) == [1, 1, 0, 3]


def test_a_fade_within_the_span():
    plan = Schedule(style(8), style(0), 0.25, 1, fade=0.5)
    assert numbers(plan, 0.2, 0.25, 0.375, 0.5, 0.75, 1) == [0, 0, 2, 4, 8, 8]
    plan = Schedule(style(8), style(0), 0, 0.5, fade=0.25)
    assert numbers(plan, 0, 0.25, 0.375, 0.5) == [8, 8, 4, 0]


def test_the_same_styles_are_the_same_object():
    plan = Regional([torch.ones(2, 2) / 2], [Schedule(style(1), style(2), 0, 0.5)], style(3))
    assert plan.at(0.1) is plan.at(0.2)
    assert plan.at(0.7) is not plan.at(0.2)
    pictures = PerPicture([plan, style(5)])
    assert pictures.at(0.6) is pictures.at(0.9)


def test_regions_with_schedules():
    left = torch.tensor([[1.0, 0.0]])
    plan = Regional([left], [Schedule(style(1), style(2), 0, 0.5)], style(3))
    for moment, number in ((0, 1), (0.5, 2)):
        regions = plan.at(moment)
        assert torch.equal(regions.masks[0, :, 0], torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        assert regions.vectors[0, :, 0].tolist() == [3, number]


def test_pictures_with_schedules():
    plan = PerPicture([Schedule(style(1), style(2), 0, 0.5), style(3)])
    assert plan.at(0).vectors[:, 0, 0].tolist() == [1, 3]
    assert plan.at(1).vectors[:, 0, 0].tolist() == [2, 3]


@pytest.mark.parametrize(
    "span", [(0.5, 0.5, 0), (0.6, 0.5, 0), (-0.1, 1, 0), (0, 1.1, 0), (0, 1, -1)]
)
def test_numbers_that_make_no_span_are_refused(span):
    with pytest.raises(DmmError, match="is no span"):
        Schedule(style(1), style(2), *span)
