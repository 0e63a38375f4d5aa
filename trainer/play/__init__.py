"""A window for a merged file: a page in the browser, for people with no host at hand."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from dmm.errors import DmmError


def play(merged: Path, pictures: Path, *, port: int | None = None, browser: bool = True) -> None:
    """Opens the page, on this machine only, and serves it until Ctrl-C.

    Args:
        merged: a merged checkpoint.
        pictures: the folder where all that is painted is kept.
        port: None = the first free one from 7860 on.
        browser: open the page there as well.

    Raises:
        DmmError: gradio is not installed, or the file cannot be read or has no styles.
    """
    if find_spec("gradio") is None:
        raise DmmError(
            "The page is made by the package gradio, which this Python does not have. Install it: "
            f"{sys.executable} -m pip install gradio"
        )
    from trainer.play import page
    from trainer.play.painter import Painter
    from trainer.studio import Studio

    painter = Painter(Studio(merged), merged.stem, pictures)
    page.build(painter).queue().launch(
        server_name="127.0.0.1",
        server_port=port,
        inbrowser=browser,
        share=False,
        allowed_paths=[str(pictures)],
        theme=page.THEME,
        css=page.CSS,
        footer_links=[],
    )
