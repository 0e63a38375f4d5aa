"""Standing in for one of the host's functions, as other extensions do too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Function = Callable[..., Any]


class StandIn:
    """A function of ours around whatever stands in its place.

    What others put there, before or after us, stays.

    Args:
        module: of the host.
        name: of its function.
        around: makes our function of the one that it calls.
    """

    def __init__(self, module: Any, name: str, around: Callable[[Function], Function]) -> None:
        self._module, self._name, self._around = module, name, around
        self._before: Function | None = None
        self._ours: Function | None = None

    def step_in(self) -> None:
        self._before = getattr(self._module, self._name)
        # A new one each time: where another stands around the last one, that is still called.
        self._ours = self._around(self._before)
        setattr(self._module, self._name, self._ours)

    def step_back(self) -> None:
        """Gives the place back, unless another has taken it since, who still calls ours."""
        if self._ours and getattr(self._module, self._name) is self._ours:
            setattr(self._module, self._name, self._before)
        self._ours = None
