"""Small ControlNets that steer: trained on pictures that the demo's base paints.

The base knows emoji from real pictures of them; each ControlNet learns to draw one back from its
edges, from its brightness, or from a blurred copy.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import ControlNetModel
from PIL import ImageFilter
from torch.nn import functional as F

from dmm.layouts import CONTROLNET_PREFIX, controlnet_to_single
from dmm.tensors import save_tensors
from trainer.cache import cache_latents
from trainer.checkpoint import open_checkpoint
from trainer.controlnet import Conditions, ControlledUNet
from trainer.data import PictureFolder
from trainer.diffusion import Diffusion
from trainer.sampling import decode, sample_latents
from trainer.student import predict
from trainer.text import TextEncoders

DEMO = Path(__file__).parents[2] / "demo"
BASE = DEMO / "teachers" / "twemoji.safetensors"
SIZE = 64
EMBEDDING = (16, 16, 32, 32)  # channels of the condition's embedding; it halves three times
BLUR = 4  # pixels


def write_pictures(folder: Path, count: int) -> None:
    """Emoji that the demo's base paints, with captions, and blurred copies in `<folder>-blur`."""
    base = open_checkpoint(BASE)
    captions = (DEMO / "prompts.txt").read_text(encoding="utf-8").splitlines()
    captions = [line for line in captions if line and not line.startswith("#")][:count]
    text = TextEncoders(base)
    latents = sample_latents(
        base.load_unet(),
        text.encode(captions),
        text.encode([""]),
        shape=(16, SIZE // 8, SIZE // 8),
        seeds=range(count),
        steps=12,
        guidance=2,
        prediction_type=base.prediction_type,
    )
    blurred = folder.with_name(f"{folder.name}-blur")
    folder.mkdir(parents=True)
    blurred.mkdir()
    for number, picture in enumerate(decode(base.load_vae(), latents)):
        picture.save(folder / f"{number:03}.png")
        (folder / f"{number:03}.txt").write_text(captions[number], encoding="utf-8")
        picture.filter(ImageFilter.GaussianBlur(BLUR)).save(blurred / f"{number:03}.jpg")


def train_controlnet(pictures: Path, condition: Path, steps: int, seed: int) -> ControlNetModel:
    """A ControlNet on the demo's base, trained as ControlNet's authors do."""
    torch.manual_seed(seed)
    base, source = open_checkpoint(BASE), PictureFolder(pictures)
    unet = base.load_unet().requires_grad_(False)
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=EMBEDDING).train()
    # What is shown comes through at once; a large net, which has days, begins with nothing of it.
    embedding = net.controlnet_cond_embedding
    for layer in (embedding.conv_in, *embedding.blocks, embedding.conv_out):
        torch.nn.init.kaiming_normal_(layer.weight)
    controlled, diffusion = ControlledUNet(net, unet), Diffusion()
    examples = cache_latents(source, base, [(SIZE, SIZE)], pictures.parent / "cache")
    latents = torch.stack([examples.latent(index) for index in range(len(examples))]).float()
    # No captions, from which the base knows each of these pictures: what is shown says it all.
    text = TextEncoders(base).encode([""] * 16)
    conditions = Conditions(source, condition)
    shown = torch.stack([conditions.picture(key, (SIZE, SIZE)) for key in source.keys])
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    for _ in range(steps):
        rows = torch.randint(len(latents), (16,))
        noise, timesteps = torch.randn(16, *latents.shape[1:]), torch.randint(400, 1000, (16,))
        noisy = diffusion.add_noise(latents[rows], noise, timesteps)
        output = predict(controlled, noisy, timesteps, text, None, shown[rows])
        target = diffusion.convert(noise, noisy, timesteps, "epsilon", base.prediction_type)
        F.mse_loss(output, target).backward()
        optimizer.step()
        optimizer.zero_grad()
    return net.eval()


def write_controlnet(path: Path, net: ControlNetModel) -> None:
    """In the layout of ControlNet's authors; a path without a suffix is a diffusers folder."""
    if not path.suffix:
        net.save_pretrained(path)
        return
    names = net.state_dict()
    sources = controlnet_to_single(names)
    tensors = {CONTROLNET_PREFIX + name: source.read(names) for name, source in sources.items()}
    save_tensors(path, tensors, {})
