"""Files of tensors: round trips, broken files, and writing whole or not at all."""

import json
import os
import pickle
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dmm.errors import DmmError
from dmm.tensors import DTYPES, TensorFile, open_tensors, save_tensors

TENSORS = {
    "half": torch.randn(3, 5).half(),
    "brain": torch.randn(7).bfloat16(),
    "single": torch.randn(2, 3, 4).transpose(0, 2),
    "scalar": torch.tensor(3.5, dtype=torch.float64),
    "empty": torch.zeros(0, 4),
    "flags": torch.tensor([True, False, True]),
    "behind an odd number of bytes": torch.randn(5, dtype=torch.float64),
}


class Code:
    def __reduce__(self):
        return (os.system, ("echo this must never run",))


def assert_same_bits(found, expected):
    assert set(found) == set(expected)
    for key, tensor in expected.items():
        assert found[key].dtype == tensor.dtype
        assert torch.equal(found[key], tensor), key


def with_header(header, body=b"\0" * 8):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def test_round_trip_keeps_every_bit_and_the_metadata(tmp_path):
    path = tmp_path / "new folder" / "model.safetensors"
    save_tensors(path, TENSORS, {"who": "Zoë", "dmm": '{"format": 1}'})
    file = open_tensors(path)
    assert file.path == path
    assert file.metadata == {"who": "Zoë", "dmm": '{"format": 1}'}
    assert_same_bits(file, TENSORS)
    for key, tensor in TENSORS.items():
        assert file.shape(key) == tuple(tensor.shape)
        assert file.dtype(key) == tensor.dtype
    assert_same_bits(load_file(path), TENSORS)
    assert list(tmp_path.rglob("*.partial")) == []


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_every_dtype_is_written_as_safetensors_writes_it(tmp_path, dtype):
    tensors = {"x": torch.arange(2).to(dtype)}
    save_tensors(tmp_path / "ours", tensors, {})
    save_file(tensors, tmp_path / "theirs")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert open_tensors(tmp_path / "theirs").dtype("x") == dtype


def test_changing_a_tensor_does_not_change_the_file(tmp_path):
    path = tmp_path / "model.safetensors"
    save_tensors(path, {"x": torch.zeros(4)}, {})
    before = path.read_bytes()
    open_tensors(path)["x"].add_(1)
    assert path.read_bytes() == before


def test_whether_a_tensor_is_there_is_told_without_reading_it(tmp_path):
    read = []
    file = TensorFile(tmp_path, {}, {"x": ((4,), torch.float32)}, read.append)
    assert "x" in file
    assert "y" not in file
    assert read == []


def test_a_missing_name_is_a_key_error(tmp_path):
    save_tensors(tmp_path / "a", {"x": torch.zeros(4)}, {})
    with pytest.raises(KeyError):
        open_tensors(tmp_path / "a")["y"]


@pytest.mark.parametrize("zipped", [True, False])
def test_ckpt_state_dict_is_unwrapped_and_other_entries_ignored(tmp_path, zipped):
    content = {"state_dict": {**TENSORS, "epoch": 3}, "global_step": 7}
    path = tmp_path / "old.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    file = open_tensors(path)
    assert_same_bits(file, TENSORS)
    assert file.shape("half") == (3, 5)
    assert file.metadata == {}


@pytest.mark.parametrize("zipped", [True, False])
def test_the_content_tells_the_format_not_the_name(tmp_path, zipped):
    save_tensors(tmp_path / "model.ckpt", TENSORS, {})
    assert_same_bits(open_tensors(tmp_path / "model.ckpt"), TENSORS)
    renamed = tmp_path / "model.safetensors"
    torch.save(TENSORS, renamed, _use_new_zipfile_serialization=zipped)
    assert_same_bits(open_tensors(renamed), TENSORS)


@pytest.mark.parametrize("start", [b"\x80", b"PK"])
def test_a_header_whose_length_looks_like_a_pickle(tmp_path, start):
    length = int.from_bytes(start.ljust(2, b"\x02"), "little")
    header = json.dumps({"__metadata__": {"who": "me"}, **SOUND}).ljust(length)
    path = tmp_path / "model.safetensors"
    path.write_bytes(with_header(header.encode()))
    assert path.read_bytes().startswith(start)
    assert open_tensors(path).metadata == {"who": "me"}
    assert open_tensors(path)["x"].tolist() == [0, 0]


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_not_opened(tmp_path, zipped, capfd):
    path = tmp_path / "evil.ckpt"
    torch.save({"x": Code()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(DmmError, match=r"code \(\w+\.system\).*convert it to \.safetensors"):
        open_tensors(path)
    assert "never" not in capfd.readouterr().out


def test_a_plain_pickle_with_code_is_not_opened(tmp_path, capfd):
    path = tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps(Code()))
    with pytest.raises(DmmError, match="was not opened, because it contains objects, perhaps code"):
        open_tensors(path)
    assert "never" not in capfd.readouterr().out


SOUND = {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
BROKEN = {
    "empty": (b"", r"is empty \(0 bytes\)"),
    "a few bytes": (b"abc", "not a model file"),
    "git-LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "git-LFS pointer"),
    "web page": (b"\n<!DOCTYPE html><html></html>", "web page"),
    "text": (b"a picture of a cat, " * 9, "not a model file"),
    "header longer than the file": (struct.pack("<Q", 5000) + b"{}", "truncated.* 5,008 bytes"),
    "absurd header size": (struct.pack("<Q", 1 << 60) + b"{}", "not a model file"),
    "header is no JSON": (with_header(b"{oops"), "damaged header"),
    "header is no table": (with_header([1, 2]), "damaged header"),
    "entry is no table": (with_header({"x": 7}), "damaged header"),
    "truncated": (with_header(SOUND, b"\0" * 5), "truncated.*the file has"),
    "bytes too many": (with_header(SOUND, b"\0" * 9), "belong to no tensor"),
    "lying shape": (
        with_header({"x": {**SOUND["x"], "shape": [3]}}),
        "lying header",
    ),
    "overlapping": (
        with_header({**SOUND, "y": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}),
        "lying header",
    ),
    "negative offset": (
        with_header({"x": {**SOUND["x"], "data_offsets": [-8, 0]}}),
        "damaged header",
    ),
    "numbers we cannot read": (
        with_header({"x": {"dtype": "F4", "shape": [16], "data_offsets": [0, 8]}}),
        "stores numbers as F4",
    ),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_files_say_what_is_wrong(tmp_path, content, message):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(DmmError, match=message) as caught:
        open_tensors(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_ckpt(tmp_path, zipped):
    path = tmp_path / "model.ckpt"
    torch.save({"x": torch.zeros(1000)}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    for size in (20, 150, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(DmmError, match="damaged or truncated"):
            open_tensors(path)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {"state_dict": {}}])
def test_a_pickle_without_tensors(tmp_path, content):
    path = tmp_path / "model.pt"
    torch.save(content, path)
    with pytest.raises(DmmError, match="no named tensors"):
        open_tensors(path)


def test_a_missing_file_is_answered_with_similar_names(tmp_path):
    save_tensors(tmp_path / "dreamshaper_8.safetensors", {"x": torch.zeros(1)}, {})
    with pytest.raises(DmmError, match=r"Did you mean dreamshaper_8\.safetensors\?"):
        open_tensors(tmp_path / "dreamshaper8.safetensors")
    with pytest.raises(DmmError, match="no folder"):
        open_tensors(tmp_path / "modles" / "dreamshaper_8.safetensors")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(DmmError, match="is a folder"):
        open_tensors(tmp_path)


def test_an_existing_file_is_kept_unless_overwriting_is_allowed(tmp_path):
    path = tmp_path / "model.safetensors"
    save_tensors(path, {"x": torch.zeros(1)}, {})
    before = path.read_bytes()
    with pytest.raises(DmmError, match="exists already"):
        save_tensors(path, {"x": torch.ones(1)}, {})
    assert path.read_bytes() == before
    save_tensors(path, {"x": torch.ones(1)}, {}, overwrite=True)
    assert open_tensors(path)["x"] == 1


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    class Interrupted(dict):
        reads = 0

        def __getitem__(self, key):
            self.reads += 1
            if self.reads > 1:  # the second tensor's bytes; items() told the shapes before
                raise KeyboardInterrupt
            return super().__getitem__(key)

    path = tmp_path / "model.safetensors"
    save_tensors(path, {"x": torch.zeros(1)}, {})
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        save_tensors(path, Interrupted(x=torch.zeros(4), y=torch.zeros(4)), {}, overwrite=True)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.safetensors"]


WRITE_WITHOUT_ROOM = """
import resource, sys, torch
from dmm.tensors import save_tensors
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
save_tensors(sys.argv[1], {"x": torch.zeros(100_000)}, {})
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits on file sizes are a Unix thing")
def test_no_room_names_the_folder_and_the_bytes_and_leaves_nothing(tmp_path):
    path = tmp_path / "model.safetensors"
    run = subprocess.run(
        [sys.executable, "-c", WRITE_WITHOUT_ROOM, path],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    message = rf"DmmError: {re.escape(str(tmp_path))} has no room .* needs 400,\d\d\d bytes"
    assert re.search(message, run.stderr), run.stderr
    assert os.listdir(tmp_path) == []
