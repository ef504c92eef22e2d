"""MusicXML engraved by Verovio: SVG as it makes it, and PDF or PNG drawn from that SVG.

Verovio writes a small part of SVG, which `_Page` reads and matplotlib draws. So a page needs no font of the machine
(text is set in STIX, which matplotlib brings; notes and signs are Verovio's own outlines) and no library outside
Python.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import verovio
from fontTools.pens.recordingPen import RecordingPen
from fontTools.svgLib.path import parse_path
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextPath, text_to_path
from matplotlib.transforms import Affine2D

from plagal.plumbing.errors import InputError

PAGE_MM = (210.0, 297.0)
"""A4."""
_OPTIONS: dict[str, Any] = {
    "pageWidth": int(PAGE_MM[0] * 10), "pageHeight": int(PAGE_MM[1] * 10), "scale": 40,
    "pageMarginTop": 120, "pageMarginBottom": 100, "pageMarginLeft": 120, "pageMarginRight": 100,
    "breaks": "auto", "footer": "none", "justifyVertically": True, "pedalStyle": "line", "xmlIdSeed": 1,
}  # fmt: skip
"""Lengths in tenths of a millimetre; what stands where is otherwise Verovio's choice."""
_FONT = "Leipzig"
_FILES = {(False, False): "STIXGeneral", (True, False): "STIXGeneralBol", (False, True): "STIXGeneralItalic",
          (True, True): "STIXGeneralBolIta"}  # fmt: skip
"""Bold, italic -> the font of matplotlib."""
_BOLD, _ITALIC = ("ending", "fing", "reh", "tempo"), ("dir", "dynam", "mNum")
"""Classes of groups whose text Verovio's style sheet sets so."""
_XLINK = "{http://www.w3.org/1999/xlink}href"


def svg_pages(document: str) -> list[str]:
    """A page each. Raises InputError for a document that Verovio does not take."""
    verovio.enableLog(verovio.LOG_OFF)
    toolkit = verovio.toolkit(False)
    # Verovio's own default holds for the thread that imported it; services engrave in others.
    toolkit.setResourcePath(str(Path(verovio.__file__).parent / "data"))
    toolkit.setOptions(_OPTIONS)
    # Verovio prints a degree beside the name that says it already, and harmonies that are not to be printed.
    hidden = r'\s*<degree .*?</degree>|\s*<harmony print-object="no">.*?</harmony>'
    document = re.sub(hidden, "", document, flags=re.DOTALL)
    if not toolkit.loadData(document):
        raise InputError("the score cannot be engraved: Verovio does not take its MusicXML")
    return [toolkit.renderToSVG(page) for page in range(1, toolkit.getPageCount() + 1)]


def pdf(pages: Sequence[str], title: str) -> bytes:
    """SVG pages as one PDF of A4 pages; the same pages make the same bytes."""
    buffer = BytesIO()
    metadata = {"Title": title, "Creator": "Plagal", "Producer": None, "CreationDate": None}
    with PdfPages(buffer, metadata=metadata) as file:
        for page in pages:
            file.savefig(_drawn(page))
    return buffer.getvalue()


def png(page: str, dots_per_inch: int = 150) -> bytes:
    buffer = BytesIO()
    _drawn(page).savefig(buffer, format="png", dpi=dots_per_inch, metadata={"Software": None})
    return buffer.getvalue()


def _drawn(svg: str) -> Figure:
    page = _Page(svg)
    width, height = (side / 25.4 for side in PAGE_MM)
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, page.width), ylim=(page.height, 0))
    axes.set_axis_off()
    points = width * 72 / page.width
    for stroke in sorted({stroke for _, stroke, _ in page.shapes}):
        for filled in (True, False):
            paths = [path for path, line, inside in page.shapes if line == stroke and inside == filled]
            if paths:
                axes.add_artist(  # `add_patch` would measure each outline
                    PathPatch(
                        Outline.make_compound_path(*paths), facecolor="black" if filled else "none",
                        edgecolor="black" if stroke else "none", linewidth=stroke * points, capstyle="butt", snap=False,
                    )
                )  # fmt: skip
    return figure


Place = npt.NDArray[np.float64]
"""Shape (3, 3): where a point (h, v, 1) goes."""


def placed(place: Place, transform: str) -> Place:
    """Where points go that an SVG transform moves first, and then `place`."""
    for name, values in re.findall(r"(\w+)\(([^)]*)\)", transform):
        numbers = [float(value) for value in re.findall(r"-?[\d.]+", values)]
        own = Affine2D()
        if name == "rotate":  # an arpeggio is a wave that was laid flat
            angle, *centre = numbers
            across, down = centre or (0.0, 0.0)
            own.rotate_deg_around(across, down, angle)
        elif name == "translate":
            own.translate(numbers[0], sum(numbers[1:]))
        elif name == "scale":
            own.scale(*numbers)
        place = place @ own.get_matrix()
    return place


class _Page:
    """The shapes of one page in its own units: outlines, the width of their stroke, whether they are filled."""

    def __init__(self, svg: str) -> None:
        root = ET.fromstring(svg)  # noqa: S314  # Verovio made it
        inner = next(element for element in root.iter() if _tag(element) == "svg" and element.get("viewBox"))
        self.width, self.height = (float(side) for side in inner.attrib["viewBox"].split()[2:])
        self.symbols = {element.get("id", ""): element for element in root.iter() if element.get("id")}
        self.shapes: list[tuple[Outline, float, bool]] = []
        for element in inner:
            self._read(element, np.eye(3), ())

    def _read(self, element: ET.Element, place: Place, classes: tuple[str, ...]) -> None:
        tag = _tag(element)
        place = placed(place, element.get("transform", ""))
        if tag == "text":
            self._text(element, place, classes)
        elif tag == "use":
            for child in self.symbols[element.get(_XLINK, "").lstrip("#")]:
                self._read(child, place, classes)
        elif tag in ("g", "svg"):
            if "placeholder" in element.get("class", "").split():
                return
            for child in element:
                self._read(child, place, (*classes, *element.get("class", "").split()[:1]))
        elif data := _path_data(element):
            stroke = float(element.get("stroke-width", 0)) * float(np.hypot(*place[:2, 0]))
            filled = element.get("fill-opacity") != "0" and element.get("fill") != "none"
            self.shapes.append((_outline(data, place), stroke, filled))

    def _text(self, element: ET.Element, place: Place, classes: Sequence[str]) -> None:
        bold = any(name in _BOLD for name in classes)
        italic = any(name in _ITALIC for name in classes)
        line: list[tuple[Outline, float]] = []
        x, y, anchor, advance = 0.0, 0.0, "start", 0.0

        def close() -> None:
            shift = {"middle": -advance / 2, "end": -advance}.get(anchor, 0.0)
            for outline, at in line:
                moved = Affine2D().translate(x + at + shift, y) + Affine2D(place)
                self.shapes.append((outline.transformed(moved), 0.0, True))
            line.clear()

        for span, text in _runs(element, {"bold": bold, "italic": italic}):
            if span.get("x") is not None:
                close()
                x, y, advance = float(span["x"]), float(span.get("y", y)), 0.0
            y = float(span.get("y", y))
            anchor = span.get("text-anchor", anchor)
            size = float(str(span.get("font-size", "0px")).removesuffix("px"))
            for outline, width in _letters(text, size, span):
                line.append((outline, advance))
                advance += width
        close()


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _runs(element: ET.Element, style: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """The texts within an element, each with what holds for it; a place is said once."""
    own = style | element.attrib
    own["bold"] = own["bold"] or element.get("font-weight") == "bold"
    own["italic"] = own["italic"] if element.get("font-style") is None else element.get("font-style") == "italic"
    text = re.sub(r"\s+", " ", element.text or "")
    if text.strip() or "x" in own or "y" in own:
        yield own, text if text.strip() else ""
        own = {name: value for name, value in own.items() if name not in ("x", "y")}
    for child in element:
        if _tag(child) == "tspan":
            yield from _runs(child, own)


def _letters(text: str, size: float, style: dict[str, Any]) -> Iterator[tuple[Outline, float]]:
    """Outlines and widths of a text, on its base line."""
    if not text or not size:
        return
    if style.get("font-family") == _FONT:
        for sign in text.strip():
            data, width = _sign(f"{ord(sign):04X}")
            yield _outline(data, np.diag([size / 1000, -size / 1000, 1])), width * size / 1000
        return
    text = text.replace("♭", "b")  # STIX has a sharp and no flat
    name = _FILES[bool(style["bold"]), bool(style["italic"])]
    font = FontProperties(fname=str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"), size=size)
    path = TextPath((0, 0), text, size, font)
    if len(path.vertices):
        yield (
            Outline(path.vertices * (1, -1), path.codes),
            text_to_path.get_text_width_height_descent(text, font, False)[0],
        )


@lru_cache(maxsize=256)
def _sign(code: str) -> tuple[str, float]:
    """The outline of a musical sign within text, and its width, in thousandths of the size."""
    folder = Path(verovio.__file__).parent / "data"
    table = (folder / f"{_FONT}.xml").read_text(encoding="utf-8")
    found = re.search(rf'c="{code}"[^>]*h-a-x="([\d.]+)"', table)
    file = folder / _FONT / f"{code}.xml"
    data = re.search(r' d="([^"]*)"', file.read_text(encoding="utf-8")) if file.is_file() else None
    return data[1] if data else "", float(found[1]) if found else 0.0


_CODES = {"moveTo": Outline.MOVETO, "lineTo": Outline.LINETO, "curveTo": Outline.CURVE4, "qCurveTo": Outline.CURVE3,
          "closePath": Outline.CLOSEPOLY}  # fmt: skip


@lru_cache(maxsize=4096)
def _parsed(data: str) -> tuple[npt.NDArray[np.float64], list[np.uint8]]:
    pen = RecordingPen()
    parse_path(data, pen)
    signs = [(_CODES[sign], points or ((0.0, 0.0),)) for sign, points in pen.value if sign != "endPath"]
    vertices = np.array([point for _, points in signs for point in points]).reshape(-1, 2)
    return vertices, [code for code, points in signs for _ in points]


def _outline(data: str, place: Place) -> Outline:
    vertices, codes = _parsed(data)
    return Outline(vertices @ place[:2, :2].T + place[:2, 2], codes)


def _path_data(element: ET.Element) -> str:
    """What an element draws, as a path."""
    tag, given = _tag(element), element.attrib
    if tag == "path":
        return given["d"]
    if tag in ("polygon", "polyline"):
        points = re.findall(r"-?[\d.]+,-?[\d.]+", given["points"])
        return "M" + " L".join(points) + ("Z" if tag == "polygon" else "")
    if tag == "rect":
        x, y, width, height = (float(given.get(name, 0)) for name in ("x", "y", "width", "height"))
        return f"M{x} {y} H{x + width} V{y + height} H{x} Z"
    if tag == "ellipse":
        x, y, across, down = (float(given[name]) for name in ("cx", "cy", "rx", "ry"))
        return f"M{x - across} {y} A{across} {down} 0 1 0 {x + across} {y} A{across} {down} 0 1 0 {x - across} {y} Z"
    return ""
