"""The thread in which Forge and reForge paint whatever their page asks for.

reForge leaves an error there, in its log, and its page shows another one, of the missing pictures.
So ours are carried back to the page, which shows them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dmm.errors import DmmError
from sd_webui_dmm.painting.stand_in import StandIn

try:
    from modules_forge import main_thread
except ImportError:
    main_thread = None  # AUTOMATIC1111 paints where it is asked to


def _raising(run: Callable[..., Any]) -> Callable[..., Any]:
    def run_and_raise(paint: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        errors = []

        def paint_and_catch() -> Any:
            try:
                return paint(*args, **kwargs)
            except DmmError as error:
                errors.append(error)

        painted = run(paint_and_catch)
        if errors:
            raise errors[0]
        return painted

    return run_and_raise


_stand_in = StandIn(main_thread, "run_and_wait_result", _raising)


def follow() -> None:
    """From now on our errors reach the page."""
    if main_thread and not hasattr(main_thread, "last_exception"):  # Forge carries them itself
        _stand_in.step_in()


def unfollow() -> None:
    _stand_in.step_back()
