"""What `bench.comfyui` measures, in ComfyUI's own Python."""

from __future__ import annotations

import logging
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import comfy.sd
import psutil
import torch
from comfy import model_base, samplers, supported_models
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from bench.passes import compare
from bench.report import print_ratios, print_table
from bench.timing import interleaved, median_ratio
from comfyui_dmm.nodes_load import load_checkpoint
from comfyui_dmm.nodes_style import picked
from comfyui_dmm.sampling import with_style
from comfyui_dmm.sockets import ChosenStyle
from dmm.layouts import UNET_PREFIX
from dmm.merged import Styles, write_merged
from dmm.metadata import default_styles
from dmm.schedules import Regional
from dmm.style_prompts import StylePrompts
from dmm.tensors import save_tensors

COMMON = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_heads": 8,
    "context_dim": 768,
    "use_spatial_transformer": True,
    "legacy": False,
    "transformer_depth_middle": 1,
}
UNETS = {
    "small": {
        "channel_mult": [1, 1],
        "num_res_blocks": [1, 1],
        "transformer_depth": [1, 0],
        "transformer_depth_output": [1, 1, 0, 0],
    },
    "sd15": {
        "channel_mult": [1, 2, 4, 4],
        "num_res_blocks": [2, 2, 2, 2],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1] * 9 + [0] * 3,
    },
}
STYLES = 8


def measure(*, size: str, pixels: int, regions: int, rounds: int, loads: int, prompts: int) -> None:
    """Prints the tables and, last, the ratios."""
    torch.manual_seed(0)
    logging.disable(logging.WARNING)  # the host's remarks on files without VAE and text encoder
    styles = Styles(StylePrompts(STYLES, 1280), default_styles(STYLES), "sd1")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        files = write_checkpoints(Path(name), size, styles)
        loaders = {
            "plain": lambda: comfy.sd.load_checkpoint_guess_config(str(files["plain"])),
            "merged": lambda: load_checkpoint(files["merged"]),
        }
        load_seconds = interleaved(loaders, loads)
        model = comfy.sd.load_checkpoint_guess_config(str(files["plain"]))[0]

    styled = with_style(model, mix(styles, 0))
    regional = with_style(model, stripes(styles, regions, pixels))
    noise = torch.randn(1, 4, pixels // 8, pixels // 8)
    passes = {
        "bare UNet": lambda: one_step(model, noise),
        "a style": lambda: one_step(styled, noise),
        f"{regions} regions": lambda: one_step(regional, noise),
    }
    ratios = compare(passes, rounds)
    change = statistics.median(interleaved({"": changer(model, styles)}, 50)[""])
    memory = memory_over(model, styles, prompts)

    load = {name: statistics.median(found) for name, found in load_seconds.items()}
    print_table(
        ("what", "ms"),
        [
            ("load a plain checkpoint", f"{load['plain'] * 1e3:.1f}"),
            ("load a merged checkpoint", f"{load['merged'] * 1e3:.1f}"),
            ("change the style", f"{change * 1e3:.3f}"),
        ],
    )
    print_ratios(
        ratios
        | {
            "load_to_style_change": load["plain"] / change,
            "merged_load": median_ratio(load_seconds, "merged", "plain"),
            "memory_after_prompts": memory,
        }
    )


def write_checkpoints(folder: Path, size: str, styles: Styles) -> dict[str, Path]:
    """A UNet with random weights in fp16, as a plain and as a merged checkpoint."""
    config = supported_models.SD15(COMMON | UNETS[size])
    unet = model_base.BaseModel(config).diffusion_model
    weights = {}
    for name, tensor in unet.state_dict().items():
        spread = tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 0.02
        weights[UNET_PREFIX + name] = (torch.randn(tensor.shape) * spread).half()
    files = {name: folder / f"{name}.safetensors" for name in ("plain", "merged")}
    save_tensors(files["plain"], weights, {})
    write_merged(files["merged"], weights, styles, {})
    return files


def mix(styles: Styles, number: int) -> ChosenStyle:
    """Of two styles, another one for every number."""
    one, other = (styles.names[(number + more) % STYLES] for more in (0, 1))
    return picked(styles, {one: 1 + number, other: 1}, strength=1.0)


def stripes(styles: Styles, count: int, pixels: int) -> ChosenStyle:
    """Regions that stand side by side."""
    masks = torch.zeros(count, pixels, pixels)
    for number, columns in enumerate(torch.arange(pixels).tensor_split(count)):
        masks[number, :, columns] = 1
    parts = [mix(styles, number) for number in range(count)]
    plan = Regional(list(masks), [part.plan for part in parts], parts[0].without().plan)
    return ChosenStyle(plan, styles.family, styles.prompts.dim)


def one_step(model: ModelPatcher, noise: Tensor) -> Tensor:
    """A sampling run of one step, positive and negative prompt in one call of the UNet."""
    guider = samplers.CFGGuider(model)
    guider.set_conds(*([[torch.full((1, 77, 768), level), {}]] for level in (0.1, -0.1)))
    guider.set_cfg(4.0)
    sampler, sigmas = samplers.sampler_object("euler"), torch.tensor([14.6, 0.0])
    return guider.sample(noise, torch.zeros_like(noise), sampler, sigmas, disable_pbar=True)


def changer(model: ModelPatcher, styles: Styles) -> Callable[[], object]:
    """Changes the style, to another one at each call: all that happens before sampling."""
    numbers = iter(range(10**9))
    return lambda: with_style(model, mix(styles, next(numbers)))


def memory_over(model: ModelPatcher, styles: Styles, prompts: int) -> float:
    """This process's memory after so many prompts, to that after a tenth of them."""
    process, noise = psutil.Process(), torch.randn(1, 4, 8, 8)
    sizes = []
    for number in range(prompts):
        regions = stripes(styles, 2 + number % 7, 64)
        for style in (mix(styles, number), regions):
            one_step(with_style(model, style), noise)
        sizes.append(process.memory_info().rss)
    return sizes[-1] / sizes[prompts // 10]
