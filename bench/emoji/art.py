"""Eight hands drawing the same things: open-licensed emoji as captioned pictures.

    FOLDER/<style>/<code point>.png and .txt

The packages come through `npm pack`, and so from whichever registry npm is set up to use. Twemoji
and EmojiOne are CC BY 4.0, Noto is under Apache 2.0, Fluent under MIT, OpenMoji under CC BY-SA 4.0:
weights trained on all of them are to be shared as OpenMoji is.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from tqdm import tqdm

from bench.emoji.filters import FILTERS, Filter
from demo.make import art

PACKAGES = art.PACKAGES | {
    "@iconify-json/noto": "1.2.9",
    "@iconify-json/fluent-emoji-flat": "1.2.6",
    "@iconify-json/emojione": "1.2.3",
}
HELD_OUT = 10  # every tenth concept
BLANK = ("white large square", "NEW button")  # in one set or another, on white


def draw(
    folder: Path, wanted: Collection[str] | None = None, restyled: bool = False, size: int = 64
) -> list[str]:
    """Draws every concept that all eight sets have; gives the styles' names.

    Pictures that are there already are kept.

    Args:
        wanted: captions; None = all.
        restyled: whether Twemoji's are drawn through each filter, too.
    """
    packages = art.fetch_packages(folder / "packages", PACKAGES)
    openmoji = packages["openmoji"]
    sets = art.open_sets(packages) | {
        "noto": art.iconify_set(packages["@iconify-json/noto"]),
        "fluent-flat": art.iconify_set(packages["@iconify-json/fluent-emoji-flat"]),
        "emojione": art.iconify_set(
            packages["@iconify-json/emojione"], named_as=packages["@iconify-json/twemoji"]
        ),
        "openmoji-black": art.openmoji_set(openmoji / "black" / "svg"),
    }
    captions = art.read_captions(packages["unicode-emoji-json"])
    shared = [
        points
        for points, caption in captions.items()
        if caption not in BLANK
        and (wanted is None or caption in wanted)
        and all(points in drawn for drawn in sets.values())
    ]
    if restyled:
        plain = sets["twemoji"]
        sets |= {f"twemoji-{name}": _seen_through(one, plain) for name, one in FILTERS.items()}
    with tqdm(total=len(sets) * len(shared), desc="Drawing", unit="picture") as bar:
        for style, drawn in sets.items():
            (folder / style).mkdir(exist_ok=True)
            for points in shared:
                bar.update()
                path = folder / style / f"{points}.png"
                if path.exists():
                    continue
                path.with_suffix(".txt").write_text(captions[points] + "\n", encoding="utf-8")
                art.on_white(drawn[points](size * art.SUPERSAMPLING), size).save(path)
    return list(sets)


def _seen_through(restyle: Filter, drawn: dict[str, art.Draw]) -> dict[str, art.Draw]:
    def drawer(draw: art.Draw) -> art.Draw:
        return lambda size: restyle(art.on_white(draw(size), size)).convert("RGBA")

    return {points: drawer(draw) for points, draw in drawn.items()}


def split(captions: list[str]) -> tuple[list[str], list[str]]:
    """Captions to learn, and those held out."""
    unseen = captions[::HELD_OUT]
    return [caption for caption in captions if caption not in set(unseen)], unseen
