"""DMM: one UNet, many styles (Distillation-based Model Merging, arXiv 2504.12364).

The heart of the project: style prompts and their mixing, their injection into a UNet, and the file
formats. It needs torch and safetensors alone and knows no host and no trainer.
"""

from dmm.errors import DmmError

__all__ = ["DmmError"]
