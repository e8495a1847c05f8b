"""One look for every figure, and one way to save it."""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from lib.files import write_bytes
from lib.profiles import Profile

# Okabe and Ito's colours, which the colour-blind tell apart; lines differ in style as well.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#777777",
)
CYCLE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, GREY)
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (3, 1)), (0, (1, 1)))
COLOURMAP = "cividis"
QCD, TOP = BLUE, VERMILION
WIDTH = 6.3  # inches: the text width of the report
LIMIT = 200_000  # bytes
COLOURS = 128  # of a PNG
_shown = {"dpi": 100}  # in a notebook


def style(dpi: int | None = None) -> None:
    """Set matplotlib's defaults; once at the top of a notebook.

    dpi: of the figures that a notebook shows, for one with so many that it would be too large.
    """
    _shown["dpi"] = dpi or _shown["dpi"]
    mpl.rcParams.update({
        "axes.prop_cycle": mpl.cycler(color=CYCLE, linestyle=LINES),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "axes.labelsize": 9,
        "figure.constrained_layout.use": True,
        "figure.dpi": 100,
        "font.size": 9,
        "image.cmap": COLOURMAP,
        "image.interpolation": "nearest",
        "legend.fontsize": 8,
        "legend.frameon": False,
        "lines.linewidth": 1.4,
        "pdf.fonttype": 42,  # text stays text
        "svg.hashsalt": "jets",
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
    })
    _show_small()


def _show_small() -> None:
    """In a notebook, show figures with few colours: a third of the bytes, to the eye the same."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    if (shell := get_ipython()) and "image/png" in shell.display_formatter.formatters:
        formatter = shell.display_formatter.formatters["image/png"]
        formatter.for_type(Figure, lambda fig: base64.b64encode(
            _render(fig, "png", _shown["dpi"])).decode())


def save(fig: Figure, name: str, profile: Profile) -> Path:
    """Write ``figures/<name>.pdf`` and ``.png`` (under 200 kB each); one figure, the same bytes.

    Returns:
        the path of the PNG.
    """
    folder = profile.figures_dir
    folder.mkdir(parents=True, exist_ok=True)
    # The layout is solved once: solved again it moves by a fraction of a pixel.
    fig.draw_without_rendering()
    fig.set_layout_engine("none")
    path = folder / f"{name}.png"
    # In a PDF the resolution is that of its rasterised parts.
    for kind, tried in {"pdf": (200, 150, 100), "png": (160, 120, 90, 60)}.items():
        for dpi in tried:
            image = _render(fig, kind, dpi)
            if len(image) <= LIMIT:
                break
        write_bytes(path.with_suffix(f".{kind}"), image)
    return path


def _render(fig: Figure, kind: str, dpi: int) -> bytes:
    buffer = io.BytesIO()
    # Neither date nor version: git shows a change only where the figure changed.
    metadata = {"CreationDate": None, "Producer": None, "Creator": None}
    if kind == "png":
        metadata = {"Software": None}
    fig.savefig(buffer, format=kind, dpi=dpi, metadata=metadata, bbox_inches="tight")
    if kind == "png":
        image = Image.open(buffer).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def new(rows: int = 1, columns: int = 1, height: float = 2.6, width: float = WIDTH, **more):
    """A figure as wide as the page with its axes as an array (rows, columns)."""
    import matplotlib.pyplot as plt  # first: it tells a notebook how to show figures

    style()
    fig, axes = plt.subplots(
        rows, columns, figsize=(width, height), layout="constrained", squeeze=False, **more
    )
    _show_small()  # the first figure of a notebook brings its own way of showing figures
    return fig, axes


def array(values) -> np.ndarray:
    """Arrays, tensors and lists alike."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
