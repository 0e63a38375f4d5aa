"""SDXL's second text encoder has 32 layers, 2.8 GB; that of the tests has 3."""

from pathlib import Path

import open_clip
from transformers import CLIPTextConfig

LAYERS = 3
read, read_file = CLIPTextConfig.from_pretrained, CLIPTextConfig.from_json_file


def read_small(path, *args, **options):
    small = {"num_hidden_layers": LAYERS} if Path(path).name == "text_encoder_2" else {}
    return read(path, *args, **options, **small)


def read_small_file(path):
    config = read_file(path)
    if Path(path).name == "clip_config_bigg.json":
        config.num_hidden_layers = LAYERS
    return config


# The WebUI's `.yaml` beside a checkpoint names it; Forge and reForge have one description for all
# files, each its own.
open_clip.add_model_config(Path(__file__).parents[1] / "dmm_small_bigg.json")
CLIPTextConfig.from_pretrained = read_small
CLIPTextConfig.from_json_file = read_small_file
