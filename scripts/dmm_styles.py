"""AUTOMATIC1111's WebUI, Forge and reForge find the extension here, cloned into `extensions/`."""

import sys
from pathlib import Path

from modules import extra_networks, script_callbacks, scripts, ui_extra_networks

ROOT = str(Path(__file__).parents[1])
if ROOT not in sys.path:
    sys.path.append(ROOT)  # at the end: nothing of the host's, or of another extension, is shadowed

from dmm.needs import refuse_changed  # noqa: E402
from sd_webui_dmm.host import NEEDED  # noqa: E402

refuse_changed("WebUI", NEEDED)

# Now, not when first used: the host takes other entries off sys.path once this file is loaded.
from sd_webui_dmm import checkpoints, settings, tags  # noqa: E402
from sd_webui_dmm.merging import tab as merge_tab  # noqa: E402
from sd_webui_dmm.page import accordion, cards, routes, xyz_axes  # noqa: E402
from sd_webui_dmm.painting import grid_tiles, job, main_thread, sampling  # noqa: E402


class Script(scripts.Script):
    def title(self):
        return "DMM styles"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        components, self.infotext_fields = accordion.build(self.elem_id)
        return components

    def before_process(self, p, *args):
        checkpoints.bring_back()

    # Not in `process`, where wildcard extensions write the prompts, perhaps after us.
    def before_process_batch(self, p, *args, batch_number, **kwargs):
        if batch_number == 0:
            job.prepare(p, args)


def register():
    extra_networks.register_extra_network(tags.DmmTag())
    ui_extra_networks.register_page(cards.StyleCards())
    xyz_axes.register()


script_callbacks.on_app_started(routes.add)
script_callbacks.on_app_started(merge_tab.add_routes)
script_callbacks.on_before_ui(register)
script_callbacks.on_ui_settings(settings.register)
script_callbacks.on_ui_tabs(merge_tab.build)
script_callbacks.on_cfg_denoiser(sampling.follow_sampling)
script_callbacks.on_script_unloaded(grid_tiles.unfollow)
script_callbacks.on_script_unloaded(main_thread.unfollow)
grid_tiles.follow()
main_thread.follow()
