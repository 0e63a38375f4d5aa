"""How much memory a merge takes, from the shapes alone."""

from __future__ import annotations

import psutil
import torch

from trainer.ingredients import Ingredients
from trainer.precision import DTYPES

GIB = 2**30
WEIGHT = GRADIENT = 4  # bytes a parameter
MOMENTS = {"adamw": 8, "adamw8bit": 2, "muon": 4}  # bytes a parameter, of all but small vectors


def student_bytes(ingredients: Ingredients) -> int:
    """What the student and its optimiser hold, activations aside."""
    frozen = ingredients.frozen_parameters * DTYPES[ingredients.config.train.precision].itemsize
    return frozen + state_bytes(ingredients) + GRADIENT * ingredients.trained_parameters


def state_bytes(ingredients: Ingredients) -> int:
    """One saved state."""
    train = ingredients.config.train
    copies = 2 if train.ema_decay else 1
    return ingredients.trained_parameters * (copies * WEIGHT + MOMENTS[train.optimizer])


def teacher_bytes(ingredients: Ingredients, dtype: torch.dtype) -> int:
    """One teacher in a slot."""
    return ingredients.unet_parameters * dtype.itemsize


def backbone_bytes(ingredients: Ingredients, dtype: torch.dtype) -> int:
    """What the discriminator looks with, a UNet down to its middle; what is on top is small."""
    if not ingredients.config.train.adversarial_weight:
        return 0
    tensors = ingredients.base.unet_tensors().items()
    down = sum(tensor.numel() for name, tensor in tensors if not name.startswith("up_blocks."))
    return down * dtype.itemsize


def teacher_slots(ingredients: Ingredients, dtype: torch.dtype, device: torch.device) -> int:
    """As many teachers as fit beside the student, half of what is left being for activations."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
    else:
        free = psutil.virtual_memory().available
    taken = student_bytes(ingredients) + backbone_bytes(ingredients, dtype)
    left = (free - taken) / 2
    fitting = int(left // teacher_bytes(ingredients, dtype))
    return min(max(fitting, 1), len(ingredients.teachers))
