"""The server routes of the pack, asked over HTTP: style names and presets."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import struct
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from dmm.merged import Styles, write_style_file
from dmm.metadata import Sampling, Style, merged_metadata
from dmm.style_prompts import StylePrompts
from dmm.tensors import save_tensors
from tests.comfyui.server import ComfyUI


def ask(comfyui: ComfyUI, method: str, path: str, query: Any = (), body: bytes | None = None):
    """The status of a request and its JSON answer, whatever the status."""
    url = f"{comfyui.url}{path}?{urllib.parse.urlencode(query, errors='surrogatepass')}"
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data=body, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def ask_styles(comfyui: ComfyUI, name: str, *folders: str):
    query = [("name", name), *(("folder", folder) for folder in folders or ("checkpoints",))]
    return ask(comfyui, "GET", "/dmm/styles", query)


def write_styles(
    path: Path,
    names: Sequence[str],
    family: str = "sd1",
    dim: int = 8,
    more: Mapping[str, str] | None = None,
) -> Path:
    styles = Styles(StylePrompts(len(names), dim), [Style(name) for name in names], family)
    metadata = merged_metadata(
        styles.styles,
        {},
        family=family,
        title="Test",
        resolution=(512, 512),
        prediction_type="epsilon",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_style_file(path, styles, metadata | (more or {}), overwrite=True)
    return path


@pytest.fixture(scope="module")
def ink_file(comfyui: ComfyUI) -> Path:
    return write_styles(comfyui.checkpoints / "ink.safetensors", ["ink", "anime"])


@pytest.fixture
def no_trace(comfyui: ComfyUI) -> Iterator[None]:
    """Whatever was asked, the server neither stumbled nor printed a stack."""
    before = comfyui.log().count("Traceback")
    yield
    assert comfyui.log().count("Traceback") == before


# Style names


def test_a_file_made_for_few_steps_says_how_to_sample(comfyui: ComfyUI) -> None:
    said = Sampling(4, 1.0, "lcm").to_metadata()
    write_styles(comfyui.checkpoints / "fast.safetensors", ["ink", "anime"], more=said)
    _, answer = ask_styles(comfyui, "fast.safetensors")
    assert answer["styles"] == ["ink", "anime"]
    assert answer["sampling"] == "4 steps, CFG 1, sampler LCM"


def test_names_family_and_width(comfyui: ComfyUI, ink_file: Path):
    told = {"styles": ["ink", "anime"], "family": "sd1", "dim": 8}
    assert ask_styles(comfyui, ink_file.name) == (200, told)


def test_an_sdxl_file_in_a_folder_of_its_own(comfyui: ComfyUI):
    write_styles(comfyui.checkpoints / "mine" / "xl.safetensors", ["oil"], "sdxl", 16)
    status, answer = ask_styles(comfyui, os.path.join("mine", "xl.safetensors"))
    assert (status, answer) == (200, {"styles": ["oil"], "family": "sdxl", "dim": 16})


def test_a_style_file_goes_before_a_checkpoint_of_its_name(comfyui: ComfyUI):
    write_styles(comfyui.base / "models" / "dmm_styles" / "both.safetensors", ["from styles"])
    write_styles(comfyui.checkpoints / "both.safetensors", ["from checkpoints"])
    write_styles(comfyui.checkpoints / "one.safetensors", ["only here"])

    def first(name: str) -> str:
        return ask_styles(comfyui, name, "dmm_styles", "checkpoints")[1]["styles"][0]

    assert first("both.safetensors") == "from styles"
    assert first("one.safetensors") == "only here"
    assert ask_styles(comfyui, "both.safetensors")[1]["styles"] == ["from checkpoints"]


def test_the_side_file_names_the_styles(comfyui: ComfyUI):
    path = write_styles(comfyui.checkpoints / "named.safetensors", ["a", "b"])
    path.with_name("named.styles.json").write_text('["水墨", "<b>bold</b>"]', encoding="utf-8")
    assert ask_styles(comfyui, path.name)[1]["styles"] == ["水墨", "<b>bold</b>"]


def test_a_file_written_anew_is_read_anew(comfyui: ComfyUI):
    path = write_styles(comfyui.checkpoints / "growing.safetensors", ["a"])
    assert ask_styles(comfyui, path.name)[1]["styles"] == ["a"]
    write_styles(path, ["a", "b"])
    assert ask_styles(comfyui, path.name)[1]["styles"] == ["a", "b"]


class Trap:
    """Makes a file of the working folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def header(tensors: dict[str, Any], data: bytes = b"", **metadata: str) -> bytes:
    content = tensors | ({"__metadata__": metadata} if metadata else {})
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(shape: Sequence[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}


BROKEN = {
    "empty": b"",
    "a note": b"not a model at all, only some words " * 20,
    "a web page": b"<!DOCTYPE html><script>alert(1)</script>",
    "a git-LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "a header longer than the file": struct.pack("<Q", 2**62) + b"{}",
    "a header of 100 MB that is not there": struct.pack("<Q", 99_000_000) + b"{" * 100,
    "a header that is no JSON": struct.pack("<Q", 4) + b"{{{{",
    "a header that is a list": struct.pack("<Q", 2) + b"[]",
    "a header nested without end": struct.pack("<Q", 200_000) + b"[" * 200_000,
    "tensors beyond the end": header({"model_embedding.weight": tensor([4, 8], 0, 128)}),
    "offsets that run backwards": header({"model_embedding.weight": tensor([4, 8], 128, 0)}),
    "a shape that does not fit": header(
        {"model_embedding.weight": tensor([400, 8], 0, 4)}, b"1234"
    ),
    "overlapping tensors": header(
        {"model_embedding.weight": tensor([1], 0, 4), "b": tensor([1], 0, 4)}, b"1234"
    ),
    "a codebook without an MLP": header({"model_embedding.weight": tensor([1, 1], 0, 4)}, b"1234"),
    "a codebook of no styles": header({"model_embedding.weight": tensor([0, 8], 0, 0)}),
    "a name that is no text": header({}, **{"dmm": "\ud800"}),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
@pytest.mark.usefixtures("no_trace")
def test_a_broken_file_is_told_in_words(comfyui: ComfyUI, content: bytes):
    path = comfyui.checkpoints / "broken.safetensors"
    path.write_bytes(content)
    status, answer = ask_styles(comfyui, path.name)
    path.unlink()
    assert status == 200
    assert answer["styles"] == []
    assert answer["problem"].startswith("broken.safetensors ") or "style" in answer["problem"]
    assert str(comfyui.base) not in answer["problem"]


@pytest.mark.usefixtures("no_trace")
def test_a_plain_checkpoint_is_told_in_words(comfyui: ComfyUI):
    save_tensors(comfyui.checkpoints / "no styles.safetensors", {"a": torch.zeros(2)}, {})
    status, answer = ask_styles(comfyui, "no styles.safetensors")
    assert (status, answer["styles"]) == (200, [])
    assert "has no style prompts: it is a plain checkpoint" in answer["problem"]


@pytest.mark.parametrize("name", ["trap.ckpt", "trap.safetensors"])
def test_a_strangers_code_does_not_run(comfyui: ComfyUI, name: str):
    proof = comfyui.base / "proof"
    with (comfyui.checkpoints / name).open("wb") as file:
        pickle.dump({"state_dict": Trap(proof)}, file)
    status, answer = ask_styles(comfyui, name)
    assert (status, answer["styles"]) == (200, [])
    assert "code" in answer["problem"]
    assert not proof.exists()


ODD_ENTRIES = ["no JSON", "[]", "{}", '{"styles": 7}', '{"styles": ["a"]}']
ODD_ENTRIES += ['{"styles": ["a", "a"]}', '{"styles": [{}, null]}']
ODD_ENTRIES += ["[" * 100_000, '{"styles": ' + "9" * 10_000 + "}"]


@pytest.mark.parametrize("entry", ODD_ENTRIES, ids=lambda entry: entry[:20])
@pytest.mark.usefixtures("no_trace")
def test_odd_metadata_leaves_numbered_names(comfyui: ComfyUI, entry: str):
    prompts = StylePrompts(2, 8)
    path = comfyui.checkpoints / "odd.safetensors"
    save_tensors(path, prompts.to_tensors("add_embedding"), {"dmm": entry}, overwrite=True)
    assert ask_styles(comfyui, path.name)[1]["styles"] == ["Style 1", "Style 2"]


# Only files that the host lists


@pytest.fixture(scope="module")
def secret(comfyui: ComfyUI) -> Path:
    """A readable file of styles in the one place from which every escape would find it."""
    return write_styles(comfyui.base / "secret.safetensors", ["secret"])


@pytest.fixture(scope="module")
def spellings(comfyui: ComfyUI, secret: Path) -> list[str]:
    shutil.copy(secret, comfyui.checkpoints / "unlisted.txt")
    up = ["../../secret.safetensors", "..\\..\\secret.safetensors", "./../../secret.safetensors"]
    up += ["mine/../../../secret.safetensors", "....//....//secret.safetensors"]
    up += ["%2e%2e/%2e%2e/secret.safetensors", "..%2f..%2fsecret.safetensors"]
    up += ["ink.safetensors/..", "ink.safetensors/../../../secret.safetensors"]
    up += ["../checkpoints/ink.safetensors", "../" * 1_000 + "secret.safetensors"]
    absolute = [str(secret), f"file://{secret}", f"//localhost{secret}", f"\\\\?\\{secret}"]
    absolute += ["C:\\Windows\\win.ini", "/etc/passwd", "~/secret.safetensors", "/dev/zero", "CON"]
    odd = ["", ".", "..", "/", "\\", " ", "ink.safetensors ", "INK", "*", "ink*", "a" * 6_000]
    odd += ["unlisted.txt", "./ink.safetensors", "mine/../ink.safetensors", "/ink.safetensors"]
    odd += ["ink.safetensors\0", "ink.safetensors\0.png", "\ud83d", "\u202e"]
    return up + absolute + odd


@pytest.mark.usefixtures("no_trace")
def test_no_spelling_leads_out(comfyui: ComfyUI, ink_file: Path, spellings: list[str]):
    for name in spellings:
        for folders in (("checkpoints",), ("dmm_styles", "checkpoints")):
            status, answer = ask_styles(comfyui, name, *folders)
            assert (status, list(answer)) == (400, ["error"]), name
    assert ask_styles(comfyui, ink_file.name)[0] == 200


@pytest.mark.parametrize(
    "folder", ["vae", "configs", "custom_nodes", "input", "..", "", "checkpoints/..", "/", "\0"]
)
@pytest.mark.usefixtures("no_trace")
def test_only_folders_of_styles_are_read(comfyui: ComfyUI, ink_file: Path, folder: str):
    write_styles(comfyui.base / "models" / "vae" / ink_file.name, ["not from here"])
    status, answer = ask_styles(comfyui, ink_file.name, folder)
    assert status == 400
    assert "is no folder of style files" in answer["error"]


@pytest.mark.usefixtures("no_trace")
def test_random_names_are_refused(comfyui: ComfyUI, ink_file: Path):
    dice = random.Random(0)
    pieces = [
        "..",
        "/",
        "\\",
        "ink",
        ".safetensors",
        "%",
        "\0",
        "é",
        "😀",
        "'",
        '"',
        "<b>",
        "&",
        "#",
    ]
    for _ in range(200):
        name = "".join(dice.choices(pieces, k=dice.randrange(8)))
        if name != ink_file.name:
            assert ask_styles(comfyui, name)[0] == 400, name


def test_links_are_followed_where_the_host_follows_them(comfyui: ComfyUI, secret: Path):
    """Many people link models from another disk: the host lists and loads them."""
    link, dangling = (comfyui.checkpoints / f"{name}.safetensors" for name in ("link", "dangling"))
    try:
        link.symlink_to(secret)
        dangling.symlink_to(secret.with_name("gone.safetensors"))
    except OSError:
        pytest.skip("this system lets no ordinary user make links")
    assert link.name in json.loads(comfyui.get("/models/checkpoints"))
    assert ask_styles(comfyui, link.name)[1]["styles"] == ["secret"]
    assert ask_styles(comfyui, dangling.name)[0] == 400


# Presets

PRESET = {"mix": "ink:0.7, anime:0.3", "normalise": False, "strength": 0.5, "mixing": "after MLP"}


@pytest.fixture
def presets_file(comfyui: ComfyUI) -> Iterator[Path]:
    path = comfyui.base / "user" / "default" / "dmm_presets.json"
    path.unlink(missing_ok=True)
    yield path
    path.unlink(missing_ok=True)


def put(comfyui: ComfyUI, preset: Any):
    body = preset if isinstance(preset, bytes) else json.dumps(preset).encode()
    return ask(comfyui, "PUT", "/dmm/presets", body=body)


def test_presets_are_kept_in_the_users_folder(comfyui: ComfyUI, presets_file: Path):
    assert ask(comfyui, "GET", "/dmm/presets") == (200, {})
    name = "<b>水墨</b> & “ink”"
    assert put(comfyui, {"name": f" {name} ", **PRESET}) == (200, {name: PRESET})
    put(comfyui, {"name": "plain", "mix": "ink"})
    status, presets = ask(comfyui, "GET", "/dmm/presets")
    assert (status, presets[name]) == (200, PRESET)
    assert json.loads(presets_file.read_text(encoding="utf-8")) == presets
    assert ask(comfyui, "DELETE", "/dmm/presets", {"name": "plain"}) == (200, {name: PRESET})
    assert [path.name for path in presets_file.parent.glob("dmm_presets*")] == [presets_file.name]


ODD_PRESETS = [b"", b"{", b"[]", b"null", b"\xff", b"[" * 50_000, {}, {"name": "x"}]
ODD_PRESETS += [PRESET | {"name": name} for name in ("", "  ", 7, None, ["x"], "x" * 101)]
ODD_PRESETS += [PRESET | {"name": "x", "mix": m} for m in ("", "ink:a", None, {}, "a" * 20_001)]
ODD_PRESETS += [
    PRESET | {"name": "x", "strength": s} for s in ("1", -1, 3, True, float("nan"), 1e999)
]
ODD_PRESETS += [PRESET | {"name": "x", "normalise": 1}, PRESET | {"name": "x", "mixing": "never"}]


@pytest.mark.parametrize("preset", ODD_PRESETS, ids=lambda preset: str(preset)[:40])
@pytest.mark.usefixtures("no_trace")
def test_odd_presets_are_refused(comfyui: ComfyUI, presets_file: Path, preset: Any):
    status, answer = put(comfyui, preset)
    assert (status, list(answer)) == (400, ["error"])
    assert not presets_file.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', '{"a": {"mix": ""}}'])
@pytest.mark.usefixtures("no_trace")
def test_a_damaged_file_of_presets_is_left_alone(
    comfyui: ComfyUI, presets_file: Path, content: str
):
    presets_file.write_text(content, encoding="utf-8")
    requests = [
        ask(comfyui, "GET", "/dmm/presets"),
        put(comfyui, {"name": "x", **PRESET}),
        ask(comfyui, "DELETE", "/dmm/presets", {"name": "a"}),
    ]
    for status, answer in requests:
        assert status == 400
        assert presets_file.name in answer["error"]
    assert presets_file.read_text(encoding="utf-8") == content


@pytest.mark.usefixtures("no_trace")
def test_deleting_what_is_not_there(comfyui: ComfyUI, presets_file: Path):
    status, answer = ask(comfyui, "DELETE", "/dmm/presets", {"name": "<i>"})
    assert (status, answer) == (400, {"error": "There is no preset '<i>'."})
