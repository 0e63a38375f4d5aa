"""A figure from several runs, with its 95 % interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# Of Student's t, two-sided 95 %, by degrees of freedom.
T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


@dataclass(frozen=True)
class Estimate:
    """What runs by different chance gave."""

    values: Sequence[float]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def interval(self) -> float | None:
        """Half the width of the mean's 95 % interval; None for a single run."""
        count = len(self.values)
        if count < 2:
            return None
        t = T_95[min(count - 1, max(T_95))]
        return t * statistics.stdev(self.values) / math.sqrt(count)

    def __format__(self, spec: str) -> str:
        """Such as "113.2 ± 4.0" in the format of its numbers, or the one figure there is."""
        interval = self.interval
        return f"{self.mean:{spec}}" + ("" if interval is None else f" ± {interval:{spec}}")

    def __str__(self) -> str:
        return f"{self:.1f}"
