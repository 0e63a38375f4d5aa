"""ComfyUI finds the node pack here, from a plain clone into `custom_nodes/` under any name."""

import sys
from pathlib import Path

ROOT = str(Path(__file__).parent)
if ROOT not in sys.path:
    sys.path.append(ROOT)  # at the end: nothing of the host's, or of another pack, is shadowed

WEB_DIRECTORY = "./comfyui_dmm/web"


async def comfy_entrypoint():
    """What ComfyUI calls for the nodes. Imports wait for it: a test runner may load this file."""
    from comfyui_dmm.host import NEEDED
    from dmm.needs import refuse_changed

    refuse_changed("ComfyUI", NEEDED)
    from comfyui_dmm.extension import DmmExtension

    return DmmExtension()
