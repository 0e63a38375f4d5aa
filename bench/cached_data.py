"""A training step on cached latents and text embeddings, against encoding them at each step.

python -m bench.cached_data --help
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from bench.report import print_ratios, print_table
from bench.timing import interleaved, median_ratio
from bench.workshop import PICTURES, Size, merge_config, open_loop, stepper
from trainer.data import PictureFolder, fit
from trainer.text import TextEncoders


def main(
    size: Annotated[Size, typer.Option(help="demo: 2.2 M parameters; sd15: 860 M.")] = "demo",
    teachers: Annotated[int, typer.Option(help="N.")] = 4,
    batch_size: Annotated[int, typer.Option(help="Pairs a step, each of its own sample.")] = 32,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
    rounds: Annotated[int, typer.Option(help="Steps that count, of each.")] = 20,
) -> None:
    """Print the time of a step with cached data and without, side by side."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        config = merge_config(
            Path(name), size, teachers, batch_size=batch_size, precision=precision
        )
        loop, ingredients, _ = open_loop(config)
        source = PictureFolder(config.data.pictures)
        device = loop.accelerator.device
        vae = ingredients.base.load_vae().to(device)
        text = [TextEncoders(file, device=device) for file in [ingredients.base] * (teachers + 1)]
        cached = stepper(loop)

        @torch.no_grad()
        def encode() -> None:
            """What a step does first where nothing is kept: pictures and captions are encoded, the
            captions by the base's text encoder and each by its teacher's."""
            rows = [row % PICTURES for row in range(batch_size)]
            pictures = [np.array(fit(source.picture(r), config.data.resolution)) for r in rows]
            pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).to(device)
            captions = [source.captions[row] for row in rows]
            with loop.accelerator.autocast():
                vae.encode(pixels.float() / 127.5 - 1).latent_dist.mode()
                text[0].encode(captions)
                for number, encoders in enumerate(text[1 : 1 + batch_size]):
                    encoders.encode(captions[number::teachers])

        def uncached() -> None:
            encode()
            cached()

        seconds = interleaved({"cached": cached, "uncached": uncached}, rounds)
    ratio = median_ratio(seconds, "uncached", "cached")
    print_table(
        ("data", "s a step", "to cached"),
        [
            ("cached", f"{statistics.median(seconds['cached']):.3f}", "1.000"),
            (
                "encoded at each step",
                f"{statistics.median(seconds['uncached']):.3f}",
                f"{ratio:.3f}",
            ),
        ],
    )
    print_ratios({"uncached_to_cached": ratio})


if __name__ == "__main__":
    typer.run(main)
