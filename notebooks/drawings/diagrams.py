"""Diagrams of JetViT and of its block, drawn from the settings of the model itself, and the boxes
and arrows that other diagrams are made of; lengths in inches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from lib.report.plots import new

# Pale fills of the Okabe-Ito colours: data, embedding, attention, convolution, MLP, head.
FILLS = {
    "data": "#e8e8e8", "embed": "#cfe5f3", "attention": "#f7d9c4", "local": "#cfeae0",
    "mlp": "#f9e8c4", "head": "#eeddea",
}
INK = "#444444"
ATTENTION = {
    "softmax": "softmax attention", "relu_linear": "ReLU linear attention",
    "elu_linear": "ELU linear attention", "cross_covariance": "cross-covariance attention",
    "additive": "additive attention",
}


def blank(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure without axes on which an inch is 1."""
    fig, ((ax,),) = new(1, 1, height, width=width)
    ax.set(xlim=(0, width), ylim=(0, height))
    ax.set_axis_off()
    return fig, ax


def box(ax: Axes, x: float, y: float, w: float, h: float, text: str, fill: str,
        size: float = 7.0) -> None:
    """A box about (x, y) with its text; ``fill`` is a key of ``FILLS``."""
    ax.add_patch(FancyBboxPatch(
        (x - w / 2, y - h / 2), w, h, boxstyle="round,pad=0.02,rounding_size=0.06",
        facecolor=FILLS[fill], edgecolor=INK, linewidth=0.8,
    ))
    ax.text(x, y, text, ha="center", va="center", fontsize=size, linespacing=1.3)


def arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """An arrow from ``start`` to ``end``."""
    ax.annotate("", end, start, arrowprops=dict(arrowstyle="-|>", color=INK, lw=0.9,
                                                shrinkA=0, shrinkB=0))


def chain(ax: Axes, steps: Sequence[tuple[str, str]], y: float, width: float, height: float,
          gap: float = 0.18, size: float = 7.0) -> float:
    """Boxes (text, fill) in a row with arrows between them; returns the end of the last one."""
    x = 0.05
    for number, (text, fill) in enumerate(steps):
        box(ax, x + width / 2, y, width, height, text, fill, size)
        if number:
            arrow(ax, (x - gap + 0.02, y), (x - 0.02, y))
        x += width + gap
    return x - gap


def wire(ax: Axes, *points: tuple[float, float]) -> None:
    """A line without a head through the points."""
    ax.plot(*zip(*points), color=INK, lw=0.9, ls="-")


def norm(ax: Axes, x: float, y: float) -> None:
    """A normalisation: a narrow box."""
    box(ax, x, y, 0.14, 0.6, "", "embed")
    ax.text(x, y, "norm", rotation=90, fontsize=6.5, ha="center", va="center")


def joined(ax: Axes, x: float, y: float, sign: str = "+") -> None:
    """A sum (or another sign) in a circle."""
    ax.text(x, y, sign, ha="center", va="center", fontsize=8,
            bbox=dict(boxstyle="circle,pad=0.1", fc="white", ec=INK, lw=0.8))


def residual(ax: Axes, start: float, end: float, y: float, height: float) -> None:
    """A path around what lies between ``start`` and ``end``, added again at ``end``."""
    wire(ax, (start, y), (start, y + height), (end, y + height))
    arrow(ax, (end, y + height), (end, y + 0.1))
    joined(ax, end, y)


def model_diagram(config: Any, parameters: int | None = None) -> Figure:
    """JetViT from the image to its two answers, with the sizes of ``config`` (a ``ViTConfig``)."""
    c = config
    rows, columns = -(-c.height // c.patch_height), -(-c.width // c.patch_width)
    which = {"active": "those with a hit", "all": "all of them",
             "masked": "empty ones masked", "two_scale": "fine and coarse"}
    pool = {"mean": "mean", "mean_max": "mean, maximum", "cls": "class token",
            "energy": "mean, max, energy"}[c.pool]
    stages = [
        (f"image\n{c.channels} × {c.height} × {c.width}", "data"),
        (f"patches {c.patch_height} × {c.patch_width}\n{rows} × {columns} = {rows * columns}\n"
         f"{which.get(c.tokens, c.tokens)}", "data"),
        (f"{'log scale' if c.scale == 'log' else f'values / {c.scale:g}'}\n"
         f"{c.stem} embedding\n{c.channels * c.patch_height * c.patch_width} → {c.dim}"
         + (f"\n+ {c.position} position" if c.position != "none" else ""), "embed"),
        (f"{c.depth} × block\n{c.heads} heads of {c.dim // c.heads}", "attention"),
        (f"LayerNorm, pooling\n({pool})"
         + ("\n+ log counts,\nenergies, widths" if c.summary else "") + f"\n→ {c.pooled}"
         + (f" → {c.head_hidden}" if c.head_hidden else ""), "mlp"),
    ]
    (fig, ax), y = blank(7.4, 1.5), 0.7
    x = chain(ax, stages, y, 1.08, 0.98)
    heads = [(0.3, f"class: {c.classes} logits")]
    heads += [(-0.3, "jet mass (GeV)")] if c.mass_head else []
    for offset, text in heads if c.mass_head else [(0.0, heads[0][1])]:
        arrow(ax, (x + 0.02, y), (x + 0.2, y + offset))
        box(ax, x + 0.72, y + offset, 1.0, 0.4, text, "head")
    if parameters:
        ax.text(0.05, 1.38, f"{parameters:,} parameters", fontsize=7.5, va="center")
    ax.set_xlim(0, x + 1.32)
    return fig


def block_diagram(config: Any) -> Figure:
    """One block: attention, local convolution, MLP, each behind a norm and around a residual."""
    c = config
    steps = [(f"{ATTENTION.get(c.attention, c.attention)}\n{c.heads} heads of "
              f"{c.dim // c.heads}, all tokens", "attention")]
    if c.lcm_kernel:
        k = c.lcm_kernel
        steps.append((f"local concentration\ntwo {k} × {k} depthwise", "local"))
    steps.append((f"MLP\n{c.dim} → {int(c.dim * c.mlp_ratio)} → {c.dim}", "mlp"))
    step, y, x = 2.05, 0.42, 0.5
    fig, ax = blank(step * len(steps) + 0.75, 1.3)
    ax.text(0.02, y, f"tokens\n$K$ × {c.dim}", fontsize=7, va="center", ha="left")
    for text, fill in steps:
        end = x + step - 0.2
        wire(ax, (x - 0.02, y), (x + 0.1, y))
        residual(ax, x, end, y, 0.62)
        norm(ax, x + 0.2, y)
        box(ax, x + 1.0, y, 1.3, 0.6, text, fill)
        wire(ax, (x + 1.68, y), (end - 0.08, y))
        wire(ax, (end + 0.09, y), (end + 0.2, y))
        x += step
    arrow(ax, (x - 0.1, y), (x + 0.15, y))
    return fig
