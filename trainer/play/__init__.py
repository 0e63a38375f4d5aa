"""A window for a merged file: a page in the browser, for people with no host at hand."""

from __future__ import annotations

from pathlib import Path

from trainer.play import page
from trainer.play.painter import Painter
from trainer.studio import Studio


def play(merged: Path, pictures: Path, *, port: int | None = None, browser: bool = True) -> None:
    """Opens the page, on this machine only, and serves it until Ctrl-C.

    Args:
        merged: a merged checkpoint.
        pictures: the folder where all that is painted is kept.
        port: None = the first free one from 7860 on.
        browser: open the page there as well.

    Raises:
        DmmError: the file cannot be read, or has no styles.
    """
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
