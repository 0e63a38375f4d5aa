"""Install DMM.

  python install.py            inside a host (WebUI, ComfyUI): check that it has what DMM needs
  python install.py demo       merge the bundled demo checkpoints, from nothing to a picture grid
  python install.py test       run the test suite
  python install.py trainer    only make the trainer's environment
  python install.py --help     this text

Linux and macOS may call it python3. What follows demo or test is handed on: to "trainer/run.py
merge" (demo --help lists what that takes), or to pytest (test -k formats).

The trainer lives in an environment of its own, .venv beside this file; delete that folder to
uninstall. It needs Python 3.11 or newer. A killed or failed installation goes on when the same
command is given again, and one that is up to date costs nothing.

Torch: .venv gets the release pinned in trainer/requirements.txt, in the build that pip finds for
your system: with CUDA on Linux, for Apple GPUs on macOS, for the CPU alone on Windows. For another
build (CUDA on Windows, ROCm, XPU, a small CPU-only one) make .venv first and put that build into
it, as PyTorch's "Get Started" page says; any torch from 2.6 on is then left as it is:

  python -m venv .venv
  .venv/bin/pip install torch ...         (Windows: .venv\\Scripts\\pip install torch ...)
  python install.py trainer

Inside a host nothing is installed that is there already, and torch never: DMM runs on the host's.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
RUN = ROOT / "trainer" / "run.py"
DEMO_OUTPUT = ROOT / "outputs" / "demo" / "merged.safetensors"  # as demo/merge.yaml says
TRAINER_REQUIREMENTS = ROOT / "trainer" / "requirements.txt"
TEST_REQUIREMENTS = ROOT / "trainer" / "requirements-test.txt"

OLDEST_PYTHON = (3, 11)  # what the pinned diffusers and transformers ask for
OLDEST_TORCH = (2, 6)  # transformers turns its models off below this
TORCH_DISK_GB = 8 if sys.platform == "linux" else 2  # the wheels and what they unpack to
OTHER_DISK_GB = 1

# One process a core, up to four: each takes a few GB. Tests of one file stay in one process.
IN_PARALLEL = ("-n", "logical", "--maxprocesses", "4", "--dist", "loadgroup")

INTERRUPTED = 130  # the shell's exit code for Ctrl-C


class InstallError(Exception):
    """Something the user can mend; the message says what and how."""


def say(message: str) -> None:
    print(f"DMM: {message}", flush=True)


def run(*command: str | Path, folder: Path = ROOT) -> int:
    """Run a command in a folder and return its exit code.

    On Ctrl-C the command, which got it too, is waited for: the trainer saves before it ends.
    """
    interrupted = False
    with subprocess.Popen([str(part) for part in command], cwd=folder) as process:
        while True:
            try:
                code = process.wait()
                break
            except KeyboardInterrupt:
                interrupted = True
    if interrupted:
        raise KeyboardInterrupt
    return code


# --------------------------------------------------------------------------------------------------
# Inside a host


def check_host() -> None:
    """Make sure that the Python this runs in, a host's, has what `dmm` needs. Never fails."""
    if importlib.util.find_spec("torch") is None:
        say("this Python has no torch. Inside WebUI or ComfyUI the host brings its own.")
        say("To merge checkpoints from the command line: python install.py trainer")
    elif importlib.util.find_spec("safetensors") is not None:
        say("the host has torch and safetensors; nothing to install.")
    elif run(sys.executable, "-m", "pip", "install", "safetensors") == 0:
        say("installed safetensors, the one thing the host lacked.")
    else:
        say(f"safetensors is missing, and pip could not install it into {sys.executable}")


# --------------------------------------------------------------------------------------------------
# The trainer's own environment


def prepare_environment(*requirement_files: Path) -> None:
    """Make `.venv` and install what the files list, unless that was done before.

    Beside the environment's configuration lies a stamp for each file, the hash of the file that was
    installed. It is written last, so that an installation that was killed is taken up again.
    """
    packages = find_packages()
    if packages is None:
        make_environment()
        packages = find_packages()
        if packages is None:
            raise InstallError(f"the environment just made in {VENV} does not start")

    stamps = {VENV / f"{file.name}.sha256": sha256(file) for file in requirement_files}
    if all(stamp.is_file() and stamp.read_text() == value for stamp, value in stamps.items()):
        return

    remove_half_installed(packages)
    torch = installed_version("torch", packages)
    requirements = [line for file in requirement_files for line in read_requirements(file)]
    if keeps(torch):
        requirements = [
            f"torch=={torch}" if re.match(r"torch\b", line) else line for line in requirements
        ]
    check_disk(OTHER_DISK_GB if keeps(torch) else OTHER_DISK_GB + TORCH_DISK_GB)

    names = ", ".join(str(file.relative_to(ROOT)) for file in requirement_files)
    say(f"installing {names} into {VENV}" + (f", keeping torch {torch}" if keeps(torch) else ""))
    if run(VENV_PYTHON, "-m", "pip", "install", *requirements) != 0:
        raise InstallError(
            "pip could not install everything; its message is above. "
            "Mend that and give the same command again: what is already there is kept."
        )
    for stamp, value in stamps.items():
        stamp.write_text(value)
    hint_at_cuda(installed_version("torch", packages))


def find_packages() -> Path | None:
    """The site-packages folder of `.venv`, or None where there is no environment that works."""
    probe = (
        "import json, pip, sys, sysconfig;"
        "print(json.dumps([sysconfig.get_path('purelib'), sys.version_info[:2]]))"
    )
    try:
        result = subprocess.run([str(VENV_PYTHON), "-c", probe], capture_output=True, cwd=ROOT)
    except OSError:  # not there, or a link to a Python that was uninstalled
        return None
    if result.returncode != 0:
        return None
    folder, version = json.loads(result.stdout)
    if tuple(version) < OLDEST_PYTHON:
        raise InstallError(
            f"{VENV} was made with Python {dotted(version)}, and the trainer needs "
            f"{dotted(OLDEST_PYTHON)} or newer. Delete that folder and give the same command again."
        )
    return Path(folder)


def make_environment() -> None:
    if sys.version_info < OLDEST_PYTHON:
        raise InstallError(
            f"the trainer needs Python {dotted(OLDEST_PYTHON)} or newer; this is Python "
            f"{dotted(sys.version_info[:3])} ({sys.executable}). {newer_python()}"
        )
    if importlib.util.find_spec("ensurepip") is None:
        raise InstallError(
            f"this Python ({sys.executable}) cannot make environments: its ensurepip module is "
            "missing. On Debian and Ubuntu: sudo apt install python3-venv"
        )
    if VENV.exists() and not (VENV / "pyvenv.cfg").is_file() and any(VENV.iterdir()):
        raise InstallError(f"{VENV} is there and is no Python environment. Move it away.")
    check_disk(OTHER_DISK_GB)
    say(f"making an environment for Python {dotted(sys.version_info[:3])} in {VENV}")
    if run(sys.executable, "-m", "venv", "--clear", VENV) != 0:
        raise InstallError(f"could not make the environment {VENV}; the message is above.")


def newer_python() -> str:
    """What to do on a machine whose default Python is too old."""
    for minor in range(14, OLDEST_PYTHON[1] - 1, -1):
        if shutil.which(f"python3.{minor}"):
            return f"There is a newer one: run python3.{minor} install.py"
    return "Install a newer Python beside it and run install.py with that."


def read_requirements(file: Path) -> list[str]:
    """The requirements in a file that has one a line, and comments."""
    lines = (line.partition("#")[0].strip() for line in file.read_text("utf-8").splitlines())
    return [line for line in lines if line]


def installed_version(name: str, packages: Path) -> str | None:
    found = importlib.metadata.distributions(name=name, path=[str(packages)])
    return next((distribution.version for distribution in found), None)


def keeps(torch: str | None) -> bool:
    """Whether the torch that is there, perhaps a build the user chose, is left as it is."""
    release = re.match(r"(\d+)\.(\d+)", torch or "")
    return release is not None and tuple(map(int, release.groups())) >= OLDEST_TORCH


def remove_half_installed(packages: Path) -> None:
    """Forget the package that pip was unpacking when it was killed.

    pip writes RECORD last but takes a package with METADATA alone for installed.
    """
    for info in packages.glob("*.dist-info"):
        if not (info / "RECORD").is_file():
            shutil.rmtree(info)


def check_disk(needed_gb: float) -> None:
    free_gb = shutil.disk_usage(ROOT).free / 1e9
    if free_gb < needed_gb:
        raise InstallError(
            f"{free_gb:.1f} GB are free on the disk that holds {ROOT}, and installing takes up to "
            f"{needed_gb:g} GB, most of it torch. Make room, or choose a smaller build of torch "
            "(python install.py --help)."
        )


def hint_at_cuda(torch: str | None) -> None:
    if os.name == "nt" and "+cu" not in (torch or "") and shutil.which("nvidia-smi"):
        say("this machine has an NVIDIA GPU, but this build of torch has no CUDA and uses the CPU.")
        say("python install.py --help says how to choose another build.")


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def spelled(*command: str | Path) -> str:
    """A command as the user's shell reads it, blanks in its paths included."""
    words = [str(word) for word in command]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


# --------------------------------------------------------------------------------------------------
# Commands


def demo(arguments: list[str]) -> int:
    prepare_environment(TRAINER_REQUIREMENTS)
    merge = (RUN, "merge", ROOT / "demo" / "merge.yaml")
    code = run(VENV_PYTHON, *merge, *arguments, folder=Path.cwd())  # paths among the arguments
    if code == 0 and "--help" not in arguments:
        outputs = [word[len("output=") :] for word in arguments if word.startswith("output=")]
        merged = Path(*outputs[-1:]).resolve() if outputs else DEMO_OUTPUT
        say(f"paint with it in your browser: {spelled(VENV_PYTHON, RUN, 'play', merged)}")
    return code


def test(arguments: list[str]) -> int:
    prepare_environment(TRAINER_REQUIREMENTS, TEST_REQUIREMENTS)
    return run(VENV_PYTHON, "-m", "pytest", *IN_PARALLEL, *arguments)


def trainer(arguments: list[str]) -> int:
    if arguments:
        raise InstallError(f"trainer takes no arguments, but got {' '.join(arguments)}")
    prepare_environment(TRAINER_REQUIREMENTS)
    say(f"ready: {spelled(VENV_PYTHON, RUN, '--help')}")
    return 0


COMMANDS = {"demo": demo, "test": test, "trainer": trainer}


def main(arguments: list[str]) -> int:
    """Run one command and return the exit code: 2 where the user can mend what went wrong."""
    sys.stdout.reconfigure(errors="backslashreplace")  # a path the console cannot spell
    sys.stderr.reconfigure(errors="backslashreplace")
    try:
        if not arguments:
            check_host()
            return 0
        command, *rest = arguments
        if command in ("-h", "--help", "help"):
            print(__doc__.strip())
            return 0
        if command not in COMMANDS:
            raise InstallError(f"no command {command!r}. There are: {', '.join(COMMANDS)}.")
        code = COMMANDS[command](rest)
        return code if code >= 0 else 128 - code  # a signal ended it, as the shell counts
    except InstallError as error:
        print(f"DMM: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("DMM: stopped. The same command goes on from here.", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
