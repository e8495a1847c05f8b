"""Drawings of notebook 07: calibration, gains by labels, how often chance alone shows one."""

import numpy as np

from lib.report import plots

RARE = 1e-4  # probabilities below are not drawn


def calibration(curves, label="top"):
    """Observed fraction of the class `label` against the mean score: name → rows of
    ``metrics.reliability``."""
    fig, ((ax,),) = plots.new(1, 1, 2.9)
    plots.lines({name: [[row[k] for row in rows] for k in ("score", "fraction", "low", "high")]
                 for name, rows in curves.items()}, f"score: probability of {label}, as stated",
                f"fraction of {label}s, as observed", ax=ax, bars=True, marks=True, lw=1)
    ax.plot([0, 1], [0, 1], **plots.RULE)
    return fig


def chance(simulated, jets, claims, densities, odds, measured, share):
    """How large a difference two equal recipes show on a small test, and how often.

    simulated: differences in accuracy on tests of ``jets`` jets, as fractions; claims: label →
    a claimed gain, as a fraction: vertical lines; densities: label → (difference, density per
    unit of it): closed forms on the left; odds: label of a claim → (share of jets on which the
    two disagree, probability of at least that gain): lines on the right; measured: label →
    (share, {label of a claim: probability}): points on the right; share: label → a share of
    disagreement to mark with a vertical line.
    """
    simulated = 100 * plots.array(simulated)
    fig, ((left, right),) = plots.new(1, 2, 3.4)

    def mark(ax, x, text, y, shift, colour, va, line):
        ax.axvline(x, color=colour, lw=1.2, ls=line)
        ax.annotate(text, (x, y), (shift, 0), xycoords=("data", "axes fraction"), rotation=90,
                    va=va, ha="left" if shift > 0 else "right", textcoords="offset points",
                    fontsize=7, color=colour)

    # differences come in steps of one jet: every bin holds as many of them
    count = np.round(simulated * jets / 100)
    step = max(1, round(np.ptp(count) / 40))
    edges = 100 / jets * np.arange(count.min() - 0.5, count.max() + step + 0.5, step)
    left.hist(100 / jets * count, edges, density=True, color=plots.GREY, alpha=0.35,
              label="resampled")
    plots.lines({name: (100 * plots.array(x), plots.array(density) / 100)
                 for name, (x, density) in densities.items()},
                f"difference in accuracy on {jets:,} jets (points)", "density (1 / point)",
                ax=left, legend=False)
    for number, (name, gain) in enumerate(claims.items(), 2):
        mark(left, 100 * gain, name, 0.98, 2, plots.CYCLE[number], "top", plots.LINES[number])
    reach = max(np.abs(simulated).max(), 120 * max(claims.values()))
    left.set(yticks=[], xlim=(-reach, reach))
    shown = {f"at least {name}": (100 * plots.array(x), np.where(
        plots.array(p) > RARE, p, np.nan)) for name, (x, p) in odds.items()}
    plots.lines(shown, "jets on which the two disagree (%)", "probability", ax=right, log="xy",
                first=2, legend=False)
    for number, (name, (x, found)) in enumerate(measured.items()):
        point = dict(marker=plots.MARKS[number], ms=6, mec="k", mew=0.6, ls="none")
        for line, claim in enumerate(odds, 2):
            right.plot(100 * x, max(found[claim], RARE), color=plots.CYCLE[line], **point)
        right.plot([], [], color="w", label=name, **point)
    for name, x in share.items():
        mark(right, 100 * x, name, 0.02, -2, plots.GREY, "bottom", ":")
    right.set_ylim(RARE, 1)
    plots.ticks(right.xaxis, (1, 2, 5, 10, 20))
    fig.legend(*map(sum, zip(left.get_legend_handles_labels(), right.get_legend_handles_labels()),
                    ([], [])), loc="outside lower center", ncols=3)
    return fig


def labelled(rows, labels, panels, value="mean", first=0):
    """Metrics against the number of labels, a line with its 95 % band for each system; paired
    differences to one system as points, with single seeds as ticks beside them.

    rows: system → count → metric → ``{mean or difference, low, high[, points]}``; counts and
    metrics may be missing. labels: count, as a key of ``rows``, → number of jets; panels: metric
    → label of its axis; value: "mean" or "difference"; first: number of the first look.
    """
    fig, (axes,) = plots.new(1, len(panels), 3.6, 6.3 if len(panels) > 1 else 4.8)
    apart = value == "difference"
    for ax, (metric, title) in zip(axes, panels.items(), strict=True):
        for number, (system, found) in enumerate(rows.items()):
            counts = [c for c in labels if metric in found.get(c, {})]
            if not counts:
                continue
            shift = 1.13 ** (number - (len(rows) - 1) / 2) if apart else 1
            x = shift * np.array([labels[c] for c in counts])
            ends = np.array([plots.ends_of(found[c][metric], value) for c in counts]).T
            plots.lines({system: (x, *ends)}, "labelled jets", title, ax=ax, log="x", marks=True,
                        bars=apart, first=number + first, **({"ls": "none"} if apart else {}))
            for place, c in zip(x, counts):
                points = [p for p in found[c][metric].get("points") or [] if p is not None]
                if apart and len(points) > 1:
                    ax.plot([place * 1.05] * len(points), points, "_", ms=4, alpha=0.6,
                            color=plots.look(number + first)["color"])
        if apart:
            ax.axhline(0, **plots.RULE)
        ax.set_xlim(min(labels.values()) / 1.35, max(labels.values()) * 1.35)
        plots.ticks(ax.xaxis, list(labels.values()),
                    [name if name == "all" else f"{int(name):,}" for name in labels])
    plots.legend_below(axes[0])
    return fig
