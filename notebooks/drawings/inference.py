"""Drawings of notebook 10: latency, and what the model looks at."""

from lib.report import plots


def times(rows):
    """Median to 99th percentile of a jet, on one thread, a line a model; a row has the name,
    and median_1 and p99_1 in ms."""
    named = {row["name"]: {"mean": row["median_1"], "low": row["median_1"],
                           "high": row["p99_1"]} for row in rows}
    return plots.intervals({"median to 99th percentile": named},
                           "ms a jet, from hits to answer", value="mean",
                           reference=5.0, xscale="log").figure


def looks(trained, untrained, edges, rings, curves):
    """By channel, by distance, and what deleting patches does.

    trained, untrained: channel → share; edges: of the rings in ΔR; rings: name → share of each;
    curves: name → (fraction of patches deleted, mean change of the answer).
    """
    fig, axes = plots.new(3, 1, 7.2)
    channel, ring, deletion = axes[:, 0]
    plots.bars({"trained": trained, "random weights": untrained}, "share of |attribution|",
               ax=channel)
    middle = (edges[1:] + edges[:-1]) / 2
    plots.lines({name: (middle, share) for name, share in rings.items()
                 if name != "rollout" and name != "number of tokens"},
                "ΔR from the middle of the image", "share", ax=ring, marks=True)
    plots.lines(curves, "fraction of the patches deleted", "mean change of F", ax=deletion,
                marks=True)
    return fig
