"""Makes the benchmark's base and eight teachers.

    python -m bench.emoji.teachers FOLDER [--size gpu] [--restyled]

draws the art into FOLDER/art, keeps every tenth concept back (FOLDER/heldout.txt), and trains on
the others a VAE, a base that has seen all styles without a word about them, and from it a teacher a
style, into FOLDER/teachers. `laptop` takes the demo's base, four teachers and prompts instead, as
far as all eight sets draw them, and trains the four that are missing; `tiny` only shows that it
runs. `--restyled` adds eight more, of Twemoji's art seen through filters. What is finished is not
done again, so the same command goes on after a stop. Needs bench/emoji/requirements.txt.
"""

from __future__ import annotations

import argparse
import copy
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from bench.emoji.networks import WIDTHS, Widths, new_text_encoder, new_unet, new_vae
from bench.emoji.training import Denoiser, Schedule, encode, train_denoiser, train_vae
from dmm.layouts import single_file_tensors
from dmm.metadata import modelspec
from dmm.tensors import save_tensors
from trainer.checkpoint import open_checkpoint

# VAE, base, and each teacher; where the first two are None, they are the demo's.
SCHEDULES = {
    "tiny": (Schedule(2, 4, 1e-3), Schedule(2, 4, 1e-3), Schedule(2, 4, 1e-3)),
    "laptop": (None, None, Schedule(350, 32, 1e-3)),
    "gpu": (Schedule(12_000, 64, 1e-3), Schedule(15_000, 256, 5e-4), Schedule(5_000, 256, 3e-4)),
}
DEMO = Path(__file__).parents[2] / "demo"
LICENCE = "CC-BY-SA-4.0"  # OpenMoji's, which all of them have seen


def make_teachers(folder: Path, art: dict[str, tuple[Tensor, list[str]]], size: str) -> None:
    """Trains what is missing in `folder`.

    Args:
        art: by style, pictures [n, 3, 64, 64] in [-1, 1] and their captions.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if size == "laptop":
        _copy_demo(folder)
    widths, (first, second, third) = WIDTHS.get(size), SCHEDULES[size]
    art = {style: (pictures.to(device), captions) for style, (pictures, captions) in art.items()}
    pictures = torch.cat([some for some, _ in art.values()])
    captions = [caption for _, some in art.values() for caption in some]
    base_path = folder / "base.safetensors"
    vae_path = folder.parent / "vae.safetensors"  # no teacher, so not among them

    def train_first() -> tuple[AutoencoderKL, Denoiser]:
        vae = new_vae(widths).to(device)
        train_vae(vae, pictures, first)
        return vae, _new_denoiser(widths, device)

    def train_base() -> tuple[AutoencoderKL, Denoiser]:
        vae, untrained = _made(vae_path, train_first, device)
        torch.manual_seed(0)  # alike whether the VAE was there before or not
        train_denoiser(untrained, encode(vae, pictures), captions, second, "base")
        return vae, untrained

    vae, base = _made(base_path, train_base, device)
    for style, (own, said) in art.items():

        def tune(own: Tensor = own, said: list[str] = said, style: str = style):
            denoiser = copy.deepcopy(base)
            train_denoiser(denoiser, encode(vae, own), said, third, style)
            return vae, denoiser

        _made(folder / f"{style}.safetensors", tune, device)


def _copy_demo(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for source in (DEMO / "teachers").glob("*.safetensors"):
        if not (folder / source.name).exists():
            shutil.copyfile(source, folder / source.name)


def read_art(folder: Path, captions: list[str]) -> tuple[Tensor, list[str]]:
    """Pictures of one style, in [-1, 1], in the order of the captions."""
    paths = {
        path.read_text(encoding="utf-8").strip(): path.with_suffix(".png")
        for path in sorted(folder.glob("*.txt"))
    }
    pixels = np.stack([np.asarray(Image.open(paths[caption])) for caption in captions])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1, captions


def _made(
    path: Path, make: Callable[[], tuple[AutoencoderKL, Denoiser]], device: str
) -> tuple[AutoencoderKL, Denoiser]:
    """A checkpoint's networks: made and written where it is not there."""
    if not path.exists():
        torch.manual_seed(0)
        vae, denoiser = make()
        tensors = single_file_tensors(
            "sd1",
            denoiser.unet.state_dict(),
            vae.state_dict(),
            [denoiser.text_encoder.state_dict()],
        )
        metadata = modelspec("sd1", f"DMM emoji benchmark: {path.stem}", (64, 64), "v_prediction")
        half = {name: tensor.half() for name, tensor in tensors.items()}
        save_tensors(path, half, metadata | {"modelspec.license": LICENCE})
    checkpoint = open_checkpoint(path)
    denoiser = Denoiser(
        checkpoint.load_unet().to(device), checkpoint.load_text_encoder(0).to(device)
    )
    return checkpoint.load_vae().to(device).requires_grad_(False), denoiser


def _new_denoiser(widths: Widths, device: str) -> Denoiser:
    return Denoiser(new_unet(widths).to(device), new_text_encoder(widths).to(device))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=SCHEDULES, default="gpu")
    parser.add_argument("--restyled", action="store_true", help="eight more, by filters")
    arguments = parser.parse_args()

    from bench.emoji.art import draw, split  # resvg is needed here alone

    folder: Path = arguments.folder
    if arguments.size == "laptop":
        seen, unseen = (_lines(DEMO / name) for name in ("prompts.txt", "heldout.txt"))
        styles = draw(folder / "art", [*seen, *unseen], arguments.restyled)
        drawn = _drawn(folder / "art" / styles[0])
        seen, unseen = ([one for one in some if one in drawn] for some in (seen, unseen))
    else:
        styles = draw(folder / "art", restyled=arguments.restyled)
        seen, unseen = split(_drawn(folder / "art" / styles[0]))
    for name, captions in (("prompts.txt", seen), ("heldout.txt", unseen)):
        (folder / name).write_text("\n".join(captions) + "\n", encoding="utf-8")
    art = {style: read_art(folder / "art" / style, seen) for style in styles}
    make_teachers(folder / "teachers", art, arguments.size)


def _drawn(folder: Path) -> list[str]:
    """The captions of a style's pictures."""
    return sorted(path.read_text(encoding="utf-8").strip() for path in folder.glob("*.txt"))


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    main()
