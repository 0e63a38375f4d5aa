"""The entry "DMM style grid" among the host's scripts."""

import sys
from pathlib import Path

from modules import scripts

ROOT = str(Path(__file__).parents[1])
if ROOT not in sys.path:
    sys.path.append(ROOT)  # at the end, as in dmm_styles.py

from dmm.needs import missing  # noqa: E402
from sd_webui_dmm.host import NEEDED  # noqa: E402

if not missing(NEEDED):  # dmm_styles.py tells of it
    from sd_webui_dmm.page import style_grid

    class Script(scripts.Script):
        def title(self):
            return "DMM style grid"

        def ui(self, is_img2img):
            return style_grid.build(self.elem_id)

        def run(self, p, *args):
            return style_grid.paint(p, *args)
