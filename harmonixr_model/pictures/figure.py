"""Convert a matplotlib figure to SVG text with tooltips, and define the colours of all pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.figure import Figure

# Distinct in grey and for the colour-blind (Okabe and Ito 2008).
LINE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d00", "#444444")
CYCLIC, SEQUENTIAL = colormaps["hsv"], colormaps["viridis"]
_SVG = "http://www.w3.org/2000/svg"


def to_svg(figure: Figure, *, title: str, tooltips: Sequence[tuple[Artist, Sequence[str]]] = ()) -> str:
    """Return the figure as SVG text, the same text for the same figure.

    Args:
        figure: what to draw.
        title: the SVG's accessible title.
        tooltips: collections of markers or bars, with the text of each of their elements in order.
    """
    for number, (artist, _) in enumerate(tooltips):
        artist.set_gid(f"tooltips-{number}")
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "harmonixr", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Title": title})
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(buffer.getvalue())
    for number, (_, texts) in enumerate(tooltips):
        group = root.find(f".//*[@id='tooltips-{number}']")
        elements = [] if group is None else [node for node in group.iter() if node.tag in (f"{{{_SVG}}}use", _PATH)]
        # A collection draws its marker once in <defs> and uses it for each point; bars are paths of their own.
        used = [node for node in elements if node.tag != _PATH] or elements
        for node, text in zip(used, texts, strict=True):
            ElementTree.SubElement(node, f"{{{_SVG}}}title").text = text
    return ElementTree.tostring(root, encoding="unicode") + "\n"


_PATH = f"{{{_SVG}}}path"
