"""Trains a text encoder and a UNet together on captioned latents (v-prediction)."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from averaging import Averaged
from diffusers import AutoencoderKL, UNet2DConditionModel
from nets import LATENT_CHANNELS, MAX_TOKENS, SCALING_FACTOR, VOCABULARY
from pictures import save_grid
from torch import Tensor
from transformers import CLIPTextModel

from trainer.diffusion import TIMESTEPS, Diffusion
from trainer.sampling import sample_latents
from trainer.text import TextEmbedding, clip_tokenizer, token_ids

BATCH = 32
CAPTION_DROPOUT = 0.1
PICTURE = (LATENT_CHANNELS, 8, 8)


def caption_ids(captions: Sequence[str]) -> Tensor:
    """Token ids [n, MAX_TOKENS]."""
    tokenizer = clip_tokenizer(VOCABULARY, MAX_TOKENS)
    return token_ids(tokenizer, captions, tokenizer.eos_token_id)


@torch.no_grad()
def encode_pictures(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Latents [n, 16, 8, 8] of unit variance, from pictures [n, 3, 64, 64]."""
    means = [vae.encode(batch).latent_dist.mean for batch in pictures.split(64)]
    return torch.cat(means) * SCALING_FACTOR


@dataclass
class Denoiser:
    """A UNet and the text encoder that it listens to."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel

    def state_dict(self) -> dict[str, Tensor]:
        unet, text = self.unet.state_dict(), self.text_encoder.state_dict()
        return {f"unet.{k}": v for k, v in unet.items()} | {f"text.{k}": v for k, v in text.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for net, prefix in ((self.unet, "unet."), (self.text_encoder, "text.")):
            net.load_state_dict(
                {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            )

    @torch.no_grad()
    def paint(
        self, vae: AutoencoderKL, captions: Sequence[str], guidance: float, seed: int = 0
    ) -> Tensor:
        """Pictures [n, 3, 64, 64] by DPM-Solver++ in 25 steps."""
        hidden = self.text_encoder(caption_ids([*captions, ""])).last_hidden_state
        latents = sample_latents(
            self.unet,
            TextEmbedding(hidden[:-1]),
            TextEmbedding(hidden[-1:]),
            shape=PICTURE,
            seeds=[seed + i for i in range(len(captions))],
            guidance=guidance,
            prediction_type="v_prediction",
        )
        return vae.decode(latents / SCALING_FACTOR).sample


def stratified_timesteps(count: int) -> Tensor:
    """``count`` timesteps, one from each equal part of the schedule, in random order."""
    parts = (torch.randperm(count) + torch.rand(count)) / count
    return (parts * TIMESTEPS).long()


def train_denoiser(
    denoiser: Denoiser,
    latents: Tensor,
    captions: Sequence[str],
    *,
    steps: int,
    learning_rate: float,
    text_learning_rate: float,
    title: str,
    vae: AutoencoderKL,
    samples: Path,
) -> Denoiser:
    """Trains in place on latents [n, 16, 8, 8] with n captions; returns the averaged weights.

    The learning rates fall to nothing along half a cosine. ``samples`` gets a grid now and then.
    """
    unet, text_encoder = denoiser.unet.train(), denoiser.text_encoder.train()
    ids, empty = caption_ids(captions), caption_ids([""])
    optimizer = torch.optim.AdamW(
        [
            {"params": unet.parameters(), "lr": learning_rate},
            {"params": text_encoder.parameters(), "lr": text_learning_rate},
        ],
        weight_decay=1e-4,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / steps)),
    )
    averages = [Averaged(net, decay=0.998) for net in (unet, text_encoder)]
    averaged = Denoiser(*(average.net for average in averages))
    diffusion = Diffusion()
    began, losses = time.monotonic(), []
    for step in range(steps):
        chosen = torch.randint(len(latents), (BATCH,))
        dropped = torch.rand(BATCH, 1) < CAPTION_DROPOUT
        hidden = text_encoder(torch.where(dropped, empty, ids[chosen])).last_hidden_state
        clean, noise, t = latents[chosen], torch.randn(BATCH, *PICTURE), stratified_timesteps(BATCH)
        noisy = diffusion.add_noise(clean, noise, t)
        v = diffusion.add_noise(noise, -clean, t)  # sqrt(a) noise - sqrt(1 - a) clean
        loss = F.mse_loss(unet(noisy, t, encoder_hidden_states=hidden).sample, v)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*unet.parameters(), *text_encoder.parameters()], 1.0)
        optimizer.step()
        schedule.step()
        for average, net in zip(averages, (unet, text_encoder), strict=True):
            average.update(net)
        losses.append(loss.item())
        if step % 100 == 99 or step == steps - 1:
            mean, seconds = sum(losses[-100:]) / len(losses[-100:]), time.monotonic() - began
            print(f"{title} {step + 1}/{steps} loss {mean:.4f} {seconds:.0f} s", flush=True)
        if step % 1000 == 999 or step == steps - 1:
            shown = list(dict.fromkeys(captions))[::4]
            save_grid(list(averaged.paint(vae, shown, guidance=3.0).split(16)), samples)
    return averaged
