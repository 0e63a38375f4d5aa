"""The whole loss of a step and its gradient against float64, from the paper's formulas.

Once with a teacher that predicts v beside the merged checkpoint that is extended, which regularises
(section 3.5); once with ControlNets.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from diffusers import ControlNetModel
from torch import Tensor, nn
from torch.nn import functional as F

from dmm.style_prompts import StylePrompts
from tests import nets
from tests.trainer.controlnets import write_controlnet
from tests.trainer.merging import forget_the_last_merge
from tests.trainer.test_losses import signal_and_noise
from trainer.batches import Batch
from trainer.checkpoint import open_checkpoint
from trainer.config import Train
from trainer.controlnet import ControlledUNet, on_base, open_controlnet
from trainer.distillation import Distillation
from trainer.student import Student, predict
from trainer.teachers import Teacher, TeacherPool
from trainer.text import TextEmbedding

PAIRS, STYLES, SHARE = 4, 3, 0.25
# So that no part hides another.
TRAIN = Train(feature_weight=0.3, adversarial_weight=0.2, regularization_weight=3)
SPREAD = 0.3  # of what a ControlNet adds, which is nothing at first

World = tuple[Student, list[Teacher], Batch]


@pytest.fixture(params=["extended", "controlnets"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """A student, two teachers unlike it, and four pairs."""
    base = nets.write_single_file(
        tmp_path / "base.safetensors", nets.small_sd1_unet(0), nets.small_vae(), [nets.small_clip()]
    )
    draw = torch.Generator().manual_seed(5)
    if request.param == "extended":
        other = nets.write_single_file(
            tmp_path / "new.safetensors", nets.small_sd1_unet(1), nets.small_vae(), []
        )
        former = Teacher(open_checkpoint(base), "epsilon", None, (0, 2), StylePrompts(3, 128))
        teachers = [former, Teacher(open_checkpoint(other), "v_prediction", None, (1,))]
        unet, conditions = nets.small_sd1_unet(2), None
    else:
        unet, teachers = _controlled(base, tmp_path)
        conditions = torch.rand(PAIRS, 3, 16, 16, generator=draw)
    latents, noise, discriminator_noise = torch.randn(3, PAIRS, 4, 8, 8, generator=draw)
    text = torch.randn(PAIRS, 77, nets.TEXT_WIDTH, generator=draw)
    batch = Batch(
        latents=latents,
        noise=noise,
        timesteps=torch.tensor([950, 620, 310, 40]),
        teachers=torch.tensor([0, 0, 0, 1]),
        styles=torch.tensor([0, 2, 0, 1] if conditions is None else [0, 0, 0, 1]),
        text=TextEmbedding(text),
        teacher_text=[TextEmbedding(1.5 * text[:3]), TextEmbedding(0.5 * text[3:])],
        time_ids=torch.zeros(PAIRS, 6),
        conditions=conditions,
        discriminator_noise=discriminator_noise,
        discriminator_timesteps=torch.tensor([100, 500, 800, 300]),
        places=torch.ones(PAIRS),
        key=(0, 0),
    )
    return Student(unet, StylePrompts(STYLES, 128)), teachers, batch


def _controlled(base: Path, folder: Path) -> tuple[ControlledUNet, list[Teacher]]:
    """Three ControlNets on one base, the first of them the student's."""
    checkpoint, found = open_checkpoint(base), []
    unet = checkpoint.load_unet().requires_grad_(False)
    for seed in range(3):
        torch.manual_seed(seed)
        net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 32))
        last = net.controlnet_cond_embedding.conv_out
        for layer in [last, *net.controlnet_down_blocks, net.controlnet_mid_block]:
            nn.init.normal_(layer.weight, std=SPREAD)
        path = folder / f"{seed}.safetensors"
        write_controlnet(path, net)
        found.append(on_base(checkpoint, open_controlnet(path), lambda: unet))
    teachers = [Teacher(net, "epsilon", None, (row,)) for row, net in enumerate(found[1:])]
    return found[0].load_unet(), teachers


def as_double(unet: nn.Module) -> nn.Module:
    copy = deepcopy(unet).double()
    if isinstance(copy, ControlledUNet):
        copy.unet.double()
    return copy


def forward(
    unet: nn.Module, batch: Batch, rows: slice, text: Tensor, vector: Tensor | None
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """x_t, the output and what every block gives, in float64; the vector is added by hand."""
    signal, sigma = map(torch.tensor, signal_and_noise(batch.timesteps[rows]))
    noisy = signal * batch.latents[rows].double() + sigma * batch.noise[rows].double()
    shown = None if batch.conditions is None else batch.conditions[rows].double()
    blocks: list[Tensor] = []
    parts = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    handles = [
        part.register_forward_hook(
            lambda _m, _i, out: blocks.append(out[0] if isinstance(out, tuple) else out)
        )
        for part in parts
    ]
    if vector is not None:
        handles.append(unet.time_embedding.register_forward_hook(lambda _m, _i, out: out + vector))
    output = predict(unet, noisy, batch.timesteps[rows], TextEmbedding(text.double()), None, shown)
    for handle in handles:
        handle.remove()
    assert len(blocks) == len(parts)
    return noisy, output, blocks


def vector_of(prompts: StylePrompts, style: int) -> Tensor:
    """V = MLP(E_i), by hand."""
    row, one, two = prompts.codebook[style], prompts.linear_1, prompts.linear_2
    hidden = one.weight @ row + one.bias
    return two.weight @ (hidden * torch.sigmoid(hidden)) + two.bias


def verdict(
    backbone: nn.Module, head: nn.Module, batch: Batch, rows: slice, noisy: Tensor, noise: Tensor
) -> Tensor:
    """The discriminator's logits of x̂_0, noised anew; equations 11 and 12."""
    signal, sigma = map(torch.tensor, signal_and_noise(batch.timesteps[rows]))
    clean = (noisy - sigma * noise) / signal
    signal, sigma = map(torch.tensor, signal_and_noise(batch.discriminator_timesteps[rows]))
    noised = signal * clean + sigma * batch.discriminator_noise[rows].double()
    middle: list[Tensor] = []
    handle = backbone.mid_block.register_forward_hook(lambda _m, _i, out: middle.append(out))
    told = TextEmbedding(batch.text.hidden[rows].double())
    predict(backbone, noised, batch.discriminator_timesteps[rows], told)
    handle.remove()
    return head(middle[0]).mean(dim=(2, 3))


def float64_losses(
    student: Student, teachers: list[Teacher], batch: Batch, backbone: nn.Module, head: nn.Module
) -> Tensor:
    """Score, feature, adversarial and discriminator losses [4, P], with a graph; pair by pair."""
    students, prompts = as_double(student.unet), deepcopy(student.style_prompts).double()
    student.unet, student.style_prompts = students, prompts
    losses = []
    for pair in range(PAIRS):
        rows, style = slice(pair, pair + 1), int(batch.styles[pair])
        number = int(batch.teachers[pair])
        teacher = teachers[number]
        text = batch.teacher_text[number].hidden[rows if number == 0 else slice(0, 1)]
        with torch.no_grad():
            former = teacher.prompts and vector_of(deepcopy(teacher.prompts).double(), style)
            unet = as_double(teacher.checkpoint.load_unet())
            noisy, theirs, their_blocks = forward(unet, batch, rows, text, former)
        signal, sigma = map(torch.tensor, signal_and_noise(batch.timesteps[rows]))
        if teacher.prediction_type == "v_prediction":
            theirs = signal * theirs + sigma * noisy
        vector = vector_of(prompts, style)
        _, ours, blocks = forward(students, batch, rows, batch.text.hidden[rows], vector)
        score = ((ours - theirs) ** 2).mean()
        pairs = zip(blocks, their_blocks, strict=True)
        feature = torch.stack([((one - other) ** 2).mean() for one, other in pairs]).mean()

        frozen = deepcopy(head).requires_grad_(False)
        adversarial, fake, real = (
            F.cross_entropy(verdict(backbone, judge, batch, rows, noisy, noise), wanted)
            for judge, noise, wanted in (
                (frozen, ours, batch.styles[rows]),
                (head, ours.detach(), STYLES + batch.styles[rows]),
                (head, theirs, batch.styles[rows]),
            )
        )
        losses.append(torch.stack([score, feature, adversarial, fake + real]))
    return torch.stack(losses, dim=1)


def test_losses_and_gradients_are_those_of_the_formulas(world: World) -> None:
    student, teachers, batch = world
    forget_the_last_merge()
    accelerator = Accelerator(cpu=True)
    torch.manual_seed(1)
    backbone = nets.small_sd1_unet(3)
    objective = Distillation(
        TRAIN,
        accelerator,
        TeacherPool(teachers, "cpu", torch.float32, 1),
        "epsilon",
        STYLES,
        deepcopy(backbone),
    )
    discriminator = objective._adversary.discriminator
    head = deepcopy(discriminator.head).double()
    expected_student = deepcopy(student)
    losses = objective.backward(student, batch, SHARE)

    expected = float64_losses(expected_student, teachers, batch, backbone.double(), head)
    torch.testing.assert_close(losses.double(), expected.detach(), rtol=1e-3, atol=1e-6)
    assert (expected.detach() > 1e-4).all()  # or a part would be compared with nothing
    score, feature, adversarial, discriminated = expected
    kept = torch.tensor([teachers[number].prompts is not None for number in batch.teachers])
    weights = torch.where(kept, TRAIN.regularization_weight, 1.0)
    total = weights * (score + TRAIN.feature_weight * feature)
    total = total + TRAIN.adversarial_weight * adversarial
    ((total + discriminated).sum() * SHARE).backward()
    assert_gradients_equal(student.trained, expected_student.trained)
    ours, theirs = (dict(found.named_parameters()) for found in (discriminator.head, head))
    assert_gradients_equal(ours, theirs)


def assert_gradients_equal(ours: dict[str, nn.Parameter], theirs: dict[str, nn.Parameter]) -> None:
    assert ours.keys() == theirs.keys()
    largest = max(found.grad.abs().max().item() for found in theirs.values())
    assert largest > 1e-4
    for name, parameter in theirs.items():
        torch.testing.assert_close(
            ours[name].grad.double(), parameter.grad, rtol=1e-2, atol=1e-4 * largest, msg=name
        )
