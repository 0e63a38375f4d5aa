"""Trains the VAE: sharp pictures from few numbers, latents a small UNet can model."""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from averaging import Averaged
from diffusers import AutoencoderKL
from nets import SCALING_FACTOR, new_vae
from pictures import save_grid
from safetensors.torch import load_file, save_file
from torch import Tensor

KL_WEIGHT = 3e-4
EDGE_WEIGHT = 1.0
HUE_WEIGHT = 2.0  # normalisation layers of one channel a group make flat colours slow to learn
LATENT_NOISE = 0.1  # of the latents' standard deviation, while the decoder learns alone
BATCH = 16
PEAK_RATE = 1.5e-3


def reconstruction_loss(picture: Tensor, target: Tensor) -> Tensor:
    """L1 and L2 of pixels, L1 of their differences to neighbours (outlines) and of their hues."""
    loss = F.l1_loss(picture, target) + F.mse_loss(picture, target)
    for axis in (-1, -2):
        loss = loss + EDGE_WEIGHT * F.l1_loss(picture.diff(dim=axis), target.diff(dim=axis))
    return loss + HUE_WEIGHT * F.l1_loss(hues(picture), hues(target))


def hues(picture: Tensor) -> Tensor:
    """The two colour differences, red - green and yellow - blue: [b, 3, h, w] -> [b, 2, h, w]."""
    red, green, blue = picture.unbind(dim=1)
    return torch.stack([red - green, (red + green) / 2 - blue], dim=1)


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up over 100 steps, then half a cosine down to a fiftieth of the peak."""
    warm = min(1.0, (step + 1) / 100)
    return PEAK_RATE * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def fold_scale(vae: AutoencoderKL, pictures: Tensor) -> None:
    """Makes 0.18215 x latent zero-mean, of unit variance, by the 1 x 1 convolutions alone."""
    with torch.no_grad():
        latents = torch.cat([vae.encode(batch).latent_dist.mean for batch in pictures.split(64)])
        mean = latents.mean(dim=(0, 2, 3))
        scale = 1 / (SCALING_FACTOR * (latents - mean[:, None, None]).std())
        channels = len(mean)
        quant, post = vae.quant_conv, vae.post_quant_conv
        quant.weight[:channels] *= scale
        quant.bias[:channels] = (quant.bias[:channels] - mean) * scale
        quant.bias[channels:] += 2 * scale.log()
        post.bias += post.weight[:, :, 0, 0] @ mean
        post.weight /= scale


def train_vae(
    known: Tensor, others: Tensor, path: Path, *, steps: int, start: Path | None = None
) -> None:
    """Trains on pictures [n, 3, h, w]: a quarter of each batch from ``others``, the rest ``known``.

    With ``start`` (a finished VAE) only the decoder learns on, so that latents keep their meaning.
    Writes the averaged weights to ``path``, in diffusers' names.
    """
    vae = new_vae()
    if start is not None:
        vae.load_state_dict(load_file(start))
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    trained = [parameter for parameter in vae.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=PEAK_RATE, weight_decay=1e-4)
    averaged = Averaged(vae, decay=0.998)
    began = time.monotonic()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        rest = BATCH // 4
        batch = torch.cat(
            [
                known[torch.randint(len(known), (BATCH - rest,))],
                others[torch.randint(len(others), (rest,))],
            ]
        )
        posterior = vae.encode(batch).latent_dist
        latents = posterior.sample()
        if start is not None:  # a UNet's latents are never quite right
            latents = latents + LATENT_NOISE / SCALING_FACTOR * torch.randn_like(latents)
        decoded = vae.decode(latents).sample
        loss = reconstruction_loss(decoded, batch)
        if start is None:
            loss = loss + KL_WEIGHT * posterior.kl().mean() / posterior.mean[0].numel()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        averaged.update(vae)
        if step % 100 == 0 or step == steps - 1:
            error = F.l1_loss(decoded, batch).item()
            print(
                f"vae {step}/{steps} loss {loss.item():.4f} L1 {error:.4f} "
                f"spread {posterior.std.mean() / posterior.mean.std():.3f} "
                f"{time.monotonic() - began:.0f} s",
                flush=True,
            )
        if step % 500 == 499 or step == steps - 1:
            shown = torch.cat([known[:: len(known) // 24], others[:: len(others) // 8]])
            with torch.no_grad():
                back = averaged.net(shown).sample
            save_grid([shown[:16], back[:16], shown[16:32], back[16:32]], path.with_suffix(".png"))
    if start is None:
        fold_scale(averaged.net, known)
    save_file(averaged.net.state_dict(), path)
