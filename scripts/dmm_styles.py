"""AUTOMATIC1111's WebUI, Forge and reForge find the extension here, cloned into `extensions/`."""

import sys
from pathlib import Path

from modules import extra_networks, script_callbacks, scripts

ROOT = str(Path(__file__).parents[1])
if ROOT not in sys.path:
    sys.path.append(ROOT)  # at the end: nothing of the host's, or of another extension, is shadowed

# Now, not when first used: the host takes other entries off sys.path once this file is loaded.
from sd_webui_dmm import painting, routes, tags, ui, xyz_axes  # noqa: E402


class Script(scripts.Script):
    def title(self):
        return "DMM styles"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        components, self.infotext_fields = ui.build(self.elem_id)
        return components

    def process(self, p, *args):
        painting.prepare(p, args)


def register():
    extra_networks.register_extra_network(tags.DmmTag())
    xyz_axes.register()


script_callbacks.on_app_started(routes.add)
script_callbacks.on_before_ui(register)
script_callbacks.on_cfg_denoiser(painting.follow_checkpoint)
