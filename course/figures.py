"""Pictures of runs for `evaluate --figures`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lib.evaluation import metrics
from lib.evaluation.metrics import Predictions
from lib.files import write_bytes
from lib.report import plots
from lib.report.style import render
from lib.training.optim import History


def draw(folder: Path, answers: Mapping[str, Predictions],
         histories: Mapping[str, History]) -> None:
    """Confusion matrices, ROC curves with bands, predicted against label mass, response of the mass
    and validation losses of runs, by name, as PNG; without a mass the two of it are left out."""
    plots.style()
    area = {name: f"AUC {metrics.auc(p.y, p.score):.3f}" for name, p in answers.items()}
    figures = {"roc": plots.roc({n: metrics.roc(p) for n, p in answers.items()}, area)}
    for name, p in answers.items():
        counts = metrics.confusion(p.y, p.score)
        figures[f"confusion_{name}"] = plots.matrix(
            counts / counts.sum(1, keepdims=True), ["QCD", "top"], "share of the true class",
            text=counts, vmin=0, vmax=1)
    massive = {n: p for n, p in answers.items() if p.m is not None and p.m_hat is not None}
    if massive:
        edges, square = np.linspace(0, 400, 61), (0, 400, 0, 400)
        axes = plots.images({n: np.histogram2d(p.m_hat, p.m, edges)[0] for n, p in massive.items()},
                            "jets / bin", empty="w", extent=square)
        for ax in axes.flat:
            ax.set(xlabel="label mass (GeV)", ylabel="predicted jet mass (GeV)")
        rows = {n: metrics.response(p, np.quantile(p.m, np.linspace(0.005, 0.995, 9)))
                for n, p in massive.items()}
        figures |= {"mass": axes.flat[0], "response": plots.lines({
            f"{n}, {kind}": zip(*((r["low"], r["response"]) for r in found if r["class"] == kind))
            for n, found in rows.items() for kind in dict.fromkeys(r["class"] for r in found)},
            "label mass from (GeV)", "median of predicted over label mass", marks=True)}
    figures["curves"] = plots.lines({n: h.curve("val_loss") for n, h in histories.items()},
                                    "update", "loss on validation jets")
    for name, drawn in figures.items():
        write_bytes(folder / f"{name}.png", render(drawn.figure, "png", 130))
