"""Pictures divided into tiles and put together again."""

import math
from itertools import pairwise

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dmm.regions import Regions, resize, whole_picture
from dmm.tiles import Tiling, crop

SHAPES = [
    # height, width, tile height, tile width, overlap
    (16, 40, 8, 16, 4),
    (9, 33, 8, 16, 6),
    (16, 16, 16, 16, 4),
    (5, 12, 8, 8, 0),
    (64, 31, 12, 10, 9),
]


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("gaussian", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_weighted_tiles_make_the_picture_again(shape, gaussian, wrap):
    height, width, *tile = shape
    tiling = Tiling(*tile, gaussian=gaussian, wrap=wrap)
    picture = torch.randn(2, 4, height, width)
    total, weight_sum = torch.zeros_like(picture), torch.zeros(height, width)
    for part in tiling.tiles(height, width):
        weights = tiling.weights(part)
        assert part.crop(picture).shape[-2:] == weights.shape
        assert tuple(weights.shape) == (min(tile[0], height), min(tile[1], width))
        part.add(total, weights * part.crop(picture))
        part.add(weight_sum, weights)
    assert (weight_sum > 0).all()
    torch.testing.assert_close(total / weight_sum, picture)


@pytest.mark.parametrize("shape", SHAPES)
def test_neighbours_overlap_enough_and_no_tile_is_too_many(shape):
    height, width, tile_height, tile_width, overlap = shape
    tiles = Tiling(tile_height, tile_width, overlap, gaussian=True, wrap=False).tiles(height, width)
    for length, tile, starts in (
        (height, tile_height, sorted({tile.top for tile in tiles})),
        (width, tile_width, sorted({tile.left for tile in tiles})),
    ):
        assert starts[0] == 0
        assert starts[-1] == max(length - tile, 0)
        assert all(second - first <= tile - overlap for first, second in pairwise(starts))
        assert len(starts) == max(math.ceil((length - overlap) / (tile - overlap)), 1)


def test_a_wrapped_tile_reaches_over_the_edge():
    tiles = Tiling(4, 8, 4, gaussian=False, wrap=True).tiles(4, 16)
    assert [tile.left for tile in tiles] == [0, 4, 8, 12]
    columns = torch.arange(16.0).expand(4, 16)
    assert tiles[3].crop(columns)[0].tolist() == [12, 13, 14, 15, 0, 1, 2, 3]


def test_masks_at_a_multiple_of_the_size_are_cropped_alike():
    (first, second, *_) = Tiling(4, 6, 2, gaussian=False, wrap=True).tiles(4, 12)
    small = torch.randn(1, 4, 12)
    large = small.repeat_interleave(2, dim=-2).repeat_interleave(2, dim=-1)
    for tile in (first, second):
        assert torch.equal(tile.crop(large)[..., ::2, ::2], tile.crop(small))


def test_gaussian_weights_are_the_papers():
    (tile,) = Tiling(6, 10, 0, gaussian=True, wrap=False).tiles(6, 10)
    weights = Tiling(6, 10, 0, gaussian=True, wrap=False).weights(tile)

    def gaussian(place, length):
        return math.exp(-(((place - (length - 1) / 2) / length) ** 2) / (2 * 0.01))

    for y in range(6):
        for x in range(10):
            expected = gaussian(y, 6) * gaussian(x, 10)
            assert weights[y, x].item() == pytest.approx(expected, rel=1e-5)


class Operations(TorchDispatchMode):
    """Notes what torch does within the block."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, _types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **kwargs or {})


@pytest.mark.parametrize("gaussian", [False, True])
def test_nothing_is_copied_to_the_device_of_the_picture(gaussian):
    picture = torch.zeros(1, 4, 16, 40, device="meta")
    tiling = Tiling(8, 16, 4, gaussian=gaussian, wrap=True)
    with Operations() as operations:
        for tile in tiling.tiles(16, 40):
            tile.add(picture, tiling.weights(tile, picture.device) * tile.crop(picture))
    assert "aten.index_add_.default" in operations.names
    assert "aten._to_copy.default" not in operations.names


@pytest.mark.parametrize("scale", [1, 8, 2.5])
def test_stacked_tiles_have_their_parts_of_the_masks(scale):
    """Two pictures with positive and negative prompt make four samples of each tile."""
    height, width = 8, 20
    masks = torch.rand(2, 3, round(height * scale), round(width * scale))
    masks /= masks.sum(dim=1, keepdim=True)
    regions = Regions(torch.randn(2, 3, 5), masks)
    tiles = Tiling(8, 12, 4, gaussian=False, wrap=False).tiles(height, width)
    cropped = crop(regions, tiles, samples=4)
    assert cropped.vectors is regions.vectors
    assert cropped.masks.shape == (4 * len(tiles), 3, 8, 12)
    for sample, found in enumerate(cropped.masks):
        tile, picture = tiles[sample // 4], sample % 2
        expected = resize(masks, (height, width))[picture, :, :, tile.left : tile.left + 12]
        assert torch.equal(found, expected)


def test_a_style_for_the_whole_picture_is_that_of_every_tile():
    style = whole_picture(torch.randn(5))
    assert crop(style, Tiling(8, 8, 0, gaussian=True, wrap=False).tiles(8, 16), 2) is style
