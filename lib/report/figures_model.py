"""Diagrams of JetViT and of its block, drawn from the settings of the model itself."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from lib.report.style import new

# Pale fills of the Okabe-Ito colours: data, embedding, attention, convolution, MLP, head.
FILLS = {
    "data": "#e8e8e8", "embed": "#cfe5f3", "attention": "#f7d9c4", "local": "#cfeae0",
    "mlp": "#f9e8c4", "head": "#eeddea",
}
ATTENTION = {
    "softmax": "softmax attention", "relu_linear": "ReLU linear attention",
    "elu_linear": "ELU linear attention", "cross_covariance": "cross-covariance attention",
    "additive": "additive attention",
}


def _box(ax: Axes, x: float, y: float, w: float, h: float, text: str, fill: str) -> None:
    ax.add_patch(FancyBboxPatch(
        (x - w / 2, y - h / 2), w, h, boxstyle="round,pad=0.02,rounding_size=0.06",
        facecolor=FILLS[fill], edgecolor="#444444", linewidth=0.8,
    ))
    ax.text(x, y, text, ha="center", va="center", fontsize=8, linespacing=1.25)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.annotate("", end, start, arrowprops=dict(arrowstyle="-|>", color="#444444", lw=0.9,
                                                shrinkA=0, shrinkB=0))


def _blank(width: float, height: float) -> tuple[Figure, Axes]:
    fig, ((ax,),) = new(1, 1, height, width=width)
    ax.set_xlim(0, width)
    ax.set_ylim(0, height)
    ax.set_axis_off()
    return fig, ax


def model_diagram(config: Any, parameters: int | None = None) -> Figure:
    """JetViT from the image to its two answers, with the sizes of ``config`` (a ``ViTConfig``)."""
    c = config
    rows, columns = -(-c.height // c.patch_height), -(-c.width // c.patch_width)
    which = {"active": "only patches with a hit", "all": "all patches",
             "masked": "all, empty ones masked", "two_scale": "fine and coarse patches"}
    width = c.dim * (2 if c.pool == "mean_max" else 1) + (2 * c.channels if c.summary else 0)
    pool = {"mean": "mean", "mean_max": "mean and maximum", "cls": "class token"}[c.pool]
    stages = [
        (f"image\n{c.channels} × {c.height} × {c.width}", "data"),
        (f"patches {c.patch_height} × {c.patch_width}\n{rows} × {columns} = {rows * columns}\n"
         f"{which.get(c.tokens, c.tokens)}", "data"),
        (f"{'log scale' if c.scale == 'log' else f'values / {c.scale:g}'}\n"
         f"{c.stem} embedding\n{c.channels * c.patch_height * c.patch_width} → {c.dim}"
         + (f"\n+ {c.position} position" if c.position != "none" else ""), "embed"),
        (f"{c.depth} × block\n{c.heads} heads of {c.dim // c.heads}", "attention"),
        (f"LayerNorm\npooling: {pool}" + ("\n+ log counts, energies" if c.summary else "")
         + f"\n→ {width}", "mlp"),
    ]
    fig, ax = _blank(8.2, 1.75)
    box, gap, y = 1.28, 0.22, 0.85
    x = box / 2 + 0.05
    for number, (text, fill) in enumerate(stages):
        _box(ax, x, y, box, 0.95, text, fill)
        if number:
            _arrow(ax, (x - box / 2 - gap + 0.02, y), (x - box / 2 - 0.02, y))
        x += box + gap
    heads = [(0.38, f"class: {c.classes} logits")]
    heads += [(-0.38, "jet mass (GeV)")] if c.mass_head else []
    for offset, text in heads if c.mass_head else [(0.0, heads[0][1])]:
        _arrow(ax, (x - box / 2 - gap + 0.02, y), (x - 0.56, y + offset))
        _box(ax, x - 0.02, y + offset, 1.05, 0.42, text, "head")
    if parameters:
        ax.text(0.05, 1.62, f"{parameters:,} parameters", fontsize=8, va="center")
    ax.set_xlim(0, x + 0.6)
    return fig


def block_diagram(config: Any) -> Figure:
    """One block: attention, local convolution, MLP, each behind a norm and around a residual."""
    c = config
    steps = [(f"{ATTENTION.get(c.attention, c.attention)}\n{c.heads} heads of "
              f"{c.dim // c.heads}, over all tokens", "attention")]
    if c.lcm_kernel:
        k = c.lcm_kernel
        steps.append((f"local concentration\ntwo depthwise {k} × {k} on the grid", "local"))
    steps.append((f"MLP\n{c.dim} → {int(c.dim * c.mlp_ratio)} → {c.dim}", "mlp"))
    step = 2.15
    fig, ax = _blank(step * len(steps) + 1.0, 1.5)
    y, x = 0.5, 0.3
    ax.text(x - 0.25, y, f"tokens\n$K$ × {c.dim}", fontsize=8, va="center", ha="left")
    x += 0.45
    for text, fill in steps:
        _arrow(ax, (x - 0.1, y), (x + 0.17, y))
        ax.plot([x, x, x + step - 0.19], [y, y + 0.62, y + 0.62], color="#444444", lw=0.9)
        _arrow(ax, (x + step - 0.19, y + 0.62), (x + step - 0.19, y + 0.1))
        _box(ax, x + 0.27, y, 0.16, 0.62, "", "embed")
        ax.text(x + 0.27, y, "norm", rotation=90, fontsize=7, ha="center", va="center")
        _box(ax, x + 1.14, y, 1.42, 0.62, text, fill)
        ax.plot([x + 1.87, x + step - 0.28], [y, y], color="#444444", lw=0.9)
        ax.text(x + step - 0.19, y, "+", ha="center", va="center", fontsize=9,
                bbox=dict(boxstyle="circle,pad=0.12", fc="white", ec="#444444", lw=0.8))
        x += step
    _arrow(ax, (x - 0.1, y), (x + 0.2, y))
    return fig
