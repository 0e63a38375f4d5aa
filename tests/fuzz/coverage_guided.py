"""Hostile input that follows the code: what reaches a new line is kept and changed further.

    pip install atheris
    python -m tests.fuzz.coverage_guided TARGET [SECONDS]

It ends at the first input that brings anything but a result or a DmmError, and writes that input to
`crash-…`. TARGET is a name in `TARGETS`.
"""

from __future__ import annotations

import base64
import io
import json
import struct
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import atheris
import torch
from PIL import Image

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


def sound_file() -> bytes:
    path = FOLDER / "sound.safetensors"
    write_style_file(
        path, Styles(StylePrompts(2, 4), default_styles(2), "sd1"), {"dmm": "{}"}, overwrite=True
    )
    return path.read_bytes()


def sound_header(*names: str) -> bytes:
    """Two tensors that `with_header`'s bytes are enough for."""
    down, up = ({"dtype": "F32", "shape": shape} for shape in ([2, 4], [4, 2]))
    entries = {
        names[0]: down | {"data_offsets": [0, 32]},
        names[1]: up | {"data_offsets": [32, 64]},
    }
    return json.dumps({"__metadata__": {"lora_adapter_metadata": "{}"}, **entries}).encode()


def sound_mask() -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), 255).save(file, "PNG")
    return base64.b64encode(file.getvalue())


def sound_pickle() -> bytes:
    file = io.BytesIO()
    torch.save({"state_dict": {"weight": torch.zeros(2)}}, file)
    return file.getvalue()


def text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


TARGETS: dict[str, Callable[[bytes], object]] = {
    "header": header,
    "file": bytes_of_a_file,
    "lora": lambda data: open_lora(with_header(data)).ranks,
    "pickle": lambda data: open_tensors(file("c.ckpt", data)),
    "side-file": side_file,
    "mix": lambda data: parse_mix(text(data)),
    "presets": lambda data: Presets(file("presets.json", data)).read(),
    "yaml": lambda data: load_config(file("merge.yaml", data)),
    "prompts": lambda data: Prompts(file("prompts.txt", data)),
    "region": lambda data: parse_region(text(data)),
    "mask": lambda data: Mask.parse(text(data)),
}


PRESETS = {"evening": {"mix": "ink:1", "normalise": True, "strength": 1.0, "mixing": "before MLP"}}
SOUND: dict[str, Callable[[], bytes]] = {
    "header": lambda: sound_header("model_embedding.weight", "a"),
    "file": sound_file,
    "lora": lambda: sound_header("lora_unet_a.lora_down.weight", "lora_unet_a.lora_up.weight"),
    "pickle": sound_pickle,
    "side-file": lambda: b'["ink", "anime"]',
    "mix": lambda: b"ink:0.7, 'a, b':0.3",
    "presets": lambda: json.dumps(PRESETS).encode(),
    "yaml": lambda: (
        b"base: a.ckpt\nteachers: [{path: b.ckpt}]\noutput: d.safetensors\ndata: synthetic\n"
    ),
    "prompts": lambda: b"a cat --d 1 --s 20 --w 64 --h 64\na dog --n cat\n",
    "region": lambda: b"ink:0.5, anime @ 0, 0, 0.5, 1 feather 8",
    "mask": sound_mask,
}
"""What each target reads without a fault, to begin with: from random bytes nobody finds JSON."""


def main(target: str, seconds: str = "60") -> None:
    def read_or_refused(data: bytes) -> None:
        try:
            TARGETS[target](data)
        except DmmError as error:
            assert str(error).strip()

    warnings.simplefilter("ignore")
    limits = [f"-max_total_time={seconds}", "-rss_limit_mb=4096", f"-artifact_prefix={FOLDER}/"]
    TARGETS[target](SOUND[target]())
    corpus = FOLDER / "corpus"
    corpus.mkdir()
    (corpus / "sound").write_bytes(SOUND[target]())
    atheris.Setup([sys.argv[0], str(corpus), *limits], read_or_refused)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
