"""Makes the demo's five checkpoints from the art.

    python demo/make/train.py FOLDER [--threads 2]

draws the pictures into ``FOLDER/art``, trains a VAE on all of them, one base on the captions of
``demo/prompts.txt`` in all four styles without a word about style, fine-tunes the base on each
style as DreamBooth checkpoints are made, and writes ``demo/teachers/*.safetensors``. Stages that
are finished in FOLDER are skipped, so delete a stage's file to do it again. About an hour on two
CPU cores. Needs ``trainer/requirements.txt`` and ``demo/make/requirements.txt``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for dmm and trainer

import torch
from art import STYLES, draw_pictures
from autoencoder import train_vae
from denoiser import Denoiser, encode_pictures, train_denoiser
from diffusers import AutoencoderKL
from export import save_teacher
from nets import new_text_encoder, new_unet, new_vae
from pictures import DEMO, load_style, read_lines
from safetensors.torch import load_file, save_file

VAE_STEPS = 2800
DECODER_STEPS = 1700
BASE_STEPS = 3500
TEACHER_STEPS = 2500


def load_vae(path: Path) -> AutoencoderKL:
    vae = new_vae()
    vae.load_state_dict(load_file(path))
    return vae.eval().requires_grad_(False)


def make_vae(work: Path, captions: list[str]) -> AutoencoderKL:
    """The whole VAE first, then the decoder alone for longer; latents stay as they are."""
    first, finished = work / "vae-first.safetensors", work / "vae.safetensors"
    if not finished.exists():
        known = torch.cat([load_style(work / "art" / style, captions)[0] for style in STYLES])
        everything = torch.cat([load_style(work / "art" / style)[0] for style in STYLES])
        if not first.exists():
            train_vae(known, everything, first, steps=VAE_STEPS)
        train_vae(known, everything, finished, steps=DECODER_STEPS, start=first)
    return load_vae(finished)


def make_denoiser(
    work: Path, name: str, vae: AutoencoderKL, styles: list[str], captions: list[str]
) -> Denoiser:
    """The base (``styles``: all) from nothing, or a teacher (one style) from the base."""
    path, base = work / f"{name}.safetensors", work / "base.safetensors"
    denoiser = Denoiser(new_unet(), new_text_encoder())
    if path.exists():
        denoiser.load_state_dict(load_file(path))
        return denoiser
    if name != "base":
        denoiser.load_state_dict(load_file(base))
    pictures = torch.cat([load_style(work / "art" / style, captions)[0] for style in styles])
    fresh = name == "base"
    averaged = train_denoiser(
        denoiser,
        encode_pictures(vae, pictures),
        captions * len(styles),
        steps=BASE_STEPS if fresh else TEACHER_STEPS,
        learning_rate=1e-3,
        text_learning_rate=1e-3 if fresh else 3e-4,  # as DreamBooth checkpoints are trained
        title=name,
        vae=vae,
        samples=work / "samples" / f"{name}.png",
    )
    save_file(averaged.state_dict(), path)
    return averaged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="for pictures, logs and intermediate weights")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    work: Path = arguments.folder
    work.mkdir(parents=True, exist_ok=True)
    draw_pictures(work / "art")
    captions = read_lines(DEMO / "prompts.txt")
    vae = make_vae(work, captions)
    for name in ("base", *STYLES):
        styles = list(STYLES) if name == "base" else [name]
        denoiser = make_denoiser(work, name, vae, styles, captions)
        save_teacher(DEMO / "teachers" / f"{name}.safetensors", name, denoiser, vae)


if __name__ == "__main__":
    main()
