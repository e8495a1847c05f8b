"""The primitives from which every figure of the course is drawn: one look, one way to save.

Each takes data (arrays, tensors, lists), draws on ``ax`` or a new figure, and returns the axes. A
notebook writes ``plots.style()`` once, then ``plots.save(plots.lines(...), "07_loss", profile)``;
figures of several panels begin with ``fig, axes = plots.new(rows, columns, height)``."""

import base64
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from PIL import Image

from lib.cms import PIXEL
from lib.data.images import to_numpy as array
from lib.files import write_bytes
from lib.profiles import Profile

Row = Mapping[str, Any]

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


def style() -> None:
    """Set matplotlib's defaults."""
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
        # Few colours are chosen to cover all that occur: by count, thin lines of two colours merge.
        method = Image.Quantize.MAXCOVERAGE if colours < 64 else Image.Quantize.MEDIANCUT
        image = Image.open(buffer).convert("RGB").quantize(
            colours, method, dither=Image.Dither.NONE)
        image.save(buffer := io.BytesIO(), "PNG", optimize=True)
    return buffer.getvalue()


def look(number: int, marks: bool = False) -> dict[str, Any]:
    """Colour and line style of the line with this number; its marker too."""
    kind = number % len(CYCLE)
    return dict(color=CYCLE[kind], ls=LINES[kind]) | (
        dict(marker=MARKS[kind], ms=4) if marks else {})


def lines(curves: Mapping[str, Sequence], xlabel: str = "", ylabel: str = "", *,
          ax: Axes | None = None, log: str = "", marks: bool = False, bars: bool = False,
          first: int = 0, legend: bool = True, **line: Any) -> Axes:
    """Lines, with bands or error bars where an interval is given.

    Args:
        curves: name → (x, y) or (x, y, low, high); NaN leaves a gap.
        log: which axes are logarithmic: "", "x", "y" or "xy".
        marks: a marker at each point. bars: intervals as error bars, not as bands.
        first: number of the first look, see ``look``. line: more for ``Axes.plot``."""
    ax = ax or _one()
    for axis in log:  # before there is something to draw: limits follow
        ax.set(**{f"{axis}scale": "log"})
    for number, (name, curve) in enumerate(curves.items(), first):
        x, y, *ends = map(array, curve)
        drawn = {**look(number, marks), "label": name, **line}
        if bars and ends:
            ax.errorbar(x, y, _errors(y, *ends), **{"elinewidth": 1.2, **drawn})
            continue
        ax.plot(x, y, **drawn)
        if ends:
            ax.fill_between(x, *ends, color=drawn["color"], alpha=0.15, lw=0)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if legend and len(curves) > 1:
        ax.legend()
    return ax


def intervals(series: Mapping[str, Mapping[str, Row | float | None]], label: str = "", *,
              ax: Axes | None = None, value: str = "difference", scale: float = 1.0,
              reference: float | None = 0.0, vertical: bool = False, first: int = 0,
              legend: bool = True, **axis: Any) -> Axes:
    """Values with their intervals, category by category; several series beside each other.

    Args:
        series: name → category → ``{value, low, high[, points]}`` or a plain number; None keeps
            the place free. Categories go from the top, or from the left where ``vertical``.
            ``points`` (single seeds) of a lone series become ticks.
        label: of the axis of values. value: key of the value in a row. scale: factor on values.
        reference: value of the dashed line. axis: more of ``Axes.set``, e.g. ``xscale="log"``."""
    names = list(dict.fromkeys(name for rows in series.values() for name in rows))
    if ax is None:
        ax = _one(2.8 if vertical else (0.22 + 0.05 * len(series)) * len(names) + 0.8)
    gap = min(0.2, 0.7 / max(len(series), 1))
    place, along = ("x", "y") if vertical else ("y", "x")
    for number, (name, rows) in enumerate(series.items()):
        mine = [row for row in names if rows.get(row) is not None]
        at = np.array([names.index(row) for row in mine]) + gap * (number - (len(series) - 1) / 2)
        ends = scale * np.array([ends_of(rows[row], value) for row in mine], float).reshape(-1, 3).T
        drawn = {**look(number + first, True), "ls": "none", "elinewidth": 1.2, "label": name,
                 "mfc": "w" if number + first >= len(CYCLE) else None}
        ax.errorbar(**{place: at, along: ends[0], f"{along}err": _errors(*ends)}, **drawn)
        for centre, row in zip(at, mine) if len(series) == 1 else ():
            points = rows[row].get("points") or [] if isinstance(rows[row], Mapping) else []
            points = [scale * point for point in points if point is not None]
            beside = [centre + (0.25 if vertical else -0.25)] * len(points)
            if len(points) > 1:
                ax.plot(*((beside, points) if vertical else (points, beside)), ls="none",
                        marker="_" if vertical else "|", color=GREY, ms=6)
    if reference is not None:
        (ax.axhline if vertical else ax.axvline)(reference, **RULE)
    limits = (-0.6, len(names) - 0.4)
    ax.set(**{f"{place}ticks": range(len(names)), f"{place}ticklabels": names,
              f"{place}lim": limits if vertical else limits[::-1], f"{along}label": label, **axis})
    if legend and len(series) > 1:
        ax.legend()
    return ax


def histograms(values: Mapping[str, Any], xlabel: str = "", ylabel: str = "density", *,
               bins: Any = 40, ax: Axes | None = None, stat: str = "density", fill: bool = False,
               log: bool = False, first: int = 0, legend: bool = True) -> Axes:
    """Histograms of one quantity, an outline a group, in the same bins. values: name → values.
    bins: their number or their edges. stat: "density" or "count". fill: outlines filled. log:
    entries on a logarithmic axis."""
    import seaborn as sns

    ax = ax or _one(2.5)
    groups = {name: array(found).ravel() for name, found in values.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(groups.values())), bins)
    for number, (name, found) in enumerate(groups.items(), first):
        sns.histplot(x=found, bins=edges, stat=stat, element="step", fill=fill, ax=ax, label=name,
                     alpha=0.35 if fill else 1, **look(number))
    ax.set(xlabel=xlabel, ylabel=ylabel, **({"yscale": "log"} if log else {}))
    if legend and len(values) > 1:
        ax.legend()
    return ax


def images(pictures: Mapping[str, Any], label: str = "", *, ax: Any = None,
           norm: Normalize | None = None, empty: str = EMPTY, bar: bool = True,
           **show: Any) -> np.ndarray:
    """Images of jets, η up and φ right, on one (logarithmic) scale of colours: an array of axes.

    Args:
        pictures: title → (H, W), rows η; what is NaN, or not positive on a logarithmic scale,
            has the colour ``empty``.
        label: of the colour bar; bar: whether there is one. ax: axes to draw on, one a picture.
        show: more for ``Axes.imshow``, e.g. ``extent`` (default: crystals about the centre)."""
    found = {title: array(picture).astype(float) for title, picture in pictures.items()}
    axes = _panels(ax, len(found), 4)
    height, width = (n * PIXEL / 2 for n in next(iter(found.values())).shape)
    extent = show.pop("extent", (-width, width, -height, height))
    if norm is None:
        positive = np.concatenate([picture[picture > 0] for picture in found.values()])
        top = positive.max(initial=1e-3)
        low = max(positive.min(initial=top), top * 1e-4)
        norm = LogNorm(low, max(top, low * 10))
    for panel, (title, picture) in zip(axes.flat, found.items()):
        if isinstance(norm, LogNorm):
            picture = np.where(picture > 0, picture, np.nan)
        panel.set_facecolor(empty)
        shown = panel.imshow(np.ma.masked_invalid(picture), norm=norm, origin="lower",
                             extent=extent, rasterized=True, **show)
        panel.set(title=title, xlabel=r"$\Delta\phi$", ylabel=r"$\Delta\eta$")
        panel.label_outer()
    if bar:
        colourbar(shown, axes, label)
    return axes


def grid_map(maps: Mapping[str, Any], label: str = "", *, ax: Any = None,
             kinds: Mapping[str, str] | None = None, norm: Normalize | None = None,
             empty: str = "w", names=(r"patch along $\phi$", r"patch along $\eta$"),
             square: bool = True, bar: bool = True, **show: Any) -> np.ndarray:
    """Maps of patches or cells (rows, columns), the first row at the bottom: an array of axes.

    Args:
        maps: title → values; NaN has the colour ``empty``. One scale of colours for all.
        kinds: name → colour where values are 0, 1, ... of so many kinds: a legend, no bar.
        label: of the colour bar; bar: whether there is one. ax: axes to draw on, one a map.
        norm: of the values; linear from the lowest to the highest by default.
        names: labels of the horizontal and of the vertical axis.
        square: cells as high as wide. show: more for ``seaborn.heatmap``, e.g. ``cmap``."""
    import seaborn as sns

    found = {title: array(values).astype(float) for title, values in maps.items()}
    axes = _panels(ax, len(found), 3)
    if kinds:
        norm = Normalize(-0.5, len(kinds) - 0.5)
        show = {"cmap": ListedColormap(list(kinds.values())), "linewidths": 0.3,
                "linecolor": "#eeeeee", **show}
    norm = norm or Normalize(min(map(np.nanmin, found.values())),
                             max(map(np.nanmax, found.values())))
    for panel, (title, values) in zip(axes.flat, found.items()):
        panel.set_facecolor(empty)
        sns.heatmap(values, norm=norm, ax=panel, cbar=False, square=square, rasterized=True,
                    xticklabels=False, yticklabels=False, **{"cmap": "cividis", **show})
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(MaxNLocator(5, integer=True))
            axis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:g}"))
        panel.set(title=title, xlabel=names[0], ylabel=names[1], xlim=(0, values.shape[1]),
                  ylim=(0, values.shape[0]))
        panel.label_outer()
    if kinds:
        handles = [Patch(fc=c, ec=GREY, lw=0.4, label=name) for name, c in kinds.items()]
        axes.flat[0].figure.legend(handles=handles, loc="outside lower center", ncols=len(kinds))
    elif bar:
        colourbar(axes.flat[0].collections[0], axes, label)
    return axes


def matrix(values: Any, names: Sequence[str] | int | bool = False, *, ax: Axes | None = None,
           text: Any = False, **show: Any) -> Axes:
    """A square matrix, its first row on top: confusion, correlation, similarity, attention. values:
    (n, n). names: of rows and columns; n: the number of each n-th. text: of the cells. show: more
    for ``seaborn.heatmap``."""
    import seaborn as sns

    ax = ax or _one(3.2, 4.8)
    sns.heatmap(array(values), ax=ax, annot=text, fmt="", square=True, cbar=False, rasterized=True,
                xticklabels=names, yticklabels=names, **{"cmap": COLOURMAP, **show})
    ax.tick_params(length=0, rotation=0)
    return ax


def colourbar(shown: Any, axes: Any, label: str = "", **more: Any) -> Any:
    """A colour bar for what ``imshow`` or ``pcolormesh`` returned, beside all of the axes."""
    axes = [ax for ax in np.atleast_1d(axes).flat if ax.get_visible()]
    more = {"shrink": 0.85, "pad": 0.01, **more}
    return axes[0].figure.colorbar(shown, ax=axes, label=label, **more)


def legend_below(ax: Axes, columns: int = 3) -> None:
    """The legend of one panel below all of them."""
    ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=columns)


def ticks(axis: Any, places: Sequence[float], names: Sequence[str] | None = None) -> None:
    """Ticks of a logarithmic axis (``ax.xaxis``) at these places only, as plain numbers."""
    axis.set_ticks(places, names or [f"{place:g}" for place in places])
    axis.set_minor_locator(NullLocator())


def _one(height: float = 2.6, width: float = WIDTH) -> Axes:
    return new(1, 1, height, width)[1][0, 0]


def _panels(ax: Any, count: int, columns: int) -> np.ndarray:
    """The axes given, or new ones for so many square pictures, at most ``columns`` in a row."""
    if ax is not None:
        return np.atleast_1d(ax)
    columns = min(columns, count)
    rows = -(-count // columns)
    height = rows * (min((WIDTH - 1.1) / columns, 2.4) + 0.25) + 0.4
    axes = new(rows, columns, height, sharex=True, sharey=True)[1]
    for panel in axes.flat[count:]:
        panel.set_visible(False)
    return axes


def ends_of(row: Row | float, value: str) -> tuple[float, float, float]:
    """Value and ends of its interval; where there is none, the value itself."""
    if not isinstance(row, Mapping):
        return row, row, row
    return row[value], *(row[value] if row.get(k) is None else row[k] for k in ("low", "high"))


def _errors(value: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Lengths (2, n) of error bars; a value outside of its interval has none on that side."""
    return np.maximum([value - low, high - value], 0)
