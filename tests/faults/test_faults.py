"""A long run must not be lost: whatever ends it, the same command goes on to the same bits."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.changes import MADE
from tests.faults.conftest import CAMPAIGN, Command
from tests.faults.process import (
    ClockGoesBack,
    Fault,
    KilledAt,
    NoRoomAt,
    PowerCutAt,
    message,
    run,
)
from tests.faults.soundness import assert_whole, contents

CHAINS = 10 if CAMPAIGN else 1
KILLS_A_CHAIN = 5 if CAMPAIGN else 2
POWER_CUTS = 50 if CAMPAIGN else 1
FULL_DISKS = 50 if CAMPAIGN else 1
KILLED = -signal.SIGKILL


@pytest.fixture(params=["merge_command", "evaluate_command"])
def command(request: pytest.FixtureRequest) -> Iterator[Command]:
    command = request.getfixturevalue(request.param)
    command.folder.mkdir()
    yield command
    shutil.rmtree(command.folder)


@pytest.mark.parametrize("chain", range(CHAINS))
def test_killed_again_and_again(command: Command, chain: int, chance: random.Random, tmp_path):
    kills = 0
    while kills < KILLS_A_CHAIN:  # all of them: a run that came to its end begins anew
        fault, seconds = None, None
        if chance.random() < 0.5:
            fault = KilledAt(command.folder, chance.randint(1, len(command.changes)))
        else:
            seconds = chance.uniform(0, command.seconds)
        code = run(command.words, tmp_path / "said", fault, seconds)
        print(fault or seconds, code)
        if code == 0:
            assert_finished(command)
            shutil.rmtree(command.folder)
            command.folder.mkdir()
            continue
        assert code == KILLED, (tmp_path / "said").read_text()
        kills += 1
        assert_whole(command.folder, command.finished)
        _disturb_times(command.folder, chance)
    assert_finishes(command, tmp_path)


@pytest.mark.parametrize("cut", range(POWER_CUTS))
def test_power_cut(command: Command, cut: int, chance: random.Random, tmp_path):
    left = command.folder.with_name("left")
    change, seed = chance.randint(1, len(command.changes)), chance.randrange(1_000_000)
    print(f"change {change} of {len(command.changes)}, seed {seed}")
    try:
        fault = PowerCutAt(command.folder, change, left, seed)
        assert run(command.words, tmp_path / "said", fault) == KILLED
        shutil.rmtree(command.folder)
        left.rename(command.folder)
    finally:
        shutil.rmtree(left.with_name("left-graveyard"))
    assert_finishes(command, tmp_path)


@pytest.mark.parametrize("disk", range(FULL_DISKS))
def test_full_disk(command: Command, disk: int, chance: random.Random, tmp_path):
    made = [n for n, kind in enumerate(command.changes, start=1) if kind in MADE]
    change = chance.choice(made)
    print(f"change {change} of {len(command.changes)}")
    said = tmp_path / "said"
    assert run(command.words, said, NoRoomAt(command.folder, change)) == 2, said.read_text()
    assert str(command.folder) in message(said)
    assert_whole(command.folder, command.finished)
    assert_finishes(command, tmp_path)


def test_a_clock_that_goes_back(command: Command, tmp_path):
    assert_finishes(command, tmp_path, ClockGoesBack())


def assert_finishes(command: Command, tmp_path: Path, fault: Fault | None = None) -> None:
    """The command, run to its end, leaves what it leaves undisturbed."""
    said = tmp_path / "said"
    assert run(command.words, said, fault) == 0, said.read_text()
    assert_finished(command)


def assert_finished(command: Command) -> None:
    assert command.result(command.folder) == command.result(command.finished)
    assert contents(command.folder) == contents(command.finished)


def _disturb_times(folder: Path, chance: random.Random) -> None:
    """Nothing may depend on which file is newer: clocks are set, and copies change times."""
    for path in folder.rglob("*"):
        moment = time.time() + chance.uniform(-1e8, 1e8)
        os.utime(path, (moment, moment))
