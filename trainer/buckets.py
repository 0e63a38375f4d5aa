"""Pictures of several shapes: each is trained at the size, its *bucket*, that suits it best."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.seeds import generator

Size = tuple[int, int]  # width and height in pixels

SIDE_STEP = 64  # UNets halve a latent up to three times, and it has an eighth of a picture's side
SAME_SHAPE = 1e-3  # difference of the logarithms of two aspect ratios


def sizes_like(resolution: Size) -> list[Size]:
    """The sizes with about as many pixels, sides in steps of 64, up to twice as long as wide.

    As kohya's `enable_bucket` has them. For 512 x 512: 384 x 640, 448 x 576 and so on.
    """
    pixels = resolution[0] * resolution[1]
    sizes = set()
    for short in range(SIDE_STEP, int(pixels**0.5) + 1, SIDE_STEP):
        long = pixels // short // SIDE_STEP * SIDE_STEP
        if long <= 2 * short:
            sizes |= {(short, long), (long, short)}
    return sorted(sizes - {resolution})


def nearest(pictures: Tensor, buckets: Sequence[Size]) -> Tensor:
    """The bucket of each picture: the nearest in shape, so that least is cut off.

    Where several have that shape, the largest that the picture need not be enlarged for, or the
    smallest.

    Args:
        pictures: widths and heights, [n, 2]; 0 x 0 for one that cannot be read.

    Returns:
        Indices into `buckets`, [n].
    """
    wanted = torch.tensor(buckets, dtype=torch.float64)
    given = pictures.to(torch.float64).clamp(min=1)
    aspects = [(sizes[:, 0] / sizes[:, 1]).log() for sizes in (given, wanted)]
    distances = (aspects[0][:, None] - aspects[1]).abs()
    enlarged = (wanted / given[:, None]).amax(2)
    preference = torch.where(enlarged <= 1, -enlarged, enlarged)
    other_shape = distances > distances.amin(1, keepdim=True) + SAME_SHAPE
    return preference.masked_fill(other_shape, torch.inf).argmin(1)


class Turns:
    """Which bucket each step takes its samples from: a step's samples are all of one size.

    In an epoch every bucket has as many turns as its examples fill, in random order. The last of
    them may reach into the bucket's next epoch, which is the shorter for it.

    Args:
        counts: examples in each bucket.
        samples_per_step: how many of them one step takes.
    """

    def __init__(self, counts: Sequence[int], samples_per_step: int, seed: int) -> None:
        self._counts, self._samples, self._seed = list(counts), samples_per_step, seed
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def at(self, step: int) -> tuple[int, int]:
        """A step's bucket, and how many turns it had before."""
        # `_begin` rounds up once a bucket, so the step's epoch is this one or soon after.
        epoch = max(0, (step - len(self._counts)) * self._samples // sum(self._counts))
        while sum(self._begin(epoch + 1)) <= step:
            epoch += 1
        begin = self._begin(epoch)
        if self._epoch != epoch:
            turns = torch.tensor(self._begin(epoch + 1)) - torch.tensor(begin)
            order = torch.arange(len(turns)).repeat_interleave(turns)
            shuffled = torch.randperm(len(order), generator=generator(self._seed, "turns", epoch))
            self._epoch, self._order = epoch, order[shuffled]
        position = step - sum(begin)
        bucket = int(self._order[position])
        return bucket, begin[bucket] + int((self._order[:position] == bucket).sum())

    def _begin(self, epoch: int) -> list[int]:
        """How many turns each bucket has before an epoch."""
        return [-(-epoch * count // self._samples) for count in self._counts]
