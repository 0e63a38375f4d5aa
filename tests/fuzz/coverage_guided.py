"""Hostile input that follows the code: what reaches a new line is kept and changed further.

    pip install atheris
    python -m tests.fuzz.coverage_guided TARGET [SECONDS]

It ends at the first input that brings anything but a result or a DmmError, and writes that input to
`crash-…`. TARGET is a name in `TARGETS`.
"""

from __future__ import annotations

import json
import struct
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["dmm", "trainer", "sd_webui_dmm"]):
    from dmm.errors import DmmError
    from dmm.merged import Styles, read_styles, write_style_file
    from dmm.metadata import default_styles
    from dmm.mixes import parse_mix
    from dmm.presets import Presets
    from dmm.style_prompts import StylePrompts
    from dmm.tensors import open_tensors
    from sd_webui_dmm.regions.lines import parse_region
    from sd_webui_dmm.regions.places import Mask
    from trainer.config_file import load_config
    from trainer.data import Prompts
    from trainer.lora import open_lora

FOLDER = Path(tempfile.mkdtemp(prefix="dmm-fuzz-"))


def file(name: str, content: bytes) -> Path:
    path = FOLDER / name
    path.write_bytes(content)
    return path


def with_header(data: bytes) -> Path:
    """A safetensors file whose header is the input; the length before it is right."""
    return file("a.safetensors", struct.pack("<Q", len(data)) + data + bytes(64))


def header(data: bytes) -> None:
    tensors = open_tensors(with_header(data))
    for key in tensors:
        assert tuple(tensors[key].shape) == tensors.shape(key)


def bytes_of_a_file(data: bytes) -> None:
    read_styles(file("b.safetensors", data))


def side_file(data: bytes) -> None:
    """What names the styles beside a sound file."""
    path = FOLDER / "styles.safetensors"
    if not path.exists():
        write_style_file(path, Styles(StylePrompts(2, 4), default_styles(2), "sd1"), {"dmm": "{}"})
    file("styles.styles.json", data)
    names = read_styles(path).names
    assert len({*names}) == 2
    json.dumps(names, ensure_ascii=False).encode()


def text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


TARGETS: dict[str, Callable[[bytes], object]] = {
    "header": header,
    "file": bytes_of_a_file,
    "lora": lambda data: open_lora(with_header(data)).ranks,
    "pickle": lambda data: open_tensors(file("c.ckpt", b"\x80\x02" + data)),
    "side-file": side_file,
    "mix": lambda data: parse_mix(text(data)),
    "presets": lambda data: Presets(file("presets.json", data)).read(),
    "yaml": lambda data: load_config(file("merge.yaml", data)),
    "prompts": lambda data: Prompts(file("prompts.txt", data)),
    "region": lambda data: parse_region(text(data)),
    "mask": lambda data: Mask.parse(text(data)),
}


def main(target: str, seconds: str = "60") -> None:
    def read_or_refused(data: bytes) -> None:
        try:
            TARGETS[target](data)
        except DmmError as error:
            assert str(error).strip()

    warnings.simplefilter("ignore")
    limits = [f"-max_total_time={seconds}", "-rss_limit_mb=4096", f"-artifact_prefix={FOLDER}/"]
    atheris.Setup([sys.argv[0], *limits], read_or_refused)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
