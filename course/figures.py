"""Pictures of runs, for `evaluate --figures` and notebook 07: confusion, ROC, mass, curves."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.colors import LogNorm

from lib.evaluation import metrics
from lib.evaluation.metrics import Predictions
from lib.files import write_bytes
from lib.report import plots
from lib.report.style import render
from lib.training.optim import History


def confusions(counts):
    """Confusion matrices: label → counts (2, 2), rows the truth, columns the answer."""
    fig, (axes,) = plots.new(1, len(counts), 2.4, sharey=True)
    for ax, (name, found) in zip(axes, counts.items()):
        share = found / found.sum(1, keepdims=True)
        text = [[f"{n:,}\n{part:.1%}" for n, part in zip(*row)] for row in zip(found, share)]
        plots.matrix(share, ["QCD", "top"], ax=ax, text=text, bar=False, vmin=0, vmax=1)
        ax.set(title=name, xlabel="predicted")
    axes[0].set_ylabel("true")
    return fig


def scatters(masses, limits=(0.0, 400.0)):
    """Predicted against true mass (GeV): label → (true (N,), predicted (N,))."""
    edges = np.linspace(*limits, 61)
    found = {name: np.histogram2d(m_hat, m, edges)[0] for name, (m, m_hat) in masses.items()}
    norm = LogNorm(1, max(2, *(image.max() for image in found.values())))
    axes = plots.images(found, "jets / bin", norm=norm, empty="w", extent=limits * 2)
    for ax in axes.flat:
        ax.plot(limits, limits, **plots.RULE)
        ax.set(xlabel="true jet mass (GeV)", ylabel="predicted jet mass (GeV)")
        ax.label_outer()
    return axes.flat[0].figure


def response(rows):
    """Response and resolution of the mass in bins of the true mass, by class: rows of
    ``metrics.response``."""
    fig, (axes,) = plots.new(1, 2, sharex=True)
    looks = {"all": ("s", plots.GREY), "QCD": ("o", plots.CYCLE[0]), "top": ("^", plots.CYCLE[1])}
    for name in dict.fromkeys(row["class"] for row in rows):
        mine = [row for row in rows if row["class"] == name]
        marker, colour = looks[name]
        low, high, found, error, width = (
            np.array([row[k] for row in mine])
            for k in ("low", "high", "response", "error", "resolution"))
        look = dict(fmt=marker, ms=4, lw=1, color=colour, label=name)
        axes[0].errorbar((low + high) / 2, found, error, (high - low) / 2, **look)
        axes[1].errorbar((low + high) / 2, 100 * width, None, (high - low) / 2, **look)
    axes[0].axhline(1, **plots.RULE)
    axes[0].set_ylabel("median of predicted / true mass")
    axes[1].set(ylabel="resolution (%)", ylim=(0, 110 * max(row["resolution"] for row in rows)))
    axes[0].legend()
    for ax in axes:
        ax.set_xlabel("true jet mass (GeV)")
    return fig


def learning_curves(curves, ylabel, kept):
    """One validation metric against updates: arm → (updates, values); a ring around the update
    whose weights were kept, arm → update."""
    fig, ((ax,),) = plots.new(1, 1, 3.0, 5.4)
    plots.lines(curves, "update", ylabel, ax=ax, marks=True)
    for number, (name, (updates, values)) in enumerate(curves.items()):
        if kept.get(name) in updates:
            ax.plot(kept[name], values[list(updates).index(kept[name])], "o", ms=9, mfc="none",
                    mec=plots.look(number)["color"])
    return fig


def draw(folder: Path, answers: Mapping[str, Predictions],
         histories: Mapping[str, History]) -> list[Path]:
    """Write the pictures of runs, by name, as PNG into ``folder``; where the predictions have no
    mass, those of the mass are left out."""
    plots.style()
    area = {name: f"AUC {metrics.auc(p.y, p.score):.3f}" for name, p in answers.items()}
    with_mass = {n: p for n, p in answers.items() if p.m is not None and p.m_hat is not None}
    figures = {
        "confusion": confusions({n: metrics.confusion(p.y, p.score) for n, p in answers.items()}),
        "roc": plots.roc({n: metrics.roc(p) for n, p in answers.items()}, area).figure}
    if with_mass:
        figures["mass"] = scatters({n: (p.m, p.m_hat) for n, p in with_mass.items()})
    for name, p in with_mass.items():
        edges = np.quantile(p.m, np.linspace(0.005, 0.995, 9))
        if rows := metrics.response(p, edges):
            figures[f"response_{name}"] = response(rows)
    curves = {n: h.curve("val_loss") for n, h in histories.items() if h.curve("val_loss")[0]}
    if curves:
        figures["curves"] = learning_curves(curves, "loss on validation jets", {
            n: h.best_update for n, h in histories.items()})
    for name, figure in figures.items():
        write_bytes(folder / f"{name}.png", render(figure, "png", 130))
    return [folder / f"{name}.png" for name in figures]
