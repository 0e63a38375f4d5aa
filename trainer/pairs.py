"""Which teacher sees which sample: the pairs of a step, the same however many processes there are.

The pairs of a step stand in a line sorted by teacher, and the line is cut into equal pieces, one a
process. So every process needs few teachers, all have the same work, and the step's gradient does
not depend on how many processes share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from trainer.config import Train


@dataclass(frozen=True)
class PairPlan:
    """The pairs of every step.

    Args:
        num_teachers: N.
        batch_size: pairs a step, over all processes.
        teachers_per_sample: how many teachers serve one sample. None = as many as serve the step.
        teachers_per_step: how many teachers serve one step; they take turns. None = all.
    """

    num_teachers: int
    batch_size: int
    teachers_per_sample: int | None = 1
    teachers_per_step: int | None = None

    @classmethod
    def of(cls, train: Train, num_teachers: int) -> PairPlan:
        """The plan that a merge's `train` section asks for."""
        return cls(
            num_teachers, train.batch_size, train.teachers_per_sample, train.teachers_per_step
        )

    @property
    def active(self) -> int:
        """Teachers that serve one step."""
        wanted = self.teachers_per_step or self.num_teachers
        return min(wanted, self.num_teachers, self.batch_size)

    @property
    def samples_per_step(self) -> int:
        """Different samples in one step."""
        per_sample = min(self.teachers_per_sample or self.active, self.active)
        return -(-self.batch_size // per_sample)

    def teachers(self, step: int) -> list[int]:
        """The teachers that serve `step`, in rising order."""
        first = step * self.active
        return sorted((first + turn) % self.num_teachers for turn in range(self.active))

    def pairs(self, step: int) -> list[tuple[int, int]]:
        """(teacher, sample) for each pair of `step`; samples count from 0 within the step."""
        teachers = self.teachers(step)
        samples = self.samples_per_step
        # Where the batch does not divide evenly, the larger parts move on each time the same
        # teachers come back, so that all teachers get the same share in the long run.
        cycle = self.num_teachers // gcd(self.num_teachers, self.active)
        turn = step // cycle % self.active
        return [
            (teachers[(pair * self.active + turn) // self.batch_size], pair % samples)
            for pair in range(self.batch_size)
        ]

    def share(self, step: int, process: int, processes: int) -> list[tuple[int, int]]:
        """The pairs of `step` that fall to one of several processes."""
        first = process * self.batch_size // processes
        last = (process + 1) * self.batch_size // processes
        return self.pairs(step)[first:last]
