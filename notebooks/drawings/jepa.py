"""Drawings of notebook 06: R4's flow, the watch over a collapse, features in a plane."""

from lib.report import plots

from drawings.diagrams import arrow, blank, box, wire


def flow():
    """R4's flow from raw jets to its results, with the joint embedding in the middle."""
    fig, ax = blank(7.6, 2.7)
    boxes = {"raw": (0.65, 1.35, "jets\n3 × 125 × 125", "data"),
             "mask": (2.1, 1.35, "patches,\nmost of them hidden", "data"),
             "context": (3.6, 2.0, "context encoder\n(FastAttention)", "attention"),
             "target": (3.6, 0.7, "target encoder\n(moving average)", "attention"),
             "predictor": (5.1, 2.0, "predictor", "mlp"),
             "latent": (5.1, 0.7, "features of the\nhidden patches", "embed"),
             "head": (6.9, 2.0, "pooled vector\n→ class head", "head"),
             "out": (6.9, 0.7, "t-SNE · ONNX file ·\nquark or gluon", "head")}
    for x, y, text, fill in boxes.values():
        box(ax, x, y, 1.14, 0.56, text, fill)
    for start, end in (("raw", "mask"), ("context", "predictor"), ("target", "latent")):
        (x, y, *_), (to, at, *_) = boxes[start], boxes[end]
        arrow(ax, (x + 0.6, y), (to - 0.6, at))
    for end, text in (("context", "in view"), ("target", "whole jet")):
        to, at, *_ = boxes[end]
        arrow(ax, (2.7, 1.35), (to - 0.6, at))
        ax.text(2.78, 1.35 + 0.75 * (at - 1.35), text, fontsize=6.5, ha="right", va="center")
    for y, other in ((1.68, 1.5), (1.02, 1.2)):
        arrow(ax, (5.1, y), (5.1, other))
    ax.text(5.1, 1.35, "loss", fontsize=8, ha="center", va="center")
    ax.annotate("", (3.6, 1.02), (3.6, 1.68), arrowprops=dict(arrowstyle="-|>", ls="--", lw=0.9))
    ax.text(3.67, 1.35, "average,\nno gradient", fontsize=6.5, va="center")
    wire(ax, (3.6, 2.32), (3.6, 2.5), (6.9, 2.5))
    arrow(ax, (6.9, 2.5), (6.9, 2.32))
    arrow(ax, (6.9, 1.68), (6.9, 1.02))
    ax.text(5.25, 2.57, "afterwards, from the whole jet", fontsize=6.5, ha="center")
    return fig


def watch(histories, start):
    """Losses, collapse and probe of pretrainings against updates.

    histories: name → rows of ``fit`` with those of ``lib.evaluation.probes.Monitor``; start: the
    monitor before the first update.
    """
    panels = {"val_loss": "loss, held-out jets", "val_mean": "loss of the mean target",
              "effective_rank": "effective rank", "feature_std": "deviation",
              "mean_cosine": "mean cosine", "probe_auc": "AUC, linear probe"}
    fig, axes = plots.new(2, 3, 4.2, 7.0, sharex=True)
    for ax, (key, label) in zip(axes.flat, panels.items(), strict=True):
        first = [(0, start[key])] if key in start else []
        plots.lines({name: tuple(zip(*first, *((row["update"], row[key]) for row in rows)))
                     for name, rows in histories.items()}, "", label, ax=ax, marker=".",
                    legend=False)
    for ax in axes[1]:
        ax.set_xlabel("update")
    plots.legend_below(axes[0, 0], 4)
    return fig


def planes(rows, label):
    """Jets in a plane, a panel an encoder. rows: encoder → ``{plane (N, 2), auc}``: t-SNE and the
    AUC of a linear probe; label (N,): 0 gluon, 1 quark."""
    fig, (axes,) = plots.new(1, len(rows), 3.0)
    for ax, (name, row) in zip(axes, rows.items(), strict=True):
        x, y = plots.array(row["plane"]).T
        for value, marker, text in ((0, "o", "gluon"), (1, "^", "quark")):
            mine = plots.array(label) == value
            ax.scatter(x[mine], y[mine], s=6, lw=0, marker=marker, label=text, alpha=0.8,
                       color=plots.CYCLE[value])
        ax.set(xticks=(), yticks=(), xlabel=f"{name}: probe AUC {row['auc']:.3f}")
        ax.spines[:].set_visible(False)
    axes[0].legend(markerscale=2, handletextpad=0)
    return fig
