"""Merges, and keeps the gradients of the last step as the optimizers find them.

    python -m tests.trainer.keep_gradients GRADIENTS.safetensors CONFIG [OVERRIDE…]

Run by `test_gradients.py` under a launcher, as two processes that train together.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import PartialState
from safetensors.torch import save_file
from torch.optim.optimizer import register_optimizer_step_pre_hook

from trainer.config_file import load_config
from trainer.merge import merge


def keep_gradients(path: Path) -> Callable[[], None]:
    """From now on the main process writes each step's gradients to `path`; call to end it."""
    gradients = {}

    def keep(optimizer: torch.optim.Optimizer, *_: object) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        network = f"{len(parameters)} tensors"  # student and discriminator differ in this
        gradients.update({f"{network}, {index}": p.grad for index, p in enumerate(parameters)})
        if PartialState().is_main_process:
            save_file(gradients, path)

    return register_optimizer_step_pre_hook(keep).remove


def main(gradients: str, config: str, *overrides: str) -> None:
    keep_gradients(Path(gradients))
    merge(load_config(Path(config), list(overrides)))


if __name__ == "__main__":
    main(*sys.argv[1:])
