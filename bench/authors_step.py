"""A training step of ours against one of the authors' code, on one device, side by side.

  python -m bench.authors_step --help

The authors' step is restated here from their train.py (MCG-NJU/DMM): one teacher pinned to the
device, in float32 under autocast; pictures and captions encoded anew at each step, the captions by
the base's and by the teacher's text encoder, all in the working precision; score and feature loss;
AdamW. Their student is the same UNet with the same style prompts. Both steps get the same model,
batch, precision and attention (torch's own; theirs asks for xformers, which is no faster today).
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers import DDPMScheduler
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from bench.report import print_ratios, print_table
from bench.timing import interleaved, measured_apart, median_ratio, peak_memory
from bench.workshop import PICTURES, Size, merge_config, open_loop, stepper
from trainer.features import captured_features
from trainer.ingredients import Ingredients
from trainer.merge import new_student
from trainer.opening import open_ingredients
from trainer.precision import DTYPES
from trainer.student import predict
from trainer.text import TextEncoders

DENSE_PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12}  # bf16 and fp16 FLOP/s, by NVIDIA


def main(
    size: Annotated[Size, typer.Option(help="demo: 2.2 M parameters; sd15: 860 M.")] = "sd15",
    teachers: Annotated[int, typer.Option(help="N of our merge; theirs has one a device.")] = 8,
    batch_size: Annotated[int, typer.Option(help="Samples a step.")] = 32,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "bf16",
    rounds: Annotated[int, typer.Option(help="Steps that count, of each.")] = 10,
    memory_of: Annotated[str, typer.Option(hidden=True)] = "",
    folder: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Print samples a second, use of the device, and peak memory of both."""
    train = {
        "batch_size": batch_size,
        "precision": precision,
        "teachers_per_step": 2,
        "teacher_slots": 2,
        "adversarial_weight": 0,  # their code has none
    }

    def our_step(folder: Path) -> Callable[[], object]:
        return stepper(open_loop(merge_config(folder, size, teachers, **train))[0])

    def their_step(folder: Path) -> Callable[[], object]:
        config = merge_config(folder, size, teachers, **train)
        return authors_step(open_ingredients(config), batch_size, DTYPES[precision])

    contestants = {"ours": our_step, "authors": their_step}
    if memory_of:
        with peak_memory() as peak:
            step = contestants[memory_of](folder)
            step(), step()
        print(peak.bytes)
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        peaks = {
            key: measured_apart("bench.authors_step", "--folder", name, "--memory-of", key)
            for key in contestants
        }
        steps = {key: make(Path(name)) for key, make in contestants.items()}
        with FlopCounterMode(display=False) as flops:
            steps["ours"]()
        seconds = interleaved(steps, rounds)
    speed = 1 / median_ratio(seconds, "ours", "authors")
    memory = peaks["ours"] / peaks["authors"]
    medians = {key: statistics.median(values) for key, values in seconds.items()}
    print_table(
        ("step", "samples/s", "peak GiB"),
        [
            (key, f"{batch_size / medians[key]:.2f}", f"{peaks[key] / 2**30:.2f}")
            for key in contestants
        ],
    )
    ratios = {"samples_per_second_to_authors": speed, "peak_memory_to_authors": memory}
    peak_flops = _dense_peak()
    if peak_flops:
        ratios["mfu"] = flops.get_total_flops() / medians["ours"] / peak_flops
    print_ratios(ratios)


def authors_step(
    ingredients: Ingredients, batch_size: int, dtype: torch.dtype
) -> Callable[[], None]:
    """The authors' training step, as a call without arguments."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    base = ingredients.base
    student = new_student(ingredients).to(device)
    teacher = ingredients.checkpoints[0].load_unet().to(device).requires_grad_(False)
    vae = base.load_vae(dtype).to(device)
    text = TextEncoders(base, device=device, dtype=dtype)
    teacher_text = TextEncoders(ingredients.checkpoints[0], device=device, dtype=dtype)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-5, weight_decay=1e-2)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    scheduler = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
    )
    width, height = ingredients.config.data.resolution
    captions = [f"picture number {number % PICTURES}" for number in range(batch_size)]
    weights = torch.eye(len(ingredients.names), device=device)[:1].expand(batch_size, -1)

    def autocast() -> torch.autocast:
        return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)

    def step() -> None:
        pixels = torch.rand(batch_size, 3, height, width).to(device, dtype) * 2 - 1
        with torch.no_grad():
            hidden, teacher_hidden = text.encode(captions), teacher_text.encode(captions)
            parts = [vae.encode(part).latent_dist.sample() for part in pixels.split(32)]
            latents = torch.cat(parts) * vae.config.scaling_factor
        noise = torch.randn_like(latents)
        timesteps = torch.randint(1000, (batch_size,), device=device)
        noisy = scheduler.add_noise(latents, noise, timesteps)
        with autocast():
            output, ours = student(noisy, timesteps, hidden, weights, with_features=True)
        with torch.no_grad(), autocast(), captured_features(teacher) as theirs:
            target = predict(teacher, noisy, timesteps, teacher_hidden)
        loss = F.mse_loss(output.float(), target.float())
        features = [F.mse_loss(a.float(), b.float()) for a, b in zip(ours, theirs, strict=True)]
        loss = loss + 0.002 * sum(features) / len(features)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

    return step


def _dense_peak() -> float | None:
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((peak for card, peak in DENSE_PEAK.items() if card in name), None)


if __name__ == "__main__":
    typer.run(main)
