"""The thread in which Forge and reForge paint whatever their page asks for.

reForge leaves an error there, in its log, and its page shows another one, of the missing pictures.
So ours are carried back to the page, which shows them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dmm.errors import DmmError

try:
    from modules_forge import main_thread
except ImportError:
    main_thread = None  # AUTOMATIC1111 paints where it is asked to

_run = getattr(main_thread, "run_and_wait_result", None)  # the host's own


def follow() -> None:
    """From now on our errors reach the page."""
    if _run and not hasattr(main_thread, "last_exception"):  # where Forge carries them itself
        main_thread.run_and_wait_result = _run_and_raise


def unfollow() -> None:
    if _run:
        main_thread.run_and_wait_result = _run


def _run_and_raise(paint: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    errors = []

    def paint_and_catch() -> Any:
        try:
            return paint(*args, **kwargs)
        except DmmError as error:
            errors.append(error)

    painted = _run(paint_and_catch)
    if errors:
        raise errors[0]
    return painted
