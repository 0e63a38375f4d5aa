"""Nodes for tests alone: what a small checkpoint without a text encoder cannot give."""

import torch

from .company import NODES


class Conditioning:
    """Text conditioning made up from a seed, of the shape the family's text encoders give."""

    CATEGORY = "test"
    FUNCTION = "make"
    RETURN_TYPES = ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seed": ("INT", {"default": 0}), "family": (["sd1", "sdxl"],)}}

    def make(self, seed, family):
        generator = torch.Generator().manual_seed(seed)
        width = 768 if family == "sd1" else 2048
        tokens = torch.randn(1, 77, width, generator=generator)
        return ([[tokens, {"pooled_output": torch.randn(1, 1280, generator=generator)}]],)


class Name:
    """A file's name out of a node, where a combo would offer only what is there."""

    CATEGORY = "test"
    FUNCTION = "say"
    RETURN_TYPES = ("COMBO",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"name": ("STRING", {"default": ""})}}

    def say(self, name):
        return (name,)


NODE_CLASS_MAPPINGS = {"TEST_Conditioning": Conditioning, "TEST_Name": Name, **NODES}
