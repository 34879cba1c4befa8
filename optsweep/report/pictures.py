"""Figures as files, and as parts of a page that decides their colours."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from PIL import Image

from optsweep.report.drawing import COLOUR_NAMES, FAINT, INK, PAPER, style
from optsweep.runs import write_atomically

# Of matplotlib's SVG, what a page has no use for; its style element would be the whole page's.
_LEFT_OUT = re.compile(
    r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->| transform=\"rotate\(-0 [^\"]*\"",
    re.DOTALL,
)

_NONE = Image.Dither.NONE


@dataclass(frozen=True)
class Picture:
    """A figure with its name, which is its file's stem, and a caption."""

    name: str
    figure: Figure
    caption: str


@dataclass(frozen=True)
class SavedPicture:
    """A picture that was written; `svg` is for a page, and takes the page's ink and paper."""

    name: str
    caption: str
    svg: str


def save(picture: Picture, folder: Path, as_png: bool = True) -> SavedPicture:
    """Write a picture as SVG, and as PNG too or not, which takes as long again."""
    text = _svg(picture)
    if as_png:
        write_atomically(folder / f"{picture.name}.png", png(picture))
    write_atomically(folder / f"{picture.name}.svg", text)
    return SavedPicture(picture.name, picture.caption, inline(text, picture.name))


def svg_of(picture: Picture) -> str:
    """A picture as a part of a page."""
    return inline(_svg(picture), picture.name)


def _svg(picture: Picture) -> str:
    with style(), mpl.rc_context({"svg.hashsalt": picture.name}):
        if layout := picture.figure.get_layout_engine():
            layout.execute(picture.figure)
            picture.figure.set_layout_engine("none")  # done: it need not be found twice
        buffer = io.StringIO()
        picture.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = re.sub(r' (?:d|x|y|points)="[^"]*"', _rounded, buffer.getvalue())
    return re.sub(r"\s*\n\s*", "\n", text).replace("xlink:href", "href")


def png(picture: Picture) -> bytes:
    """A picture as the bytes of a PNG file of few colours."""
    pixels, few = io.BytesIO(), io.BytesIO()
    with style():
        picture.figure.savefig(pixels, format="png", pil_kwargs={"compress_level": 0})
    # A third of the bytes; octrees keep a line's colour, which median cuts mix with its neighbours.
    image = Image.open(pixels).convert("RGB").quantize(128, Image.Quantize.FASTOCTREE, dither=_NONE)
    image.save(few, format="png", optimize=True)
    return few.getvalue()


def _rounded(attribute: re.Match[str]) -> str:
    """Coordinates to a hundredth of a point, which nobody can see."""
    return re.sub(r"(\.\d\d)\d+", r"\1", attribute[0])


def inline(svg: str, name: str) -> str:
    """An SVG file's text as a part of a page: ids of its own, looks that the page decides."""
    text = _LEFT_OUT.sub("", svg[svg.index("<svg") :])
    text = re.sub(r'(<svg[^>]*?) width="[^"]*pt" height="[^"]*pt"', r'\1 role="img"', text, count=1)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)
    text = text.replace("font-family: 'DejaVu Sans', sans-serif; ", "")
    text = (
        text.replace(PAPER, "var(--raised)")
        .replace(FAINT, "var(--faint)")
        .replace(INK, "currentColor")
    )
    for colour, variable in COLOUR_NAMES.items():
        text = text.replace(colour, f"var(--{variable})")
    return text
