"""A student spread over the processes: all of it by FSDP, its moments by DeepSpeed's ZeRO-2.

`trainer/launch/` holds what `accelerate launch --config_file` reads for either.
"""

from __future__ import annotations

import copy
import os

from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn
from torch.distributed.tensor import DTensor

from dmm.errors import DmmError
from trainer.config import Train
from trainer.student import Student


def is_fsdp(accelerator: Accelerator) -> bool:
    return accelerator.distributed_type == DistributedType.FSDP


def is_deepspeed(accelerator: Accelerator) -> bool:
    return accelerator.distributed_type == DistributedType.DEEPSPEED


def refuse_unfit(train: Train, accelerator: Accelerator) -> None:
    """Refuses what the processes there are cannot train, save or resume.

    Raises:
        DmmError: which of it was asked for, and what to do instead.
    """
    if accelerator.num_processes > train.batch_size:
        raise DmmError(
            f"A `batch_size` of {train.batch_size} is less than a pair for each of the "
            f"{accelerator.num_processes} processes. Raise it, or start fewer processes."
        )
    if not is_fsdp(accelerator) and not is_deepspeed(accelerator):
        return
    if is_fsdp(accelerator) and not accelerator.is_fsdp2:
        raise DmmError(
            "FSDP's first version cannot train the student. Say `fsdp_version: 2` in the file "
            "given to accelerate, as trainer/launch/fsdp.yaml does."
        )
    if is_deepspeed(accelerator) and accelerator.state.deepspeed_plugin.zero_stage > 2:
        raise DmmError(
            "ZeRO-3 spreads the weights themselves, which only FSDP can do here. Use "
            "trainer/launch/fsdp.yaml, or `zero_stage: 2`."
        )
    way = "FSDP" if is_fsdp(accelerator) else "DeepSpeed"
    for is_said, key, way_out in (
        (train.ema_decay, "ema_decay", "Leave it out"),
        (train.adapter, "adapter", "It needs no spreading: start without the file"),
        (train.optimizer != "adamw", "optimizer", "Use `adamw`: its moments are spread already"),
    ):
        if is_said:
            raise DmmError(f"`train.{key}` does not go together with {way}. {way_out}.")
    if train.batch_size % accelerator.num_processes:
        raise DmmError(
            f"Under {way} all processes work in step, and a `batch_size` of {train.batch_size} "
            f"cannot be shared equally by {accelerator.num_processes}. Choose a multiple."
        )


def mixed_precision(train: Train) -> str:
    """What accelerate is told of the precision.

    DeepSpeed would take it for that of the student itself; `tell_deepspeed` says it better.
    """
    is_deepspeed = os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
    return "no" if train.precision == "fp32" or is_deepspeed else train.precision


def tell_deepspeed(train: Train, accelerator: Accelerator) -> None:
    """Gives DeepSpeed, which clips and casts by itself, the values of the config."""
    if is_deepspeed(accelerator):
        half = {"fp16": "float16", "bf16": "bfloat16"}.get(train.precision)
        accelerator.state.deepspeed_plugin.deepspeed_config.update(
            train_micro_batch_size_per_gpu=train.micro_batch_size
            or train.batch_size // accelerator.num_processes,
            gradient_clipping=train.max_grad_norm,
            torch_autocast={"enabled": True, "dtype": half} if half else {"enabled": False},
        )


def blank(student: Student) -> Student:
    """A student of the same shape that holds no numbers."""
    memo = {
        id(found): nn.Parameter(found.to("meta"), found.requires_grad)
        for found in student.parameters()
    }
    return copy.deepcopy(student, memo)


def filled(blank: Student, sharded: Student) -> Student:
    """`blank` with all weights of a student spread by FSDP, on the CPU."""
    weights = {
        name: found.full_tensor().cpu() if isinstance(found, DTensor) else found.cpu()
        for name, found in sharded.named_parameters()  # the frozen ones too
    }
    blank.load_state_dict(weights, assign=True)
    return blank
