"""What the tests set beside our nodes: masks, latents, and small random models of other packs."""

import copy
import gc

import torch
from comfy import cldm, controlnet, model_management, ops
from comfy.patcher_extension import WrappersMP
from comfy_api.torch_helpers import set_torch_compile_wrapper

MODEL = {"model": ("MODEL",)}


def whole(default):
    return ("INT", {"default": default, "max": 8192})


def share(default):
    return ("FLOAT", {"default": default})


class _Node:
    CATEGORY = "test"
    FUNCTION = "make"


class BoxMask(_Node):
    """A mask that is 1 within a box, given in shares of the picture; after others, a batch."""

    RETURN_TYPES = ("MASK",)

    @classmethod
    def INPUT_TYPES(cls):
        box = {"left": share(0.0), "top": share(0.0), "right": share(1.0), "bottom": share(1.0)}
        size = {"width": whole(64), "height": whole(64)}
        return {"required": size | box, "optional": {"after": ("MASK",)}}

    def make(self, width, height, left, top, right, bottom, after=None):
        mask = torch.zeros(1, height, width)
        rows = slice(int(top * height), int(bottom * height))
        mask[:, rows, int(left * width) : int(right * width)] = 1
        return (mask if after is None else torch.cat([after, mask]),)


class Noise(_Node):
    """A latent of noise to be sampled without adding any, rolled to the right by pixels."""

    RETURN_TYPES = ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls):
        size = {"width": whole(64), "height": whole(64)}
        return {"required": size | {"seed": whole(0), "roll": whole(0)}}

    def make(self, width, height, seed, roll):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(1, 4, height // 8, width // 8, generator=generator)
        return ({"samples": 80 * noise.roll(roll // 8, -1)},)  # as loud as the first step's


class Picture(_Node):
    """An image of random pixels."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"width": whole(64), "height": whole(64), "seed": whole(0)}}

    def make(self, width, height, seed):
        generator = torch.Generator().manual_seed(seed)
        return (torch.rand(1, height, width, 3, generator=generator),)


class CountCalls(_Node):
    """A MODEL that notes the batch of every call of its UNet."""

    RETURN_TYPES = ("MODEL", "CALLS")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": MODEL}

    @classmethod
    def IS_CHANGED(cls, **_):
        return float("nan")

    def make(self, model):
        calls = []

        def note(executor, x, *args, **kwargs):
            calls.append(len(x))
            return executor(x, *args, **kwargs)

        clone = model.clone()
        clone.add_wrapper(WrappersMP.DIFFUSION_MODEL, note)
        return (clone, calls)


class CountStyles(CountCalls):
    """A MODEL that notes at every call of its UNet how many styles are in memory."""

    def make(self, model):
        from dmm.regions import Regions

        alive = []

        def note(executor, *args, **kwargs):
            alive.append(sum(isinstance(thing, Regions) for thing in gc.get_objects()))
            return executor(*args, **kwargs)

        clone = model.clone()
        clone.add_wrapper(WrappersMP.DIFFUSION_MODEL, note)
        return (clone, alive)


class CountPercents(CountCalls):
    """A MODEL that notes which shares of its sampling it is asked for."""

    def make(self, model):
        percents = []
        sampling = copy.deepcopy(model.get_model_object("model_sampling"))

        class Noting(type(sampling)):
            def percent_to_sigma(self, percent):
                percents.append(percent)
                return super().percent_to_sigma(percent)

        sampling.__class__ = Noting
        clone = model.clone()
        clone.add_object_patch("model_sampling", sampling)
        return (clone, percents)


class Calls(_Node):
    """What was noted once `samples` were made."""

    RETURN_TYPES = ("STRING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"calls": ("CALLS",), "samples": ("LATENT",)}}

    def make(self, calls, samples):
        return (" ".join(map(str, calls)),)


class Compile(_Node):
    """torch.compile as ComfyUI does it, with the backend that compiles nothing."""

    RETURN_TYPES = ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": MODEL}

    def make(self, model):
        clone = model.clone()
        set_torch_compile_wrapper(clone, backend="eager")
        return (clone,)


class GoAround(_Node):
    """A MODEL whose UNet is never called, as packs do that bring their own."""

    RETURN_TYPES = ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": MODEL}

    def make(self, model):
        clone = model.clone()
        clone.set_model_unet_function_wrapper(lambda _apply_model, args: args["input"])
        return (clone,)


class SmallControlNet(_Node):
    """A ControlNet of a MODEL's size, with random weights."""

    RETURN_TYPES = ("CONTROL_NET",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": MODEL}

    def make(self, model):
        config = dict(model.model.model_config.unet_config, hint_channels=3)
        config.pop("out_channels")
        config.update(dtype=torch.float32, operations=ops.manual_cast)
        network = cldm.cldm.ControlNet(**config)
        fill(network.parameters(), 0.03)
        device = model_management.get_torch_device()
        return (controlnet.ControlNet(network, load_device=device),)


class SmallIPAdapter(_Node):
    """An IP-Adapter for 320 channels everywhere, an image's embedding and the negative's."""

    RETURN_TYPES = ("IPADAPTER", "EMBEDS", "EMBEDS")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def make(self):
        shapes = {"proj.weight": (4 * 768, 1024), "proj.bias": (4 * 768,)}
        norm = {"norm.weight": torch.ones(768), "norm.bias": torch.zeros(768)}
        image_proj = {name: torch.empty(shape) for name, shape in shapes.items()} | norm
        # SD1.5 has 16 cross-attentions, and these are the numbers they go by.
        layers = {
            f"{number}.to_{part}_ip.weight": torch.empty(320, 768)
            for number in range(1, 32, 2)
            for part in "kv"
        }
        embedding = torch.empty(1, 1024)
        fill([*image_proj.values(), *layers.values(), embedding], 0.5)
        model = {"image_proj": image_proj, "ip_adapter": layers}
        adapter = {"ipadapter": {"model": model}, "clipvision": {"model": None}}
        return (adapter, embedding, torch.zeros(1, 1024))


def fill(tensors, spread):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in tensors:
            tensor.normal_(0, spread, generator=generator)


NODES = {
    "TEST_BoxMask": BoxMask,
    "TEST_Noise": Noise,
    "TEST_Picture": Picture,
    "TEST_CountCalls": CountCalls,
    "TEST_CountStyles": CountStyles,
    "TEST_CountPercents": CountPercents,
    "TEST_Calls": Calls,
    "TEST_Compile": Compile,
    "TEST_GoAround": GoAround,
    "TEST_ControlNet": SmallControlNet,
    "TEST_IPAdapter": SmallIPAdapter,
}
