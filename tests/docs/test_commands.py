"""Every command of every page is run on small files, or named here with why it cannot be."""

from __future__ import annotations

import importlib
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer
import typer.main
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from torch.distributed.run import get_args_parser

import install
from tests.docs.house import SIDE, furnish
from tests.docs.pages import PAGES, ROOT, commands, words_of
from tests.trainer.merging import command as run_trainer
from trainer.config_file import load_config
from trainer.run import app

PYTHON = re.compile(r"(?:\.venv/(?:bin|Scripts)/)?python3?")

NOT_RUN = {
    r"sudo apt install python3-venv": "changes the system",
    r"tensorboard --logdir \w+": "serves until Ctrl-C",
    r"git lfs pull": "needs a repository with large files",
    r"\.venv/bin/pip install torch …": "the reader chooses the build, which is gigabytes",
    r"\.venv/bin/python -m pip install( -r \S+)?": "needs the network",
    r"python3? -m venv \.venv": "tests/test_install.py makes environments",
    r"accelerate launch|\.venv/bin/python trainer/run\.py COMMAND": "only spoken of",
}
"""Commands that cannot run here → why."""

SMALL = {
    "data": {"resolution": SIDE, "workers": 0, "buckets": False},
    "data.painting": {"steps": 1, "pictures_per_teacher": 2, "batch_size": 2},
    "train": {"steps": 2, "batch_size": 2, "micro_batch_size": 1, "save_every": 2},
    "train.": {"precision": "fp32", "optimizer": "adamw"},
    "synthesised": {"steps": 1, "batch_size": 2},
    "synthesised.painting": {"steps": 1, "pictures_per_teacher": 2, "batch_size": 2},
    "few_steps": {"pieces": 5},
    "samples": {"steps": 1, "count": 1},
}
"""What makes a merge small enough for a test, by section; it goes after what the page says."""

QUICKLY = {
    "sample": ["--steps", "1", "--width", str(SIDE), "--height", str(SIDE)],
    "evaluate": ["--steps", "1", "--pictures", "2", "--components", "1"],
}
"""The same for commands that paint."""

MERGES = {"plan", "merge", "extend", "accelerate"}
WAITS = {"play"}  # serves until Ctrl-C: tests/trainer/test_play.py opens it, here it is only parsed

SPOKEN_OF = {"…", "FILE"}  # behind a command that a page speaks of, without saying it in full

WITH_COMMANDS = [page for page in PAGES if commands(page)]

trainer = typer.main.get_command(app)


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_the_commands_of_a_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    furnish(tmp_path, page)
    for command in dict.fromkeys(commands(page)):
        check(command)


def check(command: str) -> None:
    """Runs a command, or sees that the program it calls knows all its words."""
    words = words_of(command)
    if any(re.fullmatch(pattern, " ".join(words)) for pattern in NOT_RUN):
        return
    program, *arguments = words[1:] if PYTHON.fullmatch(words[0]) else words
    if program == "-m":
        parse_module(*arguments)
    elif program == "install.py":
        assert set(arguments[:1]) <= {*install.COMMANDS, "--help"}, command
    elif program in ("trainer/run.py", "run.py"):
        run(arguments)
    elif program == "accelerate":
        script = [] if "trainer/run.py" in arguments else ["trainer/run.py", "merge"]
        launched = launch_command_parser().parse_args([*arguments[1:], *script])
        if launched.config_file:
            load_config_from_file(str(ROOT / launched.config_file))
        parse_script(launched.training_script, launched.training_script_args)
    else:
        pytest.fail(f"no test knows the command {command!r}: say in this file what becomes of it")


def run(arguments: list[str]) -> None:
    if not parse_script("trainer/run.py", arguments):
        return
    name = arguments[0]
    if name in MERGES:
        arguments = [*arguments, *smaller(arguments)]
    if name == "merge":
        arguments.append("--overwrite")
    if name not in WAITS:
        assert run_trainer(*arguments, *QUICKLY.get(name, ())) == 0, arguments


def smaller(arguments: list[str]) -> list[str]:
    """Overrides that make a merge small."""
    name, file, *rest = arguments
    overrides = [word for word in rest if re.match(r"[\w.]+=", word)]
    absent = {"synthesised" if name == "accelerate" else "few_steps"}
    if name in ("plan", "merge") and load_config(Path(file), overrides).synthesised is None:
        absent.add("synthesised")
    return [
        f"{section.rstrip('.')}.{key}={value}"
        for section, keys in SMALL.items()
        if section.partition(".")[0] not in absent
        for key, value in keys.items()
    ]


def parse_script(script: str, arguments: list[str]) -> bool:
    """Sees that the command takes such arguments; False where it is only spoken of."""
    assert script == "trainer/run.py"
    name, *rest = arguments
    command = trainer.commands[name]
    if set(rest) <= SPOKEN_OF and any(parameter.required for parameter in command.params):
        return False
    command.make_context(name, rest)
    return True


def parse_module(name: str, *arguments: str) -> None:
    """Sees that `python -m name` takes such arguments, without running it."""
    if name == "torch.distributed.run":
        launched = get_args_parser().parse_args(arguments)
        parse_script(launched.training_script, launched.training_script_args)
        return
    spec = find_spec(name)
    folders = spec.submodule_search_locations or []
    main = find_spec(f"{name}.__main__") if folders else spec
    if "typer.run(main)" in source(main.origin):
        wrapped = typer.Typer(add_completion=False)
        wrapped.command()(importlib.import_module(main.name).main)
        typer.main.get_command(wrapped).make_context(name, list(arguments))
        return
    files = [main.origin, *(path for folder in folders for path in Path(folder).glob("*.py"))]
    known = "".join(map(source, files))
    for option in (word for word in arguments if word.startswith("--")):
        assert f'"{option}"' in known, f"{name} knows no {option}"


def source(file: str | Path) -> str:
    return Path(file).read_text(encoding="utf-8")
