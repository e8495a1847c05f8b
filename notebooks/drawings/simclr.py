"""Drawings of notebooks 04 and 18: views of a jet, the monitor of collapse, features in a plane, a design."""

import textwrap

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import ListedColormap, LogNorm

from lib.cms import PIXEL
from lib.report import plots
from lib.report.plots import COLOURMAP

FLOOR = ListedColormap(["#00224e", "#0c2c56", "#1c3963", "#31496f"])
STEPS = colormaps[COLOURMAP].resampled  # few colours are few bytes


def views(images, columns=3):
    """Jets in 8-bit levels, title → (8, H, W): calorimeters as colours, tracks as white dots, and
    under them the hits of the pixel layers as a faint floor, summed in blocks of 5 × 5 pixels."""
    rows = -(-len(images) // columns)
    fig, axes = plots.new(rows, columns, 2.3 * rows)
    for ax in axes.flat[len(images):]:
        ax.set_visible(False)
    for ax, (title, image) in zip(axes.flat, images.items()):
        image = plots.array(image)
        half = image.shape[-1] * PIXEL / 2
        plots.images({"": image[3] + image[4]}, ax=ax, norm=LogNorm(1, 255), bar=False)
        floor = image[5:8].sum(0).reshape(*(n for size in image.shape[1:] for n in (size // 5, 5)))
        ax.imshow(np.digitize(floor.sum((1, 3)), (1, 120, 400)), cmap=FLOOR, vmin=0, vmax=3,
                  origin="lower", extent=(-half, half, -half, half), zorder=-1, rasterized=True)
        row, column = np.nonzero(image[0])
        ax.scatter((column + 0.5) * PIXEL - half, (row + 0.5) * PIXEL - half, s=2.6, lw=0,
                   color="white", antialiased=False, rasterized=True)
        ax.set_title("\n".join(textwrap.wrap(title, 26)), fontsize=8)
        ax.set(xlim=(-half, half), ylim=(-half, half), xticks=(), yticks=(), xlabel="", ylabel="")
        ax.spines[:].set_visible(False)
    return fig


def symmetry(found, names):
    """AUC of telling changed from original jets, with intervals, a panel an encoding.

    found: encoding → change → classifier → row; names: change → label, in the order of the rows.
    """
    fig, (axes,) = plots.new(1, len(found), 0.24 * len(names) + 1, 7.0, sharey=True)
    for ax, (encoding, rows) in zip(np.atleast_1d(axes), found.items()):
        plots.intervals({kind: {names[n]: rows[n].get(kind) for n in names}
                         for kind in ("trees", "transformer")},
                        "AUC, changed against original", value="mean", ax=ax,
                        reference=0.5, xlim=(0.4, 1.02), title=encoding)
    return fig


def collapse(runs):
    """Spread and effective rank of vectors while three encoders are trained. runs: name → lists
    ``update``, ``feature_std`` and ``effective_rank``."""
    fig, (axes,) = plots.new(1, 2, 2.4, sharex=True)
    for ax, key in zip(axes, ("feature_std", "effective_rank")):
        plots.lines({name: (found["update"], found[key]) for name, found in runs.items()},
                    "update", key.replace("_", " "), ax=ax, legend=False)
        ax.set_ylim(0)
    plots.legend_below(ax, 3)
    return fig


def cosines(found):
    """Cosines of all pairs of views in steps of 0.2: title → (2B, 2B), the partner B places on."""
    fig, (axes,) = plots.new(1, len(found), 3.0, sharey=True)
    for ax, (name, cosine) in zip(axes, found.items()):
        plots.matrix(cosine, 12, ax=ax, vmin=-1, vmax=1, cmap=STEPS(10),
                     mask=np.eye(len(cosine), dtype=bool))
        ax.set(title=name, xlabel="view", ylabel="view")
    plots.colourbar(ax.collections[0], axes, "cosine")
    return fig


def moved(found, names, starred):
    """How far changes move the features of two encoders, different jets: 1. found: encoder →
    change → distance; names: change → label; starred: the changes of the pretraining."""
    return plots.intervals({
        encoder: {f"{'* ' if n in starred else ''}{names[n]}": rows[n] for n in rows}
        for encoder, rows in found.items()},
        "mean squared distance, different jets: 1", reference=1, xscale="log").figure


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
        for value, text in enumerate(("QCD", "top")):
            mine = plots.array(label) == value
            line[0].scatter(x[mine], y[mine], s=5, lw=0, marker="s", label=text,
                            color=plots.CYCLE[value], antialiased=False)
        line[0].set_title(f"class, probe AUC {row['auc']:.3f}", fontsize=9)
        line[0].set_ylabel(name)
        for column, values, unit in ((1, mass, "mass"), (2, pt, "pt")):
            low, high = np.quantile(plots.array(values), [0.02, 0.98])
            shown = line[column].scatter(x, y, c=values, s=5, lw=0, vmin=low, vmax=high,
                                         marker="s", cmap=STEPS(6), antialiased=False)
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


def design(signs, names):
    """Which settings are on (+1) in which training: (trainings, settings), one name a setting."""
    fig, ((ax,),) = plots.new(1, 1, 3.4, 4.8)
    plots.grid_map({"": signs > 0}, ax=ax, kinds={"off": "#e8e8e8", "on": plots.CYCLE[0]},
                   square=False, names=("view", "pretraining"), linewidths=1, linecolor="w")
    ax.set_xticks(np.arange(len(names)) + 0.5, names, rotation=35, ha="right")
    ax.set_yticks(np.arange(len(signs)) + 0.5, range(len(signs)))
    ax.set_ylim(len(signs), 0)
    return fig


def fitted(sums, measured, expected, half, outside):
    """Measured scores against the sums of effects; ``expected`` ± ``half`` and the scores
    ``outside`` belong to a setting that the effects were not taken from."""
    fig, ((ax,),) = plots.new(1, 1, 3.0, 4.4)
    ax.plot(sums, measured, "o", color=plots.CYCLE[0], mfc="w", label="the sixteen")
    ax.plot([expected] * len(outside), outside, "s", color=plots.CYCLE[1], label="R1's set")
    ax.errorbar([expected], [expected], [half], color=plots.CYCLE[1], capsize=3, lw=1.2)
    ax.axline((expected, expected), slope=1, **plots.RULE)
    ax.set(xlabel="sum of the effects (AUC)", ylabel="measured AUC of the probe")
    ax.legend(loc="upper left")
    return fig
