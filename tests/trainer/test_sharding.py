"""A student spread over the processes by FSDP is saved, resumed and written as a whole."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType

from dmm.errors import DmmError
from dmm.tensors import open_tensors
from tests.trainer.merging import options, run_merge, statistics, write_models
from tests.trainer.processes import ROOT, run
from trainer.config import Train
from trainer.sharding import refuse_unfit

LAUNCH = ROOT / "trainer" / "launch"
ADVERSARIAL = "train.adversarial_weight=0.1"
FSDP = SimpleNamespace(
    distributed_type=DistributedType.FSDP, is_fsdp2=True, num_processes=2, state=None
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


def merge_under_fsdp(config: Path, *words: str) -> None:
    launcher = ["-m", "accelerate.commands.launch", "--config_file", str(LAUNCH / "fsdp.yaml")]
    program = [*launcher, "--num_processes", "2", "tests/trainer/fsdp_on_gloo.py"]
    run("merge", config, *words, program=program, CUDA_VISIBLE_DEVICES="", PYTHONPATH=str(ROOT))


@pytest.mark.skipif(sys.platform == "win32", reason="torch has no FSDP over gloo on Windows")
def test_spread_over_two_processes_it_trains_as_in_one(config: Path) -> None:
    words = options(config, "spread", ADVERSARIAL, "train.micro_batch_size=1")
    merge_under_fsdp(config, *words, "train.steps=3", "samples.every=2")
    merge_under_fsdp(config, *words, "--overwrite")  # goes on from step 3
    spread = config.parent / "spread" / "merged.safetensors"
    state = spread.with_suffix("") / "states" / "step-00000006"
    assert len(list((state / "pytorch_model_fsdp_0").glob("*.distcp"))) == 2  # a file a process
    assert (spread.with_suffix("") / "samples" / "step-00000002.png").is_file()

    one = run_merge(config, *options(config, "one", ADVERSARIAL))
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


def test_more_processes_than_pairs_are_refused() -> None:
    alone = SimpleNamespace(distributed_type=DistributedType.MULTI_CPU, num_processes=3)
    refuse_unfit(Train(batch_size=3), alone)
    with pytest.raises(DmmError, match="A `batch_size` of 2 is less than a pair for each of the 3"):
        refuse_unfit(Train(batch_size=2), alone)


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
