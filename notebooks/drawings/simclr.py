"""Drawings of notebook 04: views of a jet, the monitor of collapse, features in a plane."""

import textwrap

import numpy as np
from matplotlib.colors import LogNorm

from lib.cms import PIXEL
from lib.report import plots


def views(images, columns=4):
    """Jets in 8-bit levels, title → (8, H, W): calorimeters as colours, pixel layers as grey and
    tracks as white dots."""
    rows = -(-len(images) // columns)
    fig, axes = plots.new(rows, columns, 1.95 * rows)
    for ax in axes.flat[len(images):]:
        ax.set_visible(False)
    for ax, (title, image) in zip(axes.flat, images.items()):
        image = plots.array(image)
        half = image.shape[-1] * PIXEL / 2
        plots.images({"": image[3] + image[4]}, ax=ax, norm=LogNorm(1, 255), bar=False)
        ax.set_title("\n".join(textwrap.wrap(title, 22)), fontsize=8)
        for layers, colour, size in ((image[5:8], "#a0a0a0", 0.35), (image[:1], "white", 3.5)):
            row, column = np.nonzero(layers.sum(0))
            level = layers.sum(0)[row, column] / 255
            ax.scatter((column + 0.5) * PIXEL - half, (row + 0.5) * PIXEL - half, lw=0,
                       s=size * (0.3 + level), color=colour, rasterized=True)
        ax.set(xlim=(-half, half), ylim=(-half, half), xticks=(), yticks=(), xlabel="", ylabel="")
        ax.spines[:].set_visible(False)
    return fig


def monitor(history, chance, start, best):
    """What the monitor of collapse saw, against updates.

    history: rows of ``fit`` with those of ``lib.evaluation.probes.Monitor``; chance: loss of a
    guess; start: the monitor before the first update; best: update kept.
    """
    panels = {"loss": {"training": "loss", "validation": "val_loss"},
              "partner found": {"training": "match", "validation": "val_match"},
              "AUC of the probes": {"linear": "probe_auc", "neighbours": "neighbour_auc"},
              "feature std": {"": "feature_std"}, "effective rank": {"": "effective_rank"},
              "mean cosine": {"": "mean_cosine"}}
    fig, axes = plots.new(2, 3, 4.0, 7.0, sharex=True)
    for ax, (title, keys) in zip(axes.flat, panels.items()):
        points = {name: [(row["update"], row[key]) for row in ({"update": 0, **start}, *history)
                         if row.get(key) is not None] for name, key in keys.items()}
        plots.lines({name: zip(*found) for name, found in points.items() if found}, "", title,
                    ax=ax, marker=".")
        ax.axvline(best, **plots.RULE | dict(ls=":"))
    axes[0, 0].axhline(chance, **plots.RULE)
    for ax in axes[1]:
        ax.set_xlabel("update")
    return fig


def embeddings(rows, label, mass, pt):
    """Jets in a plane, a row an encoder, coloured by class, mass and transverse momentum.

    rows: encoder → ``{plane (N, 2), auc, mass, pt}``: t-SNE, AUC of a linear probe of the class
    and R² of linear ones of mass and pT; label (N,) of 0 and 1; mass, pt (N,) in GeV.
    """
    fig, axes = plots.new(len(rows), 3, 2.15 * len(rows) + 0.4)
    for line, (name, row) in zip(axes, rows.items()):
        x, y = plots.array(row["plane"]).T
        for value, marker, text in ((0, "o", "QCD"), (1, "^", "top")):
            mine = plots.array(label) == value
            line[0].scatter(x[mine], y[mine], s=5, lw=0, marker=marker, label=text, alpha=0.8,
                            color=plots.CYCLE[value])
        line[0].set_title(f"class, probe AUC {row['auc']:.3f}", fontsize=9)
        line[0].set_ylabel(name)
        for column, values, unit in ((1, mass, "mass"), (2, pt, "pt")):
            low, high = np.quantile(plots.array(values), [0.02, 0.98])
            shown = line[column].scatter(x, y, c=values, s=5, lw=0, vmin=low, vmax=high)
            text = unit.replace("pt", "$p_T$")
            line[column].set_title(f"{text}, probe R² {row[unit]:.2f}", fontsize=9)
            if line[0] is axes[-1, 0]:
                plots.colourbar(shown, axes[:, column], f"{text} (GeV)", location="bottom",
                                pad=0.02, aspect=30)
    for ax in axes.flat:
        ax.set(xticks=(), yticks=())
        ax.spines[:].set_visible(False)
    axes[0, 0].legend(markerscale=2, handletextpad=0)
    return fig


def lengths(found, names, published):
    """A probe's lead over random encoders against the jets seen in pretraining.

    found: arm → (jets, row of a difference); names: arm → label; published: jets of R1.
    """
    fig, ((ax,),) = plots.new(1, 1, 3.2, 5.4)
    for number, (name, (jets, row)) in enumerate(found.items()):
        low, middle, high = (row[k] for k in ("low", "difference", "high"))
        ax.errorbar(jets * 1.06 ** (number - len(found) / 2), middle,
                    [[middle - low], [high - middle]], label=names[name], capsize=2,
                    **plots.look(number, True) | {"ls": ""})
    ax.axvline(published, **plots.RULE | dict(ls=":"))
    ax.axhline(0, **plots.RULE)
    ax.annotate("R1", (published, 0.96), (-3, 0), xycoords=("data", "axes fraction"), ha="right",
                va="top", textcoords="offset points")
    ax.set(xscale="log", xlabel="jets seen in pretraining", ylabel="AUC minus random encoders")
    plots.legend_below(ax, 2)
    return fig
