"""The tab "DMM" among the host's extra networks: a card for each style of the chosen checkpoint."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modules.ui_extra_networks import ExtraNetworksPage, quote_js

from dmm.errors import DmmError
from sd_webui_dmm import tags
from sd_webui_dmm.checkpoints import chosen_file, chosen_styles
from sd_webui_dmm.folders import PREVIEWS_FOLDER
from sd_webui_dmm.page import previews

_TOOLS = """<div class="dmm-previews" data-checkpoint="{checkpoint}">
    <button type="button" class="dmm-button dmm-paint" title="{title}" {hidden}>{label}</button>
    <span class="dmm-notice">{notice}</span>
</div>"""
_LABEL = "Paint previews"
_TITLE = "Paints a picture of every style that has none yet; if all have, of all"


class StyleCards(ExtraNetworksPage):
    """A click on a card puts the style's tag into the prompt.

    Names are strangers'. The host escapes them on the cards, but not in its view of folders, which
    styles have none of anyway.
    """

    def __init__(self) -> None:
        super().__init__("DMM")
        # A style has no file of its own whose path one could copy, or whose data one could edit.
        self.btn_copy_path_tpl = self.btn_edit_item_tpl = ""
        self._file: Path | None = None  # whose cards these are
        self._problem = ""

    def list_items(self) -> Iterator[dict[str, Any]]:
        self._file, self._problem = chosen_file(), ""
        try:
            files = previews.preview_files(chosen_styles())
        except DmmError as error:
            self._problem = str(error)
            return
        for index, (name, file) in enumerate(files.items()):
            yield self._card(name, index, file)

    def create_item(self, name: str, *_args: Any, **_options: Any) -> dict[str, Any]:
        return self.items[name]

    def allowed_directories_for_previews(self) -> list[str]:
        return [str(PREVIEWS_FOLDER)]

    def create_html(self, tabname: str, *, empty: bool = False) -> str:
        cards = super().create_html(tabname, empty=empty)
        return cards if empty else self._tools() + cards

    def create_card_view_html(self, tabname: str, *, none_message: str | None) -> str:
        # The host's words for no cards tell to put files into a folder.
        cards = super().create_card_view_html(tabname, none_message=none_message)
        return cards if self.items else ""

    def create_tree_view_html(self, tabname: str) -> str:
        return ""

    def create_dirs_view_html(self, tabname: str) -> str:
        return ""

    def _tools(self) -> str:
        return _TOOLS.format(
            checkpoint=html.escape(self._file.stem if self._file else ""),
            label=_LABEL,
            title=_TITLE,
            hidden="" if self.items else "hidden",
            notice=html.escape(self._problem),
        )

    def _card(self, name: str, index: int, file: Path) -> dict[str, Any]:
        return {
            "name": name,
            "filename": str(file),
            "shorthash": "",
            "preview": self.link_preview(str(file)) if file.is_file() else None,
            "local_preview": str(file),
            "description": "",
            "user_metadata": {},
            "search_terms": [html.escape(name)],
            "prompt": quote_js(tags.tag(name)),
            "sort_keys": {
                "default": index,
                "name": name.lower(),
                "path": index,
                "date_created": index,
                "date_modified": index,
            },
        }
