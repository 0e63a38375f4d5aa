"""An extension for tests alone: latents as they are, failures on demand, a look at the weights."""

from collections.abc import Callable

import gradio as gr
import torch
from modules import processing, script_callbacks, scripts, sd_models, sd_unet, shared


class Script(scripts.Script):
    """Its one argument is an object:

    - "noise": the noise that a picture begins with;
    - "decode": false to leave out the VAE, which takes most of the time;
    - "fail": where to fail, "process" for a hook, "UNet" for the midst of sampling.
    """

    latents = torch.empty(0)

    def title(self):
        return "DMM test"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return [gr.Textbox(visible=False)]

    def process(self, p, said):
        if said and said.get("fail") == "process":
            raise RuntimeError("a hook fails, as it was told to")

    def process_before_every_sampling(self, p, said, **kwargs):
        if said and "noise" in said:
            kwargs["x"].copy_(torch.tensor(said["noise"]))
        if said and said.get("fail") == "UNet":
            fail_at_call(unet(), 3)

    def post_sample(self, p, ps, said):
        Script.latents = ps.samples
        if said and not said.get("decode", True):
            height, width = (8 * side for side in ps.samples.shape[-2:])
            black = torch.zeros(len(ps.samples), 3, height, width)
            ps.samples = processing.DecodedSamples(black)


def unet():
    if hasattr(shared.sd_model, "forge_objects"):
        return shared.sd_model.forge_objects.unet.model.diffusion_model
    return shared.sd_model.model.diffusion_model


def fail_at_call(module, number):
    calls = 0

    def count(*_args):
        nonlocal calls
        calls += 1
        if calls == number:
            handle.remove()
            raise RuntimeError("the UNet fails, as it was told to")

    handle = module.register_forward_pre_hook(count)


class Weights:
    """Where the host was last told to have the checkpoint's weights."""

    place = "device"


def note_place(name, place):
    tell = getattr(sd_models, name)

    def tell_and_note(*args, **options):
        Weights.place = place
        return tell(*args, **options)

    setattr(sd_models, name, tell_and_note)


note_place("unload_model_weights", "away")
note_place("send_model_to_device", "device")


class CompiledOption(sd_unet.SdUnetOption):
    label = "[TEST] compiled"

    def create_unet(self):
        return sd_unet.SdUnet()


def add_routes(_blocks, app):
    def latents() -> list:
        return Script.latents.tolist()

    def changed_modules() -> list[str]:
        """The UNet's modules with hooks, or with methods that are not their class's."""
        return [
            name
            for name, module in unet().named_modules()
            if module._forward_hooks
            or module._forward_pre_hooks
            or any(
                isinstance(value, Callable) for key, value in vars(module).items() if key[0] != "_"
            )
        ]

    def weights() -> str:
        return Weights.place

    def calculate_hash(checkpoint: str) -> str:
        """A checkpoint's SHA-256, which the host knows from then on, though it starts without."""
        info = sd_models.get_closet_checkpoint_match(checkpoint)
        shared.cmd_opts.no_hashing = False
        info.calculate_shorthash()
        shared.cmd_opts.no_hashing = True
        return info.sha256

    def reload() -> None:
        shared.state.request_restart()

    app.add_api_route("/test/latents", latents, methods=["GET"])
    app.add_api_route("/test/changed-modules", changed_modules, methods=["GET"])
    app.add_api_route("/test/weights", weights, methods=["GET"])
    app.add_api_route("/test/calculate-hash", calculate_hash, methods=["POST"])
    app.add_api_route("/test/reload", reload, methods=["POST"])


script_callbacks.on_list_unets(lambda found: found.append(CompiledOption()))
script_callbacks.on_app_started(add_routes)
