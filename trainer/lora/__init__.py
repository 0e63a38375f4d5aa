"""LoRAs: small files that change a checkpoint's weights, in whichever spelling they come."""

from trainer.lora.applied import LoraCheckpoint, with_loras
from trainer.lora.file import Lora, open_lora
from trainer.lora.kinds import host_metadata, made_for
from trainer.lora.names import kohya_names

__all__ = [
    "Lora",
    "LoraCheckpoint",
    "host_metadata",
    "kohya_names",
    "made_for",
    "open_lora",
    "with_loras",
]
