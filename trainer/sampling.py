"""From prompts to latents to pictures: DPM-Solver++ with classifier-free guidance, or LCM."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, LCMScheduler
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from trainer.diffusion import BETA_END, BETA_START, TIMESTEPS, PredictionType
from trainer.text import TextEmbedding

SAMPLERS = {"dpm++": DPMSolverMultistepScheduler, "lcm": LCMScheduler}
MOST_LCM_STEPS = 50  # what diffusers' schedule of LCM is made of


def sdxl_time_ids(width: int, height: int, original: tuple[int, int] | None = None) -> Tensor:
    """SDXL's micro-conditioning [6]: original size, crop, target size (Podell et al. 2023, 2.2).

    Args:
        width, height: of the picture as the UNet has it.
        original: its width and height before it was scaled to fill that and cropped to the middle;
            None = the same.
    """
    from_width, from_height = original or (width, height)
    scale = max(width / from_width, height / from_height)
    left, top = ((from_width * scale - width) // 2, (from_height * scale - height) // 2)
    return torch.tensor([from_height, from_width, top, left, height, width], dtype=torch.float32)


def unet_passes(guidance: float) -> int:
    """How often a sampling step asks the UNet: twice where captions guide; 1 = no guidance."""
    return 1 if guidance == 1 else 2


@torch.no_grad()
def sample_latents(
    unet: Callable,
    prompt: TextEmbedding,
    negative: TextEmbedding,
    *,
    shape: Sequence[int],
    seeds: Sequence[int],
    steps: int = 25,
    guidance: float = 7.0,
    prediction_type: PredictionType = "epsilon",
    time_ids: Tensor | None = None,
    sampler: str = "dpm++",
    progress: str | None = None,
) -> Tensor:
    """Paint latents [B, *shape], in float32.

    Args:
        unet: a diffusers UNet, or anything called as one; it runs in the embedding's dtype.
        prompt: B prompts, on the UNet's device.
        negative: B negative prompts, or one for all.
        shape: (channels, height, width) of a latent.
        seeds: one a picture, for noise that depends neither on its batch nor on the device.
        steps: UNet evaluations a picture, each twice the batch under guidance.
        guidance: scale of classifier-free guidance; 1 = none.
        prediction_type: what the UNet predicts.
        time_ids: SDXL's micro-conditioning, [6] or [B, 6], see `sdxl_time_ids`.
        sampler: "dpm++" (DPM-Solver++ 2M; Lu et al. 2022), or "lcm" (Luo et al. 2023, algorithm 3)
            for what was trained to paint in few steps.
        progress: title of a progress bar; None = no bar.
    """
    guided = unet_passes(guidance) == 2
    hidden, conditions = _conditions(prompt, negative, time_ids, guided)
    scheduler = SAMPLERS[sampler](
        num_train_timesteps=TIMESTEPS,
        beta_start=BETA_START,
        beta_end=BETA_END,
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
    )
    scheduler.set_timesteps(steps, device=hidden.device)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    noise = [torch.randn(*shape, generator=generator) for generator in generators]
    latents = torch.stack(noise).to(hidden.device)
    for t in tqdm(scheduler.timesteps, desc=progress, disable=progress is None, leave=False):
        sample = torch.cat([latents, latents]) if guided else latents
        output = unet(
            sample.to(hidden.dtype),
            t,
            encoder_hidden_states=hidden,
            added_cond_kwargs=conditions,
            return_dict=False,
        )[0].float()
        if guided:
            without, with_prompt = output.chunk(2)
            output = without + guidance * (with_prompt - without)
        latents = scheduler.step(output, t, latents, generators, return_dict=False)[0]
    return latents


def _conditions(
    prompt: TextEmbedding, negative: TextEmbedding, time_ids: Tensor | None, guided: bool
) -> tuple[Tensor, dict[str, Tensor] | None]:
    """The UNet's text inputs for a whole (guided) batch: negative prompts first."""

    def stack(with_prompt: Tensor, without: Tensor) -> Tensor:
        return torch.cat([without.expand_as(with_prompt), with_prompt]) if guided else with_prompt

    hidden = stack(prompt.hidden, negative.hidden)
    if prompt.pooled is None:
        return hidden, None
    pooled = stack(prompt.pooled, negative.pooled)
    sizes = time_ids.to(pooled.device).expand(len(prompt.hidden), -1)
    return hidden, {"text_embeds": pooled, "time_ids": stack(sizes, sizes)}


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: Tensor) -> list[Image.Image]:
    """Turn latents [B, c, h, w], as the UNet sees them, into pictures, one at a time."""
    pictures = []
    for latent in latents.split(1):
        scaled = latent.to(vae.device, vae.dtype) / vae.config.scaling_factor
        pixels = vae.decode(scaled, return_dict=False)[0][0].float()
        levels = ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        pictures.append(Image.fromarray(levels.permute(1, 2, 0).cpu().numpy()))
    return pictures
