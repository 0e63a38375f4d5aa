"""Fetches four open-licensed emoji sets and draws them as captioned pictures.

    python demo/make/art.py FOLDER [--size 64]

leaves ``FOLDER/<style>/<code point>.png`` with a ``.txt`` caption beside each: every concept that
all four sets draw, on white. Captions are Unicode's names and carry no style words. The packages
come through ``npm pack``, and so from whichever registry npm is set up to use; their licences
are in ``demo/ATTRIBUTION.md``.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import resvg_py
from PIL import Image

PACKAGES = {
    "unicode-emoji-json": "0.9.0",
    "@iconify-json/twemoji": "1.2.5",
    "@lobehub/fluent-emoji-3d": "1.1.0",
    "@iconify-json/fluent-emoji-high-contrast": "1.2.6",
    "openmoji": "17.0.0",
}
STYLES = ("twemoji", "fluent-3d", "high-contrast", "openmoji")
SUPERSAMPLING = 4
OPENMOJI_WINDOW = "6 6 60 60"  # of its 72 x 72 grid: the wide margin would cost detail

Draw = Callable[[int], Image.Image]  # pixels a side -> RGBA picture


def fetch_packages(folder: Path, packages: dict[str, str] = PACKAGES) -> dict[str, Path]:
    """Unpacks packages {name: version} into ``folder``, where the next run finds them.

    Returns {name: its folder}.
    """
    npm = shutil.which("npm")
    folder.mkdir(parents=True, exist_ok=True)
    unpacked = {}
    for name, version in packages.items():
        archive = folder / f"{name.lstrip('@').replace('/', '-')}-{version}.tgz"
        if not archive.exists():
            if npm is None:
                raise SystemExit("npm was not found: install Node.js, which brings it, and retry")
            subprocess.run([npm, "pack", f"{name}@{version}", "--silent"], cwd=folder, check=True)
        target = archive.with_suffix("")
        if not target.exists():
            partial = target.with_name(target.name + ".partial")
            with tarfile.open(archive) as tar:
                tar.extractall(partial, filter="data")
            partial.rename(target)
        unpacked[name] = target / "package"
    return unpacked


def code_points(emoji: str) -> str:
    """``"❤️"`` -> ``"2764"``: the hexadecimal code points, the variation selector left out."""
    return "-".join(f"{ord(c):x}" for c in emoji if c != "\ufe0f")


def _canonical(name: str) -> str:
    return "-".join(point for point in name.lower().split("-") if point != "fe0f")


def _draw_svg(svg: str, size: int) -> Image.Image:
    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, skip_system_fonts=True)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def iconify_set(package: Path, named_as: Path | None = None) -> dict[str, Draw]:
    """{code points: draw} of an Iconify package (SVG bodies in ``icons.json``).

    ``named_as`` is another package, whose names for code points hold where a set has none.
    """
    icons = json.loads((package / "icons.json").read_text(encoding="utf-8"))
    slugs = json.loads(((named_as or package) / "chars.json").read_text(encoding="utf-8"))

    def drawer(slug: str) -> Draw:
        icon = icons["icons"][slug]
        width = icon.get("width", icons["width"])
        height = icon.get("height", icons["height"])
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
            f"{icon['body'].replace('currentColor', 'black')}</svg>"
        )
        return lambda size: _draw_svg(svg, size)

    return {_canonical(p): drawer(slug) for p, slug in slugs.items() if slug in icons["icons"]}


def webp_set(folder: Path) -> dict[str, Draw]:
    """{code points: draw} of a folder of square RGBA pictures named by code points."""

    def drawer(path: Path) -> Draw:
        return lambda size: Image.open(path).convert("RGBA").resize((size, size), Image.LANCZOS)

    return {_canonical(path.stem): drawer(path) for path in folder.glob("*.webp")}


def openmoji_set(folder: Path) -> dict[str, Draw]:
    """{code points: draw} of OpenMoji's SVG files, their margin cut off."""

    def drawer(path: Path) -> Draw:
        def draw(size: int) -> Image.Image:
            svg = path.read_text(encoding="utf-8")
            return _draw_svg(svg.replace("0 0 72 72", OPENMOJI_WINDOW, 1), size)

        return draw

    return {_canonical(path.stem): drawer(path) for path in folder.glob("*.svg")}


def open_sets(packages: dict[str, Path]) -> dict[str, dict[str, Draw]]:
    """{style: {code points: draw}}, in the order of ``STYLES``."""
    return {
        "twemoji": iconify_set(packages["@iconify-json/twemoji"]),
        "fluent-3d": webp_set(packages["@lobehub/fluent-emoji-3d"] / "assets"),
        "high-contrast": iconify_set(packages["@iconify-json/fluent-emoji-high-contrast"]),
        "openmoji": openmoji_set(packages["openmoji"] / "color" / "svg"),
    }


def read_captions(package: Path) -> dict[str, str]:
    """{code points: caption}, flags and keycaps (all alike, or all text) left out."""
    emoji = json.loads((package / "data-by-emoji.json").read_text(encoding="utf-8"))
    return {
        code_points(character): entry["name"]
        for character, entry in emoji.items()
        if entry["group"] != "Flags" and "keycap" not in entry["name"]
    }


def on_white(picture: Image.Image, size: int) -> Image.Image:
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB").resize((size, size), Image.BOX)


def draw_pictures(folder: Path, size: int = 64) -> None:
    """Fills ``folder`` with the pictures and captions described above; finished ones are kept."""
    packages = fetch_packages(folder / "packages")
    captions = read_captions(packages["unicode-emoji-json"])
    sets = open_sets(packages)
    shared = [points for points in captions if all(points in drawn for drawn in sets.values())]
    for style, drawn in sets.items():
        (folder / style).mkdir(exist_ok=True)
        for points in shared:
            path = folder / style / f"{points}.png"
            if path.exists():
                continue
            path.with_suffix(".txt").write_text(captions[points] + "\n", encoding="utf-8")
            on_white(drawn[points](size * SUPERSAMPLING), size).save(path)
        print(f"{style}: {len(shared)} pictures in {folder / style}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=64, help="pixels a side")
    arguments = parser.parse_args()
    draw_pictures(arguments.folder, arguments.size)
