"""Masks that share a picture among styles."""

import pytest
import torch

from dmm.errors import DmmError
from dmm.regions import (
    Regions,
    aligned,
    compose,
    feather,
    mix_regions,
    no_style,
    per_picture,
    repeat,
    resize,
    share,
    whole_picture,
)

WIDTH = 6


def vector(number):
    return torch.full((WIDTH,), float(number))


def half(side, size=8):
    mask = torch.zeros(size, size)
    (mask[:, : size // 2] if side == "left" else mask[:, size // 2 :]).fill_(1)
    return mask


def place(regions, y, x, picture=0):
    """The average vector of a place: what a block whose `emb_layers` is the identity adds."""
    if regions.masks is None:
        return regions.vectors[picture % len(regions.vectors), 0]
    shares = regions.masks[picture % len(regions.masks), :, y, x]
    return shares @ regions.vectors[picture % len(regions.vectors)]


def test_what_no_mask_covers_goes_to_the_base():
    weights = share([half("left")])
    assert weights.shape == (1, 2, 8, 8)
    assert torch.equal(weights[0, 1], half("left"))
    assert torch.equal(weights[0, 0], half("right"))


def test_overlapping_masks_share():
    weights = share([torch.ones(4, 4), torch.full((4, 4), 0.5), half("left", 4)])
    assert torch.equal(weights[0, 0], torch.zeros(4, 4))
    torch.testing.assert_close(weights[0, :, 0, 0], torch.tensor([0, 0.4, 0.2, 0.4]))
    torch.testing.assert_close(weights[0, :, 0, 3], torch.tensor([0, 2 / 3, 1 / 3, 0]))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(1, 4, 4))


def test_soft_masks_leave_the_rest_to_the_base():
    weights = share([torch.full((2, 2), 0.25), torch.full((2, 2), 0.25)])
    assert torch.equal(weights[0, :, 0, 0], torch.tensor([0.5, 0.25, 0.25]))


def test_masks_of_each_picture_stand_beside_masks_for_all():
    mine = torch.stack([half("left"), half("right")])
    weights = share([mine, torch.ones(8, 8)])
    assert weights.shape == (2, 3, 8, 8)
    assert torch.equal(weights[:, 1], mine / 2 + 0)
    assert torch.equal(weights[0, 2, 0], torch.tensor([0.5] * 4 + [1.0] * 4))


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ([torch.zeros(4, 4)], "region 1 is empty"),
        ([torch.ones(4, 4), torch.full((4, 4), torch.nan)], "region 2 holds NaN"),
        ([torch.ones(4, 6), torch.ones(4, 4)], "region 1 is 6×4, that of region 2 is 4×4"),
        ([torch.ones(2, 4, 4), torch.ones(3, 4, 4)], "region 1 is a batch of 2, another one of 3"),
        ([torch.ones(1, 1, 4, 4)], r"region 1 has the shape \[1, 1, 4, 4\]"),
        ([torch.ones(0, 4)], r"region 1 has the shape \[0, 4\]"),
    ],
)
def test_masks_that_make_no_sense_are_refused(masks, said):
    with pytest.raises(DmmError, match=said):
        share(masks)


def test_a_region_that_covers_all_is_the_style_of_the_whole_picture():
    regions = compose(share([torch.ones(8, 8)]), no_style(WIDTH), whole_picture(vector(3)))
    assert regions.masks is None
    assert torch.equal(regions.vectors, whole_picture(vector(3)).vectors)


def test_regions_within_a_region():
    inner = compose(share([half("left", 4)]), whole_picture(vector(1)), whole_picture(vector(2)))
    top = torch.zeros(8, 8)
    top[:4] = 1
    regions = compose(share([top]), whole_picture(vector(5)), inner)
    places = {(7, 0): 5, (7, 7): 5, (0, 0): 2, (0, 7): 1}
    for (y, x), number in places.items():
        assert torch.equal(place(regions, y, x), vector(number))


def test_a_style_of_each_picture_within_regions():
    pictures = per_picture(whole_picture(vector(1)), whole_picture(vector(2)))
    regions = compose(share([half("left")]), whole_picture(vector(9)), pictures)
    assert [place(regions, 0, 0, picture)[0].item() for picture in (0, 1)] == [1, 2]
    assert [place(regions, 0, 7, picture)[0].item() for picture in (0, 1)] == [9, 9]


def test_pictures_with_unequal_numbers_of_regions():
    divided = compose(share([half("left")]), no_style(WIDTH), whole_picture(vector(4)))
    regions = per_picture(whole_picture(vector(1)), divided)
    assert regions.vectors.shape == (2, 2, WIDTH)
    assert regions.masks.shape == (2, 2, 8, 8)
    assert [place(regions, 0, x, 0)[0].item() for x in (0, 7)] == [1, 1]
    assert [place(regions, 0, x, 1)[0].item() for x in (0, 7)] == [4, 0]


def test_a_style_for_several_pictures_is_not_one_for_a_picture():
    two = per_picture(whole_picture(vector(1)), whole_picture(vector(2)))
    with pytest.raises(DmmError, match="for 2 pictures, but the batch has 1"):
        per_picture(two, whole_picture(vector(3)))


def test_two_styles_mix_by_weight():
    between = mix_regions(whole_picture(vector(0)), whole_picture(vector(4)), 0.25)
    assert between.masks is None
    assert torch.equal(between.vectors[0, 0], vector(1))
    divided = compose(share([half("left")]), no_style(WIDTH), whole_picture(vector(8)))
    between = mix_regions(divided, whole_picture(vector(4)), 0.25)
    assert [place(between, 0, x)[0].item() for x in (0, 7)] == [7, 1]


def test_pictures_that_do_not_fit_one_another_are_refused():
    two = per_picture(*[whole_picture(vector(n)) for n in range(2)])
    three = per_picture(*[whole_picture(vector(n)) for n in range(3)])
    with pytest.raises(DmmError, match="for 2 pictures, another for 3"):
        mix_regions(two, three, 0.5)


def test_aligning_whole_pictures_makes_no_masks():
    parts = [whole_picture(vector(1)), whole_picture(vector(2))]
    assert [part.masks for part in aligned(parts)] == [None, None]


def test_a_batch_is_filled_in_turn():
    pictures = per_picture(whole_picture(vector(1)), whole_picture(vector(2)))
    pictures.check_batch(4)
    assert repeat(pictures.vectors, 4)[:, 0, 0].tolist() == [1, 2, 1, 2]
    with pytest.raises(DmmError, match="styles for 2 pictures, but the batch has 3"):
        pictures.check_batch(3)


@pytest.mark.parametrize(("height", "width"), [(512, 768), (1024, 1536), (64, 96), (520, 776)])
def test_masks_fit_a_picture_of_their_shape(height, width):
    Regions(torch.zeros(1, 2, WIDTH), torch.ones(1, 2, 512, 768)).check_shape(height, width)


def test_masks_of_another_shape_are_refused():
    regions = Regions(torch.zeros(1, 2, WIDTH), torch.ones(1, 2, 512, 512))
    with pytest.raises(
        DmmError, match=r"masks are 512×512, .* not the shape of the picture, 768×512"
    ):
        regions.check_shape(512, 768)


def test_masks_shrink_by_the_share_of_each_place():
    mask = torch.zeros(1, 1, 6, 6)
    mask[..., :5] = 1
    assert torch.equal(resize(mask, (3, 3))[0, 0, 0], torch.tensor([1, 1, 0.5]))


@pytest.mark.parametrize("pixels", [0, 1, 5, 40])
def test_feathering_leaves_a_uniform_mask_as_it_is(pixels):
    assert torch.equal(feather(torch.ones(9, 11), pixels), torch.ones(9, 11))


@pytest.mark.parametrize("pixels", [1, 2, 5])
def test_feathering_softens_an_edge_so_many_pixels_on_either_side(pixels):
    soft = feather(half("right", 20)[None], pixels)[0]
    row = soft[3]
    assert torch.equal(soft, row.expand(20, 20))
    changed = ((row > 0) & (row < 1)).nonzero().flatten()
    assert changed.tolist() == list(range(10 - pixels, 10 + pixels))
    assert (row.diff() >= 0).all()
    torch.testing.assert_close(row + row.flip(0), torch.ones(20))
