"""The diffusion process of Stable Diffusion, and the two ways its UNets speak of the noise."""

from __future__ import annotations

import torch
from torch import Tensor

from dmm.metadata import PredictionType

TIMESTEPS = 1000
BETA_START, BETA_END = 0.00085, 0.012
"""Of SD1.5 and SDXL; linear in their square root, which diffusers calls "scaled_linear"."""


def alphas_cumprod() -> Tensor:
    """ᾱ_t of SD1.5 and SDXL, float64 [1000]."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TIMESTEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, dim=0)


class Diffusion:
    """Noising and conversions at given timesteps.

    Every method takes samples [B, c, h, w] and timesteps [B] on one device.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        signal = alphas_cumprod()
        self._signal = signal.sqrt().float().to(device)
        self._noise = (1 - signal).sqrt().float().to(device)

    def add_noise(self, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε."""
        signal, sigma = self._at(timesteps, x0)
        return signal * x0 + sigma * noise

    def convert(
        self,
        output: Tensor,
        x_t: Tensor,
        timesteps: Tensor,
        spoken: PredictionType,
        wanted: PredictionType,
    ) -> Tensor:
        """A UNet's output in the other parametrisation.

        v = √ᾱ_t ε − √(1−ᾱ_t) x_0, hence ε = √ᾱ_t v + √(1−ᾱ_t) x_t
        (Salimans & Ho 2022, appendix D).
        """
        if spoken == wanted:
            return output
        signal, sigma = self._at(timesteps, x_t)
        if wanted == "epsilon":
            return signal * output + sigma * x_t
        return (output - sigma * x_t) / signal

    def predicted_x0(
        self, output: Tensor, x_t: Tensor, timesteps: Tensor, spoken: PredictionType
    ) -> Tensor:
        """The clean sample that a UNet's output stands for (paper, equation 12)."""
        signal, sigma = self._at(timesteps, x_t)
        if spoken == "epsilon":
            return (x_t - sigma * output) / signal
        return signal * x_t - sigma * output

    def _at(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        shape = (-1,) + (1,) * (like.ndim - 1)
        return self._signal[timesteps].view(shape), self._noise[timesteps].view(shape)
