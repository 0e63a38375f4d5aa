"""install.py on a copy of the house whose packages are tiny wheels, so that pip needs no index.

The environments, pip and the commands are real; only what gets installed is small.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import install

ROOT = Path(__file__).parents[1]
IN_VENV = "Scripts/python.exe" if os.name == "nt" else "bin/python"

TELL_ARGUMENTS = "import json, os, sys; print(json.dumps([os.getcwd(), *sys.argv[1:]]))"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    write_wheel(folder, "torch", "2.13.0")
    write_wheel(folder, "torch", "2.7.1+rocm6")
    write_wheel(folder, "torch", "2.1.0")
    write_wheel(folder, "safetensors", "0.8.0")
    write_wheel(folder, "pytest", "9.2.0", {"__main__.py": TELL_ARGUMENTS})
    return folder


@pytest.fixture(scope="module")
def installed_house(tmp_path_factory, wheels) -> House:
    """A house in which `install.py trainer` and `test` were run; tests leave it complete."""
    house = House(tmp_path_factory.mktemp("Künstler haus 絵"), wheels)
    house.install("trainer")
    house.install("test")
    return house


@pytest.fixture
def house(tmp_path, wheels) -> House:
    return House(tmp_path / "house", wheels)


class House:
    """The files that install.py works with, and pip told to use nothing but the tiny wheels."""

    def __init__(self, root: Path, wheels: Path):
        self.root = root
        self.venv = root / ".venv"
        self.python = self.venv / IN_VENV
        self.requirements = root / "trainer" / "requirements.txt"
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PIP_")},
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": wheels.as_uri(),
            "PYTHONIOENCODING": "utf-8",
        }
        for folder in (root / "trainer", root / "demo"):
            folder.mkdir(parents=True)
        shutil.copy(ROOT / "install.py", root)
        self.requirements.write_text(
            "# the trainer's\ntorch==2.13.0  # a pin\n\nsafetensors==0.8.0\n"
        )
        (root / "trainer" / "requirements-test.txt").write_text("pytest==9.2.0\n")
        (root / "trainer" / "run.py").write_text(TELL_ARGUMENTS)

    def install(self, *arguments: str, python=sys.executable, code=0, **options):
        result = self.call(python, self.root / "install.py", *arguments, **options)
        assert result.returncode == code, result.stdout + result.stderr
        return result

    def call(self, *command, folder: Path | None = None, **environment):
        return subprocess.run(
            [str(part) for part in command],
            cwd=folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=300,
        )

    def make_venv(self) -> None:
        assert self.call(sys.executable, "-m", "venv", self.venv).returncode == 0

    def pip(self, *arguments: str) -> None:
        result = self.call(self.python, "-m", "pip", *arguments)
        assert result.returncode == 0, result.stderr

    def packages(self, python: str | Path | None = None) -> dict[str, str]:
        """Name and version of what a Python has, `.venv`'s unless another is given."""
        listing = self.call(python or self.python, "-m", "pip", "list", "--format=json").stdout
        return {package["name"]: package["version"] for package in json.loads(listing)}

    def dist_info(self, name: str) -> Path:
        return next(self.venv.rglob(f"{name}-*.dist-info"))


def write_wheel(folder: Path, name: str, version: str, files: dict[str, str] | None = None):
    info = f"{name}-{version}.dist-info"
    contents = {f"{name}/__init__.py": ""}
    contents |= {f"{name}/{file}": text for file, text in (files or {}).items()}
    contents[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    contents[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    contents[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*contents, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for file, text in contents.items():
            wheel.writestr(file, text)


class TestInsideAHost:
    def test_a_complete_host_is_left_as_it_is(self, house):
        before = house.packages(sys.executable)
        result = house.install()
        assert "nothing to install" in result.stdout
        assert len(result.stdout.splitlines()) == 1
        assert house.packages(sys.executable) == before
        assert not house.venv.exists()

    def test_torch_is_not_imported(self, house):
        result = house.call(sys.executable, "-X", "importtime", house.root / "install.py")
        imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
        assert "importlib.util" in imported
        assert not imported & {"torch", "safetensors", "numpy"}

    def test_only_what_is_missing_is_installed(self, house):
        house.make_venv()
        house.pip("install", "torch==2.1.0")
        before = house.packages()
        house.install(python=house.python)
        assert house.packages() == before | {"safetensors": "0.8.0"}

    def test_a_host_without_torch_gets_none_and_starts(self, house):
        house.make_venv()
        before = house.packages()
        assert "no torch" in house.install(python=house.python).stdout
        assert house.packages() == before

    def test_a_pip_that_fails_does_not_stop_the_host(self, house, tmp_path):
        house.make_venv()
        house.pip("install", "torch==2.1.0")
        result = house.install(python=house.python, PIP_FIND_LINKS=tmp_path.as_uri())
        assert "could not install" in result.stdout


class TestTheTrainersEnvironment:
    def test_it_holds_what_the_files_say(self, installed_house):
        packages = installed_house.packages()
        assert packages.pop("torch") == "2.13.0"
        assert packages.keys() >= {"safetensors", "pytest"}

    def test_one_that_is_up_to_date_is_not_installed_again(self, installed_house, tmp_path):
        nothing = tmp_path.as_uri()
        for command in ("trainer", "demo", "test"):
            result = installed_house.install(command, PIP_FIND_LINKS=nothing)
            assert "installing" not in result.stdout

    def test_changed_requirements_are_installed(self, installed_house):
        text = installed_house.requirements.read_text()
        installed_house.requirements.write_text(text + "# changed\n")
        assert "installing" in installed_house.install("trainer").stdout
        assert "installing" not in installed_house.install("trainer").stdout

    def test_an_installation_killed_while_unpacking_is_taken_up_again(self, installed_house):
        (installed_house.venv / "requirements.txt.sha256").unlink()
        info = installed_house.dist_info("safetensors")
        (info / "RECORD").unlink()
        (info.parent / "safetensors" / "__init__.py").unlink()
        installed_house.install("trainer")
        assert (info.parent / "safetensors" / "__init__.py").is_file()
        assert (info / "RECORD").is_file()

    def test_a_failed_installation_leaves_no_stamp(self, house, tmp_path):
        house.requirements.write_text("safetensors==99\n")
        assert "same command again" in house.install("trainer", code=2).stderr
        house.requirements.write_text("safetensors==0.8.0\n")
        house.install("trainer")
        assert house.packages()["safetensors"] == "0.8.0"

    def test_an_environment_killed_while_it_was_made_is_made_again(self, installed_house):
        shutil.rmtree(installed_house.dist_info("pip").parent / "pip")
        assert "making an environment" in installed_house.install("trainer").stdout
        installed_house.install("test")

    @pytest.mark.parametrize(("own", "kept"), [("2.7.1+rocm6", "2.7.1+rocm6"), ("2.1.0", "2.13.0")])
    def test_a_torch_of_the_users_is_kept_where_it_is_new_enough(self, house, own, kept):
        house.make_venv()
        house.pip("install", f"torch=={own}")
        house.install("trainer")
        assert house.packages()["torch"] == kept

    def test_a_folder_that_is_no_environment_is_not_touched(self, house):
        house.venv.mkdir()
        (house.venv / "diary.txt").write_text("mine")
        assert str(house.venv) in house.install("trainer", code=2).stderr
        assert (house.venv / "diary.txt").read_text() == "mine"

    @pytest.mark.skipif(os.name == "nt", reason="Windows' Python always has ensurepip")
    def test_a_python_without_ensurepip_says_what_to_install(self, house, tmp_path):
        """As Debian packages it: the standard library lacks that one folder."""
        library = Path(sysconfig.get_path("stdlib"))
        bare = tmp_path / "lib" / library.name
        bare.mkdir(parents=True)
        for entry in library.iterdir():
            if entry.name != "ensurepip":
                (bare / entry.name).symlink_to(entry)
        python = getattr(sys, "_base_executable", sys.executable)
        result = house.install("trainer", code=2, python=python, PYTHONHOME=str(tmp_path))
        assert "apt install python3-venv" in result.stderr
        assert not house.venv.exists()


class TestCommands:
    def test_demo_merges_in_the_users_folder_with_the_users_overrides(
        self, installed_house, tmp_path
    ):
        result = installed_house.install(
            "demo", "train.steps=3", "output=mine.safetensors", "--overwrite", folder=tmp_path
        )
        assert json.loads(result.stdout.splitlines()[-2]) == [
            str(tmp_path),
            "merge",
            str(installed_house.root / "demo" / "merge.yaml"),
            "train.steps=3",
            "output=mine.safetensors",
            "--overwrite",
        ]

    @pytest.mark.skipif(os.name == "nt", reason="its shell reads a command by rules of its own")
    @pytest.mark.parametrize("output", ["outputs/demo/merged.safetensors", "my own.safetensors"])
    def test_demo_ends_with_the_command_to_paint_from_its_file(
        self, installed_house, tmp_path, output
    ):
        own = not output.startswith("outputs")
        arguments = [f"output={output}"] if own else []
        result = installed_house.install("demo", *arguments, folder=tmp_path)
        command = shlex.split(result.stdout.splitlines()[-1].partition("browser: ")[2])
        folder = tmp_path if own else installed_house.root
        told = json.loads(installed_house.call(*command, folder=tmp_path).stdout)
        assert told == [str(tmp_path), "play", str(folder / output)]

    def test_the_demos_file_is_where_its_merge_says(self):
        merge = (ROOT / "demo" / "merge.yaml").read_text(encoding="utf-8")
        [output] = re.findall(r"^output: (.+)$", merge, re.MULTILINE)
        assert (ROOT / "demo" / output).resolve() == install.DEMO_OUTPUT

    def test_demo_offers_nothing_where_nothing_was_merged(self, installed_house):
        assert "browser" not in installed_house.install("demo", "--help").stdout

    def test_test_hands_its_arguments_to_pytest(self, installed_house):
        result = installed_house.install("test", "-k", "formats and not slow", "--help")
        folder, *arguments = json.loads(result.stdout.splitlines()[-1])
        assert folder == str(installed_house.root)
        assert arguments[-3:] == ["-k", "formats and not slow", "--help"]
        assert arguments[:2] == ["-n", "logical"]  # a process a core

    def test_the_exit_code_is_the_commands(self, installed_house):
        run = installed_house.root / "trainer" / "run.py"
        run.write_text("raise SystemExit(7)")
        installed_house.install("demo", code=7)
        run.write_text(TELL_ARGUMENTS)

    @pytest.mark.skipif(os.name == "nt", reason="sends a signal")
    @pytest.mark.skipif(
        signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
        reason="in the background, where a shell started these tests, nothing hears Ctrl-C",
    )
    def test_ctrl_c_lets_the_trainer_save_first(self, installed_house, tmp_path):
        run = installed_house.root / "trainer" / "run.py"
        run.write_text(
            "import os, pathlib, signal, time\n"
            "try:\n"
            "    os.killpg(0, signal.SIGINT)  # what a terminal does\n"
            "    time.sleep(60)\n"
            "except KeyboardInterrupt:\n"
            "    time.sleep(1)\n"
            "    pathlib.Path('saved').touch()\n"
        )
        command = [sys.executable, installed_house.root / "install.py", "demo"]
        process = subprocess.run(
            command,
            cwd=tmp_path,
            env=installed_house.environment,
            start_new_session=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        run.write_text(TELL_ARGUMENTS)
        assert process.returncode == 130
        assert (tmp_path / "saved").exists()
        assert "Traceback" not in process.stderr

    def test_an_unknown_command_is_answered_with_the_known_ones(self, house):
        assert "demo, test, trainer" in house.install("dmeo", code=2).stderr

    def test_help_tells_how_to_choose_a_torch(self, house):
        assert "pip install torch" in house.install("--help").stdout
