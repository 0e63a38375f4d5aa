"""The consistency losses against an independent computation in float64, and their gradient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from dmm.injection import styled
from dmm.style_prompts import StylePrompts
from tests import nets
from tests.trainer.merging import forget_the_last_merge
from trainer.batches import Batch
from trainer.checkpoint import open_checkpoint
from trainer.config import FewSteps, Train
from trainer.consistency import Consistency, Trajectory, boundary_scalings, piece
from trainer.diffusion import TIMESTEPS, alphas_cumprod
from trainer.learner import Learner
from trainer.losses import huber_loss
from trainer.student import Student, predict
from trainer.teachers import Teacher, TeacherPool
from trainer.text import TextEmbedding

PIECES, GUIDANCE = 10, 5.0
SIGNAL = alphas_cumprod().sqrt()  # float64; checked by `test_losses.py`
NOISE = (1 - alphas_cumprod()).sqrt()


def test_huber_loss_and_its_gradient() -> None:
    ours, theirs = torch.randn(3, 4, 5, 6), torch.randn(3, 4, 5, 6)
    theirs[0] = ours[0] + 1e-4  # well within the width
    ours.requires_grad_()
    huber_loss(ours, theirs).sum().backward()
    d = ours.detach().double().numpy() - theirs.double().numpy()
    length = np.sqrt(d**2 + 0.001**2)
    expected = (length - 0.001).reshape(3, -1).mean(1)
    np.testing.assert_allclose(huber_loss(ours, theirs).detach(), expected, rtol=1e-3, atol=1e-9)
    np.testing.assert_allclose(ours.grad, d / length / (4 * 5 * 6), rtol=1e-2, atol=1e-7)


@pytest.mark.parametrize(
    ("timestep", "pieces", "expected"),
    [
        (0, 50, (19, 0)),
        (19, 50, (19, 0)),
        (20, 50, (39, 19)),
        (999, 50, (999, 979)),
        (999, 7, (993, 851)),  # 142 timesteps a piece, and six over
        (500, 2, (999, 499)),
    ],
)
def test_pieces_of_the_path(timestep: int, pieces: int, expected: tuple[int, int]) -> None:
    start, end = piece(torch.tensor([timestep]), pieces)
    assert (int(start), int(end)) == expected


def test_at_the_end_of_the_path_there_is_nothing_left_to_do() -> None:
    skip, out = boundary_scalings(torch.tensor([0.0, 19, 999]))
    assert skip[0] == 1 and out[0] == 0
    scaled = np.array([0, 190, 9990]) ** 2 + 0.25
    np.testing.assert_allclose(skip, 0.25 / scaled, rtol=1e-6)
    np.testing.assert_allclose(out, np.array([0, 190, 9990]) / np.sqrt(scaled), rtol=1e-6)


def test_a_point_on_the_line_is_a_sample_of_its_timestep() -> None:
    """Signal and noise of the point, known apart, are those of a sample at that timestep."""
    start, end = piece(torch.tensor([950, 500, 30, 700]), PIECES)
    places = torch.tensor([0.3, 0.8, 0.5, 1.0])
    clean, noise = torch.randn(4, 1, 1, 1).double(), torch.randn(4, 1, 1, 1).double()
    column = (4, 1, 1, 1)
    at_start = SIGNAL[start].view(column) * clean + NOISE[start].view(column) * noise
    at_end = SIGNAL[end].view(column) * clean + NOISE[end].view(column) * noise
    point, timesteps = Trajectory().point(at_start.float(), at_end.float(), start, end, places)
    assert (timesteps >= end).all() and (timesteps <= start).all()
    assert timesteps[3] == start[3]
    ratio = (NOISE / SIGNAL).log().numpy()
    there = np.exp(np.interp(timesteps.double().numpy(), np.arange(TIMESTEPS), ratio))
    signal = 1 / np.sqrt(1 + there**2)
    expected = signal * clean.view(4).numpy() + signal * there * noise.view(4).numpy()
    np.testing.assert_allclose(point.view(4), expected, rtol=2e-4, atol=2e-5)


@pytest.fixture
def world(tmp_path: Path) -> tuple[Student, Teacher, Batch, TextEmbedding]:
    """A student unlike its only teacher, which predicts v, and four pairs."""
    teacher = nets.small_sd1_unet(1)
    path = nets.write_single_file(
        tmp_path / "teacher.safetensors", teacher, nets.small_vae(), [nets.small_clip()]
    )
    student = Student(nets.small_sd1_unet(0), StylePrompts(2, 128))
    draw = torch.Generator().manual_seed(5)
    latents, noise = torch.randn(2, 4, 4, 8, 8, generator=draw)
    text = torch.randn(4, 77, nets.TEXT_WIDTH, generator=draw)
    batch = Batch(
        latents=latents,
        noise=noise,
        timesteps=torch.tensor([990, 620, 310, 40]),
        teachers=torch.zeros(4, dtype=torch.long),
        styles=torch.ones(4, dtype=torch.long),
        text=TextEmbedding(text),
        teacher_text=[TextEmbedding(text)],
        time_ids=torch.zeros(4, 6),
        conditions=None,
        discriminator_noise=noise,
        discriminator_timesteps=torch.zeros(4, dtype=torch.long),
        places=torch.tensor([0.2, 0.9, 0.5, 0.7]),
        key=(0, 0),
    )
    negative = TextEmbedding(torch.randn(1, 77, nets.TEXT_WIDTH, generator=draw))
    return student, Teacher(open_checkpoint(path), "v_prediction", None, (1,)), batch, negative


def float64_losses(
    student: Student, target: Student, teacher: nn.Module, batch: Batch, negative: Tensor, loss: str
) -> Tensor:
    """The losses from the papers' formulas, each number in float64, the student's with a graph."""
    weights = torch.tensor([[0.0, 1.0]], dtype=torch.float64).expand(4, -1)
    text = batch.text.hidden.double()
    column = (-1, 1, 1, 1)
    length = TIMESTEPS // PIECES
    start = (batch.timesteps // length + 1) * length - 1
    end = (start - length).clamp(min=0)
    a_t, s_t = SIGNAL[start].view(column), NOISE[start].view(column)
    a_s, s_s = SIGNAL[end].view(column), NOISE[end].view(column)

    def output(unet: nn.Module, noisy: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
        return predict(unet, noisy, timesteps, TextEmbedding(text))

    def jump(who: Student, noisy: Tensor, timesteps: Tensor) -> Tensor:
        log_ratio = np.interp(timesteps, np.arange(TIMESTEPS), (NOISE / SIGNAL).log())
        ratio = torch.tensor(np.exp(log_ratio)).view(column)
        with styled(who.unet, who.style_prompts(weights)) as unet:
            noise = output(unet, noisy, timesteps, text)
        clean = (noisy - ratio / (1 + ratio**2).sqrt() * noise) * (1 + ratio**2).sqrt()
        scaled = (10 * timesteps).view(column)
        total = scaled**2 + 0.25
        return 0.25 / total * noisy + scaled / total.sqrt() * clean

    x_t = a_t * batch.latents.double() + s_t * batch.noise.double()
    with torch.no_grad():
        v = output(teacher, x_t, start, text)
        v_negative = output(teacher, x_t, start, negative.double().expand(4, -1, -1))
        v = v_negative + GUIDANCE * (v - v_negative)
        clean, noise = a_t * x_t - s_t * v, s_t * x_t + a_t * v
        x_s = a_s * clean + s_s * noise
        wanted = jump(target, x_s, end.double())
    places = batch.places.double() if loss == "splam" else torch.ones(4, dtype=torch.float64)
    along = places.view(column)
    line = (1 - along) * a_t / a_s * x_s + along * x_t
    sigma = (1 - along) * a_t / a_s * s_s + along * s_t
    ratio = (sigma / a_t).view(-1)
    timesteps = torch.tensor(np.interp(ratio.log(), (NOISE / SIGNAL).log(), np.arange(TIMESTEPS)))
    sample = line / (a_t.view(-1) * (1 + ratio**2).sqrt()).view(column)
    difference = jump(student, sample, timesteps) - wanted
    return ((difference**2 + 0.001**2).sqrt() - 0.001).flatten(1).mean(1)


@pytest.mark.parametrize("loss", ["lcm", "splam"])
def test_losses_and_gradients_are_those_of_the_formulas(
    world: tuple[Student, Teacher, Batch, TextEmbedding], loss: str
) -> None:
    student, teacher, batch, negative = world
    forget_the_last_merge()
    accelerator = Accelerator(cpu=True)
    learner = Learner(Train(ema_decay=0.9, learning_rate=1e-3), accelerator, student)
    with torch.no_grad():  # so that the moving average is not where the student is
        for parameter in student.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    target = Student(nets.small_sd1_unet(0), StylePrompts(2, 128))
    target.load_state_dict(learner.averaged())
    objective = Consistency(
        FewSteps(loss=loss, guidance=GUIDANCE, pieces=PIECES),
        accelerator,
        TeacherPool([teacher], "cpu", torch.float32, 1),
        [negative],
        learner,
        "epsilon",
        2,
    )
    losses = objective.backward(learner.student, batch, 0.25)
    gradients = {name: found.grad.clone() for name, found in student.trained.items()}

    student.zero_grad()
    student.double()
    plain = teacher.checkpoint.load_unet(torch.float64)
    expected = float64_losses(student, target.double(), plain, batch, negative.hidden, loss)
    (expected.sum() * 0.25).backward()
    torch.testing.assert_close(losses[0].double(), expected.detach(), rtol=2e-3, atol=1e-6)
    largest = max(gradient.abs().max().item() for gradient in gradients.values())
    for name, gradient in gradients.items():
        wanted = student.get_parameter(name).grad
        torch.testing.assert_close(gradient.double(), wanted, rtol=1e-2, atol=1e-4 * largest)
    assert largest > 1e-3
