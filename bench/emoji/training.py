"""Trains a VAE, and a UNet with its text encoder, from captioned pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPTextModel

from bench.emoji.networks import LATENT, SCALING_FACTOR
from trainer.diffusion import TIMESTEPS, Diffusion
from trainer.text import clip_tokenizer, token_ids

KL_WEIGHT = 3e-4
CAPTION_DROPOUT = 0.1
EMA_DECAY = 0.999
WARMUP = 100


@dataclass
class Denoiser:
    """A UNet and the text encoder that it listens to."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: the rate falls from `peak` to nothing along half a cosine."""

    steps: int
    batch_size: int
    peak: float


def train_vae(vae: AutoencoderKL, pictures: Tensor, schedule: Schedule) -> None:
    """Trains in place on pictures [n, 3, 64, 64] in [-1, 1], and gives latents a variance of 1.

    Pixels count, their squares, and the differences to their neighbours, which are outlines.
    """

    def loss() -> Tensor:
        batch = pictures[torch.randint(len(pictures), (schedule.batch_size,))]
        posterior = vae.encode(batch).latent_dist
        decoded = vae.decode(posterior.sample()).sample
        outlines = sum(F.l1_loss(decoded.diff(dim=axis), batch.diff(dim=axis)) for axis in (-1, -2))
        kept = KL_WEIGHT * posterior.kl().mean() / posterior.mean[0].numel()
        return F.l1_loss(decoded, batch) + F.mse_loss(decoded, batch) + outlines + kept

    _train([vae], loss, schedule, "VAE")
    _scale(vae, pictures)


def train_denoiser(
    denoiser: Denoiser, latents: Tensor, captions: Sequence[str], schedule: Schedule, title: str
) -> None:
    """Trains in place (v-prediction) on latents [n, 16, 8, 8] of unit variance."""
    device, count = latents.device, schedule.batch_size
    told = denoiser.text_encoder.config
    tokenizer = clip_tokenizer(told.vocab_size, told.max_position_embeddings)
    ids = token_ids(tokenizer, captions, tokenizer.eos_token_id).to(device)
    empty = token_ids(tokenizer, [""], tokenizer.eos_token_id).to(device)
    diffusion = Diffusion(device)

    def loss() -> Tensor:
        chosen = torch.randint(len(latents), (count,), device=device)
        dropped = torch.rand(count, 1, device=device) < CAPTION_DROPOUT
        hidden = denoiser.text_encoder(torch.where(dropped, empty, ids[chosen])).last_hidden_state
        clean, noise = latents[chosen], torch.randn(count, *LATENT, device=device)
        t = torch.randint(TIMESTEPS, (count,), device=device)
        noisy = diffusion.add_noise(clean, noise, t)
        v = diffusion.add_noise(noise, -clean, t)  # sqrt(a) noise - sqrt(1 - a) clean
        return F.mse_loss(denoiser.unet(noisy, t, encoder_hidden_states=hidden).sample, v)

    _train([denoiser.unet, denoiser.text_encoder], loss, schedule, title)


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Latents [n, 16, 8, 8] of unit variance."""
    means = [vae.encode(batch).latent_dist.mean for batch in pictures.split(256)]
    return torch.cat(means) * SCALING_FACTOR


def _train(
    modules: Sequence[nn.Module], loss: Callable[[], Tensor], schedule: Schedule, title: str
) -> None:
    """Leaves the moving average of the weights in the modules."""
    parameters = list(chain.from_iterable(module.parameters() for module in modules))
    optimizer = torch.optim.AdamW(parameters, lr=schedule.peak, weight_decay=1e-4)
    rates = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            min(1, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * step / schedule.steps))
        ),
    )
    average = EMAModel(parameters, decay=EMA_DECAY)
    device = parameters[0].device
    for module in modules:
        module.train()
    bar = tqdm(range(schedule.steps), desc=f"Training {title}", unit="step")
    for step in bar:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            value = loss()
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        rates.step()
        average.step(parameters)
        if step % 50 == 0:
            bar.set_postfix(loss=f"{value.item():.4f}")
    average.copy_to(parameters)
    for module in modules:
        module.eval()


@torch.no_grad()
def _scale(vae: AutoencoderKL, pictures: Tensor) -> None:
    """Makes SCALING_FACTOR x latent zero-mean, of unit variance, by the 1 x 1 convolutions."""
    latents = torch.cat([vae.encode(batch).latent_dist.mean for batch in pictures.split(256)])
    mean = latents.mean(dim=(0, 2, 3))
    scale = 1 / (SCALING_FACTOR * (latents - mean[:, None, None]).std())
    channels, quant, post = len(mean), vae.quant_conv, vae.post_quant_conv
    quant.weight[:channels] *= scale
    quant.bias[:channels] = (quant.bias[:channels] - mean) * scale
    quant.bias[channels:] += 2 * scale.log()
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight /= scale
