"""What users have, good and bad: picture folders, webdataset shards, prompt files."""

from __future__ import annotations

import io
import json
import os
import tarfile

import numpy as np
import pytest
import webdataset
from PIL import Image

from dmm.errors import DmmError
from trainer.data import PictureFolder, Prompts, WebdatasetShards, fit

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def halves(left, right, size=(8, 4), mode="RGB"):
    picture = Image.new(mode, size, left)
    picture.paste(right, (size[0] // 2, 0, *size))
    return picture


def add(folder, name, caption, picture=None, **save):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture or Image.new("RGB", (4, 4), RED)).save(path, **save)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


def encoded(picture, suffix="PNG"):
    buffer = io.BytesIO()
    picture.save(buffer, suffix)
    return buffer.getvalue()


# --- folders -------------------------------------------------------------------------------------


def test_folder_in_order_with_captions(tmp_path):
    add(tmp_path, "b.PNG", "second\n line ")
    add(tmp_path, "a/z.webp", "\ufeffnaïve café", lossless=True)
    add(tmp_path, "c.bmp", "")
    add(tmp_path, "d.jpeg", "last", quality=100)
    (tmp_path / "._b.PNG").write_bytes(b"what macOS leaves on foreign disks")
    (tmp_path / "notes.md").write_text("no picture")
    folder = PictureFolder(tmp_path)
    assert list(zip(folder.keys, folder.captions, strict=True)) == [
        ("a/z.webp", "naïve café"),
        ("b.PNG", "second line"),
        ("c.bmp", ""),
        ("d.jpeg", "last"),
    ]
    for row in range(len(folder)):
        picture = folder.picture(row)
        assert picture.mode == "RGB"
        assert np.abs(np.asarray(picture, int) - RED).max() <= 2


def test_exif_turns_the_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera stood on its side: turn by 90° clockwise
    add(tmp_path, "a.png", "", halves(RED, BLUE), exif=exif)
    picture = PictureFolder(tmp_path).picture(0)
    assert picture.size == (4, 8)
    assert (picture.getpixel((1, 0)), picture.getpixel((1, 7))) == (RED, BLUE)


def test_transparency_lies_on_white(tmp_path):
    add(tmp_path, "a.png", "", halves((*RED, 255), (*RED, 0), mode="RGBA"))
    add(tmp_path, "b.png", "", halves((*RED, 51), (*RED, 255), mode="RGBA"))
    palette = halves(RED, BLUE).convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
    add(tmp_path, "c.png", "", palette, transparency=palette.getpixel((7, 0)))
    opaque, faint, indexed = map(PictureFolder(tmp_path).picture, range(3))
    assert (opaque.getpixel((0, 0)), opaque.getpixel((7, 0))) == (RED, WHITE)
    assert (faint.getpixel((0, 0)), faint.getpixel((7, 0))) == ((255, 204, 204), RED)
    assert (indexed.getpixel((0, 0)), indexed.getpixel((7, 0))) == (RED, WHITE)


def test_sixteen_bit_grey_keeps_its_levels(tmp_path):
    levels = np.array([[0, 257 * 100, 65535]], dtype=np.uint16)
    add(tmp_path, "a.png", "", Image.fromarray(levels))
    picture = PictureFolder(tmp_path).picture(0)
    assert np.asarray(picture)[0, :, 0].tolist() == [0, 100, 255]


@pytest.mark.parametrize("size", [(24, 8), (12, 4), (48, 16)])
def test_fit_scales_and_cuts_both_ends(size):
    width, height = size
    picture = Image.new("RGB", size, GREEN)
    picture.paste(RED, (0, 0, width // 3, height))
    picture.paste(BLUE, (2 * width // 3, 0, width, height))
    fitted = fit(picture, (8, 8))
    assert fitted.size == (8, 8)
    assert (np.asarray(fitted).argmax(axis=-1) == 1).all()


def test_folder_fingerprint_changes_with_pictures_and_captions(tmp_path):
    path = add(tmp_path, "a.png", "one")
    seen = {PictureFolder(tmp_path).fingerprint}
    assert PictureFolder(tmp_path).fingerprint in seen
    path.with_suffix(".txt").write_text("two", encoding="utf-8")
    seen.add(PictureFolder(tmp_path).fingerprint)
    os.utime(path, (1, 1))
    seen.add(PictureFolder(tmp_path).fingerprint)
    add(tmp_path, "b.png", "three")
    seen.add(PictureFolder(tmp_path).fingerprint)
    assert len(seen) == 4


def test_no_folder(tmp_path):
    with pytest.raises(DmmError, match=r"no folder .*pictures"):
        PictureFolder(tmp_path / "pictures")


def test_empty_folder_says_what_is_there(tmp_path):
    with pytest.raises(DmmError, match="found no files at all"):
        PictureFolder(tmp_path)
    for number in range(12):
        (tmp_path / f"{number}.HEIC").touch()
    (tmp_path / "caption.txt").touch()
    with pytest.raises(DmmError, match=r"\.webp.*found 12 \.heic files, 1 \.txt files"):
        PictureFolder(tmp_path)


def test_missing_captions_are_counted(tmp_path):
    for name in "abcde":
        add(tmp_path, f"{name}.png", "a letter" if name == "c" else None)
    with pytest.raises(DmmError, match=r"4 of 5 .*\(a.png, b.png, d.png …\).*\.txt beside"):
        PictureFolder(tmp_path)


def test_caption_in_another_encoding(tmp_path):
    add(tmp_path, "a.png", None)
    (tmp_path / "a.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(DmmError, match=r"a\.txt is not UTF-8"):
        PictureFolder(tmp_path)


@pytest.mark.parametrize("damage", ["text", "truncated", "empty"])
def test_broken_picture_is_named(tmp_path, damage):
    path = add(tmp_path, "a.png", "", Image.effect_noise((64, 64), 50))
    data = path.read_bytes()
    path.write_bytes({"text": b"not found", "truncated": data[:2000], "empty": b""}[damage])
    with pytest.raises(DmmError, match=r"a\.png cannot be read"):
        PictureFolder(tmp_path).picture(0)


# --- webdataset shards ---------------------------------------------------------------------------


def write_shards(tmp_path, count=5, per_shard=2):
    colours = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    pattern = (tmp_path / "data-%03d.tar").as_posix()
    with webdataset.ShardWriter(f"file:{pattern}", maxcount=per_shard, verbose=0) as writer:
        for number, colour in enumerate(colours):
            caption = {"json": {"caption": f"number {number}", "width": 4}}
            if number % 2:
                caption = {"txt": f"number {number}"}
            picture = {"png": encoded(Image.fromarray(colour))}
            writer.write({"__key__": f"{number:06d}", **picture, **caption})
    return colours


@pytest.mark.parametrize("spelled", ["{000..002}.tar", "*.tar"])
def test_shards_hold_what_webdataset_reads(tmp_path, spelled):
    colours = write_shards(tmp_path)
    source = WebdatasetShards(f"{tmp_path}{os.sep}data-{spelled}")
    urls = [f"file:{path.as_posix()}" for path in source.paths]
    reference = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    assert len(source) == len(reference) == 5
    for row, (expected, colour) in enumerate(zip(reference, colours, strict=True)):
        assert source.keys[row].endswith("/" + expected["__key__"])
        caption = expected["txt"] if "txt" in expected else expected["json"]["caption"]
        assert source.captions[row] == caption
        picture = np.asarray(source.picture(row))
        assert np.array_equal(picture, expected["png"])
        assert np.array_equal(picture, colour)


def test_shards_in_any_order_and_as_a_list(tmp_path):
    colours = write_shards(tmp_path)
    source = WebdatasetShards(sorted(tmp_path.glob("*.tar")))
    for index in (4, 0, 3):
        assert np.array_equal(np.asarray(source.picture(index)), colours[index])


def test_shards_fingerprint(tmp_path):
    write_shards(tmp_path)
    pattern = str(tmp_path / "*.tar")
    fingerprint = WebdatasetShards(pattern).fingerprint
    assert WebdatasetShards(pattern).fingerprint == fingerprint
    os.utime(tmp_path / "data-001.tar", (1, 1))
    assert WebdatasetShards(pattern).fingerprint != fingerprint


def test_no_shard(tmp_path):
    with pytest.raises(DmmError, match=r"no shard .*x-001\.tar"):
        WebdatasetShards(str(tmp_path / "x-{001..003}.tar"))


@pytest.mark.parametrize("damage", ["text", "truncated", "compressed"])
def test_damaged_shard_is_named(tmp_path, damage):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w:gz" if damage == "compressed" else "w") as tar:
        for name, data in {"a.png": b"x" * 5000, "a.txt": b"a"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    if damage == "text":
        path.write_text("<html>" * 200)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DmmError, match=r"a\.tar cannot be read as an uncompressed tar"):
        WebdatasetShards(path)


def write_tar(path, files):
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_shards_without_captions_or_pictures(tmp_path):
    picture = encoded(Image.new("RGB", (4, 4)))
    meta = json.dumps({"width": 4}).encode()
    files = {"a.png": picture, "a.json": meta, "b.jpg": picture, "c.png": picture, "c.txt": b"c"}
    with pytest.raises(DmmError, match=r"2 of 3 .*\(some\.tar/a, some\.tar/b\)"):
        WebdatasetShards(write_tar(tmp_path / "some.tar", files))
    with pytest.raises(DmmError, match=r"none\.tar: no pictures in 1 shards"):
        WebdatasetShards(write_tar(tmp_path / "none.tar", {"a.txt": b"a", "a.mp4": b"a"}))


def test_broken_things_in_a_shard_are_named(tmp_path):
    broken = WebdatasetShards(write_tar(tmp_path / "x.tar", {"a.png": b"no", "a.txt": b"a"}))
    with pytest.raises(DmmError, match=r"x\.tar: the picture x\.tar/a cannot be read"):
        broken.picture(0)
    with pytest.raises(DmmError, match=r"a\.json is no valid JSON"):
        WebdatasetShards(write_tar(tmp_path / "y.tar", {"a.png": b"no", "a.json": b"{"}))


# --- prompts -------------------------------------------------------------------------------------


def test_prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("\ufeff# animals\n a cat \r\n\n#dogs\nein Käfer #3\n", encoding="utf-8")
    prompts = Prompts(path)
    assert prompts.keys == ["2", "5"]
    assert prompts.captions == ["a cat", "ein Käfer #3"]
    assert len(prompts) == 2 and prompts.picture(0) is None
    fingerprint = prompts.fingerprint
    path.write_text("a cat\nein Käfer #3", encoding="utf-8")
    assert Prompts(path).fingerprint == fingerprint
    path.write_text("ein Käfer #3\na cat", encoding="utf-8")
    assert Prompts(path).fingerprint != fingerprint


def test_prompts_that_are_none(tmp_path):
    with pytest.raises(DmmError, match=r"no file .*prompts"):
        Prompts(tmp_path / "prompts.txt")
    (tmp_path / "prompts.txt").write_text("\n# nothing\n")
    with pytest.raises(DmmError, match="holds no prompts"):
        Prompts(tmp_path / "prompts.txt")
    (tmp_path / "prompts.txt").write_bytes("Käfer".encode("utf-16"))
    with pytest.raises(DmmError, match="not UTF-8"):
        Prompts(tmp_path / "prompts.txt")
