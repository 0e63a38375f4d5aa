"""What we stand on in AUTOMATIC1111, Forge and reForge, and what is said where it has moved."""

from __future__ import annotations

from dmm.needs import missing

NEEDED = (
    "gradio.components.Component",
    "modules.call_queue.queue_lock",
    "modules.extra_networks.ExtraNetwork",
    "modules.extra_networks.register_extra_network",
    "modules.images.GridAnnotation",
    "modules.images.draw_grid_annotations",
    "modules.images.image_grid",
    "modules.images.save_image",
    "modules.images.save_image_with_geninfo",
    "modules.images.split_grid",
    "modules.paths_internal.data_path",
    "modules.paths_internal.models_path",
    "modules.processing.Processed",
    "modules.processing.StableDiffusionProcessingTxt2Img",
    "modules.processing.fix_seed",
    "modules.processing.process_images",
    "modules.script_callbacks.CFGDenoiserParams",
    "modules.script_callbacks.on_app_started",
    "modules.script_callbacks.on_before_ui",
    "modules.script_callbacks.on_cfg_denoiser",
    "modules.script_callbacks.on_script_unloaded",
    "modules.script_callbacks.on_ui_settings",
    "modules.script_callbacks.on_ui_tabs",
    "modules.scripts.AlwaysVisible",
    "modules.scripts.Script",
    "modules.scripts.ScriptRunner",
    "modules.scripts.scripts_data",
    "modules.sd_models.checkpoint_aliases",
    "modules.sd_models.checkpoints_list",
    "modules.sd_models.get_closet_checkpoint_match",
    "modules.sd_models.list_models",
    "modules.sd_models.model_data",
    "modules.sd_models.model_path",
    "modules.sd_models.select_checkpoint",
    "modules.sd_models.send_model_to_device",
    "modules.sd_models.unload_model_weights",
    "modules.shared.OptionInfo",
    "modules.shared.cmd_opts",
    "modules.shared.opts",
    "modules.shared.state",
    "modules.shared.total_tqdm",
    "modules.shared.walk_files",
    "modules.ui_components.FormRow",
    "modules.ui_components.InputAccordion",
    "modules.ui_extra_networks.ExtraNetworksPage",
    "modules.ui_extra_networks.quote_js",
    "modules.ui_extra_networks.register_page",
)


def moved() -> list[str]:
    """What this host lacks of it."""
    return missing(NEEDED)


def refuse_changed_host() -> None:
    """Called before anything else of ours is imported.

    Raises:
        ImportError: this host lacks what we need, and the message names it. The host shows it and
            goes on without us.
    """
    if names := moved():
        raise ImportError(
            f"DMM needs {', '.join(names)}, which this WebUI has not. DMM is left out; everything "
            "else works as ever. Update DMM, or use a WebUI that its docs/compatibility.md names."
        )
