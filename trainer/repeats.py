"""Learning from the same pairs more than once, though their teachers are asked only once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.config import Train
from trainer.seeds import generator


@dataclass(frozen=True)
class Repeats:
    """Which batch a step learns from: a new one, or one that it has learned from before.

    Steps come in rounds: as many new batches as are remembered, and then the same ones in another
    order, and another, until each had its turns.

    Args:
        times: that each batch is learned from.
        remembered: batches of a round.
        seed: of the orders.
    """

    times: int = 1
    remembered: int = 1
    seed: int = 0

    @classmethod
    def of(cls, train: Train) -> Repeats:
        """What a merge's `train` section asks for."""
        return cls.among(train.repeats, train.repeat_among, train.batch_size, train.seed)

    @classmethod
    def among(cls, times: int, pairs: int, batch_size: int, seed: int = 0) -> Repeats:
        """As many batches are remembered as `pairs` pairs make, and one at least."""
        return cls(times, max(pairs // batch_size, 1), seed)

    def batch(self, step: int) -> int:
        """The number of a step's batch; new ones count from 0 without a gap."""
        turn, place = divmod(step, self.remembered)
        number, again = divmod(turn, self.times)
        if again:
            own = generator(self.seed, "repeats", turn)
            place = int(torch.randperm(self.remembered, generator=own)[place])
        return number * self.remembered + place

    def new(self, steps: int) -> int:
        """How many of the first `steps` steps bring a new batch."""
        rounds, rest = divmod(steps, self.remembered * self.times)
        return rounds * self.remembered + min(rest, self.remembered)


ONCE = Repeats()


class Answer(NamedTuple):
    """What teachers say of a batch: predictions [P, c, h, w] and their blocks' outputs."""

    predictions: Tensor
    features: list[Tensor]

    def to(self, device: torch.device | str) -> Answer:
        return Answer(self.predictions.to(device), [block.to(device) for block in self.features])


class Answers:
    """The last answers that were given, in the computer's own memory.

    A run that goes on after a stop has none, and asks again.

    Args:
        pairs: how many it has room for.
    """

    def __init__(self, pairs: int) -> None:
        self._room = pairs
        self._kept: dict[object, Answer] = {}  # the oldest comes first

    def get(self, key: object, ask: Callable[[], Answer], device: torch.device | str) -> Answer:
        """The answer to `key` on a device; asked for where it is not known."""
        if key in self._kept:
            return self._kept[key].to(device)
        answer = ask()
        count = len(answer.predictions)
        if count <= self._room:
            while self._pairs + count > self._room:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = answer.to("cpu")
        return answer

    @property
    def _pairs(self) -> int:
        return sum(len(answer.predictions) for answer in self._kept.values())
