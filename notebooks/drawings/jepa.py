"""Drawings, tables and computed answers of notebook 06: R4's flow, the watch over a collapse, the
probes beside a crowd of random encoders, features in a plane."""

from lib.report import plots
from lib.report.numbers import gap, markdown_table, verdict, with_interval

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


def pair(jets, index):
    """A quark jet and a gluon jet, tracks and calorimeters apart: the first of each class."""
    shown = {}
    for name, value in (("quark", 1), ("gluon", 0)):
        image = jets.dense(index[jets.labels[index] == value][:1])[0].clamp(min=0)
        shown |= {f"{name}: tracks": image[0], f"{name}: energy": image[1:3].sum(0)}
    return plots.images(shown, "GeV")


def closure(rows):
    """Table of what our jets have in common with the public set."""
    return markdown_table(
        ["quantity", "kind", "published", "here", "95 %", "within"],
        [[r["quantity"], r["kind"], r["published"], r["measured"], r["tolerance"],
          "yes" if r["ok"] else "no"] for r in rows])


def watch_table(ends, named, keys):
    """Last rows of the watched pretrainings; None where a quantity has not been measured."""
    return markdown_table(
        ["", "loss", "of the mean", "effective rank", "deviation", "mean cosine", "probe AUC"],
        [[named[name], *(None if k not in row else round(row[k], 3) for k in keys)]
         for name, row in ends.items()])


def collapse(ends, fell, rank):
    """What became of the features without brakes. fell: loss of the mean target as a share of the
    recipe's; rank: effective rank as a share of the untrained encoder's."""
    own, ours, start = ends["own"], ends["jepa"], ends["random"]
    return (
        f"**Answer.** The targets of `own` have {'' if fell < 0.1 else 'not quite '}collapsed: "
        f"telling their mean costs {fell:.1%} of what it costs in the recipe. The deviation of "
        f"the jets' features is {own['feature_std']:.2f}, against {ours['feature_std']:.2f} in "
        f"the recipe and {start['feature_std']:.2f} untrained, and their cosine "
        f"{own['mean_cosine']:.3f} ({ours['mean_cosine']:.3f} and {start['mean_cosine']:.3f}). "
        f"The effective rank, at {rank:.0%} of the untrained encoder's, does not tell the two "
        f"apart: in the recipe it is {ours['effective_rank']:.0f}, in `own` "
        f"{own['effective_rank']:.0f}. It counts directions whatever their size, and tiny "
        "differences have directions too. Nor does the probe see much: "
        f"{own['probe_auc']:.3f}, untrained {start['probe_auc']:.3f}.")


def probed(summary, crowd, kinds):
    """AUC of the probes with intervals; grey ticks: other random encoders, by kind of probe."""
    rows = {who: {text: summary[f"{name}_{kind}"]["auc"] for kind, text in kinds.items()}
            for name, who in (("jepa", "JEPA"), ("random", "random encoder"))}
    rows["trees on four observables"] = {"linear": summary["trees_known"]["auc"]}
    ax = plots.intervals(rows, "AUC on validation jets", value="mean", reference=None)
    for place, found in enumerate(crowd.values()):
        ax.plot(found, [place + 0.35] * len(found), "|", color=plots.GREY, ms=7)
    return ax


def behind(summary, crowd):
    """How many of the random encoders are behind JEPA, by kind of probe."""
    return "random encoders behind JEPA: " + ", ".join(
        f"{sum(v < summary[f'jepa_{kind}']['auc']['mean'] for v in found)} of {len(found)} "
        f"({kind})" for kind, found in crowd.items())


def systems(tuned, summary, who, jets):
    """Table of the classifiers, with budgets; jets: labels of the trees."""
    rows = [[who[name.split("_")[0]], run.labels, run.history.updates, round(run.train_seconds),
             summary[name]["auc"], summary[name]["accuracy"]] for name, run in tuned.items()]
    trees = summary["trees"]
    return markdown_table(
        ["system", "labels", "updates", "seconds", "AUC", "accuracy"],
        [*rows, [who["trees"], jets, None, None, trees["auc"], trees["accuracy"]]])


def labels_saved(comparisons):
    """Whether the pretraining has saved labels: a line a comparison."""
    asked = {"300 labels, JEPA against scratch": ("jepa_300", "scratch_300"),
             "300 labels, JEPA against scratch at equal total compute": ("jepa_300", "paid_300"),
             "all labels, JEPA against scratch": ("jepa_all", "scratch_all"),
             "all labels, scratch against the trees on four numbers": ("scratch_all", "trees")}
    found = {what: gap({"comparisons": comparisons}, *names)["auc"]
             for what, names in asked.items()}
    return "**Answer**, for this seed:\n\n" + "\n".join(
        f"- {what}: {verdict(row)}, AUC {with_interval(row)}" for what, row in found.items())


def quartiles(against, top):
    """Whether the linear models gain where multiplicity is high. against: model → quartile →
    difference to softmax; top: that of the pretrained one in the highest."""
    most = max((row["difference"] for found in against.values() for row in found.values()),
               key=abs)
    said = "right" if abs(most) < 0.02 else "wrong"
    return (f"**Answer.** The prediction was {said}: the largest difference in any quartile is "
            f"{most:.3f}. In the highest, the pretrained linear model and softmax differ by "
            f"{with_interval(top)} ({verdict(top)}); R4's 0.15 lies "
            f"{'outside' if top['high'] < 0.15 else 'inside'} the interval. With one seed each, "
            "an interval over jets says nothing of the luck of the weights.")


def grid(summary, who):
    """Table of a published grid: system, number of labels, AUC and accuracy."""
    return markdown_table(
        ["system", "labels", "AUC", "accuracy"],
        [[who[name.split("_")[0]], name.split("_")[1], row["auc"], row["accuracy"]]
         for name, row in summary.items()])


def varied(comparisons, variants):
    """AUC of each variant minus that of the recipe, for two probes, with intervals."""
    named = {(r["a"], r["b"]): r for r in comparisons}
    rows = {kind: {name.replace("_", " "): named[f"{name}_{kind}", f"block_{kind}"]
                   for name in variants if name != "block"} for kind in ("linear", "attentive")}
    ax = plots.intervals(rows, "AUC minus that of the recipe, half length", legend=False)
    plots.legend_below(ax)
    return ax


def claims(summary, against, values):
    """Table of R4's claims beside what this notebook found, for one seed."""
    said = {name: with_interval(summary[name][metric]) for name, metric in (
        ("jepa_all", "accuracy"), ("jepa_linear", "auc"), ("random_linear", "auc"))}
    powers = ", ".join(f"{power:.2f} ({name})" for name, power in values["exponent"].items())
    return markdown_table(["R4", "here, one seed"], [
        ["accuracy 0.7553", f"pretrained, all labels: {said['jepa_all']}"],
        ["+0.15 AUC at high multiplicity, over softmax",
         with_interval(against["jepa_all"]["quartile 4"])],
        ["linear scaling", f"cells to the power {powers}"],
        ["manifolds separate without labels",
         f"probe {said['jepa_linear']}, random weights {said['random_linear']}"],
        *([f"resistant: {damage}", "AUC lost at the strongest: " + ", ".join(
            f"{row['lost']:.3f} ({name})" for name, row in found.items())]
          for damage, found in values["robust"].items())])
