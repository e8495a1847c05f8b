"""Drawings and tables of notebook 10: latency, and what the model looks at."""

from lib.report import plots
from lib.report.numbers import markdown_table


def times(rows):
    """Median to 99th percentile of a jet, on one thread, a line a model; a row has the name,
    and median_1 and p99_1 in ms."""
    named = {row["name"]: {"mean": row["median_1"], "low": row["median_1"],
                           "high": row["p99_1"]} for row in rows}
    ax = plots.intervals({"median to 99th percentile": named},
                         "ms a jet, from hits to answer", value="mean",
                         reference=5.0, xscale="log")
    ticks = [t for t in (1, 2, 5, 10, 20, 50, 100) if ax.get_xlim()[0] <= t <= ax.get_xlim()[1]]
    ax.set_xticks(ticks, map(str, ticks))  # decades alone would leave one label
    ax.set_xticks([], minor=True)
    return ax.figure


def table(rows):
    """Times, sizes and memory, a line a model: name, median, p90 and p99 of a batch of 1 and of
    32, start_ms, size_mb and memory_mb. The ratio is to our model on 8-bit images."""
    ours = next(row for row in rows if row["name"] == "ours, image")
    return markdown_table(
        ["", "median (ms)", "p90", "p99", "ratio", "a jet of 32", "start (ms)", "file (MB)",
         "peak (MB)"],
        [[row["name"], *(f"{row[k]:.2f}" for k in ("median_1", "p90_1", "p99_1")),
          f"{row['median_1'] / ours['median_1']:.2f}", f"{row['median_32'] / 32:.2f}",
          f"{row['start_ms']:.0f}", f"{row['size_mb']:.2f}", f"{row['memory_mb']:.0f}"]
         for row in rows])


def order(rows):
    """The order by time, against the one that was predicted, in a sentence."""
    took = {row["name"]: row for row in rows}
    predicted = ["ours, image", "ours, tokens", "ours, softmax", "ResNet-15", "R1, dense"]
    found, late = (sorted(predicted, key=lambda name: took[name][key])
                   for key in ("median_1", "p99_1"))
    said = "right" if found == predicted else "wrong in part"
    return (f"**Answer.** The prediction was {said}. By the median: "
            + "; ".join(f"{name} {took[name]['median_1']:.2f} ms" for name in found)
            + ". By the 99th percentile: "
            + "; ".join(f"{name} {took[name]['p99_1']:.2f} ms" for name in late) + ".")


def looks(trained, untrained, edges, rings, curves):
    """By channel, by distance, and what deleting patches does.

    trained, untrained: channel → share; edges: of the rings in ΔR; rings: name → share of each;
    curves: name → (fraction of patches deleted, mean change of the answer).
    """
    fig, axes = plots.new(3, 1, 7.2)
    channel, ring, deletion = axes[:, 0]
    plots.intervals({"trained": trained, "random weights": untrained}, "share of |attribution|",
                    ax=channel, vertical=True)
    middle = (edges[1:] + edges[:-1]) / 2
    plots.lines({name: (middle, share) for name, share in rings.items()
                 if name != "rollout" and name != "number of tokens"},
                "ΔR from the middle of the image", "share", ax=ring, marks=True)
    plots.lines(curves, "fraction of the patches deleted", "mean change of F", ax=deletion,
                marks=True)
    return fig
