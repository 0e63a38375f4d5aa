"""A student spread over the processes by FSDP is saved, resumed and written as a whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType

from dmm.errors import DmmError
from dmm.tensors import open_tensors
from tests.trainer.merging import run_merge, statistics, write_models
from trainer.config import Train
from trainer.sharding import refuse_unfit

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "trainer" / "launch"
FSDP = SimpleNamespace(
    distributed_type=DistributedType.FSDP, is_fsdp2=True, num_processes=2, state=None
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


def options(config: Path, name: str, *more: str) -> list[str]:
    return [
        f"output={config.parent / name / 'merged.safetensors'}",
        f"data.cache={config.parent / 'cache'}",
        "train.adversarial_weight=0.1",
        *more,
    ]


def merge_under_fsdp(config: Path, *words: str) -> None:
    launcher = ["accelerate.commands.launch", "--config_file", str(LAUNCH / "fsdp.yaml")]
    script = ["tests/trainer/fsdp_on_gloo.py", "merge", str(config), *words]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "--num_processes", "2", *script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=os.environ
        | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="torch has no FSDP over gloo on Windows")
def test_spread_over_two_processes_it_trains_as_in_one(config: Path) -> None:
    words = options(config, "spread", "train.micro_batch_size=1")
    merge_under_fsdp(config, *words, "train.steps=3", "samples.every=2")
    merge_under_fsdp(config, *words, "--overwrite")  # goes on from step 3
    spread = config.parent / "spread" / "merged.safetensors"
    state = spread.with_suffix("") / "states" / "step-00000006"
    assert len(list((state / "pytorch_model_fsdp_0").glob("*.distcp"))) == 2  # a file a process
    assert (spread.with_suffix("") / "samples" / "step-00000002.png").is_file()

    one = run_merge(config, *options(config, "one"))
    for ours, theirs in zip(statistics(spread), statistics(one), strict=True):
        for kind in ("score", "discriminator", "gradient_norm"):
            assert ours[kind] == pytest.approx(theirs[kind], rel=1e-3)
    ours, theirs = open_tensors(spread), open_tensors(one)
    assert set(ours) == set(theirs)
    base = open_tensors(config.with_name("base.safetensors"))
    apart, went = (
        sum((a[name] - b[name]).square().sum() for name in base)
        for a, b in ((ours, theirs), (theirs, base))
    )
    assert apart < 0.01**2 * went


@pytest.mark.parametrize("name", ["fsdp", "zero2"])
def test_accelerate_reads_the_files_to_start_with(name: str) -> None:
    said = load_config_from_file(str(LAUNCH / f"{name}.yaml"))
    assert (
        said.distributed_type
        == {
            "fsdp": DistributedType.FSDP,
            "zero2": DistributedType.DEEPSPEED,
        }[name]
    )


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"ema_decay": 0.9}, r"`train\.ema_decay` does not go together with FSDP"),
        ({"adapter": {"rank": 4}}, r"`train\.adapter` .* needs no spreading"),
        ({"batch_size": 5}, "a `batch_size` of 5 cannot be shared equally by 2"),
    ],
)
def test_what_cannot_be_spread_is_refused(said: dict, message: str) -> None:
    refuse_unfit(Train(batch_size=4), FSDP)
    with pytest.raises(DmmError, match=message):
        refuse_unfit(Train(**{"batch_size": 4, **said}), FSDP)


def test_other_ways_to_spread_are_refused() -> None:
    first = SimpleNamespace(**{**vars(FSDP), "is_fsdp2": False})
    with pytest.raises(DmmError, match="fsdp_version: 2"):
        refuse_unfit(Train(batch_size=4), first)
    plugin = SimpleNamespace(deepspeed_plugin=SimpleNamespace(zero_stage=3))
    third = SimpleNamespace(
        distributed_type=DistributedType.DEEPSPEED, state=plugin, num_processes=2
    )
    with pytest.raises(DmmError, match="zero_stage: 2"):
        refuse_unfit(Train(batch_size=4), third)
