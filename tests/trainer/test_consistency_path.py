"""The consistency losses on a path that is known: normal distributions have a score in closed form.

Who says where the teacher's guided path ends has nothing to learn; who is off by a little, has.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from tests.trainer.merging import forget_the_last_merge
from trainer.batches import Batch
from trainer.config import FewSteps
from trainer.consistency import Consistency, boundary_scalings, piece
from trainer.diffusion import TIMESTEPS, alphas_cumprod
from trainer.text import TextEmbedding

PIECES, GUIDANCE = 10, 3.0
WANTED, UNWANTED = (1.5, 0.4), (0.0, 1.0)  # mean and standard deviation of every latent value
RATIO = ((1 - alphas_cumprod()) / alphas_cumprod()).sqrt()  # σ/α, float64 [1000]


def slope(timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """A and B of the guided ε = A x/α + B at whole timesteps, [P]; x/α is what DDIM moves along.

    x/α is normal with the variance s² + (σ/α)², so ε = (σ/α) (x/α − m) / (s² + (σ/α)²).
    """
    ratio = RATIO[timesteps]
    scales, shifts = [], []
    for mean, deviation in (UNWANTED, WANTED):
        scales.append(ratio / (deviation**2 + ratio**2))
        shifts.append(-scales[-1] * mean)
    return tuple(first + GUIDANCE * (last - first) for first, last in (scales, shifts))


class Teacher:
    """A `TeacherPool` of one teacher, whose score is exact."""

    teachers = (SimpleNamespace(prediction_type="epsilon"),)

    def predict(
        self, _teacher: int, noisy: Tensor, timesteps: Tensor, text: TextEmbedding, *_: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        mean, deviation = WANTED if text.hidden.any() else UNWANTED
        ratio = RATIO[timesteps].view(-1, 1, 1, 1)
        scaled = noisy * (1 + ratio**2).sqrt()
        return (ratio * (scaled - mean) / (deviation**2 + ratio**2)).float(), []


class Knower(nn.Module):
    """A student that knows where the path ends, and says it is `off` from there."""

    def __init__(self, off: float) -> None:
        super().__init__()
        self.off = nn.Parameter(torch.tensor(off))

    def forward(self, noisy: Tensor, timesteps: Tensor, *_: object) -> tuple[Tensor, list[Tensor]]:
        end = torch.stack([path_end(*one) for one in zip(noisy, timesteps, strict=True)])
        column = (-1, 1, 1, 1)
        skip, out = (found.view(column) for found in boundary_scalings(timesteps.double()))
        clean = (end + self.off - skip * noisy) / out.clamp(min=1e-9)
        ratio = fractional_ratio(timesteps).view(column)
        return noisy * (1 + ratio**2).sqrt() / ratio - clean / ratio, []


def fractional_ratio(timesteps: Tensor) -> Tensor:
    below = timesteps.long().clamp(max=TIMESTEPS - 2)
    return torch.lerp(RATIO[below].log(), RATIO[below + 1].log(), timesteps.double() - below).exp()


def path_end(noisy: Tensor, timestep: Tensor) -> Tensor:
    """Where DDIM's straight pieces lead a sample [c, h, w] from anywhere on them, in float64."""
    ratio = fractional_ratio(timestep.double()[None])[0]
    scaled = noisy.double() * (1 + ratio**2).sqrt()
    # A whole timestep at the start of a piece lies on that piece, hence rounding up.
    start, _ = piece((timestep.ceil()[None].long()), PIECES)
    grow, shift = slope(start)
    scaled = (scaled + (RATIO[start] - ratio) * shift) / (1 - (RATIO[start] - ratio) * grow)
    while True:
        start, end = piece(start, PIECES)
        grow, shift = slope(start)
        scaled = scaled + (RATIO[end] - RATIO[start]) * (grow * scaled + shift)
        if not end:
            return scaled * alphas_cumprod()[0].sqrt()
        start = end


def losses(kind: str, off: float) -> Tensor:
    """Of a hundred pairs all along the path, where the moving average is right."""
    forget_the_last_merge()
    generator = torch.Generator().manual_seed(4)
    pairs, shape = 100, (100, 1, 2, 2)
    mean, deviation = WANTED
    student, numbers = Knower(off), torch.zeros(pairs, dtype=torch.long)
    told = TextEmbedding(torch.ones(pairs, 1, 1))
    batch = Batch(
        latents=mean + deviation * torch.randn(shape, generator=generator),
        noise=torch.randn(shape, generator=generator),
        timesteps=torch.randint(TIMESTEPS, (pairs,), generator=generator),
        teachers=numbers,
        styles=numbers,
        text=told,
        teacher_text=[told],
        time_ids=torch.zeros(pairs, 6),
        conditions=None,
        discriminator_noise=torch.empty(0),
        discriminator_timesteps=numbers,
        places=torch.rand(pairs, generator=generator),
        key=(0, 0),
    )
    learner = SimpleNamespace(plain=student, averaged=lambda: {"off": torch.zeros(())})
    objective = Consistency(
        FewSteps(loss=kind, guidance=GUIDANCE, pieces=PIECES),
        Accelerator(cpu=True),
        Teacher(),
        [TextEmbedding(torch.zeros(1, 1, 1))],
        learner,
        "epsilon",
        1,
    )
    return objective.backward(student, batch, 1 / pairs)[0]


@pytest.mark.parametrize("kind", ["lcm", "splam"])
def test_who_knows_the_path_has_nothing_to_learn(kind: str) -> None:
    assert losses(kind, off=0.0).max() < 2e-3


@pytest.mark.parametrize("kind", ["lcm", "splam"])
def test_who_is_off_has(kind: str) -> None:
    torch.testing.assert_close(losses(kind, off=0.3), torch.full((100,), 0.299), rtol=0, atol=5e-3)
