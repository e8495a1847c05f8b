"""Pictures of what classifiers answer, for ``evaluate --figures`` and for the notebooks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from lib.evaluation import metrics
from lib.evaluation.metrics import Predictions
from lib.files import write_bytes
from lib.report import plots
from lib.report.plots import render
from lib.training.optim import History


def roc(curves: Mapping[str, Mapping], auc: Mapping[str, str] | None = None, *,
        ax: Axes | None = None) -> Axes:
    """Background rejection against signal efficiency, with 95 % bands. curves: name → ``{signal,
    background[, low, high]}``, efficiencies of ``metrics.roc``. auc: name → text for the legend,
    e.g. ``"AUC 0.931"``."""
    ax = ax or plots.new(1, 1, 3.2, 4.8)[1][0, 0]
    lowest, shown = 1.0, {}
    for name, curve in curves.items():
        keep = np.asarray(curve["background"]) > 0
        signal, *rates = (np.asarray(curve[k])[keep]
                          for k in ("signal", "background", "high", "low") if k in curve)
        shown[", ".join(filter(None, (name, (auc or {}).get(name))))] = (
            signal, *(1 / np.maximum(rate, 1e-6) for rate in rates))
        lowest = min(lowest, rates[0][signal >= 0.15].min(initial=1.0))
    plots.lines(shown, "signal efficiency (top)", "background rejection (1 / QCD efficiency)",
                ax=ax, log="y")
    line = np.linspace(0.01, 1, 100)
    ax.plot(line, 1 / line, label="chance", **plots.RULE | dict(ls=":"))
    ax.set(xlim=(0.1, 1), ylim=(0.9, 2.5 / lowest))
    ax.legend()
    return ax


def confusions(counts: Mapping[str, np.ndarray]) -> Figure:
    """Confusion matrices: label → counts (2, 2), rows the truth, columns the answer."""
    fig, (axes,) = plots.new(1, len(counts), 2.4, sharey=True)
    for ax, (name, found) in zip(axes, counts.items()):
        share = found / found.sum(1, keepdims=True)
        text = [[f"{n:,}\n{part:.1%}" for n, part in zip(*row)] for row in zip(found, share)]
        plots.matrix(share, ["QCD", "top"], ax=ax, text=text, vmin=0, vmax=1)
        ax.set(title=name, xlabel="predicted")
    axes[0].set_ylabel("true")
    return fig


def scatters(masses: Mapping[str, tuple], limits: tuple = (0.0, 400.0)) -> Figure:
    """Predicted against label mass (GeV): label → (label mass (N,), predicted (N,))."""
    edges = np.linspace(*limits, 61)
    found = {name: np.histogram2d(m_hat, m, edges)[0] for name, (m, m_hat) in masses.items()}
    norm = LogNorm(1, max(2, *(image.max() for image in found.values())))
    axes = plots.images(found, "jets / bin", norm=norm, empty="w", extent=limits * 2)
    for ax in axes.flat:
        ax.plot(limits, limits, **plots.RULE)
        ax.set(xlabel="label mass (GeV)", ylabel="predicted mass (GeV)")
        ax.label_outer()
    return axes.flat[0].figure


def response(found: Mapping[str, Sequence[Mapping]]) -> Figure:
    """Response and resolution of the mass in bins of the label mass, by class, two panels a system:
    name → rows of ``metrics.response``."""
    fig, axes = plots.new(len(found), 2, 2.6 * len(found), sharex=True)
    looks = {"all": ("s", plots.GREY), "QCD": ("o", plots.CYCLE[0]), "top": ("^", plots.CYCLE[1])}
    for (left, right), (title, rows) in zip(axes, found.items()):
        for name in dict.fromkeys(row["class"] for row in rows):
            marker, colour = looks[name]
            low, high, middle, error, width = (
                np.array([row[k] for row in rows if row["class"] == name])
                for k in ("low", "high", "response", "error", "resolution"))
            look = dict(fmt=marker, ms=4, lw=1, color=colour, label=name)
            left.errorbar((low + high) / 2, middle, error, (high - low) / 2, **look)
            right.errorbar((low + high) / 2, 100 * width, None, (high - low) / 2, **look)
        left.axhline(1, **plots.RULE)
        left.set(title=title, ylabel="median of predicted / label mass")
        right.set(ylabel="resolution (%)", ylim=(0, 110 * max(row["resolution"] for row in rows)))
        left.legend()
    for ax in axes[-1]:
        ax.set_xlabel("label mass (GeV)")
    return fig


def learning_curves(curves: Mapping[str, tuple], ylabel: str, kept: Mapping[str, int]) -> Figure:
    """One validation metric against updates: arm → (updates, values); a ring around the update
    whose weights were kept, arm → update."""
    fig, ((ax,),) = plots.new(1, 1, 2.6)
    plots.lines(curves, "update", ylabel, ax=ax, marks=True)
    for number, (name, (updates, values)) in enumerate(curves.items()):
        if kept.get(name) in updates:
            ax.plot(kept[name], values[list(updates).index(kept[name])], "o", ms=9, mfc="none",
                    mec=plots.look(number)["color"])
    return fig


def draw(folder: Path, answers: Mapping[str, Predictions],
         histories: Mapping[str, History]) -> None:
    """ROC curves with bands, losses on validation jets, confusion matrices, predicted against label
    mass and its response, of runs by name, as PNG; without a mass the last two are left out."""
    plots.style()
    area = {name: f"AUC {metrics.auc(p.y, p.score):.3f}" for name, p in answers.items()}
    drawn = {"roc": roc({name: metrics.roc(p) for name, p in answers.items()}, area),
             "curves": learning_curves(
                 {name: history.curve("val_loss") for name, history in histories.items()},
                 "loss on validation jets",
                 {name: history.best_update for name, history in histories.items()})}
    for name, p in answers.items():
        drawn[f"confusion_{name}"] = confusions({name: metrics.confusion(p.y, p.score)})
    massive = {name: p for name, p in answers.items() if p.m is not None and p.m_hat is not None}
    if massive:
        drawn["mass"] = scatters({name: (p.m, p.m_hat) for name, p in massive.items()})
        drawn["response"] = response({
            name: metrics.response(p, np.quantile(p.m, np.linspace(0.005, 0.995, 9)))
            for name, p in massive.items()})
    for name, figure in drawn.items():
        write_bytes(folder / f"{name}.png", render(figure.figure, "png", 130))
