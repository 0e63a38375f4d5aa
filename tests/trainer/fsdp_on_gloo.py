"""`trainer/run.py` under FSDP without a GPU; run by `test_sharding.py` under accelerate's launcher.

torch's FSDP shards on CPUs over gloo just as well, but accelerate only asks for it on accelerators,
and without any trains with DDP. So it is told here that these processes are such.
"""

from __future__ import annotations

from typing import Any

from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

from trainer.run import main

_as_accelerate_does = AcceleratorState.__init__


def _with_fsdp(self: AcceleratorState, *args: Any, fsdp_plugin: Any = None, **said: Any) -> None:
    _as_accelerate_does(self, *args, fsdp_plugin=fsdp_plugin, **said)
    if fsdp_plugin is not None:  # it is said once, when the state is made
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin


if __name__ == "__main__":
    AcceleratorState.__init__ = _with_fsdp
    main()
