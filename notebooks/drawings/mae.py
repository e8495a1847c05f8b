"""Drawings of notebook 05: masked and denoising pretraining."""

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lib.report import plots

HIDDEN = "#b8b8b8"
KINDS = {"empty, in view": "#ffffff", "empty, hidden": "#c9c9c9",
         "holds something, in view": plots.CYCLE[0], "holds something, hidden": "#a6cbe3"}


def square_root(image):
    """Colours that follow the square root, from 0 to the largest value."""
    return PowerNorm(0.5, 0, max(float(np.nanmax(plots.array(image))), 1e-6))


def masks(active, hidden):
    """The patches of one jet under each mask. active (rows, columns): which hold something;
    hidden: title → which of them are covered."""
    kind = {title: 2 * active + covered for title, covered in hidden.items()}
    return plots.grid_map(kind, kinds=KINDS)[0, 0].figure


def reconstructions(rows, unit):
    """Images beside each other: what is there, what the encoder sees, what it makes of it.

    rows: system → title of the column → image (H, W), the same columns for each system; the
    colours go up to the largest value of the first column, NaN is drawn grey: hidden.
    """
    columns = list(next(iter(rows.values())))
    fig, axes = plots.new(len(rows), len(columns), 1.8 * len(rows) + 0.5, sharex=True, sharey=True)
    norm = square_root(np.stack([plots.array(found[columns[0]]) for found in rows.values()]))
    for line, (name, found) in zip(axes, rows.items(), strict=True):
        plots.images(found, ax=line, norm=norm, empty=HIDDEN, bar=False)
        line[0].set_ylabel(f"{name}\n{line[0].get_ylabel()}")
    for ax in axes[1:].flat:
        ax.set_title("")
    plots.colourbar(axes[0, 0].images[0], axes, unit)
    return fig


def losses(panels):
    """Loss curves, each beside what trivial answers would get on the same jets.

    panels: title → (rows of a history, start of its keys): ``val_`` for the objective's own loss,
    ``val_mse`` for the mean square of a two-part answer.
    """
    fig, axes = plots.new(-(-len(panels) // 2), 2, 2.3 * -(-len(panels) // 2))
    for ax, (title, (rows, key)) in zip(axes.flat, panels.items()):
        model, start = ("val_loss", key) if key == "val_" else (key, f"{key}_")
        trivial = {name: f"{start}{name}" for name in ("zero", "mean", "input")}
        update = [row["update"] for row in rows]
        plots.lines({"model": (update, [row[model] for row in rows])}, ax=ax, marks=True)
        plots.lines({name: (update, [row[k] for row in rows]) for name, k in trivial.items()
                     if k in rows[0]}, "update", "loss on held-out jets", ax=ax, log="y", first=1,
                    color=plots.GREY, lw=1)
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set_title(title)
        ax.legend()
    return fig


def probe_curves(curves, flat):
    """AUC of probes through pretraining, beside encoders that have learned nothing.

    curves: system → rows of a history; flat: rival → ``{probe_auc, neighbour_auc}``, drawn as
    lines; one may be missing.
    """
    fig, (axes,) = plots.new(1, 2, 2.8, sharey=True)
    titles = {"probe_auc": "linear probe", "neighbour_auc": "nearest neighbours"}
    for ax, (key, title) in zip(axes, titles.items(), strict=True):
        plots.lines({name: ([r["update"] for r in rows], [r[key] for r in rows])
                     for name, rows in curves.items()}, "update", "", ax=ax, marks=True,
                    legend=False)
        for number, (name, values) in enumerate(flat.items()):
            if key in values:
                ax.axhline(values[key], color=plots.GREY, ls=plots.LINES[2 + number], lw=1,
                           label=name)
        ax.set_title(title)
        ax.set_xlim(0)
    axes[0].set_ylabel("AUC on validation jets")
    plots.legend_below(axes[0], 4)
    return fig
