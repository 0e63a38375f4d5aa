"""What we stand on in ComfyUI beyond its API for nodes, and what is said where it has moved."""

from __future__ import annotations

from dmm.needs import missing

NEEDED = (
    "comfy.cli_args.args.disable_metadata",
    "comfy.conds.CONDNoiseShape",
    "comfy.conds.CONDRegular",
    "comfy.controlnet.ControlNet",
    "comfy.controlnet.load_controlnet_state_dict",
    "comfy.lora.load_lora",
    "comfy.lora.model_lora_keys_unet",
    "comfy.model_base.ModelType",
    "comfy.model_management.load_models_gpu",
    "comfy.model_patcher.ModelPatcher.add_patches",
    "comfy.model_patcher.ModelPatcher.add_wrapper_with_key",
    "comfy.model_patcher.ModelPatcher.clone",
    "comfy.model_patcher.ModelPatcher.get_model_object",
    "comfy.model_patcher.ModelPatcher.remove_wrappers_with_key",
    "comfy.patcher_extension.WrapperExecutor",
    "comfy.patcher_extension.WrappersMP.CALC_COND_BATCH",
    "comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL",
    "comfy.patcher_extension.WrappersMP.OUTER_SAMPLE",
    "comfy.samplers.get_area_and_mult",
    "comfy.sd.load_state_dict_guess_config",
    "comfy.utils.common_upscale",
    "comfy_api.latest.ComfyExtension",
    "comfy_api.latest.io.ComfyNode",
    "comfy_api.latest.io.Schema",
    "comfy_api.latest.ui.PreviewText",
    "folder_paths.add_model_folder_path",
    "folder_paths.folder_names_and_paths",
    "folder_paths.get_filename_list",
    "folder_paths.get_folder_paths",
    "folder_paths.get_full_path",
    "folder_paths.get_output_directory",
    "folder_paths.get_save_image_path",
    "folder_paths.models_dir",
    "folder_paths.supported_pt_extensions",
    "nodes.EXTENSION_WEB_DIRS",
    "server.PromptServer.instance.routes",
    "server.PromptServer.instance.user_manager.get_request_user_filepath",
)


def refuse_changed_host() -> None:
    """Called before anything else of ours is imported.

    Raises:
        ImportError: this ComfyUI lacks what we need, and the message names it. The host shows it
            and goes on without us.
    """
    moved = missing(NEEDED)
    if moved:
        raise ImportError(
            f"DMM needs {', '.join(moved)}, which this ComfyUI has not. DMM's nodes are left out; "
            "everything else works as ever. Update DMM, or use a ComfyUI that its "
            "docs/compatibility.md names."
        )
