"""One look for every figure, and one way to save it."""

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
BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, GREY = CYCLE = (
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#777777",
)
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (3, 1)), (0, (1, 1)))
MARKS = ("o", "s", "^", "D", "v", "P", "X")
RULE = dict(color=GREY, lw=0.8, ls="--")  # a line to compare with
COLOURMAP, EMPTY = "cividis", "#00224e"  # EMPTY: the map's dark end, where an image holds nothing
WIDTH = 6.3  # inches: the text width of the report
LIMIT = 200_000  # bytes of a file
SHOWN = dict(dpi=110, width=702, panel=201, most=180)  # in a notebook: dots an inch and pixels


def style(shown: float = 0) -> None:
    """Set matplotlib's defaults; shown: share of the usual pixels in a notebook of many figures."""
    if shown:
        SHOWN.update(dpi=110 * shown, width=702 * shown, panel=201 * shown)
    mpl.rcParams.update({
        "axes.prop_cycle": mpl.cycler(color=CYCLE, linestyle=LINES),
        "axes.spines.top": False, "axes.spines.right": False,
        "axes.titlesize": 10, "axes.labelsize": 9, "font.size": 9, "legend.fontsize": 8,
        "xtick.labelsize": 8, "ytick.labelsize": 8,
        "figure.constrained_layout.use": True, "figure.dpi": SHOWN["dpi"],
        "image.cmap": COLOURMAP, "image.interpolation": "nearest",
        "legend.frameon": False, "lines.linewidth": 1.4,
        "pdf.fonttype": 42,  # text stays text
        "svg.hashsalt": "jets",
    })
    _show_small()


def new(rows: int = 1, columns: int = 1, height: float = 2.6, width: float = WIDTH, **more):
    """A figure as wide as the page with its axes as an array (rows, columns)."""
    import matplotlib.pyplot as plt  # first: it tells a notebook how to show figures

    style()
    fig, axes = plt.subplots(rows, columns, figsize=(width, height), layout="constrained",
                             squeeze=False, **more)
    _show_small()  # the first figure of a notebook brings its own way of showing figures
    return fig, axes


def save(drawn, name: str, profile: Profile) -> Path:
    """Write a figure (or that of the axes given) as ``figures/<name>.pdf`` and ``.png``, under
    200 kB each; one figure, the same bytes. Returns the path of the PNG."""
    fig = drawn.figure
    profile.figures_dir.mkdir(parents=True, exist_ok=True)
    # The layout is solved once: solved again it moves by a fraction of a pixel.
    fig.draw_without_rendering()
    fig.set_layout_engine("none")
    path = profile.figures_dir / f"{name}.png"
    # In a PDF the resolution is that of its rasterised parts.
    for kind, tried in {"pdf": ((200, 0), (150, 0), (100, 0), (75, 0)),
                        "png": ((160, 128), (130, 96), (110, 64), (110, 24))}.items():
        image = next((found for dpi, colours in tried
                      if len(found := render(fig, kind, dpi, colours)) <= LIMIT), None)
        if image is None:
            raise ValueError(f"{name}.{kind}: more than {LIMIT:,} bytes; draw fewer panels, points")
        write_bytes(path.with_suffix(f".{kind}"), image)
    return path


def _show_small() -> None:
    """In a notebook, show figures with few colours: a third of the bytes, to the eye the same."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    if (shell := get_ipython()) and "image/png" in shell.display_formatter.formatters:
        formatter = shell.display_formatter.formatters["image/png"]
        formatter.for_type(Figure, lambda fig: base64.b64encode(
            render(fig, "png", shown_dpi(fig), 32)).decode())


def shown_dpi(fig: Figure) -> float:
    """Dots an inch at which the figure and the narrowest of its panels are wide enough."""
    fig.draw_without_rendering()
    panels = [ax.get_position().width for ax in fig.axes
              if ax.get_visible() and ax.get_label() != "<colorbar>"]
    wanted = max(SHOWN["width"] / fig.get_tightbbox().width,
                 SHOWN["panel"] / (min(panels, default=1) * fig.get_figwidth()))
    return float(np.clip(np.ceil(wanted), SHOWN["dpi"], SHOWN["most"]))


def render(fig: Figure, kind: str, dpi: float, colours: int = 128) -> bytes:
    """The figure as a PDF, or as a PNG of so many colours."""
    buffer = io.BytesIO()
    # Neither date nor version: git shows a change only where the figure changed.
    metadata = {"Software": None} if kind == "png" else {
        "CreationDate": None, "Producer": None, "Creator": None}
    fig.savefig(buffer, format=kind, dpi=dpi, metadata=metadata, bbox_inches="tight")
    if kind == "png":
        image = Image.open(buffer).convert("RGB").quantize(colours, dither=Image.Dither.NONE)
        image.save(buffer := io.BytesIO(), "PNG", optimize=True)
    return buffer.getvalue()
